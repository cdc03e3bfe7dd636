"""Who manages which fields of an object, as server-side apply sees it, and what the official plugin makes of it
(fixCSAFieldManagers, patchForce and handleSSAIgnoreFields in
https://github.com/pulumi/pulumi-kubernetes/blob/master/provider/pkg/await/await.go).
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from local.plugins.kubernetes.facts import FACTS

Properties = dict[str, Any]


def taken_over(entries: Iterable[Properties], manager: str) -> list[Properties]:
    """``managedFields`` after ``manager`` has taken over what kubectl and the plugin's own plain writes manage."""
    others: list[Properties] = []
    fields: list[Properties] = []
    ours: Properties | None = None
    for entry in entries:
        if "subresource" not in entry and entry["manager"] == manager and entry["operation"] == "Apply":
            ours = entry
            fields.append(entry["fieldsV1"])
        elif "subresource" not in entry and any(
            entry["manager"].startswith(prefix) and entry["operation"] == operation
            for prefix, operation in FACTS["field_managers"]["taken_over"]
        ):
            ours = ours or {**entry, "manager": manager, "operation": "Apply"}
            fields.append(entry["fieldsV1"])
        else:
            others.append(entry)
    return [*others, {**ours, "fieldsV1": _union(fields)}] if ours else others


def forced_in_preview(live: Mapping[str, Any]) -> bool:
    """Whether a preview of an update forces: what conflicts is taken over by the update itself."""
    entries = live["metadata"].get("managedFields", ())
    return any(
        entry["operation"] == "Update" and entry["manager"] in FACTS["field_managers"]["forced_in_preview"]
        for entry in entries
    )


def settle(inputs: Properties, live: Mapping[str, Any], paths: Sequence[str], *, manager: str) -> Properties:
    """The inputs to apply under the option ``ignoreChanges``; ``paths`` are dotted, without lists, as the official
    plugin's are.

    An apply removes fields that its manager had set before and now omits. So an ignored field that this manager has,
    alone or with others, is sent with its live value; one that only others have is left out."""
    settled = copy.deepcopy(inputs)
    for path in paths:
        steps = path.split(".")
        owners = {
            entry["manager"]
            for entry in live["metadata"].get("managedFields", ())
            if _get(entry["fieldsV1"], [f"f:{step}" for step in steps]) is not None
        }
        value = _get(live, steps)
        if owners and manager not in owners:
            _remove(settled, steps)
        elif value is not None:
            _set(settled, steps, value)
    return settled


def _union(fields: Sequence[Mapping[str, Any]]) -> Properties:
    keys = dict.fromkeys(key for found in fields for key in found)
    return {key: _union([found[key] for found in fields if key in found]) for key in keys}


def _get(value: Any, steps: Sequence[str]) -> Any:
    for step in steps:
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _remove(value: Properties, steps: Sequence[str]) -> None:
    holder = _get(value, steps[:-1])
    if isinstance(holder, dict):
        holder.pop(steps[-1], None)


def _set(value: Properties, steps: Sequence[str], new: Any) -> None:
    for step in steps[:-1]:
        value = value.setdefault(step, {})
    value[steps[-1]] = new
