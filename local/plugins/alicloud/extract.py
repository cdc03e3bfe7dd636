"""``python -m local.plugins.alicloud.extract``: print the arguments of the resources in ``facts.toml``.

They are those of the Python package ``pulumi_alicloud``, which is generated from the schema of the provider of the same
version. To be run when that version changes; a test compares.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args, get_origin

from pulumi import _types

from local.plugins.alicloud.facts import FACTS, MARK, Arguments

SCALARS = {str: "string", bool: "boolean", int: "integer", float: "number"}


def arguments(tokens: Iterable[str]) -> dict[str, Arguments]:
    """By resource type, and by the name of each type of objects in them."""
    found: dict[str, Arguments] = {}
    open_classes = [(token, _args_class(token)) for token in tokens]
    while open_classes:
        name, args_class = open_classes.pop(0)
        if name not in found:
            found[name], further = _arguments(args_class)
            open_classes += further
    return found


def _args_class(token: str) -> type:
    _, module, name = token.split(":")
    package, _, file = module.partition("/")
    file = re.sub("([A-Z])", lambda letter: f"_{letter[1].lower()}", file)
    found: type = getattr(importlib.import_module(f"pulumi_alicloud.{package}.{file}"), f"{name}Args")
    return found


def _arguments(args_class: type) -> tuple[Arguments, list[tuple[str, type]]]:
    further: list[tuple[str, type]] = []

    def written(kind: Any) -> str:
        if kind in SCALARS:
            return SCALARS[kind]
        inner = [option for option in get_args(get_args(kind)[-1])] if get_args(kind) else []
        if get_origin(kind) is not None and issubclass(get_origin(kind), Sequence):
            return f"[{written(inner[0])}]"
        if get_origin(kind) is not None and issubclass(get_origin(kind), Mapping):
            return f"{{{written(inner[0])}}}"
        name = kind.__name__.removesuffix("Args")
        further.append((name, kind))
        return str(name)

    wire_names = _types.input_type_py_to_pulumi_names(args_class)
    parameters = inspect.signature(args_class).parameters.values()
    deprecated = re.findall(r"@_utilities\.deprecated\(.*\n\s+def (\w+)\(", inspect.getsource(args_class))
    table = Arguments(
        types={name: written(kind) for name, kind in _types.input_type_types(args_class).items()},
        required=sorted(wire_names[p.name] for p in parameters if p.default is inspect.Parameter.empty),
        deprecated=sorted(wire_names[name] for name in deprecated),
    )
    return table, further


def _toml(table: Mapping[str, Arguments]) -> Iterable[str]:
    for name, content in table.items():
        yield f'\n[arguments."{name}"]'
        for key, names in (("required", content.required), ("deprecated", content.deprecated)):
            if names:
                yield f"{key} = {names}".replace("'", '"')
        for argument, kind in content.types.items():
            yield f'types.{argument} = "{kind}"'


if __name__ == "__main__":
    print(MARK, *_toml(arguments(FACTS.resources)), sep="\n")
