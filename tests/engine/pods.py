"""A group's pods as processes: the containers of the emitted pod templates, each in a network namespace of its own.

Command, environment and files are the template's. Paths in them are those of this machine, because there is no image.
"""

import contextlib
import ctypes
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import psutil

from components.group_args import InferenceGroupArgs
from components.inference_group import pod_template
from components.labels import WORKER_INDEX_LABEL
from components.lifecycle import Role
from components.request_filter import KEYS_PATH, MOUNT_PATH, RequestFilterArgs
from local.pod_runner.container import expanded, relocated
from tests.integration.filter_cases import CLIENT_KEY, KEY, METRICS_KEY, TIMEOUT

ROLES: tuple[Role, ...] = ("leader", "worker")
KEYS = {"VLLM_API_KEY": KEY.decode(), "client-chat": CLIENT_KEY.decode(), "metrics": METRICS_KEY.decode()}
HOST = "r1-0.r1.n"
ADDRESSES = {"leader": "10.99.0.1", "worker": "10.99.0.2"}
"""Within the two namespaces, which are connected to nothing else."""


@dataclass
class Pod:
    """One container that runs."""

    role: str
    namespace: str
    process: subprocess.Popen[bytes]
    log: Path

    def processes(self) -> list[psutil.Process]:
        """All that run in its namespace."""
        done = subprocess.run(["ip", "netns", "pids", self.namespace], capture_output=True, text=True, check=True)
        return [psutil.Process(int(pid)) for pid in done.stdout.split()]

    def send_signal(self, number: int) -> None:
        """To all of its processes."""
        for process in self.processes():
            process.send_signal(number)

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Another command in the pod, as ``kubectl exec`` does."""
        return subprocess.run(
            ["ip", "netns", "exec", self.namespace, *command],
            capture_output=True,
            text=True,
            env={**os.environ, **environment},
            timeout=300,
        )


@dataclass(frozen=True)
class Answer:
    """Of the leader's server."""

    status: int
    body: bytes = field(repr=False)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Group:
    """Leader and worker. ``folder`` gets their files and logs."""

    def __init__(self, args: InferenceGroupArgs, *, engine: Path, model: Path, folder: Path) -> None:
        self._args, self._engine, self._model, self._folder = args, engine, model, folder
        self.pods: dict[str, Pod] = {}

    @property
    def leader(self) -> Pod:
        return self.pods["leader"]

    @property
    def worker(self) -> Pod:
        return self.pods["worker"]

    def start(self) -> None:
        """Starts both pods."""
        _remove_abandoned()
        namespaces = {role: f"engine-{os.getpid()}-{role}" for role in ROLES}
        for namespace in namespaces.values():
            _ip("netns", "add", namespace)
        _ip(
            "link",
            "add",
            "eth0",
            "netns",
            namespaces["leader"],
            *["type", "veth", "peer", "name", "eth0", "netns"],
            namespaces["worker"],
        )
        for role, namespace in namespaces.items():
            _ip("-n", namespace, "addr", "add", f"{ADDRESSES[role]}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                _ip("-n", namespace, "link", "set", device, "up")
        for role in ROLES:
            self.pods[role] = self._pod(role, namespaces[role])

    def stop(self) -> None:
        """Ends everything in both namespaces, and removes them."""
        for pod in self.pods.values():
            # It may not have entered its namespace yet.
            pod.process.kill()
            pod.process.wait()
            pod.send_signal(signal.SIGKILL)
            _ip("netns", "delete", pod.namespace)

    def wait(self, seconds: float) -> float:
        """Until the leader is ready; the seconds that it took."""
        start = time.monotonic()
        while self.status("/health") != 200:
            took = time.monotonic() - start
            ended = [pod.role for pod in self.pods.values() if pod.process.poll() is not None]
            assert not ended, f"{ended} has ended: {self.pods[ended[0]].log.read_text()[-3000:]}"
            assert took < seconds, self.leader.log.read_text()[-3000:]
            time.sleep(0.5)
        return time.monotonic() - start

    def ask(self, path: str, body: Any = None, *, key: str = "", seconds: float = 60) -> Answer:
        """One request from within the leader's namespace. Raises OSError."""
        with self._connected(seconds) as connection:
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            if body is None:
                connection.request("GET", path, headers=headers)
            else:
                connection.request("POST", path, json.dumps(body), {**headers, "Content-Type": "application/json"})
            answer = connection.getresponse()
            return Answer(answer.status, answer.read())

    def connected(self) -> socket.socket:
        """A connection to the leader's port from within its namespace."""
        return _socket_in(self.leader.namespace, self._args.port, TIMEOUT)

    def status(self, path: str, *, key: str = "") -> int | None:
        """None without an answer."""
        try:
            return self.ask(path, key=key, seconds=5).status
        except (OSError, http.client.HTTPException):
            return None

    @contextmanager
    def _connected(self, seconds: float) -> Iterator[http.client.HTTPConnection]:
        connection = http.client.HTTPConnection("127.0.0.1", self._args.port, timeout=seconds)
        connection.sock = _socket_in(self.leader.namespace, self._args.port, seconds)
        try:
            yield connection
        finally:
            connection.close()

    def _pod(self, role: Role, namespace: str) -> Pod:
        folder = self._folder / role
        places = self._files(folder)
        (container,) = pod_template(role, self._args)["spec"]["containers"]
        variables = {
            "LWS_GROUP_SIZE": "2",
            "LWS_LEADER_ADDRESS": HOST,
            **self._environment(role, container["env"]),
        }
        words = [relocated(expanded(word, variables), places) for word in container["command"]]
        environment = {
            "PATH": f"{self._engine / 'bin'}:/usr/bin:/bin",
            "HOME": str(folder / "home"),
            "HF_HUB_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            **{name: relocated(value, places) for name, value in variables.items()},
        }
        name = HOST.partition(".")[0] + ("" if role == "leader" else "-1")
        hosts = f"127.0.0.1 localhost\n{ADDRESSES['leader']} {HOST} r1-0\n{ADDRESSES['worker']} r1-0-1\n"
        (folder / "hosts").write_text(hosts)
        inside = f'mount --bind {folder / "hosts"} /etc/hosts && hostname {name} && exec "$@"'
        log = folder / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["ip", "netns", "exec", namespace, "unshare", "--mount", "--uts", "sh", "-c", inside, "sh", *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=folder,
                start_new_session=True,
            )
        return Pod(role, namespace, process, log)

    def _environment(self, role: Role, entries: list[Mapping[str, Any]]) -> dict[str, str]:
        fields = {
            "status.podIP": ADDRESSES[role],
            f"metadata.labels['{WORKER_INDEX_LABEL}']": str(ROLES.index(role)),
        }
        found = {}
        for entry in entries:
            match entry.get("valueFrom"):
                case None:
                    found[entry["name"]] = entry["value"].replace("$$", "$")
                case {"fieldRef": {"fieldPath": path}}:
                    found[entry["name"]] = fields[path]
                case {"secretKeyRef": {"key": key}}:
                    found[entry["name"]] = KEYS[key]
        return found

    def _files(self, folder: Path) -> dict[str, Path]:
        """The volumes, by where the template mounts them."""
        (folder / "home").mkdir(parents=True)
        places = {self._args.model_path: self._model, MOUNT_PATH: folder / "filter", KEYS_PATH: folder / "keys"}
        for place in (places[MOUNT_PATH], places[KEYS_PATH]):
            place.mkdir()
        for name, key in KEYS.items():
            (places[KEYS_PATH] / name).write_text(key)
        source = files("deepseek_acs.requestfilter").joinpath("program.py")
        shutil.copyfile(str(source), places[MOUNT_PATH] / "requestfilter.py")
        settings = self._args.request_filter
        assert isinstance(settings, RequestFilterArgs)
        (places[MOUNT_PATH] / "settings.json").write_text(relocated(settings.settings, places))
        return places


def _remove_abandoned() -> None:
    """The namespaces of test runs that were killed, with all that still runs in them."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
    for name, owner in re.findall(r"^(engine-(\d+)-\w+)", listed.stdout, re.MULTILINE):
        if not psutil.pid_exists(int(owner)):
            pids = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=True)
            for pid in pids.stdout.split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            _ip("netns", "delete", name)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


def _socket_in(namespace: str, port: int, seconds: float) -> socket.socket:
    """A socket keeps the network that its thread had when it was made."""
    with open("/proc/self/ns/net") as own, open(f"/run/netns/{namespace}") as other:
        _enter(other.fileno())
        try:
            made = socket.create_connection(("127.0.0.1", port), timeout=seconds)
        finally:
            _enter(own.fileno())
    return made


_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000


def _enter(namespace: int) -> None:
    # os.setns is new in Python 3.12.
    if _LIBC.setns(namespace, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
