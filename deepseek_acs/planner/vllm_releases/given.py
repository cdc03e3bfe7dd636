"""What a version of vLLM would say of the arguments and the environment that it is given.

It says what the version's own parser says, and more: where an unknown argument belongs to another version, what it is
like, and whether a name stands for something that the version has. Values are not repeated, except where they are names
of which the version has a list: one could be a misplaced secret.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from deepseek_acs.planner.vllm_releases.command_line import problem_of, refusal
from deepseek_acs.planner.vllm_releases.kinds import described, takes
from deepseek_acs.planner.vllm_releases.objects import key_problem
from deepseek_acs.planner.vllm_releases.release import FOLDER, Argument, Release, Section, Span, names, spans, text

Problem = tuple[str, str]
"""What is wrong, and what to write instead."""

Given = tuple[str, tuple[str, ...]]
"""An argument as it is written, without underscores, and its values."""

NAMED: Mapping[str, tuple[Section, str | None]] = {
    "--tool-call-parser": ("tool_parsers", "--tool-parser-plugin"),
    "--reasoning-parser": ("reasoning_parsers", "--reasoning-parser-plugin"),
    "--quantization": ("quantizations", None),
}
"""Arguments whose values the parser leaves open in some versions and the engine does not, with the argument that may
add to them."""

WORDS: Mapping[Section, str] = {
    "tool_parsers": "parser for tool calls",
    "reasoning_parsers": "parser for reasoning",
    "quantizations": "quantization method",
}


@cache
def _replaced() -> Mapping[str, Mapping[str, str]]:
    import tomllib

    return tomllib.loads((FOLDER / "replaced.toml").read_text(encoding="utf-8"))


def given(words: Sequence[str]) -> list[Given]:
    """The arguments with their values, written ``--name=value`` or as items of their own."""
    found: list[tuple[str, list[str]]] = []
    for word in words:
        if word.startswith("-") and not takes("number", word):
            name, is_pair, value = word.partition("=")
            head, dot, path = name.partition(".")
            found.append((head.replace("_", "-") + dot + path, [value] if is_pair else []))
        elif found:
            found[-1][1].append(word)
    return [(name, tuple(values)) for name, values in found]


def problems(release: Release, words: Sequence[str]) -> Iterator[Problem]:
    """What is wrong with arguments of ``vllm serve``; nothing exactly if the parser of this version takes them and all
    names in them are known."""
    found = [problem for item in given(words) if (problem := _problem(release, item, words))]
    yield from found
    if words and not found and (said := refusal(release, words)):
        # argparse may repeat a value behind these.
        what = said.partition(": ")[0] if said.startswith("unrecognized") else said.partition(": '")[0]
        yield f"{release.name} does not take the arguments: {what}", "check their order, and what belongs to which"


def _problem(release: Release, item: Given, words: Sequence[str]) -> Problem | None:
    name, values = item
    head, dot, path = name.partition(".")
    argument = argument_of(release, head)
    if head.startswith("-O"):
        return None
    if argument is None:
        return None if refusal(release, [head]) is None else _unknown(release, head)
    if dot:
        return key_problem(release, argument.name, values[0] if values else "", path)
    if argument.flag:
        return (f"{name} takes no value", f"write {name}") if values else None
    if not values and argument.values is None:
        return f"{name} has no value", f"write {name}=..."
    for value in values if argument.values == "+" else values[:1]:
        if said := problem_of(argument, value):
            return f"{name} {said}", _closest(value, argument.choices or argument.fields or ())
        if problem := key_problem(release, argument.name, value):
            return problem
        if unknown := _unknown_name(release, argument, value, words):
            return unknown
    return None


def argument_of(release: Release, name: str) -> Argument | None:
    """The argument that a name means, also a beginning that only one has."""
    if name in release.arguments:
        return release.arguments[name]
    found = {release.arguments[known] for known in release.arguments if known.startswith(name)}
    return found.pop() if len(found) == 1 else None


def _closest(value: str, known: Sequence[str] | frozenset[str]) -> str:
    close = difflib.get_close_matches(value, list(known), n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else "write one of these" if known else "correct the value"


def _unknown(release: Release, name: str) -> Problem:
    """An argument that the version does not have."""
    same = [known for known in release.arguments if known.startswith(name)]
    if name.startswith("--") and same:
        return f"{name} is the beginning of several arguments: {', '.join(sorted(same)[:3])}", "write one in full"
    usual = name if spans("arguments", name) else _renamed(name)
    if usual:
        return _at_another_time(release, "arguments", usual, name)
    close = difflib.get_close_matches(name, list(release.arguments), n=1, cutoff=0.75)
    fix = f"did you mean {close[0]}?" if close else "remove it, or use an image that has it"
    return f"{release.name} has no argument {name}", fix


@cache
def _renamed(name: str) -> str | None:
    """The usual name of an argument that was once called ``name``."""
    for usual in names("arguments"):
        if any(name in span.facts.get("names", ()) for span in spans("arguments", usual)):
            return usual
    return None


def _at_another_time(release: Release, section: Section, usual: str, name: str) -> Problem:
    """Something that other versions have."""
    found = [
        span
        for span in spans(section, usual)
        if section != "arguments" or usual == name or name in span.facts.get("names", ())
    ]
    later = next((span.since for span in found if span.since > release.version), None)
    if later is not None:
        fix = f"remove it, or use an image with vLLM {text(later)} or newer"
        return f"{release.name} has no {name} yet, which was added in {text(later)}", fix
    instead = _replaced()[section].get(usual)
    dropped = found[-1].until
    return (
        f"{release.name} has no {name} any more, which was dropped in {text(dropped or release.version)}",
        f"remove it{'' if instead is None else (' ' if instead.startswith('and ') else '; ') + instead}",
    )


def _unknown_name(release: Release, argument: Argument, value: str, words: Sequence[str]) -> Problem | None:
    """A value that should be one of a list which the engine has and its parser does not check."""
    section, plugin = NAMED.get(argument.name, (None, None))
    if section is None or argument.choices is not None or value in ("", "None", "none"):
        return None
    known = release.names(section)
    adds = {argument_of(release, name) for name, _ in given(words)}
    if value in known or (plugin is not None and release.arguments.get(plugin) in adds):
        return None
    what = WORDS[section]
    if found := spans(section, value):
        later = next((span.since for span in found if span.since > release.version), None)
        when = f"yet, which was added in {text(later)}" if later else f"any more, which was dropped in {_end(found)}"
        newer = f", or use an image with vLLM {text(later)} or newer" if later else ""
        return f"{release.name} has no {what} {value} {when}", f"write one of {', '.join(known)}{newer}"
    close = difflib.get_close_matches(value, known, n=1, cutoff=0.5)
    fix = f"did you mean {close[0]}?" if close else f"write one of {', '.join(known)}"
    return f"{argument.name} names no {what} of {release.name}", fix


def _end(found: Sequence[Span]) -> str:
    until = found[-1].until
    return text(until) if until else ""


def variable_problems(release: Release, environment: Mapping[str, str]) -> Iterator[tuple[bool, str, str]]:
    """Whether it stops the engine, what is wrong, and what to write instead, of environment variables of vLLM."""
    for name, value in environment.items():
        facts = release.facts("variables", name)
        if facts is not None:
            yield from _wrong_value(name, value, facts)
        elif spans("variables", name):
            problem, fix = _at_another_time(release, "variables", name, name)
            yield False, f"{problem}; it has no effect", fix
        elif name.startswith("VLLM_"):
            close = difflib.get_close_matches(name, release.names("variables"), n=1, cutoff=0.8)
            fix = f"did you mean {close[0]}?" if close else "remove it"
            yield False, f"{release.name} reads no variable {name}", fix


def _wrong_value(name: str, value: str, facts: Mapping[str, Any]) -> Iterator[tuple[bool, str, str]]:
    choices, kind = facts.get("choices"), facts.get("kind")
    if choices and value.lower() not in {choice.lower() for choice in choices} and value:
        yield True, f"{name} takes one of {', '.join(choices)}", _closest(value, choices)
    elif kind and not takes(kind, value):
        yield True, f"{name} takes {described(kind)}", "write digits alone"
