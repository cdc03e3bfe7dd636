"""The option ``ignoreChanges`` under server-side apply, as the official plugin has it (handleSSAIgnoreFields in
https://github.com/pulumi/pulumi-kubernetes/blob/master/provider/pkg/await/await.go).

An apply takes away what its manager had set before and leaves out now. So an ignored field that this manager has, alone
or with others, is sent with its live value; one that only others have is left out.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

Properties = dict[str, Any]


def settle(inputs: Properties, live: Mapping[str, Any], paths: Sequence[str], *, manager: str) -> Properties:
    """The inputs to apply; ``paths`` are dotted, without lists, as the official plugin's are."""
    settled = copy.deepcopy(inputs)
    for path in paths:
        steps = path.split(".")
        owners = {
            entry["manager"]
            for entry in live["metadata"].get("managedFields", ())
            if _has(entry["fieldsV1"], [f"f:{step}" for step in steps])
        }
        value = _get(live, steps)
        if owners and manager not in owners:
            _remove(settled, steps)
        elif value is not None:
            _set(settled, steps, value)
    return settled


def _has(fields: Mapping[str, Any], steps: Sequence[str]) -> bool:
    return _get(fields, steps) is not None


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
