"""Size of the distributed cache in front of the bucket, and how long filling it may take.

The arithmetic, with DeepSeek-R1 and the default worker of 16 vCPU and 128 GiB as the example::

    quota    = memory × 0.9                                       128 GiB × 0.9 = 115 GiB
    workers  = weights ÷ (quota × 0.85), at least                 641.30 ÷ 97.75 = 7
               pods × throughput ÷ bandwidth of a worker          2 × 600 ÷ 715  = 2
    preload  = 900 s + weights ÷ throughput × 2                   900 + 641.30 × 1024 ÷ 500 × 2 = 3 527 s
"""

import math
from dataclasses import dataclass

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


@dataclass(frozen=True, kw_only=True)
class CachePlan:
    """``workers`` pods of ``cpu`` vCPUs and ``memory_gib`` GiB, ``quota_gib`` of them for blocks; ``preload_seconds``
    fill them. ``needed_workers`` of this size hold the model and have the bandwidth for all pods."""

    workers: int
    needed_workers: int
    cpu: int
    memory_gib: int
    quota_gib: int
    preload_seconds: int


def plan_cache(
    *,
    weights_gib: float,
    workers: int | None,
    cpu: int,
    memory_gib: int,
    pods: int,
    throughput_mib_s: int,
    preload_mib_s: int,
) -> CachePlan:
    """The cache for a model of ``weights_gib`` GiB. ``workers`` None is derived; ``throughput_mib_s`` is what each of
    ``pods`` pods reads, ``preload_mib_s`` what all workers together read from OSS, both in MiB/s."""
    needed = needed_workers(weights_gib=weights_gib, cpu=cpu, memory_gib=memory_gib, mib_s=pods * throughput_mib_s)
    return CachePlan(
        workers=workers or needed,
        needed_workers=needed,
        cpu=cpu,
        memory_gib=memory_gib,
        quota_gib=_quota(memory_gib),
        preload_seconds=START_SECONDS + math.ceil(weights_gib * 1024 / preload_mib_s * PRELOAD_HEADROOM),
    )


def needed_workers(*, weights_gib: float, cpu: int, memory_gib: int, mib_s: int) -> int:
    """Workers of this size that hold the model, and have the bandwidth for ``mib_s`` MiB/s in all."""
    return max(math.ceil(weights_gib / (_quota(memory_gib) * FILL)), math.ceil(mib_s / worker_mib_s(cpu)))


def _quota(memory_gib: int) -> int:
    return math.floor(memory_gib * (1 - MEMORY_HEADROOM))


def worker_mib_s(cpu: int) -> float:
    """Network bandwidth in MiB/s of a worker with ``cpu`` vCPUs; below the smallest published size in proportion."""
    smallest = min(WORKER_GBITS)
    published = [gbits for size, gbits in WORKER_GBITS.items() if size <= cpu]
    gbits = max(published) if published else WORKER_GBITS[smallest] * cpu / smallest
    return gbits * 1e9 / 8 / 2**20
