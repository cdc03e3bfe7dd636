"""A resource as the checks see it, and access to properties that may not be known yet."""

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from deepseek_acs.planner.findings import Finding

UNKNOWN_VALUES = frozenset(
    {
        "1c4a061d-8072-4f0a-a4cb-0ff528b18fe7",
        "3eeb2bf0-c639-47a8-9e75-3b44932eb421",
        "04da6b54-80e4-46f7-96ec-b56ff0331ba9",
        "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2",
        "030794c1-ac77-496b-92df-f27374a8bd58",
        "e48ece36-62e2-4504-bad9-02848725956a",
        "dd056dcd-154b-4c76-9bd3-c8f88648b5ff",
    }
)
"""Placeholders of the engine in a preview for values that are known only in the update, by type
(https://github.com/pulumi/pulumi/blob/v3.255.0/sdk/go/common/resource/plugin/rpc.go)."""


class Unknown:
    """The type of :data:`UNKNOWN`."""

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Final = Unknown()
"""A value that is not known in a preview. Checks skip it; the update checks it again."""


@dataclass(frozen=True, kw_only=True)
class Resource:
    """One resource of a stack.

    :param type: Pulumi's type token.
    :param properties: plain data with :data:`UNKNOWN` in it; secrets are open, so no finding may repeat a value.
    :param references: URNs of the resources that a property was made from, by property; known to stack checks only.
    """

    type: str
    name: str
    urn: str
    properties: Mapping[str, Any]
    protected: bool = False
    references: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def stack(self) -> str:
        """The stack's name, without organization."""
        return self.urn.split("::")[0].rpartition(":")[2]

    @property
    def kind(self) -> str:
        """Of a Kubernetes object; empty for other resources."""
        return text(self.properties.get("kind")) if self.type.startswith("kubernetes:") else ""

    @property
    def spec(self) -> Mapping[str, Any]:
        """Of a Kubernetes object."""
        return mapping(self.properties.get("spec"))

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Of a Kubernetes object."""
        return mapping(self.properties.get("metadata"))

    @property
    def title(self) -> str:
        """The object's name where it is known, else the resource's."""
        return text(self.metadata.get("name")) or self.name

    @property
    def namespace(self) -> Any:
        """Of a Kubernetes object; maybe :data:`UNKNOWN`."""
        return self.metadata.get("namespace")


@dataclass(frozen=True, kw_only=True)
class Violation:
    """A finding of a stack check, with the resource that it is about."""

    resource: Resource
    finding: Finding


def plain(value: Any) -> Any:
    """Properties as they come over the wire, with unknown values replaced and whole numbers as integers."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, str):
        return UNKNOWN if value in UNKNOWN_VALUES else value
    if isinstance(value, Sequence):
        return [plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def mapping(value: Any) -> Mapping[str, Any]:
    """``value`` if it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def items(value: Any) -> Sequence[Any]:
    """``value`` if it is a list, else an empty one."""
    return value if isinstance(value, Sequence) and not isinstance(value, str) else ()


def text(value: Any) -> str:
    """``value`` if it is a string, else an empty one."""
    return value if isinstance(value, str) else ""


def could_be(value: Any, other: Any) -> bool:
    """Whether both are equal, as far as they are known."""
    return value is UNKNOWN or other is UNKNOWN or value == other


def texts(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every string in ``value``, with its path."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from texts(item, f"{path}.{key}" if path else str(key))
    else:
        for index, item in enumerate(items(value)):
            yield from texts(item, f"{path}[{index}]")


def of_kind(stack: Sequence[Resource], *kinds: str) -> list[Resource]:
    """The Kubernetes objects of these kinds."""
    return [resource for resource in stack if resource.kind in kinds]


def of_type(stack: Sequence[Resource], token: str) -> list[Resource]:
    """The resources of this type."""
    return [resource for resource in stack if resource.type == token]


def secret_values(secret: Resource) -> Iterator[tuple[str, str]]:
    """Keys and values of a Secret, decoded."""
    for key, value in mapping(secret.properties.get("stringData")).items():
        yield key, text(value)
    for key, value in mapping(secret.properties.get("data")).items():
        try:
            yield key, base64.b64decode(text(value), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            continue  # bytes: they stand in no text
