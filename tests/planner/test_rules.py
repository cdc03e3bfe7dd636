"""Each rule, kept and broken."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from planner.case import Choices
from planner.engine import CURRENT, Engine, argument_problem, serving_changes
from planner.plan import check, resolve
from planner.rules import LAYOUT_RULES, RULES

GUIDE = Choices(
    model="deepseek-ai/DeepSeek-R1",
    series="GU8TF",
    throughput_mib_s=300,
    cards=8,
    tensor=8,
    pipeline=2,
    image="registry-cn-hangzhou.ack.aliyuncs.com/ack-demo/vllm:v0.7.2",
    max_model_len=2048,
    gpu_memory_utilization=0.95,
    enforce_eager=True,
    name="deepseek-r1",
)
NEW: dict[str, Any] = {"image": "vllm-openai:v0.33.0"}
QWEN_FP8: dict[str, Any] = {"model": "Qwen/Qwen3-235B-A22B-FP8", "pipeline": 1, **NEW}

BROKEN: dict[str, tuple[dict[str, Any], str, str]] = {
    "model-known": (
        {"model": "deepseek-ai/DeepSeek-R2"},
        "deepseek-ai/DeepSeek-R2 is not in planner/models.toml, so its size is unknown",
        "did you mean deepseek-ai/DeepSeek-R1? Otherwise set deployment.model.weightsGiB",
    ),
    "config-readable": (
        {"config_file": "/nowhere/config.json"},
        "/nowhere/config.json cannot be read: No such",
        "give",
    ),
    "model-size": (
        {"weights_gib": 64.1},
        "64.1 GiB are not the 641.3 GiB of deepseek-ai/DeepSeek-R1",
        "remove it, or write deployment.model.name of the model that is meant",
    ),
    "arguments": (
        {"extra_args": ("--max-num-seqs 8",)},
        "item 1 has a flag and its value with a space between, which vLLM takes for one word",
        "write --flag=value, or the value as an item of its own",
    ),
    "port": ({"port": 6379}, "port 6379 is taken by Ray in a group of several pods", "write another one"),
    "startup-close": (
        {"startup_seconds": 2200},
        "of 2200 s, 11 s are left after reading for the other pods, NCCL, profiling and slower reads",
        "leave it out (3884 s) unless starts were measured",
    ),
    "cards": (
        {"cards": 16},
        "ACS has no pod with 16 cards of series GU8TF and would reject it",
        "write one of 1, 2, 4, 8",
    ),
    "whole-pods": (
        {"tensor": 4, "pipeline": 3},
        "tensor 4 × pipeline 3 = 12 GPUs do not fill whole pods of 8 cards",
        "choose tensor × pipeline = 8 (1 pod) or 16 (2 pods), or change deployment.inference.gpu.cards",
    ),
    "heads": (
        {"tensor": 12},
        "vLLM: Total number of attention heads (128) must be divisible by tensor parallel size (12).",
        "choose tensor ",
    ),
    "kv-heads": (
        {"model": "Qwen/Qwen3-Coder-480B-A35B-Instruct", "tensor": 12, "pipeline": 2, **NEW},
        "8 KV heads can be neither split nor copied evenly over 12 GPUs",
        "choose tensor ",
    ),
    "layers": (
        {"pipeline": 64},
        "64 stages are more than the model's 61 layers, so some would be empty",
        "choose tensor ",
    ),
    "widths": (
        {"model": "deepseek-ai/DeepSeek-V2-Lite", "tensor": 16, "pipeline": 1, "series": "P16EN", "cards": 16},
        "",
        "",
    ),
    "quantised-shards": (
        QWEN_FP8,
        "split over 8 GPUs, a part of 192 is not whole blocks of 128; vLLM: Weight output_partition_size = 192 is not "
        "divisible by weight quantization block_n = 128.",
        "choose tensor ",
    ),
    "context": (
        {"max_model_len": 200_000},
        "vLLM: User-specified max_model_len (200000) is greater than the derived max_model_len (163840)",
        "write 163840 or less",
    ),
    "utilization": ({"gpu_memory_utilization": 1.5}, "1.5 is not a share of memory", "write for example 0.9"),
    "batched-tokens": (
        {"extra_args": ("--max-num-batched-tokens=1024",)},
        "vLLM: max_num_batched_tokens (1024) must be greater than or equal to max_model_len (2048)",
        "write --max-num-batched-tokens=2048 or more",
    ),
    "expert-parallel": (
        {"extra_args": ("--enable-expert-parallel",)},
        "--enable-expert-parallel: vLLM 0.7.2 has no such argument",
        "remove it",
    ),
    "capability": (
        {"series": "A800"},
        "fp8 weights on A800: vLLM: The quantization method fp8 is not supported for the current GPU. Minimum "
        "capability: 89. Current capability: 80.",
        "choose a newer GPU series",
    ),
    "fp8-cache": (
        {"extra_args": ("--kv-cache-dtype", "fp8")},
        "vLLM 0.7.2 fails at the first request: FP8 Triton MLA not yet supported",
        "remove --kv-cache-dtype",
    ),
    "memory": (
        {"pipeline": 1, **NEW, "max_model_len": 163_840},
        "deepseek-ai/DeepSeek-R1 does not fit: of 90.2 GiB on the tightest GPU, weights take 79.6; at best ",
        "choose tensor ",
    ),
    "layout-known": (
        {"series": "H2000", "cards": None},
        "how many GPUs are needed depends on the memory of a card, which is not known for series H2000",
        "set it, or set all of gpu.cards, parallelism.tensor and parallelism.pipeline",
    ),
    "memory-bound": (
        {"model": "mine", "weights_gib": 2000.0},
        "the weights alone need 125.0 GiB on each GPU, which has 90.2 usable",
        "choose tensor ",
    ),
    "pod-size": (
        {"cpu": 200},
        "ACS has no pod with 8 cards of series GU8TF, 200 vCPUs and 512 GiB",
        "choose from: 64 vCPUs with 64, 128, 256, 512 GiB; ",
    ),
    "shared-memory": (
        {"shared_memory_gib": 512},
        "512 GiB of shared memory leave nothing of the pod's 512 GiB, of which they are a part",
        "write less sharedMemory than memory",
    ),
    "rdma": (
        {"network": "rdma", "cards": 4},
        "ACS has RDMA for pods of series GU8TF only with 8 cards, and these have 4",
        "write deployment.inference.gpu.cards: 8, or network: standard",
    ),
    "name": ({"name": "x" * 52}, f"{'x' * 52} has 52 characters, a LeaderWorkerSet at most 51", "write a shorter name"),
    "backend": (
        {"backend": "mp"},
        "vLLM 0.7.2 cannot form one engine of several pods with the mp backend",
        "write backend: ray, or use an image with vLLM 0.12.0 or newer",
    ),
    "startup": (
        {"startup_seconds": 600},
        "the startup probe would end the pod after 600 s, while reading 641.3 GiB at 300 MiB/s takes 2189 s",
        "write 3884, or leave it out, or raise deployment.storage.throughputMiBps",
    ),
    "drain": (
        {"drain_seconds": 30, "request_seconds": 600},
        "pods are given 30 s to end their requests, which may take 600 s",
        "leave it out, or write 645 or more",
    ),
    "available-gpus": (
        {"available_gpus": 32, "replicas": 2, "max_surge": 1},
        "2 replicas and 1 more during an update need 48 GPUs, of 32",
        "lower replicas or maxSurge; each group needs 16 GPUs",
    ),
    "scale-to-zero": (
        {"scaling": "queue", "least_replicas": 0},
        "with no group left, the first answer takes 37 to 95 minutes, and requests fail until then",
        "write 1 where that is too long",
    ),
    "model-modelled": (
        {"model": "mine", "weights_gib": 100.0},
        "the memory of mine is bounded, not predicted: only its size is known",
        "check the engine's own figures",
    ),
    "series-known": (
        {"series": "H20"},
        "H20 is not in planner/acs.toml; it is passed to ACS unchecked; it is sized as H20",
        "did you mean GU8TF? Otherwise check the name",
    ),
    "memory-close": (
        {"pipeline": 1, "gpu_memory_utilization": 0.92, **NEW},
        "too close to say whether it fits: 0 to ",
        "lower maxModelLen, or choose tensor ",
    ),
    "experts-even": (
        {"model": "Qwen/Qwen3-235B-A22B", "extra_args": ("--enable-expert-parallel",), "tensor": 3, **NEW},
        "128 experts over 3 GPUs are uneven",
        "choose a tensor parallel size that divides 128",
    ),
    "tensor-in-pod": (
        {"tensor": 16, "pipeline": 1},
        "16 is more than the 8 cards of a pod, so each layer waits for the network",
        "prefer pipeline parallelism between pods",
    ),
    "graphs": (
        {"enforce_eager": False, "gpu_memory_utilization": 0.99},
        "vLLM 0.7.2 captures CUDA graphs outside this share, where 1.0 GiB are left",
        "lower it, or set enforceEager",
    ),
    "uncounted-flags": (
        {"extra_args": ("--speculative-config={}",)},
        "--speculative-config changes memory in a way that the plan does not count",
        "check the engine's own figures",
    ),
    "image-version": (
        {"image": "registry/engine:stable"},
        "the name of registry/engine:stable tells no version of vLLM; the plan assumes vLLM "
        + ".".join(map(str, CURRENT)),
        "use a tag such as",
    ),
    "image-hardware": (
        {"series": "P16EN"},
        "series P16EN needs an inference-xpu image, which registry",
        "choose one from ACS's list",
    ),
    "pod-rounded": (
        {"cpu": 64, "memory_gib": 300},
        "64 vCPUs and 300 GiB are no legal size; ACS rounds up to 64 vCPUs and 512 GiB and bills that",
        "write the size that is billed",
    ),
    "update-downtime": (
        {"request_seconds": 600},
        "a change of the pods takes the only group down until the model is loaded again, 37 to 65 min",
        "set maxSurge: 1 and maxUnavailable: 0 if 16 more GPUs can be had",
    ),
    "update-reaches": (
        {"replicas": 2, "partition": 2},
        "only groups from number 2 on are updated, and there are 2, counted from 0",
        "write a lower number",
    ),
    "ending": (
        {"request_seconds": 600},
        "vLLM 0.7.2 takes new requests on open connections while it ends, until all are done or 600 s are over",
        "use an image whose tag tells vLLM 0.18.0 or newer",
    ),
    "budget-refuses": (
        {"evictable_groups": 0},
        "0 refuses every eviction, so the drain of a node waits until somebody deletes the group by hand",
        "tell those who maintain the nodes, or write 1",
    ),
    "budget-spares": (
        {"evictable_groups": 2, "replicas": 2},
        "evictions may take all 2 groups, so the budget protects nothing",
        "run more replicas than maxUnavailable, or write 0",
    ),
}
V4_PRO: dict[str, Any] = {"model": "deepseek-ai/DeepSeek-V4-Pro", "series": "GU8TEF", **NEW}
BROKEN |= {
    "output-groups": (
        {**V4_PRO, "tensor": 32, "pipeline": 1},
        "the 16 groups of the output projection cannot be split over 32 GPUs",
        "choose tensor ",
    ),
    "cache-format": (
        {**V4_PRO, "image": "vllm/vllm-openai:v0.29.0"},
        "vLLM 0.29.0 keeps DeepSeek-V4's cache in FP8 only and refuses auto",
        "write --kv-cache-dtype=fp8",
    ),
    "model-version": (
        {**V4_PRO, "image": "vllm/vllm-openai:v0.19.1"},
        "vLLM 0.19.1 does not know deepseek-ai/DeepSeek-V4-Pro",
        "use an image with vLLM 0.20.0 or newer",
    ),
    "data-parallel": (
        {"extra_args": ("--data-parallel-size=8",), **NEW},
        "--data-parallel-size 8 starts 8 engines, which need 128 GPUs; a replica has 16; what fits on them is not",
        "remove it and set deployment.inference.replicas to 8",
    ),
}
BROKEN["widths"] = (
    {"model": "meta-llama/Llama-3.1-8B", "tensor": 32, "pipeline": 1, "config_file": "{config}", **NEW},
    "the feed-forward width 14344 is not divisible by tensor parallel size 32",
    "choose tensor ",
)


def written(changes: dict[str, Any], folder: Path) -> dict[str, Any]:
    """``changes`` with the path of a config.json whose feed-forward width does not split by 32."""
    if changes.get("config_file") != "{config}":
        return changes
    path = folder / "config.json"
    config = {
        "model_type": "llama",
        "num_hidden_layers": 32,
        "hidden_size": 4096,
        "intermediate_size": 14344,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "max_position_embeddings": 8192,
    }
    path.write_text(json.dumps(config), encoding="utf-8")
    return {**changes, "config_file": str(path)}


def test_every_rule_is_here() -> None:
    assert set(BROKEN) == {rule.id for rule in RULES}
    assert len({rule.id for rule in RULES}) == len(RULES)
    assert all(rule.statement.endswith(".") and rule.source for rule in RULES)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_rule_is_broken(rule: Any, tmp_path: Path) -> None:
    changes, problem, fix = BROKEN[rule.id]
    case = resolve(dataclasses.replace(GUIDE, **written(changes, tmp_path)))
    assert rule.check(case) is not None
    found = [f for f in check(case, severity=rule.severity) if f.path == rule.path and f.problem.startswith(problem)]
    assert found, check(case, severity=rule.severity)
    assert found[0].fix.startswith(fix)
    assert "{" not in found[0].problem + found[0].fix.replace("{}", "")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_rule_is_kept(rule: Any) -> None:
    everything_given = dataclasses.replace(
        GUIDE,
        cpu=64,
        memory_gib=512,
        shared_memory_gib=32,
        network="rdma",
        startup_seconds=4000,
        drain_seconds=600,
        request_seconds=600,
        replicas=2,
        available_gpus=48,
        max_surge=1,
        partition=1,
        evictable_groups=1,
        image=NEW["image"],
    )
    assert rule.check(resolve(everything_given)) is None


@pytest.mark.parametrize(
    ("model", "works", "fails"),
    [
        ("deepseek-ai/DeepSeek-R1", 16, 32),
        ("Qwen/Qwen3-235B-A22B-FP8", 4, 8),
        ("Qwen/Qwen3-Coder-480B-A35B-Instruct-FP8", 4, 8),
        ("MiniMaxAI/MiniMax-M2.5", 4, 8),
    ],
)
def test_fp8_blocks_as_the_recipes_say(model: str, works: int, fails: int) -> None:
    """https://github.com/vllm-project/vllm/issues/12256 and the models' pages in vllm-project/recipes."""
    rule = next(rule for rule in RULES if rule.id == "quantised-shards")
    for tensor, broken in ((works, False), (fails, True)):
        case = resolve(dataclasses.replace(GUIDE, model=model, tensor=tensor, pipeline=1, cards=tensor))
        assert (rule.check(case) is not None) == broken


def test_whole_experts_per_gpu_need_no_whole_blocks_of_experts() -> None:
    rule = next(rule for rule in RULES if rule.id == "quantised-shards")
    changes = {**QWEN_FP8, "extra_args": ("--enable-expert-parallel",)}
    assert rule.check(resolve(dataclasses.replace(GUIDE, **changes))) is None


@pytest.mark.parametrize(
    ("image", "arguments", "broken"),
    [
        ("vllm:v0.22.0", ("--kv-cache-dtype=fp8",), set()),
        ("vllm:v0.33.0", (), set()),
        ("vllm:v0.33.0", ("--kv-cache-dtype=bfloat16",), {"cache-format"}),
        ("vllm:v0.33.0", ("--block-size=64",), {"cache-format"}),
        ("vllm:v0.19.0", (), {"cache-format", "model-version"}),
    ],
)
def test_what_versions_know_of_deepseek_v4(image: str, arguments: tuple[str, ...], broken: set[str]) -> None:
    case = resolve(dataclasses.replace(GUIDE, **{**V4_PRO, "image": image, "extra_args": arguments}))
    assert {rule.id for rule in RULES if rule.severity == "error" and rule.check(case)} == broken


@pytest.mark.parametrize(("version", "fails"), [("0.23.0", True), ("0.24.0", False)])
def test_shared_experts_of_deepseek_v4_are_padded_later(version: str, fails: bool) -> None:
    """https://github.com/vllm-project/vllm/issues/40955: 3072 over 16 GPUs is 192, not whole blocks of 128."""
    rule = next(rule for rule in RULES if rule.id == "quantised-shards")
    arguments = ("--kv-cache-dtype=fp8",)
    changes = {**V4_PRO, "tensor": 16, "pipeline": 1, "image": f"vllm:v{version}", "extra_args": arguments}
    values = rule.check(resolve(dataclasses.replace(GUIDE, **changes)))
    assert (values is not None) == fails
    assert values is None or "192 is not divisible by weight quantization block_" in str(values["said"])


def test_deepseek_v4_needs_hopper() -> None:
    rule = next(rule for rule in RULES if rule.id == "capability")
    values = rule.check(resolve(dataclasses.replace(GUIDE, **{**V4_PRO, "series": "GN8IS"})))
    assert values is not None
    assert "needs a capability of 9.0, it has 8.9" in str(values["why"])


def test_a_recipe_with_data_parallelism_is_never_said_to_fit() -> None:
    """https://github.com/vllm-project/recipes/issues/381: this did not start with one image of April 2026, and did
    later. Eight engines of one GPU each are none of this program's layouts, whether or not the model fits on them."""
    arguments = ("--data-parallel-size=8", "--enable-expert-parallel", "--kv-cache-dtype=fp8")
    changes = {**V4_PRO, "max_model_len": 800_000, "cards": 8, "extra_args": arguments}
    for tensor in (1, 8):
        layout = {"tensor": tensor, "pipeline": 1}
        findings = check(resolve(dataclasses.replace(GUIDE, **changes, **layout)), severity="error")  # type: ignore[arg-type]
        assert any(
            f.problem.startswith(f"--data-parallel-size 8 starts 8 engines, which need {8 * tensor} GPUs")
            for f in findings
        )
    unparallel = dataclasses.replace(GUIDE, extra_args=("--data-parallel-size=1",), **NEW)
    assert next(rule for rule in RULES if rule.id == "data-parallel").check(resolve(unparallel)) is None


def test_old_cards_need_another_type_on_the_old_engine() -> None:
    rule = next(rule for rule in RULES if rule.id == "capability")
    old = dataclasses.replace(GUIDE, model="Qwen/Qwen3-0.6B", series="T4", cards=1, tensor=1, pipeline=1)
    values = rule.check(resolve(old))
    assert values is not None
    assert "Bfloat16 is only supported" in str(values["why"])
    assert rule.check(resolve(dataclasses.replace(old, extra_args=("--dtype=half",)))) is None
    assert rule.check(resolve(dataclasses.replace(old, image="vllm-openai:v0.33.0"))) is None


@pytest.mark.parametrize(
    ("changes", "problem", "fix"),
    [
        (
            {"series": "P16EN"},
            "ACS has RDMA for pods of series P16EN only with 16 cards, and these have 8",
            "write deployment.inference.gpu.cards: 16, or network: standard",
        ),
        (
            {"series": "GN8IS", "pipeline": 3},
            "ACS has no RDMA for pods of series GN8IS",
            "write one of the series GU8TF, GU8TEF, GX8SF, P16EN, or network: standard",
        ),
    ],
)
def test_rdma_by_series(changes: dict[str, Any], problem: str, fix: str) -> None:
    findings = check(resolve(dataclasses.replace(GUIDE, network="rdma", **changes)), severity="error")
    (found,) = [f for f in findings if f.path == "deployment.inference.network"]
    assert (found.problem, found.fix) == (problem, fix)


@pytest.mark.parametrize(("series", "cards"), [("GU8TF", 8), ("GU8TEF", 8), ("GX8SF", 8), ("P16EN", 16), ("NEW1", 12)])
def test_rdma_is_let_pass(series: str, cards: int) -> None:
    rule = next(rule for rule in RULES if rule.id == "rdma")
    case = resolve(dataclasses.replace(GUIDE, network="rdma", series=series, cards=cards))
    assert rule.check(case) is None


def test_cards_that_are_left_out_have_rdma() -> None:
    open_layout = {"cards": None, "tensor": None, "pipeline": None}
    small = dataclasses.replace(GUIDE, model="Qwen/Qwen3-0.6B", network="rdma", **open_layout)  # type: ignore[arg-type]
    assert resolve(small).layout.cards == 8


def test_layout_rules_stop_deployments() -> None:
    assert len(LAYOUT_RULES) == 13
    assert all(rule.severity == "error" for rule in LAYOUT_RULES)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("max-num-seqs=8",), "item 1 belongs to no argument"),
        (("--seed=1", "8"), "item 2 belongs to no argument"),
        (("--seed", "1", "--max num seqs=8"), "item 3 has a flag and its value with a space between"),
        (("--max-num-seqs",), "--max-num-seqs has no whole number above 0"),
        (("--max_num_seqs=eight",), "--max-num-seqs has no whole number above 0"),
        (("--max-num-batched-tokens", "0"), "--max-num-batched-tokens has no whole number above 0"),
        (("-dcp=-1",), "-dcp has no whole number above 0"),
        (("--max-num-seqs=8k",), "--max-num-seqs has no whole number above 0"),
        (("--max-num-batched-tokens=8k",), None),
        (("--max-num-batched-tokens", "8K"), None),
        (("--lora-modules", "a=/a", "b=/b", "--enable-lora", "--hf-overrides={'a': 1}", "-ep"), None),
        (("--kv-cache-dtype=fp8", "--max-num-seqs", "8", "--reasoning-parser=deepseek_r1"), None),
    ],
)
def test_arguments(arguments: tuple[str, ...], problem: str | None) -> None:
    found = argument_problem(arguments, Engine())
    assert (found is None) == (problem is None)
    assert not found or (problem and found[0].startswith(problem))


@pytest.mark.parametrize(
    ("changes", "is_taken"),
    [
        ({"port": 8265}, True),
        ({"port": 10001}, True),
        ({"port": 19999}, True),
        ({"port": 20000}, False),
        ({"port": 29501}, False),
        ({"port": 29501, "backend": "mp", **NEW}, True),
        ({"port": 6379, "backend": "mp", **NEW}, False),
        ({"port": 6379, "model": "Qwen/Qwen3-32B", "pipeline": 1}, False),
    ],
)
def test_ports_of_the_rendezvous(changes: dict[str, Any], *, is_taken: bool) -> None:
    rule = next(rule for rule in RULES if rule.id == "port")
    assert (rule.check(resolve(dataclasses.replace(GUIDE, **changes))) is not None) is is_taken


def test_a_group_that_is_larger_than_the_quota() -> None:
    (finding,) = check(resolve(dataclasses.replace(GUIDE, available_gpus=8)), severity="error")
    assert finding.fix == "a single group needs 16: choose a smaller layout, or write the cards that there are"


@pytest.mark.parametrize(("series", "meant"), [("GU8TE", "GU8TEF"), ("H20", "GU8TF")])
def test_a_series_that_may_be_another(series: str, meant: str) -> None:
    warnings = check(resolve(dataclasses.replace(GUIDE, series=series, gpu_memory_gib=96)), severity="warning")
    (fix,) = (found.fix for found in warnings if found.path == "deployment.inference.gpu.series")
    assert fix.startswith(f"did you mean {meant}? Otherwise check the name")


def test_a_shorter_context_is_one_of_the_ways() -> None:
    case = resolve(dataclasses.replace(GUIDE, **{**NEW, "pipeline": 1, "max_model_len": 163_840}))
    (finding,) = check(case, severity="error")
    assert re.search(r"^choose tensor .*, or set deployment\.inference\.engine\.maxModelLen to \d+$", finding.fix)


def test_units_of_numbers() -> None:
    assert serving_changes(["--max-num-batched-tokens=8k"]) == {"max_num_batched_tokens": 8000}
    assert serving_changes(["--max-num-batched-tokens=8K"]) == {"max_num_batched_tokens": 8192}
    assert argument_problem(["--max-num-batched-tokens=8k"], Engine(version=(0, 7, 2)))
