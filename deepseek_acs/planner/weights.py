"""Weights per GPU, from tensor shapes: what tensor parallelism splits, what it copies, what the engine adds.

Every tensor is listed as the engine allocates it (fused projections, stacked experts), because the allocator of
PyTorch counts too: it hands out large blocks in steps of 2 MiB.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from deepseek_acs.planner.model import (
    DTYPE_BYTES,
    INDEXED_RATIO,
    CompressedAttention,
    GroupedQueryAttention,
    Model,
    MultiHeadLatentAttention,
    Quantisation,
)
from deepseek_acs.planner.vllm import Engine, Serving
from deepseek_acs.planner.vllm_releases.release import changed_in

VOCABULARY_STEP = 64
"""vLLM pads the vocabulary to a multiple of this before it splits it
(https://github.com/vllm-project/vllm/blob/v0.33.0/vllm/model_executor/layers/vocab_parallel_embedding.py)."""

FLOAT_BYTES = 4

FP8_MLA_BYTES = 170 * 2**20
FP8_MLA_BYTES_LATER = 65 * 2**20
"""What a stage of MLA in FP8 holds in addition to its weights, whatever the tensor parallel size: 160 to 182 MiB with
up to 8 layers, up to 232 with 61 (24 layouts on NVIDIA H200, vLLM 0.20.2, 2026-11-29); 45 to 111 with 0.26.0."""

INDEXED_TOKENS = 2048
"""Tokens that the indexer of sparse MLA picks (``index_topk`` of DeepSeek-V3.2 and GLM-5)."""

GATHERED_REQUESTS = 5
"""Requests of full length that sparse MLA gathers at once where the cache is in FP8
(https://github.com/vllm-project/vllm/blob/v0.20.2/vllm/v1/attention/backends/mla/flashmla_sparse.py)."""

VOCABULARY_IN_EVERY_STAGE = frozenset(
    {"gpt_oss", "internlm2", "mixtral", "olmo2", "olmoe", "qwen2_moe", "qwen3_moe", "qwen3_vl_moe_text"}
)
"""Values of ``model_type`` whose classes create the embedding and the output head in each stage of a pipeline
(https://github.com/vllm-project/vllm/tree/v0.26.0/vllm/model_executor/models, the same in 0.8.5, 0.11.0, 0.20.2 and
0.33.0; one log of two stages on two NVIDIA H200, vLLM 0.26.0, 2026-11-29)."""

MIB = 2**20

HOPPER = 9.0
"""CUDA compute capability."""


def overlap(ratio: int) -> int:
    """Blocks of tokens that flow into one entry of DeepSeek-V4's compressor
    (https://github.com/vllm-project/vllm/blob/v0.33.0/vllm/models/deepseek_v4/compressor.py)."""
    return 2 if ratio == INDEXED_RATIO else 1


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A weight matrix. Of its outputs ``parts`` are split, ``fixed`` are copied, those of ``kv_heads`` either.

    ``row_parallel`` splits the ``inputs`` instead; ``copies`` > 1 is a stack of experts.
    """

    module: str
    inputs: int
    parts: tuple[int, ...] = ()
    fixed: int = 0
    kv_heads: int = 0
    head_dim: int = 0
    row_parallel: bool = False
    copies: int = 1
    is_expert: bool = False
    bias: bool = False
    plain: bool = False
    """Never quantised, whatever the checkpoint's method."""

    def shape(self, *, tensor: int, expert_parallel: bool = False) -> tuple[int, int, int]:
        """Copies, rows (outputs) and columns (inputs) on one of ``tensor`` GPUs."""
        split, copies = tensor, self.copies
        if self.is_expert and expert_parallel:
            split, copies = 1, math.ceil(copies / tensor)
        columns = math.ceil(self.inputs / split) if self.row_parallel else self.inputs
        rows = self.fixed + sum(math.ceil(part / split) for part in self.parts)
        rows += 2 * max(1, self.kv_heads // tensor) * self.head_dim if self.kv_heads else 0
        return copies, rows, columns


def allocated(size: float) -> int:
    """Bytes that PyTorch's CUDA allocator hands out for a tensor of ``size`` bytes.

    Blocks from 10 MiB are rounded to 2 MiB, and a rest of up to 1 MiB stays with the tensor
    (https://docs.pytorch.org/docs/stable/notes/cuda.html#memory-management,
    https://github.com/pytorch/pytorch/blob/main/c10/cuda/CUDACachingAllocator.cpp).
    """
    rounded = math.ceil(size / 512) * 512
    if rounded < 10 * MIB:
        return rounded
    segment = math.ceil(rounded / (2 * MIB)) * 2 * MIB
    return segment if segment - rounded <= MIB else rounded


def layer_tensors(model: Model, layer: int) -> list[Tensor]:
    """The matrices of one decoder layer."""
    return [*_attention_tensors(model, layer), *_feed_forward_tensors(model, sparse=model.sparse[layer])]


def _attention_tensors(model: Model, layer: int) -> Iterator[Tensor]:
    attention, hidden, heads = model.attention, model.hidden, model.heads
    if isinstance(attention, CompressedAttention):
        yield from _compressed_tensors(attention, hidden, heads, attention.ratios[layer])
        return
    if isinstance(attention, GroupedQueryAttention):
        dim, bias = attention.head_dim, attention.bias
        yield Tensor(
            module="self_attn.q_proj",
            inputs=hidden,
            parts=(heads * dim,),
            kv_heads=attention.kv_heads,
            head_dim=dim,
            bias=bias,
        )
        yield Tensor(module="self_attn.o_proj", inputs=heads * dim, fixed=hidden, row_parallel=True)
        return
    query = heads * (attention.nope_dim + attention.rope_dim)
    latent = attention.kv_rank + attention.rope_dim
    if attention.query_rank:
        yield Tensor(module="self_attn.q_a_proj", inputs=hidden, fixed=attention.query_rank + latent)
        yield Tensor(module="self_attn.q_b_proj", inputs=attention.query_rank, parts=(query,))
    else:
        yield Tensor(module="self_attn.kv_a_proj_with_mqa", inputs=hidden, fixed=latent)
        yield Tensor(module="self_attn.q_proj", inputs=hidden, parts=(query,))
    up = heads * (attention.nope_dim + attention.value_dim)
    yield Tensor(module="self_attn.kv_b_proj", inputs=attention.kv_rank, parts=(up,))
    yield Tensor(module="self_attn.o_proj", inputs=heads * attention.value_dim, fixed=hidden, row_parallel=True)
    if attention.has_indexer(layer):
        width = attention.indexer_heads * attention.indexer_dim
        rank = attention.query_rank or hidden
        yield Tensor(module="self_attn.indexer.wq_b", inputs=rank, fixed=width)
        # Held in 16 bits after loading, whatever the checkpoint says.
        yield Tensor(
            module="self_attn.indexer.wk",
            inputs=hidden,
            fixed=attention.indexer_dim + attention.indexer_heads,
            plain=True,
        )


def _compressed_tensors(attention: CompressedAttention, hidden: int, heads: int, ratio: int) -> Iterator[Tensor]:
    """The one KV head, the compressors and the indexer are on every GPU
    (https://github.com/vllm-project/vllm/blob/v0.33.0/vllm/models/deepseek_v4/attention.py)."""
    dim, rank = attention.head_dim, attention.query_rank
    yield Tensor(module="attn.fused_wqa_wkv", inputs=hidden, fixed=rank + dim)
    yield Tensor(module="attn.wq_b", inputs=rank, parts=(heads * dim,))
    output = attention.groups * attention.output_rank
    yield Tensor(module="attn.wo_a", inputs=heads * dim // attention.groups, parts=(output,))
    yield Tensor(module="attn.wo_b", inputs=output, fixed=hidden, row_parallel=True)
    if ratio:
        yield Tensor(module="attn.compressor", inputs=hidden, fixed=2 * overlap(ratio) * dim, plain=True)
    if ratio == INDEXED_RATIO:
        width = attention.indexer_heads * attention.indexer_dim
        yield Tensor(module="attn.indexer.wq_b", inputs=rank, fixed=width)
        yield Tensor(module="attn.indexer.weights_proj", inputs=hidden, fixed=attention.indexer_heads, plain=True)
        fixed = 2 * overlap(ratio) * attention.indexer_dim
        yield Tensor(module="attn.indexer.compressor", inputs=hidden, fixed=fixed, plain=True)


def _single_precision(model: Model, layer: int) -> list[int]:
    """Elements of each matrix of a layer that stays in 32 bits and is copied: of DeepSeek-V4 the weights that mix the
    residual streams, for attention and experts, the compressors' positions, and the table of hashed experts
    (https://github.com/vllm-project/vllm/blob/v0.33.0/vllm/models/deepseek_v4/nvidia/model.py)."""
    attention = model.attention
    if not isinstance(attention, CompressedAttention):
        return []
    streams, ratio = attention.streams, attention.ratios[layer]
    mixing = (2 + streams) * streams * streams * model.hidden
    positions = ratio * overlap(ratio) * (attention.head_dim + (attention.indexer_dim if ratio == INDEXED_RATIO else 0))
    per_token = model.experts.per_token if model.experts and layer < attention.hashed else 0
    return [mixing, mixing, positions, model.vocabulary * per_token]


def _feed_forward_tensors(model: Model, *, sparse: bool) -> Iterator[Tensor]:
    hidden, experts = model.hidden, model.experts
    if not sparse or experts is None:
        width = model.intermediate
        yield Tensor(module="mlp.gate_proj", inputs=hidden, parts=(width, width))
        yield Tensor(module="mlp.down_proj", inputs=width, fixed=hidden, row_parallel=True)
        return
    yield Tensor(
        module="mlp.experts.gate_proj",
        inputs=hidden,
        parts=(experts.size, experts.size),
        copies=experts.count,
        is_expert=True,
        bias=experts.bias,
    )
    yield Tensor(
        module="mlp.experts.down_proj",
        inputs=experts.size,
        fixed=hidden,
        row_parallel=True,
        copies=experts.count,
        is_expert=True,
        bias=experts.bias,
    )
    yield Tensor(module="mlp.gate", inputs=hidden, fixed=experts.count, plain=True)
    if shared := experts.shared_size:
        yield Tensor(module="mlp.shared_experts.gate_proj", inputs=hidden, parts=(shared, shared))
        yield Tensor(module="mlp.shared_experts.down_proj", inputs=shared, fixed=hidden, row_parallel=True)


def quantisation_of(model: Model, tensor: Tensor, layer: int) -> Quantisation | None:
    """How this tensor is stored; None for 16 bits."""
    quantisation = model.quantisation
    if quantisation is None or tensor.plain or quantisation.ignores(f"model.layers.{layer}.{tensor.module}"):
        return None
    return quantisation.experts if tensor.is_expert and quantisation.experts else quantisation


def matrix_bytes(quantisation: Quantisation | None, rows: int, columns: int) -> tuple[float, float]:
    """Bytes of a matrix and of its scales."""
    if quantisation is None:
        return rows * columns * DTYPE_BYTES, 0
    groups = math.ceil(rows / (quantisation.rows or rows)) * math.ceil(columns / (quantisation.columns or columns))
    zero = quantisation.bits / 8 if quantisation.zero_point else 0
    return rows * columns * quantisation.bits / 8, groups * (quantisation.scale_bytes + zero)


def _padded(
    quantisation: Quantisation | None, tensor: Tensor, rows: int, columns: int, capability: float | None
) -> tuple[int, int]:
    """MXFP4 kernels round sizes up: the hidden side to 256, the shard to 128 (Marlin, Blackwell) or 64 (Hopper)
    (https://github.com/vllm-project/vllm/blob/v0.33.0/vllm/model_executor/layers/fused_moe/oracle/mxfp4.py)."""
    if quantisation is None or quantisation.method != "mxfp4":
        return rows, columns
    shard = 64 if capability == HOPPER else 128
    if tensor.row_parallel:
        return math.ceil(rows / 256) * 256, math.ceil(columns / shard) * shard
    return 2 * math.ceil(rows / 2 / shard) * shard, math.ceil(columns / 256) * 256


def is_swizzled(model: Model, engine: Engine, capability: float | None) -> bool:
    """Whether Triton's kernels for MXFP4 run, which want weights and scales in an order of their own."""
    quantisation = model.quantisation
    return (
        quantisation is not None
        and quantisation.method == "mxfp4"
        and capability == HOPPER
        and engine.version >= changed_in("scales_rearranged")
    )


def _swizzled_bytes(tensor: Tensor, engine: Engine, copies: int, rows: int, columns: int) -> int:
    """Experts as those kernels hold them: values padded to 64 bytes both ways, scales as loaded and once more in their
    order, padded to 256 rows and 2 groups, biases in 16 and in 32 bits
    (https://github.com/vllm-project/vllm/tree/v0.20.2/vllm/third_party/triton_kernels/tensor_details/layout_details).
    Later values are padded to 128 rows, and there is one copy of the scales, padded to 4 groups.
    """
    if tensor.row_parallel:
        columns = _up(columns, 64)
    else:
        rows = 2 * _up(rows // 2, 64)
    groups = math.ceil(columns / 32)
    biases = sum(allocated(copies * rows * size) for size in (DTYPE_BYTES, FLOAT_BYTES)) if tensor.bias else 0
    if not engine.pads_experts:
        return allocated(copies * _up(rows, 128) * columns / 2) + allocated(copies * rows * _up(groups, 4)) + biases
    return (
        allocated(copies * _up(rows, 64) * _up(columns, 128) / 2)
        + allocated(copies * rows * groups)
        + allocated(copies * _up(rows, 256) * _up(groups, 2))
        + biases
    )


def _up(size: int, step: int) -> int:
    return math.ceil(size / step) * step


@dataclass(frozen=True, kw_only=True)
class Split:
    """How one stage's tensors are spread: over ``tensor`` GPUs, with whole experts per GPU or a slice of each."""

    tensor: int
    expert_parallel: bool = False


@cache
def layer_bytes(model: Model, layer: int, engine: Engine, split: Split, capability: float | None) -> int:
    """Bytes of one layer on one GPU, as allocated."""
    total = 0
    for tensor in layer_tensors(model, layer):
        quantisation = quantisation_of(model, tensor, layer)
        copies, rows, columns = tensor.shape(tensor=split.tensor, expert_parallel=split.expert_parallel)
        if tensor.is_expert and is_swizzled(model, engine, capability):
            total += _swizzled_bytes(tensor, engine, copies, rows, columns)
            continue
        rows, columns = _padded(quantisation, tensor, rows, columns, capability)
        weight, scales = matrix_bytes(quantisation, rows, columns)
        total += allocated(copies * weight) + allocated(copies * scales)
        total += allocated(copies * rows * DTYPE_BYTES) if tensor.bias else 0
    total += sum(allocated(elements * FLOAT_BYTES) for elements in _single_precision(model, layer))
    norms = 2 * allocated(model.hidden * DTYPE_BYTES)
    return total + norms + _absorbed(model, engine, split.tensor, layer)


def _absorbed(model: Model, engine: Engine, tensor: int, layer: int) -> int:
    """What the engine derives from MLA's matrices after loading, in addition to the originals.

    Now: the two halves of kv_b_proj in 16 bits. 0.7: products of matrices, requantised where the checkpoint is FP8, and
    a dequantised kv_b_proj that views keep alive
    (https://github.com/vllm-project/vllm/blob/v0.7.2/vllm/attention/backends/mla/utils.py).
    """
    attention = model.attention
    if not isinstance(attention, MultiHeadLatentAttention) or not engine.uses_mla(model):
        return 0
    heads = math.ceil(model.heads / tensor)
    up = heads * (attention.nope_dim + attention.value_dim) * attention.kv_rank
    if not engine.is_v0:
        return allocated(up * DTYPE_BYTES)
    rank = attention.query_rank or model.hidden
    quantisation = model.quantisation if model.quantisation and model.quantisation.bits == 8 else None
    latent = heads * attention.kv_rank
    products = [matrix_bytes(quantisation, latent, rank), matrix_bytes(quantisation, model.hidden, latent)]
    dequantised = up * (4 if quantisation else DTYPE_BYTES if model.quantisation else 0)
    rope = rank * heads * attention.rope_dim * DTYPE_BYTES
    return (
        sum(allocated(weight) + allocated(scales) for weight, scales in products)
        + allocated(dequantised)
        + allocated(rope)
    )


def vocabulary_bytes(model: Model, tensor: int) -> int:
    """Bytes of the embedding, or of the output head, on one GPU; neither is quantised."""
    padded = math.ceil(model.vocabulary / VOCABULARY_STEP) * VOCABULARY_STEP
    return allocated(math.ceil(padded / tensor) * model.hidden * DTYPE_BYTES)


def stage_bytes(
    model: Model, layers: range, engine: Engine, split: Split, *, capability: float | None, first: bool, last: bool
) -> int:
    """Bytes of weights on one GPU of a pipeline stage with these ``layers``."""
    kinds = Counter(representatives(model)[layers.start : layers.stop])
    total = sum(count * layer_bytes(model, layer, engine, split, capability) for layer, count in kinds.items())
    vocabulary = vocabulary_bytes(model, split.tensor)
    everywhere = model.family in VOCABULARY_IN_EVERY_STAGE
    head_everywhere = everywhere or (engine.is_v0 and isinstance(model.attention, MultiHeadLatentAttention))
    if first or everywhere or (last and model.tied_embeddings):
        total += vocabulary
    if first:
        total += _tower_bytes(model, split.tensor)
    if (last or head_everywhere) and not model.tied_embeddings:
        total += vocabulary
    return total + _rotary_bytes(model) + _fp8_mla_bytes(model, engine)


def _fp8_mla_bytes(model: Model, engine: Engine) -> int:
    is_fp8 = model.quantisation is not None and model.quantisation.is_block_fp8
    if not is_fp8 or not isinstance(model.attention, MultiHeadLatentAttention) or engine.is_v0:
        return 0
    return FP8_MLA_BYTES_LATER if engine.holds_less_for_fp8_mla else FP8_MLA_BYTES


def draft_bytes(model: Model, engine: Engine, split: Split, *, capability: float | None, alone: bool) -> int:
    """Bytes of the layer for multi-token prediction on one GPU of the last stage: a layer like the model's last, and
    the projection of two hidden vectors to one, which every GPU holds. Embedding and head are the model's; a stage that
    does not begin with the tokens (``alone``) holds the embedding once more
    (https://github.com/vllm-project/vllm/blob/v0.20.2/vllm/model_executor/models/deepseek_mtp.py)."""
    layer = layer_bytes(model, model.layers - 1, engine, split, capability)
    projection = allocated(2 * model.hidden * model.hidden * DTYPE_BYTES)
    return layer + projection + (vocabulary_bytes(model, split.tensor) if alone else 0)


def _rotary_bytes(model: Model) -> int:
    """The table of sines. DeepSeek-V4 has one in 32 bits for each kind of layer: compressed, and window only
    (https://github.com/vllm-project/vllm/blob/v0.33.0/vllm/models/deepseek_v4/common/rope.py)."""
    entries = model.context * model.rotary_dim
    if isinstance(model.attention, CompressedAttention):
        return len({ratio > 0 for ratio in model.attention.ratios}) * allocated(entries * FLOAT_BYTES)
    return allocated(entries * DTYPE_BYTES)


def buffer_bytes(
    model: Model, engine: Engine, serving: Serving, *, tensor: int, batched_tokens: int, last: bool
) -> int:
    """What the engine holds for a step's tokens from the start and logs as part of the model: on the last stage
    DeepSeek-V4's residual streams, for a draft that may not even be loaded; for sparse MLA the queries of all heads
    next to each other, which FlashAttention's newer kernels for a cache in 16 bits do without, the picked tokens, and
    with a cache in FP8 what is gathered of it in 16 bits."""
    attention = model.attention
    if isinstance(attention, CompressedAttention):
        if not (last and engine.keeps_streams):
            return 0
        return allocated(batched_tokens * attention.streams * model.hidden * DTYPE_BYTES)
    if engine.is_v0 or not isinstance(attention, MultiHeadLatentAttention) or not attention.indexer_heads:
        return 0
    queries = batched_tokens * math.ceil(model.heads / tensor) * attention.cached * DTYPE_BYTES
    picked = batched_tokens * INDEXED_TOKENS * FLOAT_BYTES
    is_fp8 = serving.kv_cache_dtype.startswith("fp8")
    gathered = GATHERED_REQUESTS * serving.max_model_len * attention.cached * DTYPE_BYTES if is_fp8 else 0
    joined = 0 if engine.reads_queries_apart and not is_fp8 else allocated(queries)
    return joined + allocated(picked) + allocated(gathered)


@cache
def representatives(model: Model) -> Sequence[int]:
    """For each layer the first that is like it: in shape, and in what is quantised."""
    first: dict[object, int] = {}
    found = []
    names_modules = model.quantisation is not None and bool(model.quantisation.ignore)
    for layer in range(model.layers):
        plain: tuple[bool, ...] = ()
        if names_modules:
            plain = tuple(quantisation_of(model, tensor, layer) is None for tensor in layer_tensors(model, layer))
        found.append(first.setdefault((model.kind(layer), plain), layer))
    return found


def _tower_bytes(model: Model, tensor: int) -> int:
    """What reads images, in 16 bits: its layers are split, the projection to the model's width is on every GPU."""
    tower = model.vision
    return (tower.split // tensor + tower.copied) * DTYPE_BYTES if tower else 0


def checkpoint_gib(model: Model) -> float:
    """Size of the safetensors files in GiB: as published, or from the shapes without multi-token prediction."""
    return shapes_gib(model) if model.weights_gib is None else model.weights_gib


@cache
def shapes_gib(model: Model) -> float:
    """GiB of what all GPUs of a replica hold together at least: everything once, without multi-token prediction."""
    total = float((1 if model.tied_embeddings else 2) * model.vocabulary * model.hidden * DTYPE_BYTES)
    total += _tower_bytes(model, 1)
    for layer, count in Counter(representatives(model)).items():
        total += count * _layer_gib(model, layer) * 2**30
    return total / 2**30


def _layer_gib(model: Model, layer: int) -> float:
    total = 0.0
    for tensor in layer_tensors(model, layer):
        copies, rows, columns = tensor.shape(tensor=1)
        total += copies * sum(matrix_bytes(quantisation_of(model, tensor, layer), rows, columns))
    return total / 2**30


def files_gib(model: Model) -> tuple[float, float]:
    """The smallest and the largest size in GiB that the checkpoint's files may have by the shapes: with and without the
    layers for multi-token prediction, which some publish with an embedding and a head of their own."""
    scale = model.bytes_on_disk / DTYPE_BYTES
    least = shapes_gib(model)
    vocabulary = 2 * model.vocabulary * model.hidden * DTYPE_BYTES / 2**30
    return least * scale, (least + model.drafts * (_layer_gib(model, model.layers - 1) + vocabulary)) * scale


@cache
def parameters(model: Model) -> int:
    """Number of parameters in all layers and the vocabulary."""
    total = (1 if model.tied_embeddings else 2) * model.vocabulary * model.hidden
    for layer, count in Counter(representatives(model)).items():
        shapes = [tensor.shape(tensor=1) for tensor in layer_tensors(model, layer)]
        total += count * sum(copies * rows * columns for copies, rows, columns in shapes)
    return total


@cache
def active_gib(model: Model, requests: int) -> float:
    """GiB of weights that one decode step of ``requests`` sequences reads; experts are hit at random."""
    total = float(model.vocabulary * model.hidden * DTYPE_BYTES)
    for layer, count in Counter(representatives(model)).items():
        for tensor in layer_tensors(model, layer):
            copies, rows, columns = tensor.shape(tensor=1)
            share = float(count)
            if tensor.is_expert and model.experts is not None:
                share *= 1 - (1 - model.experts.per_token / model.experts.count) ** requests
            total += share * copies * sum(matrix_bytes(quantisation_of(model, tensor, layer), rows, columns))
    return total / 2**30
