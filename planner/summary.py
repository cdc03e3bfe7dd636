"""The plan as one screen of text, for the preview."""

import math

from planner.cache import CachePlan
from planner.case import Case
from planner.memory import Memory, Stage, Verdict
from planner.plan import Plan
from planner.roofline import decode_floor_ms
from planner.search import longest_context, with_length


def lines(plan: Plan) -> dict[str, str]:
    """Lines by what they are about; with their labels, none is longer than 96 columns."""
    case, layout = plan.case, plan.layout
    gpu = f" ({case.gpu.name}, {case.gpu.memory_gib:.1f} GiB)" if case.gpu else ""
    pods = "1 pod" if layout.pods == 1 else f"{layout.pods} pods"
    found = [
        ("model", f"{case.choices.model}, {plan.weights_gib:.1f} GiB"),
        (
            "layout",
            f"{pods} × {layout.cards} {case.choices.series}{gpu}, tensor {layout.tensor} × pipeline {layout.pipeline}",
        ),
        ("pod", f"{plan.cpu} vCPUs, {plan.memory_gib:g} GiB of which /dev/shm {plan.shared_memory_gib:g} GiB"),
        ("engine", f"{case.engine.name}, {case.choices.gpu_memory_utilization:g} of GPU memory"),
    ]
    if plan.memory is not None:
        found += _memory_lines(case, plan.memory)
    else:
        found.append(("memory", "not predicted, see the warnings"))
    budget = plan.budget
    found.append(
        (
            "load",
            f"{_minutes(budget.read_seconds)} to read at {case.choices.throughput_mib_s} MiB/s per pod; "
            f"the startup probe waits {_minutes(budget.startup_seconds)}",
        )
    )
    if plan.cache is not None:
        found.append(("fluid", _fluid(plan.cache)))
    if case.choices.scaling is not None:
        found.append(("scaling", _scaling(plan)))
    return dict(found)


def _fluid(cache: CachePlan) -> str:
    return (
        f"{cache.workers} workers × {cache.cpu} vCPUs, {cache.memory_gib} GiB of which {cache.quota_gib} GiB cache; "
        f"the preload may take {_minutes(cache.preload_seconds)}"
    )


def _scaling(plan: Plan) -> str:
    """What the autoscaler may cost, in GPUs and in time."""
    choices, budget = plan.case.choices, plan.budget
    gpus, least_minutes = choices.replicas * plan.layout.gpus, math.ceil(budget.read_seconds / 60)
    return (
        f"{choices.scaling}, {choices.least_replicas} to {choices.replicas} groups, at most {gpus} GPUs; a new one "
        f"answers after {least_minutes} to {_minutes(budget.create_seconds)}"
    )


def _engine_and_cache(case: Case, memory: Memory, stage: Stage) -> str:
    cache = case.choices.cache_gib
    if cache is not None:
        return f"engine {memory.usable_gib - stage.weights_gib - cache:.1f} + cache {cache:.2f}, measured"
    other = stage.activation + stage.non_torch + stage.graphs
    low, high = max(0, stage.cache.low), stage.cache.high
    return f"engine {other.low:.1f}–{other.high:.1f} + cache {low:.1f}–{high:.1f}"


def _memory_lines(case: Case, memory: Memory) -> list[tuple[str, str]]:
    stage = memory.tightest
    low, nominal, high = memory.tokens
    number = list(memory.stages).index(stage) + 1
    where = f"stage {number} of {len(memory.stages)}" if len(memory.stages) > 1 else "each GPU"
    lines = [
        (
            "verdict",
            {Verdict.FITS: "fits", Verdict.TOO_CLOSE: "too close to say", Verdict.DOES_NOT_FIT: "does not fit"}[
                memory.verdict
            ],
        ),
        (
            "memory",
            f"{where}: {memory.usable_gib:.1f} GiB usable = weights {stage.weights_gib:.1f} + "
            f"{_engine_and_cache(case, memory, stage)}",
        ),
        ("cache", f"{nominal:,} tokens ({low:,} to {high:,})"),
    ]
    if nominal < memory.max_model_len:
        return lines
    lines.append(("requests", _requests(memory)))
    lines += _unused(case, memory)
    floor = decode_floor_ms(case)
    if floor is not None:
        lines.append(
            (
                "decode",
                f"at least {floor:.1f} ms per token by memory bandwidth; measured: 10 to 25 times that",
            )
        )
    return lines


def _requests(memory: Memory) -> str:
    low, nominal, high = memory.requests(memory.max_model_len)
    limit = memory.max_num_seqs * memory.virtual_engines
    band = "" if low == high else f" ({low:,} to {high:,})"
    text = f"{nominal:,}{band} of {memory.max_model_len:,} tokens at once"
    if nominal == limit:
        each = f"{memory.virtual_engines} virtual engines × " if memory.virtual_engines > 1 else ""
        text += f", by max_num_seqs: {each}{memory.max_num_seqs:,}"
    return text


def _unused(case: Case, memory: Memory) -> list[tuple[str, str]]:
    """What a short ``max_model_len`` leaves unused: the longest that certainly fits here, and how many at once."""
    if case.model is None or memory.max_model_len >= case.model.context:
        return []
    longest = longest_context(case)
    if longest <= memory.max_model_len:
        return []
    changed = with_length(case, longest).memory
    if changed is None:
        return []
    at_once = changed.requests(longest)[1]
    own = "all of its context" if longest == case.model.context else f"of {case.model.context:,}"
    return [
        (
            "unused",
            f"maxModelLen {memory.max_model_len:,} is a choice: {longest:,} ({own}) fits too, {at_once:,} at once",
        )
    ]


def _minutes(seconds: int) -> str:
    return f"{math.ceil(seconds / 60)} min"
