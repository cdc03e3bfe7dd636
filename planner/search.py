"""The layouts that keep all rules: the cheapest where the user leaves it open, the nearest where a choice fails."""

import dataclasses
import math
from collections.abc import Iterable, Iterator

from planner.case import Case, Layout
from planner.catalogue import gpu_series
from planner.memory import Verdict
from planner.rules import LAYOUT_RULES
from planner.weights import shapes_gib

MOST_PODS = 16
"""Pods of one replica that are tried."""

MOST_STAGES = 16

UNKNOWN_SERIES_CARDS = (1, 2, 4, 8)

SHORTEST_CONTEXT = 256
"""Tokens; nothing shorter is worth serving."""

BOUND_SHARE = 0.8
"""Of the usable memory, at most this for the weights of a model whose shapes are unknown."""


def works(case: Case) -> bool:
    """Whether the layout keeps all rules and certainly fits."""
    if any(rule.check(case) is not None for rule in LAYOUT_RULES):
        return False
    if case.memory is not None:
        return case.memory.verdict is Verdict.FITS
    if case.weights_gib is None or case.gpu is None:
        return True
    usable = case.gpu.memory_gib * case.choices.gpu_memory_utilization
    return case.weights_gib / case.layout.gpus <= BOUND_SHARE * usable


def candidates(case: Case, *, given_only: bool) -> Iterator[Layout]:
    """Layouts whose tensor parallelism stays in a pod; with ``given_only`` those that agree with what was given.

    Several pods are tried with whole machines only: smaller ones would cross the network more often.
    """
    choices = case.choices
    legal = case.series.cards if case.series else UNKNOWN_SERIES_CARDS
    for cards in _one_or(choices.cards if given_only else None, legal):
        most_pods = MOST_PODS if cards == choices.cards or cards == max(legal) else 1
        sizes = [size for size in range(1, cards + 1) if cards % size == 0]
        for tensor in _one_or(choices.tensor if given_only else None, sizes):
            for pipeline in _one_or(choices.pipeline if given_only else None, range(1, MOST_STAGES + 1)):
                if tensor * pipeline % cards == 0 and tensor * pipeline <= cards * most_pods:
                    yield Layout(cards, tensor, pipeline)


def _one_or(given: int | None, others: Iterable[int]) -> Iterable[int]:
    return others if given is None else (given,)


def _large_enough(case: Case, *, given_only: bool) -> list[Layout]:
    """The candidates whose GPUs together hold the weights; the others need no closer look."""
    found = list(candidates(case, given_only=given_only))
    if case.model is None or case.model.unpredicted or case.gpu is None:
        return found
    usable = case.gpu.memory_gib * case.choices.gpu_memory_utilization
    return [layout for layout in found if layout.gpus * usable > shapes_gib(case.model)]


def cheapest(case: Case) -> Layout | None:
    """The layout with the fewest GPUs that agrees with what was given; of these the fewest pods, then stages."""

    def cost(layout: Layout) -> tuple[int, int, int]:
        return layout.gpus, layout.pods, layout.pipeline

    ordered = sorted(_large_enough(case, given_only=True), key=cost)
    return next((layout for layout in ordered if works(case.with_layout(layout))), None)


def nearest(case: Case, *, count: int = 3) -> list[Layout]:
    """Layouts that work, those first that need about as many GPUs and change little."""
    wanted = case.layout

    def distance(layout: Layout) -> tuple[float, int, Layout]:
        changes = sum(a != b for a, b in zip(_parts(layout), _parts(wanted), strict=True))
        return abs(math.log2(layout.gpus / wanted.gpus)), changes, layout

    found = []
    for layout in sorted(_large_enough(case, given_only=False), key=distance):
        if works(case.with_layout(layout)):
            found.append(layout)
            if len(found) == count:
                break
    return found


def _parts(layout: Layout) -> tuple[int, int, int]:
    return layout.cards, layout.tensor, layout.pipeline


def other_series(case: Case, *, count: int = 2) -> list[tuple[str, Layout]]:
    """Other GPU series on which a layout works, with the cheapest, those with the least memory first."""
    free = dataclasses.replace(
        case.choices, cards=None, tensor=None, pipeline=None, gpu_memory_gib=None, cache_gib=None
    )
    found = []
    for series in gpu_series().values():
        if series.name != case.choices.series:
            other = dataclasses.replace(case, choices=dataclasses.replace(free, series=series.name))
            if layout := cheapest(other):
                found.append((layout.gpus * series.memory_gib, series.name, layout))
    return [(name, layout) for _, name, layout in sorted(found)[:count]]


def with_length(case: Case, length: int) -> Case:
    """The same case with another ``max_model_len``."""
    return dataclasses.replace(case, choices=dataclasses.replace(case.choices, max_model_len=length))


def longest_context(case: Case) -> int:
    """The longest ``max_model_len`` that certainly fits: the model's own, or a half, a quarter … of it; 0 for none."""
    length = case.model.context if case.model else 0
    while length >= SHORTEST_CONTEXT:
        memory = with_length(case, length).memory
        if memory is not None and memory.verdict is Verdict.FITS:
            return length
        length //= 2
    return 0
