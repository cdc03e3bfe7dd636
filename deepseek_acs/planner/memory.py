"""Memory of each GPU: weights, the engine's own needs as a band, and what is left for the key-value cache.

::

    usable   = memory as PyTorch reports it × gpu_memory_utilization
    cache    = usable - weights - activation peak - NCCL, CUDA and the like - CUDA graphs (if the version counts them)

The smallest rank decides (https://github.com/vllm-project/vllm/blob/v0.33.0/vllm/v1/core/kv_cache_planning.py). Weights
and bytes per token are exact; the other terms are bands, because start-up logs of the same set-up differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property

from deepseek_acs.planner.activation import GIB, Band, Step, activation_peak, sampling_bytes
from deepseek_acs.planner.catalogue import Gpu
from deepseek_acs.planner.cuda_graphs import graph_memory
from deepseek_acs.planner.kv_cache import Pool, pool
from deepseek_acs.planner.model import CompressedAttention, Model
from deepseek_acs.planner.vllm import Engine, Serving
from deepseek_acs.planner.weights import Split, buffer_bytes, draft_bytes, is_swizzled, stage_bytes

NON_TORCH_V1 = {1: Band(0.1, 0.13, 0.3), 2: Band(0.3, 0.55, 1.5), 8: Band(1.0, 2.5, 3.5)}
NON_TORCH_V0 = {1: Band(0.1, 0.5, 1.8), 2: Band(0.2, 0.7, 3.6), 8: Band(2.5, 4.0, 7.2)}
NON_TORCH_PCIE = {1: Band(0.1, 0.2, 0.3), 2: Band(0.2, 0.4, 1.5), 8: Band(0.2, 0.8, 2.5)}
"""CUDA context, NCCL and custom all-reduce by the smallest tensor parallel size the row is for (docs/planner.md). Most
of it are buffers for NVLink, which GPUs without it do not have."""

NON_TORCH_SNAPSHOT = {1: Band(0.1, 0.225, 0.3), 2: Band(0.4, 0.54, 0.9), 4: Band(0.5, 1.2, 2.1)}
"""The same where the engine measures from after the start of NCCL, whose first buffers then do not count: 0.225 GiB on
one GPU and 0.54 on two (two NVIDIA H200, vLLM 0.20.2, 2026-11-28, without NVLink multicast), 0.13 on one with 0.11.
More GPUs were not measured: three published logs of four and eight leave 0.7, 0.8 and 1.8."""

NON_TORCH_LATER = {1: Band(0.1, 0.225, 0.3), 2: Band(0.05, 0.07, 0.4), 4: Band(0.05, 0.7, 1.7)}
"""The same on 0.26.0, of which two GPUs need 0.07 GiB, 0.47 less than on 0.20.2 (two NVIDIA H200, 2026-11-29): for
four and more that much less at the pessimistic end, too."""

NON_TORCH_STAGE = Band(0.05, 0.07, 0.3)
"""The same for a pipeline stage of one GPU: libraries are loaded by the start of NCCL, before the engine measures."""

SWIZZLED_NON_TORCH = Band(0.3, 0.35, 0.45)
"""More where Triton's kernels for MXFP4 run: the GPU's memory for what does not fit into their registers."""

CONTEXT_GIB = 0.55
"""What the driver keeps of a GPU before the engine counts."""

FRAGMENTS = Band(0.1, 0.18, 0.21)
"""Share of the weights that the allocator still holds, in pieces, after MXFP4 weights have been rearranged: no tensor
of the sampler's size fits into them (7.0 of 33.8 and 11.6 of 65.6 GiB; same measurement)."""


def _row(table: dict[int, Band], tensor: int) -> Band:
    return table[max(size for size in table if size <= tensor)]


def _non_torch(model: Model, engine: Engine, gpu: Gpu, *, tensor: int, pipeline: int) -> Band:
    in_pieces = is_swizzled(model, engine, gpu.capability) and engine.pads_experts
    more = SWIZZLED_NON_TORCH if in_pieces else Band(0, 0, 0)
    if gpu.nvlink_gb_s == 0:
        return _row(NON_TORCH_PCIE, tensor) + more
    if engine.is_v0:
        return _row(NON_TORCH_V0, tensor)
    if not engine.measures_after_nccl or isinstance(model.attention, CompressedAttention):
        return _row(NON_TORCH_V1, tensor)
    if tensor == 1 and pipeline > 1:
        return NON_TORCH_STAGE + more
    return _row(NON_TORCH_LATER if engine.starts_all_communicators_first else NON_TORCH_SNAPSHOT, tensor) + more


def _warm_up(
    model: Model, engine: Engine, serving: Serving, gpu: Gpu, step: Step, *, weights_gib: float, peak: Band
) -> Band:
    """What is left after the sampler's warm-up, which follows the cache. The profile counts what it needs; but not the
    pieces in which the allocator holds memory, so that it may have to take new memory from the rest of the GPU."""
    rest = max(0.0, gpu.memory_gib * (1 - serving.utilization) - CONTEXT_GIB)
    if not (is_swizzled(model, engine, gpu.capability) and engine.pads_experts):
        return Band(rest, rest, rest)
    needed = sampling_bytes(model, engine, serving, step) / GIB
    pieces = (share * weights_gib for share in (FRAGMENTS.high, FRAGMENTS.nominal, FRAGMENTS.low))
    low, nominal, high = (
        rest + most - part - needed for most, part in zip((peak.low, peak.nominal, peak.high), pieces, strict=True)
    )
    return Band(low, nominal, high)


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
    warm_up: Band
    """What is left of the GPU outside the cache when sampling of a full batch is tried, after what that needs."""

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
    asked_bytes: int = 0
    """Cache that the engine asks of every GPU for one request, where that is more than its layers need."""

    @property
    def tightest(self) -> Stage:
        """The stage that decides; of two alike the later, which holds the sampler."""
        if self.asked_bytes:
            return min(reversed(self.stages), key=lambda stage: stage.cache.nominal)
        return min(reversed(self.stages), key=lambda stage: stage.tokens()[1] or stage.cache.nominal)

    @property
    def needed_bytes(self) -> int:
        """Cache of the tightest GPU that the engine asks for one request."""
        return max(self.asked_bytes, self.tightest.pool.request_bytes)

    @property
    def surely_has_asked(self) -> bool:
        """Whether every GPU has the cache that the engine asks of it, by the pessimistic estimate."""
        return all(stage.cache.low * GIB >= self.asked_bytes for stage in self.stages)

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
        if high < needed or any(stage.cache.high * GIB < self.asked_bytes for stage in self.stages):
            return Verdict.DOES_NOT_FIT
        return Verdict.FITS if low >= needed and self.surely_has_asked and self.warms_up else Verdict.TOO_CLOSE

    @property
    def warms_up(self) -> bool:
        """Whether sampling a full batch is sure to work after the cache has been allocated."""
        return all(stage.warm_up.low >= 0 for stage in self.stages)

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
    measured_kv_cache_gib: float | None = None,
) -> Memory:
    """Memory of one replica of ``model`` on ``tensor`` × ``pipeline`` GPUs. ``measured_kv_cache_gib``, which an engine
    has logged as left for the cache of a GPU, replaces the estimate."""
    split = Split(tensor=tensor, expert_parallel=serving.expert_parallel)
    if engine.stores_fp8(model, serving.kv_cache_dtype, gpu.capability):
        serving = replace(serving, kv_cache_dtype="fp8")
    sequences = serving.sequences(engine, gpu)
    batched = serving.batched_tokens(engine, gpu)
    usable = gpu.memory_gib * serving.utilization
    ranges = engine.stages(model.layers, pipeline)
    in_flight = batched * engine.batches_in_flight(pipeline)
    # Of DeepSeek-V4 the draft's layer is another than the model's, and not modelled.
    drafts = 0 if isinstance(model.attention, CompressedAttention) else serving.draft_layers
    non_torch = _non_torch(model, engine, gpu, tensor=tensor, pipeline=pipeline)
    stages = []
    for number, layers in enumerate(ranges):
        last = number == pipeline - 1
        weights = stage_bytes(model, layers, engine, split, capability=gpu.capability, first=number == 0, last=last)
        weights += buffer_bytes(model, engine, serving, tensor=tensor, batched_tokens=batched, last=last)
        if last and drafts:
            weights += draft_bytes(model, engine, split, capability=gpu.capability, alone=number > 0)
        step = Step(layers=layers, tensor=tensor, batched=batched, sequences=sequences, samples=last)
        activation = activation_peak(model, engine, serving, step)
        graphs = graph_memory(model, engine, serving, step)
        other = activation + non_torch + graphs
        cache = Band(*(usable - weights / GIB - part for part in (other.high, other.nominal, other.low)))
        if serving.cache_bytes is not None:
            cache = _given(serving.cache_bytes / GIB, gpu.memory_gib - CONTEXT_GIB - usable, cache)
        if measured_kv_cache_gib is not None:
            cache = Band(measured_kv_cache_gib, measured_kv_cache_gib, measured_kv_cache_gib)
        cached = range(layers.start, layers.stop + (drafts if last else 0))
        stages.append(
            Stage(
                layers=layers,
                weights_gib=weights / GIB,
                activation=activation,
                non_torch=non_torch,
                graphs=graphs,
                cache=cache,
                pool=pool(model, engine, serving, tensor=tensor, layers=cached, in_flight=in_flight),
                warm_up=_warm_up(model, engine, serving, gpu, step, weights_gib=weights / GIB, peak=activation),
            )
        )
    asked = 0
    if pipeline > 1 and engine.asks_for_whole_model:
        every = range(model.layers)
        asked = pool(model, engine, serving, tensor=tensor, layers=every, in_flight=in_flight).request_bytes
    return Memory(
        total_gib=gpu.memory_gib,
        usable_gib=usable,
        stages=tuple(stages),
        max_model_len=serving.max_model_len,
        virtual_engines=engine.virtual_engines(pipeline),
        max_num_seqs=sequences,
        asked_bytes=asked,
    )


def _given(gib: float, beyond: float, left: Band) -> Band:
    """A cache of ``gib``, which the engine takes without a look at what is ``left``: nothing where the GPU, of which
    ``beyond`` are outside the share that is granted, does not have it."""
    low, nominal, high = (gib if part + beyond >= gib else 0.0 for part in (left.low, left.nominal, left.high))
    return Band(low, nominal, high)
