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
            raise WaitForError(f"pulumi.com/waitFor is not a JSON array: {error}") from None
    for condition in conditions:
        if not isinstance(condition, str) or not (JSONPATH.fullmatch(condition) or CONDITION.fullmatch(condition)):
            raise WaitForError(
                f"pulumi.com/waitFor: {condition!r} is none of jsonpath={{.path}}, jsonpath={{.path}}=value, "
                "condition=Type, condition=Type=Status"
            )
    return tuple(conditions)


def unmet(conditions: tuple[str, ...], live: Mapping[str, Any]) -> list[str]:
    """What does not hold yet, in the official plugin's words (condition/kubectl.go and condition/jsonpath.go in
    https://github.com/pulumi/pulumi-kubernetes/tree/master/provider/pkg/await), which are few."""
    return [text for condition in conditions if (text := _unmet(condition, live)) is not None]


def _unmet(condition: str, live: Mapping[str, Any]) -> str | None:
    if match := CONDITION.fullmatch(condition):
        return _condition_unmet(match["type"], match["status"] or "True", live)
    match = JSONPATH.fullmatch(condition)
    if match is None:
        raise WaitForError(condition)
    waiting, found = f"Waiting for {condition}", _lookup(match["path"], live)
    if _is_earlier(live.get("status", {}).get("observedGeneration"), live):
        return waiting
    if found is None or (match["value"] is not None and _text(found) != match["value"]):
        return waiting if found is None else f'{waiting} (found "{_text(found)}")'
    return None


def _condition_unmet(kind: str, status: str, live: Mapping[str, Any]) -> str | None:
    if not (conditions := live.get("status", {}).get("conditions")):
        return "Has no .status.conditions"
    found = next((c for c in conditions if c["type"].lower() == kind.lower()), None)
    if found is None:
        return ""
    observed = found.get("observedGeneration", live["status"].get("observedGeneration"))
    if _is_earlier(observed, live):
        return f"Generation {observed} is less than expected {live['metadata']['generation']}"
    if found["status"].lower() != status.lower():
        return f"Resource has condition {kind}={found['status']} (want {status})"
    return None


def _is_earlier(observed: int | None, live: Mapping[str, Any]) -> bool:
    generation = live.get("metadata", {}).get("generation")
    return observed is not None and generation is not None and observed < generation


def _lookup(path: str, value: Any) -> Any:
    for key, index in re.findall(r"\.([A-Za-z0-9_-]+)|\[(\d+)\]", path):
        if key:
            value = value.get(key) if isinstance(value, Mapping) else None
        else:
            value = value[int(index)] if isinstance(value, list) and int(index) < len(value) else None
    return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
