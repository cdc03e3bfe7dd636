"""The specification and what follows from it as one screen of text, for the preview."""

import math
from typing import TYPE_CHECKING

from deepseek_acs.planner import cost
from deepseek_acs.planner.compiled import HELPER_CPU, HELPER_GIB
from deepseek_acs.planner.fluid import CachePlan
from deepseek_acs.planner.memory import Memory, Stage
from deepseek_acs.planner.roofline import decode_floor_ms
from deepseek_acs.planner.search import longest_context
from deepseek_acs.planner.spec import ReplicasSpec, ResolvedSpec, UpdateSpec
from deepseek_acs.planner.starts import start_time

if TYPE_CHECKING:
    from deepseek_acs.settings.gate import GateSettings

WATCHER_RIGHTS = "reads pods, logs, events; writes its ConfigMap"
"""What the program that keeps evidence of incidents may do in its namespace (components/incidents.py)."""


def summary(spec: ResolvedSpec) -> dict[str, str]:
    """Lines by what they are about; with their labels, none is longer than 96 columns."""
    layout, gpu, pod, engine, budget = spec.layout, spec.gpu, spec.pod, spec.engine, spec.budget
    device = f" ({gpu.device.name}, {gpu.device.memory_gib:.1f} GiB)" if gpu.device else ""
    pods = "1 pod" if layout.pods == 1 else f"{layout.pods} pods"
    lines = {
        "model": f"{spec.model.name}, {spec.model.weights_gib:.1f} GiB",
        "layout": f"{pods} × {layout.gpus_per_pod} {gpu.series}{device}, "
        f"tensor {layout.tensor} × pipeline {layout.pipeline}",
        "pod": f"{pod.cpu} vCPUs, {pod.memory_gib:g} GiB of which /dev/shm {pod.shared_memory_gib:g} GiB"
        + _offload(spec),
        "engine": f"{engine.vllm.name}, {engine.gpu_memory_utilization:g} of GPU memory",
        **(_memory(spec, spec.memory) if spec.memory else {"memory": "not predicted, see the warnings"}),
        "load": f"{_minutes(budget.read_seconds)} to read at {spec.storage.throughput_mi_bps} MiB/s per pod; "
        f"the startup probe waits {_minutes(budget.startup_seconds)}",
    }
    if spec.engine.compile_cache:
        lines["compiled"] = f"code kept in the bucket; {HELPER_CPU} vCPU and {HELPER_GIB} GiB of each pod for that"
    if spec.cache is not None:
        lines["fluid"] = _fluid(spec.cache)
    if spec.replicas.scaler is not None:
        lines["scaling"] = _scaling(spec, spec.replicas)
    if spec.observability is not None and spec.observability.incidents is not None:
        if spec.starts is not None:
            lines["starts"] = str(spec.starts)
        lines["incidents"] = f"{spec.observability.incidents.keep} kept, at most 0.9 MiB; {WATCHER_RIGHTS}"
    if spec.gate is not None and spec.holds_updates:
        lines["gate"] = _gate(spec, spec.gate)
    if spec.update is not None:
        lines |= _update(spec, spec.update)
    return lines


def _offload(spec: ResolvedSpec) -> str:
    size = spec.engine.kv_offload_gib
    if not size:
        return ""
    where = "there" if spec.offloads_to_shared_memory else "over all pods"
    return f", {size:g} GiB of cache {where}"


def with_cost(spec: ResolvedSpec) -> dict[str, str]:
    """The summary, and what the deployment costs."""
    return {**summary(spec), **dict(cost.lines(spec))}


def text(lines: dict[str, str]) -> str:
    """The lines with their labels."""
    return "\n".join(f"{label:<10}{line}" for label, line in lines.items())


def _fluid(cache: CachePlan) -> str:
    return (
        f"{cache.workers} workers × {cache.cpu} vCPUs, {cache.memory_gib} GiB of which {cache.quota_gib} GiB cache; "
        f"the preload may take {_minutes(cache.preload_seconds)}"
    )


def _scaling(spec: ResolvedSpec, replicas: ReplicasSpec) -> str:
    """What the autoscaler may cost, in GPUs and in time. A hold that is forgotten may cost a lot, so it is said."""
    scaler = replicas.scaler
    kind = "" if scaler is None else scaler.kind if scaler.hold is None else f"{scaler.kind}, held at {scaler.hold}"
    return (
        f"{kind}, {replicas.least} to {replicas.most} groups, at most {replicas.most * spec.layout.gpus} GPUs; a new "
        f"one answers after {start_time(spec)}"
    )


def _update(spec: ResolvedSpec, update: UpdateSpec) -> dict[str, str]:
    new, layout = update.candidate, update.candidate.layout
    count = new.replicas.most
    added, held = count * layout.gpus, spec.replicas.most * spec.layout.gpus
    place = "of the account; inference.gpu.available would check them"
    if spec.gpu.available is not None and new.gpu.series == spec.gpu.series:
        place = f"of {spec.gpu.available - held} that are left"
    groups = "1 group" if count == 1 else f"{count} groups"
    return {
        "revision": f"{new.name} gets {update.weight} % of the requests: {groups}, {new.engine.vllm.name}, {layout}",
        "its GPUs": f"{added} {new.gpu.series} in addition to {held} of {spec.name}, {place}",
    }


def _gate(spec: ResolvedSpec, gate: "GateSettings") -> str:
    questions, last = len(gate.questions), spec.replicas.most - 1
    asked = [
        "1 question" if questions == 1 else f"{questions} questions",
        *([f"{spec.long_prompt_tokens:,} tokens"] if spec.long_prompt_tokens else []),
        f"{gate.load.requests} requests",
    ]
    others = {0: "", 1: ", before group 0"}.get(last, f", before groups 0 to {last - 1}")
    otherwise = "goes back" if gate.on_failure == "return" else "holds"
    return f"{', '.join(asked)}; of group {last}{others}; else {otherwise}"


def _memory(spec: ResolvedSpec, memory: Memory) -> dict[str, str]:
    stage, (low, nominal, high) = memory.tightest, memory.tokens
    number = list(memory.stages).index(stage) + 1
    where = f"stage {number} of {len(memory.stages)}" if len(memory.stages) > 1 else "each GPU"
    lines = {
        "verdict": _verdict(spec, memory),
        "memory": f"{where}: {memory.usable_gib:.1f} GiB usable = weights {stage.weights_gib:.1f} + "
        f"{_engine_and_cache(spec.engine.measured_kv_cache_gib, memory, stage)}",
        "cache": f"{nominal:,} tokens ({low:,} to {high:,})",
    }
    if nominal < memory.max_model_len:
        return lines
    lines["requests"] = _requests(memory)
    if unused := _unused(spec, memory):
        lines["unused"] = unused
    floor = decode_floor_ms(spec)
    if floor is not None:
        lines["decode"] = f"at least {floor:.1f} ms per token by memory bandwidth; measured: 10 to 25 times that"
    return lines


def _verdict(spec: ResolvedSpec, memory: Memory) -> str:
    """Whether it fits, and the first of what that does not count."""
    names = [*spec.uncounted.names, *(["images"] if spec.reads_images else [])]
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{memory.verdict.value}, without {names[0]}{more}, not counted" if names else memory.verdict.value


def _engine_and_cache(measured_gib: float | None, memory: Memory, stage: Stage) -> str:
    if measured_gib is not None:
        return f"engine {memory.usable_gib - stage.weights_gib - measured_gib:.1f} + cache {measured_gib:.2f}, measured"
    other = stage.activation + stage.non_torch + stage.graphs
    low, high = max(0, stage.cache.low), stage.cache.high
    return f"engine {other.low:.1f}–{other.high:.1f} + cache {low:.1f}–{high:.1f}"


def _requests(memory: Memory) -> str:
    low, nominal, high = memory.requests(memory.max_model_len)
    limit = memory.max_num_seqs * memory.virtual_engines
    band = "" if low == high else f" ({low:,} to {high:,})"
    text = f"{nominal:,}{band} of {memory.max_model_len:,} tokens at once"
    if nominal == limit:
        each = f"{memory.virtual_engines} virtual engines × " if memory.virtual_engines > 1 else ""
        text += f", by max_num_seqs: {each}{memory.max_num_seqs:,}"
    return text


def _unused(spec: ResolvedSpec, memory: Memory) -> str:
    """What a short ``max_model_len`` leaves unused: the longest that certainly fits here, and how many at once."""
    model = spec.model.shapes
    if model is None or memory.max_model_len >= model.context:
        return ""
    longest = longest_context(spec)
    changed = spec.with_length(longest).memory if longest > memory.max_model_len else None
    if changed is None:
        return ""
    own = "all of its context" if longest == model.context else f"of {model.context:,}"
    return (
        f"{memory.max_model_len:,} per request is a choice: {longest:,} ({own}) fits too, "
        f"{changed.requests(longest)[1]:,} at once"
    )


def _minutes(seconds: int) -> str:
    return f"{math.ceil(seconds / 60)} min"
