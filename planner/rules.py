"""The rules that a deployment must keep: one table, each row with its statement, source, texts and check.

Errors stop a deployment, warnings do not. A text may use ``{layouts}``, the nearest layouts that keep all rules.
"""

import difflib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from planner import catalogue
from planner.case import Case
from planner.compressed_cache import BLOCK_TOKENS
from planner.engine import (
    COMPRESSED_AUTO_SINCE,
    COMPRESSED_PADDED_SINCE,
    COMPRESSED_SINCE,
    DATA_PARALLEL_FLAGS,
    EXPERT_PARALLEL_SINCE,
    MULTI_NODE_MP_SINCE,
    UNCOUNTED_FLAGS,
    serving_changes,
    split_arguments,
    version_of,
)
from planner.loading import load_budget
from planner.memory import GIB, Verdict
from planner.model import CompressedAttention, GroupedQueryAttention
from planner.shutdown import SHUTDOWN_TIMEOUT_SINCE, grace_seconds, refuses_while_ending
from planner.weights import layer_tensors, quantisation_of

VLLM = "https://github.com/vllm-project/vllm/blob/v0.33.0/vllm"
VLLM_07 = "https://github.com/vllm-project/vllm/blob/v0.7.2/vllm"
ACS_PODS = "https://www.alibabacloud.com/help/en/cs/user-guide/acs-pod-instance-overview"

LWS_NAME_MAX = 51
"""Longest name of a LeaderWorkerSet: pods and the revision label append to it
(https://github.com/kubernetes-sigs/lws/blob/main/pkg/webhooks/leaderworkerset_webhook.go)."""

COMPRESSED_CAPABILITY = 9.0
"""Least for DeepSeek-V4's attention kernels (https://github.com/vllm-project/vllm/issues/50576)."""

GRAPHS_GIB = 1.5
"""Least memory outside the budget for CUDA graphs on versions that do not count them."""

Values = Mapping[str, object]
Check = Callable[[Case], Values | None]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule. ``check`` gives the values of ``problem`` and ``fix`` where a case breaks it, otherwise None."""

    id: str
    statement: str
    source: str
    path: str
    problem: str
    fix: str
    check: Check
    severity: Literal["error", "warning"] = "error"


def _model_known(case: Case) -> Values | None:
    choices = case.choices
    if case.model or case.config_error or choices.weights_gib is not None:
        return None
    near = difflib.get_close_matches(choices.model, catalogue.model_names(), n=1)
    return {"model": choices.model, "meant": f"did you mean {near[0]}? Otherwise set" if near else "set"}


def _config_readable(case: Case) -> Values | None:
    return {"error": case.config_error} if case.config_error else None


def _model_modelled(case: Case) -> Values | None:
    if case.model is None:
        return {"model": case.choices.model, "why": "only its size is known"} if case.weights_gib is not None else None
    return {"model": case.model.name, "why": f"it has {case.model.unpredicted}"} if case.model.unpredicted else None


def _series_known(case: Case) -> Values | None:
    if case.series:
        return None
    if case.choices.gpu_memory_gib is not None:
        sized = f"it is sized by the given {case.choices.gpu_memory_gib:g} GiB"
    elif case.gpu:
        sized = f"it is sized as {case.gpu.name}"
    else:
        sized = "without deployment.inference.gpu.gpuMemoryGiB, the memory of one card, it is not sized"
    return {"series": case.choices.series, "sized": sized}


def _layout_known(case: Case) -> Values | None:
    choices = case.choices
    if case.gpu or None not in (choices.cards, choices.tensor, choices.pipeline):
        return None
    return {"series": choices.series}


def _cards(case: Case) -> Values | None:
    if case.series is None or case.layout.cards in case.series.cards:
        return None
    legal = ", ".join(map(str, case.series.cards))
    return {"cards": case.layout.cards, "series": case.series.name, "legal": legal}


def _whole_pods(case: Case) -> Values | None:
    layout = case.layout
    if layout.gpus % layout.cards == 0:
        return None
    below, above = layout.gpus // layout.cards, layout.gpus // layout.cards + 1
    counts = " or ".join(f"{n * layout.cards} ({n} {'pod' if n == 1 else 'pods'})" for n in (below, above) if n)
    return {
        "layout": f"tensor {layout.tensor} × pipeline {layout.pipeline}",
        "gpus": layout.gpus,
        "cards": layout.cards,
        "counts": counts,
    }


def _heads(case: Case) -> Values | None:
    if case.model is None or case.model.heads % case.layout.tensor == 0:
        return None
    return {"heads": case.model.heads, "tensor": case.layout.tensor}


def _kv_heads(case: Case) -> Values | None:
    if case.model is None or not isinstance(case.model.attention, GroupedQueryAttention):
        return None
    heads, tensor = case.model.attention.kv_heads, case.layout.tensor
    return {"heads": heads, "tensor": tensor} if max(heads, tensor) % min(heads, tensor) else None


def _output_groups(case: Case) -> Values | None:
    if case.model is None or not isinstance(case.model.attention, CompressedAttention) or _heads(case):
        return None
    groups, tensor = case.model.attention.groups, case.layout.tensor
    return {"groups": groups, "tensor": tensor} if groups % tensor else None


def _layers(case: Case) -> Values | None:
    if case.model is None or case.layout.pipeline <= case.model.layers:
        return None
    return {"pipeline": case.layout.pipeline, "layers": case.model.layers}


def _widths(case: Case) -> Iterator[tuple[str, int]]:
    """Every width that is divided by the tensor parallel size, with its name."""
    model = case.model
    if model is None:
        return
    if model.intermediate and not all(model.sparse):
        yield "the feed-forward width", model.intermediate
    if model.experts and not (case.serving and case.serving.expert_parallel):
        yield "an expert's width", model.experts.size


def _width(case: Case) -> Values | None:
    if _heads(case):
        return None
    for what, width in _widths(case):
        if width % case.layout.tensor:
            return {"what": what, "width": width, "tensor": case.layout.tensor}
    return None


def _quantised_shards(case: Case) -> Values | None:
    """The check of each quantised matrix: its shard must be whole blocks or groups."""
    model, tensor = case.model, case.layout.tensor
    if model is None or model.quantisation is None or tensor == 1 or _heads(case) or _width(case):
        return None
    whole_experts = bool(case.serving and case.serving.expert_parallel)
    kinds = {model.sparse.index(kind) for kind in set(model.sparse)}
    for layer in sorted(kinds):
        for matrix in layer_tensors(model, layer):
            quantisation = quantisation_of(model, matrix, layer)
            if quantisation is None or quantisation.columns < 32 or quantisation.method == "mxfp4":
                continue
            if matrix.is_expert and whole_experts:
                continue
            if ".shared_experts" in matrix.module and _pads_shared_experts(case):
                continue
            block = quantisation.columns
            if matrix.row_parallel and (size := matrix.inputs // tensor) % block:
                where = "output_size of gate's and up's weight" if matrix.is_expert else "input_size_per_partition"
                return _shard(size, block, "block_k" if quantisation.is_block_fp8 else "group_size", where, tensor)
            if quantisation.is_block_fp8:
                for part in matrix.parts:
                    if (size := part // tensor) % quantisation.rows:
                        return _shard(size, quantisation.rows, "block_n", "output_partition_size", tensor)
    return None


def _pads_shared_experts(case: Case) -> bool:
    is_compressed = case.model is not None and isinstance(case.model.attention, CompressedAttention)
    return is_compressed and case.engine.version >= COMPRESSED_PADDED_SINCE


def _shard(size: int, block: int, kind: str, where: str, tensor: int) -> Values:
    if kind == "group_size":
        said = f"Weight input_size_per_partition={size} is not divisible by group_size={block}"
    elif where.startswith("output_size"):
        said = f"The {where} = {size} is not divisible by weight quantization block_n = {block}."
    else:
        said = f"Weight {where} = {size} is not divisible by weight quantization {kind} = {block}."
    return {"tensor": tensor, "size": size, "block": block, "said": said}


def _context(case: Case) -> Values | None:
    given = case.choices.max_model_len
    if case.model is None or given is None or given <= case.model.context:
        return None
    return {"given": given, "longest": case.model.context}


def _utilization(case: Case) -> Values | None:
    given = case.choices.gpu_memory_utilization
    return None if 0 < given <= 1 else {"given": given}


def _batched_tokens(case: Case) -> Values | None:
    serving = case.serving
    if serving is None or serving.max_num_batched_tokens is None or case.gpu is None:
        return None
    sequences = serving.sequences(case.engine, case.gpu)
    given = serving.max_num_batched_tokens
    if given < sequences:
        return {"given": given, "what": f"max_num_seqs ({sequences})", "least": sequences}
    if case.engine.is_v0 and given < serving.max_model_len <= 32768:
        return {"given": given, "what": f"max_model_len ({serving.max_model_len})", "least": serving.max_model_len}
    return None


def _expert_parallel(case: Case) -> Values | None:
    if "expert_parallel" not in serving_changes(case.choices.extra_args):
        return None
    if case.engine.version < EXPERT_PARALLEL_SINCE:
        return {"why": f"{case.engine.name} has no such argument"}
    if case.model is None or case.model.experts:
        return None
    return {
        "why": f"{case.model.name} has no experts; vLLM: Number of experts in the model must be greater than 0 when "
        "expert parallelism is enabled."
    }


def _experts_even(case: Case) -> Values | None:
    serving, model = case.serving, case.model
    if serving is None or model is None or model.experts is None or not serving.expert_parallel:
        return None
    experts, tensor = model.experts.count, case.layout.tensor
    return {"experts": experts, "tensor": tensor} if experts % tensor else None


def _capability(case: Case) -> Values | None:
    if case.model is None or case.gpu is None or case.gpu.capability is None:
        return None
    if case.gpu.capability < 8.0 and case.engine.is_v0 and "--dtype" not in split_arguments(case.choices.extra_args):
        why = "vLLM: Bfloat16 is only supported on GPUs with compute capability of at least 8.0."
        return {"method": "bf16", "gpu": case.gpu.name, "why": why}
    if case.model.quantisation is None:
        return None
    method = case.model.quantisation.method
    if isinstance(case.model.attention, CompressedAttention) and case.gpu.capability < COMPRESSED_CAPABILITY:
        why = f"DeepSeek-V4's attention needs a capability of {COMPRESSED_CAPABILITY}, it has {case.gpu.capability}"
        return {"method": method, "gpu": case.gpu.name, "why": why}
    if case.engine.is_v0:
        least = {"fp8": 8.9 if case.model.quantisation.is_block_fp8 else 8.0, "awq": 7.5, "gptq": 7.5}.get(method, 8.0)
        if method in ("nvfp4", "mxfp4"):
            return {"method": method, "gpu": case.gpu.name, "why": f"{case.engine.name} does not know it"}
    else:
        least = {"fp8": 7.5, "awq": 7.5, "gptq": 7.5, "mxfp4": 8.0, "nvfp4": 8.0}.get(method, 7.5)
    if case.gpu.capability >= least:
        return None
    needed, has = round(least * 10), round(case.gpu.capability * 10)
    why = (
        f"vLLM: The quantization method {method} is not supported for the current GPU. Minimum capability: {needed}. "
        f"Current capability: {has}."
    )
    return {"method": method, "gpu": case.gpu.name, "why": why}


def _fp8_cache(case: Case) -> Values | None:
    serving, model = case.serving, case.model
    if serving is None or model is None or not serving.kv_cache_dtype.startswith("fp8"):
        return None
    return {"engine": case.engine.name} if case.engine.is_v0 and case.engine.uses_mla(model) else None


def _cache_format(case: Case) -> Values | None:
    serving, model = case.serving, case.model
    if serving is None or model is None or not isinstance(model.attention, CompressedAttention):
        return None
    if serving.block_size not in (None, BLOCK_TOKENS):
        why = f"the kernels of DeepSeek-V4 take blocks of {BLOCK_TOKENS} tokens, not of {serving.block_size}"
        return {"why": why, "argument": f"--block-size={BLOCK_TOKENS}"}
    given = serving.kv_cache_dtype
    if given.startswith("fp8") or (given == "auto" and case.engine.version >= COMPRESSED_AUTO_SINCE):
        return None
    why = f"{case.engine.name} keeps DeepSeek-V4's cache in FP8 only and refuses {given}"
    return {"why": why, "argument": "--kv-cache-dtype=fp8"}


def _model_version(case: Case) -> Values | None:
    if case.model is None or not isinstance(case.model.attention, CompressedAttention):
        return None
    if case.engine.version >= COMPRESSED_SINCE:
        return None
    since = ".".join(map(str, COMPRESSED_SINCE))
    return {"engine": case.engine.name, "model": case.model.name, "since": since}


def _data_parallel(case: Case) -> Values | None:
    arguments = split_arguments(case.choices.extra_args)
    value = next((arguments[flag] for flag in DATA_PARALLEL_FLAGS if flag in arguments), "1")
    if not value.isdecimal() or int(value) <= 1:
        return None
    return {"size": int(value), "needed": int(value) * case.layout.gpus, "gpus": case.layout.gpus}


def _memory(case: Case) -> Values | None:
    memory = case.memory
    if memory is None or memory.verdict is not Verdict.DOES_NOT_FIT or case.model is None:
        return None
    stage = memory.tightest
    available, needed = stage.cache.high, stage.pool.request_bytes / GIB
    length, tokens = memory.max_model_len, memory.tokens[2]
    if available <= 0 or tokens == 0:
        said = "No available memory for the cache blocks. Try increasing `gpu_memory_utilization`"
    elif tokens >= length:
        share = tokens // memory.virtual_engines
        said = f"nothing, but each of its {memory.virtual_engines} virtual engines has {share:,} tokens"
    elif case.engine.is_v0:
        said = (
            f"The model's max seq len ({length}) is larger than the maximum number of tokens that can be stored in KV "
            f"cache ({tokens})"
        )
    else:
        said = (
            f"To serve at least one request with the model's max seq len ({length}), ({needed:.2f} GiB KV cache is "
            f"needed, which is larger than the available KV cache memory ({available:.2f} GiB)"
        )
    return {
        "model": case.model.name,
        "weights": stage.weights_gib,
        "usable": memory.usable_gib,
        "available": max(0.0, available),
        "length": length,
        "needed": needed,
        "said": said,
    }


def _memory_close(case: Case) -> Values | None:
    memory = case.memory
    if memory is None or memory.verdict is not Verdict.TOO_CLOSE:
        return None
    low, _, high = memory.tokens
    return {"low": low, "high": high, "length": memory.max_model_len * memory.virtual_engines}


def _memory_bound(case: Case) -> Values | None:
    if case.memory is not None or case.weights_gib is None or case.gpu is None:
        return None
    usable = case.gpu.memory_gib * case.choices.gpu_memory_utilization
    share = case.weights_gib / case.layout.gpus
    return {"share": share, "usable": usable} if share >= usable else None


def _graphs(case: Case) -> Values | None:
    if case.gpu is None or case.choices.enforce_eager or case.engine.counts_graphs:
        return None
    rest = case.gpu.memory_gib * (1 - case.choices.gpu_memory_utilization)
    return {"engine": case.engine.name, "rest": rest} if rest < GRAPHS_GIB else None


def _uncounted(case: Case) -> Values | None:
    flags = [flag for flag in split_arguments(case.choices.extra_args) if flag in UNCOUNTED_FLAGS]
    return {"flags": ", ".join(flags)} if flags else None


def _image_version(case: Case) -> Values | None:
    image = case.choices.image
    return {"image": image, "engine": case.engine.name} if image and version_of(image) is None else None


def _tensor_in_pod(case: Case) -> Values | None:
    layout = case.layout
    return {"tensor": layout.tensor, "cards": layout.cards} if layout.tensor > layout.cards else None


def _pod_size(case: Case) -> Values | None:
    legal, cpu, memory = case.pods_of_acs, case.cpu, case.memory_gib
    if not legal:
        return None
    return (
        None
        if any(c >= cpu and max(sizes) >= memory for c, sizes in legal.items())
        else {
            "cpu": cpu,
            "memory": memory,
            "cards": case.layout.cards,
            "series": case.choices.series,
            "legal": _sizes(legal),
        }
    )


def _pod_rounded(case: Case) -> Values | None:
    legal, cpu, memory = case.pods_of_acs, case.cpu, case.memory_gib
    fitting = [(c, size) for c, sizes in legal.items() if c >= cpu for size in sizes if size >= memory]
    if not fitting or (cpu, memory) in fitting:
        return None
    billed_cpu, billed_memory = min(fitting)
    return {"cpu": cpu, "memory": memory, "billed": f"{billed_cpu} vCPUs and {billed_memory} GiB"}


def _sizes(legal: Mapping[int, tuple[int, ...]]) -> str:
    return "; ".join(f"{cpu} vCPUs with {', '.join(map(str, sizes))} GiB" for cpu, sizes in legal.items())


def _shared_memory(case: Case) -> Values | None:
    if case.shared_memory_gib < case.memory_gib:
        return None
    return {"shared": case.shared_memory_gib, "memory": case.memory_gib}


def _rdma(case: Case) -> Values | None:
    if case.choices.network != "rdma" or case.series is None or case.layout.cards in case.series.rdma_cards:
        return None
    legal = " or ".join(map(str, case.series.rdma_cards))
    if legal:
        but = f" only with {legal} cards, and these have {case.layout.cards}"
        return {"some": "", "series": case.series.name, "but": but, "fix": f"deployment.inference.gpu.cards: {legal}"}
    series = ", ".join(name for name, row in catalogue.gpu_series().items() if row.rdma_cards)
    return {"some": "no ", "series": case.series.name, "but": "", "fix": f"one of the series {series}"}


def _name(case: Case) -> Values | None:
    length = len(case.choices.name)
    return {"name": case.choices.name, "length": length, "most": LWS_NAME_MAX} if length > LWS_NAME_MAX else None


def _backend(case: Case) -> Values | None:
    if case.choices.backend != "mp" or case.layout.pods == 1 or case.engine.version >= MULTI_NODE_MP_SINCE:
        return None
    return {"engine": case.engine.name, "since": ".".join(map(str, MULTI_NODE_MP_SINCE))}


def _image_hardware(case: Case) -> Values | None:
    image = case.choices.image or ""
    if (case.choices.series == "P16EN") == ("-xpu-" in image) or not image:
        return None
    needs = "an inference-xpu image" if case.choices.series == "P16EN" else "an image for NVIDIA GPUs"
    return {"series": case.choices.series, "needs": needs, "image": image}


def _startup(case: Case) -> Values | None:
    given, weights, rate = case.choices.startup_seconds, case.weights_gib, case.choices.throughput_mib_s
    if given is None or weights is None:
        return None
    needed = load_budget(weights_gib=weights, throughput_mib_s=rate)
    if given >= needed.read_seconds:
        return None
    return {
        "given": given,
        "read": needed.read_seconds,
        "weights": weights,
        "rate": rate,
        "needed": needed.startup_seconds,
    }


def _drain(case: Case) -> Values | None:
    drain, request = case.choices.drain_seconds, case.choices.request_seconds
    if drain is None or request is None or drain >= request:
        return None
    return {"drain": drain, "request": request, "grace": grace_seconds(request)}


def _available(case: Case) -> Values | None:
    available, per_replica = case.choices.available_gpus, case.layout.pods * case.layout.cards
    if available is None:
        return None
    needed = (case.choices.replicas + case.choices.max_surge) * per_replica
    if needed <= available:
        return None
    return {
        "replicas": case.choices.replicas,
        "surge": case.choices.max_surge,
        "needed": needed,
        "available": available,
        "per": per_replica,
    }


def _update_downtime(case: Case) -> Values | None:
    choices, budget = case.choices, case.budget
    if choices.request_seconds is None or budget is None or not 0 < choices.replicas <= choices.max_unavailable:
        return None
    return {
        "groups": "the only group" if choices.replicas == 1 else f"all {choices.replicas} groups",
        "read": math.ceil(budget.read_seconds / 60),
        "startup": math.ceil(budget.startup_seconds / 60),
        "gpus": case.layout.gpus,
    }


def _update_reaches(case: Case) -> Values | None:
    partition, replicas = case.choices.partition, case.choices.replicas
    return {"partition": partition, "replicas": replicas} if partition and partition >= replicas else None


def _ending(case: Case) -> Values | None:
    choices = case.choices
    if choices.request_seconds is None or refuses_while_ending(version_of(choices.image)):
        return None
    engine = case.engine.name if version_of(choices.image) else "an engine of unknown version"
    return {"engine": engine, "request": choices.request_seconds, "since": ".".join(map(str, SHUTDOWN_TIMEOUT_SINCE))}


def _budget_refuses(case: Case) -> Values | None:
    return {} if case.choices.evictable_groups == 0 and case.choices.replicas else None


def _budget_spares(case: Case) -> Values | None:
    evictable, replicas = case.choices.evictable_groups, case.choices.replicas
    if not evictable or not 0 < replicas <= evictable:
        return None
    return {"groups": "the only group" if replicas == 1 else f"all {replicas} groups"}


PARALLELISM = "deployment.inference.parallelism"

RULES = (
    Rule(
        id="model-known",
        statement="The model is in the catalogue, or its config.json or size is given.",
        source="planner/models.toml",
        path="deployment.model.name",
        problem="{model} is not in planner/models.toml, so its size is unknown",
        fix="{meant} deployment.model.weightsGiB to the size of its safetensors files in GiB, or "
        "deployment.model.configFile to its config.json, which also tells its memory",
        check=_model_known,
    ),
    Rule(
        id="config-readable",
        statement="A config.json that is given can be read and has the keys that memory depends on.",
        source="https://huggingface.co/docs/transformers/main_classes/configuration",
        path="deployment.model.configFile",
        problem="{error}",
        fix="give the path of the model's own config.json, as downloaded with its weights",
        check=_config_readable,
    ),
    Rule(
        id="layout-known",
        statement="A layout is left open only where the memory of a card is known.",
        source="planner/acs.toml",
        path="deployment.inference.gpu.gpuMemoryGiB",
        problem="how many GPUs are needed depends on the memory of a card, which is not known for series {series}",
        fix="set it, or set all of gpu.cards, parallelism.tensor and parallelism.pipeline",
        check=_layout_known,
    ),
    Rule(
        id="cards",
        statement="ACS has pods of the series with this number of cards.",
        source=ACS_PODS,
        path="deployment.inference.gpu.cards",
        problem="ACS has no pod with {cards} cards of series {series} and would reject it",
        fix="write one of {legal}",
        check=_cards,
    ),
    Rule(
        id="whole-pods",
        statement="A replica's GPUs fill whole pods; the size of the LeaderWorkerSet is their number.",
        source="https://lws.sigs.k8s.io/docs/concepts/",
        path=PARALLELISM,
        problem="{layout} = {gpus} GPUs do not fill whole pods of {cards} cards",
        fix="choose tensor × pipeline = {counts}, or change deployment.inference.gpu.cards",
        check=_whole_pods,
    ),
    Rule(
        id="heads",
        statement="The tensor parallel size divides the attention heads.",
        source=f"{VLLM}/config/model.py",
        path=f"{PARALLELISM}.tensor",
        problem="vLLM: Total number of attention heads ({heads}) must be divisible by tensor parallel size ({tensor}).",
        fix="{layouts}",
        check=_heads,
    ),
    Rule(
        id="kv-heads",
        statement="Of KV heads and tensor parallel size, one divides the other.",
        source=f"{VLLM}/model_executor/models/llama.py",
        path=f"{PARALLELISM}.tensor",
        problem="{heads} KV heads can be neither split nor copied evenly over {tensor} GPUs",
        fix="{layouts}",
        check=_kv_heads,
    ),
    Rule(
        id="output-groups",
        statement="The tensor parallel size divides the groups of DeepSeek-V4's output projection.",
        source=f"{VLLM}/models/deepseek_v4/attention.py",
        path=f"{PARALLELISM}.tensor",
        problem="the {groups} groups of the output projection cannot be split over {tensor} GPUs",
        fix="{layouts}",
        check=_output_groups,
    ),
    Rule(
        id="layers",
        statement="Each pipeline stage has at least one layer. vLLM does not check this and starts empty stages.",
        source=f"{VLLM}/distributed/utils.py",
        path=f"{PARALLELISM}.pipeline",
        problem="{pipeline} stages are more than the model's {layers} layers, so some would be empty",
        fix="{layouts}",
        check=_layers,
    ),
    Rule(
        id="widths",
        statement="The tensor parallel size divides the widths of the feed-forward layers.",
        source=f"{VLLM}/distributed/utils.py",
        path=f"{PARALLELISM}.tensor",
        problem="{what} {width} is not divisible by tensor parallel size {tensor}",
        fix="{layouts}",
        check=_width,
    ),
    Rule(
        id="quantised-shards",
        statement="Each GPU's part of a quantised matrix is whole blocks (FP8) or groups (AWQ, GPTQ, INT4).",
        source=f"{VLLM}/model_executor/layers/quantization/utils/fp8_utils.py",
        path=f"{PARALLELISM}.tensor",
        problem="split over {tensor} GPUs, a part of {size} is not whole blocks of {block}; vLLM: {said}",
        fix="{layouts}",
        check=_quantised_shards,
    ),
    Rule(
        id="context",
        statement="The longest request is not longer than the model's context.",
        source=f"{VLLM}/config/model.py",
        path="deployment.inference.engine.maxModelLen",
        problem="vLLM: User-specified max_model_len ({given}) is greater than the derived max_model_len ({longest})",
        fix="write {longest} or less",
        check=_context,
    ),
    Rule(
        id="utilization",
        statement="The share of GPU memory is above 0 and at most 1.",
        source=f"{VLLM}/config/cache.py",
        path="deployment.inference.engine.gpuMemoryUtilization",
        problem="{given} is not a share of memory above 0 and up to 1",
        fix="write for example 0.9",
        check=_utilization,
    ),
    Rule(
        id="batched-tokens",
        statement="A step holds a token of every sequence, and on 0.7 a whole request.",
        source=f"{VLLM_07}/config.py",
        path="deployment.inference.engine.extraArgs",
        problem="vLLM: max_num_batched_tokens ({given}) must be greater than or equal to {what}",
        fix="write --max-num-batched-tokens={least} or more",
        check=_batched_tokens,
    ),
    Rule(
        id="expert-parallel",
        statement="Expert parallelism needs a model with experts, and a version that knows it.",
        source=f"{VLLM}/config/parallel.py",
        path="deployment.inference.engine.extraArgs",
        problem="--enable-expert-parallel: {why}",
        fix="remove it",
        check=_expert_parallel,
    ),
    Rule(
        id="capability",
        statement="The GPU and the version can compute with the checkpoint's quantisation.",
        source=f"{VLLM_07}/model_executor/layers/quantization/fp8.py",
        path="deployment.inference.gpu.series",
        problem="{method} weights on {gpu}: {why}",
        fix="choose a newer GPU series, a newer image, or a checkpoint in another format",
        check=_capability,
    ),
    Rule(
        id="fp8-cache",
        statement="0.7 has no FP8 cache for MLA.",
        source=f"{VLLM_07}/attention/backends/triton_mla.py",
        path="deployment.inference.engine.extraArgs",
        problem="{engine} fails at the first request: FP8 Triton MLA not yet supported",
        fix="remove --kv-cache-dtype, or use a newer image",
        check=_fp8_cache,
    ),
    Rule(
        id="cache-format",
        statement="DeepSeek-V4's cache has blocks of 256 tokens in FP8, which versions before 0.30 must be told.",
        source=f"{VLLM}/models/deepseek_v4/attention.py",
        path="deployment.inference.engine.extraArgs",
        problem="{why}",
        fix="write {argument}",
        check=_cache_format,
    ),
    Rule(
        id="model-version",
        statement="The version knows the model.",
        source="https://github.com/vllm-project/vllm/tree/v0.20.0/vllm/model_executor/models",
        path="deployment.inference.engine.image",
        problem="{engine} does not know {model}",
        fix="use an image with vLLM {since} or newer",
        check=_model_version,
    ),
    Rule(
        id="data-parallel",
        statement="A replica is one engine: its GPUs are those of tensor and pipeline parallelism.",
        source="https://docs.vllm.ai/en/latest/serving/data_parallel_deployment/",
        path="deployment.inference.engine.extraArgs",
        problem="--data-parallel-size {size} starts {size} engines, which need {needed} GPUs; a replica has {gpus}; "
        "what fits on them is not modelled",
        fix="remove it and set deployment.inference.replicas to {size}, or split the model over all GPUs of the pods",
        check=_data_parallel,
    ),
    Rule(
        id="memory",
        statement="On every GPU, weights and the engine's needs leave cache for one request of full length.",
        source=f"{VLLM}/v1/core/kv_cache_planning.py",
        path="deployment.inference",
        problem="{model} does not fit: of {usable:.1f} GiB on the tightest GPU, weights take {weights:.1f}; at best "
        "{available:.1f} GiB are left for the cache, and one request of {length:,} tokens needs {needed:.2f}; "
        "vLLM: {said}",
        fix="{layouts}",
        check=_memory,
    ),
    Rule(
        id="memory-bound",
        statement="The model's files are smaller than the memory of its GPUs.",
        source=f"{VLLM}/v1/worker/gpu_worker.py",
        path="deployment.inference",
        problem="the weights alone need {share:.1f} GiB on each GPU, which has {usable:.1f} usable",
        fix="{layouts}",
        check=_memory_bound,
    ),
    Rule(
        id="pod-size",
        statement="ACS has a pod of the series that is large enough.",
        source=ACS_PODS,
        path="deployment.inference.resources",
        problem="ACS has no pod with {cards} cards of series {series}, {cpu} vCPUs and {memory:g} GiB",
        fix="choose from: {legal}",
        check=_pod_size,
    ),
    Rule(
        id="shared-memory",
        statement="Shared memory is a part of the pod's memory.",
        source="https://kubernetes.io/docs/concepts/storage/volumes/#emptydir",
        path="deployment.inference.resources.sharedMemory",
        problem="{shared:g} GiB of shared memory leave nothing of the pod's {memory:g} GiB, of which they are a part",
        fix="write less than the pod's memory, for example 4 GiB per card",
        check=_shared_memory,
    ),
    Rule(
        id="rdma",
        statement="Only whole-machine pods of some series have RDMA.",
        source="https://www.alibabacloud.com/help/en/cs/user-guide/pod-hpn-type-rdma",
        path="deployment.inference.network",
        problem="ACS has {some}RDMA for pods of series {series}{but}",
        fix="write {fix}, or network: standard",
        check=_rdma,
    ),
    Rule(
        id="name",
        statement="The names of pods and revisions, which append to the group's, stay within 63 characters.",
        source="https://github.com/kubernetes-sigs/lws/blob/main/pkg/webhooks/leaderworkerset_webhook.go",
        path="deployment.inference.name",
        problem="{name} has {length} characters, a LeaderWorkerSet at most {most}",
        fix="write a shorter name",
        check=_name,
    ),
    Rule(
        id="backend",
        statement="Several pods without Ray need a version with --nnodes.",
        source="https://github.com/vllm-project/vllm/pull/23691",
        path="deployment.inference.engine.backend",
        problem="{engine} cannot form one engine of several pods with the mp backend",
        fix="write backend: ray, or use an image with vLLM {since} or newer",
        check=_backend,
    ),
    Rule(
        id="startup",
        statement="The startup probe waits longer than the weights take to load.",
        source="https://kubernetes.io/docs/concepts/configuration/liveness-readiness-startup-probes/",
        path="deployment.inference.engine.startupSeconds",
        problem="the startup probe would end the pod after {given} s, while reading {weights:.1f} GiB at {rate} MiB/s "
        "takes {read} s",
        fix="write {needed}, or leave it out, or raise deployment.storage.throughputMiBps if it was measured",
        check=_startup,
    ),
    Rule(
        id="drain",
        statement="A pod that is being replaced may finish the longest request.",
        source="https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination",
        path="deployment.inference.lifecycle.graceSeconds",
        problem="pods are given {drain} s to end their requests, which may take {request} s",
        fix="leave it out, or write {grace} or more",
        check=_drain,
    ),
    Rule(
        id="available-gpus",
        statement="All replicas, and those that an update adds, fit on the GPUs that there are.",
        source="https://lws.sigs.k8s.io/docs/concepts/rollout-strategy/",
        path="deployment.inference.rollout.maxSurge",
        problem="{replicas} replicas and {surge} more during an update need {needed} GPUs, of {available}",
        fix="lower replicas or maxSurge; each needs {per} GPUs",
        check=_available,
    ),
    Rule(
        id="model-modelled",
        statement="The model's shapes are known and its kind of attention is modelled.",
        source="docs/planner.md",
        path="deployment.model.name",
        problem="the memory of {model} is bounded, not predicted: {why}",
        fix="check the engine's own figures at its first start",
        check=_model_modelled,
        severity="warning",
    ),
    Rule(
        id="series-known",
        statement="The GPU series is in the catalogue. The cloud adds series faster than this program.",
        source=ACS_PODS,
        path="deployment.inference.gpu.series",
        problem="{series} is not in planner/acs.toml; it is passed to ACS unchecked; {sized}",
        fix="check the name with your account manager",
        check=_series_known,
        severity="warning",
    ),
    Rule(
        id="memory-close",
        statement="The pessimistic estimate, too, leaves cache for one request of full length.",
        source="docs/planner.md",
        path="deployment.inference",
        problem="too close to say whether it fits: {low:,} to {high:,} tokens of cache, {length:,} are needed",
        fix="lower maxModelLen, or {layouts}",
        check=_memory_close,
        severity="warning",
    ),
    Rule(
        id="experts-even",
        statement="Experts are spread evenly.",
        source=f"{VLLM}/model_executor/layers/fused_moe/layer.py",
        path="deployment.inference.engine.extraArgs",
        problem="{experts} experts over {tensor} GPUs are uneven: some wait, and load balancing (EPLB) refuses",
        fix="choose a tensor parallel size that divides {experts}",
        check=_experts_even,
        severity="warning",
    ),
    Rule(
        id="tensor-in-pod",
        statement="A layer is split within one pod.",
        source=f"{VLLM}/v1/executor/ray_utils.py",
        path=f"{PARALLELISM}.tensor",
        problem="{tensor} is more than the {cards} cards of a pod, so each layer waits for the network",
        fix="prefer pipeline parallelism between pods",
        check=_tensor_in_pod,
        severity="warning",
    ),
    Rule(
        id="graphs",
        statement="Versions before 0.21 need memory for CUDA graphs beyond the share that is granted.",
        source="https://github.com/huggingface/open-r1/pull/43",
        path="deployment.inference.engine.gpuMemoryUtilization",
        problem="{engine} captures CUDA graphs outside this share, where {rest:.1f} GiB are left",
        fix="lower it, or set enforceEager",
        check=_graphs,
        severity="warning",
    ),
    Rule(
        id="uncounted-flags",
        statement="Arguments that change memory are counted.",
        source=f"{VLLM}/engine/arg_utils.py",
        path="deployment.inference.engine.extraArgs",
        problem="{flags} changes memory in a way that the plan does not count",
        fix="check the engine's own figures at its first start",
        check=_uncounted,
        severity="warning",
    ),
    Rule(
        id="image-version",
        statement="The image's name tells the version of vLLM.",
        source="docs/planner.md",
        path="deployment.inference.engine.image",
        problem="the name of {image} tells no version of vLLM; the plan assumes {engine}",
        fix="use a tag such as vllm-openai:v0.11.0, where there is one",
        check=_image_version,
        severity="warning",
    ),
    Rule(
        id="image-hardware",
        statement="The image is built for the series' hardware.",
        source="https://help.aliyun.com/en/cs/user-guide/acs-ai-container-image-version-release-record/",
        path="deployment.inference.engine.image",
        problem="series {series} needs {needs}, which {image} does not seem to be",
        fix="choose one from ACS's list of images",
        check=_image_hardware,
        severity="warning",
    ),
    Rule(
        id="pod-rounded",
        statement="ACS rounds up to the next legal size and bills that.",
        source=ACS_PODS,
        path="deployment.inference.resources",
        problem="{cpu} vCPUs and {memory:g} GiB are no legal size; ACS rounds up to {billed} and bills that",
        fix="write the size that is billed",
        check=_pod_rounded,
        severity="warning",
    ),
    Rule(
        id="update-downtime",
        statement="An update leaves a group that answers.",
        source="https://lws.sigs.k8s.io/docs/concepts/rollout-strategy/",
        path="deployment.inference.rollout",
        problem="a change of the pods takes {groups} down until the model is loaded again, {read} to {startup} min",
        fix="set maxSurge: 1 and maxUnavailable: 0 if {gpus} more GPUs can be had, or update when nobody minds",
        check=_update_downtime,
        severity="warning",
    ),
    Rule(
        id="update-reaches",
        statement="An update changes some group.",
        source="https://lws.sigs.k8s.io/docs/concepts/rollout-strategy/",
        path="deployment.inference.rollout.partition",
        problem="only groups from number {partition} on are updated, and there are {replicas}, counted from 0",
        fix="write a lower number, or 0 for all groups",
        check=_update_reaches,
        severity="warning",
    ),
    Rule(
        id="ending",
        statement="An engine that is ending takes no new requests.",
        source="https://github.com/vllm-project/vllm/pull/36666",
        path="deployment.inference.lifecycle.requestSeconds",
        problem="{engine} takes new requests on open connections while it ends, until all are done or {request} s are "
        "over; those that are left are cut off",
        fix="use an image whose tag tells vLLM {since} or newer",
        check=_ending,
        severity="warning",
    ),
    Rule(
        id="budget-refuses",
        statement="A node can be drained.",
        source="https://kubernetes.io/docs/tasks/run-application/configure-pdb/",
        path="deployment.inference.lifecycle.disruptionBudget",
        problem="0 refuses every eviction, so the drain of a node waits until somebody deletes the group by hand",
        fix="tell those who maintain the nodes, or write 1",
        check=_budget_refuses,
        severity="warning",
    ),
    Rule(
        id="budget-spares",
        statement="Evictions leave a group.",
        source="https://kubernetes.io/docs/tasks/run-application/configure-pdb/",
        path="deployment.inference.lifecycle.disruptionBudget",
        problem="evictions may take {groups}, so the budget protects nothing",
        fix="run more replicas than maxUnavailable, or write 0 to have evictions refused",
        check=_budget_spares,
        severity="warning",
    ),
)

LAYOUT_RULES = tuple(
    rule
    for rule in RULES
    if rule.severity == "error"
    and rule.id
    in {
        "cards",
        "whole-pods",
        "heads",
        "kv-heads",
        "output-groups",
        "layers",
        "widths",
        "quantised-shards",
        "rdma",
        "backend",
        "available-gpus",
        "memory-bound",
        "memory",
    }
)
"""What another layout could mend, the dear checks last."""
