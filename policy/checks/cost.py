"""What the GPUs of a stack may cost. Prices are the company's, not those of a stack file: a stack does not set its own
limit."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from deepseek_acs.planner.findings import Finding
from policy.checks.acs import gpus_per_pod, labels_of, series_of
from policy.pods import GROUP, pods
from policy.resources import Resource, Violation, could_be, mapping, of_kind

SCALERS = {"ScaledObject": "maxReplicaCount", "HorizontalPodAutoscaler": "maxReplicas"}
"""Kinds of autoscalers, and their field with the most replicas."""


def hourly_cost(
    stack: Sequence[Resource], *, max_hourly_cost: float, gpu_hour: Mapping[str, float]
) -> Iterator[Violation]:
    """All GPUs that the stack may have at once, updates included, for more money an hour than the limit; 0 is none.
    What is not known in a preview is asked for again in the update."""
    if not max_hourly_cost:
        return
    costs: dict[str, float] = {}
    for resource in stack:
        for series, gpus in _gpus(resource, stack):
            if series in gpu_hour:
                costs[resource.urn] = costs.get(resource.urn, 0) + gpus * gpu_hour[series]
            else:
                problem = f"it may have {gpus} GPUs of series {series or '(none)'}, whose price is not known"
                fix = "add the price of one GPU for an hour to the option gpuHour of the policy"
                yield Violation(resource=resource, finding=Finding(path="spec", problem=problem, fix=fix))
    total = sum(costs.values())
    if total > max_hourly_cost:
        costliest = max(stack, key=lambda one: costs.get(one.urn, 0))
        problem = f"the GPUs of the stack may cost {total:,.2f} per hour, and {max_hourly_cost:,.2f} are allowed"
        fix = "use fewer replicas, a smaller maxReplicas or maxSurge, or a layout with fewer GPUs"
        yield Violation(resource=costliest, finding=Finding(path="spec.replicas", problem=problem, fix=fix))


def _gpus(resource: Resource, stack: Sequence[Resource]) -> Iterator[tuple[str, int]]:
    """Series and number of the most GPUs that the pods of an object have at once."""
    templates, most = pods(resource), _most_replicas(resource, stack)
    if most is None:
        return
    for index, pod in enumerate(templates):
        series = series_of(labels_of(pod))
        each = gpus_per_pod(pod, series)
        count = most * _pods_of(resource, is_leader=index == 0, alone=len(templates) == 1)
        if each and count:
            yield series, each * count


def _pods_of(resource: Resource, *, is_leader: bool, alone: bool) -> int:
    """Pods that one replica makes of a template."""
    if resource.kind != GROUP:
        return 1
    size = mapping(resource.spec.get("leaderWorkerTemplate")).get("size", 1)
    size = size if isinstance(size, int) else 1
    return size if alone else 1 if is_leader else size - 1


def _most_replicas(resource: Resource, stack: Sequence[Resource]) -> int | None:
    """The most replicas, with those that an update adds; None where they are not known."""
    spec = resource.spec
    given: list[Any] = [spec.get("replicas", spec.get("parallelism", 1))]
    for scaler in of_kind(stack, *SCALERS):
        target = mapping(scaler.spec.get("scaleTargetRef"))
        if could_be(target.get("name"), resource.title) and could_be(scaler.namespace, resource.namespace):
            given.append(scaler.spec.get(SCALERS[scaler.kind], 1))
    rolling = mapping(mapping(spec.get("rolloutStrategy")).get("rollingUpdateConfiguration"))
    surge = rolling.get("maxSurge", 0)
    numbers = [one for one in (*given, surge) if isinstance(one, int)]
    return max(numbers[:-1]) + surge if len(numbers) == len(given) + 1 else None
