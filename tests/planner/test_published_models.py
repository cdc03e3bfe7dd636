"""The config.json of models as their makers publish it: read right, or said not to be predicted.

``published/`` has those files without the keys that only concern text generation.
"""

import json
from pathlib import Path

import pytest

from deepseek_acs.planner import config_json
from deepseek_acs.planner.findings import PlanError
from deepseek_acs.planner.kv_cache import token_bytes
from deepseek_acs.planner.model import Model, MultiHeadLatentAttention, Unpredicted
from deepseek_acs.planner.vllm import Engine, Serving
from deepseek_acs.planner.weights import parameters, shapes_gib
from tests.planner.specs import errors, spec, warnings, working

PUBLISHED = Path(__file__).with_name("published")
NEW = "vllm:v0.33.0"


def config_of(name: str) -> Path:
    return PUBLISHED / name.replace("/", "--") / "config.json"


def published(name: str) -> Model:
    found = config_json.read(config_of(name), name=name)
    assert isinstance(found, Model)
    return found


READ = {
    "MiniMaxAI/MiniMax-M2.7": (214.2, 228.7, None),
    "Qwen/Qwen3-235B-A22B-FP8": (220.2, 235.1, None),
    "Qwen/Qwen3-32B-FP8-Static-PerTensor": (32.0, 32.8, "modelopt"),
    "Qwen/Qwen3-VL-235B-A22B-Instruct": (439.0, 235.1, None),
    "baidu/ERNIE-4.5-300B-A47B-PT": (556.3, 298.6, None),
    "meta-llama/Meta-Llama-3.1-70B": (131.4, 70.6, None),
    "mistralai/Mixtral-8x22B-v0.1": (261.9, 140.6, None),
    "moonshotai/Kimi-K2.5": (554.3, 1026.4, None),
    "nvidia/DeepSeek-V3.1-NVFP4": (359.8, 671.0, "modelopt"),
    "nvidia/GLM-5.2-NVFP4": (414.3, 743.4, "modelopt"),
    "nvidia/MiniMax-M2.5-NVFP4": (125.2, 228.7, "modelopt"),
    "zai-org/GLM-5.2-FP8": (694.4, 743.4, None),
}
"""GiB and billions of parameters of the language model, and what says that the cache is in FP8."""

NOT_PREDICTED = {
    "MiniMaxAI/MiniMax-M3": "sparse attention",
    "Qwen/Qwen3.5-397B-A17B": "linear attention",
    "XiaomiMiMo/MiMo-V2-Flash": "heads of different sizes",
    "google/gemma-3-12b-it": "a model_type that is not known here (gemma3_text)",
    "google/gemma-4-26B-A4B": "heads of different sizes",
    "meituan-longcat/LongCat-Flash-Lite": "experts that compute nothing",
    "meta-llama/Llama-4-Maverick-17B-128E-Instruct": "interleaved experts",
    "moonshotai/Kimi-K3": "linear attention",
    "nvidia/DeepSeek-V4-Flash-NVFP4": "weights of mixed precision",
    "nvidia/Llama-3_3-Nemotron-Super-49B-v1": "layers of different shapes",
    "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": "Mamba layers",
    "nvidia/NVIDIA-Nemotron-3-Ultra-550B-A55B-FP8": "Mamba layers",
    "stepfun-ai/Step-3.7-Flash": "a model_type that is not known here (step3p7)",
}


def test_every_file_is_expected() -> None:
    assert {path.name.replace("--", "/") for path in PUBLISHED.iterdir()} == {*READ, *NOT_PREDICTED}


@pytest.mark.parametrize("name", READ)
def test_a_published_config_is_read_right(name: str) -> None:
    model = published(name)
    gib, billion, cache_by = READ[name]
    assert shapes_gib(model) == pytest.approx(gib, abs=0.06)
    assert parameters(model) / 1e9 == pytest.approx(billion, abs=0.06)
    assert model.cache_by == cache_by


@pytest.mark.parametrize("name", NOT_PREDICTED)
def test_or_said_not_to_be_predicted_and_weights_gib_is_the_way_out(name: str) -> None:
    path = config_of(name)
    found = config_json.read(path, name=name)
    assert isinstance(found, Unpredicted)
    assert found.why == NOT_PREDICTED[name]
    case = {"model": name, "config_file": str(path), "series": "P16EN", "image": NEW, "max_model_len": 8192}
    with pytest.raises(PlanError) as caught:
        working(spec(**case))
    (finding,) = caught.value.findings
    assert finding.problem.startswith(f"the size of {name} is not known: it has {found.why}, ")
    assert finding.fix.startswith("set deployment.model.weightsGiB to the size of its safetensors files in GiB")
    plan = working(spec(**case, weights_gib=500))
    assert plan.memory is None
    assert warnings(plan)[0].startswith(
        f"deployment.model.name: the memory of {name} is bounded, not predicted: it has {found.why}"
    )


def test_interleaved_experts_are_not_refused_where_they_run() -> None:
    """Llama-4-Maverick, 746 GiB, runs on 8 GPUs of 141 GB; by its misread shapes it would have 1449.5 GiB."""
    name = "meta-llama/Llama-4-Maverick-17B-128E-Instruct"
    case = {"series": "GX8SF", "gpus_per_pod": 8, "tensor": 8, "pipeline": 1, "gpu_memory_gib": 139.8}
    plan = spec(model=name, config_file=str(config_of(name)), image=NEW, max_model_len=8192, weights_gib=746, **case)
    assert errors(plan) == []


def test_nemotron_fits_on_one_gpu() -> None:
    name = "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16"
    plan = working(
        spec(
            model=name, config_file=str(config_of(name)), image=NEW, max_model_len=8192, weights_gib=59, series="P16EN"
        )
    )
    assert plan.layout.gpus == 1


def test_nvfp4_is_found_next_to_the_config_and_said_where_it_is_missing(tmp_path: Path) -> None:
    name = "nvidia/DeepSeek-V3.1-NVFP4"
    config = json.loads(config_of(name).read_text(encoding="utf-8"))
    assert "quantization_config" not in config
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    found = config_json.read(path, name=name)
    assert isinstance(found, Unpredicted)
    assert found.why == (
        "NVFP4 in its name and no quantisation in its config.json, which NVIDIA's tools write to hf_quant_config.json "
        "next to it"
    )


@pytest.mark.parametrize(
    ("name", "version", "given", "is_fp8"),
    [
        ("nvidia/MiniMax-M2.5-NVFP4", (0, 13, 0), "auto", False),
        ("nvidia/MiniMax-M2.5-NVFP4", (0, 14, 0), "auto", True),
        ("nvidia/MiniMax-M2.5-NVFP4", (0, 33, 0), "bfloat16", False),
        ("nvidia/DeepSeek-V3.1-NVFP4", (0, 33, 0), "auto", True),
        ("zai-org/GLM-5.2-FP8", (0, 33, 0), "auto", False),
    ],
)
def test_a_checkpoint_may_say_that_its_cache_is_in_fp8(
    name: str, version: tuple[int, int, int], given: str, is_fp8: bool
) -> None:
    assert Engine(version=version).stores_fp8(published(name), given, 9.0) is is_fp8


def test_glm_has_an_indexer_in_every_fourth_layer() -> None:
    model = published("zai-org/GLM-5.2-FP8")
    attention = model.attention
    assert isinstance(attention, MultiHeadLatentAttention)
    own = [layer for layer in range(model.layers) if attention.has_indexer(layer)]
    assert (len(own), own[:5]) == (21, [0, 1, 2, 6, 10])
    for dtype, layer_bytes in (("auto", 1152), ("fp8", 656)):
        serving = Serving(max_model_len=8192, kv_cache_dtype=dtype)
        per_token = token_bytes(model, Engine(), serving, tensor=8, layers=range(model.layers))
        assert per_token == 78 * layer_bytes + 21 * 132


def test_the_frequency_of_indexers_says_the_same_as_their_list(tmp_path: Path) -> None:
    config = json.loads(config_of("zai-org/GLM-5.2-FP8").read_text(encoding="utf-8"))
    del config["indexer_types"]
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    found = config_json.read(path, name="mine")
    assert isinstance(found, Model)
    assert found.attention == published("zai-org/GLM-5.2-FP8").attention


def test_an_nvfp4_checkpoint_fits_where_it_would_not_in_16_bits() -> None:
    name = "nvidia/DeepSeek-V3.1-NVFP4"
    case = {"series": "B200", "gpus_per_pod": 4, "tensor": 4, "pipeline": 1, "max_model_len": 32_768}
    plan = working(spec(model=name, config_file=str(config_of(name)), image=NEW, **case))
    assert plan.memory is not None
    assert plan.memory.stages[0].weights_gib == pytest.approx(91.9, abs=0.1)
