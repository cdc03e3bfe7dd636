"""The annotation ``pulumi.com/waitFor``: what an object must look like before its resource counts as created.

Grammar (https://www.pulumi.com/registry/packages/kubernetes/installation-configuration/ and the plugin's changelog):
``jsonpath={.a.b}=value``, ``jsonpath={.a.b}`` (exists), ``condition=Type``, ``condition=Type=Status``, or a JSON array
of these, all of which must hold.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

JSONPATH = re.compile(r"jsonpath=\{(?P<path>(?:\.[A-Za-z0-9_-]+|\[\d+\])+)\}(?:=(?P<value>.*))?", re.DOTALL)
CONDITION = re.compile(r"condition=(?P<type>[^=\s]+)(?:=(?P<status>\w+))?")


class WaitForError(ValueError):
    """The annotation is not in its grammar."""


def parse(annotation: str) -> tuple[str, ...]:
    """The single conditions; raises WaitForError."""
    conditions = [annotation]
    if annotation.lstrip().startswith("["):
        try:
            conditions = json.loads(annotation)
        except ValueError as error:
            raise WaitForError(f"pulumi.com/waitFor is no JSON array: {error}") from None
    for condition in conditions:
        if not isinstance(condition, str) or not (JSONPATH.fullmatch(condition) or CONDITION.fullmatch(condition)):
            raise WaitForError(
                f"pulumi.com/waitFor: {condition!r} is none of jsonpath={{.path}}, jsonpath={{.path}}=value, "
                "condition=Type, condition=Type=Status"
            )
    return tuple(conditions)


def unmet(conditions: tuple[str, ...], live: Mapping[str, Any]) -> list[str]:
    """What does not hold yet, each with what was found instead."""
    generation = live.get("metadata", {}).get("generation")
    observed = live.get("status", {}).get("observedGeneration")
    if None not in (generation, observed) and observed < generation:
        return [f"the controller has seen generation {observed} of {generation}"]
    return [text for condition in conditions if (text := _unmet(condition, live))]


def _unmet(condition: str, live: Mapping[str, Any]) -> str | None:
    if match := CONDITION.fullmatch(condition):
        return _condition_unmet(match["type"], match["status"] or "True", live)
    match = JSONPATH.fullmatch(condition)
    if match is None:
        raise WaitForError(condition)
    found = _lookup(match["path"], live)
    if found is None or (match["value"] is not None and _text(found) != match["value"]):
        shown = "absent" if found is None else _text(found)
        return f"{match['path']} is {shown}" + (f", not {match['value']}" if match["value"] is not None else "")
    return None


def _condition_unmet(kind: str, status: str, live: Mapping[str, Any]) -> str | None:
    conditions = live.get("status", {}).get("conditions") or []
    found = next((c for c in conditions if c["type"].lower() == kind.lower()), None)
    if found is None:
        return f"condition {kind} is absent"
    generation = live.get("metadata", {}).get("generation")
    if found.get("observedGeneration", generation) != generation:
        return f"condition {kind} is of an earlier generation"
    if found["status"].lower() != status.lower():
        detail = f" ({found['message']})" if found.get("message") else ""
        return f"condition {kind} is {found['status']}{detail}"
    return None


def _lookup(path: str, value: Any) -> Any:
    for key, index in re.findall(r"\.([A-Za-z0-9_-]+)|\[(\d+)\]", path):
        if key:
            value = value.get(key) if isinstance(value, Mapping) else None
        else:
            value = value[int(index)] if isinstance(value, list) and int(index) < len(value) else None
    return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
