"""The program that gives up groups: when it exists, what it is told, and what it may do."""

from typing import Any

import pytest

from components import wiring
from components.cost_guard import CostGuardArgs, rules, status_name
from deepseek_acs.planner.spec import GuardSpec
from tests.unit.conftest import Recorder, Run, resolved
from tests.unit.test_policy import resources, violations

GUARD: dict[str, Any] = {"inference": {"guard": {}}}
QUEUE = {"kind": "queue", "maxReplicas": 3, "prometheus": {"url": "http://p"}}
HPA = {"kind": "hpa", "maxReplicas": 3}


def told(**inference: Any) -> CostGuardArgs:
    found = wiring.cost_guard(resolved({"inference": {"guard": {}, **inference}}))
    assert found is not None
    return found


def objects(recorder: Recorder) -> dict[str, dict[str, Any]]:
    """The guard's, by kind."""
    return {
        manifest["kind"]: manifest
        for manifest in recorder.manifests()
        if manifest["metadata"].get("labels", {}).get("app.kubernetes.io/name") == "costguard"
        and not manifest.get("binaryData")
    }


def test_off_by_default(up: Run) -> None:
    assert objects(up()) == {}
    assert wiring.cost_guard(resolved({})) is None


def test_without_groups_there_is_nothing_to_guard() -> None:
    spec = resolved({"inference": {"guard": {}, "replicas": 0}})
    assert spec.guard is None
    assert wiring.cost_guard(spec) is None


def test_limits_follow_from_the_plan() -> None:
    assert resolved(GUARD).guard == GuardSpec(
        failed_starts=3, back_off_seconds=60, pending_seconds=3600, unready_seconds=2 * 5684
    )
    given = {"failedStarts": 1, "pendingSeconds": 1800, "unreadySeconds": 6000}
    assert resolved({"inference": {"guard": given}}).guard == GuardSpec(
        failed_starts=1, back_off_seconds=60, pending_seconds=1800, unready_seconds=6000
    )


def test_what_it_is_told(up: Run) -> None:
    found = objects(up(GUARD))
    assert found.keys() == {"ConfigMap", "ServiceAccount", "Role", "RoleBinding", "Deployment"}
    assert {one["metadata"]["name"] for one in found.values()} == {"deepseek-r1-costguard"}
    assert "data" not in found["ConfigMap"], "what the program writes there is its own"
    template = found["Deployment"]["spec"]["template"]
    (container,) = template["spec"]["containers"]
    assert container["args"] == [
        "--namespace=deepseek",
        "--group=deepseek-r1",
        "--gpu-resource=nvidia.com/gpu",
        "--status=deepseek-r1-costguard",
        "--replicas=1",
        "--failed-starts=3",
        "--back-off-seconds=60",
        "--pending-seconds=3600",
        "--unready-seconds=11368",
        "--credentials=/var/run/secrets/kubernetes.io/serviceaccount",
    ]
    assert found["Deployment"]["spec"]["strategy"] == {"type": "Recreate"}
    labels = template["metadata"]["labels"]
    assert labels["alibabacloud.com/compute-class"] == "general-purpose"
    assert labels.items() >= found["Deployment"]["spec"]["selector"]["matchLabels"].items()


def test_it_may_set_the_scale_and_nothing_else(up: Run) -> None:
    found = objects(up(GUARD))
    rights = {
        (f"{group}/{resource}", verb, *rule.get("resourceNames", ()))
        for rule in found["Role"]["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert rights == {
        ("leaderworkerset.x-k8s.io/leaderworkersets", "get", "deepseek-r1"),
        ("leaderworkerset.x-k8s.io/leaderworkersets/scale", "patch", "deepseek-r1"),
        ("/pods", "list"),
        ("/configmaps", "get", "deepseek-r1-costguard"),
        ("/configmaps", "patch", "deepseek-r1-costguard"),
        ("events.k8s.io/events", "create"),
    }
    assert found["ServiceAccount"]["automountServiceAccountToken"] is False


@pytest.mark.parametrize(
    ("inference", "keda", "together"),
    [({}, False, False), ({"scaling": QUEUE, "replicas": None}, True, False), ({"scaling": HPA}, False, True)],
)
def test_autoscalers(inference: dict[str, Any], *, keda: bool, together: bool) -> None:
    args = told(**{"replicas": None, **inference} if inference else {})
    assert (args.pauses_keda, args.all_or_none) == (keda, together)
    assert any(rule["api_groups"] == ["keda.sh"] for rule in rules(args)) is keda


def test_the_next_update_takes_the_number_of_groups_back(up: Run) -> None:
    """Otherwise it would fail with a conflict with the guard, which has set the number."""
    annotations = up(GUARD).manifest("LeaderWorkerSet")["metadata"]["annotations"]
    assert annotations["pulumi.com/patchForce"] == "true"
    scaled = up({"inference": {"guard": {}, "scaling": QUEUE, "replicas": None}})
    assert "pulumi.com/patchForce" not in scaled.manifest("LeaderWorkerSet")["metadata"]["annotations"]


def test_the_alert_knows_how_many_groups_there_should_be(up: Run) -> None:
    def alert(changes: dict[str, Any]) -> list[str]:
        (group,) = up(changes).manifest("PrometheusRule")["spec"]["groups"]
        return [rule["expr"] for rule in group["rules"] if rule["alert"] == "GroupGivenUp"]

    (expr,) = alert({"observability": {}, "inference": {"guard": {}, "replicas": 2}})
    assert expr.endswith("< 2")
    assert alert({"observability": {}}) == []
    windows = [{"start": "0 8 * * *", "end": "0 9 * * *", "replicas": 1}]
    scaling = {"kind": "schedule", "minReplicas": 0, "windows": windows}
    assert alert({"observability": {}, "inference": {"guard": {}, "scaling": scaling, "replicas": None}}) == []


def test_the_policies_accept_it(up: Run) -> None:
    found = resources(up({"inference": {"guard": {}}}, stack="prod"), "prod")
    assert any(one.name == "cost-guard-deployment" for one in found)
    assert violations(found) == {}


def test_the_status_has_one_name() -> None:
    """The verifier, the alert and the runbook name it."""
    assert status_name("r1") == "r1-costguard"
