"""The keys of objects that are the value of an argument, as --speculative-config, and simple types of their values.

Such an object becomes an instance of a class in vLLM's configuration, which is called like the argument. Its fields are
the keys. Types are recorded where the class checks them (Pydantic) and they are numbers, texts, truth values or one of
several names; a validator of the class that comes before may take more.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KINDS = {"int": "whole number", "float": "number", "bool": "true or false", "str": "text"}

BEFORE = ("before", "plain", "wrap")
"""Modes of validators that see a value before its type is checked."""


@dataclass(frozen=True, kw_only=True)
class _Module:
    """The classes of the configuration, and what its names for types mean."""

    classes: Mapping[str, ast.ClassDef]
    types: Mapping[str, ast.expr]
    checked: frozenset[str]
    """Classes whose values are checked."""


def keys(folder: Path, arguments: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The keys of all ``arguments`` of the version in ``folder`` as ``{"--argument.key": facts}``."""
    module = _read(folder)
    by_name = {name.lower(): name for name in module.classes}
    found = {}
    for flag, facts in arguments.items():
        name = by_name.get(class_name(flag))
        if name and re.search("JSON|object", facts.get("kind", "")):
            found.update({f"{flag}.{key}": facts for key, facts in _fields(module, name)})
    return found


def class_name(argument: str) -> str:
    """The class of an argument's object, in small letters."""
    return argument.removeprefix("--").removeprefix("override-").replace("-", "")


def _read(folder: Path) -> _Module:
    classes: dict[str, ast.ClassDef] = {}
    types: dict[str, ast.expr] = {}
    checked = set()
    paths = sorted({*folder.glob("vllm/config*.py"), *folder.glob("vllm/config/*.py")})
    texts = {path: path.read_text(encoding="utf-8") for path in paths}
    # The decorator of the newer versions makes the class one of Pydantic by itself.
    is_pydantic = any("def config(" in text and "from pydantic.dataclasses" in text for text in texts.values())
    for text in texts.values():
        for node in ast.parse(text).body:
            if isinstance(node, ast.ClassDef) and _decorators(node) & {"config", "dataclass"}:
                classes[node.name] = node
                if "from pydantic.dataclasses" in text or (is_pydantic and "dataclass" not in _decorators(node)):
                    checked.add(node.name)
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                types[node.targets[0].id] = node.value
    return _Module(classes=classes, types=types, checked=frozenset(checked))


def _decorators(node: ast.ClassDef | ast.FunctionDef) -> set[str]:
    calls = (part.func if isinstance(part, ast.Call) else part for part in node.decorator_list)
    return {getattr(part, "id", getattr(part, "attr", "")) for part in calls}


def _fields(module: _Module, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    node = module.classes[name]
    for base in node.bases:
        if isinstance(base, ast.Name) and base.id in module.classes:
            yield from _fields(module, base.id)
    open_, all_open = _validated(node)
    for field in node.body:
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        key, kind = field.target.id, ast.unparse(field.annotation)
        if kind.startswith("ClassVar") or key.startswith("_") or (field.value and _is_left_out(field.value)):
            continue
        is_open = all_open or key in open_ or name not in module.checked
        yield key, {} if is_open else _facts(module, field.annotation)


def _is_left_out(value: ast.expr) -> bool:
    """Whether the class's constructor does not take a field."""
    return isinstance(value, ast.Call) and any(
        word.arg == "init" and isinstance(word.value, ast.Constant) and word.value.value is False
        for word in value.keywords
    )


def _validated(node: ast.ClassDef) -> tuple[set[str], bool]:
    """The fields that are validated before their type is checked, and whether all are."""
    names: set[str] = set()
    for method in node.body:
        for call in getattr(method, "decorator_list", ()):
            if not isinstance(call, ast.Call) or not any(
                word.arg == "mode" and isinstance(word.value, ast.Constant) and word.value.value in BEFORE
                for word in call.keywords
            ):
                continue
            given = {part.value for part in call.args if isinstance(part, ast.Constant) and isinstance(part.value, str)}
            if getattr(call.func, "id", "") == "model_validator" or "*" in given:
                return set(), True
            names |= given
    return names, False


def _facts(module: _Module, annotation: ast.expr) -> dict[str, Any]:
    """What is known of a value of this type; nothing if it is not simple."""
    parts = list(_alternatives(module, annotation))
    is_optional = "None" in parts
    simple = [part for part in parts if part != "None"]
    if simple and all(isinstance(part, tuple) for part in simple):
        choices = sorted({choice for part in simple for choice in part})
        return {"choices": choices, **({"kind": "text?"} if is_optional else {})}
    if len(simple) != 1 or simple[0] not in KINDS.values():
        return {}
    return {"kind": f"{simple[0]}{'?' * is_optional}"}


def _alternatives(module: _Module, node: ast.expr) -> Iterator[str | tuple[str, ...]]:
    """The types that a type may be: ``None``, a kind, a tuple of names, or ``other``."""
    match node:
        case ast.Constant(value=None):
            yield "None"
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            yield from _alternatives(module, left)
            yield from _alternatives(module, right)
        case ast.Name(id=name) if name in KINDS:
            yield KINDS[name]
        case ast.Name(id=name) if name in module.types:
            yield from _alternatives(module, module.types[name])
        case ast.Subscript(value=ast.Name(id="Optional"), slice=inner):
            yield from _alternatives(module, inner)
            yield "None"
        case ast.Subscript(value=ast.Name(id="Union"), slice=ast.Tuple(elts=parts)):
            for part in parts:
                yield from _alternatives(module, part)
        case ast.Subscript(value=ast.Name(id="Literal"), slice=inner):
            for part in inner.elts if isinstance(inner, ast.Tuple) else (inner,):
                if isinstance(part, ast.Constant):
                    yield (part.value,) if isinstance(part.value, str) else "other"
                else:
                    yield from _alternatives(module, part)
        case _:
            yield "other"
