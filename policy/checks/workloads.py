"""Pods: resources, probes, images, and access to their node."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from deepseek_acs.planner.findings import Finding
from policy.label_selectors import selects
from policy.pods import GROUP, Pod, leader, pods, running_labels
from policy.resources import UNKNOWN, Resource, Violation, could_be, items, mapping, of_kind, text

COUNTED = ("cpu", "memory")
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
_DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")


def unbounded_containers(resource: Resource) -> Iterator[Finding]:
    """A container without requests or limits."""
    for pod in pods(resource):
        for path, container in pod.containers():
            resources = mapping(container.get("resources"))
            for field in ("requests", "limits"):
                given = resources.get(field, {})
                missing = [] if given is UNKNOWN else [name for name in COUNTED if name not in mapping(given)]
                if container.get("resources") is not UNKNOWN and missing:
                    yield Finding(
                        path=f"{path}.resources.{field}",
                        problem=f"{' and '.join(missing)} missing: ACS bills by them, and otherwise chooses the size "
                        "of the pod",
                        fix="write both, requests equal to limits",
                    )


def unwatched_leader(resource: Resource) -> Iterator[Finding]:
    """A leader that would get requests before the model is loaded, or after the engine died."""
    pod = leader(resource) if resource.kind == GROUP else None
    if pod is None:
        return
    serving = [(path, container) for path, container in pod.containers() if container.get("ports")]
    if not serving:
        yield Finding(
            path=f"{pod.spec_path}.containers",
            problem="no container of the leader has a port, so it is unknown which one serves",
            fix="give the engine's container its port and its probes",
        )
    for path, container in serving:
        missing = [probe for probe in PROBES if probe not in container]
        if missing:
            yield Finding(
                path=path,
                problem=f"it serves without {', '.join(missing)}",
                fix="probe /health, with a startupProbe that allows for the model's load time",
            )


def unpinned_images(resource: Resource, *, require_digest: bool) -> Iterator[Finding]:
    """An image that a later push can change."""
    for pod in pods(resource):
        for path, container in pod.containers():
            image = container.get("image")
            if image is UNKNOWN or _DIGEST.search(text(image)):
                continue
            tag = text(image).rpartition("/")[2].partition(":")[2]
            if tag in ("", "latest"):
                yield Finding(
                    path=f"{path}.image",
                    problem=f"{image} has no fixed version",
                    fix="write a version, or better a digest (@sha256:...)",
                )
            elif require_digest:
                yield Finding(
                    path=f"{path}.image",
                    problem=f"{image} can change without a new tag",
                    fix="add its digest: @sha256:...",
                )


def host_access(resource: Resource) -> Iterator[Finding]:
    """A pod with access to its node."""
    for pod in pods(resource):
        for field in ("hostNetwork", "hostPID", "hostIPC"):
            if pod.spec.get(field) is True:
                yield _host(f"{pod.spec_path}.{field}", f"{field} shares the node's")
        for volume in map(mapping, items(pod.spec.get("volumes"))):
            if "hostPath" in volume:
                yield _host(f"{pod.spec_path}.volumes[{text(volume.get('name'))}]", "hostPath exposes the node's files")
        for path, container in pod.containers():
            if mapping(container.get("securityContext")).get("privileged") is True:
                yield _host(f"{path}.securityContext.privileged", "a privileged container has full access to the node")


def _host(path: str, problem: str) -> Finding:
    return Finding(path=path, problem=problem, fix="remove it; the virtual nodes of ACS reject most of it anyway")


def service_links(resource: Resource) -> Iterator[Finding]:
    """An engine that would read the variables of a Service named vllm as its own (VLLM_PORT:
    https://docs.vllm.ai/en/stable/configuration/env_vars.html)."""
    for pod in pods(resource):
        if pod.has_engine() and pod.spec.get("enableServiceLinks", True) is True:
            yield Finding(
                path=f"{pod.spec_path}.enableServiceLinks",
                problem="a Service named vllm in the namespace would set the engine's port",
                fix="write false",
            )


def undisrupted(stack: Sequence[Resource]) -> Iterator[Violation]:
    """Several groups that node drains may stop at the same time."""
    budgets = of_kind(stack, "PodDisruptionBudget")
    for group in of_kind(stack, GROUP):
        replicas, pod = group.spec.get("replicas", 1), leader(group)
        if not isinstance(replicas, int) or replicas < 2 or pod is None:
            continue
        if not any(_covers(budget, group, pod) for budget in budgets):
            finding = Finding(
                path="spec.replicas",
                problem=f"evictions may stop all {replicas} copies of the model at the same time",
                fix="add a PodDisruptionBudget for the leaders",
            )
            yield Violation(resource=group, finding=finding)


def _covers(budget: Resource, group: Resource, pod: Pod) -> bool:
    labels: Mapping[str, Any] = running_labels(group, pod)
    return could_be(budget.namespace, group.namespace) and selects(budget.spec.get("selector"), labels)
