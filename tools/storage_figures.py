"""The table of docs/storage-and-network.md: time and price of the OSS volume and of the cache, by the planner's
arithmetic with the default settings."""

import math
from collections.abc import Iterator

from deepseek_acs.planner.acs import OSS_GBITS, OSS_GBITS_MAINLAND
from deepseek_acs.planner.catalogue import model
from deepseek_acs.planner.fluid import WORKER_GBITS, plan_cache
from deepseek_acs.settings.storage import FluidCacheSettings, OssVolumeSettings

MODEL = "deepseek-ai/DeepSeek-R1"
PODS, GPUS = 2, 16
GUIDES_WORKERS = 16
GPU_USD = 2
"""An hour of one GPU, as an example."""

VCPU_USD, GIB_USD = 0.01224, 0.006
"""Of an hour, compute class performance, mainland China
(https://www.alibabacloud.com/help/en/cs/product-overview/product-billing-rules)."""


def figures() -> str:
    """The table, in Markdown."""
    rows = [f"| {what} | {volume} | {cache} |" for what, volume, cache in _rows()]
    return "\n".join(["| | `csi` | `fluid` |", "|---|---|---|", *rows, ""])


def _rows() -> Iterator[tuple[str, str, str]]:
    known = model(MODEL)
    if known is None or known.weights_gib is None:
        raise LookupError(f"deepseek_acs/planner/models.toml has no size of {MODEL}")
    gib = known.weights_gib
    volume, cache = OssVolumeSettings(), FluidCacheSettings(kind="fluid")
    plan = plan_cache(
        weights_gib=gib,
        workers=cache.workers,
        cpu=cache.cpu,
        memory_gib=cache.memory_gib,
        pods=PODS,
        throughput_mib_s=cache.throughput_mi_bps,
        preload_mib_s=cache.preload_mi_bps,
    )
    rates = (cache.preload_mi_bps, volume.throughput_mi_bps, cache.throughput_mi_bps)
    fill, by_volume, by_cache = (math.ceil(gib * 1024 / rate / 60) for rate in rates)
    filling, reading, reading_cache = (f"{gib:.2f} × 1024 ÷ {rate} MiB/s" for rate in rates)
    worker_usd = plan.cpu * VCPU_USD + plan.memory_gib * GIB_USD
    hour_usd = plan.workers * worker_usd
    saved = GPUS * (by_volume - by_cache) / 60
    yield "filling the cache, once for each model", "–", f"{filling} = {fill} min"
    yield "loading, at each start of a pod", f"{reading} = {by_volume} min", f"{reading_cache} = {by_cache} min"
    yield "first start", f"{by_volume} min", f"{fill} + {by_cache} = {fill + by_cache} min"
    yield "each later start", f"{by_volume} min", f"{by_cache} min"
    yield "workers of the cache", "–", f"{plan.workers} of {plan.cpu} vCPU and {plan.memory_gib} GiB"
    yield "memory of the cache", "–", f"{plan.workers} × {plan.memory_gib} = {plan.workers * plan.memory_gib} GiB"
    yield "network of the cache", "–", f"{plan.workers} × {WORKER_GBITS[plan.cpu]} Gbit/s"
    client = f"{cache.sidecar_cpu} vCPU, {cache.sidecar_memory.removesuffix('Gi')} GiB for the client"
    yield "taken from each GPU pod", "–", client
    price = f"{plan.workers} × ({plan.cpu} × {VCPU_USD} + {plan.memory_gib} × {GIB_USD}) = {hour_usd:.2f} USD/h"
    yield "price of the cache, mainland China", "–", price
    yield f"the same with the guide's {GUIDES_WORKERS} workers", "–", f"{GUIDES_WORKERS * worker_usd:.2f} USD/h"
    yield "GPU time saved by each later start", "–", f"{GPUS} × {by_volume - by_cache} min = {saved:.1f} h"
    starts = math.ceil(24 * hour_usd / (saved * GPU_USD))
    yield f"starts a day from which the cache pays, at {GPU_USD} USD for a GPU hour", "–", f"{starts}"
    for where, gbits in (("a large region", max(OSS_GBITS.values())), ("other regions", OSS_GBITS_MAINLAND)):
        pods = math.floor(gbits * 1e9 / 8 / 2**20 / volume.throughput_mi_bps)
        yield (
            f"pods that share OSS in {where}, {gbits} Gbit/s for an account",
            f"{pods}",
            "no limit: they read the cache",
        )
