"""The kinds of values that arguments of vLLM take. Each is a function of the text, and says whether vLLM takes it.

The catalogue names them. When it is extracted, each type of vLLM's own parser is tried on many values, and is called by
the kind that takes the same ones (``tools/vllm_catalogue``). A ``?`` after the name: an empty text and None are
taken, too.
"""

import ast
import json
import re
from collections.abc import Callable
from typing import Any

Kind = Callable[[str], bool]


def _takes(convert: Callable[[str], Any]) -> Kind:
    def takes(text: str) -> bool:
        try:
            convert(text)
        except ValueError:
            return False
        return True

    return takes


_int = _takes(int)
_json = _takes(json.loads)


def _text(_text: str) -> bool:
    return True


def _object(text: str) -> bool:
    return _json(text) and isinstance(json.loads(text), dict)


def _units(letters: str) -> Kind:
    """A whole number, or one with a unit: decimal ones (k = 1000) may follow a fraction, binary ones (K = 1024) not."""
    decimal = re.compile(rf"\d+(\.\d+)?[{letters.lower()}]|\d+[{letters.upper()}]")
    return lambda text: bool(decimal.fullmatch(text.strip())) or _int(text)


def _pairs(text: str) -> bool:
    """``key=1,other=2``, or nothing."""
    if not text:
        return True
    given: dict[str, int] = {}
    for item in text.split(","):
        key, is_pair, value = (part.strip() for part in item.lower().partition("="))
        if not is_pair or "=" in value or not _int(value) or given.setdefault(key, int(value)) != int(value):
            return False
    return True


def _literal_object(text: str) -> bool:
    """An object as Python writes it."""
    try:
        return isinstance(ast.literal_eval(text), dict)
    except (ValueError, SyntaxError):
        return False


def _adapters(text: str) -> bool:
    """``name=path``, or an object with the same."""
    if "=" in text and "," not in text:
        return True
    keys = json.loads(text).keys() if text and _object(text) else frozenset({"name", "path"} if not text else ())
    return {"name", "path"} <= keys <= {"name", "path", "base_model_name"}


def _bare_or_object(text: str) -> bool:
    """Any text; one in braces is an object."""
    return not re.match(r"(?s)^\s*{.*}\s*$", text) or _json(text)


KINDS: dict[str, Kind] = {
    "text": _text,
    "whole number": _int,
    "number": _takes(float),
    "JSON": _json,
    "JSON object": _object,
    "whole number, also with k, m, g, K, M or G": _units("kmg"),
    "whole number, also with k, m, g, t, K, M, G or T": _units("kmgt"),
    "whole number, also with k, m, g, t, K, M, G or T, or auto": (
        lambda text: text.strip().lower() == "auto" or _units("kmgt")(text)
    ),
    "name=number,...": _pairs,
    "JSON object or name=number,...": lambda text: _object(text) or bool(text and _pairs(text)),
    "level 0 to 3 or object": lambda text: text in ("0", "1", "2", "3") or _literal_object(text),
    "true or false": lambda text: text.lower() in ("true", "false"),
    "name=path or JSON": _adapters,
    "name=path": lambda text: text.count("=") == 1,
    "text or JSON object": _bare_or_object,
}
"""By the name that messages use."""


def takes(kind: str, text: str) -> bool:
    """Whether an argument of this kind takes ``text``."""
    if kind.endswith("?"):
        return text in ("", "None") or KINDS[kind[:-1]](text)
    return KINDS[kind](text)


def described(kind: str) -> str:
    """As messages name it: ``a whole number``."""
    kind = kind.removesuffix("?")
    return kind if kind in ("true or false", "JSON", "name=number,...", "name=path") else f"a {kind}"
