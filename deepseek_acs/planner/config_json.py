"""From a model's ``config.json`` to its shapes: the keys that Hugging Face's transformers and vLLM read.

What is not certain is not read: a model whose config.json has a family, a key or a format that is not known here is
``Unpredicted``, and only a size that the user gives says how large it is.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepseek_acs.planner.model import (
    INDEXED_RATIO,
    CompressedAttention,
    Experts,
    GroupedQueryAttention,
    Model,
    MultiHeadLatentAttention,
    Unpredicted,
    VisionTower,
)
from deepseek_acs.planner.quantisation import UnknownFormatError, cache_quantised_by, quantisation_of

Config = Mapping[str, Any]

FAMILIES = frozenset(
    {
        "deepseek_v2", "deepseek_v3", "deepseek_v32", "deepseek_v4", "dots1", "ernie4_5", "ernie4_5_moe", "exaone4",
        "glm", "glm4", "glm4_moe", "glm4_moe_lite", "glm_moe_dsa", "gpt_oss", "granite", "hunyuan_v1_dense",
        "internlm2", "internlm3", "kimi_k2", "llama", "mimo", "minimax_m2", "ministral3", "mistral", "mixtral", "olmo2",
        "olmoe", "phi3", "qwen2", "qwen2_5_vl", "qwen2_5_vl_text", "qwen2_moe", "qwen2_vl", "qwen2_vl_text", "qwen3",
        "qwen3_moe", "qwen3_vl_moe_text", "qwen3_vl_text", "seed_oss", "smollm3",
    }
)  # fmt: skip
"""Values of ``model_type`` whose layers have the shapes that are computed here, as vLLM 0.33 builds them
(https://github.com/vllm-project/vllm/tree/v0.33.0/vllm/model_executor/models)."""

NOT_MODELLED = {
    "compress_ratios": "compressed attention",
    "linear_num_key_heads": "linear attention",
    "linear_attn_config": "linear attention",
    "mamba_num_heads": "Mamba layers",
    "hybrid_override_pattern": "Mamba layers",
    "block_configs": "layers of different shapes",
    "interleave_moe_layer_step": "interleaved experts",
    "global_head_dim": "heads of different sizes",
    "num_kv_shared_layers": "layers that share a cache",
    "sparse_attention_config": "sparse attention",
    "hybrid_layer_pattern": "heads of different sizes",
    "zero_expert_num": "experts that compute nothing",
}
"""Keys of a config.json with which the arithmetic of this package would be wrong, and what they stand for."""

READ = frozenset(
    {
        "attention_bias", "attn_type_list", "compress_ratios", "decoder_sparse_step", "expert_dtype",
        "experts_per_token", "first_k_dense_replace", "head_dim", "hidden_size", "index_head_dim", "index_n_heads",
        "index_skip_topk_offset", "index_topk_freq", "indexer_types", "intermediate_size", "kv_lora_rank",
        "layer_types", "max_position_embeddings", "max_window_layers", "mlp_layer_types", "mlp_only_layers",
        "moe_intermediate_size", "moe_k", "moe_layer_end_index", "moe_layer_freq", "moe_layer_interval",
        "moe_layer_start_index", "moe_num_experts", "moe_num_shared_experts", "n_routed_experts", "n_shared_experts",
        "num_attention_heads", "num_experts", "num_experts_per_tok", "num_hash_layers", "num_hidden_layers",
        "num_key_value_heads", "num_local_experts", "num_nextn_predict_layers", "o_lora_rank", "q_lora_rank",
        "qk_nope_head_dim", "qk_rope_head_dim", "qkv_bias", "shared_expert_intermediate_size", "sliding_window",
        "sliding_window_pattern", "use_bias", "use_qkv_bias", "use_sliding_window", "v_head_dim",
    }
)  # fmt: skip
"""Keys that are read and have a name of the kind that ``SPEAKS`` finds."""

WITHOUT_WEIGHT = frozenset(
    {
        "add_cross_attention", "attention_multiplier", "attention_out_bias", "chunk_size_feed_forward",
        "compress_rope_theta", "default_num_hash_layers", "embedding_multiplier", "ep_size",
        "index_share_for_mtp_iteration", "index_topk", "index_topk_pattern", "indexer_rope_interleave", "mlp_bias",
        "moe_capacity", "moe_norm_min", "moe_use_aux_free", "mtp_transformer_layers", "no_rope_layer_interval",
        "no_rope_layers", "num_mtp_layers", "num_mtp_modules", "original_max_position_embeddings", "qk_head_dim",
        "rotary_dim", "use_mtp",
    }
)  # fmt: skip
"""Keys with such names that change nothing of the memory, or of what is counted of it only by norms and biases."""

SPEAKS = re.compile(
    "attn|attention|block|compress|conv|dim|embed|expert|ffn|head|hybrid|index|inner|kv|latent|layer|linear|lora|mamba|"
    "mlp|moe|mtp|nextn|sparse|ssm|state|swa|window|_size|intermediate"
)
"""What the names of keys have in common that say how many experts or layers there are, or how attention works."""

SAY_NOTHING = re.compile(
    "(token|_id|_index|_eps|_act|_ratio|_coef|_coeff|_theta|_dropout|_pdrop|_prob|_std)$|dropout|^(vocab|patch|image)_|"
    "^(bos|eos|pad|sep|unk|mask|boi|eoi|image|video|audio|vision|tts|im|user|assistant|system)_|^hidden_act|^rope_|"
    "^(output|return|tie|use_cache|torch)_|_token_id|layer_norm|layernorm"
)
"""Names that match ``SPEAKS`` only by accident."""

COMPRESSION_RATIOS = {0, 4, 128}
"""Tokens per cached entry that vLLM's compressor knows for DeepSeek-V4
(https://github.com/vllm-project/vllm/blob/v0.33.0/vllm/models/deepseek_v4/compressor.py)."""

UNTOUCHED_ROPE = ("llama3", "longrope", "su", "default", "proportional", "mrope")
"""Rope scalings that leave ``max_position_embeddings`` as it is
(https://github.com/vllm-project/vllm/blob/v0.33.0/vllm/config/model.py)."""

NESTED = ("thinker_config", "text_config", "llm_config", "language_config")
"""Keys under which models that also read images or sound have the config of the language model."""

QUANTISED_NAME = re.compile(r"(?i)(nv|mx)fp[48]|\bfp8|awq|gptq|\bint[48]\b|w[48]a(8|16)|bnb|4bit|8bit|gguf")
"""Names of checkpoints that say that they are quantised."""


class ConfigError(Exception):
    """The file cannot be read as a model's config.json; the text says what is missing."""


class _NotModelledError(Exception):
    """The shapes are not those that the arithmetic is made for; the text says what the model has."""


def read(path: Path, *, name: str) -> Model | Unpredicted:
    """The model whose ``config.json`` is at ``path``. Files next to it complete it: an index with the size of the
    weights, and ``hf_quant_config.json``, in which NVIDIA's tools say how they quantised them."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        index = path.with_name("model.safetensors.index.json")
        total = json.loads(index.read_text(encoding="utf-8"))["metadata"]["total_size"] if index.exists() else None
        quantisation_file = path.with_name("hf_quant_config.json")
        quantised = (
            json.loads(quantisation_file.read_text(encoding="utf-8"))["quantization"]
            if quantisation_file.exists()
            else None
        )
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{path} or a file next to it is not in the form that Hugging Face publishes") from None
    if quantised and isinstance(config, dict) and not _nested(config)[0].get("quantization_config"):
        config = {**config, "quantization_config": {"quant_method": "modelopt", **quantised}}
    return parse(config, name=name, source=str(path), weights_gib=total / 2**30 if total else None)


def parse(config: Config, *, name: str, source: str, weights_gib: float | None = None) -> Model | Unpredicted:
    """The model that ``config`` describes; raises ConfigError if it is not a model's config.json."""
    if not isinstance(config, dict):
        raise ConfigError(f"{source} is not a JSON object")
    text, levels = _nested(config)
    architecture = next((str(level["architectures"][0]) for level in levels if level.get("architectures")), None)
    if not text.get("model_type") and architecture is None:
        raise ConfigError(f"{source} has neither model_type nor architectures")
    found = _Read(config=text, name=name, source=source, architecture=architecture, weights_gib=weights_gib)
    try:
        return found.model(_tower(levels))
    except (_NotModelledError, UnknownFormatError) as error:
        why = str(error)
    except KeyError as error:
        why = f"no {error.args[0]} in its config.json"
    except (TypeError, ValueError, AttributeError, IndexError, ZeroDivisionError, re.error):
        why = "values of unexpected types in its config.json"
    context = text.get("max_position_embeddings")
    return Unpredicted(
        source=source,
        why=why,
        architecture=architecture,
        context=_context(text) if isinstance(context, int) else None,
        weights_gib=weights_gib,
    )


def _nested(config: Config) -> tuple[Config, list[Config]]:
    """The language model's config, with what the levels above it say of quantisation and ties; and all levels."""
    levels = [config]
    while inner := next((levels[-1][key] for key in NESTED if isinstance(levels[-1].get(key), dict)), None):
        levels.append(inner)
    above = {
        key: level[key]
        for level in levels
        for key in ("quantization_config", "tie_word_embeddings")
        if level.get(key) is not None
    }
    return {**levels[-1], **above}, levels


def _tower(levels: Sequence[Config]) -> VisionTower | None:
    """What reads images; its matrices alone, as all towers are made of attention and two or three matrices."""
    vision = next((level["vision_config"] for level in levels if level.get("vision_config")), None)
    if vision is None:
        return None

    def size(*names: str) -> int:
        return next((int(vision[name]) for name in names if vision.get(name)), 0)

    hidden = size("vt_hidden_size", "hidden_size", "embed_dim", "width")
    layers = size("vt_num_hidden_layers", "num_hidden_layers", "depth", "layers")
    inner = size("vt_intermediate_size", "intermediate_size") or 4 * hidden
    merged = hidden * (size("spatial_merge_size") or 2) ** 2
    out = size("out_hidden_size", "text_hidden_size") or merged
    mergers = 1 + len(vision.get("deepstack_visual_indexes") or ())
    return VisionTower(split=layers * hidden * (4 * hidden + 2 * inner), copied=mergers * merged * (merged + out))


@dataclass(frozen=True, kw_only=True)
class _Read:
    """The language model's config.json and what is known of it from elsewhere."""

    config: Config
    name: str
    source: str
    architecture: str | None
    weights_gib: float | None

    def model(self, tower: VisionTower | None) -> Model:
        c = self.config
        _refuse_unknown(c)
        layers, hidden, heads = int(c["num_hidden_layers"]), int(c["hidden_size"]), int(c["num_attention_heads"])
        attention = _attention(c, hidden, heads)
        rotary = attention.head_dim if isinstance(attention, GroupedQueryAttention) else attention.rope_dim
        experts = _experts(c)
        quantisation = quantisation_of(c)
        if quantisation is None and (named := QUANTISED_NAME.search(self.name)):
            raise _NotModelledError(
                f"{named[0]} in its name and no quantisation in its config.json, which NVIDIA's tools write to "
                "hf_quant_config.json next to it"
            )
        windows = (None,) * layers if isinstance(attention, CompressedAttention) else _windows(c, layers)
        return Model(
            name=self.name,
            source=self.source,
            architecture=self.architecture,
            family=str(c["model_type"]),
            hidden=hidden,
            heads=heads,
            attention=attention,
            intermediate=int(c.get("intermediate_size") or 0),
            experts=experts,
            sparse=tuple(experts is not None and _is_sparse(c, layer, layers) for layer in range(layers)),
            windows=windows,
            vocabulary=int(c["vocab_size"]),
            tied_embeddings=bool(c.get("tie_word_embeddings")),
            context=_context(c),
            rotary_dim=rotary,
            quantisation=quantisation,
            weights_gib=self.weights_gib,
            cache_by=cache_quantised_by(c),
            vision=tower,
            drafts=int(c.get("num_nextn_predict_layers") or 0),
            bytes_on_disk=4 if c.get("torch_dtype", c.get("dtype")) == "float32" else 2,
        )


def _refuse_unknown(c: Config) -> None:
    """Raises _NotModelledError for a family, or a key, that is not known to have the shapes that are computed."""
    is_compressed = c.get("model_type") == "deepseek_v4" and _compresses_as_known(c)
    for key, what in NOT_MODELLED.items():
        if c.get(key) and not (is_compressed and key == "compress_ratios"):
            raise _NotModelledError(what)
    kinds = set(c.get("layer_types") or ())
    if unknown := sorted(kinds - {"full_attention", "sliding_attention", "deepseek_sparse_attention"}):
        raise _NotModelledError(f"layers of type {unknown[0]}")
    if set(c.get("attn_type_list") or ()) - {1}:
        raise _NotModelledError("linear attention")
    if c.get("model_type") not in FAMILIES:
        raise _NotModelledError(f"a model_type that is not known here ({c.get('model_type', 'none')})")
    if unknown := [key for key in c if _is_unknown(key, c[key])]:
        names = ", ".join(unknown[:3]) + (", ..." if len(unknown) > 3 else "")
        raise _NotModelledError(f"keys in its config.json that are not known here ({names})")


def _is_unknown(key: str, value: object) -> bool:
    """Whether a key speaks of experts, layers or attention, says something, and is not known."""
    if (
        key in READ
        or key in WITHOUT_WEIGHT
        or value in (None, False, 0, 0.0, "", [], {})
        or isinstance(value, dict | str)
    ):
        return False
    return SPEAKS.search(key) is not None and SAY_NOTHING.search(key) is None


def _compresses_as_known(c: Config) -> bool:
    """The sizes of blocks are modelled for what there is: some layers with an indexer, none of another ratio. The list
    also has the layers for multi-token prediction, which do not count."""
    return {INDEXED_RATIO} <= set(c["compress_ratios"][: int(c["num_hidden_layers"])]) <= COMPRESSION_RATIOS


def _attention(
    c: Config, hidden: int, heads: int
) -> MultiHeadLatentAttention | GroupedQueryAttention | CompressedAttention:
    if c["model_type"] == "deepseek_v4":
        return CompressedAttention(
            query_rank=int(c["q_lora_rank"]),
            head_dim=int(c["head_dim"]),
            rope_dim=int(c["qk_rope_head_dim"]),
            groups=int(c["o_groups"]),
            output_rank=int(c["o_lora_rank"]),
            window=int(c["sliding_window"]),
            ratios=tuple(c["compress_ratios"][layer] for layer in range(int(c["num_hidden_layers"]))),
            indexer_heads=int(c["index_n_heads"]),
            indexer_dim=int(c["index_head_dim"]),
            streams=int(c["hc_mult"]),
            hashed=int(c.get("num_hash_layers") or 0),
        )
    if c.get("kv_lora_rank"):
        return MultiHeadLatentAttention(
            query_rank=c.get("q_lora_rank"),
            kv_rank=int(c["kv_lora_rank"]),
            rope_dim=int(c["qk_rope_head_dim"]),
            nope_dim=int(c["qk_nope_head_dim"]),
            value_dim=int(c["v_head_dim"]),
            indexer_heads=int(c.get("index_n_heads") or 0),
            indexer_dim=int(c.get("index_head_dim") or 0),
            shared=_without_indexer(c),
        )
    return GroupedQueryAttention(
        kv_heads=int(c.get("num_key_value_heads") or heads),
        head_dim=int(
            c["head_dim"] if str(c["model_type"]).startswith("qwen3") else c.get("head_dim") or hidden // heads
        ),
        bias=bool(
            any(c.get(key) for key in ("attention_bias", "qkv_bias", "use_qkv_bias"))
            or str(c["model_type"]).startswith("qwen2")
        ),
    )


def _without_indexer(c: Config) -> frozenset[int]:
    """Layers of sparse MLA that take what the indexer before them picked: of GLM-5.2 three of four
    (https://github.com/vllm-project/vllm/blob/v0.33.0/vllm/model_executor/models/deepseek_v2.py)."""
    layers = range(int(c["num_hidden_layers"]))
    if types := c.get("indexer_types"):
        return frozenset(layer for layer in layers if types[layer] == "shared")
    offset, every = int(c.get("index_skip_topk_offset") or 2), int(c.get("index_topk_freq") or 1)
    return frozenset(layer for layer in layers if max(layer - offset + 1, 0) % every)


def _first(c: Config, *keys: str) -> int:
    """The first of these keys that says something; 0 if none does."""
    return next((int(c[key]) for key in keys if c.get(key)), 0)


def _experts(c: Config) -> Experts | None:
    count = _first(c, "n_routed_experts", "num_experts", "num_local_experts", "moe_num_experts")
    if not count:
        # Transformers leaves out what a class has by default.
        if "moe" in c["model_type"] or c["model_type"] == "mixtral":
            raise KeyError("number of experts")
        return None
    size = int(c.get("moe_intermediate_size") or c["intermediate_size"])
    shared = _first(c, "shared_expert_intermediate_size") or size * _first(
        c, "n_shared_experts", "moe_num_shared_experts"
    )
    per_token = _first(c, "num_experts_per_tok", "experts_per_token", "moe_k")
    if not per_token:
        raise KeyError("num_experts_per_tok")
    return Experts(count=count, per_token=per_token, size=size, shared_size=shared, bias=c["model_type"] == "gpt_oss")


def _is_sparse(c: Config, layer: int, layers: int) -> bool:
    if types := c.get("mlp_layer_types"):
        return bool(types[layer] == "sparse")
    frequency = c.get("moe_layer_freq") or 1
    if isinstance(frequency, list):
        return bool(frequency[layer])
    if layer in (c.get("mlp_only_layers") or ()) or layer < _first(c, "first_k_dense_replace", "moe_layer_start_index"):
        return False
    if layer > int(c.get("moe_layer_end_index") or layers):
        return False
    every = _first(c, "decoder_sparse_step", "moe_layer_interval") or 1
    return (layer + 1) % every == 0 and layer % int(frequency) == 0


def _windows(c: Config, layers: int) -> Sequence[int | None]:
    window = c.get("sliding_window")
    is_qwen = str(c["model_type"]).startswith("qwen")
    if not window or not c.get("use_sliding_window", not is_qwen):
        return (None,) * layers
    if types := c.get("layer_types"):
        return tuple(int(window) if kind == "sliding_attention" else None for kind in types[:layers])
    if is_qwen:
        return tuple(None if layer < int(c["max_window_layers"]) else int(window) for layer in range(layers))
    pattern = c.get("sliding_window_pattern")
    if isinstance(pattern, str):
        return tuple(int(window) if pattern[layer % len(pattern)] == "L" else None for layer in range(layers))
    if pattern:
        return tuple(int(window) if (layer + 1) % pattern else None for layer in range(layers))
    return (int(window),) * layers


def _context(c: Config) -> int:
    longest = int(c["max_position_embeddings"])
    rope = c.get("rope_scaling") or c.get("rope_parameters") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind in UNTOUCHED_ROPE or "factor" not in rope:
        return longest
    start = int(rope.get("original_max_position_embeddings", longest)) if kind == "yarn" else longest
    return int(start * rope["factor"])
