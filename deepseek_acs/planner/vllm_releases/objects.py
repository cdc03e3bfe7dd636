"""Objects that are the value of an argument: their keys, and values of simple types.

The engine makes an instance of a class of each and stops if it does not take it. Arguments whose object is free
(``--hf-overrides``), and values of other types, are not checked.
"""

import difflib
import json
from collections.abc import Mapping
from typing import Any

from deepseek_acs.planner.vllm_releases.kinds import described
from deepseek_acs.planner.vllm_releases.release import Release, spans, text

TRUTH = ("0", "off", "f", "false", "n", "no", "1", "on", "t", "true", "y", "yes")
"""Texts that Pydantic takes for a truth value, in any case (https://docs.pydantic.dev/latest/api/standard_library_types/)."""


def key_problem(release: Release, name: str, written: str, path: str = "") -> tuple[str, str] | None:
    """What is wrong with the object ``written`` that the argument of this usual ``name`` is given as, or with the value
    of its key where the argument is written ``--name.path``; and what to write."""
    known = release.keys.get(name)
    if known is None:
        return None
    for key, value in _object(written, path).items():
        if key not in known:
            return _unknown(release, name, key)
        facts = known[key]
        if "." in path or takes_value(facts, value):
            continue
        if choices := facts.get("choices"):
            close = difflib.get_close_matches(str(value), choices, n=1, cutoff=0.5)
            fix = f"did you mean {close[0]}?" if close else "write one of these"
            return f"{name}: {key} takes one of {', '.join(choices)}", fix
        return f"{name}: {key} takes {described(facts['kind'])}", "correct the value"
    return None


def takes_value(facts: Mapping[str, Any], value: object) -> bool:
    """Whether a key of which these facts are known takes a value."""
    kind = facts.get("kind")
    if value is None and kind is not None and kind.endswith("?"):
        return True
    if "choices" in facts:
        return value in facts["choices"]
    return kind is None or _fits(kind.removesuffix("?"), value)


def _object(written: str, path: str) -> Mapping[str, Any]:
    """The object, of which ``--name.key=value`` gives one key; empty if it is none."""
    try:
        value: Any = json.loads(written)
    except ValueError:
        value = written
    if path:
        return {path.partition(".")[0].removesuffix("+"): value}
    return value if isinstance(value, dict) else {}


def _unknown(release: Release, name: str, key: str) -> tuple[str, str]:
    found = spans("keys", f"{name}.{key}")
    known = release.keys[name]
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    fix = f"did you mean {close[0]}?" if close else "remove it"
    if not found:
        return f"{name} of {release.name} has no key {key}", fix
    later = next((span.since for span in found if span.since > release.version), None)
    if later is not None:
        newer = f"remove it, or use an image with vLLM {text(later)} or newer"
        return f"{name} of {release.name} has no key {key} yet, which was added in {text(later)}", newer
    dropped = found[-1].until
    when = f", which was dropped in {text(dropped)}" if dropped else ""
    return f"{name} of {release.name} has no key {key} any more{when}", "remove it"


def _fits(kind: str, value: object) -> bool:
    """Whether Pydantic makes a value of this kind of ``value``."""
    match kind:
        case "whole number":
            return _number(value, whole=True)
        case "number":
            return _number(value, whole=False)
        case "true or false":
            return value.lower() in TRUTH if isinstance(value, str) else value in (0, 1)
        case _:
            return isinstance(value, str)


def _number(value: object, *, whole: bool) -> bool:
    if not isinstance(value, str | int | float):
        return False
    try:
        found = float(value)
    except ValueError:
        return False
    return not whole or found == found // 1
