"""Where the measured starts come from, and what is said where they cannot be read."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pulumi
import pytest

from components import measured_starts
from components.live_cluster import LiveCluster, LookupFailedError
from components.measured_starts import with_starts
from deepseek_acs.planner.starts import start_plan
from tests.unit.conftest import resolved

ON: dict[str, Any] = {"observability": {"incidents": {}}}
TEXT = "apiVersion: v1"


class Cluster(LiveCluster):
    """Has one ConfigMap."""

    found: Mapping[str, str] | None = None
    asked: list[tuple[object, str, str]]
    fails = False

    def config_map(self, namespace: str, name: str) -> Mapping[str, str] | None:
        if self.fails:
            raise LookupFailedError("/api/v1: status 403")
        self.asked.append((self._kubeconfig, namespace, name))
        return self.found


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, kubeconfig: Path) -> type[Cluster]:
    Cluster.found, Cluster.asked, Cluster.fails = None, [], False
    monkeypatch.setattr(measured_starts, "LiveCluster", Cluster)
    return Cluster


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    for level in ("info", "warn"):
        monkeypatch.setattr(pulumi.log, level, found.append)
    return found


def stored(plan: str, count: int = 3) -> dict[str, str]:
    return {"starts": json.dumps([{"plan": plan, "seconds": {"read": 700}}] * count)}


def test_they_are_read(cluster: type[Cluster], kubeconfig: Path) -> None:
    spec = resolved(ON)
    cluster.found = stored(start_plan(spec))
    starts = with_starts(spec, pulumi.Config("deepseek")).starts
    assert starts is not None
    assert (starts.count, starts.seconds) == (3, 700)
    assert cluster.asked == [(kubeconfig, "deepseek", "deepseek-r1-incidents")]


def test_with_a_kubeconfig_of_the_stack(cluster: type[Cluster], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulumi.runtime, "get_config", {"deepseek:kubeconfig": TEXT}.get)
    with_starts(resolved({**ON, "cluster": {"kubeconfigFile": None}}), pulumi.Config("deepseek"))
    assert [kubeconfig for kubeconfig, *_ in cluster.asked] == [TEXT]


@pytest.mark.parametrize("found", [None, {}, {"starts": "[]"}])
def test_before_there_are_any(found: Any, cluster: type[Cluster]) -> None:
    cluster.found = found
    assert with_starts(resolved(ON), pulumi.Config("deepseek")).starts is None


def test_not_asked_for(cluster: type[Cluster], home: Path) -> None:
    with_starts(resolved({}), pulumi.Config("deepseek"))
    with_starts(resolved({**ON, "cluster": {"kubeconfigFile": str(home / "none")}}), pulumi.Config("deepseek"))
    assert cluster.asked == []


def test_a_cluster_that_does_not_answer(cluster: type[Cluster], said: list[str]) -> None:
    cluster.fails = True
    spec = resolved(ON)
    assert with_starts(spec, pulumi.Config("deepseek")) is spec
    assert said == ["measured starts were not read, and times follow from the plan: /api/v1: status 403"]


@pytest.mark.parametrize("text", ["{", "1", '[{"plan": 1}]', "[1, 2, 3]"])
def test_a_changed_config_map(text: str, cluster: type[Cluster], said: list[str]) -> None:
    cluster.found = {"starts": text}
    spec = resolved(ON)
    assert with_starts(spec, pulumi.Config("deepseek")) == spec
    problem = (
        "the key starts of the ConfigMap deepseek/deepseek-r1-incidents is not what the program incidents writes, and "
        "times follow from the plan; remove the key"
    )
    assert said in ([problem], []), "one that is never looked at is not a problem"
    assert said or text == '[{"plan": 1}]'
