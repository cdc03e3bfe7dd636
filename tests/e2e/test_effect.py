"""What a preview says of a change, and what the change then does: real engine, real API server, real LeaderWorkerSet.

One stack through its life, in the order of the file. tests/unit/test_settings_effect.py has those of all settings.
"""

import re
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import Project, eventually, make_project

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

LABEL = 10


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    found = make_project(tmp_path_factory.mktemp("effect"), "local")
    yield found
    found.stop()


def said(output: str) -> dict[str, str]:
    """The lines of the effect by label, unwrapped."""
    lines: dict[str, str] = {}
    label = ""
    block = output[output.index("    change    ") if "    change    " in output else output.index("    effect    ") :]
    for line in block.splitlines():
        if not re.match(r"^    (\S[\S ]{0,8} +\S|          \S)", line):
            break
        label = line[4 : 4 + LABEL].strip() or label
        lines[label] = f"{lines.get(label, '')} {line[4 + LABEL :]}".strip()
    return lines


def uids(project: Project) -> dict[str, str]:
    return {name: pod.metadata.uid for name, pod in project.pods().items()}


def test_first_update_creates(project: Project) -> None:
    lines = said(project.run("up", previewed=True))
    assert lines["effect"].startswith("creates the stack: ")
    assert "LeaderWorkerSet" in lines["effect"]
    assert said(project.run("preview"))["effect"].startswith("nothing")


def test_settings_that_change_nothing(project: Project) -> None:
    before = uids(project)
    project.change(prices={"gpuHour": 2.5})
    lines = said(project.run("up", previewed=True))
    assert lines == {
        "change": "prices.gpuHour 2.5 (new)",
        "effect": "nothing: no object changes, and no pod is restarted",
    }
    assert uids(project) == before


def test_scale(project: Project) -> None:
    before = uids(project)
    project.change(inference={"replicas": 2})
    lines = said(project.run("up", previewed=True))
    assert (lines["effect"], lines["changes"]) == ("scale", "LeaderWorkerSet")
    assert lines["scale"].startswith("from 1 to 2 groups: adds group 1")
    assert uids(project).items() > before.items()


def test_route_only(project: Project) -> None:
    before = uids(project)
    project.change(service={"kind": "clusterIP", "port": 9000})
    lines = said(project.run("up", previewed=True))
    assert (lines["effect"], lines["changes"]) == ("route: no pod of a group is restarted", "Service")
    assert uids(project) == before


def restart(project: Project, tokens: int, *options: str, fails: bool = False) -> str:
    project.change(inference={"engine": {"maxModelLen": tokens}})
    return project.run("up", *options, fails=fails, previewed=True)


def test_restart(project: Project) -> None:
    before = uids(project)
    lines = said(restart(project, 1024))
    assert lines["change"] == "inference.engine.maxModelLen 2048 → 1024"
    assert (lines["effect"], lines["changes"]) == ("restart", "LeaderWorkerSet")
    assert lines["restart"].startswith("2 groups, from the highest number down, 1 at a time")
    assert lines["serves"] == "at least 1 of 2 groups at any time"
    after = uids(project)
    assert after.keys() == before.keys()
    assert not set(after.values()) & set(before.values())


def test_number_set_by_hand_is_told(project: Project) -> None:
    """By another manager than the stack's. The next update of the group is refused in its preview, and takes it
    back."""
    group = ("leaderworkerset.x-k8s.io", "v1", "deepseek", "leaderworkersets", "deepseek-r1")
    project.custom.patch_namespaced_custom_object(
        *group, {"spec": {"startupPolicy": "LeaderCreated", "replicas": 1}}, field_manager="kubectl-edit"
    )
    eventually(lambda: len(uids(project)) == 2)
    project.change(inference={"rollout": {"maxUnavailable": 2}})
    output = project.run("preview", fails=True)
    assert "kubectl-edit" in output
    project.run("up")
    assert project.group()["spec"]["replicas"] == 2
    assert project.group()["spec"]["rolloutStrategy"]["rollingUpdateConfiguration"]["maxUnavailable"] == 2
