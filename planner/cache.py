"""Size of the distributed cache in front of the bucket, and how long filling it may take.

The arithmetic, with DeepSeek-R1 and the default worker of 16 vCPU and 128 GiB as the example::

    quota    = memory × 0.9                                       128 GiB × 0.9 = 115 GiB
    workers  = weights ÷ (quota × 0.85), at least                 641.30 ÷ 97.75 = 7
               pods × throughput ÷ bandwidth of a worker          2 × 600 ÷ 715  = 2
    preload  = 900 s + weights ÷ throughput × 2                   900 + 641.30 × 1024 ÷ 500 × 2 = 3 527 s
"""

import math
from dataclasses import dataclass

from planner.acs_rules import ticket_warnings
from planner.findings import Finding, PlanError

MEMORY_HEADROOM = 0.1
"""Of a worker's memory, for the cache's own process. The cached blocks lie in a memory-backed volume, which counts
against the same limit, so a quota as large as the memory ends with a killed worker."""

FILL = 0.85
"""Of the cache that the model may take: blocks are dealt out by hash, so no worker gets exactly its share, and a full
one evicts what it has just loaded."""

HIGH_WATERMARK, LOW_WATERMARK = 0.99, 0.95
"""Shares of the quota at which a worker begins and ends to evict, by the guide."""

WORKER_GBITS = {16: 6, 24: 8, 32: 10, 48: 16, 64: 25}
"""Network bandwidth in Gbit/s of a pod of class ``performance`` by its vCPUs
(https://www.alibabacloud.com/help/en/cs/user-guide/acs-pod-instance-overview)."""

START_SECONDS = 900
"""Until master, workers and the pod of the DataLoad run."""

PRELOAD_HEADROOM = 2
"""Factor on the expected time: the bandwidth of OSS is shared with the whole account
(https://help.aliyun.com/zh/oss/user-guide/limits)."""


USUAL_CPU, USUAL_GIB = 16, 128
"""vCPUs and memory of a worker, by the guide."""

MANY = 2
"""Times the workers of the usual size, from which on the size is rather a mistake."""


@dataclass(frozen=True, kw_only=True)
class CacheChoices:
    """What the user chose. ``workers`` None is derived; ``throughput_mib_s`` is what each of ``pods`` pods is to read,
    ``preload_mib_s`` what all workers together read from OSS, both in MiB/s; memory and weights are in GiB."""

    weights_gib: float
    workers: int | None
    cpu: int
    memory_gib: int
    pods: int
    throughput_mib_s: int
    preload_mib_s: int


@dataclass(frozen=True, kw_only=True)
class CachePlan:
    """What follows: ``workers`` workers of ``cpu`` vCPUs and ``memory_gib`` GiB, ``quota_gib`` of them for blocks, and
    ``preload_seconds`` to fill them."""

    workers: int
    cpu: int
    memory_gib: int
    quota_gib: int
    preload_seconds: int
    warnings: tuple[str, ...]


def plan_cache(choices: CacheChoices) -> CachePlan:
    """The cache for ``choices``; raises PlanError if it cannot hold the model."""
    quota = _quota(choices.memory_gib)
    derived = _workers(choices, cpu=choices.cpu, memory_gib=choices.memory_gib)
    workers = choices.workers or derived
    if workers * quota * HIGH_WATERMARK < choices.weights_gib:
        raise PlanError(
            [
                Finding(
                    path="deployment.storage.workers",
                    problem=(
                        f"{workers} workers cache {workers * quota} GiB (90% of their memory), which is less than the "
                        f"{choices.weights_gib:.0f} GiB of the model: the preload would evict what it has just loaded"
                    ),
                    fix=f"remove it, or write at least {derived}, or give each worker more memory",
                )
            ]
        )
    seconds = math.ceil(choices.weights_gib * 1024 / choices.preload_mib_s * PRELOAD_HEADROOM)
    return CachePlan(
        workers=workers,
        cpu=choices.cpu,
        memory_gib=choices.memory_gib,
        quota_gib=quota,
        preload_seconds=START_SECONDS + seconds,
        warnings=tuple(_warnings(choices, workers=workers, quota_gib=quota, derived=derived)),
    )


def _quota(memory_gib: int) -> int:
    return math.floor(memory_gib * (1 - MEMORY_HEADROOM))


def _workers(choices: CacheChoices, *, cpu: int, memory_gib: int) -> int:
    """Workers of this size that hold the model, and have the bandwidth for all pods."""
    return max(
        math.ceil(choices.weights_gib / (_quota(memory_gib) * FILL)),
        math.ceil(choices.pods * choices.throughput_mib_s / worker_mib_s(cpu)),
    )


def worker_mib_s(cpu: int) -> float:
    """Network bandwidth in MiB/s of a worker with ``cpu`` vCPUs; below the smallest published size in proportion."""
    smallest = min(WORKER_GBITS)
    published = [gbits for size, gbits in WORKER_GBITS.items() if size <= cpu]
    gbits = max(published) if published else WORKER_GBITS[smallest] * cpu / smallest
    return gbits * 1e9 / 8 / 2**20


def _warnings(choices: CacheChoices, *, workers: int, quota_gib: int, derived: int) -> list[str]:
    warnings = ticket_warnings("deployment.storage", cpu=choices.cpu, memory_gib=choices.memory_gib)
    if workers < derived:
        share = choices.weights_gib / (workers * quota_gib)
        warnings.append(
            f"deployment.storage.workers: the model takes {share:.0%} of {workers} workers; with {derived} neither "
            "space nor bandwidth is short"
        )
    if choices.workers is None and workers > MANY * (usual := _workers(choices, cpu=USUAL_CPU, memory_gib=USUAL_GIB)):
        warnings.append(
            f"deployment.storage: {workers} workers of {choices.cpu} vCPU and {choices.memory_gib} GiB follow from cpu "
            f"and memory; {usual} of {USUAL_CPU} vCPU and {USUAL_GIB} GiB do the same"
        )
    return warnings
