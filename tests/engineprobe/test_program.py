"""The stop hooks and checks, on an engine and a clock of the test's own."""

import ast
import socket
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from deepseek_acs.engineprobe.program import (
    CANARY_SECONDS,
    GAP_SECONDS,
    STUCK_SECONDS,
    Clock,
    Engine,
    Load,
    Watch,
    can_connect,
    check_engine,
    drain,
    is_connected,
    observe,
    outlast,
    parse,
    recall,
    remember,
)
from local.ports import held_port

STALL = 300
PERIOD = 30


class FakeClock(Clock):
    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


class FakeEngine(Engine):
    """``loads(seconds)`` is what the metrics tell so long after the start; it listens until ``ends``."""

    def __init__(self, clock: FakeClock, loads: Callable[[float], Load | None], ends: float = 1e9) -> None:
        self.clock, self.loads, self.ends, self.start = clock, loads, ends, clock.time
        self.healthy = True
        self.status: int | None = 200
        self.asked: list[str] = []

    def listens(self) -> bool:
        return self.clock.time - self.start < self.ends

    def is_healthy(self) -> bool:
        return self.healthy

    def load(self) -> Load | None:
        return self.loads(self.clock.time - self.start) if self.listens() else None

    def complete(self, model: str) -> int | None:
        self.asked.append(model)
        return self.status


def drained(loads: Callable[[float], Load | None], *, ends: float = 1e9, limit: float = 600) -> tuple[str, float]:
    clock = FakeClock()
    engine = FakeEngine(clock, loads, ends)
    ending = drain(engine, announce_seconds=15, request_seconds=limit, clock=clock)
    return ending, clock.time - engine.start


class TestDrain:
    def test_waits_until_the_last_request_is_done(self) -> None:
        ending, seconds = drained(lambda s: Load(2 if s < 100 else 0, s))
        assert ending.startswith("all requests are done after")
        assert 100 <= seconds <= 105

    def test_an_idle_engine_still_waits_for_those_who_do_not_know_yet(self) -> None:
        _, seconds = drained(lambda s: Load(0, 7))
        assert 15 <= seconds <= 20

    def test_a_moment_without_requests_is_not_the_end(self) -> None:
        _, seconds = drained(lambda s: Load(0 if int(s) % 3 == 0 or s > 60 else 1, s))
        assert seconds > 60

    def test_ends_with_the_patience_for_the_longest_request(self) -> None:
        ending, seconds = drained(lambda s: Load(1, s))
        assert ending == "requests that still run after 600 s are cut off"
        assert 615 <= seconds <= 616

    def test_does_not_wait_where_nothing_listens(self) -> None:
        ending, seconds = drained(lambda s: None, ends=0)
        assert ending.startswith("the server is not up")
        assert seconds == 0

    def test_an_engine_that_ends_meanwhile_is_not_waited_for(self) -> None:
        ending, seconds = drained(lambda s: Load(1, s), ends=50)
        assert ending == "the engine has ended"
        assert seconds == 50

    def test_a_stuck_engine_does_not_hold_its_gpus(self) -> None:
        ending, seconds = drained(lambda s: Load(3, min(s, 40)))
        assert ending == "the engine is stuck with 3 requests"
        assert 40 + STUCK_SECONDS <= seconds <= 45 + STUCK_SECONDS

    def test_metrics_that_cannot_be_read_prove_nothing(self) -> None:
        ending, _ = drained(lambda s: None)
        assert "are cut off" in ending


class TestOutlast:
    def wait(self, there: Callable[[float], bool], seconds: float = 600) -> tuple[str, float]:
        clock = FakeClock()
        ending = outlast(lambda: there(clock.time - 1000), seconds=seconds, clock=clock)
        return ending, clock.time - 1000

    def test_a_worker_stays_as_long_as_its_leader(self) -> None:
        ending, seconds = self.wait(lambda s: s < 200)
        assert ending.startswith("the leader has ended")
        assert 200 < seconds <= 215

    def test_one_lost_packet_ends_nothing(self) -> None:
        _, seconds = self.wait(lambda s: s not in (50, 55) and s < 200)
        assert seconds > 200

    def test_it_does_not_wait_for_ever(self) -> None:
        assert self.wait(lambda s: True) == ("the leader is still there after 600 s", 600)


class TestConnections:
    ADDRESS = "127.45.6.7"

    def test_a_connection_is_seen_as_long_as_it_is_open(self) -> None:
        with socket.create_server((self.ADDRESS, 0)) as server:
            assert not is_connected(self.ADDRESS)
            with socket.create_connection(server.getsockname()):
                assert is_connected(self.ADDRESS)

    def test_a_leader_that_has_ended_is_not_connected(self) -> None:
        with (
            socket.create_server((self.ADDRESS, 0)) as server,
            socket.create_connection(server.getsockname()) as worker,
        ):
            server.accept()[0].close()
            assert worker.recv(1) == b""
            assert not is_connected(self.ADDRESS)

    @pytest.mark.parametrize(
        ("host", "remote"),
        [
            ("::1", "00000000000000000000000001000000"),
            ("2001:db8::5", "B80D0120000000000000000005000000"),
            ("10.244.1.8", "0000000000000000FFFF00000801F40A"),
            ("10.244.1.8", "0801F40A"),
        ],
    )
    def test_tables_of_the_kernel(self, tmp_path: Path, host: str, remote: str) -> None:
        table = tmp_path / "tcp"
        for state, expected in (("01", True), ("08", False), ("06", False)):
            table.write_text(f"  sl  local_address rem_address st\n   0: 0100007F:A2F4 {remote}:733D {state} 0:0\n")
            assert is_connected(host, [str(table)]) is expected
            assert not is_connected("10.244.1.9", [str(table)])

    def test_what_cannot_be_read_proves_nothing(self, tmp_path: Path) -> None:
        assert is_connected("127.0.0.1", [str(tmp_path / "none")])
        assert is_connected("leader.invalid", [])


def checked(
    loads: Callable[[float], Load | None],
    *,
    seconds: int,
    canary: bool = False,
    status: int | None = None,
    stall: int = STALL,
    answers_from: float | None = None,
) -> tuple[list[str | None], FakeEngine]:
    """The verdicts of all checks over ``seconds``."""
    clock = FakeClock()
    engine = FakeEngine(clock, loads)
    engine.status = status
    watch, verdicts, start = None, [], clock.now()
    for _ in range(0, seconds + 1, PERIOD):
        if answers_from is not None and clock.now() - start >= answers_from:
            engine.status = 200
        watch, wrong = check_engine(engine, watch, stall_seconds=stall, model="ds", canary=canary, now=clock.now())
        verdicts.append(wrong)
        clock.sleep(PERIOD)
    return verdicts, engine


class TestCheckEngine:
    @pytest.mark.parametrize(
        "loads",
        [
            lambda s: Load(5, s),
            lambda s: Load(0, 42),
            lambda s: Load(1, s // 270),
            lambda s: None,
            lambda s: Load(1 if s % 120 < 60 else 0, 42),
        ],
        ids=["busy", "idle", "slow", "unknown", "requests that were refused"],
    )
    def test_what_is_not_dead_is_left_alone(self, loads: Callable[[float], Load | None]) -> None:
        verdicts, _ = checked(loads, seconds=3600)
        assert set(verdicts) == {None}

    @pytest.mark.parametrize("status", [None, 401, 500], ids=["silent", "no key", "failing"])
    def test_requests_without_progress(self, status: int | None) -> None:
        verdicts, _ = checked(lambda s: Load(2, min(s, 600)), seconds=1200, status=status)
        first = verdicts.index("2 requests and no progress for 300 s")
        assert first * PERIOD == 600 + STALL
        assert verdicts[:first] == [None] * first
        assert None not in verdicts[first:]

    def test_waiting_requests_that_are_never_scheduled_count(self) -> None:
        load = parse('vllm:num_requests_running{m="x"} 0.0\nvllm:num_requests_waiting{m="x"} 3.0\n')
        verdicts, _ = checked(lambda s: load, seconds=STALL)
        assert verdicts[-1] == "3 requests and no progress for 300 s"

    def test_recovery_is_seen(self) -> None:
        verdicts, _ = checked(lambda s: Load(2, 0 if s < 400 else s), seconds=600)
        assert verdicts[11] is not None
        assert verdicts[-1] is None

    def test_a_stale_number_of_requests_proves_nothing(self) -> None:
        verdicts, engine = checked(lambda s: Load(1, 42), seconds=1200, status=200)
        assert set(verdicts) == {None}
        assert len(engine.asked) == 1200 // STALL

    @pytest.mark.parametrize("status", [401, 500])
    def test_an_idle_engine_that_refuses_is_left_alone(self, status: int) -> None:
        verdicts, _ = checked(lambda s: Load(0, 42), seconds=3600, canary=True, status=status)
        assert set(verdicts) == {None}

    def test_its_own_health(self) -> None:
        engine = FakeEngine(FakeClock(), lambda s: Load(0, 0))
        engine.healthy = False
        _, wrong = check_engine(engine, None, stall_seconds=STALL, model="ds", canary=False, now=0)
        assert wrong == "/health does not answer 200"

    def test_idle_engine_is_asked_now_and_then_and_only_on_request(self) -> None:
        _, engine = checked(lambda s: Load(0, 42), seconds=3600, canary=True, status=200)
        assert engine.asked == ["ds"] * (3600 // (STALL // 2))
        _, engine = checked(lambda s: Load(0, 42), seconds=3600)
        assert engine.asked == []

    def test_busy_engine_is_not_asked(self) -> None:
        _, engine = checked(lambda s: Load(1, s), seconds=3600, canary=True)
        assert engine.asked == []

    def test_time_between_two_requests_is_limited(self) -> None:
        _, engine = checked(lambda s: Load(0, 42), seconds=3600, canary=True, status=200, stall=3600)
        assert engine.asked == ["ds"] * (3600 // CANARY_SECONDS)

    @pytest.mark.parametrize("stall", [60, STALL])
    def test_an_engine_that_hangs_before_the_first_step_of_its_requests_seems_idle(self, stall: int) -> None:
        verdicts, engine = checked(lambda s: Load(0, 42), seconds=700, canary=True, stall=stall)
        first = verdicts.index(f"no answer to a request for one token for {stall} s")
        assert first * PERIOD == stall
        assert verdicts[:first] == [None] * first
        assert len(engine.asked) >= 2

    def test_an_answer_is_a_sign_of_life(self) -> None:
        verdicts, _ = checked(lambda s: Load(0, 42), seconds=700, canary=True, answers_from=STALL - PERIOD)
        assert set(verdicts) == {None}

    def test_progress_is_a_sign_of_life(self) -> None:
        verdicts, _ = checked(lambda s: Load(0, s // 270), seconds=3600, canary=True)
        assert set(verdicts) == {None}

    def test_a_restarted_container_has_not_stalled(self) -> None:
        old = Watch(seen=0, progress=0, moved=0, alive=0, unanswered=True)
        fresh = Watch(seen=4000, progress=0, moved=4000, alive=4000)
        assert observe(old, Load(1, 0), 4000) == fresh
        assert observe(old, Load(1, 0), GAP_SECONDS).moved == 0
        assert observe(old._replace(seen=5000), Load(1, 0), 4000) == fresh, "another machine's clock"


def test_metrics_are_summed_over_their_labels() -> None:
    text = "\n".join(
        [
            "# HELP vllm:num_requests_running Number of requests",
            "# TYPE vllm:num_requests_running gauge",
            'vllm:num_requests_running{engine="0",model_name="a b"} 2.0',
            'vllm:num_requests_running{engine="1",model_name="a {b}"} 1.0',
            "vllm:num_requests_waiting 4",
            'vllm:generation_tokens_total{model_name="ds"} 1e+03',
            'vllm:iteration_tokens_total_count{model_name="ds"} 10.0',
            'vllm:iteration_tokens_total_bucket{le="1.0"} 999.0',
            "process_cpu_seconds_total 77.0",
            "",
        ]
    )
    assert parse(text) == Load(requests=7, progress=1010)


def test_metrics_without_requests_tell_nothing() -> None:
    assert parse("process_cpu_seconds_total 77.0\nvllm:generation_tokens_total 3\n") is None


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"seen": 1, "other": 2}'])
def test_a_memory_that_cannot_be_read_is_replaced(content: str, tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    assert recall(str(path)) is None
    path.write_text(content)
    assert recall(str(path)) is None


def test_a_memory_is_kept(tmp_path: Path, capsys: Any) -> None:
    watch = Watch(seen=3.5, progress=1e9, moved=2, alive=1, unanswered=True)
    path = str(tmp_path / "state.json")
    remember(path, watch)
    remember(path, None)
    assert recall(path) == watch
    remember("/nowhere/state.json", watch)
    assert "/nowhere" in capsys.readouterr().out


def modules(tree: ast.AST) -> Sequence[str]:
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    return [name for node in imports for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [])] + [
        alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names
    ]


def test_it_runs_on_any_python_of_an_image() -> None:
    import sys

    source = files("deepseek_acs.engineprobe").joinpath("program.py").read_text(encoding="utf-8")
    tree = ast.parse(source, feature_version=(3, 9))
    assert {name.split(".")[0] for name in modules(tree)} <= sys.stdlib_module_names


class TestNames:
    @pytest.mark.parametrize(("error", "reached"), [(socket.EAI_AGAIN, True), (socket.EAI_NONAME, False)])
    def test_no_answer_from_dns_is_not_held_against_a_known_peer(
        self, monkeypatch: pytest.MonkeyPatch, error: int, *, reached: bool
    ) -> None:
        def look_up(*_: object, **__: object) -> None:
            raise socket.gaierror(error, "no")

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        assert can_connect("leader", 6379, without_dns=True) is reached
        assert not can_connect("leader", 6379)

    def test_a_closed_port_never_counts_as_a_peer(self) -> None:
        with held_port() as port:
            assert not can_connect("127.0.0.1", port, without_dns=True)
