"""How a model can be split over GPUs."""

from collections.abc import Iterator

from deepseek_acs.planner.findings import Field
from deepseek_acs.planner.model import CompressedAttention, GroupedQueryAttention
from deepseek_acs.planner.rules.rule import OTHER_LAYOUTS, VLLM, Problem, rule, warning
from deepseek_acs.planner.spec import ResolvedSpec
from deepseek_acs.planner.vllm_releases.release import changed_in
from deepseek_acs.planner.weights import layer_tensors, quantisation_of, representatives


@rule("deepseek_acs/planner/gpu_series.toml")
def layout_known(spec: ResolvedSpec) -> Iterator[Problem]:
    """The layout may be left out only if the memory of a GPU is known."""
    fixed = spec.fixed
    if spec.gpu.device is None and None in (fixed.gpus_per_pod, fixed.tensor, fixed.pipeline):
        yield (
            Field.GPU_MEMORY_GIB,
            f"the number of GPUs depends on the memory of one GPU, which is not known for series {spec.gpu.series}",
            f"set it, or set all of {Field.GPUS_PER_POD}, {Field.TENSOR} and {Field.PIPELINE}",
        )


@rule("https://lws.sigs.k8s.io/docs/concepts/", mended_by_layout=True)
def whole_pods(spec: ResolvedSpec) -> Iterator[Problem]:
    """The GPUs of a replica fill whole pods; their number is the size of the LeaderWorkerSet."""
    layout = spec.layout
    if layout.gpus % layout.gpus_per_pod == 0:
        return
    below, above = layout.gpus // layout.gpus_per_pod, layout.gpus // layout.gpus_per_pod + 1
    counts = " or ".join(f"{n * layout.gpus_per_pod} ({n} {'pod' if n == 1 else 'pods'})" for n in (below, above) if n)
    yield (
        Field.LAYOUT,
        f"tensor {layout.tensor} × pipeline {layout.pipeline} = {layout.gpus} GPUs do not fill whole pods of "
        f"{layout.gpus_per_pod} GPUs",
        f"choose tensor × pipeline = {counts}, or change {Field.GPUS_PER_POD}",
    )


@rule(f"{VLLM}/config/model.py", mended_by_layout=True)
def heads(spec: ResolvedSpec) -> Iterator[Problem]:
    """The tensor parallel size divides the attention heads."""
    if not _divides_heads(spec) and spec.model.shapes:
        yield (
            Field.TENSOR,
            f"vLLM: Total number of attention heads ({spec.model.shapes.heads}) must be divisible by tensor parallel "
            f"size ({spec.layout.tensor}).",
            OTHER_LAYOUTS,
        )


def _divides_heads(spec: ResolvedSpec) -> bool:
    return spec.model.shapes is None or spec.model.shapes.heads % spec.layout.tensor == 0


@rule(f"{VLLM}/model_executor/models/llama.py", mended_by_layout=True)
def kv_heads(spec: ResolvedSpec) -> Iterator[Problem]:
    """The number of KV heads divides the tensor parallel size, or is divisible by it."""
    model, tensor = spec.model.shapes, spec.layout.tensor
    if model is None or not isinstance(model.attention, GroupedQueryAttention):
        return
    count = model.attention.kv_heads
    if max(count, tensor) % min(count, tensor):
        yield (
            Field.TENSOR,
            f"{count} KV heads can be neither split nor copied evenly over {tensor} GPUs",
            OTHER_LAYOUTS,
        )


@rule(f"{VLLM}/models/deepseek_v4/attention.py", mended_by_layout=True)
def output_groups(spec: ResolvedSpec) -> Iterator[Problem]:
    """The tensor parallel size divides the groups of DeepSeek-V4's output projection."""
    model, tensor = spec.model.shapes, spec.layout.tensor
    if model is None or not isinstance(model.attention, CompressedAttention) or not _divides_heads(spec):
        return
    groups = model.attention.groups
    if groups % tensor:
        yield (
            Field.TENSOR,
            f"the {groups} groups of the output projection cannot be split over {tensor} GPUs",
            OTHER_LAYOUTS,
        )


@rule(f"{VLLM}/distributed/utils.py", mended_by_layout=True)
def partition(spec: ResolvedSpec) -> Iterator[Problem]:
    """VLLM_PP_LAYER_PARTITION gives each pipeline stage some of the layers, and all of them are given."""
    given, model, pipeline = spec.engine.vllm.partition, spec.model.shapes, spec.layout.pipeline
    if given is None:
        return
    said = ""
    if not given:
        said = "Invalid partition string"
    elif len(given) != pipeline:
        said = f"len(partitions)={len(given)} does not match pp_size={pipeline}."
    elif model and sum(given) != model.layers:
        said = f"sum(partitions)={sum(given)} does not match num_hidden_layers={model.layers}."
    if said:
        of_layers = f" with the sum {model.layers}" if model else ""
        yield (
            Field.ENV,
            f"VLLM_PP_LAYER_PARTITION: vLLM: {said}",
            f"write {pipeline} numbers{of_layers} with commas between, or remove it",
        )


@rule(f"{VLLM}/distributed/utils.py", mended_by_layout=True)
def layers(spec: ResolvedSpec) -> Iterator[Problem]:
    """Each pipeline stage has at least one layer. vLLM does not check this and starts empty stages."""
    model, pipeline = spec.model.shapes, spec.layout.pipeline
    if model and pipeline > model.layers:
        yield (
            Field.PIPELINE,
            f"{pipeline} stages are more than the model's {model.layers} layers, so some stages would be empty",
            OTHER_LAYOUTS,
        )


def _uneven_width(spec: ResolvedSpec) -> tuple[str, int] | None:
    """Name and size of a width that the tensor parallel size does not divide."""
    model, tensor = spec.model.shapes, spec.layout.tensor
    if model is None:
        return None
    found = []
    if model.intermediate and not all(model.sparse):
        found.append(("the feed-forward width", model.intermediate))
    if model.experts and not (spec.serving and spec.serving.expert_parallel):
        found.append(("an expert's width", model.experts.size))
    return next(((what, width) for what, width in found if width % tensor), None)


@rule(f"{VLLM}/distributed/utils.py", mended_by_layout=True)
def widths(spec: ResolvedSpec) -> Iterator[Problem]:
    """The tensor parallel size divides the widths of the feed-forward layers."""
    if _divides_heads(spec) and (uneven := _uneven_width(spec)):
        what, width = uneven
        yield (
            Field.TENSOR,
            f"{what} {width} is not divisible by tensor parallel size {spec.layout.tensor}",
            OTHER_LAYOUTS,
        )


@rule(f"{VLLM}/model_executor/layers/quantization/utils/fp8_utils.py", mended_by_layout=True)
def quantised_shards(spec: ResolvedSpec) -> Iterator[Problem]:
    """Each GPU's part of a quantised matrix consists of whole blocks (FP8) or groups (AWQ, GPTQ, INT4)."""
    tensor = spec.layout.tensor
    if tensor == 1 or not _divides_heads(spec) or _uneven_width(spec):
        return
    if found := _broken_shard(spec):
        size, block, said = found
        yield (
            Field.TENSOR,
            f"split over {tensor} GPUs, a part of {size} is not a multiple of the block size {block}; vLLM: {said}",
            OTHER_LAYOUTS,
        )


def _broken_shard(spec: ResolvedSpec) -> tuple[int, int, str] | None:
    """Size of a shard that is not a multiple of the block size, the block size, and vLLM's error text."""
    model, tensor = spec.model.shapes, spec.layout.tensor
    if model is None or model.quantisation is None:
        return None
    whole_experts = bool(spec.serving and spec.serving.expert_parallel)
    for layer in sorted(set(representatives(model))):
        for matrix in layer_tensors(model, layer):
            quantisation = quantisation_of(model, matrix, layer)
            if quantisation is None or quantisation.columns < 32 or quantisation.method == "mxfp4":
                continue
            if matrix.is_expert and whole_experts:
                continue
            if ".shared_experts" in matrix.module and _pads_shared_experts(spec):
                continue
            block = quantisation.columns
            if matrix.row_parallel and (size := matrix.inputs // tensor) % block:
                where = "output_size of gate's and up's weight" if matrix.is_expert else "input_size_per_partition"
                return size, block, _said(size, block, "block_k" if quantisation.is_block_fp8 else "group_size", where)
            if quantisation.is_block_fp8:
                for part in matrix.parts:
                    if (size := part // tensor) % quantisation.rows:
                        said = _said(size, quantisation.rows, "block_n", "output_partition_size")
                        return size, quantisation.rows, said
    return None


def _pads_shared_experts(spec: ResolvedSpec) -> bool:
    model = spec.model.shapes
    is_compressed = model is not None and isinstance(model.attention, CompressedAttention)
    return is_compressed and spec.engine.vllm.version >= changed_in("v4_experts_padded")


def _said(size: int, block: int, kind: str, where: str) -> str:
    if kind == "group_size":
        return f"Weight input_size_per_partition = {size} is not divisible by group_size = {block}."
    if where.startswith("output_size"):
        return f"The {where} = {size} is not divisible by weight quantization block_n = {block}."
    return f"Weight {where} = {size} is not divisible by weight quantization {kind} = {block}."


@warning(f"{VLLM}/v1/executor/ray_utils.py")
def tensor_in_pod(spec: ResolvedSpec) -> Iterator[Problem]:
    """Tensor parallelism stays within one pod."""
    layout = spec.layout
    if layout.tensor > layout.gpus_per_pod:
        yield (
            Field.TENSOR,
            f"{layout.tensor} exceeds the {layout.gpus_per_pod} GPUs of a pod, so each layer waits for the network",
            "use pipeline parallelism between pods",
        )


@warning(f"{VLLM}/model_executor/layers/fused_moe/layer.py")
def experts_even(spec: ResolvedSpec) -> Iterator[Problem]:
    """Experts are distributed evenly over the GPUs."""
    serving, model, tensor = spec.serving, spec.model.shapes, spec.layout.tensor
    if serving is None or model is None or model.experts is None or not serving.expert_parallel:
        return
    if model.experts.count % tensor:
        yield (
            Field.EXTRA_ARGS,
            f"{model.experts.count} experts do not divide evenly over {tensor} GPUs: some GPUs wait, and load "
            "balancing (EPLB) "
            "refuses",
            f"choose a tensor parallel size that divides {model.experts.count}",
        )
