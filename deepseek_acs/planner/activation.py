"""The largest temporary memory of a step, which the engine's profile run finds before it sizes the cache.

From 0.8 on the peak is added up from the tensors that live at the same time in the profile run. They were listed with
PyTorch's memory history on NVIDIA H200, vLLM 0.20.2, 2026-11-29; every term below is one of them, and what earlier
versions did otherwise was read in their files. 0.7 keeps the coarser estimate that its published logs agree with.
"""

import math
from dataclasses import dataclass, replace
from typing import Self

from deepseek_acs.planner.kv_cache_v4 import INDEXER_SCALE_BYTES
from deepseek_acs.planner.model import (
    DTYPE_BYTES,
    INDEXED_RATIO,
    CompressedAttention,
    GroupedQueryAttention,
    Model,
    MultiHeadLatentAttention,
)
from deepseek_acs.planner.vllm import Engine, Serving
from deepseek_acs.planner.weights import FLOAT_BYTES, MIB, vocabulary_bytes

GIB = 2**30

SAMPLER_BYTES = 38
"""Per sequence and vocabulary entry at the peak of a sampler that sorts: logits in 16 and 32 bits, the sorted values
and 64-bit indices, the sort's second copy of both, probabilities and their sum. Start-up logs of four vocabularies
agree within 0.5 % (docs/planner.md)."""

SAMPLER_BYTES_V0 = 39
"""The same on 0.7, with all that lies below it: 1.41 GiB for 256 sequences and 152,064 entries."""

SAMPLER_BYTES_UNSORTED = 14
"""The same where a kernel samples without sorting: logits in 16 and 32 bits, probabilities, random numbers
(https://github.com/vllm-project/vllm/blob/v0.20.2/vllm/v1/sample/ops/topk_topp_sampler.py)."""

SAMPLER_BYTES_V2 = 6
"""The same in model runner V2: logits in 16 and 32 bits, of which its kernel samples at once
(https://github.com/vllm-project/vllm/blob/v0.26.0/vllm/v1/worker/gpu/sample/gumbel.py)."""

SAMPLER_BYTES_DRAFT = 30
"""The same with a draft: two rows of logits for each sequence, and what the rejection sampler derives of both
(https://github.com/vllm-project/vllm/blob/v0.20.2/vllm/v1/sample/rejection_sampler.py)."""

SAMPLER_BUFFER_BYTES = 4 * 132
"""Per vocabulary entry: the kernel's own buffer, one row for each of the 132 multiprocessors of a Hopper GPU
(https://github.com/vllm-project/vllm/blob/v0.20.2/vllm/v1/sample/ops/topk_topp_triton.py)."""

CUBLAS_BYTES = 32 * MIB
"""cuBLAS's workspace on Hopper, allocated at the first product of two matrices
(https://docs.nvidia.com/cuda/cublas/#cublassetworkspace)."""

MLA_CONTEXT_TOKENS = 65536
"""Most tokens of cached context that MLA expands at once during chunked prefill
(https://github.com/vllm-project/vllm/blob/v0.33.0/vllm/model_executor/layers/attention/mla_attention.py)."""

MLA_REQUESTS = 8
MLA_BLOCKS_PER_SEQUENCE = 4
MLA_BLOCK_TOKENS = 64
"""Below that limit, enough for 8 requests of full length, or for 4 blocks of each sequence (the same file)."""

DRAFT_STATES = 5
"""Vectors of the hidden size per token that the layer for multi-token prediction adds to a step
(https://github.com/vllm-project/vllm/blob/v0.20.2/vllm/model_executor/models/deepseek_mtp.py)."""

EXPERT_BLOCK = 128
"""DeepGEMM pads the tokens of each expert to a multiple of this
(https://github.com/vllm-project/vllm/blob/v0.26.0/vllm/model_executor/layers/fused_moe/deep_gemm_utils.py)."""

MARGIN_GIB = 0.5
"""On top of the activation peak, at the pessimistic end: fragments and temporary buffers of kernels."""

MARGIN_LISTED_GIB = 0.25
"""The same where the tensors are listed, for what another version holds a little longer."""

MISSING_SHARE, MISSING_GIB = 0.05, 0.2
"""What may be missing of them, at the optimistic end: vectors that another version does not hold. Most was 0.17 GiB, in
compiled MLA on 0.26.0, but not more than this share and 0.05 GiB."""

V0_MLA_MARGIN_GIB = 5.5
"""The same for MLA on 0.7, whose logs show peaks from 0.2 to 7 GiB for steps of the same size
(https://github.com/dzhsurf/deepseek-v3-r1-deploy-and-benchmarks)."""

COMPRESSED_MARGIN_GIB = 4.0
"""The same for DeepSeek-V4, where two versions differ by this on the same machine
(https://github.com/vllm-project/vllm/issues/54677)."""

INDEXER_LOGITS_BYTES = 512 * MIB
"""Reserved for the scores of DeepSeek-V4's indexer (``VLLM_SPARSE_INDEXER_MAX_LOGITS_MB``,
https://github.com/vllm-project/vllm/blob/v0.33.0/vllm/envs.py)."""

INDEXER_CONTEXTS = 40
"""Requests of full length whose indexer entries are gathered at once
(https://github.com/vllm-project/vllm/blob/v0.33.0/vllm/v1/attention/backends/mla/indexer.py)."""

PREFILL_CHUNKS = 4
"""Requests whose entries DeepSeek-V4's attention gathers at once in 16 bits
(https://github.com/vllm-project/vllm/blob/v0.33.0/vllm/models/deepseek_v4/attention.py)."""

FLASH_MLA_HEADS = 64
"""Heads on a GPU are padded to a multiple of this for DeepSeek-V4's attention
(https://github.com/vllm-project/vllm/blob/v0.33.0/vllm/models/deepseek_v4/nvidia/flashmla.py)."""


@dataclass(frozen=True)
class Band:
    """An estimate: optimistic, most likely and pessimistic value in GiB."""

    low: float
    nominal: float
    high: float

    def __add__(self, other: Self) -> "Band":
        return Band(self.low + other.low, self.nominal + other.nominal, self.high + other.high)


@dataclass(frozen=True, kw_only=True)
class Step:
    """The largest step of one GPU of a pipeline stage: ``batched`` tokens of up to ``sequences`` requests through
    ``layers``, and on the last stage sampling for all of them."""

    layers: range
    tensor: int
    batched: int
    sequences: int
    samples: bool

    @property
    def is_first(self) -> bool:
        """Whether the stage begins with the tokens; the others are handed two vectors per token, which they keep."""
        return self.layers.start == 0


def activation_peak(model: Model, engine: Engine, serving: Serving, step: Step) -> Band:
    """The largest temporary memory of ``step``, its layers or its sampling: the two follow each other and do not add
    up."""
    if isinstance(model.attention, CompressedAttention) or engine.is_v0:
        return _coarse_peak(model, engine, serving, step)
    workspace, sampled = _expert_workspace(model, serving, step), sampling_bytes(model, engine, serving, step)
    layer, hidden = _layer_bytes(model, engine, serving, step), _hidden_bytes(model, step)
    sparse = sum(model.sparse[number] for number in step.layers)
    # The buffers of the first layer with experts stay, so that all that comes after it lies on top of them.
    kept = workspace if engine.keeps_expert_buffers else 0
    below = kept if sparse > 1 else 0
    experts = workspace + 4 * hidden if sparse else 0
    nominal = high = max(layer + below, experts, kept + sampled)
    if _is_sparse_fp8(model, serving):
        # Seen in one log: only the first layer, before those buffers, needs that much.
        nominal = max(layer, experts, kept + sampled)
    low = nominal
    if engine.may_sample_unsorted:
        unsorted = sampling_bytes(model, replace(engine, flashinfer_samples=True), serving, step)
        low = max(layer + below, experts, kept + unsorted)
    if _may_run_flashinfer(model, engine, serving):
        # These kernels free their buffers after each layer, and keep one vector per token.
        freed = max(layer + hidden, _flashinfer_workspace(model, step) + 5 * hidden, sampled + hidden)
        low, high = min(low, freed), max(high, freed)
    if not serving.eager:
        held = _held_by_compiled(model, step)
        # Inductor tries kernels for the output head on a copy of it, unless its cache knows the best.
        tried = vocabulary_bytes(model, step.tensor) + 2 * hidden if step.samples else 0
        likely, most = (0, held) if engine.compiled_holds_less else (held, 2 * held)
        nominal, high = max(nominal, layer + below + likely, tried), max(high, layer + below + most, tried)
    if step.tensor > 1 and not sparse:
        # Seen in one log: an all-reduce frees what went into it.
        low -= hidden
    missing = min(MISSING_SHARE * low / GIB + 0.05, MISSING_GIB)
    return Band(max(0, low / GIB - missing), nominal / GIB, high / GIB + MARGIN_LISTED_GIB)


def _is_sparse_fp8(model: Model, serving: Serving) -> bool:
    attention = model.attention
    is_sparse = isinstance(attention, MultiHeadLatentAttention) and attention.indexer_heads > 0
    return is_sparse and serving.kv_cache_dtype.startswith("fp8")


def context_bytes(model: Model, engine: Engine, serving: Serving, *, tensor: int, sequences: int) -> int:
    """What MLA holds of cached context in full length for all heads of a GPU: keys and values."""
    attention = model.attention
    if not (isinstance(attention, MultiHeadLatentAttention) and engine.uses_mla(model) and engine.profiles_context):
        return 0
    blocks = MLA_BLOCKS_PER_SEQUENCE * sequences * (serving.block_size or MLA_BLOCK_TOKENS)
    tokens = min(max(MLA_REQUESTS * serving.max_model_len, blocks), MLA_CONTEXT_TOKENS)
    width = math.ceil(model.heads / tensor) * (attention.nope_dim + attention.value_dim)
    return tokens * width * DTYPE_BYTES


def sampling_bytes(model: Model, engine: Engine, serving: Serving, step: Step) -> int:
    """Of sampling for all sequences, after a step; 0 on stages that do not sample."""
    if not step.samples:
        return 0
    each = SAMPLER_BYTES_DRAFT if serving.draft_layers else SAMPLER_BYTES_UNSORTED
    buffer = model.vocabulary * SAMPLER_BUFFER_BYTES
    if engine.sorts_to_sample:
        each, buffer = max(each, SAMPLER_BYTES), 0
    elif engine.uses_runner_v2(model):
        each, buffer = SAMPLER_BYTES_V2 * (2 if serving.draft_layers else 1), 0
    states = 2 * step.sequences * model.hidden * DTYPE_BYTES
    return (
        step.sequences * model.vocabulary * each
        + buffer
        + (1 if step.is_first else 3) * _hidden_bytes(model, step)
        + states
        + CUBLAS_BYTES
    )


def _hidden_bytes(model: Model, step: Step) -> int:
    """One vector of the hidden size for each token of the step."""
    return step.batched * model.hidden * DTYPE_BYTES


def _expert_workspace(model: Model, serving: Serving, step: Step) -> int:
    """The two buffers of the fused experts, which are made once and kept: inputs and outputs of both matrices share
    them (https://github.com/vllm-project/vllm/blob/v0.20.2/vllm/model_executor/layers/fused_moe/modular_kernel.py).
    The kernels for MXFP4 of gpt-oss have none."""
    experts = model.experts
    if experts is None or (model.quantisation and model.quantisation.method == "mxfp4"):
        return 0
    size = experts.size if serving.expert_parallel else math.ceil(experts.size / step.tensor)
    rows = step.batched * experts.per_token + _padded_rows(model, serving, step)
    return rows * (max(size, model.hidden) + max(2 * size, model.hidden)) * DTYPE_BYTES


def _padded_rows(model: Model, serving: Serving, step: Step) -> int:
    """Rows of these buffers that DeepGEMM adds for all experts of a GPU. With expert parallelism it is the most of what
    may be chosen; without it, the choice on Hopper is Triton, which adds none."""
    experts, backend = model.experts, serving.moe_backend
    is_padded = backend == "deep_gemm" or (serving.expert_parallel and backend != "triton")
    if experts is None or not (is_padded and _has_block_fp8(model)):
        return 0
    return math.ceil(experts.count / (step.tensor if serving.expert_parallel else 1)) * (EXPERT_BLOCK - 1)


def _has_block_fp8(model: Model) -> bool:
    return model.quantisation is not None and model.quantisation.is_block_fp8


def _may_run_flashinfer(model: Model, engine: Engine, serving: Serving) -> bool:
    """Whether FlashInfer's experts may be chosen: an image's name does not tell whether it has them."""
    is_named = serving.moe_backend in {"triton", "deep_gemm"}
    return serving.expert_parallel and not is_named and _has_block_fp8(model) and engine.may_run_flashinfer_experts


def _flashinfer_workspace(model: Model, step: Step) -> int:
    """What FlashInfer's experts in FP8 blocks allocate for a layer: inputs and outputs of both matrices, and inputs in
    8 bits. Read in its source, not measured: ``getWorkspaceDeviceBufferSizes`` in
    https://github.com/flashinfer-ai/flashinfer/blob/v0.6.14/csrc/fused_moe/cutlass_backend/cutlass_fused_moe_kernels.cuh."""
    experts = model.experts
    if experts is None:
        return 0
    inputs = max(experts.size, model.hidden)
    return step.batched * experts.per_token * (inputs * (DTYPE_BYTES + 1) + 2 * experts.size * DTYPE_BYTES)


def _layer_bytes(model: Model, engine: Engine, serving: Serving, step: Step) -> float:
    """The largest of one layer's attention and feed-forward part, for all tokens of the step."""
    attention = model.attention
    draft = DRAFT_STATES if serving.draft_layers and step.samples else 0
    # The residual stream and the layer's input; later stages also keep what they were handed.
    states = (2 if step.is_first else 3) + draft
    # cuBLAS and the input of a matrix are held unless both are in 8 bits, quantised per row.
    is_cutlass = model.quantisation is not None and model.quantisation.bits == 8 and not model.quantisation.is_block_fp8
    dense = 0.0
    if not all(model.sparse[number] for number in step.layers):
        dense = 3 * model.intermediate / step.tensor + (4 + (not step.is_first) - is_cutlass) * model.hidden
    if isinstance(attention, MultiHeadLatentAttention) and engine.uses_mla(model):
        latent = 2 * attention.kv_rank + attention.rope_dim + 2 * (attention.query_rank or 0)
        attended = _heads_width(model, step) + latent + states * model.hidden
        context = context_bytes(model, engine, serving, tensor=step.tensor, sequences=step.sequences)
    else:
        attended = _heads_width(model, step) + states * model.hidden
        context = 0
    return max(context + step.batched * attended * DTYPE_BYTES, step.batched * dense * DTYPE_BYTES) + (
        0 if is_cutlass else CUBLAS_BYTES
    )


def _heads_width(model: Model, step: Step) -> int:
    """Elements per token of the attention's queries and outputs, and of keys and values unless they are compressed."""
    attention, heads = model.attention, math.ceil(model.heads / step.tensor)
    if isinstance(attention, MultiHeadLatentAttention):
        return heads * (attention.nope_dim + attention.rope_dim + attention.value_dim)
    if isinstance(attention, GroupedQueryAttention):
        return 2 * heads * attention.head_dim + 2 * max(1, attention.kv_heads // step.tensor) * attention.head_dim
    return 0


def _held_by_compiled(model: Model, step: Step) -> int:
    """Compiled pieces hold queries and outputs of a layer before, which eager execution has let go of: of MLA two
    layers' and the layer's input."""
    width = _heads_width(model, step)
    is_latent = isinstance(model.attention, MultiHeadLatentAttention)
    return step.batched * (2 * width + model.hidden if is_latent else width) * DTYPE_BYTES


def _coarse_peak(model: Model, engine: Engine, serving: Serving, step: Step) -> Band:
    forward = step.batched * _token_activation(model, step.tensor, serving)
    attention = model.attention
    least, margin = 0.5, V0_MLA_MARGIN_GIB if engine.uses_mla(model) else MARGIN_GIB
    if isinstance(attention, CompressedAttention):
        forward = max(
            forward, _compressed_attention(attention, model, serving, tensor=step.tensor, batched=step.batched)
        )
        # All of this is held at the same time, so that it is also the least.
        least, margin = 1, COMPRESSED_MARGIN_GIB
    logits = step.sequences * model.vocabulary if step.samples else 0
    nominal = max(forward, logits * SAMPLER_BYTES_V0) / GIB
    low = max(forward * least, 0 if engine.is_v0 else logits * SAMPLER_BYTES_UNSORTED) / GIB
    return Band(low, nominal, nominal * 1.1 + margin)


def _compressed_attention(
    attention: CompressedAttention, model: Model, serving: Serving, *, tensor: int, batched: int
) -> float:
    """Bytes in DeepSeek-V4's attention: per token the residual streams and the layer's input, queries as projected and
    padded, the output, the compressor's sums, the indexer's queries in 16 and 8 bits; and what is gathered."""
    heads = math.ceil(model.heads / tensor)
    padded = math.ceil(heads / FLASH_MLA_HEADS) * FLASH_MLA_HEADS
    per_token = (
        (attention.streams + 1) * model.hidden * DTYPE_BYTES
        + 2 * (attention.query_rank + attention.head_dim) * DTYPE_BYTES
        + (heads + 2 * padded) * attention.head_dim * DTYPE_BYTES
        + 4 * attention.head_dim * FLOAT_BYTES
        + attention.indexer_heads * attention.indexer_dim * (DTYPE_BYTES + 1)
    )
    entries = serving.max_model_len // INDEXED_RATIO
    gathered = PREFILL_CHUNKS * (entries + attention.window + batched) * attention.head_dim * DTYPE_BYTES
    indexed = INDEXER_CONTEXTS * entries * (attention.indexer_dim + INDEXER_SCALE_BYTES)
    return batched * per_token + gathered + indexed + INDEXER_LOGITS_BYTES


def _token_activation(model: Model, tensor: int, serving: Serving) -> float:
    """Bytes per token in flight: residual, normed and projected vectors, and the widest of the layer's inner ones."""
    residual = 4 * model.hidden * DTYPE_BYTES
    dense = 3 * model.intermediate / tensor * DTYPE_BYTES
    if model.experts is None:
        return residual + dense
    size = model.experts.size / (1 if serving.expert_parallel else tensor)
    # Outputs of both expert matrices are kept per token and expert (fused_moe's three intermediate caches).
    return residual + max(dense, model.experts.per_token * (3 * size + model.hidden) * DTYPE_BYTES)
