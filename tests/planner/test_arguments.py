"""What the preview says of arguments, environment, images and features by the version of vLLM."""

from collections.abc import Iterator
from typing import Any

import pytest

from deepseek_acs.planner.rules.engine import PROGRAM_FLAGS
from deepseek_acs.planner.vllm import other_engine, version_of
from deepseek_acs.planner.vllm_releases import release
from deepseek_acs.planner.vllm_releases.command_line import refusal
from deepseek_acs.planner.vllm_releases.given import NAMED, problems
from tests.planner.specs import errors, guide, stack_findings, warnings, working

ONE_POD = {"tensor": 8, "pipeline": 1, "series": "GU8TEF"}
V12 = {"image": "vllm/vllm-openai:v0.12.0", "backend": "mp"}

MISTAKES: list[tuple[str, dict[str, Any], str, str]] = [
    ("a misspelt argument", {"extra_args": ["--max-num-seq=64", "--enable-prefix-cachin"], **V12, **ONE_POD},
     "vLLM reads --max-num-seq as --max-num-seqs", "write --max-num-seqs"),
    ("another", {"extra_args": ["--max-number-seqs=64"]},
     "vLLM 0.7.2 has no argument --max-number-seqs", "did you mean --max-num-seqs?"),
    ("an argument of no version", {"extra_args": ["--fast"]},
     "vLLM 0.7.2 has no argument --fast", "remove it, or use an image that has it"),
    ("a reasoning parser alone", {"extra_args": ["--reasoning-parser=deepseek_r1"]},
     "--reasoning-parser has no effect on vLLM 0.7.2 without --enable-reasoning", "add --enable-reasoning"),
    ("a parser that finds no reasoning", {"extra_args": ["--enable-reasoning", "--reasoning-parser=deepseek_r1"]},
     "the parser of vLLM 0.7.2 looks for a beginning <think>", "use an image with vLLM 0.7.3 or newer"),
    ("a switch that was dropped", {"extra_args": ["--enable-reasoning"], **V12},
     "vLLM 0.12.0 has no --enable-reasoning any more, which was dropped in 0.10.0",
     "remove it; --reasoning-parser is enough"),
    ("scheduler steps", {"extra_args": ["--num-scheduler-steps=8"], **V12},
     "vLLM 0.12.0 has no --num-scheduler-steps any more, which was dropped in 0.10.1",
     "remove it; the current generation of the engine schedules ahead by itself"),
    ("swap space", {"extra_args": ["--swap-space=64"], "image": "vllm:v0.20.0", "backend": "mp"},
     "vLLM 0.20.0 has no --swap-space any more, which was dropped in 0.18.0",
     "remove it; the current generation of the engine recomputes requests in place of swapping them"),
    ("a draft as it was written once", {"extra_args": ["--speculative-model=x", "--num-speculative-tokens=1"], **V12},
     "vLLM 0.12.0 has no --speculative-model any more, which was dropped in 0.8.3",
     "remove it and write --speculative-config with model"),
    ("an argument that is too new", {"extra_args": ["--speculative-config={}"]},
     "vLLM 0.7.2 has no --speculative-config yet, which was added in 0.8.2",
     "remove it, or use an image with vLLM 0.8.2 or newer"),
    ("expert parallelism on 0.7", {"extra_args": ["--enable-expert-parallel"]},
     "vLLM 0.7.2 has no --enable-expert-parallel yet, which was added in 0.8.0",
     "remove it, or use an image with vLLM 0.8.0 or newer"),
    ("a tool parser that is too new", {"extra_args": ["--enable-auto-tool-choice", "--tool-call-parser=deepseek_v3"]},
     "vLLM 0.7.2 has no parser for tool calls deepseek_v3 yet, which was added in 0.9.0", "write one of granite"),
    ("a tool parser that is misspelt",
     {"extra_args": ["--enable-auto-tool-choice", "--tool-call-parser=deepseekv3"], **V12},
     "--tool-call-parser names no parser for tool calls of vLLM 0.12.0", "did you mean deepseek_v3"),
    ("tools without a parser", {"extra_args": ["--enable-auto-tool-choice"], **V12},
     "vLLM: Error: --enable-auto-tool-choice requires --tool-call-parser",
     "add --tool-call-parser, or remove --enable-auto-tool-choice"),
    ("tools and reasoning on 0.7",
     {"extra_args": ["--enable-reasoning", "--reasoning-parser=deepseek_r1", "--enable-auto-tool-choice",
                     "--tool-call-parser=hermes"]},
     "vLLM: Error: --enable-auto-tool-choice and --enable-reasoning cannot be enabled at the same time",
     "remove one of them, or use an image with vLLM 0.8.2 or newer"),
    ("a choice that there is not", {"extra_args": ["--kv-cache-dtype=fp4"], **V12},
     "--kv-cache-dtype takes one of auto, bfloat16, fp8", "did you mean fp8?"),
    ("a key that there is not", {"extra_args": ['--compilation-config={"cudagraf_mode": "NONE"}'],
                                 "image": "vllm:v0.20.2", "backend": "mp"},
     "--compilation-config has no cudagraf_mode", "did you mean cudagraph_mode?"),
    ("a key of a draft that is misspelt",
     {"extra_args": ['--speculative-config={"method":"mtp","num_speculative_token":1}'], **V12, **ONE_POD},
     "--speculative-config of vLLM 0.12.0 has no key num_speculative_token", "did you mean num_speculative_tokens?"),
    ("a draft by another method", {"extra_args": ['--speculative-config={"method":"mpt"}'], **V12, **ONE_POD},
     "--speculative-config: method takes one of deepseek_mtp, draft_model, eagle", "did you mean mtp?"),
    ("a number that is none",
     {"extra_args": ["--speculative-config.method=mtp", "--speculative-config.num_speculative_tokens=one"],
      **V12, **ONE_POD},
     "--speculative-config: num_speculative_tokens takes a whole number", "correct the value"),
    ("a key that is too new", {"extra_args": ['--kv-transfer-config={"kv_load_failure_policy":"fail"}'],
                               "image": "vllm:v0.11.0", **ONE_POD},
     "--kv-transfer-config of vLLM 0.11.0 has no key kv_load_failure_policy yet, which was added in 0.1",
     "remove it, or use an image with vLLM 0.1"),
    ("a key that was dropped", {"extra_args": ['--speculative-config={"acceptance_method":"x"}'], **V12, **ONE_POD},
     "--speculative-config of vLLM 0.12.0 has no key acceptance_method any more, which was dropped in 0.",
     "remove it"),
    ("a text in place of a truth value",
     {"extra_args": ['--kv-events-config={"enable_kv_cache_events":"maybe"}'], "image": "vllm:v0.20.2",
      "backend": "mp", **ONE_POD},
     "--kv-events-config: enable_kv_cache_events takes true or false", "correct the value"),
    ("a unit on 0.7", {"extra_args": ["--max-model-len-to-capture=8k", "--swap-space=many"]},
     "--swap-space takes a number", "correct the value"),
    ("an argument without its value", {"extra_args": ["--seed"], **V12}, "--seed has no value", "write --seed=..."),
    ("a flag with a value", {"extra_args": ["--enable-prefix-caching=true"], **V12},
     "--enable-prefix-caching takes no value", "write --enable-prefix-caching"),
    ("balancing without experts", {"extra_args": ["--enable-eplb"], **V12},
     "vLLM: enable_expert_parallel must be True to use EPLB.", "add --enable-expert-parallel, or remove --enable-eplb"),
    ("prediction ahead in stages", {"extra_args": ['--speculative-config={"method":"mtp","num_speculative_tokens":1}'],
                                    "image": "vllm:v0.20.2", "backend": "mp"},
     "vLLM 0.20.2 has no multi-token prediction with pipeline stages", "write 1 and a larger tensor parallel size"),
    ("prediction ahead in stages, key by key",
     {"extra_args": ["--speculative-config.method=mtp", "--speculative-config.num_speculative_tokens=1"],
      "image": "vllm:v0.26.0", "backend": "mp"},
     "vLLM 0.26.0 has no multi-token prediction with pipeline stages", "write 1 and a larger tensor parallel size"),
    ("long prompts on 0.7", {"max_model_len": 65_536},
     "above 32,768, vLLM 0.7.2 answers prompts of more than 2,048 tokens with nothing", "write 32768 or less"),
    ("long prompts with a step by hand",
     {"max_model_len": 65_536, "extra_args": ["--max-num-batched-tokens=32768"]},
     "above 32,768, vLLM 0.7.2 answers prompts of more than 32,768 tokens with nothing", "write 32768 or less"),
    ("the current generation on 0.7", {"env": {"VLLM_USE_V1": "1"}},
     "VLLM_USE_V1=1 starts an early form of the current generation on vLLM 0.7.2, without MLA", "remove it, or use"),
    ("the old generation on 0.11", {"env": {"VLLM_USE_V1": "0"}, "image": "vllm:v0.11.0"},
     "VLLM_USE_V1=0 ends vLLM 0.11.0 at its start", "remove it"),
    ("a variable that was dropped", {"env": {"VLLM_ATTENTION_BACKEND": "FLASHMLA"}, "image": "vllm:v0.20.0"},
     "vLLM 0.20.0 has no VLLM_ATTENTION_BACKEND any more, which was dropped in 0.15.0; it has no effect",
     "remove it and write the argument --attention-backend"),
    ("a variable that is misspelt", {"env": {"VLLM_LOGING_LEVEL": "DEBUG"}},
     "vLLM 0.7.2 reads no variable VLLM_LOGING_LEVEL", "did you mean VLLM_LOGGING_LEVEL?"),
    ("a variable that is not a number", {"env": {"VLLM_RPC_TIMEOUT": "10s"}},
     "VLLM_RPC_TIMEOUT takes a whole number", "write digits alone"),
    ("hidden GPUs", {"env": {"CUDA_VISIBLE_DEVICES": "0,1"}},
     "CUDA_VISIBLE_DEVICES hides GPUs of the pod", "remove it and set deployment.inference.gpu.perPod"),
    ("a model that is too new", {"model": "deepseek-ai/DeepSeek-V3.2"},
     "vLLM 0.7.2 does not support deepseek-ai/DeepSeek-V3.2 (DeepseekV32ForCausalLM)",
     "use an image with vLLM 0.11.0 or newer"),
    ("an image of NVIDIA", {"image": "nvcr.io/nvidia/vllm:25.10-py3"},
     "the image name nvcr.io/nvidia/vllm:25.10-py3 contains no vLLM version",
     "set deployment.inference.engine.version"),
    ("an image of SGLang", {"image": "lmsysorg/sglang:v0.4.5"},
     "lmsysorg/sglang:v0.4.5 is an image of SGLang", "use an image of vLLM"),
    ("a version that is not known yet", {"image": "vllm:v0.99.0"},
     f"vLLM 0.99.0 is newer than the versions that are known here (0.6.6 to {release.text(release.newest())})",
     "check the figures"),
    ("two versions", {"version": "0.9.2"}, "it is 0.9.2, and the image's name says 0.7.2", "remove it, unless"),
]  # fmt: skip
"""What users of vLLM are known to get wrong, with what the preview says."""


@pytest.mark.parametrize(("changes", "problem", "fix"), [row[1:] for row in MISTAKES], ids=[row[0] for row in MISTAKES])
def test_a_mistake_is_said(changes: dict[str, Any], problem: str, fix: str) -> None:
    found = [f for f in stack_findings(guide(**changes)) if f.problem.startswith(problem)]
    assert len(found) == 1, stack_findings(guide(**changes))
    assert found[0].fix.startswith(fix)


def test_a_value_that_may_be_a_secret_is_not_repeated() -> None:
    given = guide(extra_args=["--seed=hunter2", "--tool-call-parser=hunter2", "--nothing=hunter2"])
    assert errors(given)
    assert "hunter2" not in str(stack_findings(given))


def command_lines(known: release.Release) -> Iterator[list[str]]:
    """Every argument of this version with one of four values, and some of those that other versions have."""
    for number, (name, argument) in enumerate(known.arguments.items()):
        kind = argument.choices[-1] if argument.choices else 8
        yield ([name], [name, "1"], [f"{name}=abc"], [f"{name}={kind}"])[number % 4]
    others = (name for name in release.names("arguments") if name not in known.arguments)
    yield from ([f"{name}=1"] for name in [*others][::8])


@pytest.mark.parametrize("version", [(0, 7, 2), (0, 11, 0), release.newest()])
def test_arguments_are_refused_exactly_where_the_parser_refuses_them(version: release.Version) -> None:
    """``make facts`` compares this parser with that of the wheels, on all versions and with more values."""
    known = release.Release(version=version)
    for words in command_lines(known):
        argument, is_taken = known.arguments.get(words[0].partition("=")[0]), refusal(known, words) is None
        if argument and argument.name in NAMED and is_taken:
            continue  # the engine knows a list that its parser does not have
        assert (not list(problems(known, words))) == is_taken, words


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("nvcr.io/nvidia/vllm:25.10-py3", None),
        ("registry/vllm:2025.03.01", None),
        ("registry/vllm:20250301", None),
        ("vllm/vllm-openai:nightly", None),
        ("vllm/vllm-openai@sha256:" + "0" * 64, None),
        ("vllm/vllm-openai:v0.11.0@sha256:" + "0" * 64, (0, 11, 0)),
        ("vllm/vllm-openai:v0.8.5.post1", (0, 8, 5)),
        ("vllm/vllm-openai:v0.20.2-cu129", (0, 20, 2)),
        ("nvcr.io/nvidia/tritonserver:25.01-vllm-python-py3", None),
    ],
)
def test_versions_in_names_of_images(image: str, version: release.Version | None) -> None:
    assert version_of(image) == version


@pytest.mark.parametrize(
    ("image", "engine"),
    [
        ("lmsysorg/sglang:v0.4.5", "SGLang"),
        ("registry/llm:sglang-v0.4.5", "SGLang"),
        ("openmmlab/lmdeploy:v0.9.0", "LMDeploy"),
        ("nvcr.io/nvidia/tensorrt-llm/release:1.0.0", "TensorRT-LLM"),
        ("ghcr.io/huggingface/text-generation-inference:3.3", "Text Generation Inference"),
        ("vllm/vllm-openai:v0.11.0", None),
        ("registry/sglang-mirror/vllm-openai:v0.11.0", None),
        ("registry/integration:1", None),
    ],
)
def test_images_of_other_engines(image: str, engine: str | None) -> None:
    assert other_engine(image) == engine


def test_the_version_can_be_told() -> None:
    told = working(guide(image="nvcr.io/nvidia/vllm:25.10-py3", version="0.11.0"))
    assert told.engine.vllm.version == (0, 11, 0)
    assert not any("no vLLM version" in text for text in warnings(told))


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (
            "vllm:v0.7.3",
            ["--enable-reasoning", "--reasoning-parser=deepseek_r1", "--no-enable-prefix-caching",
             "--enable-chunked-prefill=false", "--num-speculative-tokens=2"],
        ),
        (
            "vllm:v0.9.2",
            ["--reasoning-parser=deepseek_r1", "--no-enable-prefix-caching", "--no-enable-chunked-prefill",
             '--speculative-config={"method": "deepseek_mtp", "num_speculative_tokens": 2}'],
        ),
        (
            "vllm:v0.33.0",
            ["--reasoning-parser=deepseek_r1", "--no-enable-prefix-caching", "--no-enable-chunked-prefill",
             '--speculative-config={"method": "mtp", "num_speculative_tokens": 2}'],
        ),
    ],
)  # fmt: skip
def test_features_are_written_for_the_version(image: str, expected: list[str]) -> None:
    features = {"reasoning_parser": "deepseek_r1", "prefix_caching": False, "chunked_prefill": False}
    found = guide(image=image, speculative_tokens=2, **features)
    assert list(found.engine.arguments) == expected
    known = release.release(found.engine.vllm.version)
    assert known is not None
    assert refusal(known, expected) is None


def test_tools_are_called_with_a_parser_and_a_template() -> None:
    tools = {"parser": "deepseek_v3", "chatTemplate": "/templates/r1.jinja"}
    found = working(guide(image="vllm:v0.11.0", tool_calling=tools, prefix_caching=True, chunked_prefill=True))
    assert found.engine.arguments == (
        "--enable-auto-tool-choice",
        "--tool-call-parser=deepseek_v3",
        "--chat-template=/templates/r1.jinja",
        "--enable-prefix-caching",
        "--enable-chunked-prefill",
    )


def test_prediction_ahead_is_counted() -> None:
    without = working(guide(image="vllm:v0.33.0"))
    ahead = working(guide(image="vllm:v0.33.0", speculative_tokens=1))
    assert without.memory is not None
    assert ahead.memory is not None
    assert ahead.memory.tokens[1] < without.memory.tokens[1]


def test_what_the_program_sets_is_known_by_all_names() -> None:
    known = [release.Release(version=version) for version in release.versions()]
    written = [one.arguments[name] for one in known for name in PROGRAM_FLAGS if name in one.arguments]
    assert {other for argument in written for other in argument.names} <= set(PROGRAM_FLAGS)
    (found,) = errors(guide(image="vllm:v0.33.0", backend="mp", extra_args=["--device-memory-utilization=0.5"]))
    assert str(found) == (
        "deployment.inference.engine.extraArgs: --device-memory-utilization is set by the program itself; remove it "
        "and set deployment.inference.engine.gpuMemoryUtilization"
    )


def test_a_feature_is_not_also_an_argument() -> None:
    found = errors(guide(reasoning_parser="deepseek_r1", image="vllm:v0.9.2", extra_args=["--reasoning-parser=qwen3"]))
    assert [str(f) for f in found] == [
        "deployment.inference.engine.extraArgs: --reasoning-parser is set by the program itself; remove it and set "
        "deployment.inference.engine.reasoningParser"
    ]
