"""A model as far as memory depends on it: plain shapes, independent of engine, GPU and layout."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from re import match

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

    @property
    def cached(self) -> int:
        """Elements that are cached per token and layer."""
        return self.kv_rank + self.rope_dim


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
        return (self.experts_only and ".experts" not in module) or any(_matches(p, module) for p in self.ignore)


def _matches(pattern: str, module: str) -> bool:
    if pattern.startswith("re:"):
        return match(pattern[3:], module) is not None
    if "*" in pattern:
        return fnmatchcase(module, pattern) or fnmatchcase(module, pattern + ".*")
    return f".{module}.".find(f".{pattern}.") >= 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Model:
    """One model. ``weights_gib`` is the published size of its safetensors files in GiB, None if only shapes are known.

    ``sparse`` says per layer whether it has experts, ``windows`` per layer how many tokens it looks back (None = all).
    ``unpredicted`` says why the shapes are not enough to size it, None if they are.
    """

    name: str
    source: str
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
    unpredicted: str | None = None

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

    @cached_property
    def representatives(self) -> Sequence[int]:
        """For each layer the first that is like it in shape; only ignored modules could still differ."""
        first: dict[object, int] = {}
        attention = self.attention
        ratios = attention.ratios if isinstance(attention, CompressedAttention) else (0,) * self.layers
        hashed = attention.hashed if isinstance(attention, CompressedAttention) else 0
        return [
            first.setdefault((sparse, ratio, layer < hashed), layer)
            for layer, (sparse, ratio) in enumerate(zip(self.sparse, ratios, strict=True))
        ]
