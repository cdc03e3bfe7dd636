"""Size of the cache: it holds the model with room to spare, and no worker's blocks outgrow its memory."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepseek_acs.planner.fluid import FILL, HIGH_WATERMARK, CachePlan, plan_cache, worker_mib_s

R1: dict[str, Any] = {
    "weights_gib": 641.30,
    "workers": None,
    "cpu": 16,
    "memory_gib": 128,
    "pods": 2,
    "throughput_mib_s": 600,
    "preload_mib_s": 500,
}


def plan(**changes: Any) -> CachePlan:
    return plan_cache(**{**R1, **changes})


def test_the_example_in_the_docstring() -> None:
    found = plan()
    assert (found.workers, found.quota_gib, found.preload_seconds) == (7, 115, 3527)


def test_many_pods_need_bandwidth() -> None:
    assert plan(pods=20).workers == 17


@pytest.mark.parametrize(("cpu", "gbits"), [(16, 6), (23, 6), (24, 8), (32, 10), (48, 16), (64, 25), (8, 3), (4, 1.5)])
def test_bandwidth_of_a_worker(cpu: int, gbits: float) -> None:
    assert worker_mib_s(cpu) * 2**20 * 8 / 1e9 == pytest.approx(gbits)


def test_fewer_workers_than_needed_are_kept() -> None:
    assert (plan(workers=5).workers, plan(workers=5).needed_workers) == (5, 7)


@given(weights=st.floats(0.01, 20_000), memory=st.integers(8, 512), pods=st.integers(0, 200))
def test_derived_cache_holds_the_model(weights: float, memory: int, pods: int) -> None:
    found = plan(weights_gib=weights, memory_gib=memory, pods=pods)
    assert found.workers >= 1
    assert found.quota_gib < memory
    assert weights <= found.workers * found.quota_gib * FILL + 1e-6 < found.workers * found.quota_gib * HIGH_WATERMARK
    assert found.workers * worker_mib_s(R1["cpu"]) >= pods * R1["throughput_mib_s"] - 1e-6
    assert found.preload_seconds > weights * 1024 / R1["preload_mib_s"]
