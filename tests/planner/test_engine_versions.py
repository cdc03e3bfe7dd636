"""What differs between versions, cards and environments of the engine, as the preview says it."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from deepseek_acs.planner import catalogue
from deepseek_acs.planner.compare import best, compare
from deepseek_acs.planner.kv_cache import token_bytes
from deepseek_acs.planner.memory import Memory, Verdict, estimate
from deepseek_acs.planner.model import Model
from deepseek_acs.planner.report import comparison_table
from deepseek_acs.planner.rules.parallelism import quantised_shards
from deepseek_acs.planner.spec import ResolvedSpec
from deepseek_acs.planner.summary import summary
from deepseek_acs.planner.uncounted import HARMLESS_VALUES, ONLY_ADD, WITHOUT_MEMORY, uncounted
from deepseek_acs.planner.vllm import FLAGS, Engine, Serving
from deepseek_acs.planner.vllm_releases import release
from deepseek_acs.planner.vllm_releases.release import Version, names, spans
from tests.planner.specs import errors, guide, spec, stack_findings, warnings

NEW = "vllm:v0.33.0"
PUBLISHED = Path(__file__).with_name("published")
GIB = 2**30


def model(name: str) -> Model:
    found = catalogue.model(name)
    assert found is not None
    return found


def problems(found: ResolvedSpec) -> list[str]:
    """What stops it."""
    return [finding.problem for finding in errors(found)]


def memory_of(found: ResolvedSpec) -> Memory:
    assert found.memory is not None
    return found.memory


# Sparse MLA by card


def test_sparse_mla_is_not_proposed_for_cards_without_kernels() -> None:
    case = spec(model="deepseek-ai/DeepSeek-V3.2", series="GU8TF", max_model_len=8192, image=NEW)
    shown = {row.spec.gpu.device.name for row in best(compare(case, ["GU8TF", "A10", "G49E"])) if row.spec.gpu.device}
    assert shown
    assert not shown & {"A10", "G49E"}


def test_a_series_whose_gpu_is_not_published_is_shown_where_it_is_asked_for() -> None:
    case = spec(model="deepseek-ai/DeepSeek-V3.2", series="G49E", max_model_len=8192, image=NEW)
    found = best(compare(case, ["G49E"]))
    assert found
    console = Console(width=200)
    with console.capture() as said:
        console.print(comparison_table(found))
    assert said.get().count("fits, kernels not known") == len(found)


def test_what_works_instead_is_on_cards_with_kernels() -> None:
    case = guide(model="deepseek-ai/DeepSeek-V3.2", series="A10", image=NEW, backend="mp", region="cn-hangzhou")
    (found,) = [finding for finding in errors(case) if "does not fit" in finding.problem]
    named = set(re.findall(r"series (\w+)", found.fix))
    assert named
    assert "pipeline 6 on 6 pods" not in found.fix
    assert "G49E" not in named
    capabilities = {guide(series=name).gpu.device.capability for name in named}  # type: ignore[union-attr]
    assert capabilities <= {9.0, 10.0, 12.0}


@pytest.mark.parametrize(("series", "version", "capability"), [("A800", "0.33.0", "8.0"), ("L20", "0.20.0", "8.9")])
def test_a_card_without_kernels_for_sparse_mla_is_refused(series: str, version: str, capability: str) -> None:
    case = guide(model="deepseek-ai/DeepSeek-V3.2", series=series, image=f"vllm:v{version}")
    (found,) = [finding for finding in errors(case) if finding.problem.startswith("sparse MLA")]
    kernels = "9 and 10 (12 from 0.24.0 on)" if version == "0.20.0" else "9, 10 and 12"
    assert found.problem == (
        f"sparse MLA on {series}: vLLM {version} has kernels for it for compute capability {kernels}; this GPU has "
        f"{capability}"
    )
    assert found.fix == "choose a newer GPU series, a newer image, or a checkpoint in another format"


@pytest.mark.parametrize(
    ("capability", "version", "reads"),
    [
        (9.0, (0, 16, 0), True),
        (10.0, (0, 20, 0), True),
        (12.0, (0, 23, 0), False),
        (12.0, (0, 24, 0), True),
        (8.9, (0, 33, 0), False),
    ],
)
def test_kernels_for_sparse_mla(capability: float, version: Version, reads: bool) -> None:
    assert Engine(version=version).reads_sparsely(capability) is reads


# The cache's type


@pytest.mark.parametrize(("version", "per_token"), [((0, 11, 2), 656 + 132), ((0, 12, 0), 1152 + 132)])
def test_the_cache_of_sparse_mla_was_in_fp8_by_default(version: Version, per_token: int) -> None:
    memory = estimate(
        model("deepseek-ai/DeepSeek-V3.2"),
        catalogue.gpus()["H200"],
        Engine(version=version),
        Serving(max_model_len=8192),
        tensor=8,
        pipeline=1,
    )
    assert memory.stages[0].pool.block_bytes == 61 * 64 * per_token


def test_glms_cache_is_in_fp8_on_blackwell_alone() -> None:
    glm, v32 = model("zai-org/GLM-5-FP8"), model("deepseek-ai/DeepSeek-V3.2")
    cases = [
        Engine(version=version).stores_fp8(which, "auto", capability)
        for which, version, capability in (
            (glm, (0, 29, 0), 10.0),
            (glm, (0, 28, 0), 10.0),
            (glm, (0, 29, 0), 9.0),
            (v32, (0, 29, 0), 10.0),
        )
    ]
    assert cases == [True, False, False, False]


# Pipeline stages on 0.14 to 0.16


def pipelined(version: str, length: int, **changes: Any) -> ResolvedSpec:
    case = {"model": "Qwen/Qwen3-32B", "series": "GU8TF", "gpus_per_pod": 1, "tensor": 1, "pipeline": 2, **changes}
    return guide(image=f"vllm:v{version}", max_model_len=length, **case)


@pytest.mark.parametrize(
    ("version", "verdict"),
    [
        ("0.13.0", Verdict.FITS),
        ("0.14.0", Verdict.DOES_NOT_FIT),
        ("0.16.0", Verdict.DOES_NOT_FIT),
        ("0.17.0", Verdict.FITS),
    ],
)
def test_each_stage_is_asked_for_the_cache_of_all_layers(version: str, verdict: Verdict) -> None:
    """vllm#34076: 40,960 tokens of Qwen3-32B are 10 GiB in all, 5 on a stage."""
    case = pipelined(version, 40_960, gpu_memory_gib=42.0)
    assert memory_of(case).verdict is verdict
    if verdict is Verdict.FITS:
        return
    (found,) = errors(case)
    assert "one request of 40,960 tokens needs 10.00, because vLLM " in found.problem
    said = "vLLM: To serve at least one request with the models's max seq len (40960), (10.00 GiB KV cache is needed"
    assert f"asks every GPU for the cache of all layers; {said}" in found.problem
    assert found.fix.startswith("use an image with vLLM 0.17.0 or newer, or ")


def test_where_the_band_does_not_say_whether_a_stage_has_what_it_is_asked_for() -> None:
    case = pipelined("0.15.0", 40_960, gpu_memory_gib=44.5)
    assert memory_of(case).verdict is Verdict.TOO_CLOSE
    (said,) = [text for text in warnings(case) if "too close" in text]
    assert "GiB of cache on a GPU, and vLLM 0.15.0 asks every GPU for the 10.00 that one request needs in all" in said


# Versions and models


@pytest.mark.parametrize(
    ("name", "version", "architecture", "since"),
    [
        ("deepseek-ai/DeepSeek-V3.2", "0.7.2", "DeepseekV32ForCausalLM", "0.11.0"),
        ("openai/gpt-oss-120b", "0.8.5", "GptOssForCausalLM", "0.10.1"),
        ("zai-org/GLM-5-FP8", "0.11.0", "GlmMoeDsaForCausalLM", "0.16.0"),
        ("MiniMaxAI/MiniMax-M2.5", "0.9.2", "MiniMaxM2ForCausalLM", "0.11.1"),
        ("Qwen/Qwen3-235B-A22B", "0.7.2", "Qwen3MoeForCausalLM", "0.8.4"),
        ("Qwen/Qwen3-32B", "0.7.2", "Qwen3ForCausalLM", "0.8.4"),
        ("deepseek-ai/DeepSeek-V4-Pro", "0.19.1", "DeepseekV4ForCausalLM", "0.20.0"),
    ],
)
def test_a_version_that_does_not_know_the_model_is_refused(
    name: str, version: str, architecture: str, since: str
) -> None:
    found = errors(guide(model=name, image=f"vllm:v{version}"))
    (said,) = [finding for finding in found if finding.path == "deployment.inference.engine.image"]
    assert said.problem == f"vLLM {version} does not support {name} ({architecture})"
    assert said.fix == f"use an image with vLLM {since} or newer"


@pytest.mark.parametrize("image", ["vllm:v0.8.4", "registry/engine:stable"])
def test_no_model_is_refused_that_the_version_knows_or_whose_version_is_not_known(image: str) -> None:
    assert not [text for text in problems(guide(model="Qwen/Qwen3-32B", image=image, pipeline=1)) if "know" in text]


def test_shared_indexers_need_a_version_that_has_them() -> None:
    case = guide(model="zai-org/GLM-5.2-FP8", image="vllm:v0.20.2")
    assert "vLLM 0.20.2 gives every layer of zai-org/GLM-5.2-FP8 an indexer, and 57 of 78 have no weights for one" in (
        problems(case)
    )
    assert not [
        text for text in problems(guide(model="zai-org/GLM-5.2-FP8", image="vllm:v0.22.0")) if "indexer" in text
    ]


def test_mla_came_with_0_7_1() -> None:
    r1 = model("deepseek-ai/DeepSeek-R1")
    old, first = (
        estimate(
            r1, catalogue.gpus()["H200"], Engine(version=version), Serving(max_model_len=4096), tensor=8, pipeline=1
        )
        for version in ((0, 6, 6), (0, 7, 1))
    )
    assert old.stages[0].weights_gib < first.stages[0].weights_gib
    assert old.stages[0].pool.block_bytes == 61 * 16 * 2 * 16 * 192 * 2


# Defaults


@pytest.mark.parametrize(
    ("version", "card", "sequences", "tokens"),
    [
        ((0, 8, 4), "H20", 256, 2048),
        ((0, 8, 4), "H800", 256, 2048),
        ((0, 8, 4), "H200", 1024, 8192),
        ((0, 8, 5), "H20", 1024, 8192),
        ((0, 8, 5), "A100", 1024, 8192),
        ((0, 9, 0), "A100", 256, 2048),
        ((0, 27, 1), "B200", 1024, 8192),
        ((0, 28, 0), "B200", 1024, 16384),
    ],
)
def test_defaults_by_card_and_version(version: Version, card: str, sequences: int, tokens: int) -> None:
    engine, serving, gpu = Engine(version=version), Serving(max_model_len=8192), catalogue.gpus()[card]
    assert (serving.sequences(engine, gpu), serving.batched_tokens(engine, gpu)) == (sequences, tokens)


# Environment


def test_mla_can_be_switched_off() -> None:
    case = guide(image=NEW, env={"VLLM_MLA_DISABLE": "1"})
    usual = guide(image=NEW)
    per_token = token_bytes(
        model("deepseek-ai/DeepSeek-R1"), case.engine.vllm, Serving(max_model_len=2048), tensor=8, layers=range(61)
    )
    assert per_token == 61 * 2 * 16 * 192 * 2
    assert memory_of(case).tokens[1] < memory_of(usual).tokens[1] / 8
    assert memory_of(case).stages[0].weights_gib < memory_of(usual).stages[0].weights_gib


def test_layers_of_stages_can_be_given() -> None:
    case = guide(image=NEW, env={"VLLM_PP_LAYER_PARTITION": "29,32"})
    assert [len(stage.layers) for stage in memory_of(case).stages] == [29, 32]
    assert [len(stage.layers) for stage in memory_of(guide(image=NEW)).stages] == [31, 30]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("20,20,21", "len(partitions)=3 does not match pp_size=2."),
        ("30,30", "sum(partitions)=60 does not match num_hidden_layers=61."),
        ("31;30", "Invalid partition string"),
    ],
)
def test_layers_of_stages_that_do_not_add_up(value: str, said: str) -> None:
    found = errors(guide(image=NEW, env={"VLLM_PP_LAYER_PARTITION": value}))
    assert [finding.problem for finding in found] == [f"VLLM_PP_LAYER_PARTITION: vLLM: {said}"]
    assert found[0].fix == "write 2 numbers with the sum 61 with commas between, or remove it"


@pytest.mark.parametrize(
    ("version", "value", "named"),
    [("0.7.2", "1", True), ("0.7.2", "0", False), ("0.8.5", "0", True), ("0.8.5", "1", False), ("0.11.0", "0", False)],
)
def test_the_other_engine_of_a_version_is_not_counted(version: str, value: str, named: bool) -> None:
    case = guide(image=f"vllm:v{version}", env={"VLLM_USE_V1": value})
    assert case.uncounted.names == (("VLLM_USE_V1",) if named else ())
    said = [text for text in warnings(case) if "VLLM_USE_V1" in text]
    if named:
        assert said == [
            "deployment.inference.engine.env: VLLM_USE_V1 may change memory use in a way that the plan does not "
            "include; check the figures in the engine's log at its first start"
        ]


def test_whether_graphs_are_in_the_budget_can_be_said() -> None:
    estimates = "VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS"
    cases = [
        guide(image=f"vllm:v{version}", enforce_eager=False, env=env)
        for version, env in (("0.20.0", {estimates: "0"}), ("0.20.0", {}), ("0.18.0", {estimates: "1"}), ("0.18.0", {}))
    ]
    assert [memory_of(case).stages[0].graphs.nominal > 0 for case in cases] == [False, True, True, False]


def test_a_request_may_be_longer_where_the_engine_is_told_so() -> None:
    case = guide(image=NEW, max_model_len=200_000, env={"VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1"})
    assert not [text for text in problems(case) if "max_model_len" in text]


# Arguments


@pytest.mark.parametrize(
    ("argument", "adds"),
    [
        ("--enable-lora", True),
        ("--enable-eplb", True),
        ("--num-redundant-experts=8", True),
        ("--quantization=bitsandbytes", False),
        ("-q=awq", False),
        ("--num-gpu-blocks-override=1000", False),
        ("--kv-cache-dtype=nvfp4", False),
        ("--kv-offloading-size=100", False),
        ("--limit-mm-per-prompt={}", None),
        ("--cpu-offload-gb=10", False),
        ("--compilation-config.cudagraph_mode=NONE", False),
        ('--compilation-config={"cudagraph_mode": "NONE"}', False),
        ("--dtype=float32", False),
        ("--load-format=bitsandbytes", False),
        ("--an-argument-of-tomorrow", False),
        ("--quantization=fp8", None),
        ("--kv-cache-dtype=fp8_e4m3", None),
        ("--no-enable-prefix-caching", None),
        ("--reasoning-parser=deepseek_r1", None),
        ("--dtype=bfloat16", None),
        ("--disable-hybrid-kv-cache-manager", None),
        ("--kv-cache-memory-bytes=20G", None),
    ],
)
def test_what_is_not_known_to_be_harmless_is_named(argument: str, adds: bool | None) -> None:
    found = uncounted([argument], {}, model=model("deepseek-ai/DeepSeek-R1"), engine=Engine())
    name = argument.partition("=")[0].replace("_", "-")
    assert (found.adds, found.changes) == {
        True: ((name,), ()),
        False: ((), (name,)),
        None: ((), ()),
    }[adds]


def test_every_argument_of_the_lists_is_one_of_vllm() -> None:
    known = set(names("arguments"))
    known |= {name for usual in known for span in spans("arguments", usual) for name in span.facts.get("names", ())}
    listed = {*WITHOUT_MEMORY, *ONLY_ADD, *HARMLESS_VALUES, *FLAGS}
    assert listed - known == {"--attention-config.use-fp4-indexer-cache", "--kv-cache-memory"}


def test_each_argument_is_in_one_list() -> None:
    lists = [set(WITHOUT_MEMORY), set(ONLY_ADD) - set(FLAGS), set(HARMLESS_VALUES), set(FLAGS)]
    assert sum(map(len, lists)) == len(set().union(*lists))


def test_the_verdict_says_what_it_does_not_count() -> None:
    case = guide(image=NEW, extra_args=("--enable-lora", "--max-loras=2"))
    assert summary(case)["verdict"] == "fits, without --enable-lora and 1 more, not counted"
    (said,) = [text for text in warnings(case) if "--enable-lora" in text]
    assert said == (
        "deployment.inference.engine.extraArgs: --enable-lora, --max-loras changes memory use in a way that the plan "
        "does not include; check the figures in the engine's log at its first start"
    )


def test_nothing_is_refused_that_something_uncounted_may_mend() -> None:
    """More of LoRA does not make it fit, offloading may."""
    small = {"image": NEW, "pipeline": 1, "max_model_len": 163_840}
    assert [text[:38] for text in problems(guide(**small, extra_args=("--enable-lora",)))] == [
        "deepseek-ai/DeepSeek-R1 does not fit: "
    ]
    assert problems(guide(**small, extra_args=("--cpu-offload-gb=40",))) == []
    unknown = {"model": "mine", "weights_gib": 2000.0}
    assert problems(guide(**unknown)) == ["the weights alone need 125.0 GiB on each GPU, which has 90.2 GiB usable"]
    assert problems(guide(**unknown, extra_args=("--cpu-offload-gb=60",))) == []


def test_a_cache_that_is_given_is_taken_as_it_is() -> None:
    whole, most = (
        memory_of(guide(image=NEW, extra_args=(f"--kv-cache-memory-bytes={size}",))) for size in ("20G", "60G")
    )
    assert {stage.cache.low for stage in whole.stages} == {20.0}
    assert whole.verdict is Verdict.FITS
    assert most.verdict is Verdict.DOES_NOT_FIT


def test_without_the_hybrid_manager_windows_save_nothing() -> None:
    usual, without = (
        memory_of(
            guide(model="openai/gpt-oss-120b", image=NEW, pipeline=1, max_model_len=131_072, extra_args=arguments)
        )
        for arguments in ((), ("--disable-hybrid-kv-cache-manager",))
    )
    per_token = usual.stages[0].pool.request_bytes / 131_072, without.stages[0].pool.request_bytes / 131_072
    assert per_token[1] == 36 * 2 * 64 * 2
    assert per_token[0] < 0.6 * per_token[1]


def test_an_engine_over_more_gpus_than_the_replica_has_is_refused() -> None:
    found = errors(guide(image=NEW, extra_args=("-pcp=2",)))
    assert [finding.problem for finding in found] == [
        "--prefill-context-parallel-size 2 makes an engine of 32 GPUs; a replica has 16"
    ]


def test_the_largest_size_of_graphs_is_counted() -> None:
    sizes = Serving(max_model_len=8192, largest_capture=16).graph_sizes(1024, family="")
    assert sizes == (1, 2, 4, 8, 16)


def test_a_tower_for_images_is_on_the_first_stage() -> None:
    """Kimi-K2.5: 0.9 GiB, of which the projection, 0.1, is on every GPU."""
    plain, seeing = model("moonshotai/Kimi-K2-Thinking"), model("moonshotai/Kimi-K2.5")
    first, last = (
        [
            estimate(which, catalogue.gpus()["H200"], Engine(), Serving(max_model_len=8192), tensor=8, pipeline=2)
            .stages[stage]
            .weights_gib
            for which in (plain, seeing)
        ]
        for stage in (0, 1)
    )
    assert first[1] - first[0] == pytest.approx(0.77 / 8 + 0.1, abs=0.01)
    assert last[1] == last[0]


@pytest.mark.parametrize(
    ("argument", "reads"),
    [
        ("--seed=1", True),
        ('--limit-mm-per-prompt={"image": 0, "video": 0}', False),
        ("--limit-mm-per-prompt=image=0,video=0", False),
        ('--limit-mm-per-prompt={"image": 2, "video": 0}', True),
        ("--language-model-only", False),
    ],
)
def test_images_are_not_counted_unless_there_are_none(argument: str, reads: bool) -> None:
    case = guide(model="moonshotai/Kimi-K2.5", image=NEW, extra_args=(argument,))
    assert case.reads_images is reads
    assert (summary(case)["verdict"] == "fits, without images, not counted") is reads
    assert not guide(image=NEW, extra_args=(argument,)).reads_images


def test_each_kind_of_layer_is_looked_at_for_broken_blocks() -> None:
    """The first layers of Kimi-K2.5-like checkpoints may be in 16 bits, and the others still quantised."""
    model_of = model("Qwen/Qwen3-235B-A22B-FP8")
    assert model_of.quantisation is not None
    ignore = tuple(f"model.layers.{layer}" for layer in range(4))
    some = replace(model_of, quantisation=replace(model_of.quantisation, ignore=ignore))
    case = guide(model="Qwen/Qwen3-235B-A22B-FP8", image=NEW, pipeline=1)
    changed = replace(case, model=replace(case.model, shapes=some))
    assert "a part of 192 is not a multiple of the block size 128" in str(next(quantised_shards.problems(changed)))


SAID = (
    "vLLM: The quantization method {} is not supported for the current GPU. Minimum capability: {}. Current "
    "capability: {}."
)


@pytest.mark.parametrize(
    ("name", "version", "series", "said"),
    [
        ("nvidia/DeepSeek-V3.1-NVFP4", "0.7.2", "GU8TF",
         "nvfp4 weights on H20: vLLM 0.7.2 does not support this format"),
        ("nvidia/DeepSeek-V3.1-NVFP4", "0.8.5", "GU8TF", "nvfp4 weights on H20: " + SAID.format("nvfp4", 100, 90)),
        ("nvidia/DeepSeek-V3.1-NVFP4", "0.9.0", "GU8TF", None),
        ("Qwen/Qwen3-32B-FP8-Static-PerTensor", "0.26.0", "A800",
         "modelopt weights on A800: " + SAID.format("modelopt", 89, 80)),
        ("Qwen/Qwen3-32B-FP8-Static-PerTensor", "0.27.0", "A800", None),
        ("Qwen/Qwen3-235B-A22B-FP8", "0.8.5", "A800",
         "fp8 weights in blocks on A800: before vLLM 0.9.0 they need compute capability 8.9, this GPU has 8.0"),
        ("Qwen/Qwen3-235B-A22B-FP8", "0.9.0", "A800", None),
        ("Qwen/Qwen3-235B-A22B-FP8", "0.13.0", "T4", "fp8 weights on T4: " + SAID.format("fp8", 80, 75)),
    ],
)  # fmt: skip
def test_formats_by_version_and_card(name: str, version: str, series: str, said: str | None) -> None:
    path = PUBLISHED / name.replace("/", "--") / "config.json"
    case = guide(model=name, config_file=str(path), series=series, image=f"vllm:v{version}", pipeline=1)
    assert [text for text in problems(case) if " weights " in text and "take" not in text] == [said] * (
        said is not None
    )


@pytest.mark.parametrize(("version", "may_run"), [("0.7.3", False), ("0.8.0", True), ("0.8.3", True)])
def test_a_dense_model_may_run_by_transformers_if_the_version_is_hardly_older(version: str, may_run: bool) -> None:
    case = guide(model="Qwen/Qwen3-32B", image=f"vllm:v{version}", pipeline=1)
    assert [text for text in problems(case) if "does not support" in text] == (
        [] if may_run else [f"vLLM {version} does not support Qwen/Qwen3-32B (Qwen3ForCausalLM)"]
    )
    assert (
        bool([text for text in warnings(case) if f"vLLM {version} has no class for Qwen/Qwen3-32B" in text]) is may_run
    )


@pytest.mark.parametrize(
    ("image", "series", "problem", "version"),
    [
        (
            "vllm:v0.7.2",
            "GU8TF",
            "vLLM 0.7.2 fails with an FP8 cache on H20: FP8 Triton MLA not yet supported",
            "0.10.2",
        ),
        ("vllm:v0.8.5", "GU8TEF", "vLLM 0.8.5 fails with an FP8 cache on H20-3e: FlashMLA V1 with FP8", "0.10.2"),
        ("vllm:v0.10.1", "GU8TEF", "vLLM 0.10.1 fails with an FP8 cache on H20-3e: FlashMLA V1 with FP8", "0.10.2"),
        (
            "vllm:v0.12.0",
            "L20",
            "vLLM 0.12.0 fails with an FP8 cache on L20: FP8 Triton MLA not yet supported",
            "0.18.0",
        ),
        ("vllm:v0.12.0", "GU8TEF", None, None),
        ("vllm:v0.18.0", "L20", None, None),
    ],
)
def test_an_fp8_cache_of_mla_needs_kernels(image: str, series: str, problem: str | None, version: str | None) -> None:
    case = guide(image=image, backend="mp", series=series, extra_args=["--kv-cache-dtype=fp8"], pipeline=4)
    found = [finding for finding in stack_findings(case) if "with an FP8 cache" in finding.problem]
    assert [finding.problem.startswith(problem or "") for finding in found] == [True] * (problem is not None)
    assert all(finding.fix.endswith(f"vLLM {version} or newer") for finding in found)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"image": "vllm/vllm-openai:v0.20.0"}, "GU8TF has 550.90.07"),
        ({"image": "vllm/vllm-openai:v0.20.0", "driver_version": "570.133.20"}, "GU8TF has 570.133.20"),
        ({"image": "vllm/vllm-openai:v0.20.0", "driver_version": "580.65.06"}, None),
        ({"image": "vllm/vllm-openai:v0.20.0-cu129"}, None),
        ({"image": "vllm/vllm-openai:v0.32.0-cpu"}, None),
        ({"image": "vllm/vllm-openai:v0.19.1"}, None),
        ({"image": "vllm/vllm-openai:v0.20.0", "env": {"VLLM_ENABLE_CUDA_COMPATIBILITY": "1"}}, None),
        ({"image": "vllm/vllm-openai:v0.20.0", "series": "P16EN"}, None),
    ],
)
def test_cuda_13_needs_a_new_driver(changes: dict[str, Any], said: str | None) -> None:
    found = [f for f in stack_findings(guide(backend="mp", **changes)) if "is built with CUDA 13" in f.problem]
    assert len(found) == (said is not None)
    assert all(finding.problem.endswith(said) for finding in found if said)


def test_cuda_13_came_with_its_torch() -> None:
    torch = [release.requirements(version)["torch"] for version in release.versions()]
    assert release.versions()[torch.index("2.11.0")] == release.changed_in("cuda_13")
