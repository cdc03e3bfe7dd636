"""What has changed between an object and the inputs, and which changes replace it, as in the official plugin.

It compares the inputs with the live object of the last update or refresh, cut to what the program sets.
"""

import base64
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kubernetes.utils.quantity import parse_quantity

from local.plugins.kubernetes.facts import FACTS

AUTONAMED = "pulumi.com/autonamed"

REPLACE_UNREADY = '.metadata.annotations["pulumi.com/replaceUnready"]'
"""What the official plugin names as the changed property of a Job that it replaces for not being complete."""

QUANTITY = re.compile(r"(?:\.(?:capacity|hard|limits|requests)\.[^.]+|\.sizeLimit)$")
CUSTOM = ("gateway.networking.k8s.io", "leaderworkerset.x-k8s.io")
"""Groups of custom kinds under the name of Kubernetes itself."""
EMPTY: tuple[Any, ...] = (None, [], {}, "")
"""What a typed object leaves out."""

IDENTITY = ("apiVersion", "kind", "metadata.name", "metadata.namespace")


@dataclass(frozen=True)
class Change:
    """One changed property; ``how`` is ADD, DELETE or UPDATE."""

    path: str
    how: str
    replaces: bool


def changes(old: Mapping[str, Any], new: Mapping[str, Any], *, mutable: frozenset[str]) -> list[Change]:
    """All changes from ``old`` to ``new``, both normalized; contents of the kinds in ``mutable`` change in place."""
    kind = str(new.get("kind"))
    replacing = [*IDENTITY, *FACTS["replaces"].get(f"{new.get('apiVersion')}/{kind}", ())]
    if kind in FACTS["contents"] and (kind not in mutable or new.get("immutable")):
        replacing += FACTS["contents"][kind]["replaces"]
    return [
        Change(path, how, any(path == field or path.startswith((f"{field}.", f"{field}[")) for field in replacing))
        for path, how in _walk("", old, new, typed=is_built_in(str(new.get("apiVersion"))))
    ]


def is_built_in(api_version: str) -> bool:
    """Whether the official plugin knows the types of the group, and reads a quantity as one (clients.Normalize in
    https://github.com/pulumi/pulumi-kubernetes/blob/master/provider/pkg/clients/unstructured.go)."""
    group = api_version.rpartition("/")[0]
    return "." not in group or (group.endswith("k8s.io") and group not in CUSTOM)


def normalized(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """A Secret's contents as the server returns them."""
    found = dict(inputs)
    if found.get("kind") == "Secret" and isinstance(found.get("stringData"), Mapping):
        plain = found.pop("stringData")
        encoded = {key: base64.b64encode(str(value).encode()).decode() for key, value in plain.items()}
        found["data"] = {**(found.get("data") or {}), **encoded}
    return found


def pruned(live: Any, inputs: Any) -> Any:
    """What of the live value is set by the inputs (pruneMap in
    https://github.com/pulumi/pulumi-kubernetes/blob/master/provider/pkg/provider/util.go)."""
    if isinstance(live, Mapping) and isinstance(inputs, Mapping):
        return {key: pruned(value, inputs[key]) for key, value in live.items() if key in inputs}
    if isinstance(live, list) and isinstance(inputs, list):
        return [pruned(value, wanted) for value, wanted in zip(live, inputs, strict=False)]
    return live


def delete_first(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether a replacement needs the name of what it replaces: only one object can have it."""
    metadata = new.get("metadata", {})
    if (metadata.get("annotations") or {}).get(AUTONAMED) == "true":
        return False
    before = old.get("metadata", {})
    return all(metadata.get(key) == before.get(key) for key in ("name", "namespace"))


def _walk(path: str, old: Any, new: Any, *, typed: bool) -> Iterator[tuple[str, str]]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted(old.keys() | new.keys()):
            yield from _walk(_join(path, key), old.get(key), new.get(key), typed=typed)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _walk(f"{path}[{index}]", before, after, typed=typed)
    elif old != new and not (typed and _mean_the_same(path, old, new)):
        yield path, "ADD" if old is None else "DELETE" if new is None else "UPDATE"


def _mean_the_same(path: str, old: Any, new: Any) -> bool:
    if QUANTITY.search(path) and None not in (old, new):
        try:
            return bool(parse_quantity(old) == parse_quantity(new))
        except ValueError:
            return False
    return old in EMPTY and new in EMPTY


def _join(path: str, key: str) -> str:
    # The engine's own spelling of keys with dots.
    step = f'["{key}"]' if "." in key or "/" in key else f".{key}"
    return f"{path}{step}".lstrip(".")
