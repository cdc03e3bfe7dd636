"""Who owns ``spec.replicas``: the stack file, an autoscaler, and the stack file again, on a real API server.

The autoscaler is played by a patch of the scale subresource, which is all that KEDA and the HPA do to a group. One
stack through its life, in the order of the file.
"""

from typing import Any

import pytest
from kubernetes import client

from components.scaling import AutoscalingArgs, Window, authentication_spec, hpa_spec, queue_spec, schedule_spec
from tests.e2e.conftest import Project, eventually, uids
from tests.e2e.test_local_stack import all_ready

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

QUEUE = {"kind": "queue", "maxReplicas": 3, "prometheus": {"url": "http://prometheus.monitoring:9090"}}
SCHEDULE = {
    "kind": "schedule",
    "minReplicas": 0,
    "windows": [{"start": "0 7 * * 1-5", "end": "0 20 * * 1-5", "replicas": 2}],
}
LWS = ("leaderworkerset.x-k8s.io", "v1")


def scale(project: Project, count: int, *, manager: str) -> None:
    """As ``manager`` does it, by the group's scale."""
    project.custom.patch_namespaced_custom_object_scale(
        *LWS,
        project.namespace,
        "leaderworkersets",
        "deepseek-r1",
        {"spec": {"replicas": count}},
        field_manager=manager,
    )


def autoscale(project: Project, count: int) -> None:
    """As the controller of an HPA does it."""
    scale(project, count, manager="kube-controller-manager")
    eventually(lambda: all_ready(project, 2 * count))


def replicas(project: Project) -> int:
    return int(project.group()["spec"]["replicas"])


def owners(project: Project) -> set[str]:
    """Managers of the count; the program's is the stack's."""
    fields = project.group()["metadata"]["managedFields"]
    found = {entry["manager"] for entry in fields if "f:replicas" in entry["fieldsV1"].get("f:spec", {})}
    return {"program" if name == f"pulumi-deepseek-{project.stack}" else name for name in found}


def scaled_object(project: Project) -> Any:
    return project.custom.get_namespaced_custom_object(
        "keda.sh", "v1alpha1", project.namespace, "scaledobjects", "deepseek-r1"
    )


def test_an_autoscaler_from_the_beginning_and_no_group(project: Project) -> None:
    project.change(inference={"scaling": SCHEDULE, "replicas": None})
    output = project.run("up")
    assert "scaling   schedule, 0 to 2 groups, at most 32 GPUs" in output
    assert "with no group running, the first answer takes" in output
    assert (replicas(project), project.pods()) == (0, {})
    assert scaled_object(project)["spec"]["scaleTargetRef"]["kind"] == "LeaderWorkerSet"


def test_another_kind_takes_its_place(project: Project) -> None:
    autoscale(project, 1)
    before, uid = uids(project), scaled_object(project)["metadata"]["uid"]
    project.change(inference={"scaling": QUEUE})
    project.run("up")
    assert (replicas(project), uids(project)) == (1, before)
    found = scaled_object(project)
    assert (found["metadata"]["uid"], found["spec"]["minReplicaCount"]) == (uid, 1)
    assert [trigger["type"] for trigger in found["spec"]["triggers"]] == ["prometheus", "prometheus"]


def test_what_the_autoscaler_has_set_stays(project: Project) -> None:
    autoscale(project, 3)
    assert "unchanged" in project.run("up", "--expect-no-changes")
    project.change(inference={"engine": {"maxModelLen": 4096}})
    project.run("up")
    assert replicas(project) == 3
    assert owners(project) == {"kube-controller-manager"}
    command = project.group()["spec"]["leaderWorkerTemplate"]["leaderTemplate"]["spec"]["containers"][0]["command"]
    assert "--max-model-len 4096" in command[2], "the rest of the group is the program's as before"


def test_another_count_is_refused_while_it_is_the_autoscalers(project: Project) -> None:
    """And nothing has changed by then."""
    project.change(inference={"scaling": None, "replicas": 2})
    output = project.run("up", fails=True)
    assert "conflict" in output
    assert replicas(project) == 3
    assert scaled_object(project)


def test_the_count_is_held_and_then_taken_back(project: Project) -> None:
    project.change(inference={"scaling": {**QUEUE, "hold": 2}, "replicas": None})
    project.run("up")
    assert scaled_object(project)["metadata"]["annotations"]["autoscaling.keda.sh/paused-replicas"] == "2"
    autoscale(project, 2)
    before = uids(project)
    project.change(inference={"scaling": {"kind": "manual", "takeOver": True}, "replicas": 2})
    project.run("up")
    assert uids(project) == before, "no pod was recreated"
    with pytest.raises(client.ApiException):
        scaled_object(project)
    project.change(inference={"replicas": 3})
    project.run("up")
    assert (replicas(project), owners(project)) == (3, {"program"})
    project.change(inference={"scaling": None})
    project.run("up")
    assert replicas(project) == 3


def test_a_live_group_is_handed_over_as_it_is(project: Project) -> None:
    """The count is the program's alone until the autoscaler changes it; leaving it out would make it 1."""
    before = uids(project)
    project.change(inference={"scaling": QUEUE, "replicas": None})
    project.run("up")
    assert replicas(project) == 3
    assert uids(project) == before
    autoscale(project, 2)
    project.run("up", "--expect-no-changes")
    assert replicas(project) == 2


def test_objects_of_every_kind_are_accepted(project: Project) -> None:
    """By the real API server, unknown fields refused; nothing is stored."""
    target = {"apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet", "name": "deepseek-r1"}
    common: dict[str, Any] = {"namespace": project.namespace, "group": "deepseek-r1", "create_seconds": 5684}
    bounds: dict[str, Any] = {"min_replicas": 0, "max_replicas": 3}
    queue = queue_spec(
        AutoscalingArgs(
            kind="queue", **common, **bounds, cache_metric="cache", prometheus_url="http://p", activation_query="up"
        ),
        "prometheus",
    )
    window = Window(start="0 7 * * 1-5", end="0 20 * * 1-5", replicas=2)
    schedule = schedule_spec(AutoscalingArgs(kind="schedule", **common, **bounds, windows=(window,)))
    strictly: dict[str, Any] = {"dry_run": "All", "field_validation": "Strict"}
    for plural, kind, spec in (
        ("scaledobjects", "ScaledObject", {"scaleTargetRef": target, **queue}),
        ("scaledobjects", "ScaledObject", {"scaleTargetRef": target, **schedule}),
        ("triggerauthentications", "TriggerAuthentication", authentication_spec("prometheus")),
    ):
        body = {"apiVersion": "keda.sh/v1alpha1", "kind": kind, "metadata": {"name": "try"}, "spec": spec}
        made = project.custom.create_namespaced_custom_object(
            "keda.sh", "v1alpha1", project.namespace, plural, body, **strictly
        )
        assert made["spec"] == spec
    hpa = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "try"},
        "spec": hpa_spec(AutoscalingArgs(kind="hpa", **common, min_replicas=1, max_replicas=3, cache_metric="cache")),
    }
    autoscaling = client.AutoscalingV2Api(project.core.api_client)
    accepted = autoscaling.create_namespaced_horizontal_pod_autoscaler(project.namespace, hpa, **strictly)
    assert [metric.pods.target.average_value for metric in accepted.spec.metrics] == ["10", "800m"]
