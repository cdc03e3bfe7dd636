"""A resource as the checks see it, and access to properties that may not be known yet."""

import base64
import binascii
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from deepseek_acs.planner.findings import Finding
from deepseek_acs.planner.urls import is_loopback

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
"""A value that is not known in a preview. No check evaluates it: the update asks again."""

CLOUD_PROVIDER = "pulumi:providers:alicloud"
CLOUD_SERVICES = ("oss", "ram", "sts", "slb")
"""Services of Alibaba Cloud that the program calls."""


@dataclass(frozen=True, kw_only=True)
class Resource:
    """One resource of a stack.

    :param type: Pulumi's type token.
    :param properties: plain data with :data:`UNKNOWN` in it; secrets are open, so no finding may repeat a value.
    :param read_only: the program reads it and does not manage it; known to stack checks only.
    :param references: URNs of the resources that a property was made from, by property; known to stack checks only.
    """

    type: str
    name: str
    urn: str
    properties: Mapping[str, Any]
    protected: bool = False
    read_only: bool = False
    references: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def stack(self) -> str:
        """The stack's name, without organization."""
        return self.urn.split("::")[0].rpartition(":")[2]

    @property
    def kind(self) -> str:
        """Of a Kubernetes object; empty for other resources."""
        if not self.type.startswith("kubernetes:"):
            return ""
        return text(self.properties.get("kind")) or self.type.rpartition(":")[2]

    @property
    def spec(self) -> Mapping[str, Any]:
        """Of a Kubernetes object."""
        return mapping(self.properties.get("spec"))

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Of a Kubernetes object."""
        return mapping(self.properties.get("metadata"))

    @property
    def annotations(self) -> Mapping[str, Any]:
        """Of a Kubernetes object."""
        return mapping(self.metadata.get("annotations"))

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
    """Every string inside ``value``, with its path."""
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


def is_local(stack: Sequence[Resource]) -> bool:
    """Whether the stack's cloud is an emulator on this machine: all services that the program calls have an endpoint,
    and each endpoint is a loopback address. A stack's name says nothing."""
    providers = of_type(stack, CLOUD_PROVIDER)
    return bool(providers) and all(map(_is_emulated, providers))


def _is_emulated(provider: Resource) -> bool:
    endpoints = {name: url for entry in map(mapping, cloud_endpoints(provider)) for name, url in entry.items()}
    return set(CLOUD_SERVICES) <= set(endpoints) and all(is_loopback(text(url)) for url in endpoints.values())


def cloud_endpoints(provider: Resource) -> Sequence[Any]:
    """Entries of a provider's ``endpoints``; inputs of a provider travel as JSON."""
    given = provider.properties.get("endpoints")
    try:
        return items(json.loads(given) if isinstance(given, str) else given)
    except json.JSONDecodeError:
        return ()


def secret_values(secret: Resource) -> Iterator[tuple[str, str]]:
    """Keys and values of a Secret, decoded."""
    for key, value in mapping(secret.properties.get("stringData")).items():
        yield key, text(value)
    for key, value in mapping(secret.properties.get("data")).items():
        try:
            yield key, base64.b64decode(text(value), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            continue  # bytes: no string contains them
