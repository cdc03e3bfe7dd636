"""Size of the cache: it holds the model with room to spare, and no worker's blocks outgrow its memory."""

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.cache import FILL, HIGH_WATERMARK, CacheChoices, plan_cache, worker_mib_s
from planner.plan import PlanError

R1 = CacheChoices(
    weights_gib=641.30, workers=None, cpu=16, memory_gib=128, pods=2, throughput_mib_s=600, preload_mib_s=500
)


def changed(**changes: Any) -> CacheChoices:
    return dataclasses.replace(R1, **changes)


def test_the_example_in_the_docstring() -> None:
    plan = plan_cache(R1)
    assert (plan.workers, plan.quota_gib, plan.preload_seconds, plan.warnings) == (7, 115, 3527, ())


def test_the_guides_sixteen_workers_are_more_than_enough() -> None:
    assert plan_cache(changed(workers=16)).warnings == ()


def test_many_pods_need_bandwidth() -> None:
    assert plan_cache(changed(pods=20)).workers == 17


@pytest.mark.parametrize(("cpu", "gbits"), [(16, 6), (23, 6), (24, 8), (32, 10), (48, 16), (64, 25), (8, 3), (4, 1.5)])
def test_bandwidth_of_a_worker(cpu: int, gbits: float) -> None:
    assert worker_mib_s(cpu) * 2**20 * 8 / 1e9 == pytest.approx(gbits)


def test_cache_that_is_too_small_is_refused() -> None:
    with pytest.raises(PlanError) as caught:
        plan_cache(changed(workers=5))
    (finding,) = caught.value.findings
    assert finding.path == "deployment.storage.workers"
    assert finding.problem == (
        "5 workers cache 575 GiB (90% of their memory), which is less than the 641 GiB of the model: the preload would "
        "evict what it has just loaded"
    )
    assert finding.fix == "remove it, or write at least 7, or give each worker more memory"


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        (
            {"workers": 6},
            "deployment.storage.workers: the model takes 93% of 6 workers; with 7 neither space nor bandwid",
        ),
        (
            {"memory_gib": 12},
            "deployment.storage: 76 workers of 16 vCPU and 12 GiB follow from cpu and memory; 7 of 16 vCPU and 128 GiB",
        ),
        ({"memory_gib": 256}, "deployment.storage: pods without GPUs and with more than 16 vCPU or 128 GiB need a t"),
        ({"cpu": 24}, "deployment.storage: pods without GPUs and with more than 16 vCPU or 128 GiB need a t"),
    ],
)
def test_each_warning(changes: dict[str, Any], warning: str) -> None:
    (found,) = plan_cache(changed(**changes)).warnings
    assert found.startswith(warning)


@given(weights=st.floats(0.01, 20_000), memory=st.integers(8, 512), pods=st.integers(0, 200))
def test_derived_cache_holds_the_model(weights: float, memory: int, pods: int) -> None:
    choices = changed(weights_gib=weights, memory_gib=memory, pods=pods)
    plan = plan_cache(choices)
    assert plan.workers >= 1
    assert plan.quota_gib < memory
    assert weights <= plan.workers * plan.quota_gib * FILL + 1e-6 < plan.workers * plan.quota_gib * HIGH_WATERMARK
    assert plan.workers * worker_mib_s(choices.cpu) >= pods * choices.throughput_mib_s - 1e-6
    assert plan.preload_seconds > weights * 1024 / choices.preload_mib_s
