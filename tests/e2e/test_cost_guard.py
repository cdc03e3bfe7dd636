"""A group whose worker never comes: given up, told, and started again, on a real API server with LeaderWorkerSet.

The nodes are simulated, so a cordoned one stands for GPUs that are out of stock. One stack, in the order of the file.
"""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kubernetes import client

from tests.e2e.conftest import Project, eventually, install_policy_pack, left_in_namespace, make_project, uids
from tests.e2e.test_local_stack import all_ready
from tests.e2e.test_scaling import owners, replicas, scale

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

STATUS = "deepseek-r1-costguard"
GIVE_UP_SECONDS = 120
"""Some looks of the program, and its limit of five seconds."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    found = make_project(tmp_path_factory.mktemp("guard"), "local")
    found.change(inference={"guard": {"pendingSeconds": 5}}, prices={"gpuHour": 5, "vcpuHour": 0, "memoryGiBHour": 0})
    try:
        yield found
    finally:
        found.stop()


def soon(condition: Callable[[], bool]) -> None:
    """Like ``eventually``, for what takes several looks of the program."""
    deadline = time.monotonic() + GIVE_UP_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.5)


def status(project: Project) -> dict[str, str]:
    return dict(project.core.read_namespaced_config_map(STATUS, project.namespace).data or {})


def reasons(project: Project) -> list[str]:
    """Of the program's events, oldest first."""
    events = project.core.list_namespaced_event(project.namespace, field_selector="involvedObject.name=deepseek-r1")
    own = [event for event in events.items if event.reporting_component == "deepseek-costguard"]
    return [event.reason for event in sorted(own, key=lambda event: event.event_time)]


def cordon(project: Project, *, off: bool = False) -> None:
    """One of the nodes with GPUs."""
    selector = "alibabacloud.com/gpu-model-series"
    node = project.core.list_node(label_selector=selector).items[0].metadata.name
    project.core.patch_node(node, {"spec": {"unschedulable": not off}})


def delete_pods(project: Project) -> None:
    for name in project.pods():
        try:
            project.core.delete_namespaced_pod(name, project.namespace, grace_period_seconds=0)
        except client.ApiException as error:
            # LeaderWorkerSet deletes the worker when it has lost its leader.
            if error.status != 404:
                raise


def lose_the_worker(project: Project) -> None:
    """As when a node fails and there is no other: LeaderWorkerSet recreates the group, and one pod finds no node."""
    cordon(project)
    before = uids(project)
    delete_pods(project)
    eventually(lambda: not uids(project) & before)


POD_GROUPS = ("scheduling.sigs.k8s.io", "v1alpha1")


def define_pod_groups(api: client.ApiClient) -> None:
    """As the scheduler's installation does it
    (https://github.com/kubernetes-sigs/scheduler-plugins/blob/master/apis/scheduling/v1alpha1/types.go)."""
    group, version = POD_GROUPS
    number = {"type": "integer", "format": "int32"}
    spec = {"type": "object", "properties": {"minMember": number, "scheduleTimeoutSeconds": number}}
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}
    client.ApiextensionsV1Api(api).create_custom_resource_definition(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {
                "name": f"podgroups.{group}",
                "annotations": {"api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/scheduler-plugins"},
            },
            "spec": {
                "group": group,
                "scope": "Namespaced",
                "names": {"kind": "PodGroup", "plural": "podgroups", "singular": "podgroup"},
                "versions": [{"name": version, "served": True, "storage": True, "schema": schema}],
            },
        }
    )


def test_the_cost_is_in_the_preview_and_in_the_outputs(project: Project) -> None:
    output = project.run("up", previewed=True)
    assert "cost      USD 80.00 per hour for 1 group" in output
    assert "a group is given up if one of its pods starts 5 s later than another" in output
    assert json.loads(project.pulumi("stack", "output", "--json"))["cost"]["groupPerHour"] == 80.0
    eventually(lambda: all_ready(project, 2))
    assert status(project) == {}


def test_a_policy_limits_the_cost(project: Project) -> None:
    install_policy_pack(project.folder)
    limit = project.folder / "limit.json"
    rule: dict[str, Any] = {"enforcementLevel": "mandatory", "maxHourlyCost": 79.5, "gpuHour": {"GU8TF": 5}}
    limit.write_text(json.dumps({"restrict-hourly-cost": rule}))
    output = project.run("preview", policy=str(limit), fails=True)
    assert "the GPUs of the stack may cost 80.00 per hour, and 79.50 are allowed" in " ".join(output.split())
    limit.write_text(json.dumps({"restrict-hourly-cost": {**rule, "maxHourlyCost": 80}}))
    assert "may cost" not in project.run("preview", policy=str(limit))


def test_a_worker_that_never_comes(project: Project) -> None:
    lose_the_worker(project)
    soon(lambda: replicas(project) == 0)
    soon(lambda: reasons(project) == ["GivenUp"])
    found = status(project)
    assert found["keep"] == "0"
    assert "did not start for" in found["givenUp"]
    assert "while 8 GPUs were held" in found["givenUp"]
    eventually(lambda: project.pods() == {})
    assert owners(project) == set(), "the API server notes no owner of 0"
    output = project.run("verify", fails=True)
    assert "deepseek-r1 was given up: scaled to 0 of 1 groups after" in output


def test_an_update_without_changes_starts_nothing(project: Project) -> None:
    project.run("up", "--expect-no-changes")
    assert (replicas(project), reasons(project)) == (0, ["GivenUp"])


def test_a_changed_setting_starts_it_again(project: Project) -> None:
    cordon(project, off=True)
    project.change(inference={"engine": {"maxModelLen": 4096}})
    project.run("up")
    assert (replicas(project), owners(project)) == (1, {"program"})
    eventually(lambda: all_ready(project, 2))
    soon(lambda: reasons(project) == ["GivenUp", "StartedAgain"])
    soon(lambda: status(project) == {})


def test_so_does_a_scale_by_hand_and_the_next_update_takes_the_number_back(project: Project) -> None:
    lose_the_worker(project)
    soon(lambda: replicas(project) == 0)
    cordon(project, off=True)
    scale(project, 1, manager="kubectl-scale")
    eventually(lambda: all_ready(project, 2))
    soon(lambda: reasons(project)[2:] == ["GivenUp", "StartedAgain"])
    project.change(inference={"engine": {"maxModelLen": 2048}})
    project.run("up")
    assert (replicas(project), owners(project)) == (1, {"program"})


def test_a_refresh_starts_it_again(project: Project) -> None:
    lose_the_worker(project)
    soon(lambda: replicas(project) == 0)
    cordon(project, off=True)
    project.run("up", "--refresh")
    assert replicas(project) == 1
    eventually(lambda: all_ready(project, 2))


def test_starts_that_fail_are_held_back(project: Project) -> None:
    project.change(inference={"guard": {"backOffSeconds": 60}})
    project.run("up")
    seen = len(reasons(project))
    lose_the_worker(project)
    soon(lambda: "attempts" in status(project))
    delete_pods(project)
    soon(lambda: replicas(project) == 0)
    assert status(project)["heldBack"] == "scaled to 0 of 1 groups for 60 s: start 1 of group 0 has failed"
    assert "deepseek-r1 is held back: scaled to 0 of 1 groups for 60 s" in project.run("verify", fails=True)
    cordon(project, off=True)
    soon(lambda: replicas(project) == 1)
    eventually(lambda: all_ready(project, 2))
    soon(lambda: status(project) == {})
    assert reasons(project)[seen:] == ["HeldBack", "TriedAgain"]
    project.run("up", "--expect-no-changes")


def test_a_gang_needs_a_scheduler_that_knows_it(project: Project) -> None:
    gpu = {**project.settings()["inference"]["gpu"], "computeClass": "gpu-hpn"}
    project.change(inference={"gang": {}, "gpu": gpu})
    output = " ".join(project.run("preview", fails=True).split())
    assert "the cluster has no PodGroups (scheduling.sigs.k8s.io/v1alpha1), so its scheduler knows no gangs" in output
    define_pod_groups(project.core.api_client)
    project.run("up")
    found = project.custom.get_namespaced_custom_object(*POD_GROUPS, project.namespace, "podgroups", "deepseek-r1")
    assert found["spec"] == {"minMember": 2, "scheduleTimeoutSeconds": 300}
    eventually(lambda: all_ready(project, 2))
    members = {pod.metadata.labels["pod-group.scheduling.sigs.k8s.io"] for pod in project.pods().values()}
    assert members == {"deepseek-r1"}


def test_what_it_has_written_goes_with_the_stack(project: Project) -> None:
    project.run("destroy")
    assert left_in_namespace(project) <= {"kube-root-ca.crt", "default"}
