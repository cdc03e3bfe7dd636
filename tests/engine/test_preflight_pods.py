"""The checks before the engine in real pods: kubelets, containers, the driver's volume, PyTorch's Gloo, a real vLLM.

The pods have no GPU, so the series is one that nothing is known of: nvidia-smi is not asked, and Gloo makes the
all-reduce.
One stack, in the order of the file.
"""

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config
from urllib3.exceptions import HTTPError

from local import tools
from local.real_nodes.requirements import problem
from tests.e2e.conftest import Project, interrupt, make_project
from tests.engine.test_local_vllm import UP_SECONDS, said_by

LACKING = problem((Path(__file__).parents[2], tools.cache_directory()))
pytestmark = pytest.mark.skipif(LACKING is not None, reason=str(LACKING))

NO_GPU = {"series": "CPU", "perPod": 1, "resource": "example.com/device", "gpuMemoryGiB": 16}
UNREACHABLE_GB_S = 10_000
NAMES = {"deepseek-r1-0", "deepseek-r1-0-1"}


@pytest.fixture(scope="module")
def project(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    tools.build_all(tools.NODE_TOOLS)
    found = make_project(tmp_path_factory.mktemp("preflight"), "local-vllm")
    found.variables["NODES"] = "real"
    found.change(inference={"gpu": NO_GPU, "preflight": {}})
    yield found
    found.stop()


@pytest.fixture(scope="module")
def failing(project: Project) -> Iterator[subprocess.Popen[str]]:
    """An update whose group fails its checks, and is recreated, again and again."""
    project.change(inference={"preflight": {"leastGBps": UNREACHABLE_GB_S}})
    process = project.start("up")
    yield process
    if process.poll() is None:
        interrupt(process)
        process.communicate(timeout=UP_SECONDS)


def collect(project: Project, look: Callable[[str], str]) -> dict[str, str]:
    """What ``look`` finds for each pod of the group; pods come and go meanwhile."""
    found: dict[str, str] = {}
    deadline = time.monotonic() + UP_SECONDS
    while found.keys() != NAMES:
        assert time.monotonic() < deadline, found
        for name in NAMES - found.keys():
            # The cluster may not have started yet: no kubeconfig, no API server, no pod.
            with contextlib.suppress(client.ApiException, config.ConfigException, HTTPError, OSError):
                if text := look(name):
                    found[name] = text
        time.sleep(0.2)
    return found


def ended(status: Any) -> str:
    """The termination message of a container, of this run or the one before. All pods of a group are ended as soon as
    one has ended by itself."""
    for state in (status.state, status.last_state):
        if state and state.terminated and state.terminated.message:
            return str(state.terminated.message)
    return ""


def test_checks_pass_and_the_engine_takes_their_place(project: Project) -> None:
    said_by(project, "up")
    for name in sorted(NAMES):
        log = project.core.read_namespaced_pod_log(name, project.namespace)
        passed = log.index("preflight: passed in ")
        assert "preflight: all-reduce over 2 processes: " in log[:passed]
        assert "vLLM" in log[passed:] or "vllm" in log[passed:], "the same container goes on"
    assert "The endpoint answers." in said_by(project, "verify")


def test_failed_check_is_in_the_log_and_the_termination_message(
    project: Project, failing: subprocess.Popen[str]
) -> None:
    """Of each pod: the name of the pod that failed, the layer and the fix."""

    def log(name: str) -> str:
        for previous in (False, True):
            with contextlib.suppress(client.ApiException):
                text = str(project.core.read_namespaced_pod_log(name, project.namespace, previous=previous))
                if "preflight: failed" in text:
                    return text
        return ""

    def message(name: str) -> str:
        statuses = project.core.read_namespaced_pod(name, project.namespace).status.container_statuses or []
        return "".join(map(ended, statuses))

    for name, text in collect(project, log).items():
        assert "preflight: /dev/shm: 4.0 GiB" in text
        assert "preflight: weights: " in text, "they are read through the driver's volume"
        assert "preflight: network: reaches all 1 other pods" in text
        assert "preflight: failed: pod deepseek-r1-0" in text, name
    for name, text in collect(project, message).items():
        assert text.startswith("preflight failed: pod deepseek-r1-0"), name
        assert "network: the all-reduce over 2 processes has" in text
        assert f"and leastGBps is {UNREACHABLE_GB_S}" in text
        assert "fix: delete the group's pods, so that they get other nodes, or lower the setting" in text
    assert failing.poll() is None, "the update still waits for a group"


def test_verify_says_it(project: Project, failing: subprocess.Popen[str]) -> None:
    """While the pods that have failed stay for a minute, and not while they start again."""
    deadline = time.monotonic() + UP_SECONDS
    said = ""
    while "preflight failed: pod deepseek-r1-0" not in said:
        assert time.monotonic() < deadline, said
        said, _ = project.start("verify").communicate(timeout=UP_SECONDS)
    assert "leastGBps" in said
    assert "fix: delete the group's pods" in " ".join(said.split())
    interrupt(failing)
    failing.communicate(timeout=UP_SECONDS)
