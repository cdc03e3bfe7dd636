"""docs/roads.md: its arithmetic is that of the planner, and each road has its picture."""

import math
import re

import pytest

from components.settings.storage import FluidCacheSettings, OssVolumeSettings
from planner.acs import OSS_GBITS, OSS_GBITS_MAINLAND
from planner.cache import PRELOAD_HEADROOM, START_SECONDS, WORKER_GBITS, plan_cache
from planner.catalogue import model
from planner.loading import load_budget
from tests.unit.conftest import ROOT

PAGE = (ROOT / "docs" / "roads.md").read_text(encoding="utf-8")
SECTIONS = dict(part.split("\n", 1) for part in PAGE.split("\n## ")[1:])
FIRST, SECOND = "The first road: OSS volume, standard network", "The second road: cache, RDMA"
ARITHMETIC = SECTIONS["The arithmetic"]
PROSE = " ".join(ARITHMETIC.split())

VCPU_USD, GIB_USD = 0.01224, 0.006
"""Of an hour, compute class performance, mainland China
(https://www.alibabacloud.com/help/en/cs/product-overview/product-billing-rules)."""

PODS, GPUS = 2, 16
GUIDES_WORKERS = 16
GPU_USD = 2
"""An hour of one GPU, in the page's example."""

VOLUME, CACHE = OssVolumeSettings(), FluidCacheSettings(kind="fluid")
R1 = model("deepseek-ai/DeepSeek-R1")
assert R1 is not None
assert R1.weights_gib is not None
WEIGHTS_GIB = R1.weights_gib
PLAN = plan_cache(
    weights_gib=WEIGHTS_GIB,
    workers=CACHE.workers,
    cpu=CACHE.cpu,
    memory_gib=CACHE.memory_gib,
    pods=PODS,
    throughput_mib_s=CACHE.throughput_mi_bps,
    preload_mib_s=CACHE.preload_mi_bps,
)


def minutes(seconds: float) -> int:
    return math.ceil(seconds / 60)


def loading(throughput_mib_s: int) -> int:
    return minutes(load_budget(weights_gib=WEIGHTS_GIB, throughput_mib_s=throughput_mib_s).read_seconds)


def usd(workers: int) -> float:
    return workers * (PLAN.cpu * VCPU_USD + PLAN.memory_gib * GIB_USD)


BY_VOLUME, BY_CACHE = loading(VOLUME.throughput_mi_bps), loading(CACHE.throughput_mi_bps)
FILLING = minutes((PLAN.preload_seconds - START_SECONDS) / PRELOAD_HEADROOM)
SAVED = BY_VOLUME - BY_CACHE
SAVED_HOURS = SAVED / 60
CACHE_USD_A_DAY = round(24 * usd(PLAN.workers))


def test_the_table() -> None:
    def reading(mib_s: int) -> str:
        return f"{WEIGHTS_GIB:.2f} × 1024 ÷ {mib_s} MiB/s"

    rates = [VOLUME.throughput_mi_bps, CACHE.throughput_mi_bps, CACHE.preload_mi_bps]
    by_formula = [minutes(WEIGHTS_GIB * 1024 / mib_s) for mib_s in rates]
    assert by_formula == [BY_VOLUME, BY_CACHE, FILLING]
    volume, cache, fill = map(reading, rates)
    w, cpu, memory = PLAN.workers, PLAN.cpu, PLAN.memory_gib
    price = f"{w} × ({cpu} × {VCPU_USD} + {memory} × {GIB_USD}) = {usd(w):.2f} USD/h"
    client = f"{CACHE.sidecar_cpu} vCPU, {CACHE.sidecar_memory.removesuffix('Gi')} GiB for the client"
    table = [line for line in ARITHMETIC.splitlines() if line.startswith("|")]
    assert table == [
        "| | `csi` | `fluid` |",
        "|---|---|---|",
        f"| filling the cache, once for each model | – | {fill} = {FILLING} min |",
        f"| loading, at each start of a pod | {volume} = {BY_VOLUME} min | {cache} = {BY_CACHE} min |",
        f"| first start | {BY_VOLUME} min | {FILLING} + {BY_CACHE} = {FILLING + BY_CACHE} min |",
        f"| each later start | {BY_VOLUME} min | {BY_CACHE} min |",
        f"| memory of the cache | – | {w} × {memory} = {w * memory} GiB |",
        f"| taken from each GPU pod | – | {client} |",
        f"| price of the cache, mainland China | – | {price} |",
    ]


def test_the_text_before_and_after_it() -> None:
    gbits = WORKER_GBITS[PLAN.cpu]
    assert f"DeepSeek-R1, {WEIGHTS_GIB:.2f} GiB, one group of two pods." in PROSE
    assert (
        f"The guide's {GUIDES_WORKERS} workers would be {usd(GUIDES_WORKERS):.2f} USD/h; {PLAN.workers} hold the"
        in PROSE
    )
    assert f"when pods need more bandwidth than {PLAN.workers} × {gbits} Gbit/s." in PROSE


def test_whether_the_cache_pays() -> None:
    saved_usd = GPUS * SAVED_HOURS
    starts = math.ceil(CACHE_USD_A_DAY / (saved_usd * GPU_USD))
    large, small = max(OSS_GBITS.values()), OSS_GBITS_MAINLAND
    pods = [gbits * 1e9 / 8 / 2**20 / VOLUME.throughput_mi_bps for gbits in (large, small)]
    assert f"A later start saves {SAVED} minutes of a group's GPUs. With {GPUS} GPUs at *P* USD an hour" in PROSE
    assert f"that is {GPUS} × {SAVED_HOURS:.1f} × *P* = {saved_usd:.1f} *P*; the cache costs" in PROSE
    assert f"costs {CACHE_USD_A_DAY} USD a day. At *P* = {GPU_USD} it pays from {starts} starts a day on." in PROSE
    assert f"share {large} Gbit/s in a large region, which is {int(pods[0])} pods at" in PROSE
    assert f"pods at {VOLUME.throughput_mi_bps} MiB/s, but {small} Gbit/s in others, which is not quite four" in PROSE
    assert 3.9 < pods[1] < 4


def test_whether_rdma_pays() -> None:
    assert R1 is not None
    value_bytes, tokens = 2, 1000
    of_a_token = R1.hidden * value_bytes
    assert f"{R1.hidden} values of {value_bytes} bytes, {of_a_token / 1024:g} KiB." in PROSE
    assert f"A thousand tokens a second are {of_a_token * tokens / 2**20:.0f} MiB/s" in PROSE
    assert f"each of the {R1.layers} layers waits for the network twice" in PROSE


@pytest.mark.parametrize("road", [FIRST, SECOND])
def test_each_road_has_one_picture(road: str) -> None:
    pictures = re.findall(r"^```mermaid\n(.*?)^```$", SECTIONS[road], re.MULTILINE | re.DOTALL)
    assert len(pictures) == 1
    assert pictures[0].startswith("flowchart ")


def test_no_other_section_has_one() -> None:
    assert PAGE.count("```mermaid") == 2


def test_figures_of_the_pictures() -> None:
    assert f'"{VOLUME.throughput_mi_bps} MiB/s per pod"' in SECTIONS[FIRST]
    second = SECTIONS[SECOND]
    assert (
        f'"{PLAN.workers} workers<br/>{PLAN.cpu} vCPU, {PLAN.memory_gib} GiB, {PLAN.quota_gib} GiB of it cache"'
        in second
    )
    assert f'"{CACHE.preload_mi_bps} MiB/s, once"' in second
    assert f'"{CACHE.throughput_mi_bps} MiB/s per pod"' in second
    for road in (FIRST, SECOND):
        assert re.findall(r"(\d+) GPUs, stage (\d)", SECTIONS[road]) == [("8", "1"), ("8", "2")]
