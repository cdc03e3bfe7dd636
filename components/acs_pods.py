"""What ACS reads of a pod to decide where it runs and what is billed: labels, annotations, node selector.

None of these labels may be used in a selector of a Service or a workload: the platform may change them
(https://www.alibabacloud.com/help/en/cs/user-guide/acs-pod-instance-overview).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from components.settings.inference import InferenceSettings
from planner.acs import GPU
from planner.catalogue import rdma_environment

COMPUTE_CLASS = "alibabacloud.com/compute-class"
COMPUTE_QOS = "alibabacloud.com/compute-qos"
"""https://www.alibabacloud.com/help/en/cs/user-guide/acs-pod-instance-overview"""

GPU_SERIES = "alibabacloud.com/gpu-model-series"
"""A label of pods of class ``gpu``, and a node selector for those of class ``gpu-hpn``
(https://www.alibabacloud.com/help/en/cs/user-guide/pod-gpu-model-and-driver-version)."""

GPU_DRIVER = "alibabacloud.com/gpu-driver-version"
"""https://www.alibabacloud.com/help/en/cs/user-guide/pod-gpu-model-and-driver-version"""

HPN_TYPE = "alibabacloud.com/hpn-type"
"""https://www.alibabacloud.com/help/en/cs/user-guide/pod-hpn-type-rdma"""

EXTRA_EPHEMERAL_STORAGE = "alibabacloud.com/extra-ephemeral-storage"
"""https://www.alibabacloud.com/help/en/cs/user-guide/increase-temporary-storage-size"""

ZONE = "topology.kubernetes.io/zone"
"""A label of the virtual nodes (https://www.alibabacloud.com/help/en/cs/user-guide/node-affinity-scheduling)."""

NETWORK_INTERFACE = "eth0"
"""The pod's interface on ACS (the guide's NCCL_SOCKET_IFNAME)."""

ACS_IMAGES = ("/inference-nv-pytorch:", "/inference-xpu-pytorch:")
"""Images of ACS, which have their network library and its settings built in; all others are open-source ones
(https://help.aliyun.com/en/cs/user-guide/acs-ai-container-image-version-release-record/)."""

GENERAL_PURPOSE = {COMPUTE_CLASS: "general-purpose", COMPUTE_QOS: "default"}
"""Labels of pods without GPUs."""

CACHE_WORKER = {COMPUTE_CLASS: "performance", COMPUTE_QOS: "default"}
"""Labels of the pods of the cache, by the guide."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Metadata and node selector of a pod."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    node_selector: Mapping[str, str]


def gpu_placement(inference: InferenceSettings) -> Placement:
    """Of the pods of the inference group."""
    gpu, storage = inference.gpu, inference.resources.extra_ephemeral_storage
    labels: dict[str, str] = {COMPUTE_CLASS: gpu.compute_class, COMPUTE_QOS: inference.qos}
    series = {GPU_SERIES: gpu.series}
    if gpu.compute_class == GPU:
        labels |= series
    if gpu.driver_version:
        labels[GPU_DRIVER] = gpu.driver_version
    if inference.network == "rdma":
        labels[HPN_TYPE] = "rdma"
    return Placement(
        labels=labels,
        annotations={EXTRA_EPHEMERAL_STORAGE: storage} if storage else {},
        node_selector=zone_selector(inference.zone) | ({} if gpu.compute_class == GPU else series),
    )


def zone_selector(zone: str | None) -> dict[str, str]:
    """Node selector for ``zone``; empty where ACS is to choose."""
    return {ZONE: zone} if zone else {}


def network_environment(inference: InferenceSettings) -> dict[str, str]:
    """Variables by which NCCL and Gloo find each other's pods."""
    environment = {"NCCL_SOCKET_IFNAME": NETWORK_INTERFACE}
    if inference.network == "rdma":
        open_source = not any(name in inference.engine.image for name in ACS_IMAGES)
        environment |= rdma_environment(inference.gpu.series, open_source_image=open_source)
    return {**environment, "GLOO_SOCKET_IFNAME": NETWORK_INTERFACE, **inference.engine.env}
