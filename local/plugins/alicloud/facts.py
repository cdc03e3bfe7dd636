"""``facts.toml``, and what it says of a resource's inputs."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pulumi.runtime.rpc import UNKNOWN

MARK = "# From here on as local.plugins.alicloud.extract prints it."

SCALARS: Mapping[str, type | tuple[type, ...]] = {"string": str, "boolean": bool, "number": (int, float)}

Problem = tuple[str, str]
"""Path of an argument, and what is wrong with it."""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Arguments of a resource or of an object in one; a type is ``string``, ``boolean``, ``integer``, ``number``, the
    name of a type of objects, ``[type]`` for a list or ``{type}`` for a map."""

    types: Mapping[str, str]
    required: Sequence[str] = field(default_factory=list)
    deprecated: Sequence[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class ResourceFacts:
    """The comments in ``facts.toml`` say what the fields mean."""

    terraform: str
    service: str
    actions: Mapping[str, str]
    auto_named: str | None = None
    named_by_cloud: Mapping[str, str] = field(default_factory=dict)
    nameless: Mapping[str, str] = field(default_factory=dict)
    replaces: Sequence[str] = ()
    conflicts: Sequence[Sequence[str]] = ()
    values: Mapping[str, Sequence[str]] = field(default_factory=dict)
    longest: Mapping[str, int] = field(default_factory=dict)
    pattern: Mapping[str, str] = field(default_factory=dict)
    documents: Sequence[str] = ()
    computed: Sequence[str] = ()
    secret: Sequence[str] = ()

    @property
    def name(self) -> str | None:
        """The argument with the resource's name in the cloud, if it has one."""
        return self.auto_named or self.named_by_cloud.get("argument") or self.nameless.get("argument")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """All of the file; ``limits`` are numbers of things that the cloud allows, ``arguments`` those of resources and of
    objects in them."""

    limits: Mapping[str, int]
    resources: Mapping[str, ResourceFacts]
    arguments: Mapping[str, Arguments]

    def problems(self, token: str, inputs: Mapping[str, Any]) -> list[Problem]:
        """What the official plugin refuses in the plain `inputs` of a resource. Unknown values are accepted."""
        facts = self.resources[token]
        found = list(self._object_problems(token, "", inputs))
        for group in facts.conflicts:
            given = [name for name in group if name in inputs]
            found += [(name, f"conflicts with {given[0]}") for name in given[1:]]
        for name, value in inputs.items():
            if isinstance(value, str) and value != UNKNOWN and (problem := _value_problem(facts, name, value)):
                found.append((name, problem))
        return found

    def _object_problems(self, type_name: str, path: str, value: Mapping[str, Any]) -> Iterator[Problem]:
        expected = self.arguments[type_name]
        for name in expected.required:
            if value.get(name) is None:
                yield path + name, f"missing required argument {name!r}"
        for name, item in value.items():
            if name not in expected.types:
                yield path + name, f"there is no argument {name!r}, only {', '.join(expected.types)}"
            elif item is not None:
                yield from self._type_problems(expected.types[name], path + name, item)

    def _type_problems(self, kind: str, path: str, value: Any) -> Iterator[Problem]:
        if value == UNKNOWN:
            return
        if kind.startswith("[") and isinstance(value, list):
            for index, item in enumerate(value):
                yield from self._type_problems(kind[1:-1], f"{path}[{index}]", item)
        elif kind.startswith("{") and isinstance(value, Mapping):
            for name, item in value.items():
                yield from self._type_problems(kind[1:-1], f"{path}.{name}", item)
        elif kind in self.arguments and isinstance(value, Mapping):
            yield from self._object_problems(kind, f"{path}.", value)
        elif not _is_scalar(kind, value):
            yield path, f"expected {kind}, got {type(value).__name__}"


def _is_scalar(kind: str, value: Any) -> bool:
    if kind == "integer":
        return isinstance(value, int | float) and not isinstance(value, bool) and float(value).is_integer()
    if kind == "number" and isinstance(value, bool):
        return False
    return kind in SCALARS and isinstance(value, SCALARS[kind])


def _value_problem(facts: ResourceFacts, name: str, value: str) -> str | None:
    if name in facts.values and value not in facts.values[name]:
        return f"expected one of {', '.join(facts.values[name])}, got {value!r}"
    if name in facts.documents:
        try:
            json.loads(value)
        except json.JSONDecodeError as error:
            return f"contains an invalid JSON: {error}"
    if len(value) > facts.longest.get(name, len(value)):
        return f"longer than {facts.longest[name]} characters"
    if name in facts.pattern and not re.fullmatch(facts.pattern[name], value):
        return f"{value!r} does not match {facts.pattern[name]}"
    return None


def _read() -> Facts:
    tables = tomllib.loads(Path(__file__).with_name("facts.toml").read_text(encoding="utf-8"))
    return Facts(
        limits=tables["limits"],
        resources={token: ResourceFacts(**table) for token, table in tables["resources"].items()},
        arguments={name: Arguments(**table) for name, table in tables["arguments"].items()},
    )


FACTS = _read()
