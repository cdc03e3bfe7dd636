"""Errors in the form of a stack file: pydantic's errors as findings, with path, problem and fix."""

import difflib
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from deepseek_acs.planner.findings import Finding
from deepseek_acs.settings.base import Settings, descriptions
from deepseek_acs.settings.stack import StackSettings

DEPLOYMENT = "deployment"


def findings(error: ValidationError) -> list[Finding]:
    """The errors of pydantic as findings. They never contain the given values: one could be a misplaced secret."""
    return [_finding(detail) for detail in error.errors(include_input=False, include_url=False)]


def _finding(detail: ErrorDetails) -> Finding:
    model, location = _locate(detail["loc"])
    path = ".".join([DEPLOYMENT, *location])
    context: Mapping[str, Any] = detail.get("ctx", {})
    name = location[-1] if location else ""
    expected = _expected(model, name)
    match detail["type"]:
        case "check":
            problem, fix = context["problem"], context["fix"]
        case "missing":
            problem, fix = "this setting is required", f"add it: {expected}"
        case "extra_forbidden":
            near = difflib.get_close_matches(name, _aliases(model), n=1)
            problem = "there is no such setting"
            fix = f"did you mean {near[0]}?" if near else f"remove it; valid here: {', '.join(_aliases(model))}"
        case "literal_error":
            problem, fix = "this value is not one of the choices", f"write {context['expected']}"
        case "union_tag_invalid" | "union_tag_not_found":
            problem = "this value is not one of the choices" if "tag" in context else "this setting is required"
            path, fix = f"{path}.kind", f"write {' or '.join(_kinds(model, name))}"
        case "tuple_type":
            problem, fix = (
                "expected a list",
                f"write each item on its own line, after a dash: {expected}",
            )
        case "model_type" | "model_attributes_type" | "dict_type":
            problem = "expected a section (mapping), got a single value"
            fix = f"write its settings below it, one per line{_below(model, name)}"
        case "string_type":
            problem, fix = "expected a string", "write a string, in quotes if it looks like a number or a boolean"
        case "string_pattern_mismatch":
            problem, fix = "the value does not have the expected form", expected
        case _:
            problem, fix = _decapitalise(detail["msg"]), expected
    return Finding(path=path, problem=problem, fix=fix)


def _decapitalise(text: str) -> str:
    # "GPU series" stays as it is.
    return text if text[1:2].isupper() else text[0].lower() + text[1:]


def _locate(loc: tuple[int | str, ...]) -> tuple[type[BaseModel], list[str]]:
    """The model that contains the field at ``loc``, and ``loc`` as the stack file spells it (without union tags)."""
    model: type[BaseModel] = StackSettings
    holder = model
    location: list[str] = []
    members: Mapping[str, type[BaseModel]] = {}
    for part in loc:
        if isinstance(part, int):
            location[-1] += f"[{part}]"
            continue
        if part in members:
            model, members = members[part], {}
            continue
        location.append(part)
        holder = model
        nested = _nested_models(model, part)
        members = {_kind(member): member for member in nested} if len(nested) > 1 else {}
        model = nested[0] if nested else model
    return holder, location


def _nested_models(model: type[BaseModel], alias: str) -> list[type[BaseModel]]:
    field = next((f for f in model.model_fields.values() if f.alias == alias), None)
    if field is None:
        return []
    candidates = get_args(field.annotation) or (field.annotation,)
    return [c for c in candidates if isinstance(c, type) and issubclass(c, Settings)]


def _kind(model: type[BaseModel]) -> str:
    return str(get_args(model.model_fields["kind"].annotation)[0])


def _kinds(model: type[BaseModel], alias: str) -> list[str]:
    return [f"'{_kind(member)}'" for member in _nested_models(model, alias)]


def _below(model: type[BaseModel], alias: str) -> str:
    """The settings of a section, or its kinds."""
    nested = _nested_models(model, alias) if alias else [model]
    if not nested:
        return ""
    return f": {', '.join(_aliases(nested[0]))}" if len(nested) == 1 else f": kind: {' or '.join(_kinds(model, alias))}"


def _aliases(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _expected(model: type[BaseModel], alias: str) -> str:
    """The purpose of the field, from its docstring, and an example if it has one: the best hint at what to write."""
    name = alias.split("[", 1)[0]
    found = next(((key, field) for key, field in model.model_fields.items() if field.alias == name), None)
    if found is None:
        return "compare the file with Pulumi.dev.yaml and stack.schema.json"
    key, field = found
    example = f" Example: {field.examples[0]}" if field.examples else ""
    return _decapitalise(" ".join(descriptions(model)[key].split())) + example
