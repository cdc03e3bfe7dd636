"""Compiled code that outlives a group, in real pods: the two containers, their rights, and a folder that comes back."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes.stream import stream

from components.compile_cache import CACHE_PATH, RESTORE, SAVE
from components.labels import CONTAINER
from local import tools
from local.real_nodes.requirements import problem
from tests.e2e.conftest import Project, eventually, make_project, uids

LACKING = problem((Path(__file__).parents[2], tools.cache_directory()))
pytestmark = [pytest.mark.e2e, pytest.mark.skipif(LACKING is not None, reason=str(LACKING))]

LEADER, WORKER = "deepseek-r1-0", "deepseek-r1-0-1"
KERNEL = f"{CACHE_PATH}/files/triton/kernel.cubin"

RECREATE_SECONDS = 300

SAVE_AGAIN = (
    "import subprocess; words = open('/proc/1/cmdline').read().split(chr(0))[4:-1]; "
    "print(subprocess.run(['python3', '/opt/compilecache/compilecache.pyz', 'save', *words], capture_output=True, "
    "text=True).stdout)"
)
"""What the container did once, with the same words."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    tools.build_all(tools.NODE_TOOLS)
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


def is_ready(project: Project) -> bool:
    pods = list(project.pods().values())
    states = [status for pod in pods for status in pod.status.container_statuses or ()]
    return len(states) == 4 and all(s.ready for s in states) and not any(p.metadata.deletion_timestamp for p in pods)


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


def test_what_the_leader_has_compiled_comes_back_to_leaders(project: Project) -> None:
    write = f"mkdir -p {CACHE_PATH}/files/triton && echo machine code > {KERNEL} && echo written"
    assert run_in(project, LEADER, CONTAINER, "sh", "-c", write).strip() == "written"
    assert "compilecache save: 1 files" in run_in(project, LEADER, SAVE, "python3", "-c", SAVE_AGAIN)
    before = uids(project)
    project.core.delete_namespaced_pod(LEADER, project.namespace)
    eventually(lambda: is_ready(project) and not before & uids(project), seconds=RECREATE_SECONDS)
    assert "compilecache restore: hit, 1 files" in log(project, LEADER, RESTORE)
    assert run_in(project, LEADER, CONTAINER, "cat", KERNEL).strip() == "machine code"
    assert "compilecache restore: miss" in log(project, WORKER, RESTORE), "another rank"
    assert "The endpoint answers." in project.run("verify")


def test_nothing_restarted(project: Project) -> None:
    """A container that restarts would take its group along."""
    for pod in project.pods().values():
        statuses = [*pod.status.init_container_statuses, *pod.status.container_statuses]
        assert [status.restart_count for status in statuses] == [0, 0, 0]


def test_without_the_bucket_a_group_starts(project: Project) -> None:
    """Its key is taken away."""
    secret = project.core.read_namespaced_secret("deepseek-r1-compilecache", project.namespace)
    for name in secret.data:
        secret.data[name] = "bm9uZQ=="
    project.core.replace_namespaced_secret(secret.metadata.name, project.namespace, secret)
    before = uids(project)
    project.core.delete_namespaced_pod(LEADER, project.namespace)
    eventually(lambda: is_ready(project) and not before & uids(project), seconds=RECREATE_SECONDS)
    assert "restore: nothing restored: " in log(project, LEADER, RESTORE)
    assert "The endpoint answers." in project.run("verify")
