"""The cache and the prod stack on real nodes; tests/e2e/test_real_nodes.py has the plain one. As root, or not at all.

Each stack through its life, in the order of the file.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from local import tools
from local.real_nodes.requirements import problem
from tests.e2e.conftest import Project, eventually, left_in_namespace, make_project, uids
from tests.e2e.test_local_stack import all_ready
from tests.e2e.test_real_nodes import run_in

LACKING = problem((Path(__file__).parents[2], tools.cache_directory()))
pytestmark = [pytest.mark.e2e, pytest.mark.skipif(LACKING is not None, reason=str(LACKING))]

RESTART_SECONDS = 180
"""With the prod stack, the old leader waits ANNOUNCE_SECONDS before it ends. Only then LeaderWorkerSet creates the new
group, whose pods have startup probes every ten seconds."""


@pytest.fixture(scope="module", params=["local-fluid", "local-prod"])
def project(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    tools.build_all(tools.NODE_TOOLS)
    found = make_project(tmp_path_factory.mktemp("real"), request.param)
    found.variables["NODES"] = "real"
    yield found
    found.stop()


def test_up_and_verify(project: Project) -> None:
    assert "The nodes are real" in project.run("up")
    assert all_ready(project, 2)
    said = project.run("verify")
    assert "its cache filled to 100.0%" in said
    assert "The endpoint answers." in said


def test_jobs_were_pods(project: Project) -> None:
    """The mover and the preload, and with the prod stack the smoke test, by the cluster's DNS."""
    expected = {"modelmover", "preload", *({"verifier"} if project.stack == "local-prod" else ())}
    pods = project.core.list_namespaced_pod(project.namespace, field_selector="status.phase=Succeeded").items
    assert {pod.metadata.labels["app.kubernetes.io/name"] for pod in pods} == expected
    assert all(pod.status.container_statuses[0].container_id.startswith("containerd://") for pod in pods)


def test_engines_read_the_claim_of_the_cache(project: Project) -> None:
    (claim,) = project.core.list_namespaced_persistent_volume_claim(project.namespace).items
    assert claim.metadata.name.startswith("llm-cache-")
    for pod in project.pods():
        assert "model.safetensors.index.json" in run_in(project, pod, "ls", "/models/DeepSeek-R1")
        assert run_in(project, pod, "sh", "-c", "mkdir /models/DeepSeek-R1/x || echo no").strip().endswith("no")


def test_second_up_changes_nothing(project: Project) -> None:
    project.run("up", "--expect-no-changes")


def test_lost_worker_restarts_the_group(project: Project) -> None:
    before = uids(project)
    project.core.delete_namespaced_pod("deepseek-r1-0-1", project.namespace, grace_period_seconds=0)

    def is_new() -> bool:
        return not before & uids(project) and all_ready(project, 2)

    eventually(is_new, seconds=RESTART_SECONDS)
    assert "The endpoint answers." in project.run("verify")


def test_destroy_leaves_nothing(project: Project) -> None:
    project.run("destroy")
    assert left_in_namespace(project) == {"kube-root-ca.crt"}
    assert not project.core.list_persistent_volume().items
