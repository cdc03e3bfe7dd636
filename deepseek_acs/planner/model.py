"""A model as far as memory depends on it: plain shapes, independent of engine, GPU and layout."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import translate
from functools import cached_property
from typing import Literal

DTYPE_BYTES = 2
"""vLLM loads bf16, fp16 and fp32 checkpoints alike as 16-bit numbers."""


@dataclass(frozen=True, kw_only=True)
class MultiHeadLatentAttention:
    """DeepSeek's MLA: one compressed key-value vector per token (https://arxiv.org/abs/2405.04434). In elements."""

    query_rank: int | None
    kv_rank: int
    rope_dim: int
    nope_dim: int
    value_dim: int
    indexer_heads: int = 0
    indexer_dim: int = 0
    shared: frozenset[int] = frozenset()
    """Layers without an indexer of their own, which take the tokens that the one before them picked."""

    @property
    def cached(self) -> int:
        """Elements that are cached per token and layer."""
        return self.kv_rank + self.rope_dim

    def has_indexer(self, layer: int) -> bool:
        """Whether the layer picks the tokens that it attends to."""
        return self.indexer_heads > 0 and layer not in self.shared


@dataclass(frozen=True, kw_only=True)
class GroupedQueryAttention:
    """GQA, and MHA as its special case (https://arxiv.org/abs/2305.13245)."""

    kv_heads: int
    head_dim: int
    bias: bool = False


INDEXED_RATIO = 4
"""Of DeepSeek-V4's compressed layers, those of this ratio have an indexer."""


@dataclass(frozen=True, kw_only=True)
class CompressedAttention:
    """DeepSeek-V4's attention: each layer keeps the last tokens, and one entry for every ``ratio`` tokens before.

    ``ratios`` has one per layer, 0 where only the window is kept. A ratio of 4 comes with an indexer that picks entries
    (https://huggingface.co/deepseek-ai/DeepSeek-V4-Pro). ``groups`` and ``output_rank`` are those of the output
    projection, ``streams`` the parallel residual streams, ``hashed`` the first layers, whose experts follow from the
    token alone. Sizes in elements.
    """

    query_rank: int
    head_dim: int
    rope_dim: int
    groups: int
    output_rank: int
    window: int
    ratios: tuple[int, ...]
    indexer_heads: int
    indexer_dim: int
    streams: int
    hashed: int


@dataclass(frozen=True, kw_only=True)
class Experts:
    """The mixture-of-experts layers; ``shared_size`` is the width of all shared experts together."""

    count: int
    per_token: int
    size: int
    shared_size: int
    bias: bool = False


@dataclass(frozen=True, kw_only=True)
class Quantisation:
    """How linear layers are stored: ``bits`` per element, and per group of ``rows`` × ``columns`` (0 = all) a scale.

    ``ignore`` names modules that are not quantised, in the forms that vLLM understands: a name, a glob, ``re:`` and a
    regular expression.
    """

    method: str
    bits: float
    rows: int
    columns: int
    scale_bytes: float
    zero_point: bool = False
    experts_only: bool = False
    ignore: tuple[str, ...] = ()
    experts: "Quantisation | None" = None
    """How the routed experts are stored, where that is another way."""

    @property
    def is_block_fp8(self) -> bool:
        """Whether a shard must be whole blocks, as in DeepSeek's own FP8 checkpoints."""
        return self.method == "fp8" and self.rows > 1

    def ignores(self, module: str) -> bool:
        """Whether the module of this full name keeps its 16 bits."""
        if self.experts_only and ".experts" not in module:
            return True
        if not self.ignore:
            return False
        parts = module.split(".")
        runs = (".".join(parts[start:end]) for end in range(1, len(parts) + 1) for start in range(end))
        return not self._names.isdisjoint(runs) or self._patterns.match(module) is not None

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(pattern for pattern in self.ignore if not _is_pattern(pattern))

    @cached_property
    def _patterns(self) -> re.Pattern[str]:
        # One expression for all of them: a checkpoint may have hundreds.
        texts = ["(?!)"]
        for pattern in filter(_is_pattern, self.ignore):
            texts += [pattern[3:]] if pattern.startswith("re:") else [translate(pattern), translate(pattern + ".*")]
        return re.compile("|".join(f"(?:{text})" for text in texts))


def _is_pattern(text: str) -> bool:
    return text.startswith("re:") or "*" in text


@dataclass(frozen=True, kw_only=True)
class VisionTower:
    """What reads images: ``split`` parameters of its layers, ``copied`` ones of the projection to the model's width."""

    split: int
    copied: int


@dataclass(frozen=True, kw_only=True)
class Unpredicted:
    """A model of which at most the size is known, in GiB; ``why`` says what its config.json has that is not
    modelled."""

    source: str
    why: str
    architecture: str | None
    context: int | None
    weights_gib: float | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Model:
    """One model. ``weights_gib`` is the published size of its safetensors files in GiB, None if only shapes are known.

    ``sparse`` says per layer whether it has experts, ``windows`` per layer how many tokens it looks back (None = all).
    ``architecture`` is the name of the class that the engine looks for, ``family`` the config's ``model_type``,
    ``drafts`` the number of layers for multi-token prediction in its files, ``bytes_on_disk`` those of an element that
    is not quantised. ``cache_by`` names the tool that quantised the cache to FP8, None if it is not quantised.
    """

    name: str
    source: str
    architecture: str | None
    family: str
    hidden: int
    heads: int
    attention: MultiHeadLatentAttention | GroupedQueryAttention | CompressedAttention
    intermediate: int
    experts: Experts | None
    sparse: Sequence[bool]
    windows: Sequence[int | None]
    vocabulary: int
    tied_embeddings: bool
    context: int
    rotary_dim: int
    quantisation: Quantisation | None
    weights_gib: float | None = None
    cache_by: Literal["modelopt", "compressed-tensors"] | None = None
    vision: VisionTower | None = None
    drafts: int = 0
    bytes_on_disk: int = DTYPE_BYTES

    @property
    def layers(self) -> int:
        """Number of decoder layers, without those for multi-token prediction."""
        return len(self.sparse)

    @cached_property
    def is_hybrid(self) -> bool:
        """Whether some layers look back only a window and others at everything."""
        return isinstance(self.attention, CompressedAttention) or len(set(self.windows)) > 1

    @cached_property
    def window_kinds(self) -> Mapping[int | None, int]:
        """How many layers look back how far."""
        return Counter(self.windows)

    def kind(self, layer: int) -> tuple[object, ...]:
        """What a layer's shapes depend on: layers of the same kind are alike, but for modules that are ignored."""
        attention = self.attention
        if isinstance(attention, CompressedAttention):
            return self.sparse[layer], attention.ratios[layer], layer < attention.hashed
        if isinstance(attention, MultiHeadLatentAttention):
            return self.sparse[layer], attention.has_indexer(layer)
        return (self.sparse[layer],)
