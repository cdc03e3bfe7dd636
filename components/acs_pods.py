"""Labels, annotations and node selectors from which ACS decides where a pod runs and what it costs.

None of these labels may be used in a selector of a Service or a workload: the platform may change them
(https://www.alibabacloud.com/help/en/cs/user-guide/acs-pod-instance-overview).
"""

from deepseek_acs.planner.acs import GPU
from deepseek_acs.planner.catalogue import rdma_environment
from deepseek_acs.planner.spec import ResolvedSpec

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

POD_GROUP = "pod-group.scheduling.sigs.k8s.io"
"""The PodGroup that a pod belongs to (https://help.aliyun.com/en/cs/user-guide/using-gang-scheduling)."""

GENERAL_PURPOSE = {COMPUTE_CLASS: "general-purpose", COMPUTE_QOS: "default"}
"""Labels of pods without GPUs."""

CACHE_WORKER = {COMPUTE_CLASS: "performance", COMPUTE_QOS: "default"}
"""Labels of the pods of the cache, from the guide."""


POLICY_AGENT = "alibabacloud.com/enable-network-policy-agent"
SECURITY_GROUPS = "network.alibabacloud.com/security-group-ids"
"""Annotations of pods on ACS. Without the first, whose default is false, no NetworkPolicy applies to a pod
(https://www.alibabacloud.com/help/en/cs/user-guide/pod-annotation-function-description)."""


def gpu_labels(spec: ResolvedSpec) -> dict[str, str]:
    """Labels of the pods of the inference group."""
    labels: dict[str, str] = {COMPUTE_CLASS: spec.gpu.compute_class, COMPUTE_QOS: spec.qos}
    if spec.gpu.compute_class == GPU:
        labels[GPU_SERIES] = spec.gpu.series
    if spec.gpu.driver_version:
        labels[GPU_DRIVER] = spec.gpu.driver_version
    if spec.network == "rdma":
        labels[HPN_TYPE] = "rdma"
    if spec.gang:
        labels[POD_GROUP] = spec.name
    return labels


def gpu_annotations(spec: ResolvedSpec) -> dict[str, str]:
    """Annotations of the pods of the inference group."""
    annotations = policy_annotations(spec)
    if spec.extra_ephemeral_gib:
        annotations[EXTRA_EPHEMERAL_STORAGE] = f"{spec.extra_ephemeral_gib}Gi"
    if spec.security.security_groups:
        annotations[SECURITY_GROUPS] = ",".join(spec.security.security_groups)
    return annotations


def policy_annotations(spec: ResolvedSpec) -> dict[str, str]:
    """Annotations of all pods for which network policies are to hold."""
    return {POLICY_AGENT: "true"} if spec.security.network_policy is not None else {}


def gpu_node_selector(spec: ResolvedSpec) -> dict[str, str]:
    """Node selector of the pods of the inference group."""
    series = {} if spec.gpu.compute_class == GPU else {GPU_SERIES: spec.gpu.series}
    return zone_selector(spec.zone) | series


def zone_selector(zone: str | None) -> dict[str, str]:
    """Node selector for ``zone``; empty if ACS chooses."""
    return {ZONE: zone} if zone else {}


def network_environment(spec: ResolvedSpec) -> dict[str, str]:
    """Variables with which NCCL and Gloo find the other pods; the user's take precedence."""
    environment = {"NCCL_SOCKET_IFNAME": NETWORK_INTERFACE}
    if spec.network == "rdma":
        open_source = not any(name in spec.engine.image for name in ACS_IMAGES)
        environment |= rdma_environment(spec.gpu.series, open_source_image=open_source)
    return {**environment, "GLOO_SOCKET_IFNAME": NETWORK_INTERFACE, **spec.engine.env}
