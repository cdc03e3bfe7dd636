"""Breaks a group of the real engine in real pods, and records what a client, the verifier, the health check and the
alerts say of it, and when."""

import base64
import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from kubernetes import client

from local.prometheus import Prometheus
from local.real_nodes.bring_up import NODE_PROCESSES
from local.real_nodes.namespaces import in_network
from tests.e2e.conftest import Project
from tests.e2e.test_real_nodes import all_ready, process

ASK_SECONDS, ALERT_SECONDS = 2, 5
CLIENT_SECONDS = 30
"""A client's patience for an answer of eight tokens."""
PATIENCE_SECONDS = 600
VERIFY = ("--timeout", "20")
KEY = "VLLM_API_KEY"
BRIEF = 120
TOLD = ("Unhealthy", "Failed", "FailedMount", "FailedScheduling", "NodeNotReady", "RecreateGroup")
"""Reasons of events that are recorded: of the kubelet, the scheduler and the controllers."""


def until(condition: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
    """Waits; the limit is that of a machine that is very busy."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(1)


@dataclass
class Seen:
    """What became of one fault; times in seconds since it began."""

    fault: str
    quiet: set[tuple[str, str]] = field(default_factory=set)
    """Alerts that fired before, of the fault before, with their labels."""
    begun: float = field(default_factory=time.monotonic)
    answers: list[tuple[float, str]] = field(default_factory=list)
    """``ok``, or what the client got instead."""
    alerts: dict[str, float] = field(default_factory=dict)
    verified: str = ""
    events: list[str] = field(default_factory=list)

    def since(self) -> float:
        return time.monotonic() - self.begun

    @property
    def wrong(self) -> list[tuple[float, str]]:
        return [one for one in self.answers if one[1] != "ok"]

    @property
    def again(self) -> float | None:
        """When the first answer came after the last failure."""
        last = self.wrong[-1][0] if self.wrong else 0.0
        return next((when for when, what in self.answers if what == "ok" and when > last), None)

    def row(self) -> str:
        """Of the table in docs/faults.md."""
        texts = list(dict.fromkeys(what for _, what in self.wrong))
        first = f" after {self.wrong[0][0]:.0f} s" if self.wrong else ""
        user = f"{'; '.join(texts)}{first}" if texts else "nothing"
        alerts = ", ".join(f"`{name}` ({when:.0f} s)" for name, when in sorted(self.alerts.items(), key=lambda a: a[1]))
        again = f"{self.again:.0f} s" if self.wrong and self.again is not None else "-"
        cells = (self.fault, user, self.verified, "; ".join(self.events) or "-", alerts or "-", again)
        return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


@dataclass
class Patient:
    """The project, watched: a client asks all the time, through the Service."""

    project: Project
    prometheus: Prometheus
    rows: list[str] = field(default_factory=list)
    asking_from: str = NODE_PROCESSES[0]
    is_quiet: bool = False
    """Whether the client asks for nothing now."""
    _seen: Seen | None = None

    def key(self) -> str:
        secrets = self.project.core.list_namespaced_secret(self.project.namespace).items
        (found,) = (secret for secret in secrets if KEY in (secret.data or {}))
        return base64.b64decode(found.data[KEY]).decode()

    def first_process(self, node: str) -> psutil.Process:
        """Of a node's pid namespace."""
        return process(self.project, node).children()[0].children()[0]

    def ask(self) -> str:
        """``ok``, or what went wrong with a chat."""
        (service,) = (
            one
            for one in self.project.core.list_namespaced_service(self.project.namespace).items
            if one.spec.cluster_ip != "None"
        )
        address = (service.spec.cluster_ip, service.spec.ports[0].port)
        body = json.dumps({"model": "ds", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 8})
        headers = {"Authorization": f"Bearer {self.key()}", "Content-Type": "application/json"}
        descriptor = os.open(f"/proc/{self.first_process(self.asking_from).pid}/ns/net", os.O_RDONLY)

        def call() -> str:
            connection = http.client.HTTPConnection(*address, timeout=CLIENT_SECONDS)
            with contextlib.closing(connection):
                connection.request("POST", "/v1/chat/completions", body, headers)
                answer = connection.getresponse()
                answer.read()
                return "ok" if answer.status == http.client.OK else f"HTTP {answer.status}"

        try:
            return in_network(descriptor, call)
        except TimeoutError:
            return f"no answer in {CLIENT_SECONDS} s"
        except ConnectionRefusedError:
            return "connection refused"
        except http.client.HTTPException as error:
            return type(error).__name__
        except OSError as error:
            return (error.strerror or type(error).__name__).lower()
        finally:
            os.close(descriptor)

    def _watch(self, seen: Seen, ended: threading.Event) -> None:
        next_alerts = 0.0
        while not ended.wait(ASK_SECONDS):
            with contextlib.suppress(client.ApiException, ValueError, psutil.Error, IndexError, OSError):
                if not self.is_quiet:
                    what = self.ask()
                    seen.answers.append((seen.since(), what))
            if time.monotonic() >= next_alerts:
                next_alerts = time.monotonic() + ALERT_SECONDS
                with contextlib.suppress(OSError, ValueError):
                    for name, _ in self.firing() - seen.quiet:
                        seen.alerts.setdefault(name, seen.since())

    @contextlib.contextmanager
    def fault(self, name: str) -> Iterator[Seen]:
        """From the moment of the fault until the group answers again."""
        until(lambda: all_ready(self.project) and self.ask() == "ok")
        before = {event.metadata.uid for event in self.events()}
        seen, ended = Seen(name, quiet=self.firing()), threading.Event()
        watch = threading.Thread(target=self._watch, args=(seen, ended))
        watch.start()
        try:
            yield seen
            until(lambda: seen.again is not None and all_ready(self.project))
        finally:
            ended.set()
            watch.join()
            told = [event for event in self.events() if event.metadata.uid not in before and is_told(event)]
            seen.events = list(dict.fromkeys(short(event) for event in told))
            print(seen.row(), flush=True)
        self.rows.append(seen.row())

    def firing(self) -> set[tuple[str, str]]:
        """Name and labels of the alerts that do, after their ``for``."""
        firing = (alert["labels"] for alert in self.prometheus.alerts() if alert["state"] == "firing")
        return {(labels["alertname"], json.dumps(labels, sort_keys=True)) for labels in firing}

    def events(self) -> list[Any]:
        found: list[Any] = self.project.core.list_namespaced_event(self.project.namespace).items
        return found

    def told(self, words: str, begun: Seen) -> bool:
        """Whether an event since the fault has these words."""
        age = begun.since()
        return any(words in (event.message or "") and event_age(event) <= age + 1 for event in self.events())

    def verify(self, seen: Seen) -> str:
        """What make verify says is at fault, and when it was asked."""
        when = seen.since()
        said, _ = self.project.start("verify", *VERIFY).communicate(timeout=PATIENCE_SECONDS)
        last = next((line for line in reversed(said.splitlines()) if line.startswith(("At fault", "The endpoint"))), "")
        seen.verified = f"{brief(last.removeprefix('At fault: '))} ({when:.0f} s)"
        return said

    def engine_processes(self, role: str) -> list[psutil.Process]:
        """All processes of the container of the leader or of the worker."""
        running = [p for name in NODE_PROCESSES for p in below(process(self.project, name))]
        main = [p for p in running if is_engine(p, headless=role == "worker")]
        namespaces = {network(p) for p in main}
        return [p for p in running if network(p) in namespaces and name_of(p) not in ("pause", "")]

    def signal(self, role: str, number: int) -> None:
        """To all processes of the container."""
        for found in self.engine_processes(role):
            with contextlib.suppress(psutil.NoSuchProcess):
                found.send_signal(number)

    def node_of(self, pod: str) -> str:
        """The process that is the node of a pod."""
        name = self.project.pods()[pod].spec.node_name
        nodes = sorted(node.metadata.name for node in self.project.core.list_node().items)
        return NODE_PROCESSES[nodes.index(name)]

    def scale(self, replicas: int) -> None:
        """The LeaderWorkerSet, by hand."""
        self.project.custom.patch_namespaced_custom_object(
            "leaderworkerset.x-k8s.io",
            "v1",
            self.project.namespace,
            "leaderworkersets",
            "deepseek-r1",
            {"spec": {"replicas": replicas}},
        )

    def exhaust_memory(self) -> None:
        """Limits the leader's container to little more than it has, and then lets it take much more."""
        (main, *_) = self.engine_processes("leader")
        limit, used = memory_files(main)
        limit.write_text(str(int(used.read_text()) + 2**26))
        # Many small ones: the kernel kills the largest process of a container.
        taker = "import time; x = b'1' * 2**26; time.sleep(30)"
        command = 'echo $$ > "$0" && for i in $(seq 60); do python3 -c "$1" & done; wait'
        subprocess.Popen(["sh", "-c", command, str(limit.parent / "cgroup.procs"), taker])


def below(node: psutil.Process) -> list[psutil.Process]:
    try:
        return node.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def is_engine(found: psutil.Process, *, headless: bool) -> bool:
    try:
        words = found.cmdline()
    except psutil.Error:
        return False
    return "serve" in words and ("--headless" in words) is headless


def network(found: psutil.Process) -> str:
    try:
        return os.readlink(f"/proc/{found.pid}/ns/net")
    except OSError:
        return ""


def name_of(found: psutil.Process) -> str:
    try:
        return found.name()
    except psutil.Error:
        return ""


def memory_files(found: psutil.Process) -> tuple[Path, Path]:
    """Limit and use of its container, of cgroup version 1 or 2."""
    for line in Path(f"/proc/{found.pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            folder = Path(f"/sys/fs/cgroup/memory{path}")
            return folder / "memory.limit_in_bytes", folder / "memory.usage_in_bytes"
        if not controllers and (folder := Path(f"/sys/fs/cgroup{path}") / "memory.max").exists():
            return folder, folder.with_name("memory.current")
    raise AssertionError("no cgroup of memory")


def is_told(event: Any) -> bool:
    # Each start has failures of the startup probe.
    return event.reason in TOLD and "Startup probe failed" not in (event.message or "")


def short(event: Any) -> str:
    return f"{event.reason}: {brief(event.message or '')}"


def brief(text: str) -> str:
    """Its beginning, without what changes from run to run."""
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r"deepseek-r1-0-\d+", "WORKER", text)
    text = re.sub(r"deepseek-r1-0\b", "LEADER", text)
    text = re.sub(r"\b10(\.\d+){3}\b", "ADDRESS", text)
    text = re.sub(r"\b[0-9a-f]{32,}\b", "ID", text)
    return text if len(text) <= BRIEF else f"{text[:BRIEF]} …"


def event_age(event: Any) -> float:
    when = event.last_timestamp or event.event_time or event.metadata.creation_timestamp
    return time.time() - float(when.timestamp())


STOP, CONTINUE, KILL = signal.SIGSTOP, signal.SIGCONT, signal.SIGKILL
