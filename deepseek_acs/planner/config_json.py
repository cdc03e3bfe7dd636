"""From a model's ``config.json`` to its shapes: the keys that Hugging Face's transformers and vLLM read."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from deepseek_acs.planner.model import (
    INDEXED_RATIO,
    CompressedAttention,
    Experts,
    GroupedQueryAttention,
    Model,
    MultiHeadLatentAttention,
    Quantisation,
)

Config = Mapping[str, Any]

NOT_MODELLED = {
    "compress_ratios": "compressed attention",
    "linear_num_key_heads": "linear attention",
    "linear_attn_config": "linear attention",
    "mamba_num_heads": "Mamba layers",
    "hybrid_override_pattern": "Mamba layers",
    "attn_type_list": "linear attention",
    "block_configs": "layers of different shapes",
    "interleave_moe_layer_step": "interleaved experts",
    "global_head_dim": "heads of different sizes",
    "num_kv_shared_layers": "layers that share a cache",
}
"""Keys of a config.json whose presence means that the arithmetic of this package would be wrong."""

COMPRESSION_RATIOS = {0, 4, 128}
"""Tokens per cached entry that vLLM's compressor knows for DeepSeek-V4
(https://github.com/vllm-project/vllm/blob/v0.33.0/vllm/models/deepseek_v4/compressor.py)."""

UNTOUCHED_ROPE = ("llama3", "longrope", "su", "default", "proportional")
"""Rope scalings that leave ``max_position_embeddings`` as it is
(https://github.com/vllm-project/vllm/blob/v0.33.0/vllm/config/model.py)."""


class ConfigError(Exception):
    """The file cannot be read as a model's config.json; the text says what is missing."""


def read(path: Path, *, name: str) -> Model:
    """The model whose ``config.json`` is at ``path``; the size of its files comes from an index beside it, if any."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        index = path.with_name("model.safetensors.index.json")
        total = json.loads(index.read_text(encoding="utf-8"))["metadata"]["total_size"] if index.exists() else None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{path} or the index beside it is not what Hugging Face publishes") from None
    return parse(config, name=name, source=str(path), weights_gib=total / 2**30 if total else None)


def parse(config: Config, *, name: str, source: str, weights_gib: float | None = None) -> Model:
    """The model that ``config`` describes; raises ConfigError if a key is missing or has another type than usual."""
    if not isinstance(config, dict):
        raise ConfigError(f"{source} is not a JSON object")
    # Models with a vision tower nest the language model; its quantisation is on either level.
    text = config.get("text_config", config)
    try:
        return _model({"quantization_config": config.get("quantization_config"), **text}, name, source, weights_gib)
    except KeyError as error:
        raise ConfigError(f"{source} has no {error.args[0]}") from None
    except (TypeError, ValueError, AttributeError, IndexError, ZeroDivisionError):
        raise ConfigError(f"{source} has values of unexpected types") from None


def _compresses_as_known(c: Config) -> bool:
    """The sizes of blocks are modelled for what there is: some layers with an indexer, none of another ratio. The list
    also has the layers for multi-token prediction, which do not count."""
    return {INDEXED_RATIO} <= set(c["compress_ratios"][: int(c["num_hidden_layers"])]) <= COMPRESSION_RATIOS


def _model(c: Config, name: str, source: str, weights_gib: float | None) -> Model:
    layers, hidden, heads = int(c["num_hidden_layers"]), int(c["hidden_size"]), int(c["num_attention_heads"])
    attention = _attention(c, hidden, heads)
    rotary = attention.head_dim if isinstance(attention, GroupedQueryAttention) else attention.rope_dim
    experts = _experts(c)
    modelled = {"compress_ratios"} if isinstance(attention, CompressedAttention) else set()
    unpredicted = [what for key, what in NOT_MODELLED.items() if c.get(key) and key not in modelled]
    return Model(
        name=name,
        source=source,
        family=str(c.get("model_type", "")),
        hidden=hidden,
        heads=heads,
        attention=attention,
        intermediate=int(c.get("intermediate_size") or 0),
        experts=experts,
        sparse=tuple(experts is not None and _is_sparse(c, layer) for layer in range(layers)),
        windows=(None,) * layers if isinstance(attention, CompressedAttention) else _windows(c, layers),
        vocabulary=int(c["vocab_size"]),
        tied_embeddings=bool(c.get("tie_word_embeddings")),
        context=_context(c),
        rotary_dim=rotary,
        quantisation=_quantisation_of(c),
        weights_gib=weights_gib,
        unpredicted=f"{unpredicted[0]}, which is not modelled" if unpredicted else None,
    )


def _attention(
    c: Config, hidden: int, heads: int
) -> MultiHeadLatentAttention | GroupedQueryAttention | CompressedAttention:
    if c.get("model_type") == "deepseek_v4" and _compresses_as_known(c):
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
        )
    return GroupedQueryAttention(
        kv_heads=int(c.get("num_key_value_heads") or heads),
        head_dim=int(c.get("head_dim") or hidden // heads),
        bias=bool(c.get("attention_bias") or c.get("qkv_bias") or c.get("model_type") == "qwen2"),
    )


def _experts(c: Config) -> Experts | None:
    count = next((c[k] for k in ("n_routed_experts", "num_experts", "num_local_experts") if c.get(k)), None)
    if not count:
        return None
    size = int(c.get("moe_intermediate_size") or c["intermediate_size"])
    shared = c.get("shared_expert_intermediate_size") or size * (c.get("n_shared_experts") or 0)
    per_token = int(c.get("num_experts_per_tok") or c["experts_per_token"])
    bias = c.get("model_type") == "gpt_oss"
    return Experts(count=int(count), per_token=per_token, size=size, shared_size=int(shared), bias=bias)


def _is_sparse(c: Config, layer: int) -> bool:
    if types := c.get("mlp_layer_types"):
        return bool(types[layer] == "sparse")
    if layer in (c.get("mlp_only_layers") or ()) or layer < int(c.get("first_k_dense_replace") or 0):
        return False
    return (layer + 1) % int(c.get("decoder_sparse_step") or 1) == 0 and layer % int(c.get("moe_layer_freq") or 1) == 0


def _windows(c: Config, layers: int) -> Sequence[int | None]:
    window = c.get("sliding_window")
    if not window or c.get("use_sliding_window") is False:
        return (None,) * layers
    if types := c.get("layer_types"):
        return tuple(int(window) if kind == "sliding_attention" else None for kind in types[:layers])
    if pattern := c.get("sliding_window_pattern"):
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


def _quantisation_of(c: Config) -> Quantisation | None:
    found = _quantisation(c.get("quantization_config"))
    # DeepSeek-V4 says it beside the quantisation, which is that of all other layers.
    if found is not None and c.get("expert_dtype") == "fp4":
        return replace(found, experts=_quantisation({"quant_method": "mxfp4"}))
    return found


def _quantisation(q: Config | None) -> Quantisation | None:
    if not q:
        return None
    method = str(q.get("quant_method", q.get("quant_algo", ""))).lower()
    ignore = tuple(q.get("ignore") or q.get("modules_to_not_convert") or q.get("exclude_modules") or ())
    match method:
        case "fp8":
            rows, columns = q.get("weight_block_size") or (0, 0)
            return Quantisation(method="fp8", bits=8, rows=rows, columns=columns, scale_bytes=4, ignore=ignore)
        case "awq" | "gptq":
            return Quantisation(
                method=method,
                bits=q["bits"],
                rows=1,
                columns=max(0, q.get("group_size", 0)),
                scale_bytes=2,
                zero_point=bool(q.get("zero_point", method == "gptq")),
                ignore=ignore,
            )
        case "mxfp4":
            return Quantisation(
                method="mxfp4", bits=4, rows=1, columns=32, scale_bytes=1, experts_only=True, ignore=ignore
            )
        case "compressed-tensors":
            return _compressed_tensors(q, ignore)
        case "modelopt" | "modelopt_fp4" | "nvfp4":
            four = method == "nvfp4" or "FP4" in str(q.get("quant_algo", "NVFP4")).upper()
            return Quantisation(
                method="nvfp4" if four else "modelopt",
                bits=4 if four else 8,
                rows=1 if four else 0,
                columns=16 if four else 0,
                scale_bytes=1 if four else 4,
                ignore=ignore,
            )
        case _:
            raise ValueError


def _compressed_tensors(q: Config, ignore: tuple[str, ...]) -> Quantisation:
    weights = next(iter(q["config_groups"].values()))["weights"]
    strategy = weights["strategy"]
    rows, columns = {
        "tensor": (0, 0),
        "channel": (1, 0),
        "group": (1, weights.get("group_size")),
        "tensor_group": (1, weights.get("group_size")),
        "block": weights.get("block_structure") or (128, 128),
    }[strategy]
    bits = weights["num_bits"]
    return Quantisation(
        method="fp8" if strategy == "block" else "compressed-tensors",
        bits=bits,
        rows=rows,
        columns=columns,
        scale_bytes={"tensor_group": 1, "block": 4}.get(strategy, 2 if bits == 4 else 4),
        zero_point=weights.get("symmetric") is False,
        ignore=ignore,
    )
