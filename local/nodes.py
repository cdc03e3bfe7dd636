"""Simulated nodes that look like the virtual nodes of ACS: labels, GPU capacity, nothing behind them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MANAGED = {"kwok.x-k8s.io/node": "fake"}
"""kwok keeps nodes with this annotation alive and runs their pods; we remove only nodes with it."""

FIELD_MANAGER = "deepseek-local"
PODS = "110"
GPU_CPU = "192"
GPU_MEMORY = "1900Gi"
"""Room of one GPU node: that of the largest pod of ACS, so that only GPUs are ever scarce
(https://www.alibabacloud.com/help/en/cs/user-guide/acs-pod-instance-overview)."""


@dataclass(frozen=True, kw_only=True)
class GpuNodes:
    """``count`` nodes of one GPU series, each with room for one pod of ``gpus_per_pod`` GPUs."""

    count: int
    series: str
    resource: str
    gpus_per_pod: int
    region: str


def ensure_nodes(kubeconfig: Path, wanted: GpuNodes, *, kubelet_port: int) -> None:
    """Makes the cluster's simulated nodes the wanted ones, with their kubelet at ``kubelet_port`` of this machine. A
    superfluous node that has pods stays."""
    # Here, because it is a third of all that ``python -m local`` imports, and only ``up`` needs it.
    from kubernetes import client, config

    api = client.CoreV1Api(config.new_client_from_config(str(kubeconfig)))
    manifests = {manifest["metadata"]["name"]: manifest for manifest in _manifests(wanted, kubelet_port)}
    for node in api.list_node().items:
        name = node.metadata.name
        managed = (node.metadata.annotations or {}).items() >= MANAGED.items()
        if managed and name not in manifests and not _has_pods(api, name):
            api.delete_node(name)
    for name, manifest in manifests.items():
        api.patch_node(name, manifest, field_manager=FIELD_MANAGER, force=True, _content_type=APPLY)
        api.patch_node_status(name, manifest, field_manager=FIELD_MANAGER, force=True, _content_type=APPLY)


APPLY = "application/apply-patch+yaml"


def _has_pods(api: Any, node: str) -> bool:
    return bool(api.list_pod_for_all_namespaces(field_selector=f"spec.nodeName={node}").items)


def _manifests(wanted: GpuNodes, kubelet_port: int) -> Iterator[dict[str, Any]]:
    gpu = {wanted.resource: str(wanted.gpus_per_pod), "cpu": GPU_CPU, "memory": GPU_MEMORY}
    for index in range(wanted.count):
        labels = {"alibabacloud.com/gpu-model-series": wanted.series}
        yield _node(f"virtual-kubelet-{wanted.region}-gpu-{index}", wanted.region, labels, gpu, kubelet_port)
    # For pods without GPUs, such as Jobs.
    yield _node(
        f"virtual-kubelet-{wanted.region}-cpu-0", wanted.region, {}, {"cpu": "64", "memory": "512Gi"}, kubelet_port
    )


def _node(
    name: str, region: str, labels: dict[str, str], capacity: dict[str, str], kubelet_port: int
) -> dict[str, Any]:
    room = {**capacity, "pods": PODS, "ephemeral-storage": "2Ti"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": MANAGED,
            "labels": {
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
                "topology.kubernetes.io/region": region,
                "topology.kubernetes.io/zone": f"{region}-b",
                "type": "virtual-kubelet",
                **labels,
            },
        },
        "status": {
            "capacity": room,
            "allocatable": room,
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}, {"type": "Hostname", "address": name}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet_port}},
        },
    }
