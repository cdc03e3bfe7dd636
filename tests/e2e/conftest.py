"""A copy of the project with an embedded cluster of its own, and the driver as the Makefile calls it."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import psutil
import pytest
import yaml
from kubernetes import client, config

from local import tools
from local.cluster import Cluster
from local.ports import held_port
from local.pulumi_environment import PROVIDER
from local.services import Services
from local.stack import CLUSTER_FOLDER, STATE_FOLDER

ROOT = Path(__file__).parents[2]
PARTS = (
    "__main__.py",
    "components",
    "deepseek_acs",
    "local",
    "Pulumi.yaml",
    "Pulumi.dev.yaml",
    "Pulumi.local.yaml",
    "Pulumi.local-fluid.yaml",
    "Pulumi.local-prod.yaml",
    "Pulumi.local-vllm.yaml",
)
COMMAND_SECONDS = 300
EVENTUALLY_SECONDS = 60
IS_OFFICIAL = os.environ.get(PROVIDER) == "official"
"""Whether the kubernetes plugin is Pulumi's own."""


class Project:
    """The copy, and one stack of it; ``run`` is ``make`` without make."""

    def __init__(self, folder: Path, stack: str) -> None:
        self.folder = folder
        self.stack = stack
        self.cluster = Cluster(folder / CLUSTER_FOLDER)
        self.addresses: dict[str, str] = {}
        self._held = contextlib.ExitStack()
        self._api: tuple[int, Any] | None = None
        self.variables = {"NODES": "simulated"}
        """Of the environment of commands, in addition to what is always there."""
        self.said: list[str] = []
        """All output of commands so far."""

    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PULUMI_", "ALICLOUD_", "KUBECONFIG"))}
        # A stack of the real cloud is only previewed here, and nothing of that leaves this machine.
        offline = {"https_proxy": "http://127.0.0.1:9", "no_proxy": "127.0.0.1,localhost"}
        return {
            **kept,
            **offline,
            "HOME": str(self.folder / "home"),
            "DEEPSEEK_CACHE": str(tools.cache_directory()),
            **self.variables,
        }

    def start(self, command: str, *options: str, stack: str = "", policy: str = "off") -> subprocess.Popen[str]:
        own = ["--stack", stack or self.stack, "--policy", policy]
        return subprocess.Popen(
            [sys.executable, "-m", "local", command, *own, "--", *options],
            cwd=self.folder,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(
        self,
        command: str,
        *options: str,
        stack: str = "",
        policy: str = "off",
        fails: bool = False,
        previewed: bool = False,
    ) -> str:
        """Gives the output. ``previewed``: an ``up`` that succeeds runs the program twice, as a user's does."""
        if command == "up" and not (fails or previewed):
            options = ("--skip-preview", *options)
        process = self.start(command, *options, stack=stack, policy=policy)
        output, _ = process.communicate(timeout=COMMAND_SECONDS)
        self.said.append(output)
        assert (process.returncode != 0) is fails, output
        return output

    def pulumi(self, *arguments: str, given: str = "") -> str:
        """Plain pulumi, in the shell that ``make env`` makes; ``given`` is its standard input."""
        exports = [line for line in self.run("env").splitlines() if line.startswith("export ")]
        done = subprocess.run(
            ["bash", "-c", "\n".join([*exports, 'exec pulumi "$@"']), "pulumi", *arguments],
            cwd=self.folder,
            env=self.environment(),
            input=given,
            capture_output=True,
            text=True,
            check=False,
        )
        self.said.append(done.stdout + done.stderr)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def settings(self) -> dict[str, Any]:
        """The stack's settings."""
        content = yaml.safe_load(self._file.read_text())
        deployment: dict[str, Any] = content["config"]["deepseek:deployment"]
        return deployment

    def change(self, **changes: Any) -> None:
        """Changes the stack's settings: ``inference={"replicas": 2}``; a section with a kind is replaced, and None
        removes a setting or a section."""
        content = yaml.safe_load(self._file.read_text())
        deployment = content["config"]["deepseek:deployment"]
        for section, values in changes.items():
            if values is None:
                del deployment[section]
                continue
            kept = {} if "kind" in values else deployment.get(section, {})
            deployment[section] = {k: v for k, v in {**kept, **values}.items() if v is not None}
        self._file.write_text(yaml.safe_dump(content))

    @property
    def _file(self) -> Path:
        return self.folder / f"Pulumi.{self.stack}.yaml"

    @property
    def namespace(self) -> str:
        return str(self.settings()["cluster"]["namespace"])

    @property
    def api(self) -> Any:
        """A client of the cluster, the same one until the cluster is another: each costs 70 ms of CPU time."""
        written = self.cluster.kubeconfig.stat().st_mtime_ns
        if self._api is None or self._api[0] != written:
            self._api = written, config.new_client_from_config(str(self.cluster.kubeconfig))
        return self._api[1]

    @property
    def core(self) -> Any:
        return client.CoreV1Api(self.api)

    @property
    def custom(self) -> Any:
        return client.CustomObjectsApi(self.api)

    @property
    def discovery(self) -> Any:
        return client.DiscoveryV1Api(self.api)

    def pods(self) -> dict[str, Any]:
        """The pods of the group by name."""
        label = "leaderworkerset.sigs.k8s.io/name"
        found = self.core.list_namespaced_pod(self.namespace, label_selector=label).items
        return {pod.metadata.name: pod for pod in found}

    def group(self) -> Any:
        return self.custom.get_namespaced_custom_object(
            "leaderworkerset.x-k8s.io", "v1", self.namespace, "leaderworkersets", "deepseek-r1"
        )

    @property
    def batch(self) -> Any:
        return client.BatchV1Api(self.api)

    def control(self, service: str, method: str, path: str, body: object = None) -> Any:
        """Asks a control endpoint of ``oss`` or ``hub`` (``local/http_service.py``); gives its answer, if any."""
        data = json.dumps(body).encode() if body is not None else None
        request = Request(f"{self.addresses[service]}/-/{path}", method=method, data=data)
        with urlopen(request, timeout=10) as response:
            return json.loads(response.read() or "null")

    def use_free_ports(self) -> None:
        """Another stack of this machine may be up at the ports of the stack file."""
        for service in ("oss", "hub"):
            self.addresses[service] = f"http://127.0.0.1:{self._held.enter_context(held_port())}"
        source = self.settings()["weights"]["source"]
        self.change(
            cloud={"endpoint": self.addresses["oss"]}, weights={"source": {**source, "endpoint": self.addresses["hub"]}}
        )

    def state(self) -> dict[str, Any]:
        """The stack's checkpoint, empty before its first update."""
        (file,) = (self.folder / STATE_FOLDER).glob(f"{self.stack}.json")
        latest: dict[str, Any] = json.loads(file.read_text())["checkpoint"].get("latest") or {}
        return latest

    def stop(self) -> None:
        Services(self.folder / CLUSTER_FOLDER).stop()
        self.cluster.stop(delete=True)
        # The official plugin of a killed engine lives on.
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("HOME") == self.environment()["HOME"]:
                    process.kill()
        self._held.close()


LONGEST = (
    "test_gate.py",
    "test_real_nodes.py",
    "test_local_stack.py",
    "test_no_request_is_lost.py",
    "test_real_stacks.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that none of them is left to the end. Tests of a file stay in their order."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    found = make_project(tmp_path_factory.mktemp("project"), "local")
    yield found
    found.stop()


def make_project(folder: Path, stack: str) -> Project:
    """A copy in ``folder``, for one stack; the caller stops it."""
    # Here, with this user's Go caches, and not under the time limit of a command: a first build takes minutes.
    official = [tools.OFFICIAL_KUBERNETES] if IS_OFFICIAL else []
    tools.build_all([*tools.CLUSTER_TOOLS, "pulumi", *official])
    for part in PARTS:
        source = ROOT / part
        copy: Callable[..., Any] = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, folder / part)
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / "home").mkdir()
    found = Project(folder, stack)
    found.use_free_ports()
    return found


def install_policy_pack(folder: Path) -> None:
    """Copies the policy pack into a copy of the project, with the environment that ``make`` has made for it."""
    shutil.copytree(ROOT / "policy", folder / "policy", ignore=shutil.ignore_patterns(".venv"))
    (folder / "policy" / ".venv").symlink_to(ROOT / "policy" / ".venv")


def left_in_namespace(project: Project) -> set[str]:
    """Names of what a destroyed stack has left in its namespace."""
    core, namespace = project.core, project.namespace
    listed = (
        core.list_namespaced_config_map,
        core.list_namespaced_secret,
        core.list_namespaced_service,
        core.list_namespaced_persistent_volume_claim,
        project.batch.list_namespaced_job,
    )
    found = {item.metadata.name for list_ in listed for item in list_(namespace).items}
    groups = project.custom.list_namespaced_custom_object(
        "leaderworkerset.x-k8s.io", "v1", namespace, "leaderworkersets"
    )["items"]
    return found | {group["metadata"]["name"] for group in groups}


def uids(project: Project) -> set[str]:
    """Of the pods of all groups."""
    return {pod.metadata.uid for pod in project.pods().values()}


def eventually(condition: Callable[[], bool], *, seconds: float = EVENTUALLY_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.2)


def interrupt(process: subprocess.Popen[str]) -> None:
    """Ctrl-C: the terminal tells every process of the group."""
    os.killpg(process.pid, signal.SIGINT)


def kill(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
