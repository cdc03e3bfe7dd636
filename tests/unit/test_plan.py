"""The plan: what follows from model, GPUs and layout."""

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.catalogue import gpu_series, models
from planner.loading import ENGINE_SETUP_SECONDS, POD_START_SECONDS, PROBE_PERIOD_SECONDS, load_budget
from planner.plan import Choices, PlanError, make_plan

GUIDE = Choices(
    model="deepseek-ai/DeepSeek-R1",
    weights_gib=None,
    series="GU8TF",
    cards=8,
    tensor=8,
    pipeline=2,
    throughput_mib_s=300,
)


def changed(**changes: Any) -> Choices:
    return dataclasses.replace(GUIDE, **changes)


def test_the_guides_layout() -> None:
    plan = make_plan(GUIDE)
    assert plan.group_size == 2
    assert plan.weights_gib == 641.30
    assert plan.warnings == ()


@pytest.mark.parametrize(
    ("changes", "path", "problem", "fix"),
    [
        (
            {"model": "deepseek-ai/DeepSeek-R2"},
            "deployment.model.name",
            "deepseek-ai/DeepSeek-R2 is not in planner/models.toml, so its size is unknown",
            "did you mean deepseek-ai/DeepSeek-R1? Otherwise set deployment.model.weightsGiB",
        ),
        (
            {"model": "mine"},
            "deployment.model.name",
            "mine is not in planner/models.toml, so its size is unknown",
            "set deployment.model.weightsGiB to the size of its safetensors files in GiB",
        ),
        (
            {"cards": 16, "series": "GU8TF"},
            "deployment.inference.gpu.cards",
            "ACS has no pod with 16 cards of series GU8TF and would reject it",
            "write one of 1, 2, 4, 8",
        ),
        (
            {"tensor": 12, "pipeline": 1},
            "deployment.inference.parallelism",
            "tensor 12 × pipeline 1 = 12 GPUs do not fill whole pods of 8 cards",
            "choose tensor × pipeline = 8 (1 pods) or 16 (2 pods), or change deployment.inference.gpu.cards",
        ),
        (
            {"tensor": 4, "pipeline": 1},
            "deployment.inference.parallelism",
            "tensor 4 × pipeline 1 = 4 GPUs do not fill whole pods of 8 cards",
            "choose tensor × pipeline = 8 (1 pods), or change deployment.inference.gpu.cards",
        ),
    ],
)
def test_each_finding(changes: dict[str, Any], path: str, problem: str, fix: str) -> None:
    with pytest.raises(PlanError) as caught:
        make_plan(changed(**changes))
    (finding,) = caught.value.findings
    assert finding.path == path
    assert finding.problem == problem
    assert finding.fix.startswith(fix)


def test_all_findings_at_once() -> None:
    with pytest.raises(PlanError, match=r"models\.toml.*ACS has no pod.*do not fill") as caught:
        make_plan(changed(model="x", cards=3, tensor=4))
    assert len(caught.value.findings) == 3


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        (
            {"series": "H20"},
            "deployment.inference.gpu.series: H20 is not in planner/gpus.toml; it is passed to ACS unc",
        ),
        (
            {"tensor": 16, "pipeline": 1},
            "deployment.inference.parallelism.tensor: 16 is more than the 8 cards of a pod",
        ),
    ],
)
def test_each_warning(changes: dict[str, Any], warning: str) -> None:
    (found,) = make_plan(changed(**changes)).warnings
    assert found.startswith(warning)


def test_own_size_beats_the_catalogue() -> None:
    assert make_plan(changed(model="mine", weights_gib=10.0)).weights_gib == 10.0


@given(tensor=st.integers(1, 64), pipeline=st.integers(1, 16), series=st.sampled_from(sorted(gpu_series())))
def test_a_plan_uses_every_card(tensor: int, pipeline: int, series: str) -> None:
    for cards in gpu_series()[series].cards:
        choices = changed(tensor=tensor, pipeline=pipeline, series=series, cards=cards)
        try:
            plan = make_plan(choices)
        except PlanError:
            assert tensor * pipeline % cards
        else:
            assert plan.group_size * cards == tensor * pipeline


def test_load_budget_of_the_example_in_the_docstring() -> None:
    budget = load_budget(weights_gib=641.30, throughput_mib_s=300)
    assert (budget.read_seconds, budget.startup_seconds, budget.create_seconds) == (2189, 3884, 5684)
    assert budget.update_seconds(replicas=3, groups_at_once=2) == 2 * 5684
    assert budget.update_seconds(replicas=0, groups_at_once=1) == 5684
    assert budget.ray_init_seconds == POD_START_SECONDS


@given(weights=st.floats(0.1, 5000), throughput=st.integers(10, 100_000))
def test_probes_wait_longer_than_the_read(weights: float, throughput: int) -> None:
    budget = load_budget(weights_gib=weights, throughput_mib_s=throughput)
    granted = budget.startup_failure_threshold * PROBE_PERIOD_SECONDS
    assert granted >= budget.startup_seconds >= budget.read_seconds + ENGINE_SETUP_SECONDS
    assert granted - budget.startup_seconds < PROBE_PERIOD_SECONDS
    slower = load_budget(weights_gib=weights, throughput_mib_s=max(1, throughput // 2))
    assert slower.startup_seconds >= budget.startup_seconds


def test_catalogues_are_sane() -> None:
    assert len(models()) >= 9
    for model in models().values():
        assert model.weights_gib > 0
        assert math.isfinite(model.weights_gib)
        assert model.source.startswith("https://")
    for series in gpu_series().values():
        assert series.memory_gib >= 16
        assert list(series.cards) == sorted(series.cards)
