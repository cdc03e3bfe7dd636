"""A group of two pods that run a real vLLM on this machine's processor."""

import dataclasses
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local import tools
from local.engine.installation import check_machine, engine, installed_engine
from local.go import ToolError
from local.hubs.small_model import make_small_model
from local.monitoring import TOOLS, monitoring
from local.prometheus import Prometheus
from local.real_nodes.bring_up import NETWORK
from local.real_nodes.requirements import problem
from local.tools import cache_directory
from tests.e2e.conftest import Project, make_project
from tests.e2e.test_real_nodes import process
from tests.engine.pods import Group
from tests.unit.conftest import ROOT, group_args

STACK = {
    "model": {
        "name": "deepseek-local/DeepSeek-R1-tiny",
        "configFile": "local/hubs/deepseek_tiny/config.json",
        "servedName": "ds",
    },
    "inference": {
        "gpu": {"series": "GU8TF", "perPod": 1},
        "parallelism": {"tensor": 1, "pipeline": 2},
        "engine": {
            "image": "vllm-cpu:v0.32.0",
            "backend": "mp",
            "maxModelLen": 2048,
            # vLLM's CPU worker prepares the stages of a pipeline only while it traces the model.
            "enforceEager": False,
            "extraArgs": ["--compilation-config.mode=2", "--compilation-config.backend=eager"],
            "env": {"VLLM_CPU_KVCACHE_SPACE": "1"},
        },
    },
    "service": {"apiKey": True, "requestFilter": {"maxBodyMiB": 1}},
}
"""What makes the stack ``local`` one that a CPU can serve."""

START_SECONDS = 900
"""On two busy cores; it takes one minute on idle ones."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests of this folder."""
    folder = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(folder):
            item.add_marker(pytest.mark.engine)


@pytest.fixture(scope="session")
def installed() -> Path:
    """The engine's folder; installs it at the first use."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64") or os.geteuid() != 0:
        pytest.skip("needs Linux on x86-64, and root for network namespaces")
    if installed_engine() is None:
        cache_directory().mkdir(parents=True, exist_ok=True)
        try:
            check_machine(cache_directory())
        except ToolError as lacking:
            pytest.skip(str(lacking))
    return engine(lambda line: print(line, file=sys.stderr, flush=True))


@pytest.fixture(scope="session")
def group(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    """Ready to serve."""
    folder = tmp_path_factory.mktemp("group")
    args = dataclasses.replace(group_args(STACK, stack="local"), api_key_secret="keys")
    group = Group(args, engine=installed, model=make_small_model(folder / "model"), folder=folder)
    try:
        group.start()
        print(f"ready after {group.wait(START_SECONDS):.0f} s", file=sys.stderr)
        yield group
    finally:
        group.stop()


@pytest.fixture(scope="session")
def project(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The stack ``local-vllm``, to be brought up, with checks and monitoring."""
    if lacking := problem((ROOT, cache_directory())):
        pytest.skip(lacking)
    tools.build_all([*tools.NODE_TOOLS, *TOOLS])
    found = make_project(tmp_path_factory.mktemp("vllm"), "local-vllm")
    found.variables["NODES"] = "real"
    checks = {"healthCheck": {"stallSeconds": 60, "canary": True}, "lostNodeSeconds": 30}
    objectives = {"timeToFirstTokenSeconds": 10, "interTokenSeconds": 0.1}
    found.change(
        inference={"lifecycle": {"requestSeconds": 60, **checks}},
        observability={"labels": {"release": "prometheus"}, "alerts": objectives, "dashboard": {}},
    )
    yield found
    found.stop()


@pytest.fixture(scope="session")
def prometheus(project: Project) -> Iterator[Prometheus]:
    """For the stack ``local-vllm`` once it is up."""
    network = process(project, NETWORK).pid
    with monitoring(project.cluster, project.folder / "monitoring", project.namespace, network=network) as found:
        yield found
