"""Measured starts in what the preview says: medians, the slowest phase, and the plan's times in their place."""

from typing import Any

import pytest

from deepseek_acs.planner.cost import cost, lines
from deepseek_acs.planner.starts import MeasuredStarts, measured_starts, start_plan, start_time
from deepseek_acs.planner.summary import summary, text
from tests.planner.specs import guide


def record(plan: str = "p1", **seconds: Any) -> dict[str, Any]:
    return {"plan": plan, "seconds": seconds}


def test_medians() -> None:
    starts = [record(image=30, read=600, serve=10 * n) for n in (1, 2, 3)] + [record("p2", read=1)]
    found = measured_starts(starts, "p1")
    assert found == MeasuredStarts(count=3, seconds=650, phases={"image": 30, "read": 600, "serve": 20})
    assert found.slowest == "read"
    assert str(found) == "11 min: read 10 min; slowest: read; median of 3"
    assert measured_starts(starts[1:], "p1") is None, "two are too few"


def test_the_last_five_count() -> None:
    found = measured_starts([record(read=9999)] * 5 + [record(image=2, read=10)] * 5, "p1")
    assert str(found) == "12 s: image 2, read 10 s; slowest: read; median of 5"


@pytest.mark.parametrize("records", [[{}], [{"plan": "p1"}] * 3, [None] * 3, [record(read="x")] * 3])
def test_something_else(records: list[Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        measured_starts(records, "p1")


def test_what_the_time_of_a_start_depends_on() -> None:
    plan = start_plan(guide())
    assert plan == start_plan(guide(throughput_mib_s=150)), "it is what is compared"
    assert plan == start_plan(guide(replicas=3))
    others = [
        guide(image="registry.example.com/vllm:v0.8.5"),
        guide(network="rdma"),
        guide(series="GU8TEF"),
        guide(storage={"kind": "fluid"}),
        guide(enforce_eager=False),
        guide(model="deepseek-ai/DeepSeek-V3"),
    ]
    assert len({plan, *map(start_plan, others)}) == len(others) + 1


def test_they_take_the_place_of_the_plan() -> None:
    starts = MeasuredStarts(count=5, seconds=2040, phases={"image": 180, "engine": 120, "read": 1440, "compile": 300})
    found = guide(starts=starts)
    assert start_time(guide()) == "37 to 95 min"
    assert start_time(found) == "about 34 min"
    assert cost(found).start[0] == cost(found).start[1]
    assert dict(lines(found)).keys() == dict(lines(guide())).keys()
    assert found.budget == guide().budget, "a probe that followed from them would restart the groups"


def test_line_of_the_preview() -> None:
    starts = MeasuredStarts(count=5, seconds=2040, phases={"image": 180, "engine": 120, "read": 1440, "compile": 300})
    found = guide(starts=starts, observability={"incidents": {}})
    said = text(summary(found)).splitlines()
    assert "starts    34 min: image 3, engine 2, read 24, compile 5 min; slowest: read; median of 5" in said
    assert max(map(len, said)) <= 96
    assert "starts" not in summary(guide(observability={"incidents": {}}))


def test_reads_that_are_too_short_to_tell() -> None:
    starts = MeasuredStarts(count=3, seconds=60, phases={"read": 30})
    assert starts.read_mi_bps(0.05) is None
