"""Bytes of key-value cache per token, exact for each kind of attention, and how many tokens a memory holds."""

import math
from dataclasses import dataclass

from deepseek_acs.planner import kv_cache_v4
from deepseek_acs.planner.kv_cache_v4 import INDEXER_SCALE_BYTES
from deepseek_acs.planner.model import (
    DTYPE_BYTES,
    CompressedAttention,
    GroupedQueryAttention,
    Model,
    MultiHeadLatentAttention,
)
from deepseek_acs.planner.vllm import Engine, Serving

MLA_ALIGNMENT = 256
"""Bytes to which 0.7 aligns MLA's entries
(https://github.com/vllm-project/vllm/blob/v0.7.2/vllm/worker/cache_engine.py)."""

FP8_SPARSE_MLA_BYTES = 656
"""The layout fp8_ds_mla of DeepSeek-V3.2
(https://github.com/vllm-project/vllm/blob/v0.33.0/vllm/model_executor/layers/attention/mla_attention.py)."""

MIN_RATIO = 1.5
"""Below this ratio of window layers to full layers, both get groups of the larger size
(https://github.com/vllm-project/vllm/blob/v0.33.0/vllm/v1/core/kv_cache_planning.py)."""


def block_tokens(model: Model, engine: Engine, serving: Serving) -> int:
    """Tokens per block: 16, and more for the kernels of MLA on the current generation and of DeepSeek-V4."""
    if isinstance(model.attention, CompressedAttention):
        return kv_cache_v4.BLOCK_TOKENS
    return serving.block_size or (64 if engine.uses_mla(model) and not engine.is_v0 else 16)


def layer_token_bytes(model: Model, engine: Engine, serving: Serving, tensor: int) -> int:
    """Bytes per token of one layer on one GPU, without an indexer's. Of DeepSeek-V4 a layer's average of what grows
    with the request."""
    element = 1 if serving.kv_cache_dtype.startswith("fp8") else DTYPE_BYTES
    attention = model.attention
    if isinstance(attention, CompressedAttention):
        growing = kv_cache_v4.stage_groups(attention, range(model.layers))[0]
        return math.ceil(sum(growing.pages) / growing.block_tokens / model.layers)
    if isinstance(attention, GroupedQueryAttention):
        # With more GPUs than KV heads each GPU still holds one.
        return 2 * max(1, attention.kv_heads // tensor) * attention.head_dim * element
    if not engine.uses_mla(model):
        return 2 * math.ceil(model.heads / tensor) * (attention.nope_dim + attention.rope_dim) * element
    if attention.indexer_heads and element == 1:
        return FP8_SPARSE_MLA_BYTES
    size = attention.cached * element
    return math.ceil(size / MLA_ALIGNMENT) * MLA_ALIGNMENT if engine.is_v0 else size


def token_bytes(model: Model, engine: Engine, serving: Serving, *, tensor: int, layers: range) -> int:
    """Bytes per token of ``layers``, if they look back at everything, on one GPU."""
    return len(layers) * layer_token_bytes(model, engine, serving, tensor) + _indexer_bytes(model, layers)


def _indexer_bytes(model: Model, layers: range) -> int:
    """Bytes per token of the keys by which the indexers of ``layers`` pick tokens."""
    attention = model.attention
    if not isinstance(attention, MultiHeadLatentAttention):
        return 0
    # A layer for multi-token prediction, beyond the model's own, has one.
    indexers = sum(attention.has_indexer(layer) for layer in layers)
    return indexers * (attention.indexer_dim + INDEXER_SCALE_BYTES)


@dataclass(frozen=True, kw_only=True)
class Pool:
    """The blocks of one GPU: each of ``block_bytes`` for ``block_tokens`` tokens of one group of layers.

    ``request_blocks`` are those of one request of ``max_model_len`` tokens, over all groups. ``log_bytes`` and
    ``log_blocks`` are what the log counts instead where that differs.
    """

    block_bytes: int
    block_tokens: int
    request_blocks: int
    max_model_len: int
    context_parallel: int
    is_hybrid: bool
    log_bytes: int | None = None
    log_blocks: int | None = None

    def tokens(self, available_bytes: float) -> int:
        """Tokens that fit. With windows that is the number of full requests times their length."""
        return self._tokens(available_bytes, self.block_bytes, self.request_blocks)

    def logged_tokens(self, available_bytes: float) -> int:
        """Tokens as the engine prints them
        (https://github.com/vllm-project/vllm/blob/v0.33.0/vllm/v1/core/kv_cache_utils.py). For DeepSeek-V4, versions
        before 0.27 print more than fit: they weigh each block by the bytes that its group fills."""
        return self._tokens(available_bytes, self.log_bytes or self.block_bytes, self.log_blocks or self.request_blocks)

    def _tokens(self, available_bytes: float, block_bytes: int, request_blocks: int) -> int:
        blocks = max(0, math.floor(available_bytes / block_bytes))
        if self.is_hybrid:
            return int(blocks / request_blocks * self.max_model_len)
        return blocks * self.block_tokens * self.context_parallel

    @property
    def request_bytes(self) -> int:
        """What one request of full length needs."""
        return self.request_blocks * self.block_bytes


def pool(model: Model, engine: Engine, serving: Serving, *, tensor: int, layers: range, in_flight: int) -> Pool:
    """The blocks of one GPU of a stage with these ``layers``, if ``in_flight`` tokens are under way at once."""
    if isinstance(model.attention, CompressedAttention):
        return _compressed_pool(model.attention, engine, serving.max_model_len, layers, in_flight)
    size = block_tokens(model, engine, serving)
    longest = math.ceil(serving.max_model_len / serving.context_parallel)
    full = math.ceil(longest / size)
    # The groups are made for the whole model; a stage holds its share of each.
    kinds = model.window_kinds
    is_hybrid = len(kinds) > 1 and not engine.is_v0 and serving.windows
    if not is_hybrid:
        # One kind of layer: the window saves nothing that the printed number would show.
        blocks = full
        block_bytes = token_bytes(model, engine, serving, tensor=tensor, layers=layers) * size
    else:
        smallest, largest = min(kinds.values()), max(kinds.values())
        group = largest if largest < smallest * MIN_RATIO else smallest
        blocks = 0
        for window, count in kinds.items():
            kept = longest if window is None else min(window - 1 + in_flight, longest)
            # A window's first token may lie inside a block.
            per_group = math.ceil(kept / size) + (0 if window is None else 1)
            blocks += math.ceil(count / group) * per_group
        group_layers = math.ceil(group * len(layers) / model.layers)
        block_bytes = group_layers * layer_token_bytes(model, engine, serving, tensor) * size
    return Pool(
        block_bytes=max(1, block_bytes),
        block_tokens=size,
        request_blocks=blocks,
        max_model_len=serving.max_model_len,
        context_parallel=serving.context_parallel,
        is_hybrid=is_hybrid,
    )


def _compressed_pool(
    attention: CompressedAttention, engine: Engine, length: int, layers: range, in_flight: int
) -> Pool:
    found = kv_cache_v4.blocks(attention, engine, layers=layers, length=length, in_flight=in_flight)
    return Pool(
        block_bytes=found.checked_bytes,
        block_tokens=kv_cache_v4.BLOCK_TOKENS,
        request_blocks=found.needed,
        max_model_len=length,
        context_parallel=1,
        is_hybrid=True,
        log_bytes=found.pool_bytes,
        log_blocks=found.printed,
    )
