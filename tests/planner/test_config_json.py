"""A user's config.json gives the shapes of the catalogue, and errors say what is missing."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from deepseek_acs.planner import catalogue, config_json
from deepseek_acs.planner.findings import PlanError
from deepseek_acs.planner.kv_cache import token_bytes
from deepseek_acs.planner.model import CompressedAttention, GroupedQueryAttention, Model
from deepseek_acs.planner.vllm import Engine, Serving
from deepseek_acs.planner.weights import checkpoint_gib, parameters
from tests.planner.specs import spec, warnings, working

# As published, but for keys that do not matter; the catalogue's rows are shorter still.
DEEPSEEK_R1 = {
    "architectures": ["DeepseekV3ForCausalLM"], "attention_bias": False, "first_k_dense_replace": 3,
    "hidden_size": 7168, "intermediate_size": 18432, "kv_lora_rank": 512, "max_position_embeddings": 163840,
    "model_type": "deepseek_v3", "moe_intermediate_size": 2048, "moe_layer_freq": 1, "n_routed_experts": 256,
    "n_shared_experts": 1, "num_attention_heads": 128, "num_experts_per_tok": 8, "num_hidden_layers": 61,
    "num_key_value_heads": 128, "num_nextn_predict_layers": 1, "q_lora_rank": 1536, "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64, "tie_word_embeddings": False, "torch_dtype": "bfloat16", "v_head_dim": 128,
    "quantization_config": {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8",
                            "weight_block_size": [128, 128]},
    "rope_scaling": {"factor": 40, "original_max_position_embeddings": 4096, "type": "yarn"}, "vocab_size": 129280,
}  # fmt: skip
QWEN3_MOE = {
    "decoder_sparse_step": 1, "head_dim": 128, "hidden_size": 4096, "intermediate_size": 12288,
    "max_position_embeddings": 40960, "mlp_only_layers": [], "model_type": "qwen3_moe", "moe_intermediate_size": 1536,
    "num_attention_heads": 64, "num_experts": 128, "num_experts_per_tok": 8, "num_hidden_layers": 94,
    "num_key_value_heads": 4, "rope_scaling": None, "sliding_window": None, "use_sliding_window": False,
    "vocab_size": 151936,
}  # fmt: skip
QWEN2 = {
    "hidden_size": 5120, "intermediate_size": 13824, "max_position_embeddings": 131072, "max_window_layers": 48,
    "model_type": "qwen2", "num_attention_heads": 40, "num_hidden_layers": 48, "num_key_value_heads": 8,
    "sliding_window": 131072, "use_sliding_window": False, "vocab_size": 152064,
}  # fmt: skip
GPT_OSS = {
    "attention_bias": True, "experts_per_token": 4, "head_dim": 64, "hidden_size": 2880, "intermediate_size": 2880,
    "layer_types": ["sliding_attention", "full_attention"] * 12, "max_position_embeddings": 131072,
    "model_type": "gpt_oss", "num_attention_heads": 64, "num_experts_per_tok": 4, "num_hidden_layers": 24,
    "num_key_value_heads": 8, "num_local_experts": 32, "sliding_window": 128, "vocab_size": 201088,
    "quantization_config": {"modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router",
                                                       "model.embed_tokens", "lm_head"], "quant_method": "mxfp4"},
    "rope_scaling": {"factor": 32.0, "original_max_position_embeddings": 4096, "rope_type": "yarn"},
}  # fmt: skip
KIMI_NESTED = {
    "model_type": "kimi_k25",
    "vision_config": {},
    "text_config": {
        **DEEPSEEK_R1, "model_type": "kimi_k2", "first_k_dense_replace": 1, "max_position_embeddings": 262144,
        "n_routed_experts": 384, "num_attention_heads": 64, "vocab_size": 163840, "rope_scaling": {
            "factor": 64.0, "original_max_position_embeddings": 4096, "type": "yarn"},
        "quantization_config": {
            "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "int", "strategy": "group",
                                                      "group_size": 32, "symmetric": True, "dynamic": False}}},
            "format": "pack-quantized", "quant_method": "compressed-tensors",
            "ignore": ["lm_head", "re:.*self_attn.*", "re:.*shared_experts.*",
                       "re:.*mlp\\.(gate|up|gate_up|down)_proj.*"]},
    },
}  # fmt: skip

SAME = ("hidden", "heads", "attention", "intermediate", "experts", "sparse", "windows", "vocabulary", "context",
        "tied_embeddings", "quantisation", "rotary_dim")  # fmt: skip


def parsed(config: dict[str, Any]) -> Model:
    return config_json.parse(config, name="mine", source="config.json")


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (DEEPSEEK_R1, "deepseek-ai/DeepSeek-R1"),
        (QWEN3_MOE, "Qwen/Qwen3-235B-A22B"),
        (QWEN2, "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B"),
        (GPT_OSS, "openai/gpt-oss-20b"),
        (KIMI_NESTED, "moonshotai/Kimi-K2-Thinking"),
    ],
)
def test_a_whole_config_is_the_catalogues_row(config: dict[str, Any], name: str) -> None:
    own, row = parsed(config), catalogue.model(name)
    for attribute in SAME:
        assert getattr(own, attribute) == getattr(row, attribute), attribute


@pytest.mark.parametrize(
    ("name", "billion", "kv_bytes"),
    [
        ("deepseek-ai/DeepSeek-R1", 671.03, 70_272),
        ("deepseek-ai/DeepSeek-V3.2", 671.9, 78_324),
        ("deepseek-ai/DeepSeek-V4-Flash", 284.3, 3_956),
        ("deepseek-ai/DeepSeek-V4-Pro", 1573, 5_612),
        ("moonshotai/Kimi-K2-Instruct", 1026.4, 70_272),
        ("Qwen/Qwen3-235B-A22B", 235.09, 192_512),
        ("Qwen/Qwen3-Coder-480B-A35B-Instruct", 480.15, 253_952),
        ("Qwen/Qwen3-32B", 32.76, 262_144),
        ("Qwen/Qwen3-0.6B", 0.596, 114_688),
        ("meta-llama/Llama-3.3-70B-Instruct", 70.55, 327_680),
        ("meta-llama/Llama-3.1-405B", 405.85, 516_096),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-14B", 14.77, 196_608),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", 7.62, 57_344),
        ("deepseek-ai/DeepSeek-V2-Lite", 15.7, 31_104),
        ("zai-org/GLM-4.5", 352.8, 376_832),
        ("openai/gpt-oss-120b", 116.8, 73_728),
        ("MiniMaxAI/MiniMax-M2.5", 229, 253_952),
        ("mistralai/Mixtral-8x22B-v0.1", 140.6, 229_376),
    ],
)
def test_shapes_add_up_to_the_published_parameters(name: str, billion: float, kv_bytes: int) -> None:
    model = catalogue.model(name)
    assert model is not None
    assert parameters(model) / 1e9 == pytest.approx(billion, rel=0.002)
    serving = Serving(max_model_len=4096)
    assert token_bytes(model, Engine(), serving, tensor=1, layers=model.layers) == kv_bytes


@pytest.mark.parametrize(
    "name",
    [
        "deepseek-ai/DeepSeek-R1-Distill-Llama-70B",
        "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B",
        "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B",
    ],
)
def test_shapes_add_up_to_the_published_size(name: str) -> None:
    model = catalogue.model(name)
    assert model is not None
    from_shapes = checkpoint_gib(dataclasses.replace(model, weights_gib=None))
    assert from_shapes == pytest.approx(model.weights_gib, rel=0.001)


@pytest.mark.parametrize("name", catalogue.model_names())
def test_every_row_is_whole(name: str) -> None:
    model = catalogue.model(name)
    assert model is not None
    assert model.unpredicted is None
    assert model.source.startswith("https://")
    kinds = (GroupedQueryAttention, CompressedAttention)
    assert isinstance(model.attention, kinds) or model.attention.cached == 576
    assert checkpoint_gib(model) > 1


def test_the_catalogue_is_large_enough() -> None:
    assert len(catalogue.model_names()) >= 20
    for series in catalogue.gpu_series().values():
        assert list(series.gpus_per_pod) == sorted(series.gpus_per_pod)
        assert set(series.pods) <= set(series.gpus_per_pod)
        assert set(series.rdma_gpus_per_pod) <= set(series.gpus_per_pod)
        assert series.gpu is None or series.gpu in catalogue.gpus()
    for gpu in catalogue.gpus().values():
        assert gpu.source.startswith("https://")


def test_the_index_beside_it_gives_the_size(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(QWEN2), encoding="utf-8")
    index = {"metadata": {"total_size": 30 * 2**30}, "weight_map": {}}
    assert checkpoint_gib(config_json.read(path, name="mine")) == pytest.approx(27.51, rel=0.001)
    path.with_name("model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    assert checkpoint_gib(config_json.read(path, name="mine")) == 30
    plan = working(
        spec(model="mine", series="GU8TF", config_file=str(path), image="vllm:v0.33.0", create_namespace=True)
    )
    assert plan.memory is not None
    assert plan.model.weights_gib == 30
    assert warnings(plan) == []


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[]", "config.json is not a JSON object"),
        ("{", "config.json or the index beside it is not what Hugging Face publishes"),
        ("{}", "config.json has no num_hidden_layers"),
        (json.dumps({**QWEN2, "num_attention_heads": "many"}), "config.json has values of unexpected types"),
        (json.dumps({**QWEN2, "quantization_config": {"quant_method": "new"}}), "config.json has values of unexpected"),
    ],
)
def test_what_is_wrong_with_a_config(text: str, error: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PlanError) as caught:
        working(spec(model="mine", series="GU8TF", config_file=str(path), image="vllm:v0.33.0"))
    (finding,) = caught.value.findings
    assert finding.path == "deployment.model.configFile"
    assert finding.problem.startswith(f"{tmp_path}/{error}")


def test_deepseek_v4_is_read_but_not_its_successor() -> None:
    """V4.1 has other ratios, blocks and shared entries; its config.json also has another model_type."""
    v4 = {
        "model_type": "deepseek_v4", "num_hidden_layers": 4, "hidden_size": 4096, "num_attention_heads": 64,
        "num_key_value_heads": 1, "head_dim": 512, "q_lora_rank": 1024, "qk_rope_head_dim": 64, "o_groups": 8,
        "o_lora_rank": 1024, "index_n_heads": 64, "index_head_dim": 128, "sliding_window": 128, "hc_mult": 4,
        "compress_ratios": [0, 4, 128, 4, 0], "num_hash_layers": 3, "n_routed_experts": 256, "expert_dtype": "fp4",
        "num_experts_per_tok": 6, "moe_intermediate_size": 2048, "n_shared_experts": 1, "vocab_size": 129280,
        "max_position_embeddings": 1048576,
        "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
    }  # fmt: skip
    model = parsed(v4)
    assert isinstance(model.attention, CompressedAttention)
    assert model.attention.ratios == (0, 4, 128, 4)
    assert model.unpredicted is None
    assert model.representatives == [0, 1, 2, 3]
    assert model.quantisation is not None
    assert (model.quantisation.bits, model.quantisation.experts and model.quantisation.experts.bits) == (8, 4)
    for change in ({"model_type": "deepseek_v41"}, {"compress_ratios": [2, 2, 1, 1]}):
        assert parsed({**v4, **change}).unpredicted == "compressed attention, which is not modelled"
    for ratios in ([4], None):
        with pytest.raises(config_json.ConfigError, match="unexpected types"):
            parsed({**v4, "compress_ratios": ratios})
    with pytest.raises(config_json.ConfigError, match="has no compress_ratios"):
        parsed({key: value for key, value in v4.items() if key != "compress_ratios"})
    for unknown in ([0, 0, 0, 0], [0, 0, 0, 0, 4], [0, 128, 128, 0]):
        assert parsed({**v4, "compress_ratios": unknown}).unpredicted is not None
    whole = parsed({**v4, "expert_dtype": "fp8"})
    assert whole.quantisation is not None
    assert whole.quantisation.experts is None


@pytest.mark.parametrize(
    ("key", "what"), [("compress_ratios", "compressed attention"), ("linear_num_key_heads", "linear attention")]
)
def test_attention_that_is_not_modelled_is_said_to_be(key: str, what: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**QWEN2, key: [4]}), encoding="utf-8")
    plan = working(spec(model="mine", series="GU8TF", config_file=str(path), image="vllm:v0.33.0"))
    assert plan.memory is None
    assert warnings(plan)[0].startswith(
        f"deployment.model.name: the memory of mine is bounded, not predicted: it has {what}"
    )
