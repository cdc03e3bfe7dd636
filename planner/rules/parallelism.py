"""How a model can be split over GPUs."""

from collections.abc import Iterator

from planner.case import Case
from planner.engine import COMPRESSED_PADDED_SINCE
from planner.model import CompressedAttention, GroupedQueryAttention
from planner.rules.rule import PARALLELISM, VLLM, Rule, Values
from planner.weights import layer_tensors, quantisation_of


def _layout_known(case: Case) -> Values | None:
    choices = case.choices
    if case.gpu or None not in (choices.cards, choices.tensor, choices.pipeline):
        return None
    return {"series": choices.series}


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


def _experts_even(case: Case) -> Values | None:
    serving, model = case.serving, case.model
    if serving is None or model is None or model.experts is None or not serving.expert_parallel:
        return None
    experts, tensor = model.experts.count, case.layout.tensor
    return {"experts": experts, "tensor": tensor} if experts % tensor else None


def _tensor_in_pod(case: Case) -> Values | None:
    layout = case.layout
    return {"tensor": layout.tensor, "cards": layout.cards} if layout.tensor > layout.cards else None


PARALLELISM_RULES = (
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
        id="whole-pods",
        statement="A replica's GPUs fill whole pods; the size of the LeaderWorkerSet is their number.",
        source="https://lws.sigs.k8s.io/docs/concepts/",
        path=PARALLELISM,
        problem="{layout} = {gpus} GPUs do not fill whole pods of {cards} cards",
        fix="choose tensor × pipeline = {counts}, or change deployment.inference.gpu.cards",
        check=_whole_pods,
        mended_by_layout=True,
    ),
    Rule(
        id="heads",
        statement="The tensor parallel size divides the attention heads.",
        source=f"{VLLM}/config/model.py",
        path=f"{PARALLELISM}.tensor",
        problem="vLLM: Total number of attention heads ({heads}) must be divisible by tensor parallel size ({tensor}).",
        fix="{layouts}",
        check=_heads,
        mended_by_layout=True,
    ),
    Rule(
        id="kv-heads",
        statement="Of KV heads and tensor parallel size, one divides the other.",
        source=f"{VLLM}/model_executor/models/llama.py",
        path=f"{PARALLELISM}.tensor",
        problem="{heads} KV heads can be neither split nor copied evenly over {tensor} GPUs",
        fix="{layouts}",
        check=_kv_heads,
        mended_by_layout=True,
    ),
    Rule(
        id="output-groups",
        statement="The tensor parallel size divides the groups of DeepSeek-V4's output projection.",
        source=f"{VLLM}/models/deepseek_v4/attention.py",
        path=f"{PARALLELISM}.tensor",
        problem="the {groups} groups of the output projection cannot be split over {tensor} GPUs",
        fix="{layouts}",
        check=_output_groups,
        mended_by_layout=True,
    ),
    Rule(
        id="layers",
        statement="Each pipeline stage has at least one layer. vLLM does not check this and starts empty stages.",
        source=f"{VLLM}/distributed/utils.py",
        path=f"{PARALLELISM}.pipeline",
        problem="{pipeline} stages are more than the model's {layers} layers, so some would be empty",
        fix="{layouts}",
        check=_layers,
        mended_by_layout=True,
    ),
    Rule(
        id="widths",
        statement="The tensor parallel size divides the widths of the feed-forward layers.",
        source=f"{VLLM}/distributed/utils.py",
        path=f"{PARALLELISM}.tensor",
        problem="{what} {width} is not divisible by tensor parallel size {tensor}",
        fix="{layouts}",
        check=_width,
        mended_by_layout=True,
    ),
    Rule(
        id="quantised-shards",
        statement="Each GPU's part of a quantised matrix is whole blocks (FP8) or groups (AWQ, GPTQ, INT4).",
        source=f"{VLLM}/model_executor/layers/quantization/utils/fp8_utils.py",
        path=f"{PARALLELISM}.tensor",
        problem="split over {tensor} GPUs, a part of {size} is not whole blocks of {block}; vLLM: {said}",
        fix="{layouts}",
        check=_quantised_shards,
        mended_by_layout=True,
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
        id="experts-even",
        statement="Experts are spread evenly.",
        source=f"{VLLM}/model_executor/layers/fused_moe/layer.py",
        path="deployment.inference.engine.extraArgs",
        problem="{experts} experts over {tensor} GPUs are uneven: some wait, and load balancing (EPLB) refuses",
        fix="choose a tensor parallel size that divides {experts}",
        check=_experts_even,
        severity="warning",
    ),
)
