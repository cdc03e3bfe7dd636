"""Tells the effect of an update before it happens, and stops one that may not restart groups now.

What was applied last comes from two places, which both need no cluster:

- The engine compares each object with its state, and calls a hook with the old and the new inputs before it changes
  one, in a preview as well.
- A record of the settings, of each LeaderWorkerSet, and of the names of all objects, in the state, too
  (``pulumi:index:Stash``). It depends on all objects, so it is that of the last update that succeeded. The engine shows
  it to the hook in the same way. From it come the settings that have changed, and the objects that are no longer
  wanted: no hook is called for those, unless ``pulumi destroy`` needs the program, too.
"""

import asyncio
import dataclasses
import json
import re
import zoneinfo
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import pulumi
from pulumi import ResourceHook, ResourceHookArgs, ResourceHookBinding, ResourceHookOptions, ResourceOptions

from deepseek_acs.planner.effect import (
    GROUP,
    GroupUpdate,
    Operation,
    Revision,
    Update,
    digest,
    refusal,
    revisions,
    text,
)
from deepseek_acs.planner.findings import Finding, report, spelled
from deepseek_acs.planner.spec import ResolvedSpec
from deepseek_acs.settings.paths import STACK_PATHS

from .crds import LeaderWorkerSet
from .live_cluster import LookupFailedError
from .names import field_manager
from .ownership import Ownership

VERSION = 1
"""Version of the record."""

STASH = "pulumi:index:Stash"
PREFIXES = ("kubernetes:", "alicloud:", STASH)
SCALED = ("f:spec", "f:replicas")
PARTITION = ("f:spec", "f:rolloutStrategy", "f:rollingUpdateConfiguration", "f:partition")

LOST = (
    "{name}: the update sets back what was set by hand: {fields}; to keep it, write it into the stack file; if the "
    "preview fails with a conflict: docs/runbook.md#apply-failed-with-1-conflict"
)

NOT_NOW = "this update may not restart groups now, see the error above; nothing was changed"


class Changes:
    """To be made before any resource but the providers."""

    def __init__(self, spec: ResolvedSpec, settings: Mapping[str, Any], ownership: Ownership) -> None:
        self._spec = spec
        self._settings = settings
        self._ownership = ownership
        self._resources: list[pulumi.Resource] = []
        self._objects: dict[str, bool] = {}
        self._operations: list[tuple[str, str]] = []
        self._sets: dict[str, str] = {}
        self._groups: dict[str, GroupUpdate] = {}
        self._recorded: Mapping[str, Any] | None = None
        self._is_new = False
        hook = ResourceHook("changes", self._before, ResourceHookOptions(on_dry_run=True))
        self._hooks = ResourceOptions(hooks=ResourceHookBinding(before_create=[hook], before_update=[hook]))
        pulumi.runtime.register_stack_transformation(self._watch)

    async def verdict(self) -> None:
        """Records the settings. In a preview, tells the effect, and fails if groups may not be restarted now."""
        found = revisions(self._spec)
        record = {
            "version": VERSION,
            # As text: the state keeps no null.
            "settings": json.dumps(self._settings, sort_keys=True),
            "sets": {key: {"name": name, **dataclasses.asdict(found[name])} for key, name in self._sets.items()},
            "objects": sorted(name for name, is_deleted in self._objects.items() if is_deleted),
            "kept": sorted(name for name, is_deleted in self._objects.items() if not is_deleted),
        }
        depends_on = list(self._resources)
        stash = pulumi.Stash("applied", input=record, opts=ResourceOptions(depends_on=depends_on))
        if not pulumi.runtime.is_dry_run():
            return
        await asyncio.gather(*(resource.urn.future() for resource in (*depends_on, stash)), return_exceptions=True)
        update, now = self._update(record), self._now()
        pulumi.log.info(text(update, self._spec, now=now))
        if refused := refusal(update, self._spec, now=now):
            pulumi.log.error(_report(refused))
            raise pulumi.RunError(NOT_NOW)

    def _watch(self, args: pulumi.ResourceTransformationArgs) -> pulumi.ResourceTransformationResult | None:
        if args.opts.id is not None or not args.type_.startswith(PREFIXES):
            return None
        if args.type_ != STASH:
            key = f"{args.type_}::{args.name}"
            self._resources.append(args.resource)
            self._objects[key] = not (args.opts.retain_on_delete or args.opts.protect)
            if _is_group(args.type_):
                metadata: Any = args.props["metadata"]
                self._sets[key] = metadata["name"]
        return pulumi.ResourceTransformationResult(args.props, ResourceOptions.merge(args.opts, self._hooks))

    async def _before(self, args: ResourceHookArgs) -> None:
        if args.type == STASH:
            self._recorded = (args.old_inputs or {}).get("input") or {}
            # Another version of the program may have written another form.
            self._is_new = self._recorded.get("version") != VERSION
            return
        action = "create" if args.old_inputs is None else "update"
        self._operations.append((action, f"{args.type}::{args.name}"))
        if _is_group(args.type) and args.old_inputs is not None:
            name, inputs = self._sets[f"{args.type}::{args.name}"], args.new_inputs or {}
            found = group_update(args.old_inputs, inputs, autoscaled=self._is_scaled(name))
            if pulumi.runtime.is_dry_run():
                by_hand = await self._by_hand(name, inputs)
                self._groups[name] = dataclasses.replace(found, by_hand=by_hand)
                if lost := [path for path, _, back in by_hand or () if back is not None]:
                    # Immediately: the preview may fail with a conflict, and then it does not reach its end.
                    pulumi.log.warn(LOST.format(name=name, fields=", ".join(lost)))
            else:
                self._stop_unless_allowed({name: found})

    def _stop_unless_allowed(self, groups: Mapping[str, GroupUpdate]) -> None:
        """A preview has found it before; this is for --skip-preview."""
        update = Update(
            before=self._settings,
            settings=self._settings,
            revisions={},
            operations=self._known(None),
            groups=groups,
        )
        if found := refusal(update, self._spec, now=self._now()):
            raise pulumi.RunError(_report(found))

    def _is_scaled(self, name: str) -> bool:
        """Whether an autoscaler sets the number of groups of a LeaderWorkerSet."""
        return any(one.replicas.scaler is not None for one in self._spec.revisions if one.name == name)

    async def _by_hand(self, name: str, inputs: Mapping[str, Any]) -> tuple[tuple[str, str, str | None], ...] | None:
        """What others have set in the spec of the live object."""
        place = {"namespace": inputs["metadata"]["namespace"], "name": name}
        try:
            if (cluster := await self._ownership.cluster()) is None:
                return None
            live = await asyncio.to_thread(cluster.metadata, LeaderWorkerSet.group_version, GROUP, **place)
        except LookupFailedError:
            return None
        if live is None:
            return None
        entries = [entry for entry in live.get("managedFields") or [] if entry.get("subresource") != "status"]
        owned = [
            (str(entry["manager"]), path)
            for entry in entries
            for path in _paths(entry.get("fieldsV1", {}).get("f:spec", {}), ("f:spec",))
        ]
        # Two managers own a field together if both have set the same value.
        known = {path for manager, path in owned if manager == field_manager()}
        known |= {SCALED} if self._is_scaled(name) else set()
        known |= {PARTITION} if self._spec.gate else set()
        return tuple((_spelled(path), manager, _value(inputs, path)) for manager, path in owned if path not in known)

    def _update(self, record: Mapping[str, Any]) -> Update:
        # No hook is called for a record that does not change.
        last = None if self._is_new else (self._recorded or record)
        return Update(
            before=None if last is None else json.loads(last["settings"]),
            settings=self._settings,
            revisions=_recorded_revisions(last),
            operations=self._known(last),
            groups=self._groups,
        )

    def _known(self, last: Mapping[str, Any] | None) -> list[Operation]:
        """What the engine does. It calls a replacement a creation; that the object was there is on record."""
        had = {*last["objects"], *last["kept"]} if last else set()
        recorded = {key: found["name"] for key, found in (last["sets"] if last else {}).items()}
        found = [
            _operation("replace" if action == "create" and key in had else action, key, self._sets)
            for action, key in self._operations
        ]
        gone = [key for key in (last["objects"] if last else ()) if key not in self._objects]
        return found + [_operation("delete", key, recorded) for key in gone]

    def _now(self) -> datetime:
        chosen = self._spec.rollout.restarts
        return datetime.now(zoneinfo.ZoneInfo(chosen.timezone if chosen else "UTC"))


def group_update(old: Mapping[str, Any], new: Mapping[str, Any], *, autoscaled: bool) -> GroupUpdate:
    """What becomes of the groups, from the old and the new inputs of the LeaderWorkerSet."""
    before, after = (_plain(inputs["spec"]) for inputs in (old, new))
    templates = [spec["leaderWorkerTemplate"] for spec in (before, after)]
    return GroupUpdate(
        template=templates[0] != templates[1],
        replicas=None if autoscaled else (_count(before), _count(after)),
        digest=digest(templates[0], _without_secret_names(templates[1])),
    )


def _is_group(kind: str) -> bool:
    return kind.endswith(f":{GROUP}")


def _operation(action: Any, key: str, sets: Mapping[str, str]) -> Operation:
    kind, _, name = key.partition("::")
    return Operation(action=action, kind=kind.rsplit(":", 1)[-1], name=sets.get(key, name))


def _recorded_revisions(last: Mapping[str, Any] | None) -> dict[str, Revision]:
    """From the record, whose numbers are floats, and which has no null."""
    found = [dict(values) for values in (last["sets"] if last else {}).values()]
    return {
        values["name"]: Revision(
            replicas=None if values.get("replicas") is None else int(values["replicas"]),
            requests=int(values["requests"]),
            is_second=values["is_second"],
        )
        for values in found
    }


def _count(spec: Mapping[str, Any]) -> int:
    return int(spec.get("replicas", 1))


def _plain(value: Any) -> Any:
    """Comparable: of what is not known yet, or a secret, only that it is."""
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, str | int | float | bool) else f"<{type(value).__name__}>"


def _without_secret_names(template: Any) -> Any:
    """Names of Secrets are generated, and another one in each preview."""
    shown = json.dumps(template, sort_keys=True)  # the engine gives the keys in another order each time
    shown = re.sub(r'("secretKeyRef": \{[^{}]*"name": )"[^"]*"', r'\1"*"', shown)
    return re.sub(r'"secretName": "[^"]*"', '"secretName": "*"', shown)


def _paths(fields: Mapping[str, Any], prefix: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Fields of managedFields, without the kind of their last part
    (https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management)."""
    inner = {key: value for key, value in fields.items() if key != "."}
    if not inner:
        yield prefix
    for key, value in inner.items():
        yield from _paths(value, (*prefix, key))


def _spelled(path: Sequence[str]) -> str:
    """As kubectl explain; an item of a list by its key."""
    parts = []
    for key in path:
        kind, _, name = key.partition(":")
        parts.append(f".{name}" if kind == "f" else f"[{', '.join(map(str, _item(name)))}]")
    return "".join(parts).removeprefix(".")


def _item(key: str) -> list[Any]:
    """What identifies an item of a list."""
    found = json.loads(key)
    return list(found.values()) if isinstance(found, dict) else [found]


def _value(inputs: Mapping[str, Any], path: Sequence[str]) -> str | None:
    """What the program sets at the path, as JSON; None if it sets nothing there."""
    here: Any = inputs
    for key in path:
        kind, _, name = key.partition(":")
        if kind == "f":
            here = here.get(name) if isinstance(here, Mapping) else None
        else:
            wanted, items = json.loads(name), here if isinstance(here, list) else []
            is_key = isinstance(wanted, dict)
            here = next((i for i in items if (wanted.items() <= i.items() if is_key else i == wanted)), None)
        if here is None:
            return None
    return json.dumps(_plain(here), ensure_ascii=False)


def _report(found: Finding) -> str:
    outcome = "nothing was created or changed" if pulumi.runtime.is_dry_run() else "no group was restarted"
    return report([spelled(found, STACK_PATHS)], where=f"Pulumi.{pulumi.get_stack()}.yaml", outcome=outcome)
