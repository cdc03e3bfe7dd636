"""The outcome of a preload, and the texts about it."""

import re
from collections.abc import Mapping
from typing import Any

COMPLETE = "Complete"

FILLED = 0.95
"""Of the data that must be cached. The cache counts whole blocks, so that all of the data are no less than 100 %
(https://github.com/fluid-cloudnative/fluid/blob/master/pkg/ddc/jindocache/cache.go)."""


def is_over(load: Mapping[str, Any]) -> bool:
    """Whether the DataLoad with this status has finished, successfully or not: it then has a condition
    (https://github.com/fluid-cloudnative/fluid/blob/master/pkg/controllers/v1alpha1/dataload/status_handler.go)."""
    return bool(load.get("conditions"))


def preload_problem(load: Mapping[str, Any], dataset: Mapping[str, Any]) -> str | None:
    """The problem after the DataLoad has finished, from its status and the Dataset's. None if the cache contains the
    data, or some data if Fluid does not report the total."""
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
    """The share of the data that is cached; None if Fluid has not counted the data."""
    states = dataset.get("cacheStates") or {}
    percentage = re.fullmatch(r"([0-9.]+)%", str(states.get("cachedPercentage", "")))
    counted = re.search(r"[1-9]", str(dataset.get("ufsTotal", "")))
    return float(percentage[1]) / 100 if percentage and counted else None


def is_ignored(load: Mapping[str, Any], dataset: Mapping[str, Any]) -> bool:
    """Whether no controller has handled either: Fluid's controller sets a phase immediately."""
    return not load.get("phase") and not dataset.get("phase")


def progress(load: Mapping[str, Any], dataset: Mapping[str, Any]) -> str:
    """The progress of the DataLoad in a few words."""
    share = (dataset.get("cacheStates") or {}).get("cachedPercentage")
    phase = str(load.get("phase") or "new")
    return f"its DataLoad is {phase}, {share} cached" if share else f"its DataLoad is {phase}"


def failed(problem: str, namespace: str, name: str) -> str:
    """The error: layer, problem, where to look, how to continue."""
    return (
        f"Fluid cache {namespace}/{name}: {problem}. No GPU pod was started or changed for it.\n"
        f"{where_to_look(namespace, name)}\n"
        "  then: pulumi up (the preload continues, or is repeated if it has finished)"
    )


def watched(namespace: str, name: str, seconds: int) -> str:
    """What the program waits for; in the log even if the program is killed."""
    return (
        f"Fluid cache {namespace}/{name}: waiting up to {seconds} s for its DataLoad\n{where_to_look(namespace, name)}"
    )


def where_to_look(namespace: str, name: str) -> str:
    """Commands that show the reason."""
    return (
        f"  look at: kubectl --namespace {namespace} describe dataload,dataset,jindoruntime {name}\n"
        f"           kubectl --namespace {namespace} logs job/{name}-loader-job"
    )
