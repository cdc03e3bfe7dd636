"""What one version of vLLM accepts: the catalogue, which ``tools/vllm_catalogue`` extracts from the published wheels.

Of an entry the catalogue has the spans of versions in which it was there, each with its facts at that time.
"""

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

Version = tuple[int, int, int]

Section = Literal[
    "arguments",
    "variables",
    "architectures",
    "cache_types",
    "executors",
    "keys",
    "quantizations",
    "reasoning_parsers",
    "tool_parsers",
]

FOLDER = Path(__file__).parent


def text(version: Version) -> str:
    """As in ``0.7.2``."""
    return ".".join(map(str, version))


@cache
def version(written: str) -> Version:
    """The reverse of ``text``."""
    major, minor, patch = map(int, written.split("."))
    return major, minor, patch


@dataclass(frozen=True, kw_only=True)
class Span:
    """Versions from ``since`` to before ``until`` (None: to the newest that is known), and the facts in them."""

    since: Version
    until: Version | None
    facts: Mapping[str, Any]

    def has(self, asked: Version) -> bool:
        """Whether ``asked`` is one of them."""
        return self.since <= asked and (self.until is None or asked < self.until)


@dataclass(frozen=True, kw_only=True, eq=False)
class Argument:
    """An argument of ``vllm serve``. ``names`` has all its names, the usual one first. A flag takes no value; other
    arguments take one of this ``kind`` (see ``kinds.py``), and as many as ``values`` says in argparse's terms.

    ``choices`` and ``fields``, the keys of an object, are None where vLLM's parser leaves them open; ``any_case`` says
    that a choice may be written in any case."""

    names: tuple[str, ...]
    flag: bool = False
    kind: str = "text"
    values: Literal["?", "+", "*"] | None = None
    choices: tuple[str, ...] | None = None
    fields: frozenset[str] | None = None
    any_case: bool = False
    default: object = None

    @property
    def name(self) -> str:
        """The usual name."""
        return self.names[0]


@cache
def _document() -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads((FOLDER / "catalogue.json").read_text(encoding="utf-8"))
    return found


@cache
def versions() -> Sequence[Version]:
    """All versions of the catalogue, oldest first."""
    return tuple(map(version, _document()["versions"]))


def newest() -> Version:
    """The newest version of the catalogue."""
    return versions()[-1]


def published(known: Version) -> datetime.date:
    """When a version of the catalogue was published."""
    return datetime.date.fromisoformat(_document()["versions"][text(known)]["date"])


def requirements(known: Version) -> Mapping[str, str]:
    """The versions of Python, torch, Ray and transformers that a version of the catalogue requires."""
    return {name: wanted for name, wanted in _document()["versions"][text(known)].items() if name != "date"}


def read_on() -> datetime.date:
    """When the catalogue was extracted."""
    return datetime.date.fromisoformat(_document()["catalogue"]["read"])


@cache
def spans(section: Section, name: str) -> Sequence[Span]:
    """When ``name`` was there; empty if no version has it."""
    return tuple(
        Span(since=version(since), until=version(until) if until else None, facts=facts[0] if facts else {})
        for since, until, *facts in _document()[section].get(name, ())
    )


def added(section: Section, name: str) -> Version | None:
    """The first version that has ``name``; None where that is not known: no version has it, or the oldest one did."""
    first = next((span.since for span in spans(section, name)), None)
    return None if first == versions()[0] else first


def names(section: Section) -> Sequence[str]:
    """All names that any version has."""
    return tuple(_document()[section])


def has_argument(asked: Version, name: str) -> bool:
    """Whether a version has an argument of this usual name; one that is newer than the catalogue has what the newest
    has."""
    return any(span.has(asked) for span in spans("arguments", name))


@dataclass(frozen=True, kw_only=True)
class Release:
    """One version of the catalogue."""

    version: Version

    @property
    def name(self) -> str:
        """For messages: ``vLLM 0.7.2``."""
        return f"vLLM {text(self.version)}"

    def facts(self, section: Section, name: str) -> Mapping[str, Any] | None:
        """The facts of an entry in this version; None if it does not have it."""
        return next((span.facts for span in spans(section, name) if span.has(self.version)), None)

    def names(self, section: Section) -> list[str]:
        """All names that this version has."""
        return [name for name in names(section) if self.facts(section, name) is not None]

    @cached_property
    def keys(self) -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
        """The keys of objects by the usual name of their argument, with what is known of their values. None are there
        where they are not known."""
        found: dict[str, dict[str, Mapping[str, Any]]] = {}
        for name in names("keys"):
            facts = self.facts("keys", name)
            if facts is not None:
                argument, _, key = name.partition(".")
                found.setdefault(argument, {})[key] = facts
        return found

    @cached_property
    def arguments(self) -> Mapping[str, Argument]:
        """All arguments of this version by each of their names."""
        found = {}
        for name in names("arguments"):
            facts = self.facts("arguments", name)
            if facts is None:
                continue
            argument = Argument(
                names=(name, *facts.get("names", ())),
                flag=facts.get("flag", False),
                kind=facts.get("kind", "text"),
                values=facts.get("values"),
                choices=tuple(facts["choices"]) if "choices" in facts else None,
                fields=frozenset(facts["fields"]) if "fields" in facts else None,
                any_case=facts.get("any_case", False),
                default=facts.get("default"),
            )
            found.update(dict.fromkeys(argument.names, argument))
        return found


@cache
def release(asked: Version) -> Release | None:
    """What is known of a version: its own entry, or for a patch that is not in the catalogue that of the last one
    before it. None for versions that are older or newer than the catalogue."""
    same_minor = [known for known in versions() if known[:2] == asked[:2] and known <= asked]
    return Release(version=same_minor[-1]) if same_minor else None


@cache
def _changes() -> Mapping[str, Any]:
    import tomllib

    with (FOLDER / "changes.toml").open("rb") as file:
        return tomllib.load(file)


@cache
def changed_in(change: str) -> Version:
    """The first version with a change of ``changes.toml``."""
    return version(_changes()[change]["since"])
