"""What ACS sells: RDMA where the planner's tables have it, and pods that it does not take back."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from deepseek_acs.planner.acs import GPU_HPN, HPN_GPUS_PER_POD
from deepseek_acs.planner.catalogue import gpu_series, resource_name
from deepseek_acs.planner.findings import Finding
from policy.pods import HPN_TYPE, Pod, pods
from policy.resources import Resource, Violation, is_local, mapping, text

COMPUTE_CLASS = "alibabacloud.com/compute-class"
COMPUTE_QOS = "alibabacloud.com/compute-qos"
GPU_SERIES = "alibabacloud.com/gpu-model-series"

BEST_EFFORT = "best-effort"
"""Cheaper pods that ACS evicts when it needs the capacity
(https://www.alibabacloud.com/help/en/cs/user-guide/acs-pod-instance-overview)."""


def illegal_rdma(resource: Resource) -> Iterator[Finding]:
    """RDMA for a series or a number of GPUs that has none. A series that the planner does not list is not checked."""
    for pod in pods(resource):
        if pod.labels.get(HPN_TYPE) != "rdma":
            continue
        labels = labels_of(pod)
        series = series_of(labels)
        path = f"{pod.path}.metadata.labels[{HPN_TYPE}]"
        if not series:
            yield Finding(
                path=path, problem="RDMA is requested without a GPU series", fix=f"add the label {GPU_SERIES}"
            )
        if series not in gpu_series():
            continue
        legal = HPN_GPUS_PER_POD if labels.get(COMPUTE_CLASS) == GPU_HPN else gpu_series()[series].rdma_gpus_per_pod
        gpus = gpus_per_pod(pod, series)
        if gpus is not None and gpus not in legal:
            only = f"only with {' or '.join(map(str, legal))} GPUs, not {gpus}" if legal else "not at all"
            yield Finding(
                path=path,
                problem=f"ACS supports RDMA for series {series} {only}",
                fix="set deployment.inference.gpu.perPod to a number that supports it, or "
                "deployment.inference.network: standard",
            )


def labels_of(pod: Pod) -> Mapping[str, Any]:
    """By which ACS chooses hardware: the pod's own, and those of its nodes."""
    return {**mapping(pod.spec.get("nodeSelector")), **pod.labels}


def series_of(labels: Mapping[str, Any]) -> str:
    """The GPU series; empty without one."""
    return text(labels.get(GPU_SERIES))


def gpus_per_pod(pod: Pod, series: str) -> int | None:
    """GPUs of the whole pod; None if they are not known."""
    name, found = resource_name(series), 0
    for _, container in pod.containers():
        given = mapping(mapping(container.get("resources")).get("limits")).get(name, 0)
        if not isinstance(given, int) and not text(given).isdecimal():
            return None
        found += int(given)
    return found


def best_effort(stack: Sequence[Resource], *, exempt_stacks: Sequence[str]) -> Iterator[Violation]:
    """A pod that ACS may take back at any time; one lost pod takes its whole group down."""
    if is_local(stack):
        return
    for resource in stack:
        for pod in pods(resource):
            if resource.stack not in exempt_stacks and pod.labels.get(COMPUTE_QOS) == BEST_EFFORT:
                finding = Finding(
                    path=f"{pod.path}.metadata.labels[{COMPUTE_QOS}]".lstrip("."),
                    problem="ACS may evict the pod at any time, which stops its whole group",
                    fix="set deployment.inference.qos: default",
                )
                yield Violation(resource=resource, finding=finding)
