"""Liveness checks and stop hooks of the engine's pods, one command for each.

    drain         stop hook of a leader: returns when the running requests are done
    outlast       stop hook of a worker: returns when the leader has ended
    check-engine  liveness of a leader: fails when the engine is dead or stuck
    check-leader  liveness of a worker: fails when the leader cannot be reached

The engine is known by its metrics (https://docs.vllm.ai/en/stable/usage/metrics.html). What cannot be read is never
held against it: a wrong verdict costs a reload of the model.
"""

from __future__ import annotations

import argparse
import http.client
import ipaddress
import json
import os
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

REQUESTS = ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:num_requests_swapped")
"""Gauges of what the engine still has to do."""

PROGRESS = (
    "vllm:prompt_tokens_total",
    "vllm:generation_tokens_total",
    "vllm:iteration_tokens_total_count",
    "vllm:request_success_total",
)
"""Counters of which at least one moves in every step of the engine."""

HTTP_SECONDS = 8
"""Longest wait for one answer: a check makes three requests and has 30 s."""

IDLE_READINGS = 3
"""Readings of no request, a second apart: one can still be on its way through the server."""

STUCK_SECONDS = 120
"""Time without progress after which a stop hook no longer waits. A prompt of 160,000 tokens takes less."""

LOOKUP_OPTIONS = "timeout:2 attempts:2"
"""For the C library, whose own patience with name servers that do not answer is as long as a check's."""

LOST_READINGS = 3
LOST_PERIOD_SECONDS = 5

CANARY_SECONDS = 300
"""Longest time between two requests of the check's own on an engine that has nothing to do."""

GAP_SECONDS = 180
"""Checks further apart than this are unrelated: the container was restarted, or checks were suspended."""

STATE_FILE = "/dev/shm/engineprobe.json"  # noqa: S108 - in the pod, the one place that can always be written
"""What the last check saw."""

CONNECTIONS = ("/proc/net/tcp", "/proc/net/tcp6")
"""TCP connections of the pod (https://man7.org/linux/man-pages/man5/proc_pid_net.5.html)."""

ESTABLISHED = "01"

LOG_FILE = "/proc/1/fd/1"
"""The container's log: Kubernetes shows the output of a hook nowhere."""


class Load(NamedTuple):
    """Requests that the engine has, and the sum of the counters that its steps move."""

    requests: float
    progress: float


class Clock:
    """Time in seconds that no change of the date disturbs, the same for all processes of a machine."""

    def now(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class Engine:
    """The engine's server on this pod."""

    def __init__(self, port: int) -> None:
        self.port = port

    def listens(self) -> bool:
        """Whether the server is there at all."""
        return can_connect("127.0.0.1", self.port)

    def is_healthy(self) -> bool:
        """What vLLM says of itself."""
        return self._ask("/health") == 200

    def load(self) -> Load | None:
        """None where the metrics cannot be read, or do not tell the requests."""
        try:
            with self._open("/metrics", headers=_authorization()) as answer:
                return parse(answer.read().decode("utf-8", "replace"))
        except (OSError, http.client.HTTPException, ValueError):
            return None

    def complete(self, model: str) -> int | None:
        """The status of a request for one token; None without an answer in time."""
        body = json.dumps({"model": model, "prompt": "1", "max_tokens": 1}).encode()
        return self._ask("/v1/completions", body, {"Content-Type": "application/json", **_authorization()})

    def _ask(self, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> int | None:
        """The status of the answer; None if there is none in time."""
        try:
            with self._open(path, body, headers) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except (OSError, http.client.HTTPException):
            return None

    def _open(self, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Any:
        url = f"http://127.0.0.1:{self.port}{path}"
        request = urllib.request.Request(url, data=body, headers=headers or {})
        # No proxy of the environment may come between.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        return opener.open(request, timeout=HTTP_SECONDS)


def _authorization() -> dict[str, str]:
    """The header with the engine's own key, if it has one."""
    key = os.environ.get("VLLM_API_KEY")
    return {"Authorization": f"Bearer {key}"} if key else {}


def parse(metrics: str) -> Load | None:
    """The load in Prometheus' text format, summed over all labels."""
    requests = progress = 0.0
    known = False
    for line in metrics.splitlines():
        name = line.split("{", 1)[0].split(" ", 1)[0]
        if name in REQUESTS:
            requests, known = requests + float(line.rsplit(" ", 1)[1]), True
        elif name in PROGRESS:
            progress += float(line.rsplit(" ", 1)[1])
    return Load(requests, progress) if known else None


def can_connect(host: str, port: int, *, without_dns: bool = False) -> bool:
    """Whether a server listens there; not if the name is unknown. ``without_dns`` is the answer while no name server
    gives one."""
    try:
        with socket.create_connection((host, port), timeout=HTTP_SECONDS):
            return True
    except socket.gaierror as error:
        return without_dns and error.errno == socket.EAI_AGAIN
    except OSError:
        return False


def is_connected(host: str, tables: Sequence[str] = CONNECTIONS) -> bool:
    """Whether this pod has a connection with the host. Also if the name or the connections cannot be read."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        rows = [line.split() for table in tables for line in _lines(table)]
    except OSError:
        return True
    peers = {_address(row[2]) for row in rows if row[3] == ESTABLISHED}
    return any(ipaddress.ip_address(address[0]) in peers for *_, address in found)


def _lines(table: str) -> list[str]:
    """Without the heading."""
    with open(table, encoding="ascii") as file:
        return file.readlines()[1:]


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """From ADDRESS:PORT in words of 32 bits, each of which is hexadecimal in the order of the machine's bytes."""
    words = bytes.fromhex(text.partition(":")[0])
    packed = b"".join(words[i : i + 4][:: -1 if sys.byteorder == "little" else 1] for i in range(0, len(words), 4))
    address = ipaddress.ip_address(packed)
    return getattr(address, "ipv4_mapped", None) or address


def drain(engine: Engine, *, announce_seconds: float, request_seconds: float, clock: Clock) -> str:
    """Waits until no request is left, but at most ``request_seconds``; returns why it ended.

    For ``announce_seconds`` before, requests still come, because not all clients know yet that the pod is terminating.
    """
    if not engine.listens():
        return "the server is not up, so there are no requests"
    clock.sleep(announce_seconds)
    start = moved = clock.now()
    progress: float | None = None
    idle = 0
    while clock.now() - start < request_seconds:
        load = engine.load()
        if load is None and not engine.listens():
            return "the engine has ended"
        if load is not None:
            idle = idle + 1 if load.requests == 0 else 0
            if idle == IDLE_READINGS:
                return f"all requests are done after {clock.now() - start:.0f} s"
            if load.progress != progress:
                progress, moved = load.progress, clock.now()
            elif load.requests and clock.now() - moved >= STUCK_SECONDS:
                return f"the engine is stuck with {load.requests:.0f} requests"
        clock.sleep(1)
    return f"requests that still run after {request_seconds:.0f} s are cut off"


def outlast(leader_is_there: Callable[[], bool], *, seconds: float, clock: Clock) -> str:
    """Waits until the leader has ended, but at most so long; returns why it ended."""
    start = clock.now()
    missed = 0
    while clock.now() - start < seconds:
        missed = 0 if leader_is_there() else missed + 1
        if missed == LOST_READINGS:
            return f"the leader has ended after {clock.now() - start:.0f} s"
        clock.sleep(LOST_PERIOD_SECONDS)
    return f"the leader is still there after {seconds:.0f} s"


class Watch(NamedTuple):
    """What a check remembers; times in seconds of ``Clock``."""

    seen: float
    progress: float
    moved: float
    """When ``progress`` last changed, or nothing was to be done."""
    alive: float
    """When ``progress`` last changed, or the engine last answered a request of the check's own."""
    unanswered: bool = False
    """Whether the last such request had no answer."""


def observe(before: Watch | None, load: Load, now: float) -> Watch:
    """The memory after a reading of the metrics."""
    if before is None or not 0 <= now - before.seen <= GAP_SECONDS:
        return Watch(seen=now, progress=load.progress, moved=now, alive=now)
    if load.progress != before.progress:
        return Watch(seen=now, progress=load.progress, moved=now, alive=now)
    return before._replace(seen=now, moved=before.moved if load.requests else now)


def check_engine(
    engine: Engine, before: Watch | None, *, stall_seconds: float, model: str, canary: bool, now: float
) -> tuple[Watch | None, str | None]:
    """What to remember, and what is wrong: the engine says so itself; or it has requests, does nothing for
    ``stall_seconds``, and completes no request of the check's own, because the number of requests can be stale after
    clients have left; or, with ``canary``, it seems idle and gives no sign of life for as long, although it is asked.

    The gauges change only in the engine's steps. An engine that hangs before the first step of its requests therefore
    seems idle, and only the canary can tell."""
    if not engine.is_healthy():
        return before, "/health does not answer 200"
    load = engine.load()
    if load is None:
        return before, None
    watch = observe(before, load, now)
    if now - watch.moved >= stall_seconds:
        if engine.complete(model) == 200:
            return watch._replace(moved=now), None
        return watch, f"{load.requests:.0f} requests and no progress for {now - watch.moved:.0f} s"
    period = min(CANARY_SECONDS, stall_seconds / 2)
    if canary and not load.requests and (watch.unanswered or now - watch.alive >= period):
        # A refusal is an answer, too: nothing is known of the engine then, and nothing held against it.
        if engine.complete(model) is not None:
            return watch._replace(alive=now, unanswered=False), None
        watch = watch._replace(unanswered=True)
    if watch.unanswered and now - watch.alive >= stall_seconds:
        return watch, f"no answer to a request for one token for {now - watch.alive:.0f} s"
    return watch, None


def recall(path: str) -> Watch | None:
    """What the last check remembered; None if that cannot be read."""
    try:
        with open(path, encoding="utf-8") as file:
            return Watch(**json.load(file))
    except (OSError, ValueError, TypeError):
        return None


def remember(path: str, watch: Watch | None) -> None:
    """Saves it atomically for the next check. What cannot be saved starts again."""
    if watch is None:
        return
    try:
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            json.dump(watch._asdict(), file)
        os.replace(f"{path}.new", path)
    except OSError as error:
        print(error)


def leader() -> str:
    """Host name of the group's leader, as the LeaderWorkerSet controller gives it."""
    return os.environ["LWS_LEADER_ADDRESS"]


def say(text: str, log_file: str) -> None:
    """Tells why a hook ended; a log that cannot be written must not keep it from ending."""
    try:
        with open(log_file, "w", encoding="utf-8") as log:
            log.write(f"engineprobe: {text}\n")
    except OSError as error:
        print(error)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="engineprobe", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("drain", "check-engine"):
        command = commands.add_parser(name)
        command.add_argument("--port", type=int, required=True, help="of the engine's server on this pod")
    drained, checked = commands.choices["drain"], commands.choices["check-engine"]
    drained.add_argument("--announce-seconds", type=float, required=True)
    drained.add_argument("--request-seconds", type=float, required=True)
    checked.add_argument("--stall-seconds", type=float, required=True)
    checked.add_argument("--model", required=True, help="name under which the engine serves it")
    checked.add_argument("--canary", action="store_true", help="ask for a token now and then when idle")
    checked.add_argument("--state-file", default=STATE_FILE)
    for name in ("outlast", "check-leader"):
        # The leader's name is read from the environment: Kubernetes puts no variables into the commands of hooks.
        command = commands.add_parser(name)
        command.add_argument("--port", type=int, required=True, help="where the pods of the group meet")
    commands.choices["outlast"].add_argument("--seconds", type=float, required=True)
    commands.choices["check-leader"].add_argument(
        "--met", action="store_true", help="it was reached before: without DNS, nothing is held against it"
    )
    for name in ("drain", "outlast"):
        commands.choices[name].add_argument("--log-file", default=LOG_FILE)
    return parser


def main() -> int:
    options = arguments().parse_args()
    os.environ.setdefault("RES_OPTIONS", LOOKUP_OPTIONS)
    clock = Clock()
    if options.command == "drain":
        engine = Engine(options.port)
        limits = {"announce_seconds": options.announce_seconds, "request_seconds": options.request_seconds}
        say(drain(engine, clock=clock, **limits), options.log_file)
        return 0
    if options.command == "outlast":

        def own_leader_is_there() -> bool:
            # After an update or a restart, the next leader has the name already, and no connection with this pod.
            return is_connected(leader()) and can_connect(leader(), options.port, without_dns=True)

        ending = outlast(own_leader_is_there, seconds=options.seconds, clock=clock)
        say(ending, options.log_file)
        return 0
    if options.command == "check-leader":
        reached = can_connect(leader(), options.port, without_dns=options.met)
        wrong = None if reached else f"{leader()}:{options.port} cannot be reached"
    else:
        watch, wrong = check_engine(
            Engine(options.port),
            recall(options.state_file),
            stall_seconds=options.stall_seconds,
            model=options.model,
            canary=options.canary,
            now=clock.now(),
        )
        remember(options.state_file, watch)
    # The output of a check that fails becomes part of the pod's events.
    print(wrong or "ok")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
