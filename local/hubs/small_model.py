"""A small model with random weights and the architecture, files and tensor names of DeepSeek-R1; about 48 MiB.

The local stacks upload it. An engine without GPUs can load it: bfloat16, because CPUs have no kernels for FP8 blocks,
and DeepSeek's own sizes of latent attention, the only ones that MLA kernels take. Names and shapes follow
``DeepseekV3ForCausalLM`` (https://github.com/huggingface/transformers/tree/main/src/transformers/models/deepseek_v3).
"""

import json
import math
import random
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

CONFIGURATION = Path(__file__).with_name("deepseek_tiny")

OTHER_FILES = {
    "configuration_deepseek.py": "# Engines have DeepseekV3Config themselves.\n",
    "modeling_deepseek.py": "# Engines have DeepseekV3ForCausalLM themselves.\n",
    "LICENSE": "The weights are random numbers and free of any right.\n",
    "README.md": "# A small model in the shape of DeepSeek-R1\n\nThe weights are random: its answers make no sense.\n",
    ".gitattributes": "*.bin filter=lfs diff=lfs merge=lfs -text\n*.safetensors filter=lfs diff=lfs merge=lfs -text\n",
    # Of these, as in many repositories, no engine reads any.
    "figures/benchmark.jpg": "no picture\n",
    "pytorch_model.bin": "no weights\n",
}

Shapes = dict[str, tuple[int, ...]]


def make_small_model(folder: Path, *, experts: int = 54, shards: int = 4) -> Path:
    """Creates the model in ``folder``, whole or not at all, unless that exists; returns ``folder``.

    The same arguments give the same bytes.

    :param experts: routed experts, 0.75 MiB each; the rest has about 8 MiB.
    """
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as draft:
            new = Path(draft, folder.name)
            (new / "figures").mkdir(parents=True)
            _write(new, experts, shards)
            new.rename(folder)
    return folder


def _write(folder: Path, experts: int, shards: int) -> None:
    config = json.loads((CONFIGURATION / "config.json").read_bytes()) | {"n_routed_experts": experts}
    shapes = _shapes(config)
    total, done = sum(map(_bytes, shapes.values())), 0
    groups: list[Shapes] = [{} for _ in range(shards)]
    for name, shape in shapes.items():
        groups[done * shards // total][name] = shape
        done += _bytes(shape)
    source = random.Random(0)  # noqa: S311 -- reproducible, not secret
    weight_map: dict[str, str] = {}
    for number, group in enumerate(groups, start=1):
        shard = f"model-{number:05d}-of-{shards:06d}.safetensors"
        (folder / shard).write_bytes(b"".join(_safetensors(group, source)))
        weight_map |= dict.fromkeys(group, shard)
    files = {
        **{path.name: path.read_text(encoding="utf-8") for path in CONFIGURATION.iterdir()},
        **OTHER_FILES,
        "config.json": json.dumps(config, indent=2),
        "tokenizer.json": json.dumps(_tokenizer(), ensure_ascii=False),
        "model.safetensors.index.json": json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}),
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


def _shapes(config: Mapping[str, Any]) -> Shapes:
    hidden, heads, rope = config["hidden_size"], config["num_attention_heads"], config["qk_rope_head_dim"]
    q_lora, kv_lora = config["q_lora_rank"], config["kv_lora_rank"]
    nope, value, experts = config["qk_nope_head_dim"], config["v_head_dim"], config["n_routed_experts"]
    attention = {
        "q_a_proj": (q_lora, hidden),
        "q_a_layernorm": (q_lora,),
        "q_b_proj": (heads * (nope + rope), q_lora),
        "kv_a_proj_with_mqa": (kv_lora + rope, hidden),
        "kv_a_layernorm": (kv_lora,),
        "kv_b_proj": (heads * (nope + value), kv_lora),
        "o_proj": (hidden, heads * value),
    }
    shapes: Shapes = {"model.embed_tokens.weight": (config["vocab_size"], hidden)}
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        shapes |= {f"{prefix}.{place}_layernorm.weight": (hidden,) for place in ("input", "post_attention")}
        shapes |= {f"{prefix}.self_attn.{name}.weight": shape for name, shape in attention.items()}
        if layer < config["first_k_dense_replace"]:
            shapes |= _feed_forward(f"{prefix}.mlp", config["intermediate_size"], hidden)
            continue
        shapes |= {f"{prefix}.mlp.gate.weight": (experts, hidden)}
        shapes |= {f"{prefix}.mlp.gate.e_score_correction_bias": (experts,)}
        for network in ("shared_experts", *(f"experts.{number}" for number in range(experts))):
            shapes |= _feed_forward(f"{prefix}.mlp.{network}", config["moe_intermediate_size"], hidden)
    return shapes | {"model.norm.weight": (hidden,), "lm_head.weight": (config["vocab_size"], hidden)}


def _feed_forward(prefix: str, intermediate: int, hidden: int) -> Shapes:
    inward, outward = (intermediate, hidden), (hidden, intermediate)
    shapes = {"gate_proj": inward, "up_proj": inward, "down_proj": outward}
    return {f"{prefix}.{name}.weight": shape for name, shape in shapes.items()}


def _bytes(shape: tuple[int, ...]) -> int:
    return 2 * math.prod(shape)


SMALL = bytes((code & 0x80) | 0x3C for code in range(256))
"""High bytes of bfloat16 numbers of either sign between about 0.008 and 0.03."""


def _safetensors(shapes: Shapes, source: random.Random) -> Iterator[bytes]:
    """Length of the header, header, data: https://huggingface.co/docs/safetensors."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + _bytes(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": (start, end)}
    text = json.dumps(header).encode()
    yield len(text).to_bytes(8, "little") + text
    for name, shape in shapes.items():
        numbers = bytearray(source.randbytes(_bytes(shape)))
        numbers[1::2] = numbers[1::2].translate(SMALL)
        yield b"\x80\x3f" * math.prod(shape) if name.endswith("norm.weight") else bytes(numbers)  # norms are 1


def _tokenizer() -> dict[str, Any]:
    """Byte-level BPE without merges: one token for each byte."""
    texts = json.loads((CONFIGURATION / "tokenizer_config.json").read_bytes())
    special = [texts[f"{place}_token"] for place in ("bos", "eos", "pad")]
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    # As in GPT-2, bytes that cannot be printed are written as the characters from U+0100 on.
    letters = [chr(byte) for byte in printable] + [chr(0x100 + rank) for rank in range(256 - len(printable))]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    vocabulary = {token: number for number, token in enumerate([*special, *letters])}
    return {
        "version": "1.0",
        "added_tokens": [{"id": vocabulary[token], "content": token, **flags} for token in special],
        "pre_tokenizer": byte_level,
        "decoder": byte_level,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    }
