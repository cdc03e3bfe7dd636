"""DeepSeek-V4's cache: groups of layers with pages of several sizes, which share the blocks of one pool.

A layer keeps a window of entries; a compressed one also an entry for every 4 or 128 tokens, and the sums that are not
yet compressed; with a ratio of 4 all of that again, smaller, for the indexer. Each group takes whole blocks from the
pool, however little of a block its pages fill (https://github.com/vllm-project/vllm/issues/51163).
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from deepseek_acs.planner.model import INDEXED_RATIO, CompressedAttention
from deepseek_acs.planner.vllm import Engine
from deepseek_acs.planner.vllm_releases.release import changed_in
from deepseek_acs.planner.weights import FLOAT_BYTES, overlap

BLOCK_TOKENS = 256
"""The only size that the kernels take
(https://github.com/vllm-project/vllm/blob/v0.33.0/vllm/models/deepseek_v4/sparse_mla.py)."""

WINDOW_BLOCK_TOKENS = 64
"""https://github.com/vllm-project/vllm/blob/v0.33.0/vllm/v1/attention/backends/mla/sparse_swa.py"""

STATE_BLOCK_TOKENS = {4: 4, 128: 8}
"""Of the compressors' sums, by ratio
(https://github.com/vllm-project/vllm/blob/v0.33.0/vllm/models/deepseek_v4/compressor.py)."""

SCALE_BYTES = 8
"""The layout fp8_ds_mla: FP8 with a scale per 64 elements, padded to 8 bytes, and the rotary part in 16 bits: 584 bytes
for 512 elements (https://github.com/vllm-project/vllm/blob/v0.33.0/vllm/models/deepseek_v4/attention.py)."""

INDEXER_SCALE_BYTES = 4
"""In addition to an indexer's FP8 key."""

ALIGNMENT = 576
"""Bytes to which pages are rounded up in this layout."""


@dataclass(frozen=True)
class Group:
    """Layers that share a block table. ``pages`` are the sizes in bytes of the pages of one block on one GPU.

    ``window`` is how many tokens are looked back at, None for all.
    """

    block_tokens: int
    window: int | None
    pages: tuple[int, ...]

    def blocks(self, length: int, in_flight: int) -> int:
        """Blocks of a request of ``length`` tokens, of which ``in_flight`` may be under way."""
        if self.window is None:
            return math.ceil(length / self.block_tokens)
        # A window's first token may lie inside a block.
        return math.ceil(min(self.window - 1 + in_flight, length) / self.block_tokens) + 1


@dataclass(frozen=True)
class Blocks:
    """Sizes in bytes: of a block in the pool, and of one as the check at start counts it.

    ``needed`` are the blocks of a request of full length, ``printed`` those that the log divides by.
    """

    pool_bytes: int
    checked_bytes: int
    needed: int
    printed: int


def blocks(attention: CompressedAttention, engine: Engine, *, layers: range, length: int, in_flight: int) -> Blocks:
    """The blocks of a stage with these ``layers``, and what a request of ``length`` tokens takes of them."""
    groups = stage_groups(attention, layers)
    counts = [group.blocks(length, in_flight) for group in groups]
    if engine.version >= changed_in("cache_dense"):
        size = max(sum(group.pages) for group in groups)
        return Blocks(size, size, sum(counts), sum(counts))
    # Pages are padded to the sizes of the whole model's first group.
    sizes = sorted(set(stage_groups(attention, range(len(attention.ratios)))[0].pages))
    padded = [Counter(min(size for size in sizes if size >= page) for page in group.pages) for group in groups]
    depth = max(max(pages.values()) for pages in padded)
    slots = depth * sum(sizes)
    buckets = sum(size * max(pages[size] for pages in padded) for size in sizes)
    # The log weighs the blocks of each group by the bytes that its pages fill.
    filled = [sum(size * count for size, count in pages.items()) for pages in padded]
    printed = math.ceil(sum(count * size for count, size in zip(counts, filled, strict=True)) / filled[0])
    return Blocks(buckets if engine.version >= changed_in("cache_buckets") else slots, slots, sum(counts), printed)


@cache
def stage_groups(attention: CompressedAttention, layers: range) -> Sequence[Group]:
    """The groups on one GPU of a stage, the one that grows with the request first; a group without layers is left out.

    Groups are made for the whole model, of which a stage holds its share.
    """
    every = range(len(attention.ratios))
    compressed = [layer for layer in every if attention.ratios[layer]]
    states = {ratio: [layer for layer in every if attention.ratios[layer] == ratio] for ratio in STATE_BLOCK_TOKENS}
    window_page = _aligned(WINDOW_BLOCK_TOKENS * _entry_bytes(attention))

    def pages(of: Sequence[int]) -> Iterator[int]:
        for layer in of:
            ratio = attention.ratios[layer]
            yield _aligned(BLOCK_TOKENS // ratio * _entry_bytes(attention))
            if ratio == INDEXED_RATIO:
                yield _aligned(BLOCK_TOKENS // ratio * (attention.indexer_dim + INDEXER_SCALE_BYTES))

    def state_pages(of: Sequence[int]) -> Iterator[int]:
        for layer in of:
            ratio = attention.ratios[layer]
            # A sum and its weight for each element.
            elements = STATE_BLOCK_TOKENS[ratio] * 2 * overlap(ratio) * FLOAT_BYTES
            yield _aligned(elements * attention.head_dim)
            if ratio == INDEXED_RATIO:
                yield _aligned(elements * attention.indexer_dim)

    def here(of: Sequence[int]) -> list[int]:
        return [layer for layer in of if layer in layers]

    deepest = max(map(len, states.values()))
    parts = math.ceil(len(every) / _depth([deepest, len(every), *filter(None, map(len, states.values()))]))
    found = [
        Group(BLOCK_TOKENS, None, tuple(pages(here(compressed)))),
        *(
            Group(WINDOW_BLOCK_TOKENS, attention.window, (window_page,) * len(here(every[part::parts])))
            for part in range(parts)
        ),
        *(
            Group(STATE_BLOCK_TOKENS[ratio], overlap(ratio) * ratio, tuple(state_pages(here(of))))
            for ratio, of in states.items()
        ),
    ]
    return [group for group in found if group.pages]


def _depth(counts: Sequence[int]) -> int:
    """Layers per group that waste the fewest slots, at least those of the first group
    (https://github.com/vllm-project/vllm/blob/v0.33.0/vllm/v1/core/kv_cache_planning.py, ``_approximate_gcd``)."""
    return min(range(counts[0], max(counts) + 1), key=lambda depth: (sum(-count % depth for count in counts), -depth))


def _entry_bytes(attention: CompressedAttention) -> int:
    return attention.head_dim - attention.rope_dim + 2 * attention.rope_dim + SCALE_BYTES


def _aligned(size: int) -> int:
    return math.ceil(size / ALIGNMENT) * ALIGNMENT
