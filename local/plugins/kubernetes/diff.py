"""Which changes of the inputs replace an object: the official plugin's table of force-new fields."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

AUTONAMED = "pulumi.com/autonamed"

REPLACE_UNREADY = '.metadata.annotations["pulumi.com/replaceUnready"]'
"""What the official plugin names as the changed property of a Job that it replaces for not being complete."""

FORCE_NEW: Mapping[str, tuple[str, ...]] = {
    "Job": ("spec.completions", "spec.parallelism", "spec.selector", "spec.template"),
    "PersistentVolume": ("spec.csi", "spec.hostPath", "spec.nfs", "spec.local"),
    "PersistentVolumeClaim": (
        "spec.accessModes",
        "spec.selector",
        "spec.storageClassName",
        "spec.volumeName",
    ),
    "Secret": ("type",),
    "Service": ("spec.clusterIP",),
    "StatefulSet": (
        "spec.podManagementPolicy",
        "spec.revisionHistoryLimit",
        "spec.selector",
        "spec.serviceName",
        "spec.volumeClaimTemplates",
    ),
}
"""By kind; https://github.com/pulumi/pulumi-kubernetes/blob/master/provider/pkg/provider/diff.go. Kinds that are not
listed, custom ones among them, are replaced by identity alone."""

CONTENTS: Mapping[str, tuple[str, ...]] = {"ConfigMap": ("data", "binaryData"), "Secret": ("data", "stringData")}
"""The same for kinds that a provider may be told to change in place, if they are not marked as immutable."""

IDENTITY = ("apiVersion", "kind", "metadata.name", "metadata.namespace")


@dataclass(frozen=True)
class Change:
    """One changed property; ``how`` is ADD, DELETE or UPDATE."""

    path: str
    how: str
    replaces: bool


def changes(old: Mapping[str, Any], new: Mapping[str, Any], *, mutable: frozenset[str]) -> list[Change]:
    """All changes from ``old`` to ``new`` inputs; contents of the kinds in ``mutable`` are changed in place."""
    kind = str(new.get("kind"))
    force_new = IDENTITY + FORCE_NEW.get(kind, ())
    if kind not in mutable or new.get("immutable"):
        force_new += CONTENTS.get(kind, ())
    return [
        Change(path, how, any(path == field or path.startswith((f"{field}.", f"{field}[")) for field in force_new))
        for path, how in _walk("", old, new)
    ]


def delete_first(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether a replacement needs the name of what it replaces: only one object can have it."""
    metadata = new.get("metadata", {})
    if (metadata.get("annotations") or {}).get(AUTONAMED) == "true":
        return False
    before = old.get("metadata", {})
    return all(metadata.get(key) == before.get(key) for key in ("name", "namespace"))


def _walk(path: str, old: Any, new: Any) -> Iterator[tuple[str, str]]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted(old.keys() | new.keys()):
            yield from _walk(_join(path, key), old.get(key), new.get(key))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _walk(f"{path}[{index}]", before, after)
    elif old != new:
        yield path, "ADD" if old is None else "DELETE" if new is None else "UPDATE"


def _join(path: str, key: str) -> str:
    # The engine's own spelling of keys with dots.
    step = f'["{key}"]' if "." in key or "/" in key else f".{key}"
    return f"{path}{step}".lstrip(".")
