"""The effect of an update: what the engine is about to do to the stack's objects, in terms of the groups and their
clients.

The facts come from the engine, which compares each object with the one that it applied last. Rules of LeaderWorkerSet
that the text relies on:

- A change of ``spec.leaderWorkerTemplate``, and nothing else, recreates the groups, from the highest number down
  (https://lws.sigs.k8s.io/docs/concepts/rollout-strategy/).
- A lower number of replicas deletes the groups with the highest numbers.

With an update by a second revision (docs/updates.md) there are two LeaderWorkerSets, each with groups of its own.
"""

import hashlib
import json
import math
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from deepseek_acs.planner.calendar import is_between, upcoming
from deepseek_acs.planner.findings import Field, Finding
from deepseek_acs.planner.spec import ResolvedSpec
from deepseek_acs.planner.starts import start_seconds, start_time

WIDTH, LABEL = 96, 10
"""Columns of a line and of its label, as in the plan."""

LONGEST_VALUE, MOST_CHANGES = 40, 12
DEFAULT_GRACE_SECONDS = 30
"""terminationGracePeriodSeconds of pods that have none."""

GROUP, WEIGHTS_JOB = "LeaderWorkerSet", "model-upload"
VOLUME_KINDS = frozenset({"PersistentVolume", "PersistentVolumeClaim", "Dataset", "JindoRuntime", "DataLoad"})
ROUTE_KINDS = frozenset({"Service", "Ingress", "HTTPRoute", "InferencePool", "Acl"})

Action = Literal["create", "update", "replace", "delete"]


class EffectClass(StrEnum):
    """Classes of an effect, the most severe for the groups first. An effect can have several."""

    REPLACEMENT = "replacement"
    RESTART = "restart"
    PROMOTION = "promotion"
    GOING_BACK = "going back"
    SECOND_REVISION = "second revision"
    SCALE = "scale"
    NEW_VOLUME = "new volume"
    MOVE_OF_WEIGHTS = "move of weights"
    ROUTE = "route"
    OTHER_OBJECTS = "other objects"


OF_GROUPS = frozenset(
    {
        EffectClass.REPLACEMENT,
        EffectClass.RESTART,
        EffectClass.PROMOTION,
        EffectClass.GOING_BACK,
        EffectClass.SECOND_REVISION,
        EffectClass.SCALE,
    }
)
"""Classes that create or end groups."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One object that an update creates, changes, replaces or deletes. ``name`` is its name in the program, and that of
    a LeaderWorkerSet the one in the cluster."""

    action: Action
    kind: str
    name: str

    @property
    def effect(self) -> EffectClass | None:
        """What it means for the stack; None for a LeaderWorkerSet, which needs a closer look."""
        if self.kind == GROUP:
            return None
        if self.kind == "Job" and self.name.startswith(WEIGHTS_JOB):
            return EffectClass.MOVE_OF_WEIGHTS
        if self.kind in VOLUME_KINDS and self.action != "update":
            return EffectClass.NEW_VOLUME
        return EffectClass.ROUTE if self.kind in ROUTE_KINDS else EffectClass.OTHER_OBJECTS


@dataclass(frozen=True, kw_only=True)
class GroupUpdate:
    """An update of a LeaderWorkerSet in place."""

    template: bool
    """Whether the template changes."""

    replicas: tuple[int, int] | None
    """Number of groups before and after; None where an autoscaler sets it."""

    digest: str
    """Eight hexadecimal digits, which depend on both templates."""

    by_hand: tuple[tuple[str, str, str | None], ...] | None = ()
    """Fields that another manager has set: path, manager, and the value to which the update sets them back, None if it
    keeps them. None: not known."""

    @property
    def scales(self) -> bool:
        """Whether it changes the number of groups."""
        return self.replicas is not None and self.replicas[0] != self.replicas[1]


@dataclass(frozen=True, kw_only=True)
class Revision:
    """A LeaderWorkerSet when an update has succeeded: its groups (None where an autoscaler sets their number), the
    percentage of requests that they get, and whether the update was by this revision."""

    replicas: int | None
    requests: int
    is_second: bool


def revisions(spec: ResolvedSpec) -> dict[str, Revision]:
    """The LeaderWorkerSets of a stack by name."""
    second = spec.update.weight if spec.update else 0
    return {
        one.name: Revision(
            replicas=one.replicas.most if one.replicas.scaler is None else None,
            requests=100 - second if one is spec else second,
            is_second=one is not spec,
        )
        for one in spec.revisions
    }


@dataclass(frozen=True, kw_only=True)
class Update:
    """What an update does. ``before`` and ``settings`` are the stack file's settings, as they were applied last and as
    they are now, and ``revisions`` the LeaderWorkerSets that were applied last; ``before`` is None and ``revisions``
    empty if no update has recorded them."""

    before: Mapping[str, Any] | None
    settings: Mapping[str, Any]
    revisions: Mapping[str, Revision]
    operations: Sequence[Operation]
    groups: Mapping[str, GroupUpdate]
    """LeaderWorkerSets that are updated in place, by name."""

    def sets(self, action: Action) -> list[str]:
        """Names of the LeaderWorkerSets to which this happens."""
        return [o.name for o in self.operations if o.kind == GROUP and o.action == action]


def is_first(update: Update, spec: ResolvedSpec) -> bool:
    """Whether it creates all groups, and nothing was recorded before."""
    return update.before is None and len(update.sets("create")) == len(spec.revisions)


def restarted(group: GroupUpdate, partition: int) -> tuple[int, int] | None:
    """Groups that an update restarts: the lowest number, and how many; None where an autoscaler sets their number."""
    if not group.template:
        return 0, 0
    if group.replicas is None:
        return None
    running = min(group.replicas)
    first = min(partition, running)
    return first, running - first


def classes(update: Update, spec: ResolvedSpec) -> tuple[EffectClass, ...]:
    """The classes of an update, the most severe first; empty if it does nothing."""
    found = {operation.effect for operation in update.operations}
    found |= set(_of_sets(update, spec).values())
    for name, group in update.groups.items():
        numbers = restarted(group, _revision(spec, name).rollout.partition)
        restarts = numbers is None or numbers[1] > 0
        if restarts:
            found.add(EffectClass.RESTART)
        if group.scales:
            found.add(EffectClass.SCALE)
        if not restarts and not group.scales:
            found.add(EffectClass.OTHER_OBJECTS)
    return tuple(effect for effect in EffectClass if effect in found)


def _of_sets(update: Update, spec: ResolvedSpec) -> dict[str, EffectClass]:
    """What it means that LeaderWorkerSets are created, replaced or deleted. If one of them stays, it serves."""
    if is_first(update, spec):
        return {}
    created, deleted, replaced = update.sets("create"), update.sets("delete"), update.sets("replace")
    stay = {one.name for one in spec.revisions} - {*created, *replaced}
    if not stay:
        return dict.fromkeys([*created, *replaced, *deleted], EffectClass.REPLACEMENT)
    return {
        **dict.fromkeys(replaced, EffectClass.REPLACEMENT),
        **dict.fromkeys(created, EffectClass.SECOND_REVISION),
        **{name: _end(update.revisions.get(name)) for name in deleted},
    }


def _end(revision: Revision | None) -> EffectClass:
    return EffectClass.GOING_BACK if revision and revision.is_second else EffectClass.PROMOTION


def _revision(spec: ResolvedSpec, name: str) -> ResolvedSpec:
    return next(one for one in spec.revisions if one.name == name)


def text(update: Update, spec: ResolvedSpec, *, now: datetime) -> str:
    """The effect with labels, in lines of at most ``WIDTH`` columns."""
    return "\n".join(line for label, said in _lines(update, spec, now) for line in _wrapped(label, said))


def refusal(update: Update, spec: ResolvedSpec, *, now: datetime) -> Finding | None:
    """Why the update may not restart groups now; None if it restarts none, or may."""
    chosen = spec.rollout.restarts
    if chosen is None or chosen.allow == "always" or not _restarts_serving(update, spec):
        return None
    digest = _digest(update, spec)
    if digest == chosen.confirm:
        return None
    confirm = f"write confirm: {digest} to let this one change through now"
    other = "" if chosen.confirm is None else f"; confirm: {chosen.confirm} is of another change"
    problem = f"this update restarts {_how_many(update, spec)}, which has not been confirmed{other}"
    if chosen.allow == "window":
        if any(is_between(window.start, window.end, now) for window in chosen.windows):
            return None
        opens = min((at for window in chosen.windows if (at := upcoming(window.start, now))), default=None)
        problem = (
            f"this update restarts {_how_many(update, spec)}, and {now:%a %Y-%m-%d %H:%M} ({chosen.timezone}) is in no "
            f"window{other}"
        )
        if opens is not None:
            confirm = f"wait until {opens:%a %Y-%m-%d %H:%M}, or {confirm}"
    return Finding(path=Field.RESTARTS, problem=problem, fix=confirm)


def setting_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The settings that differ: path, old and new value as far as they are short."""
    old, new = dict(_leaves(before)), dict(_leaves(after))
    return [
        _setting_change(path, old.get(path), new.get(path))
        for path in sorted(old.keys() | new.keys())
        if old.get(path) != new.get(path)
    ]


def _leaves(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Settings by path; values as JSON, in which a whole number is one whatever carried it."""
    for name, value in settings.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{path}.")
        else:
            yield path, json.dumps(_whole(value), sort_keys=True, ensure_ascii=False)


def _whole(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_whole(item) for item in value]
    if isinstance(value, Mapping):
        return {name: _whole(item) for name, item in value.items()}
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _setting_change(path: str, old: str | None, new: str | None) -> str:
    if new is None:
        return f"{path} removed"
    return f"{path} {_short(new)} (new)" if old is None else f"{path} {_short(old)} → {_short(new)}"


def _short(value: str) -> str:
    shown = value.strip('"')
    return shown if len(shown) <= LONGEST_VALUE else f"{shown[: LONGEST_VALUE - 1]}…"


def _lines(update: Update, spec: ResolvedSpec, now: datetime) -> Iterator[tuple[str, str]]:
    found = classes(update, spec)
    if is_first(update, spec):
        yield "effect", f"creates the stack: {_objects(update.operations, 'create')}"
        return
    for number, change in enumerate(_changes(update, found)):
        yield "" if number else "change", change
    if not found:
        yield "effect", "nothing: no object changes, and no pod is restarted"
        return
    yield "effect", ", ".join(found) + ("" if _touches_groups(found) else ": no pod of a group is restarted")
    yield from _group_lines(update, spec, now)
    for action, label in (("create", "creates"), ("update", "changes"), ("replace", "replaces"), ("delete", "deletes")):
        if any(operation.action == action for operation in update.operations):
            yield label, _objects(update.operations, action)
    if update.before is None:
        yield "deletes", "not known: no update has recorded its objects yet"
    if keeps := _keeps(found):
        yield "keeps", keeps


def _changes(update: Update, found: Sequence[EffectClass]) -> list[str]:
    """What differs, or why nothing does; one line each."""
    if update.before is None:
        return ["not known: no update has recorded its settings yet"]
    if changes := setting_changes(update.before, update.settings):
        more = len(changes) - MOST_CHANGES
        return changes if more <= 0 else [*changes[:MOST_CHANGES], f"and {more} more"]
    if not found:
        return ["none since the last update that succeeded"]
    secrets = sorted(o.name for o in update.operations if o.kind == "Secret" and o.action == "replace")
    if secrets:
        return [f"no setting; a secret: {', '.join(secrets)}"]
    return ["no setting: by the program, which is another version, or by an update that did not finish"]


def _touches_groups(found: Sequence[EffectClass]) -> bool:
    return not OF_GROUPS.isdisjoint(found)


def _restarts_serving(update: Update, spec: ResolvedSpec) -> bool:
    """Whether groups that get requests are recreated."""
    numbers = _restarting(update, spec)
    return numbers is None or numbers[1] > 0 or _replaces(update, spec)


def _replaces(update: Update, spec: ResolvedSpec) -> bool:
    return EffectClass.REPLACEMENT in _of_sets(update, spec).values()


def _restarting(update: Update, spec: ResolvedSpec) -> tuple[int, int] | None:
    """As ``restarted``, of the groups that get requests."""
    found = _with_requests(update, spec)
    return restarted(found, spec.rollout.partition) if found else (0, 0)


def _with_requests(update: Update, spec: ResolvedSpec) -> GroupUpdate | None:
    """Of two LeaderWorkerSets that serve, only the first one can change (components/inference_group.py)."""
    return next((group for name, group in update.groups.items() if not _is_idle(spec, name)), None)


def _is_idle(spec: ResolvedSpec, name: str) -> bool:
    """Whether it is the second revision, before it gets requests."""
    return spec.update is not None and name == spec.update.candidate.name and spec.update.weight == 0


def _digest(update: Update, spec: ResolvedSpec) -> str:
    """That of the templates; of a replacement, whose templates are not compared, that of the settings."""
    if group := _with_requests(update, spec):
        return group.digest
    return digest(sorted(_leaves(update.before or {})), sorted(_leaves(update.settings)))


def digest(*content: object) -> str:
    """Eight hexadecimal digits."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


def _how_many(update: Update, spec: ResolvedSpec) -> str:
    numbers = _restarting(update, spec)
    return "all groups" if numbers is None or _replaces(update, spec) else _groups(numbers[1])


def _group_lines(update: Update, spec: ResolvedSpec, now: datetime) -> Iterator[tuple[str, str]]:
    yield from _set_lines(update, spec)
    for name, group in update.groups.items():
        one = _revision(spec, name)
        of = f"{name}: " if spec.update else ""
        numbers = restarted(group, one.rollout.partition)
        if numbers is None or numbers[1]:
            yield "restart", of + _restart(numbers, one)
            if _is_idle(spec, name):
                yield "serves", f"{of}gets no requests yet"
            else:
                yield "serves", of + _serves(group, numbers, one)
                yield "requests", of + _requests(one)
        elif group.template:
            yield "restart", f"{of}none: no group runs, or the partition keeps all of them on the old template"
        if group.replicas and group.scales:
            yield "scale", of + _scale(*group.replicas, one)
            if group.replicas[1] < group.replicas[0]:
                yield "requests", of + _requests(one)
        yield from _hand_lines(group, of)
    yield from _permission(update, spec, now)
    yield from _share_lines(update, spec)


def _set_lines(update: Update, spec: ResolvedSpec) -> Iterator[tuple[str, str]]:
    """What becomes of the LeaderWorkerSets that are created, replaced or deleted."""
    sets = _of_sets(update, spec)
    serving = ", ".join(one.name for one in spec.revisions if one.name not in sets)
    if _replaces(update, spec):
        yield (
            "restart",
            "all groups, in another LeaderWorkerSet: the new ones are created before the old ones are deleted, and "
            f"need GPUs at the same time; {_load(spec)} each",
        )
        yield "serves", "the old groups until the new ones answer"
        yield "requests", _requests(spec)
    for name, effect in sets.items():
        revision = update.revisions.get(name)
        its_groups = "its groups" if revision is None or revision.replicas is None else _groups(revision.replicas)
        if effect is EffectClass.SECOND_REVISION:
            one = _revision(spec, name)
            yield (
                "revision",
                f"creates {name}: {_groups(one.replicas.most)}, {_load(one)} each; {serving} serves meanwhile, so GPUs "
                "for both are needed",
            )
        elif effect is EffectClass.PROMOTION:
            yield "revision", f"{serving} serves from now on; then {name} is deleted ({its_groups})"
            yield "requests", _requests(spec)
        elif effect is EffectClass.GOING_BACK:
            yield "revision", f"gives up {name} ({its_groups}): {serving} serves, and then it is deleted"
            yield "requests", _requests(spec)


def _hand_lines(group: GroupUpdate, of: str) -> Iterator[tuple[str, str]]:
    if group.by_hand is None:
        yield "by hand", f"{of}not known: the cluster did not say who has set the fields of the LeaderWorkerSet"
        return
    lost = [f"{path} to {_short(back)} (set by {manager})" for path, manager, back in group.by_hand if back is not None]
    kept = [f"{path} (set by {manager})" for path, manager, back in group.by_hand if back is None]
    for verb, fields in (("sets back", lost), ("keeps", kept)):
        if fields:
            yield "by hand", f"{of}{verb} {', '.join(fields)}"


def _share_lines(update: Update, spec: ResolvedSpec) -> Iterator[tuple[str, str]]:
    """Percentages of the requests that change."""
    before = {name: revision.requests for name, revision in update.revisions.items()}
    after = {name: revision.requests for name, revision in revisions(spec).items()}
    names = [*before, *(name for name in after if name not in before)]
    if before and before != after and set(before) & set(after):
        yield "shares", ", ".join(f"{name} {before.get(name, 0)} → {after.get(name, 0)} %" for name in names)


def _restart(numbers: tuple[int, int] | None, spec: ResolvedSpec) -> str:
    rollout = spec.rollout
    at_once = rollout.max_unavailable + rollout.max_surge
    if numbers is None:
        return f"all groups that run, from the highest number down, {at_once} at a time; {_load(spec)} each"
    first, count = numbers
    which = _groups(count) if not first else f"{_groups(count)} from number {first} on (partition)"
    if count == 1:
        return f"{which}; {_load(spec)}"
    rounds = math.ceil(count / at_once)
    end_seconds = spec.lifecycle.grace_seconds if spec.lifecycle else 0
    fastest, slowest = start_seconds(spec)
    return (
        f"{which}, from the highest number down, {min(at_once, count)} at a time; {_load(spec)} each, "
        f"{_minutes(rounds * fastest)} to {_minutes(rounds * (slowest + end_seconds))} min in all, "
        f"{'as measured' if spec.starts else 'by the plan'}"
    )


def _load(spec: ResolvedSpec) -> str:
    return f"ready in {start_time(spec)}"


def _serves(group: GroupUpdate, numbers: tuple[int, int] | None, spec: ResolvedSpec) -> str:
    down = spec.rollout.max_unavailable
    if group.replicas is None or numbers is None:
        return f"all groups but {down}"
    running = min(group.replicas)
    serving = running - min(down, numbers[1])
    if serving == 0:
        return "none until a new group answers: the endpoint is down"
    return f"at least {serving} of {_groups(running)} at any time"


def _requests(spec: ResolvedSpec) -> str:
    lifecycle = spec.lifecycle
    if lifecycle is None:
        return (
            f"those under way in a group that ends are cut off after {DEFAULT_GRACE_SECONDS} s at most "
            "(inference.lifecycle lets them finish)"
        )
    return f"those under way finish within {lifecycle.request_seconds} s; longer ones are cut off"


def _scale(before: int, after: int, spec: ResolvedSpec) -> str:
    if after > before:
        return f"from {before} to {_groups(after)}: adds {_numbers(before, after)}, {_load(spec)}"
    down = "; the endpoint is down" if after == 0 else ""
    return f"from {before} to {_groups(after)}: ends {_numbers(after, before)} (the highest), even if busy{down}"


def _numbers(low: int, high: int) -> str:
    return f"group {low}" if high - low == 1 else f"groups {low} to {high - 1}"


def _permission(update: Update, spec: ResolvedSpec, now: datetime) -> Iterator[tuple[str, str]]:
    chosen = spec.rollout.restarts
    if chosen is not None and chosen.allow != "always" and _restarts_serving(update, spec):
        allowed = "no" if refusal(update, spec, now=now) else "yes"
        yield "allowed", f"{allowed} (rollout.restarts, allow: {chosen.allow}); digest {_digest(update, spec)}"


def _objects(operations: Sequence[Operation], action: str) -> str:
    kinds = Counter(operation.kind for operation in operations if operation.action == action)
    return ", ".join(kind if count == 1 else f"{count} {kind}" for kind, count in sorted(kinds.items()))


def _keeps(found: Sequence[EffectClass]) -> str:
    """What a reader may fear for."""
    if not _touches_groups(found):
        return ""
    parts = {
        "weights": EffectClass.MOVE_OF_WEIGHTS,
        "volume": EffectClass.NEW_VOLUME,
        "Service and route": EffectClass.ROUTE,
    }
    return ", ".join(part for part, lost in parts.items() if lost not in found and EffectClass.REPLACEMENT not in found)


def _groups(count: int) -> str:
    return "1 group" if count == 1 else f"{count} groups"


def _minutes(seconds: float) -> int:
    return math.ceil(seconds / 60)


def _wrapped(label: str, said: str) -> list[str]:
    lines = textwrap.wrap(said, WIDTH - LABEL, break_long_words=False, break_on_hyphens=False)
    return [f"{label if not number else '':<{LABEL}}{line}" for number, line in enumerate(lines)]
