"""The text of a report, and the ConfigMap with the last ones."""

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from .ends import MISSED, SETTLE_SECONDS, End, Member, moment, without_numbers
from .gauges import Requests

MOST_BYTES = 900_000
"""Of all reports, compressed. The API server accepts 1 MiB of data in a ConfigMap
(https://kubernetes.io/docs/concepts/configuration/configmap/#motivation)."""

MOST_ENDS = 50
"""Ends in the list, those included that were requested."""

MOST_EVENTS = 40
FEWEST_LINES = 5
SUFFIX = ".txt.gz"


@dataclass(frozen=True, kw_only=True)
class Incident:
    """An end of a group. ``lines`` are the last ones by pod and container, ``events`` those of its pods, oldest
    first; ``cause`` is a part of a sentence."""

    group: str
    first: End
    cause: str
    members: Sequence[Member]
    ends: Sequence[End]
    lines: Mapping[tuple[str, str], Sequence[str]]
    events: Sequence[str]
    requests: Requests | None

    @property
    def headline(self) -> str:
        """One sentence: when, which pod and container, why."""
        return _headline(self.entry)

    @property
    def entry(self) -> dict[str, Any]:
        """What the list of ends has of it."""
        member = self._first_member
        return {
            "at": self.first.at,
            "group": self.group,
            "pod": self.first.pod,
            "container": self.first.container,
            "cause": self.cause,
            "requested": bool(self.first.requested),
            "revision": member.revision if member else "",
            "uid": self.first.uid,
            "count": 1,
        }

    @property
    def _first_member(self) -> Member | None:
        return next((member for member in self.members if member.uid == self.first.uid), None)

    def text(self, most_lines: int) -> str:
        """For people; ``most_lines`` of each container."""
        member = self._first_member
        head = {
            "what": self.headline,
            "code": "none" if self.first.code is None else str(self.first.code),
            "node": member.node if member and member.node else "unknown",
            "template": member.revision if member and member.revision else "unknown",
            "ready": self._ready(),
            "requests": str(self.requests) if self.requests else "unknown: /metrics was not read",
            "hint": self._hint() or "no line of the first container looks like an error",
        }
        parts = [f"{name:<10}{value}" for name, value in head.items()]
        parts += ["", "ends, in the order in which they were seen:", *(f"  {_end(one)}" for one in self.ends)]
        parts += ["", "events:", *(f"  {event}" for event in self.events[-MOST_EVENTS:] or ["none"])]
        for one in self.members:
            containers = {container: lines for (uid, container), lines in self.lines.items() if uid == one.uid}
            for container, lines in containers.items() or {"": []}.items():
                shown = lines[-most_lines:]
                title = f"{one.name}, container {container}, on {one.node}" if container else f"{one.name}: no log"
                parts += ["", f"== {title}: last {len(shown)} lines", *shown]
        return "\n".join(parts) + "\n"

    def _ready(self) -> str:
        leader = next((one for one in self.members if one.is_leader), None)
        if leader is None or not leader.ready_since:
            return "never: the group ended before it was ready"
        seconds = (moment(self.first.at) - moment(leader.ready_since)).total_seconds()
        return f"for {timedelta(seconds=max(0, round(seconds)))} h before, since {leader.ready_since}"

    def _hint(self) -> str:
        """The last line of the first container that looks like an error."""
        words = ("error", "exception", "died", "killed", "fatal", "nccl warn", "out of memory", "signal")
        lines = self.lines.get((self.first.uid, self.first.container), ())
        found = (line for line in reversed(lines) if any(word in line.lower() for word in words))
        return next(found, "").partition(" ")[2][:300]


def updated(data: Mapping[str, str], stored: Mapping[str, str], incident: Incident, *, keep: int, lines: int) -> Any:
    """What to merge into the ConfigMap with ``data`` and the reports ``stored`` for one more end; None if it is known.

    An end that was requested is listed without a report. One like the last, as of a group that crashes again and again
    for the same reason, is counted, so that it does not push out the others."""
    ends: list[dict[str, Any]] = json.loads(data.get("ends", "[]"))
    entry, is_hearsay = incident.entry, incident.first.reason == MISSED
    if any(_is_same(one, entry) or (is_hearsay and _is_told(one, incident)) for one in ends):
        return None
    if entry["requested"]:
        return {"data": {"ends": _listed([*ends, entry])}}
    last = next((one for one in reversed(ends) if not one["requested"] and one["group"] == entry["group"]), None)
    if last is not None and _is_like(last, entry):
        repeated = {**last, "count": last["count"] + 1, "last": entry["at"], "uid": entry["uid"]}
        others = [one for one in ends if one is not last]
        said = f"{_headline(last)} ({repeated['count']} times, the last at {entry['at']})"
        return {"data": {"ends": _listed([*others, repeated]), "last": said}}
    number = int(data.get("number", "0")) + 1
    name = f"{number:06}{SUFFIX}"
    report = _compressed(incident, lines, MOST_BYTES // keep)
    dropped = sorted(stored)[: max(0, len(stored) + 1 - keep)]
    return {
        "data": {
            "ends": _listed([*ends, {**entry, "report": name}]),
            "number": str(number),
            "newest": name,
            "last": incident.headline,
        },
        "binaryData": {**dict.fromkeys(dropped), name: base64.b64encode(report).decode()},
    }


def _headline(entry: Mapping[str, Any]) -> str:
    container = f", container {entry['container']}," if entry["container"] else ""
    return f"{entry['at']} group {entry['group']}: {entry['pod']}{container} {entry['cause']}"


def _compressed(incident: Incident, lines: int, most_bytes: int) -> bytes:
    """With as many lines as fit."""
    while True:
        # The same text gives the same bytes.
        report = gzip.compress(incident.text(lines).encode(), mtime=0)
        if len(report) <= most_bytes or lines <= FEWEST_LINES:
            return report
        lines = max(FEWEST_LINES, lines // 2)


def _is_same(one: Mapping[str, Any], entry: Mapping[str, Any]) -> bool:
    return (
        one["uid"] == entry["uid"]
        and one["container"] == entry["container"]
        and entry["at"] in (one["at"], one.get("last"))
    )


def _is_told(one: Mapping[str, Any], incident: Incident) -> bool:
    """Whether an end is listed that LeaderWorkerSet's words, which are the first end of ``incident``, may be about. An
    end from before its pods was that of pods with the same names."""
    at = moment(one.get("last", one["at"]))
    seconds = (moment(incident.first.at) - at).total_seconds()
    is_of_these_pods = any(moment(member.created) <= at for member in incident.members)
    return one["group"] == incident.group and abs(seconds) < SETTLE_SECONDS and is_of_these_pods


def _is_like(one: Mapping[str, Any], entry: Mapping[str, Any]) -> bool:
    same = all(one[name] == entry[name] for name in ("group", "pod", "container", "revision"))
    return same and without_numbers(one["cause"]) == without_numbers(entry["cause"])


def _listed(ends: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps(ends[-MOST_ENDS:], indent=1)


def _end(end: End) -> str:
    how = end.reason if end.code is None else f"code {end.code} {end.reason}".rstrip()
    requested = f", requested by {end.requested}" if end.requested else ""
    message = f": {end.message.strip()}" if end.message.strip() else ""
    return f"{end.at} {end.pod} {end.container or 'the pod'}: {how}{requested}{message}"
