"""Memory of each GPU: weights, the engine's own needs as a band, and what is left for the key-value cache.

::

    usable   = memory as PyTorch reports it × gpu_memory_utilization
    cache    = usable - weights - activation peak - NCCL, CUDA and the like - CUDA graphs (if the version counts them)

The smallest rank decides (https://github.com/vllm-project/vllm/blob/v0.33.0/vllm/v1/core/kv_cache_planning.py). Weights
and bytes per token are exact; the other terms are bands, because start-up logs of the same set-up differ.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Self

from planner.catalogue import Gpu
from planner.compressed_cache import INDEXER_SCALE_BYTES
from planner.engine import Engine, Serving
from planner.kv_cache import Pool, pool
from planner.model import DTYPE_BYTES, INDEXED_RATIO, CompressedAttention, Model, MultiHeadLatentAttention
from planner.weights import FLOAT_BYTES, Split, buffer_bytes, stage_bytes

GIB = 2**30

SAMPLER_BYTES = 39
"""Per sequence and vocabulary entry at the peak of the sampler's dummy run, which sorts: logits in 16 and 32 bits, the
sorted values and 64-bit indices, the sort's second copy of both, probabilities and their sum. Start-up logs of four
vocabularies agree within 2 % (docs/planner.md)."""

SAMPLER_BYTES_UNSORTED = 14
"""The same where a kernel samples without sorting (FlashInfer)."""

MLA_CONTEXT_TOKENS = 65536
"""Tokens of cached context that MLA expands at once during chunked prefill
(https://github.com/vllm-project/vllm/blob/v0.33.0/vllm/model_executor/layers/attention/mla_attention.py)."""

MOE_CHUNK_TOKENS = 32768
"""Most tokens that the fused experts take at once (VLLM_FUSED_MOE_CHUNK_SIZE,
https://github.com/vllm-project/vllm/blob/v0.7.2/vllm/envs.py)."""

MARGIN_GIB = 0.5
"""On top of the activation peak, at the pessimistic end: fragments and temporary buffers of kernels."""

V0_MLA_MARGIN_GIB = 5.5
"""The same for MLA on 0.7, whose logs show peaks from 0.2 to 7 GiB for steps of the same size
(https://github.com/dzhsurf/deepseek-v3-r1-deploy-and-benchmarks)."""

COMPRESSED_MARGIN_GIB = 4.0
"""The same for DeepSeek-V4, where two versions differ by this on the same machine
(https://github.com/vllm-project/vllm/issues/54677)."""

INDEXER_LOGITS_BYTES = 512 * 2**20
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


NON_TORCH_V1 = {1: Band(0.1, 0.13, 0.3), 2: Band(0.3, 0.55, 1.5), 8: Band(1.0, 2.5, 3.5)}
NON_TORCH_V0 = {1: Band(0.1, 0.5, 1.8), 2: Band(0.2, 0.7, 3.6), 8: Band(2.5, 4.0, 7.2)}
NON_TORCH_PCIE = {1: Band(0.1, 0.13, 0.3), 2: Band(0.2, 0.4, 1.5), 8: Band(0.2, 0.8, 2.5)}
"""CUDA context, NCCL and custom all-reduce by the smallest tensor parallel size the row is for (docs/planner.md). Most
of it are buffers for NVLink, which cards without it do not have."""

GRAPHS = {1: Band(0.0, 0.5, 1.1), 8: Band(0.3, 1.0, 3.0)}
"""CUDA graphs by tensor parallel size, where the version counts them."""

GRAPHS_COMPRESSED = {1: Band(0.3, 2.5, 4.0)}
"""The same for DeepSeek-V4: 0.36 GiB for few sizes of batches to 2.51 GiB for the default's 51
(https://github.com/gpustack/runner/pull/251, https://github.com/vllm-project/vllm/issues/50576)."""


def _row(table: dict[int, Band], tensor: int) -> Band:
    return table[max(size for size in table if size <= tensor)]


def _non_torch(engine: Engine, gpu: Gpu) -> dict[int, Band]:
    if gpu.nvlink_gb_s == 0:
        return NON_TORCH_PCIE
    return NON_TORCH_V0 if engine.is_v0 else NON_TORCH_V1


class Verdict(Enum):
    """Whether one request of full length fits on every GPU."""

    FITS = "fits"
    TOO_CLOSE = "too close to say"
    DOES_NOT_FIT = "does not fit"


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One pipeline stage's GPU, in GiB; all GPUs of a stage are alike but for the one that samples."""

    layers: range
    weights_gib: float
    activation: Band
    non_torch: Band
    graphs: Band
    cache: Band
    """Left for the cache; ``low`` is the pessimistic end, and may be negative."""

    pool: Pool

    def tokens(self) -> tuple[int, int, int]:
        """Tokens of cache: low, nominal, high."""
        low, nominal, high = (
            self.pool.tokens(gib * GIB) for gib in (self.cache.low, self.cache.nominal, self.cache.high)
        )
        return low, nominal, high


@dataclass(frozen=True, kw_only=True)
class Memory:
    """The estimate for one replica."""

    total_gib: float
    usable_gib: float
    stages: Sequence[Stage]
    max_model_len: int
    virtual_engines: int
    max_num_seqs: int

    @property
    def tightest(self) -> Stage:
        """The stage that decides; of two alike the later, which holds the sampler."""
        return min(reversed(self.stages), key=lambda stage: stage.tokens()[1] or stage.cache.nominal)

    @cached_property
    def tokens(self) -> tuple[int, int, int]:
        """Tokens of cache of the replica: low, nominal, high."""
        every = [stage.tokens() for stage in self.stages]
        low, nominal, high = (min(column) for column in zip(*every, strict=True))
        return low, nominal, high

    @property
    def verdict(self) -> Verdict:
        """Fits only if the pessimistic estimate does; does not fit only if the optimistic one does not.

        Each stage must hold one request, and a request must fit into the share of one virtual engine.
        """
        needed = self.max_model_len * self.virtual_engines
        low, _, high = self.tokens
        if low >= needed:
            return Verdict.FITS
        return Verdict.TOO_CLOSE if high >= needed else Verdict.DOES_NOT_FIT

    def requests(self, length: int) -> tuple[int, int, int]:
        """Requests of ``length`` tokens that run at once: low, nominal, high."""
        limit = self.max_num_seqs * self.virtual_engines
        low, nominal, high = (
            min(limit, tokens // self.virtual_engines // length * self.virtual_engines) for tokens in self.tokens
        )
        return low, nominal, high


def estimate(
    model: Model,
    gpu: Gpu,
    engine: Engine,
    serving: Serving,
    *,
    tensor: int,
    pipeline: int,
    measured_cache_gib: float | None = None,
) -> Memory:
    """Memory of one replica of ``model`` on ``tensor`` × ``pipeline`` GPUs. ``measured_cache_gib``, what an engine has
    said is left for the cache of a GPU, takes the place of the estimate of it."""
    split = Split(tensor=tensor, expert_parallel=serving.expert_parallel)
    sequences = serving.sequences(engine, gpu)
    batched = serving.batched_tokens(engine, gpu)
    usable = gpu.memory_gib * serving.utilization
    ranges = engine.stages(model.layers, pipeline)
    table = GRAPHS_COMPRESSED if isinstance(model.attention, CompressedAttention) else GRAPHS
    graphs = Band(0, 0, 0) if serving.eager or not engine.counts_graphs else _row(table, tensor)
    in_flight = batched * engine.batches_in_flight(pipeline)
    non_torch = _row(_non_torch(engine, gpu), tensor)
    stages = []
    for number, layers in enumerate(ranges):
        last = number == pipeline - 1
        weights = stage_bytes(model, layers, engine, split, capability=gpu.capability, first=number == 0, last=last)
        weights += buffer_bytes(model, engine, batched_tokens=batched, last=last)
        activation = activation_peak(
            model, engine, serving, tensor=tensor, batched=batched, sequences=sequences if last else 0
        )
        other = activation + non_torch + graphs
        cache = Band(*(usable - weights / GIB - part for part in (other.high, other.nominal, other.low)))
        if measured_cache_gib is not None:
            cache = Band(measured_cache_gib, measured_cache_gib, measured_cache_gib)
        stages.append(
            Stage(
                layers=layers,
                weights_gib=weights / GIB,
                activation=activation,
                non_torch=non_torch,
                graphs=graphs,
                cache=cache,
                pool=pool(model, engine, serving, tensor=tensor, layers=layers, in_flight=in_flight),
            )
        )
    return Memory(
        total_gib=gpu.memory_gib,
        usable_gib=usable,
        stages=tuple(stages),
        max_model_len=serving.max_model_len,
        virtual_engines=engine.virtual_engines(pipeline),
        max_num_seqs=sequences,
    )


def activation_peak(
    model: Model, engine: Engine, serving: Serving, *, tensor: int, batched: int, sequences: int
) -> Band:
    """The largest temporary memory of a step of ``batched`` tokens, or of sampling for ``sequences`` (0: elsewhere).

    The two follow each other and do not add up.
    """
    forward = batched * _token_activation(model, tensor, serving)
    attention = model.attention
    least, margin = 0.5, V0_MLA_MARGIN_GIB if engine.is_v0 and engine.uses_mla(model) else MARGIN_GIB
    if isinstance(attention, CompressedAttention):
        forward = max(forward, _compressed_attention(attention, model, serving, tensor=tensor, batched=batched))
        # All of this is held at the same time, so that it is also the least.
        least, margin = 1, COMPRESSED_MARGIN_GIB
    if engine.uses_mla(model) and isinstance(attention, MultiHeadLatentAttention) and not engine.is_v0:
        width = math.ceil(model.heads / tensor) * (attention.nope_dim + attention.value_dim)
        context = min(8 * serving.max_model_len, MLA_CONTEXT_TOKENS)
        forward += context * (width + attention.cached) * DTYPE_BYTES
    logits = sequences * model.vocabulary
    nominal = max(forward, logits * SAMPLER_BYTES) / GIB
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
