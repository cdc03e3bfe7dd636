"""The phases of starts: from pods and log lines to what the ConfigMap has."""

import json
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepseek_acs.incidents.starts import MARKS, MOST_STARTS, PHASES, Times, phases, with_start
from tests.incidents.test_watch import World
from tests.incidents.world import deleted, pod, terminated

LINES = {
    "begun": "(EngineCore_DP0 pid=9) INFO 11-29 14:40:01 [gpu_model_runner.py:4735] Starting to load model /models...",
    "read": "(Worker_TP3 pid=12) INFO 11-29 14:40:01 [default_loader.py:384] Loading weights took 1210.41 seconds",
    "compiled": "INFO 11-29 14:40:01 [gpu_model_runner.py:5746] Graph capturing finished in 17 secs, took 1.02 GiB",
}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def at(minute: int, second: int = 0) -> str:
    return f"2026-11-29T14:{minute:02}:{second:02}Z"


def starting(
    worker: int, *, life: int = 1, ready: str = "", scheduled: str = "", running: str = "", **status: Any
) -> Any:
    """A pod that was created at 14:00."""
    times = {"PodScheduled": scheduled, "Ready": ready}
    conditions = [{"type": name, "status": "True", "lastTransitionTime": when} for name, when in times.items() if when]
    state = {"running": {"startedAt": running}} if running else {"waiting": {}}
    container = {"name": "vllm", "imageID": "r@sha256:1", "state": state, **status}
    found = pod(0, worker, life=life, conditions=conditions, containerStatuses=[container])
    found["metadata"]["creationTimestamp"] = at(0)
    return found


def begin(world: World, *, ready: bool = True) -> None:
    """Both pods of a group, from their creation until the leader is ready."""
    leader = partial(starting, 0, scheduled=at(2), running=at(5))
    world.see(starting(0), starting(1), leader(), starting(1, scheduled=at(1), running=at(6)))
    world.starts.line("r1-0.1", at(8), LINES["begun"])
    world.starts.line("r1-0-1.1", at(9), LINES["begun"])
    world.starts.line("r1-0-1.1", at(29), LINES["read"])
    world.starts.line("r1-0.1", at(28), LINES["read"])
    world.starts.line("r1-0.1", at(31), "Model loading took 80.1 GiB memory and 1320 seconds")
    world.starts.line("r1-0.1", at(33), "torch.compile took 101.2 s in total")
    world.starts.line("r1-0.1", at(34), LINES["compiled"])
    if ready:
        world.see(leader(ready=at(35)))


def stored(world: World) -> list[dict[str, Any]]:
    return list(json.loads(world.cluster.data.get("starts", "[]")))


def test_a_start(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    begin(world)
    world.wait(0)
    (start,) = stored(world)
    seconds = {"schedule": 120, "image": 240, "engine": 180, "read": 1320, "compile": 180, "serve": 60}
    assert start == {
        "at": at(35),
        "group": "0",
        "uid": "r1-0.1",
        "revision": "1",
        "image": "r@sha256:1",
        "seconds": seconds,
        "answer": None,
        "plan": "p1",
    }
    assert sum(seconds.values()) == 35 * 60, "from the creation of the pods to the leader's readiness"
    assert capsys.readouterr().out == f"{at(35)} group 0: ready, seconds by phase: {seconds}\n"
    patches = world.cluster.patches
    world.wait()
    assert world.cluster.patches == patches, "once"


def test_the_first_answer_follows(world: World) -> None:
    begin(world)
    world.wait(0)
    world.gauges.succeeded, world.gauges.at = 1, at(37, 5)
    world.wait()
    assert [one["answer"] for one in stored(world)] == [125]
    patches = world.cluster.patches
    world.wait()
    assert world.cluster.patches == patches


def test_no_start_before_the_leader_is_ready(world: World) -> None:
    begin(world, ready=False)
    world.wait()
    assert stored(world) == []


def test_a_group_that_served_already_is_not_measured(world: World) -> None:
    """Its log was not read from the beginning."""
    world.serve()
    world.wait()
    assert stored(world) == []


def test_a_restarted_container_is_not_measured(world: World) -> None:
    world.see(starting(1), starting(1, running=at(9), restartCount=1))
    begin(world)
    world.wait(0)
    assert stored(world) == []


def test_over_a_restart_of_the_program(world: World) -> None:
    begin(world, ready=False)
    world.wait()
    world.start()
    world.see(starting(0, ready=at(35)))
    world.wait(0)
    assert [one["seconds"]["read"] for one in stored(world)] == [1320]
    world.start()
    world.wait()
    assert len(stored(world)) == 1


def test_the_next_life_of_a_group_is_another_start(world: World) -> None:
    begin(world)
    world.wait(0)
    world.crash(exitCode=1)
    assert len(world.cluster.ends) == 1
    for worker in (0, 1):
        world.see(starting(worker, life=2))
    world.see(starting(0, life=2, scheduled=at(50), running=at(51), ready=at(59)))
    world.see(starting(1, life=2, scheduled=at(50), running=at(51)))
    world.wait()
    assert [one["uid"] for one in stored(world)] == ["r1-0.1", "r1-0.2"]
    assert stored(world)[1]["seconds"] == {"schedule": 3000, "image": 60, "serve": 480}, "without lines of the engine"


def test_without_the_config_map(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    begin(world)
    found, world.cluster.store = world.cluster.store, None
    world.wait(0)
    assert "the ConfigMap r1-incidents is gone; pulumi up --refresh creates it again" in capsys.readouterr().out
    world.cluster.store = found
    world.wait()
    assert len(stored(world)) == 1


def test_an_end_before_the_start_was_written(world: World) -> None:
    begin(world, ready=False)
    ended = starting(1)
    ended["status"]["containerStatuses"] = [terminated(exitCode=1)]
    world.see(ended, deleted(starting(0)))
    world.gone(starting(0), starting(1))
    world.wait()
    assert stored(world) == []
    assert len(world.cluster.ends) == 1


def test_the_list_is_bounded() -> None:
    starts: list[Any] = []
    for number in range(MOST_STARTS + 5):
        starts = with_start(starts, {"uid": str(number), "answer": None})
    assert [one["uid"] for one in starts] == [str(n) for n in range(5, MOST_STARTS + 5)]
    assert with_start(starts, {"uid": "7", "answer": 1})[-1] == {"uid": "7", "answer": 1}
    assert len(with_start(starts, {"uid": "7", "answer": 1})) == MOST_STARTS


BEGIN = datetime(2026, 11, 29, 14, tzinfo=UTC)


@given(st.lists(st.lists(st.integers(0, 5000) | st.none(), min_size=5, max_size=5), min_size=1, max_size=4))
def test_phases_add_up(offsets: list[list[int | None]]) -> None:
    """In whatever order the clocks of nodes and the lines of ranks come."""

    def moment_at(seconds: int | None) -> str:
        return "" if seconds is None else (BEGIN + timedelta(seconds=seconds)).isoformat()

    times = [
        Times(
            created=moment_at(0),
            scheduled=moment_at(scheduled),
            running=moment_at(running),
            marks={name: moment_at(one) for name, one in zip(MARKS, marks, strict=True) if one is not None},
        )
        for scheduled, running, *marks in offsets
    ]
    found = phases(times, moment_at(3000))
    assert sum(found.values()) == 3000
    assert min(found.values()) >= 0
    assert all(PHASES.index(one) < PHASES.index(other) for one, other in pairwise(found))


@pytest.mark.parametrize(
    ("line", "mark"),
    [
        ("INFO 02-08 10:00:00 model_runner.py:1110] Starting to load model /models/r1...", "begun"),
        ("INFO 02-08 10:00:00 model_runner.py:1115] Loading model weights took 80.1 GB", "read"),
        ("INFO 04-30 [gpu_model_runner.py:1347] Model loading took 80.1500 GiB and 121.500000 seconds", "read"),
        ("INFO 02-08 10:00:00 monitor.py:33] torch.compile takes 41.2 s in total", "compiled"),
        (
            "INFO 02-08 10:00:00 llm_engine.py:436] init engine (profile, create kv cache)",
            "compiled",
        ),
        ("INFO 11-29 [core.py] Using torch.compile cache", ""),
    ],
)
def test_lines_of_old_and_new_versions(line: str, mark: str, world: World) -> None:
    world.see(starting(0))
    world.starts.line("r1-0.1", at(8), line)
    world.starts.line("another pod", at(8), line)
    (times,) = world.starts.saved()["times"].values()
    assert list(times["marks"]) == ([mark] if mark else [])


def test_is_read_from_the_logs(tmp_path: Path) -> None:
    """A line that comes twice, as after an interruption, changes nothing."""
    found = World(tmp_path)
    found.see(starting(0))
    for when in (at(9), at(8), at(10)):
        found.starts.line("r1-0.1", when, LINES["begun"])
        found.starts.line("r1-0.1", when, LINES["read"])
    (times,) = found.starts.saved()["times"].values()
    assert times["marks"] == {"begun": at(8), "read": at(10)}
