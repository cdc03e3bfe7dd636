"""Limits of ACS and OSS, each with its source. The rules over them: ``rules/``; all by source: docs/acs.md."""

GPU, GPU_HPN = "gpu", "gpu-hpn"
"""Compute classes with GPUs: on demand, and on a GPU-HPN capacity reservation bound to the cluster
(https://www.alibabacloud.com/help/en/cs/user-guide/gpu-hpn-capacity-reservation)."""

GPU_HPN_QOS = "default"
"""https://www.alibabacloud.com/help/en/cs/user-guide/acs-pod-instance-overview"""

HPN_GPUS_PER_POD = (1, 2, 4, 8, 16)
"""Numbers of GPUs of a GPU-HPN pod, with RDMA or without
(https://www.alibabacloud.com/help/en/cs/user-guide/pod-hpn-type-rdma)."""

FREE_EPHEMERAL_GIB = 30
"""Ephemeral storage of every pod, unpacked image included, before extra is paid for
(https://www.alibabacloud.com/help/en/cs/user-guide/increase-temporary-storage-size)."""

RESERVED_PORTS = (111, 10250, 10255)
"""Ports that no container may listen on (https://www.alibabacloud.com/help/en/cs/user-guide/acs-pod-instance-overview)."""

BEST_EFFORT = "best-effort"
EVICTION_NOTICE_SECONDS = 300
"""Notice before a best-effort pod is evicted by force
(https://www.alibabacloud.com/help/en/cs/user-guide/acs-pod-instance-overview)."""

PLAIN_CPU, PLAIN_MEMORY_GIB = 16, 128
"""Largest pod without GPUs that needs no ticket
(https://www.alibabacloud.com/help/en/cs/user-guide/acs-pod-instance-overview)."""

OSS_GBITS = {
    "cn-hangzhou": 100,
    "cn-shanghai": 100,
    "cn-shenzhen": 100,
    "cn-beijing": 100,
    "ap-southeast-1": 100,
    "cn-zhangjiakou": 20,
}
"""What all clients of an account read from OSS within a region, in Gbit/s
(https://help.aliyun.com/zh/oss/user-guide/limits)."""

OSS_GBITS_MAINLAND, OSS_GBITS_ELSEWHERE = 10, 5
"""The same in regions of mainland China that are not listed, and in all others."""


def is_mainland(region: str) -> bool:
    """Whether a region is in mainland China."""
    return region.startswith("cn-") and region != "cn-hongkong"


def oss_gbits(region: str) -> int:
    """What an account reads from OSS within ``region``, in Gbit/s."""
    return OSS_GBITS.get(region, OSS_GBITS_MAINLAND if is_mainland(region) else OSS_GBITS_ELSEWHERE)
