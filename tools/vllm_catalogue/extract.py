"""What one version of vLLM accepts, from the Python files of its wheel.

Arguments come from the parser that the files build (``parser_of.py``), everything else from their syntax trees: names
of models, parsers and formats are keys of literal tables or arguments of decorators.
"""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deepseek_acs.planner.vllm_releases.kinds import KINDS, takes
from tools.vllm_catalogue.objects import keys
from tools.vllm_catalogue.parser_of import SAMPLES

PARSER = Path(__file__).with_name("parser_of.py")
TIMEOUT_SECONDS = 900

PINNED = ("torch", "ray", "transformers")
"""Packages whose required versions are recorded."""

NAMES_OF = {
    "--kv-cache-dtype": "cache_types",
    "--distributed-executor-backend": "executors",
    "--quantization": "quantizations",
}
"""Arguments whose choices some versions list in the parser, and others outside it."""

LITERALS = {
    "CacheDType": "cache_types",
    "DistributedExecutorBackend": "executors",
    "QuantizationMethods": "quantizations",
}
"""Where those list them."""


class NotUnderstoodError(Exception):
    """A version has something that this script does not know yet."""


def run_parser(folder: Path, what: str, cases: Any = None) -> Any:
    """What ``parser_of.py`` prints for a version."""
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-I", "-B", str(PARSER), str(folder), what],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    if done.returncode:
        raise NotUnderstoodError(f"the parser of {folder.name} cannot be built:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)


def facts(folder: Path) -> dict[str, Any]:
    """All facts of the version whose files are in ``folder``."""
    arguments = dict(_argument(found) for found in run_parser(folder, "arguments") if found["names"])
    trees = _literals(folder)
    names = {kind: trees.get(kind) or _choices(arguments, flag) for flag, kind in NAMES_OF.items()}
    return {
        "requires": _requirements(folder),
        "arguments": arguments,
        "keys": keys(folder, arguments),
        "variables": _variables(folder),
        **names,
        "architectures": _architectures(folder),
        "tool_parsers": _parsers(folder, "tool_parsers", "_TOOL_PARSERS_TO_REGISTER"),
        "reasoning_parsers": _parsers(folder, "reasoning*", "_REASONING_PARSERS_TO_REGISTER"),
    }


def _choices(arguments: dict[str, Any], flag: str) -> list[str]:
    return [choice for choice in arguments[flag].get("choices", ()) if choice is not None]


_KIND_OF = {
    "".join(str(int(takes(kind, sample))) for sample in SAMPLES): kind
    for kind in reversed([*KINDS, *(f"{kind}?" for kind in KINDS)])
}
_FIELDS_ONLY = {
    "".join(str(int(takes(kind, sample) and sample != '{"a": 1}')) for sample in SAMPLES): kind
    for kind in ("level 0 to 3 or object", "JSON object?", "JSON object")
}
"""Kinds by the samples that they take; objects of which the keys are checked refuse one sample more."""

_KIND_OF_ACTION = {
    "StoreBoolean": "true or false",
    "LoRAParserAction": "name=path or JSON?",
    "PromptAdapterParserAction": "name=path",
}


def _argument(found: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The argument's name and facts; what is usual is left out: one value, any text, no default."""
    name, *others = found["names"]
    facts: dict[str, Any] = {}
    if others:
        facts["names"] = others
    if found["nargs"] == 0:
        facts["flag"] = True
    else:
        kind = _KIND_OF_ACTION.get(found["action"]) or _kind(name, found["accepts"])
        if found["choices"]:
            facts["choices"] = sorted({str(choice) for choice in found["choices"]} - {"None"})
            # Nothing is one of the choices, or is not, whatever the type makes of it.
            kind = kind.removesuffix("?") + "?" * (None in found["choices"])
        if kind != "text":
            facts["kind"] = kind
        if found["nargs"]:
            facts["values"] = found["nargs"]
        if found["any_case"]:
            facts["any_case"] = True
    if found["fields"] and found["accepts"] in _FIELDS_ONLY:
        facts["fields"] = found["fields"]
    default = found["default"]
    if default not in (None, False, "", [], {}) and not str(default).startswith("<"):
        facts["default"] = default
    return name, facts


def _kind(name: str, accepts: str | None) -> str:
    if accepts is None:
        return "text"
    kind = _KIND_OF.get(accepts) or _FIELDS_ONLY.get(accepts)
    if kind is None:
        taken = [sample for sample, is_taken in zip(SAMPLES, accepts, strict=True) if is_taken == "1"]
        raise NotUnderstoodError(
            f"{name} takes {taken}; add such a kind to deepseek_acs/planner/vllm_releases/kinds.py"
        )
    return kind


def _requirements(folder: Path) -> dict[str, str]:
    """Required versions of other packages, and of Python."""
    metadata = next(folder.glob("*.dist-info/METADATA")).read_text(encoding="utf-8")
    found = {}
    for name in PINNED:
        line = re.search(rf"(?im)^Requires-Dist: {name}(?:\[[^]]*\])?\s*\(?([^;)\n]*)\)?(.*)$", metadata)
        if line and "extra" not in line[2]:
            found[name] = line[1].strip().removeprefix("==")
    python = re.search(r"(?m)^Requires-Python: (.*)$", metadata)
    return {**found, "python": python[1]} if python else found


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _assigned(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """Names on the top level of a module and what is assigned to them."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            yield node.target.id, node.value


def _strings(node: ast.AST) -> list[str]:
    return [part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)]


def _literals(folder: Path) -> dict[str, list[str]]:
    """Names in ``Literal[...]`` types."""
    found: dict[str, list[str]] = {}
    for path in (
        *folder.glob("vllm/config*.py"),
        *folder.glob("vllm/config/*.py"),
        folder / "vllm" / "model_executor" / "layers" / "quantization" / "__init__.py",
    ):
        for name, value in _assigned(_tree(path)):
            if name in LITERALS and isinstance(value, ast.Subscript):
                found[LITERALS[name]] = sorted(_strings(value))
    return found


def _architectures(folder: Path) -> list[str]:
    """Names of models that the version can serve, as ``architectures`` of a config.json has them."""
    tree = _tree(folder / "vllm" / "model_executor" / "models" / "registry.py")
    found: set[str] = set()
    for name, value in _assigned(tree):
        if name.endswith("_MODELS") and "PREVIOUSLY" not in name and "OOT" not in name and isinstance(value, ast.Dict):
            found |= {key.value for key in value.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)}
    return sorted(found)


def _parsers(folder: Path, folder_name: str, table: str) -> list[str]:
    """Names of parsers, from a table or from decorators ``@...register_module(name or names)``."""
    found: set[str] = set()
    for path in folder.glob(f"vllm/**/{folder_name}/*.py"):
        tree = _tree(path)
        for name, value in _assigned(tree):
            if name == table and isinstance(value, ast.Dict):
                found |= {text for key in value.keys if key for text in _strings(key)}
        for node in ast.walk(tree):
            for decorator in node.decorator_list if isinstance(node, ast.ClassDef) else ():
                if (
                    isinstance(decorator, ast.Call)
                    and isinstance(decorator.func, ast.Attribute)
                    and decorator.func.attr == "register_module"
                ):
                    found |= {
                        text for argument in (*decorator.args, *decorator.keywords) for text in _strings(argument)
                    }
    return sorted(found)


_READ = re.compile(r"""(?:environ(?:\.get)?\s*[\[(]|getenv\()\s*["'](VLLM_\w+)["']""")


def _variables(folder: Path) -> dict[str, dict[str, Any]]:
    """Environment variables: those of ``envs.py`` with choices, default and whether they are numbers, and all others
    that begin with VLLM_ and are read somewhere."""
    found: dict[str, dict[str, Any]] = {}
    for path in folder.glob("vllm/**/*.py"):
        for name in _READ.findall(path.read_text(encoding="utf-8", errors="replace")):
            found.setdefault(name, {})
    for name, value in _assigned(_tree(folder / "vllm" / "envs.py")):
        if name == "environment_variables" and isinstance(value, ast.Dict):
            for key, read in zip(value.keys, value.values, strict=True):
                if isinstance(key, ast.Constant):
                    found[str(key.value)] = _variable(str(key.value), read)
    return found


def _variable(name: str, read: ast.expr) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    if isinstance(read, ast.Call) and getattr(read.func, "id", "") == "env_with_choices":
        if isinstance(read.args[2], ast.List):
            facts["choices"] = _strings(read.args[2])
        return facts
    for node in ast.walk(read):
        if not isinstance(node, ast.Call):
            continue
        if getattr(node.func, "id", "") in ("int", "float") and name in _strings(node):
            facts["kind"] = "whole number" if getattr(node.func, "id", "") == "int" else "number"
        reads = getattr(node.func, "attr", "") in ("getenv", "get") and len(node.args) == 2
        if reads and isinstance(node.args[0], ast.Constant) and node.args[0].value == name:
            default = node.args[1]
            if isinstance(default, ast.Constant) and default.value not in (None, "", "0", 0, False):
                facts["default"] = str(default.value)
    return facts
