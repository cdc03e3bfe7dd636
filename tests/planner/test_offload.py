"""Cached prompts in the hosts' memory: arguments by version, and the memory of the pods."""

import json

import pytest

from deepseek_acs.planner.summary import summary
from tests.planner.specs import errors, guide

OFFLOAD = {"kv_offload_gib": 256}


@pytest.mark.parametrize(
    ("image", "shared", "private"),
    [("vllm:v0.14.0", 32, 128), ("vllm:v0.19.1", 32, 128), ("vllm:v0.20.0", 288, 0), ("vllm:v0.33.0", 288, 0)],
)
def test_where_the_memory_is(image: str, shared: int, private: int) -> None:
    spec = guide(image=image, **OFFLOAD)
    assert (spec.pod.shared_memory_gib, spec.private_offload_gib) == (shared, private)
    assert spec.engine.arguments == ("--kv-offloading-size=256", "--kv-offloading-backend=native")
    assert not [found for found in errors(spec) if "kvOffloadGiB" in str(found)]


@pytest.mark.parametrize(
    ("image", "problem", "fix"),
    [
        ("vllm:v0.11.0", "has no --kv-offloading-size yet, which was added in 0.11.1", "0.11.1 or newer"),
        ("vllm:v0.13.0", "vLLM 0.13.0 does not start with it", "use an image with vLLM 0.14.0 or newer, or remove it"),
    ],
)
def test_versions_without_it(image: str, problem: str, fix: str) -> None:
    found = [one for one in errors(guide(image=image, **OFFLOAD)) if "kvOffloadGiB" in one.path]
    assert any(problem in one.problem and fix in one.fix for one in found), found


@pytest.mark.parametrize(
    ("image", "needed", "cache"),
    [("vllm:v0.33.0", 672, 544), ("vllm:v0.19.1", 416, 288)],
)
def test_a_pod_without_that_memory(image: str, needed: int, cache: int) -> None:
    spec = guide(image=image, kv_offload_gib=512, memory="384Gi")
    (found,) = (one for one in errors(spec) if "kvOffloadGiB" in one.path)
    assert found.problem == (
        f"a pod has 384 GiB of memory, and needs {needed} GiB: {cache} GiB with the offloaded cache, and 16 GiB for "
        "the processes of each of 8 GPUs"
    )
    assert found.fix == f"write deployment.inference.resources.memory: {needed}Gi or more, or less here"


def test_the_preview_tells_it() -> None:
    assert summary(guide(image="vllm:v0.33.0", **OFFLOAD))["pod"].endswith(
        "of which /dev/shm 288 GiB, 256 GiB of cache there"
    )
    assert summary(guide(image="vllm:v0.19.1", **OFFLOAD))["pod"].endswith("32 GiB, 256 GiB of cache over all pods")
    assert "cache" not in summary(guide())["pod"]


def test_the_plan_of_the_gpus_is_the_same() -> None:
    plain, offloading = guide(image="vllm:v0.33.0"), guide(image="vllm:v0.33.0", **OFFLOAD)
    assert json.dumps(str(offloading.memory)) == json.dumps(str(plain.memory))
    assert "verdict" in summary(offloading)
    assert summary(offloading)["verdict"] == summary(plain)["verdict"], "and it counts everything"
