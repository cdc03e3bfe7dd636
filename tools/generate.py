"""Writes stack.schema.json and docs/configuration.md from the pydantic models, and the table of docs/policy.md from the
policy pack: ``make schema``."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from components.settings.deployment import Deployment
from policy.rules import table

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = ROOT / "stack.schema.json"
CONFIGURATION = ROOT / "docs" / "configuration.md"
POLICY = ROOT / "docs" / "policy.md"
RULES_BEGIN, RULES_END = "<!-- rules, made by make schema -->\n", "<!-- end of rules -->\n"

INTRODUCTION = """# Configuration

Everything under `deepseek:deployment` in `Pulumi.<stack>.yaml`. Made from `components/settings/` by `make schema`;
editors that know YAML schemas complete and check the same from `stack.schema.json`.

Secrets are keys of their own, set with `pulumi config set --stack STACK --secret KEY`:

| key | needed when |
|---|---|
| `deepseek:kubeconfig` | `cluster.kubeconfigFile` is not set |
| `deepseek:ossAccessKeyId`, `deepseek:ossAccessKeySecret` | `weights.identity.kind` is `accessKey` |
| `deepseek:prometheusToken` | `inference.scaling.prometheus.authorization` is true |
| `deepseek:hubToken` | the repository on the model hub is private or gated |
| `deepseek:apiKey` | `service.apiKey` is `true`: [access.md](access.md) |
| `deepseek:tlsCertificate`, `deepseek:tlsKey` | `service.route.tls.kind` is `config` |
"""


def schema() -> str:
    """JSON Schema of a whole stack file."""
    deployment = Deployment.model_json_schema(by_alias=True)
    definitions = deployment.pop("$defs")
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Pulumi stack file of this project",
        "type": "object",
        "properties": {
            "config": {
                "type": "object",
                "required": ["deepseek:deployment"],
                "properties": {"deepseek:deployment": deployment},
            }
        },
        "$defs": definitions,
    }
    return json.dumps(document, indent=2) + "\n"


def configuration() -> str:
    """The settings as tables, one for each section."""
    document = Deployment.model_json_schema(by_alias=True)
    sections = _sections("", document, document["$defs"])
    return "\n".join([INTRODUCTION, *sections])


def policy_document(document: str) -> str:
    """docs/policy.md with its table of rules made anew."""
    before, after = document.split(RULES_BEGIN)[0], document.split(RULES_END)[1]
    return f"{before}{RULES_BEGIN}\n{table()}\n{RULES_END}{after}"


def _sections(path: str, model: dict[str, Any], definitions: dict[str, Any]) -> Iterator[str]:
    rows, nested = [], []
    for name, field in model.get("properties", {}).items():
        where = f"{path}{name}" + ("[]" if _is_list_of_sections(field) else "")
        inner = [_resolved(option, definitions) for option in _options(field)]
        models = [option for option in inner if "properties" in option]
        if models:
            nested += [(where, option, len(models) > 1) for option in models]
            continue
        rows.append(f"| `{where}` | {_type(field)} | {_default(name, field, model)} | {_text(field)} |")
    if rows:
        yield "| setting | type | default | meaning |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"
    for where, option, is_choice in nested:
        kind = option["properties"]["kind"]["const"] if is_choice else None
        level = "#" * (2 + where.count("."))
        title = f"{level} `{where}`" + (f" of kind `{kind}`" if kind else "")
        yield f"{title}\n\n{' '.join(option.get('description', '').split())}\n"
        yield from _sections(f"{where}.", option, definitions)


def _options(field: dict[str, Any]) -> list[dict[str, Any]]:
    """What a value can be; of a list, what an item can be if that is a section of its own."""
    if _is_list_of_sections(field):
        return _options(field["items"])
    alternatives = field.get("oneOf") or field.get("anyOf")
    return [option for inner in alternatives for option in _options(inner)] if alternatives else [field]


def _is_list_of_sections(field: dict[str, Any]) -> bool:
    return "$ref" in field.get("items", {})


def _resolved(option: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    reference = option.get("$ref", "")
    found: dict[str, Any] = definitions[reference.rpartition("/")[2]] if reference else option
    return found


def _type(field: dict[str, Any]) -> str:
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return " or ".join(f"`{value}`" for value in field["enum"])
    names = [option["type"] for option in _options(field) if option.get("type", "null") != "null"]
    return " or ".join("list of text" if n == "array" else "text" if n == "string" else n for n in names)


def _default(name: str, field: dict[str, Any], model: dict[str, Any]) -> str:
    if name in model.get("required", []):
        return "required"
    value = field.get("default")
    return "none" if value is None else f"`{json.dumps(value)}`"


def _text(field: dict[str, Any]) -> str:
    return " ".join(field.get("description", "").split()).replace("|", "\\|")


if __name__ == "__main__":
    SCHEMA.write_text(schema(), encoding="utf-8")
    CONFIGURATION.write_text(configuration(), encoding="utf-8")
    POLICY.write_text(policy_document(POLICY.read_text(encoding="utf-8")), encoding="utf-8")
