"""``make up STACK=local-vllm``: the real vLLM in real pods, which read what the Job has moved."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from local import tools
from local.real_nodes import bring_up
from local.real_nodes.requirements import problem
from tests.e2e.conftest import Project, make_project

UP_SECONDS = 1200
"""On a busy machine; it takes three minutes on an idle one."""

LACKING = problem((Path(__file__).parents[2], tools.cache_directory()))
pytestmark = pytest.mark.skipif(LACKING is not None, reason=str(LACKING))


@pytest.fixture(scope="module")
def project(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    tools.build_all(bring_up.TOOLS)
    found = make_project(tmp_path_factory.mktemp("vllm"), "local-vllm")
    found.variables["NODES"] = "real"
    yield found
    found.stop()


def said_by(project: Project, command: str) -> str:
    process = project.start(command)
    said, _ = process.communicate(timeout=UP_SECONDS)
    assert process.returncode == 0, said
    return said


def test_up_and_verify(project: Project) -> None:
    assert "The engine is a real vLLM on the CPU" in said_by(project, "up")
    said = said_by(project, "verify")
    assert "its tokens make no sense" in said
    assert "The endpoint answers." in said
    for layer in ("storage", "pods", "group", "engine", "API key", "model", "completion"):
        assert f"ok   {layer}" in said


def test_both_pods_read_the_weights_through_the_driver(project: Project) -> None:
    pods = project.pods()
    assert len(pods) == 2
    leader = project.core.read_namespaced_pod_log("deepseek-r1-0", project.namespace)
    assert "/models/DeepSeek-R1-tiny" in leader
    assert "Application startup complete" in leader
