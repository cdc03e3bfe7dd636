"""Requests under way while groups go: kubelet, kube-proxy, endpoints, hooks and grace periods are real, and so are the
clients, which are a pod. As root, or not at all.

One stack through its life, in the order of the file: each test begins where the one before it ended.
"""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from local import tools
from local.real_nodes.requirements import problem
from tests.e2e import load
from tests.e2e.conftest import Project, make_project
from tests.e2e.test_real_nodes import is_going, run_in

LACKING = problem((Path(__file__).parents[2], tools.cache_directory()))
pytestmark = [pytest.mark.e2e, pytest.mark.skipif(LACKING is not None, reason=str(LACKING))]

GROUPS = 2
PATIENCE_SECONDS = 400
"""For a rollout over all groups, each of which finishes its requests first."""
STREAM_BYTES_PER_SECOND = 250
"""A stream has about 6 KiB and then takes longer than the time in which endpoints are updated (15 s)."""
CLIENT = "load"
SLOW = [
    {
        "action": "slow-response",
        "path": load.SLOW_MARK,
        "times": None,
        "bytes_per_second": STREAM_BYTES_PER_SECOND,
    }
]
SET_FAULTS = (
    "import urllib.request as u; "
    "u.urlopen(u.Request('http://127.0.0.1:8000/-/faults', data={body!r}.encode(), method='POST'))"
)
READ_METRICS = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8000/metrics').read().decode())"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    tools.build_all(tools.NODE_TOOLS)
    found = make_project(tmp_path_factory.mktemp("requests"), "local")
    found.variables["NODES"] = "real"
    lifecycle = {"requestSeconds": 120, "disruptionBudget": {"maxUnavailable": 1}}
    found.change(inference={"replicas": GROUPS, "lifecycle": lifecycle})
    found.run("up")
    until(lambda: serving(found) == GROUPS)
    yield found
    found.stop()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(1)


def leaders(project: Project) -> dict[str, Any]:
    return {
        name: pod
        for name, pod in project.pods().items()
        if pod.metadata.labels["leaderworkerset.sigs.k8s.io/worker-index"] == "0"
    }


def is_ready(pod: Any) -> bool:
    states = pod.status.container_statuses or ()
    return bool(states) and all(state.ready for state in states) and not is_going(pod)


def serving(project: Project) -> int:
    """Groups whose pods are all ready."""
    pods = list(project.pods().values())
    return sum(map(is_ready, leaders(project).values())) if all(map(is_ready, pods)) else 0


def all_new(project: Project, before: dict[str, Any]) -> bool:
    """All groups serve, and none has a pod of ``before``."""
    known = {pod.metadata.uid for pod in before.values()}
    return serving(project) == GROUPS and not any(pod.metadata.uid in known for pod in project.pods().values())


def streams_under_way(project: Project, leader: str) -> float:
    text = run_in(project, leader, "python3", "-c", READ_METRICS)
    (line,) = (line for line in text.splitlines() if line.startswith("vllm:num_requests_running{"))
    return float(line.rsplit(" ", 1)[1])


@pytest.fixture
def clients(project: Project) -> Iterator[Callable[[], dict[str, Any]]]:
    """They ask from now on, and long streams come of each leader; to be called when they are to end, for what became of
    their requests."""
    for leader in leaders(project):
        run_in(project, leader, "python3", "-c", SET_FAULTS.format(body=json.dumps(SLOW)))
    arguments = [f"ds-leader.{project.namespace}", "8000", "ds", "6", "2"]
    (mover,) = project.core.list_namespaced_pod(
        project.namespace, label_selector="app.kubernetes.io/name=modelmover"
    ).items
    code = Path(load.__file__).read_text()
    container = {
        "name": "main",
        "image": mover.spec.containers[0].image,
        "command": ["python3", "-c", code, *arguments],
    }
    spec = {"containers": [container], "restartPolicy": "Never", "terminationGracePeriodSeconds": 0}
    project.core.create_namespaced_pod("default", {"metadata": {"name": CLIENT}, "spec": spec})
    until(lambda: all(streams_under_way(project, leader) for leader in leaders(project)))

    def ended() -> dict[str, Any]:
        run_in(project, CLIENT, "sh", "-c", f"mkdir {load.STOP_FILE}", namespace="default")
        until(lambda: project.core.read_namespaced_pod(CLIENT, "default").status.phase == "Succeeded")
        found: dict[str, Any] = json.loads(project.core.read_namespaced_pod_log(CLIENT, "default").splitlines()[-1])
        print(found)
        return found

    yield ended
    project.core.delete_namespaced_pod(CLIENT, "default", grace_period_seconds=0)
    until(lambda: not [pod for pod in project.core.list_namespaced_pod("default").items])


def assert_nothing_is_lost(found: dict[str, Any]) -> None:
    assert found["lost"] == []
    assert found["whole"] > 0
    assert found["streams"] > 0


def test_update_of_groups_whose_hook_waits_for_requests(
    project: Project, clients: Callable[[], dict[str, Any]]
) -> None:
    """The guide's engine; what comes after it ends its requests by itself."""
    before = project.pods()
    project.change(inference={"engine": {"image": "vllm/vllm-openai:v0.20.2", "backend": "mp", "maxModelLen": 2048}})
    project.run("up")
    until(lambda: all_new(project, before))
    assert_nothing_is_lost(clients())


def test_update_of_groups_that_finish_by_themselves(project: Project, clients: Callable[[], dict[str, Any]]) -> None:
    before = project.pods()
    assert "--shutdown-timeout" in str(leaders(project)["deepseek-r1-0"].spec.containers[0])
    engine = project.settings()["inference"]["engine"]
    project.change(inference={"engine": {**engine, "env": {"VLLM_LOGGING_LEVEL": "DEBUG"}}})
    project.run("up")
    until(lambda: all_new(project, before))
    assert_nothing_is_lost(clients())


def test_room_for_all_groups_on_one_node(project: Project) -> None:
    """A surge reserves it."""
    project.change(inference={"rollout": {"maxSurge": GROUPS}})
    project.run("up")
    until(lambda: serving(project) == GROUPS)


def test_drain_of_a_node(project: Project, clients: Callable[[], dict[str, Any]]) -> None:
    """As ``kubectl drain`` does it: cordon, then an eviction of each pod, repeated while the budget refuses it."""
    node = leaders(project)["deepseek-r1-0"].spec.node_name
    project.core.patch_node(node, {"spec": {"unschedulable": True}})
    refused = 0

    def is_empty() -> bool:
        nonlocal refused
        there = [pod for pod in project.pods().values() if pod.spec.node_name == node]
        for pod in there:
            if not is_going(pod):
                refused += not evict(project, pod)
        return not there

    until(is_empty)
    until(lambda: serving(project) == GROUPS)
    assert refused, "the budget lets one group go at a time"
    assert_nothing_is_lost(clients())
    project.core.patch_node(node, {"spec": {"unschedulable": None}})


def evict(project: Project, pod: Any) -> bool:
    """Whether the budget allows it."""
    name, namespace = pod.metadata.name, pod.metadata.namespace
    try:
        project.core.create_namespaced_pod_eviction(name, namespace, {"metadata": {"name": name}})
    except client.ApiException as error:
        if error.status not in (404, 429):
            raise
        return bool(error.status == 404)
    return True
