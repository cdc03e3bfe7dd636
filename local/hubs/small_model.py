"""A small random model that has the shape of DeepSeek-R1: the same files, tensor names, data types and quantisation.

It is what the local stack moves and what tests download. Nothing can be computed with it. Names and shapes follow
``DeepseekV3ForCausalLM`` (https://github.com/huggingface/transformers/tree/main/src/transformers/models/deepseek_v3),
the layer of multi-token prediction included.
"""

import ctypes
import json
import math
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from safetensors import TensorSpec, serialize_file

HIDDEN, INTERMEDIATE, EXPERT_INTERMEDIATE = 512, 512, 256
HEADS, Q_LORA, KV_LORA, NOPE, ROPE, VALUE = 4, 256, 128, 128, 64, 128
LAYERS, DENSE_LAYERS, PREDICTION_LAYERS = 3, 1, 1
VOCABULARY = 512
BLOCK = 128
"""Side of the square of weights that share one scale."""

SIZES = {"float8_e4m3fn": 1, "bfloat16": 2, "float32": 4}
"""Bytes of one element."""

SPECIAL_TOKENS = ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>")


def make_small_model(folder: Path, *, size: int = 48 * 2**20, shards: int = 4, seed: int = 0) -> Path:
    """Makes the model in ``folder`` unless that exists already, and gives back ``folder``.

    The same arguments give the same bytes. ``folder`` appears at once and whole, also when two callers meet.

    :param size: bytes of all tensors, met by the number of experts to about 1 MiB; at least about 10 MiB come out.
    """
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        draft.chmod(0o755)
        _write(draft, _experts_for(size), shards, random.Random(seed))  # noqa: S311 -- reproducible, not secret
        draft.rename(folder)
    except OSError:
        if not folder.exists():
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


@dataclass(frozen=True)
class _Tensor:
    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape) * SIZES[self.dtype]


def _experts_for(size: int) -> int:
    least, more = (sum(tensor.size for tensor in _tensors(experts)) for experts in (2, 3))
    return max(2, 2 + round((size - least) / (more - least)))


def _tensors(experts: int) -> Iterator[_Tensor]:
    yield _Tensor("model.embed_tokens.weight", "bfloat16", (VOCABULARY, HIDDEN))
    for layer in range(LAYERS + PREDICTION_LAYERS):
        prefix = f"model.layers.{layer}"
        if layer >= LAYERS:
            yield _Tensor(f"{prefix}.embed_tokens.weight", "bfloat16", (VOCABULARY, HIDDEN))
            yield _Tensor(f"{prefix}.enorm.weight", "bfloat16", (HIDDEN,))
            yield _Tensor(f"{prefix}.hnorm.weight", "bfloat16", (HIDDEN,))
            yield _Tensor(f"{prefix}.eh_proj.weight", "bfloat16", (HIDDEN, 2 * HIDDEN))
        yield _Tensor(f"{prefix}.input_layernorm.weight", "bfloat16", (HIDDEN,))
        yield from _attention(f"{prefix}.self_attn")
        yield _Tensor(f"{prefix}.post_attention_layernorm.weight", "bfloat16", (HIDDEN,))
        if layer < DENSE_LAYERS:
            yield from _feed_forward(f"{prefix}.mlp", INTERMEDIATE)
        else:
            yield from _mixture_of_experts(f"{prefix}.mlp", experts)
        if layer >= LAYERS:
            yield _Tensor(f"{prefix}.shared_head.norm.weight", "bfloat16", (HIDDEN,))
            yield _Tensor(f"{prefix}.shared_head.head.weight", "bfloat16", (VOCABULARY, HIDDEN))
    yield _Tensor("model.norm.weight", "bfloat16", (HIDDEN,))
    yield _Tensor("lm_head.weight", "bfloat16", (VOCABULARY, HIDDEN))


def _attention(prefix: str) -> Iterator[_Tensor]:
    """Multi-head latent attention."""
    yield from _quantised(f"{prefix}.q_a_proj", Q_LORA, HIDDEN)
    yield _Tensor(f"{prefix}.q_a_layernorm.weight", "bfloat16", (Q_LORA,))
    yield from _quantised(f"{prefix}.q_b_proj", HEADS * (NOPE + ROPE), Q_LORA)
    yield from _quantised(f"{prefix}.kv_a_proj_with_mqa", KV_LORA + ROPE, HIDDEN)
    yield _Tensor(f"{prefix}.kv_a_layernorm.weight", "bfloat16", (KV_LORA,))
    yield from _quantised(f"{prefix}.kv_b_proj", HEADS * (NOPE + VALUE), KV_LORA)
    yield from _quantised(f"{prefix}.o_proj", HIDDEN, HEADS * VALUE)


def _mixture_of_experts(prefix: str, experts: int) -> Iterator[_Tensor]:
    yield _Tensor(f"{prefix}.gate.weight", "bfloat16", (experts, HIDDEN))
    yield _Tensor(f"{prefix}.gate.e_score_correction_bias", "float32", (experts,))
    for expert in range(experts):
        yield from _feed_forward(f"{prefix}.experts.{expert}", EXPERT_INTERMEDIATE)
    yield from _feed_forward(f"{prefix}.shared_experts", EXPERT_INTERMEDIATE)


def _feed_forward(prefix: str, intermediate: int) -> Iterator[_Tensor]:
    yield from _quantised(f"{prefix}.gate_proj", intermediate, HIDDEN)
    yield from _quantised(f"{prefix}.up_proj", intermediate, HIDDEN)
    yield from _quantised(f"{prefix}.down_proj", HIDDEN, intermediate)


def _quantised(prefix: str, rows: int, columns: int) -> Iterator[_Tensor]:
    yield _Tensor(f"{prefix}.weight", "float8_e4m3fn", (rows, columns))
    yield _Tensor(f"{prefix}.weight_scale_inv", "float32", (math.ceil(rows / BLOCK), math.ceil(columns / BLOCK)))


def _write(folder: Path, experts: int, shards: int, source: random.Random) -> None:
    tensors = list(_tensors(experts))
    total = sum(tensor.size for tensor in tensors)
    groups: list[list[_Tensor]] = [[] for _ in range(shards)]
    done = 0
    for tensor in tensors:
        groups[done * shards // total].append(tensor)
        done += tensor.size
    weight_map: dict[str, str] = {}
    for number, group in enumerate(groups, start=1):
        name = f"model-{number:05d}-of-{shards:06d}.safetensors"
        _write_shard(folder / name, group, source)
        weight_map |= {tensor.name: name for tensor in group}
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    texts = {
        "model.safetensors.index.json": _json(index),
        "config.json": _json(_config(experts)),
        "generation_config.json": _json(GENERATION_CONFIG),
        "tokenizer.json": _json(_tokenizer()),
        "tokenizer_config.json": _json(TOKENIZER_CONFIG),
        "configuration_deepseek.py": CONFIGURATION,
        "modeling_deepseek.py": MODELING,
        "LICENSE": LICENSE,
        "README.md": README,
        ".gitattributes": "".join(f"*.{kind} filter=lfs diff=lfs merge=lfs -text\n" for kind in ("bin", "safetensors")),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "figures").mkdir()
    (folder / "figures" / "benchmark.jpg").write_bytes(_grey_jpeg())
    # Some repositories offer the weights in two formats; a filter has to leave this one out.
    (folder / "pytorch_model.bin").write_bytes(source.randbytes(64 * 1024))


def _write_shard(file: Path, tensors: list[_Tensor], source: random.Random) -> None:
    data = bytearray().join(_values(tensor, source) for tensor in tensors)
    # The package takes addresses: `data` has to live until the file is written.
    address = ctypes.addressof(ctypes.c_char.from_buffer(data))
    specifications = {}
    for tensor in tensors:
        specifications[tensor.name] = TensorSpec(
            dtype=tensor.dtype, shape=list(tensor.shape), data_ptr=address, data_len=tensor.size
        )
        address += tensor.size
    serialize_file(specifications, os.fspath(file), {"format": "pt"})


_NUMBERS = bytes(code if code & 0x7F != 0x7F else code ^ 0x40 for code in range(256))
"""Codes of float8_e4m3fn, but for its two NaN."""

_SMALL = bytes((code & 0x80) | 0x3C for code in range(256))
"""High bytes of floating-point numbers of either sign between about 0.008 and 0.03."""


def _values(tensor: _Tensor, source: random.Random) -> bytes:
    data = source.randbytes(tensor.size)
    width = SIZES[tensor.dtype]
    if width == 1:
        return data.translate(_NUMBERS)
    numbers = bytearray(data)
    numbers[width - 1 :: width] = numbers[width - 1 :: width].translate(_SMALL)
    return bytes(numbers)


def _config(experts: int) -> dict[str, object]:
    return {
        "architectures": ["DeepseekV3ForCausalLM"],
        "auto_map": {
            "AutoConfig": "configuration_deepseek.DeepseekV3Config",
            "AutoModelForCausalLM": "modeling_deepseek.DeepseekV3ForCausalLM",
        },
        "bos_token_id": 0,
        "eos_token_id": 1,
        "first_k_dense_replace": DENSE_LAYERS,
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "kv_lora_rank": KV_LORA,
        "max_position_embeddings": 4096,
        "model_type": "deepseek_v3",
        "moe_intermediate_size": EXPERT_INTERMEDIATE,
        "moe_layer_freq": 1,
        "n_group": 1,
        "n_routed_experts": experts,
        "n_shared_experts": 1,
        "norm_topk_prob": True,
        "num_attention_heads": HEADS,
        "num_experts_per_tok": 2,
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": HEADS,
        "num_nextn_predict_layers": PREDICTION_LAYERS,
        "q_lora_rank": Q_LORA,
        "qk_nope_head_dim": NOPE,
        "qk_rope_head_dim": ROPE,
        "quantization_config": {
            "activation_scheme": "dynamic",
            "fmt": "e4m3",
            "quant_method": "fp8",
            "weight_block_size": [BLOCK, BLOCK],
        },
        "rms_norm_eps": 1e-06,
        "rope_theta": 10000,
        "routed_scaling_factor": 2.5,
        "scoring_func": "sigmoid",
        "tie_word_embeddings": False,
        "topk_group": 1,
        "topk_method": "noaux_tc",
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "v_head_dim": VALUE,
        "vocab_size": VOCABULARY,
    }


def _tokenizer() -> dict[str, object]:
    """Byte-level BPE without merges: one token for each byte."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    # As GPT-2 does: bytes that cannot be printed are written as the characters from U+0100 on.
    letters = [chr(byte) for byte in printable] + [chr(0x100 + rank) for rank in range(256 - len(printable))]
    special = {token: number for number, token in enumerate(SPECIAL_TOKENS)}
    vocabulary = special | {letter: len(special) + number for number, letter in enumerate(letters)}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": number, "content": token, **flags} for token, number in special.items()],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    }


GENERATION_CONFIG = {
    "_from_model_config": True,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "do_sample": True,
    "temperature": 0.6,
    "top_p": 0.95,
}

TOKENIZER_CONFIG = {
    "add_bos_token": True,
    "add_eos_token": False,
    "bos_token": SPECIAL_TOKENS[0],
    "eos_token": SPECIAL_TOKENS[1],
    "pad_token": SPECIAL_TOKENS[2],
    "model_max_length": 4096,
    "tokenizer_class": "LlamaTokenizerFast",
}

CONFIGURATION = '''"""Stub: a small random model has no configuration class of its own."""

from transformers import DeepseekV3Config  # noqa: F401
'''

MODELING = '''"""Stub: a small random model has no code of its own."""

from transformers import DeepseekV3ForCausalLM  # noqa: F401
'''

LICENSE = "The weights are random numbers and free of any right.\n"

README = """---
license: cc0-1.0
library_name: transformers
---

# A small model in the shape of DeepSeek-R1

Random weights, for moving about. It answers nothing sensible.
"""


def _grey_jpeg() -> bytes:
    """A picture of 8 × 8 grey pixels: one block without any coefficient."""
    one_code = bytes([1, *[0] * 15, 0])
    return b"".join(
        (
            b"\xff\xd8",
            b"\xff\xdb\x00\x43\x00" + b"\x01" * 64,
            b"\xff\xc0\x00\x0b\x08\x00\x08\x00\x08\x01\x01\x11\x00",
            b"\xff\xc4\x00\x14\x00" + one_code,
            b"\xff\xc4\x00\x14\x10" + one_code,
            b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00\x3f",
            b"\xff\xd9",
        )
    )


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
