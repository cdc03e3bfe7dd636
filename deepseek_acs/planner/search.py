"""The layouts that keep all rules: the cheapest where the user leaves it open, the nearest where a choice fails."""

import dataclasses
import math
from collections.abc import Iterable, Iterator

from deepseek_acs.planner.catalogue import gpu_series
from deepseek_acs.planner.memory import Verdict
from deepseek_acs.planner.rules import LAYOUT_RULES
from deepseek_acs.planner.rules.engine import unknown_kernels
from deepseek_acs.planner.spec import Fixed, GpuSpec, Layout, ResolvedSpec, gpu_spec
from deepseek_acs.planner.weights import shapes_gib

DEFAULT_GPUS_PER_POD = 8

MOST_PODS = 16
"""Pods of one replica that are tried."""

MOST_STAGES = 16

UNKNOWN_SERIES_GPUS_PER_POD = (1, 2, 4, 8)

SHORTEST_CONTEXT = 256
"""Tokens; nothing shorter is worth serving."""

BOUND_SHARE = 0.8
"""Of the usable memory, at most this for the weights of a model whose shapes are unknown."""


def works(spec: ResolvedSpec) -> bool:
    """Whether the layout keeps all rules and certainly fits."""
    if not all(rule.is_kept(spec) for rule in LAYOUT_RULES):
        return False
    if spec.memory is not None:
        return spec.memory.verdict is Verdict.FITS
    if spec.gpu.device is None:
        return True
    usable = spec.gpu.device.memory_gib * spec.engine.gpu_memory_utilization
    return spec.model.weights_gib / spec.layout.gpus <= BOUND_SHARE * usable


def candidates(spec: ResolvedSpec, *, given_only: bool) -> Iterator[Layout]:
    """Layouts whose tensor parallelism stays in a pod; with ``given_only`` those that agree with what was given.

    Several pods are tried with whole machines only: smaller ones would cross the network more often.
    """
    fixed = spec.fixed
    legal = spec.gpu.row.gpus_per_pod if spec.gpu.row else UNKNOWN_SERIES_GPUS_PER_POD
    for gpus_per_pod in _one_or(fixed.gpus_per_pod if given_only else None, legal):
        most_pods = MOST_PODS if gpus_per_pod == fixed.gpus_per_pod or gpus_per_pod == max(legal) else 1
        sizes = [size for size in range(1, gpus_per_pod + 1) if gpus_per_pod % size == 0]
        for tensor in _one_or(fixed.tensor if given_only else None, sizes):
            for pipeline in _one_or(fixed.pipeline if given_only else None, range(1, MOST_STAGES + 1)):
                if tensor * pipeline % gpus_per_pod == 0 and tensor * pipeline <= gpus_per_pod * most_pods:
                    yield Layout(gpus_per_pod, tensor, pipeline)


def _one_or(given: int | None, others: Iterable[int]) -> Iterable[int]:
    return others if given is None else (given,)


def _large_enough(spec: ResolvedSpec, *, given_only: bool) -> list[Layout]:
    """The candidates whose GPUs together hold the weights; the others need no closer look."""
    found = list(candidates(spec, given_only=given_only))
    model, device = spec.model.shapes, spec.gpu.device
    if model is None or device is None or spec.uncounted.changes:
        return found
    usable = device.memory_gib * spec.engine.gpu_memory_utilization
    return [layout for layout in found if layout.gpus * usable > shapes_gib(model)]


def cheapest(spec: ResolvedSpec) -> Layout | None:
    """The layout with the fewest GPUs that agrees with what was given; of these the fewest pods, then stages."""

    def cost(layout: Layout) -> tuple[int, int, int]:
        return layout.gpus, layout.pods, layout.pipeline

    ordered = sorted(_large_enough(spec, given_only=True), key=cost)
    return next((layout for layout in ordered if works(spec.with_layout(layout))), None)


def nearest(spec: ResolvedSpec, *, count: int = 3) -> list[Layout]:
    """Layouts that work, those first that need about as many GPUs and change little."""
    wanted = spec.layout

    def distance(layout: Layout) -> tuple[float, int, Layout]:
        changes = sum(a != b for a, b in zip(_parts(layout), _parts(wanted), strict=True))
        return abs(math.log2(layout.gpus / wanted.gpus)), changes, layout

    found = []
    for layout in sorted(_large_enough(spec, given_only=False), key=distance):
        if works(spec.with_layout(layout)):
            found.append(layout)
            if len(found) == count:
                break
    return found


def _parts(layout: Layout) -> tuple[int, int, int]:
    return layout.gpus_per_pod, layout.tensor, layout.pipeline


def other_series(spec: ResolvedSpec, *, count: int = 2) -> list[tuple[str, Layout]]:
    """Other GPU series on which a layout works, with the cheapest, those with the least memory first."""
    found = []
    for series in gpu_series().values():
        if series.name != spec.gpu.series:
            gpu = gpu_spec(series.name, available=spec.gpu.available, compute_class=spec.gpu.compute_class)
            engine = dataclasses.replace(spec.engine, measured_kv_cache_gib=None)
            other = dataclasses.replace(spec, gpu=gpu, fixed=Fixed(), engine=engine)
            if not unknown_kernels(other) and (layout := cheapest(other)):
                found.append((layout.gpus * series.memory_gib, series.name, layout))
    return [(name, layout) for _, name, layout in sorted(found)[:count]]


def smallest_layout(fixed: Fixed, gpu: GpuSpec) -> Layout:
    """The smallest layout that agrees with what was fixed, whether or not it works."""
    gpus_per_pod = fixed.gpus_per_pod or (max(gpu.row.gpus_per_pod) if gpu.row else DEFAULT_GPUS_PER_POD)
    pipeline = fixed.pipeline or 1
    return Layout(gpus_per_pod, fixed.tensor or max(1, gpus_per_pod // pipeline), pipeline)


def with_open_layout(spec: ResolvedSpec) -> ResolvedSpec:
    """The specification with the cheapest layout that works, where the user did not fix all of it."""
    if None not in (spec.fixed.gpus_per_pod, spec.fixed.tensor, spec.fixed.pipeline):
        return spec
    found = cheapest(spec)
    return spec.with_layout(found) if found else spec


def longest_context(spec: ResolvedSpec) -> int:
    """The longest ``max_model_len`` that certainly fits and whose prompts are answered: the model's own, or a half, a
    quarter … of it; 0 for none."""
    length = spec.model.shapes.context if spec.model.shapes else 0
    while length >= SHORTEST_CONTEXT:
        candidate = spec.with_length(length)
        memory = candidate.memory
        if memory is not None and memory.verdict is Verdict.FITS and candidate.answers_long_prompts:
            return length
        length //= 2
    return 0
