"""Gang scheduling: the PodGroup, the label that refers to it, and what the cluster must have."""

from typing import Any

import pytest

from components.operators import GANG, expected_apis
from tests.unit.conftest import Run, errors, resolved
from tests.unit.test_policy import resources, violations

HPN: dict[str, Any] = {"inference": {"gang": {}, "gpu": {"computeClass": "gpu-hpn"}}}
LABEL = "pod-group.scheduling.sigs.k8s.io"


def test_all_pods_of_the_group_are_members(up: Run) -> None:
    recorder = up(HPN)
    pod_group = recorder.manifest("PodGroup")
    assert pod_group["metadata"]["name"] == "deepseek-r1"
    assert pod_group["spec"] == {"minMember": 2, "scheduleTimeoutSeconds": 300}
    templates = recorder.manifest("LeaderWorkerSet")["spec"]["leaderWorkerTemplate"]
    for template in ("leaderTemplate", "workerTemplate"):
        assert templates[template]["metadata"]["labels"][LABEL] == "deepseek-r1"


def test_it_exists_before_the_pods(up: Run) -> None:
    """A pod that refers to a PodGroup that does not exist would be scheduled on its own."""
    recorder = up(HPN)
    assert any("PodGroup" in urn for urn in recorder.request("InferenceGroup").dependencies)


def test_off_by_default(up: Run) -> None:
    recorder = up()
    assert "PodGroup" not in recorder.kinds()
    assert LABEL not in str(recorder.manifest("LeaderWorkerSet"))


def test_the_cluster_must_know_it() -> None:
    assert GANG in expected_apis(resolved(HPN))
    assert GANG not in expected_apis(resolved({}))


@pytest.mark.parametrize(
    ("inference", "problem"),
    [
        ({"replicas": 2}, "there may be 2 groups at once"),
        ({"replicas": None, "scaling": {"kind": "hpa", "maxReplicas": 3}}, "there may be 3 groups at once"),
        ({"rollout": {"maxSurge": 1}}, "there may be 2 groups at once"),
    ],
)
def test_one_group(inference: dict[str, Any], problem: str) -> None:
    found = errors(resolved({"inference": {**HPN["inference"], **inference}}))
    assert any(finding.problem.startswith(problem) for finding in found)


def test_the_policies_accept_it(up: Run) -> None:
    changes = {"inference": {**HPN["inference"], "scaling": None, "replicas": 1}}
    assert violations(resources(up(changes, stack="prod"), "prod")) == {}
