"""Pods: resources, probes, images and disruptions."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from deepseek_acs.planner.findings import Finding
from policy.label_selectors import selects
from policy.pods import GROUP, Pod, leader, pods, running_labels
from policy.resources import UNKNOWN, Resource, Violation, could_be, mapping, of_kind, text

COUNTED = ("cpu", "memory")
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
HELM_RELEASE = "kubernetes:helm.sh/v3:Release"
_DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")
_VERSION = re.compile(r"[0-9]+\.[0-9]+")
"""In a tag: ``v0.7.2`` and ``alinux3.2104-py312`` say which, ``main``, ``latest`` and ``3`` do not."""


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


def leaders_without_probes(resource: Resource) -> Iterator[Finding]:
    """A leader that gets requests before it has loaded, or after it has failed."""
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


def mutable_tags(resource: Resource, *, require_digest: bool) -> Iterator[Finding]:
    """An image that a later push can change."""
    for path, image in _images(resource):
        if _DIGEST.search(image):
            continue
        tag = image.rpartition("/")[2].partition("@")[0].partition(":")[2]
        if not _VERSION.search(tag):
            yield Finding(
                path=path,
                problem=f"the tag of {image} contains no version: it is what was pushed last"
                if tag
                else f"{image} has no tag: it is what was pushed last",
                fix="name a version, or better a digest (@sha256:...)",
            )
        elif require_digest:
            yield Finding(
                path=path,
                problem=f"another image can be pushed with the tag of {image}",
                fix="add its digest: @sha256:...",
            )


def image_registries(resource: Resource, *, allowed_registries: Sequence[str]) -> Iterator[Finding]:
    """An image from a registry or repository that is not on the list."""
    for path, image in _images(resource):
        repository = _repository(image)
        if not any(repository == one or repository.startswith(f"{one}/") for one in allowed_registries):
            yield Finding(
                path=path,
                problem=f"{repository} is not in the option allowedRegistries",
                fix="use an image of one of these, or add the registry to the option",
            )


def helm_charts(resource: Resource, *, allowed_charts: Sequence[str]) -> Iterator[Finding]:
    """A Helm chart from elsewhere; a chart installs what it likes, with the rights of the one who deploys."""
    if resource.type != HELM_RELEASE:
        return
    chart = resource.properties.get("chart")
    repository = mapping(resource.properties.get("repositoryOpts")).get("repo")
    source = chart if repository is None else repository
    if UNKNOWN in (chart, repository):
        return
    is_listed = any(text(source) == one or text(source).startswith(f"{one}/") for one in allowed_charts)
    if not is_listed or ".." in text(source):
        yield Finding(
            path="chart",
            problem=f"{text(source) or 'an empty string'} is not in the option allowedCharts",
            fix="use a chart of one of these places, or add the place to the option",
        )


def _images(resource: Resource) -> Iterator[tuple[str, str]]:
    for pod in pods(resource):
        for path, container in pod.containers():
            image = container.get("image")
            if image is not UNKNOWN:
                yield f"{path}.image", text(image)
        for path, volume in pod.volumes():
            reference = mapping(volume.get("image")).get("reference")
            if isinstance(reference, str):
                yield f"{path}.image.reference", reference


def _repository(image: str) -> str:
    """The repository with its registry, as container runtimes complete it
    (https://github.com/distribution/reference/blob/main/normalize.go)."""
    name = image.partition("@")[0]
    folder, _, last = name.rpartition("/")
    path = f"{folder}/{last.partition(':')[0]}".lstrip("/")
    first = path.partition("/")[0]
    if "/" not in path:
        return f"docker.io/library/{path}"
    return path if "." in first or ":" in first or first == "localhost" else f"docker.io/{path}"


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


def groups_without_budget(stack: Sequence[Resource]) -> Iterator[Violation]:
    """Several groups that a drain of nodes may take down at once."""
    budgets = of_kind(stack, "PodDisruptionBudget")
    for group in of_kind(stack, GROUP):
        replicas, pod = group.spec.get("replicas", 1), leader(group)
        if not isinstance(replicas, int) or replicas < 2 or pod is None:
            continue
        if not any(_covers(budget, group, pod) for budget in budgets):
            finding = Finding(
                path="spec.replicas",
                problem=f"evictions may stop all {replicas} groups of the model at the same time",
                fix="add a PodDisruptionBudget for the leaders",
            )
            yield Violation(resource=group, finding=finding)


def _covers(budget: Resource, group: Resource, pod: Pod) -> bool:
    labels: Mapping[str, Any] = running_labels(group, pod)
    return could_be(budget.namespace, group.namespace) and selects(budget.spec.get("selector"), labels)
