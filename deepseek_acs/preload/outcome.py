"""What a preload has come to, and what to say of it."""

import re
from collections.abc import Mapping
from typing import Any

COMPLETE = "Complete"

FILLED = 0.95
"""Of the data that must be cached. The cache counts whole blocks, so that all of the data are no less than 100 %
(https://github.com/fluid-cloudnative/fluid/blob/master/pkg/ddc/jindocache/cache.go)."""


def is_over(load: Mapping[str, Any]) -> bool:
    """Whether the DataLoad with this status has ended, in whatever way: it has a condition then
    (https://github.com/fluid-cloudnative/fluid/blob/master/pkg/controllers/v1alpha1/dataload/status_handler.go)."""
    return bool(load.get("conditions"))


def preload_problem(load: Mapping[str, Any], dataset: Mapping[str, Any]) -> str | None:
    """What is wrong after the DataLoad is over, from its status and the Dataset's; None if the cache holds the data, or
    some, where Fluid does not count what all of it would be."""
    if load.get("phase") != COMPLETE:
        condition: Mapping[str, Any] = next(iter(load.get("conditions") or ()), {})
        said = ": ".join(filter(None, (condition.get("reason"), condition.get("message"))))
        return f"its DataLoad ended as {load.get('phase', 'unknown')}" + (f" ({said})" if said else "")
    cached = str((dataset.get("cacheStates") or {}).get("cached", ""))
    # A number and its unit, such as 641.30GiB; an empty cache is 0.00B.
    if not any(digit in cached for digit in "123456789"):
        return f"its DataLoad is complete, but the Dataset reports {cached or 'nothing'} as cached"
    share, total = cached_share(dataset), dataset.get("ufsTotal")
    if share is not None and share < FILLED:
        return f"its DataLoad is complete, but the Dataset reports only {cached} of {total} as cached ({share:.1%})"
    return None


def cached_share(dataset: Mapping[str, Any]) -> float | None:
    """The share of the data that is cached; None where Fluid has not counted, or does not count, the data."""
    states = dataset.get("cacheStates") or {}
    percentage = re.fullmatch(r"([0-9.]+)%", str(states.get("cachedPercentage", "")))
    counted = re.search(r"[1-9]", str(dataset.get("ufsTotal", "")))
    return float(percentage[1]) / 100 if percentage and counted else None


def is_ignored(load: Mapping[str, Any], dataset: Mapping[str, Any]) -> bool:
    """Whether no controller has looked at either: Fluid's sets a phase at once."""
    return not load.get("phase") and not dataset.get("phase")


def progress(load: Mapping[str, Any], dataset: Mapping[str, Any]) -> str:
    """Where the DataLoad is, in a few words."""
    share = (dataset.get("cacheStates") or {}).get("cachedPercentage")
    phase = str(load.get("phase") or "new")
    return f"its DataLoad is {phase}, {share} cached" if share else f"its DataLoad is {phase}"


def failed(problem: str, namespace: str, name: str) -> str:
    """The error: which layer, what is wrong, where to look, how to go on."""
    return (
        f"Fluid cache {namespace}/{name}: {problem}. No GPU pod was started or changed for it.\n"
        f"{where_to_look(namespace, name)}\n"
        "  then:    pulumi up   (the preload goes on, or is repeated if it was over)"
    )


def watched(namespace: str, name: str, seconds: int) -> str:
    """What is waited for; the log tells it also of a program that was ended from outside."""
    return (
        f"Fluid cache {namespace}/{name}: waiting up to {seconds} s for its DataLoad\n{where_to_look(namespace, name)}"
    )


def where_to_look(namespace: str, name: str) -> str:
    """Commands that show why."""
    return (
        f"  look at: kubectl --namespace {namespace} describe dataload,dataset,jindoruntime {name}\n"
        f"           kubectl --namespace {namespace} logs job/{name}-loader-job"
    )
