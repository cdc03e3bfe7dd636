"""The two containers for compiled code in real pods: a group starts where nothing was kept; the engine has no key.

tests/integration/test_compile_cache.py runs their commands with what was kept, and the benchmark with a real engine."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes.stream import stream

from components.compile_cache import CACHE_PATH, RESTORE, SAVE
from components.labels import CONTAINER
from local import tools
from local.real_nodes import bring_up
from local.real_nodes.requirements import problem
from tests.e2e.conftest import Project, eventually, make_project

LACKING = problem((Path(__file__).parents[2], tools.cache_directory()))
pytestmark = [pytest.mark.e2e, pytest.mark.skipif(LACKING is not None, reason=str(LACKING))]

LEADER, WORKER = "deepseek-r1-0", "deepseek-r1-0-1"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    tools.build_all(bring_up.TOOLS)
    found = make_project(tmp_path_factory.mktemp("compiled"), "local")
    found.variables["NODES"] = "real"
    found.change(inference={"engine": {"maxModelLen": 2048, "compileCache": "bucket"}})
    yield found
    found.stop()


def run_in(project: Project, pod: str, container: str, *command: str) -> str:
    """With the kubelet's exec."""
    call: Any = project.core.connect_get_namespaced_pod_exec
    answer: str = stream(call, pod, project.namespace, container=container, command=list(command), stdout=True)
    return answer


def log(project: Project, pod: str, container: str) -> str:
    found: str = project.core.read_namespaced_pod_log(pod, project.namespace, container=container)
    return found


def test_a_group_starts_where_nothing_was_kept(project: Project) -> None:
    said = project.run("up")
    assert "compiled  code kept in the bucket" in said
    assert "the engine runs eagerly, so there is nothing of torch.compile to keep" in " ".join(said.split())
    assert "The endpoint answers." in project.run("verify")
    for pod in (LEADER, WORKER):
        assert "compilecache restore: miss, the engine compiles" in log(project, pod, RESTORE)
        eventually(lambda pod=pod: "the engine has left no compiled files" in log(project, pod, SAVE))  # type: ignore[misc]


def test_the_engine_has_its_folder_and_no_key(project: Project) -> None:
    assert f"TRITON_CACHE_DIR={CACHE_PATH}/files/triton" in run_in(project, LEADER, CONTAINER, "env")
    assert "OSS_ACCESS_KEY" not in run_in(project, LEADER, CONTAINER, "env")
    assert "OSS_ACCESS_KEY_SECRET" in run_in(project, LEADER, SAVE, "env")
    refused = run_in(project, LEADER, SAVE, "sh", "-c", f"touch {CACHE_PATH}/x 2>/dev/null || echo no")
    assert refused.strip() == "no", "the one that saves cannot change what it saves"
