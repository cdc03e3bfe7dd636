"""What was accepted and what was refused: the content of one ConfigMap."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

GROUPS_MAX = 5
"""LeaderWorkerSets whose records are kept: a ConfigMap holds 1 MiB."""

ACCEPTED, PREVIOUS, WAITING, REFUSED = "accepted", "previous", "waiting", "refused"
"""Keys of the ConfigMap: the first two with a point and the name of the LeaderWorkerSet behind them."""


@dataclass(frozen=True, kw_only=True)
class _Entry:
    @classmethod
    def of(cls, text: str | None) -> Self | None:
        """From the ConfigMap; None if there is none, or if it was edited to something else."""
        try:
            return cls(**json.loads(text)) if text else None
        except (ValueError, TypeError):
            return None

    def text(self) -> str:
        """For the ConfigMap."""
        return json.dumps(asdict(self), sort_keys=True)


@dataclass(frozen=True, kw_only=True)
class Record(_Entry):
    """An accepted template. ``template_digest`` is Pulumi's name for it, ``revision`` that of LeaderWorkerSet, and
    ``exam`` a digest of what was asked: other questions or another load give values that do not compare."""

    template_digest: str
    image_digest: str
    revision: str
    exam: str
    asked: int
    passed: int
    first_token_seconds: float | None
    tokens_per_second: float | None
    """Of one request, at the fixed load; None: too fast to measure."""

    accepted_at: str
    template: Mapping[str, Any]
    """``spec.leaderWorkerTemplate``, as the API server had it."""


@dataclass(frozen=True, kw_only=True)
class Refusal(_Entry):
    """A template that did not pass, and what was done: ``held``, or ``returned`` to the accepted one."""

    template_digest: str
    action: str
    why: str
    refused_at: str


def accepted(data: Mapping[str, str], group: str) -> Record | None:
    """The accepted record of a LeaderWorkerSet."""
    return Record.of(data.get(f"{ACCEPTED}.{group}"))


def previous(data: Mapping[str, str], group: str) -> Record | None:
    """The one that was accepted before it."""
    return Record.of(data.get(f"{PREVIOUS}.{group}"))


def with_accepted(data: Mapping[str, str], group: str, record: Record) -> dict[str, str | None]:
    """What changes in the ConfigMap when ``record`` is accepted. Of other templates, the last one becomes the previous
    one; groups that were accepted longest ago are forgotten."""
    last = accepted(data, group)
    changes: dict[str, str | None] = {f"{ACCEPTED}.{group}": record.text(), WAITING: None, REFUSED: None}
    if last is not None and last.template != record.template:
        changes[f"{PREVIOUS}.{group}"] = last.text()
    others = {
        name.removeprefix(f"{ACCEPTED}."): found.accepted_at
        for name, text in data.items()
        if name.startswith(f"{ACCEPTED}.") and (found := Record.of(text))
    }
    others.pop(group, None)
    for name in sorted(others, key=lambda name: others[name], reverse=True)[GROUPS_MAX - 1 :]:
        changes |= {f"{ACCEPTED}.{name}": None, f"{PREVIOUS}.{name}": None}
    return changes


def merge_patch(before: Any, after: Any) -> Any:
    """What turns ``before`` into ``after`` (https://www.rfc-editor.org/rfc/rfc7386)."""
    if not isinstance(before, Mapping) or not isinstance(after, Mapping):
        return after
    patch: dict[str, Any] = dict.fromkeys(before.keys() - after.keys())
    for name, value in after.items():
        if name not in before:
            patch[name] = value
        elif before[name] != value:
            patch[name] = merge_patch(before[name], value)
    return patch


def put_back(group: Mapping[str, Any], template: Mapping[str, Any]) -> dict[str, Any]:
    """The patch of a LeaderWorkerSet that gives it ``template`` in all groups. It fails if the object has changed
    since it was read."""
    return {
        "metadata": {"resourceVersion": group["metadata"]["resourceVersion"]},
        "spec": {
            "leaderWorkerTemplate": merge_patch(group["spec"]["leaderWorkerTemplate"], template),
            "rolloutStrategy": {"rollingUpdateConfiguration": {"partition": 0}},
        },
    }
