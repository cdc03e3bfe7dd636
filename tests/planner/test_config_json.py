"""A user's config.json gives the shapes of the catalogue, and errors say what is missing."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from deepseek_acs.planner import catalogue, config_json
from deepseek_acs.planner.findings import PlanError
from deepseek_acs.planner.kv_cache import token_bytes
from deepseek_acs.planner.model import CompressedAttention, GroupedQueryAttention, Model, Unpredicted
from deepseek_acs.planner.vllm import Engine, Serving
from deepseek_acs.planner.weights import checkpoint_gib, parameters, shapes_gib
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
    found = config_json.parse(config, name="mine", source="config.json")
    assert isinstance(found, Model)
    return found


def read(path: Path) -> Model:
    found = config_json.read(path, name="mine")
    assert isinstance(found, Model)
    return found


def why_not(config: dict[str, Any]) -> str:
    """Why the model is not predicted."""
    found = config_json.parse(config, name="mine", source="config.json")
    assert isinstance(found, Unpredicted)
    return found.why


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
    assert token_bytes(model, Engine(), serving, tensor=1, layers=range(model.layers)) == kv_bytes


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


def test_the_index_next_to_it_gives_the_size(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(QWEN2), encoding="utf-8")
    index = {"metadata": {"total_size": 30 * 2**30}, "weight_map": {}}
    assert checkpoint_gib(read(path)) == pytest.approx(27.51, rel=0.001)
    path.with_name("model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    assert checkpoint_gib(read(path)) == 30
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
        ("{", "config.json or a file next to it is not in the form that Hugging Face publishes"),
        ("{}", "config.json has neither model_type nor architectures"),
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
    assert finding.fix == (
        "set the path of the config.json that was downloaded with the model's weights, or remove it and set "
        "deployment.model.weightsGiB to the size of its safetensors files in GiB"
    )


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
    assert len({model.kind(layer) for layer in range(4)}) == 4
    assert model.quantisation is not None
    assert (model.quantisation.bits, model.quantisation.experts and model.quantisation.experts.bits) == (8, 4)
    for change in ({"model_type": "deepseek_v41"}, {"compress_ratios": [2, 2, 1, 1]}):
        assert why_not({**v4, **change}) == "compressed attention"
    for ratios in ([4], None):
        assert why_not({**v4, "compress_ratios": ratios}) == "values of unexpected types in its config.json"
    without = {key: value for key, value in v4.items() if key != "compress_ratios"}
    assert why_not(without) == "no compress_ratios in its config.json"
    for unknown in ([0, 0, 0, 0], [0, 0, 0, 0, 4], [0, 128, 128, 0]):
        assert why_not({**v4, "compress_ratios": unknown}) == "compressed attention"
    whole = parsed({**v4, "expert_dtype": "fp8"})
    assert whole.quantisation is not None
    assert whole.quantisation.experts is None


@pytest.mark.parametrize(
    ("key", "what"), [("compress_ratios", "compressed attention"), ("linear_num_key_heads", "linear attention")]
)
def test_attention_that_is_not_modelled_is_said_to_be(key: str, what: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**QWEN2, key: [4]}), encoding="utf-8")
    plan = working(spec(model="mine", series="GU8TF", config_file=str(path), image="vllm:v0.33.0", weights_gib=28))
    assert plan.memory is None
    assert warnings(plan)[0].startswith(
        f"deployment.model.name: the memory of mine is bounded, not predicted: it has {what}"
    )


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"num_attention_heads": "many"}, "values of unexpected types in its config.json"),
        ({"model_type": "qwen9"}, "a model_type that is not known here (qwen9)"),
        ({"shared_kv_layers": 12}, "keys in its config.json that are not known here (shared_kv_layers)"),
        ({"moe_topk": 8, "n_engrams": 4, "expert_ffn_hidden_size": 64},
         "keys in its config.json that are not known here (moe_topk, expert_ffn_hidden_size)"),
        ({"layer_types": ["full_attention", "conv"] * 24}, "layers of type conv"),
        ({"quantization_config": {"quant_method": "new"}}, "weights in a format that is not known here (new)"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4, "dynamic": {"-:x": {}}}},
         "GPTQ weights whose format differs by layer"),
        ({"quantization_config": {"quant_method": "fp8", "ignore": ["re:("]}},
         "values of unexpected types in its config.json"),
        ({"quantization_config": {"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_quant_algo": "NVFP4"}},
         "a cache in NVFP4"),
    ],
)  # fmt: skip
def test_what_is_not_certain_is_not_predicted(changes: dict[str, Any], why: str, tmp_path: Path) -> None:
    assert why_not({**QWEN2, **changes}) == why
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**QWEN2, **changes}), encoding="utf-8")
    with pytest.raises(PlanError) as caught:
        working(spec(model="mine", series="GU8TF", config_file=str(path), image="vllm:v0.33.0"))
    (finding,) = caught.value.findings
    assert finding.path == "deployment.model.weightsGiB"
    assert finding.problem == (
        f"the size of mine is not known: it has {why}, so that it does not follow from its config.json"
    )
    assert finding.fix == (
        "set deployment.model.weightsGiB to the size of its safetensors files in GiB, or put its "
        "model.safetensors.index.json next to its config.json"
    )


def test_keys_that_say_nothing_of_memory_are_no_hindrance() -> None:
    more = {"my_note": 7, "moe_loss_coef": 0.1, "image_token_index": 5, "sparse_ratio": None, "attn_impl": "flash",
            "use_mla_kernel": False, "hidden_act": "silu", "layer_norm_epsilon": 1e-5}  # fmt: skip
    assert parsed({**QWEN2, **more}).layers == 48


@pytest.mark.parametrize(("given", "agrees"), [(27.5, True), (30.0, True), (24.0, False), (31.0, False)])
def test_a_size_that_is_not_that_of_the_shapes_stops_the_plan(given: float, agrees: bool, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(QWEN2), encoding="utf-8")
    case = {"model": "mine", "series": "GU8TF", "config_file": str(path), "image": "vllm:v0.33.0"}
    if agrees:
        assert working(spec(**case, weights_gib=given)).model.weights_gib == given
        return
    with pytest.raises(PlanError) as caught:
        working(spec(**case, weights_gib=given))
    (finding,) = caught.value.findings
    assert finding.path == "deployment.model.weightsGiB"
    assert finding.problem == (
        f"{given:.1f} GiB are not the 27.5 GiB that follow from the shapes of mine: either one of the two belongs to "
        "another model, or its config.json has a property that the plan does not support"
    )
    assert finding.fix == (
        "correct it; if it is right, put the model's hf_quant_config.json next to the file if it has one, or else "
        "remove deployment.model.configFile and set deployment.model.weightsGiB to the size of its safetensors files "
        "in GiB: memory is then bounded, not predicted"
    )
    index = {"metadata": {"total_size": given * 2**30}, "weight_map": {}}
    path.with_name("model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(PlanError, match=rf"the index next to deployment.model.configFile says {given:.1f} GiB, which"):
        working(spec(**case))


def test_a_checkpoint_in_32_bits_is_twice_as_large_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**QWEN2, "torch_dtype": "float32"}), encoding="utf-8")
    case = {"model": "mine", "series": "GU8TF", "config_file": str(path), "image": "vllm:v0.33.0"}
    assert working(spec(**case, weights_gib=55)).memory is not None


def test_a_long_list_of_ignored_modules_is_one_look_up() -> None:
    names = [f"model.layers.{layer}.mlp.gate_proj" for layer in range(40)]
    patterns = [f"model.layers.{layer}.self_attn*" for layer in range(3)] + ["re:.*layers[.]5[.].*"]
    quantised = {"quant_method": "modelopt", "quant_algo": "FP8", "ignore": ["lm_head", *names, *patterns]}
    found = parsed({**QWEN2, "quantization_config": quantised}).quantisation
    assert found is not None
    ignored = ["model.layers.7.mlp.gate_proj", "model.layers.2.self_attn.o_proj", "model.layers.5.mlp.down_proj"]
    quantised_ones = [
        "model.layers.41.mlp.gate_proj",
        "model.layers.4.self_attn.o_proj",
        "model.layers.7.mlp.down_proj",
    ]
    assert [found.ignores(name) for name in ignored + quantised_ones] == [True] * 3 + [False] * 3


def test_layers_differ_by_what_is_not_quantised_of_them() -> None:
    """As in NVIDIA's NVFP4 checkpoints, which list attention of each layer: two kinds of layers, not one of each."""
    ignore = [f"model.layers.{layer}.self_attn.q_proj" for layer in range(47)]
    some = parsed({**QWEN2, "quantization_config": {"quant_method": "modelopt", "quant_algo": "FP8", "ignore": ignore}})
    every = parsed({**QWEN2, "quantization_config": {"quant_method": "modelopt", "quant_algo": "FP8"}})
    matrix = 5120 * (5120 + 2 * 1024)
    assert (shapes_gib(some) - shapes_gib(every)) * 2**30 == pytest.approx(47 * matrix, rel=1e-4)


def test_a_wrong_size_of_a_model_of_the_catalogue_is_to_be_removed() -> None:
    with pytest.raises(PlanError) as caught:
        working(spec(model="Qwen/Qwen3-32B", series="GU8TF", image="vllm:v0.33.0", weights_gib=30))
    (finding,) = caught.value.findings
    assert finding.problem.startswith("30.0 GiB are not the 61.0 GiB that follow from the shapes of Qwen/Qwen3-32B: ")
    assert finding.fix == "correct or remove it"


@pytest.mark.parametrize(
    ("quantised", "bits", "gib"),
    [
        ({"quant_method": "fbgemm_fp8", "modules_to_not_convert": ["lm_head", "self_attn"]}, 8, 18.0),
        ({"quant_method": "compressed-tensors", "config_groups": {},
          "kv_cache_scheme": {"num_bits": 8, "type": "float"}}, None, 27.5),
        ({"producer": {"name": "modelopt"}, "quant_algo": "FP8", "kv_cache_scheme": "FP8"}, 8, 15.2),
    ],
)  # fmt: skip
def test_formats_that_say_more_than_their_method(quantised: dict[str, Any], bits: int | None, gib: float) -> None:
    model = parsed({**QWEN2, "quantization_config": quantised})
    assert (model.quantisation.bits if model.quantisation else None) == bits
    assert shapes_gib(model) == pytest.approx(gib, abs=0.1)
    said = "kv_cache_scheme" in quantised
    by = "compressed-tensors" if bits is None else "modelopt"
    assert model.cache_by == (by if said else None)


def test_a_nested_config_whose_defaults_are_left_out_is_not_guessed() -> None:
    text = {key: value for key, value in QWEN3_MOE.items() if key not in ("num_experts", "head_dim")}
    text["model_type"] = "qwen3_vl_moe_text"
    nested = {"model_type": "qwen3_vl_moe", "vision_config": {}, "text_config": text}
    assert why_not(nested) == "no head_dim in its config.json"
    nested["text_config"] = {**text, "head_dim": 128}
    assert why_not(nested) == "no number of experts in its config.json"
