"""The command line of a version of vLLM: a parser with the arguments of the catalogue, which reads words like vLLM."""

import argparse
import json
import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import NoReturn

from deepseek_acs.planner.vllm_releases.kinds import described, takes
from deepseek_acs.planner.vllm_releases.release import Argument, Release, changed_in

LEVELS = ("0", "1", "2", "3")


class RefusedError(Exception):
    """The parser does not take the words; the text is argparse's."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise RefusedError(message)


def _checked(argument: Argument, text: str) -> str:
    """The text, if the argument takes it; argparse's own error if not."""
    problem = problem_of(argument, text)
    if problem:
        raise argparse.ArgumentTypeError(problem)
    return text


def problem_of(argument: Argument, text: str) -> str | None:
    """What is wrong with a value, as the end of a sentence that begins with the argument; None if nothing is."""
    if not takes(argument.kind, text):
        return f"takes {described(argument.kind)}"
    optional = argument.kind.endswith("?") and text in ("", "None")
    if argument.choices is not None and not optional and _normal(argument, text) not in argument.choices:
        return f"takes one of {', '.join(argument.choices)}"
    if argument.fields is not None and text.lstrip().startswith("{"):
        unknown = sorted(json_keys(text) - argument.fields)
        if unknown:
            return f"has no {unknown[0]}"
    return None


def _normal(argument: Argument, text: str) -> str:
    if argument.kind.startswith("whole number") and text.strip().isdecimal():
        return str(int(text))
    return text.lower() if argument.any_case else text


def json_keys(text: str) -> frozenset[str]:
    """The keys of an object; none if it is not one in JSON."""
    try:
        found = json.loads(text)
    except ValueError:
        return frozenset()
    return frozenset(found) if isinstance(found, dict) else frozenset()


@cache
def _parser(release: Release) -> argparse.ArgumentParser:
    # Its namespace is not read: without defaults it is made in half the time.
    parser = _Parser(prog="vllm serve", add_help=False, argument_default=argparse.SUPPRESS)
    parser.add_argument("-h", "--help", action="store_true")
    for argument in dict.fromkeys(release.arguments.values()):
        if argument.flag:
            parser.add_argument(*argument.names, action="store_true")
        else:
            parser.add_argument(*argument.names, nargs=argument.values, type=_type(argument))
    return parser


def _type(argument: Argument) -> Callable[[str], str]:
    return lambda text: _checked(argument, text)


def refusal(release: Release, words: Sequence[str]) -> str | None:
    """What the parser of this version says of the words after the name of the model; None if it takes them. The text
    may have words of the command line."""
    try:
        _, rest = _parser(release).parse_known_args(_rewritten(release, words))
    except RefusedError as error:
        return str(error)
    return f"unrecognized arguments: {' '.join(rest)}" if rest else None


def _rewritten(release: Release, words: Sequence[str]) -> list[str]:
    """What vLLM's parser does before argparse: dashes for underscores in names, -O as what it means, and objects made
    of dotted names."""
    dotted = release.version >= changed_in("dotted_arguments")
    written: list[str] = []
    objects: dict[str, dict[str, object]] = {}
    rest = iter(_optimization(release, words))
    for word in rest:
        name, is_pair, value = word.partition("=")
        if name.startswith("--"):
            head, dot, tail = name.partition(".")
            name = head.replace("_", "-") + dot + tail
        if not (dotted and name.startswith("-") and "." in name and not _is_number(name)):
            written.append(name + is_pair + value)
            continue
        if not is_pair and (following := next(rest, None)) is None:
            raise RefusedError(f"argument {name}: expected one argument")
        head, _, path = name.partition(".")
        objects.setdefault(head, {})[path.partition(".")[0].removesuffix("+")] = value if is_pair else following
    for name, found in objects.items():
        written += [name, json.dumps(found)]
    return written


def _optimization(release: Release, words: Sequence[str]) -> list[str]:
    """``-O2``, ``-O=2`` and ``-O 2`` as the version takes them."""
    written: list[str] = []
    for number, word in enumerate(words):
        following = words[number + 1] if number + 1 < len(words) else ""
        has_level = "--optimization-level" in release.arguments
        is_dotted = word[2:3] == "." and not has_level
        if not word.startswith("-O") or is_dotted or (word == "-O" and following not in LEVELS):
            written.append(word)
        elif release.version < changed_in("level_argument"):
            written += ["-O", word[2:]] if len(word) == 3 else [word]
        elif has_level:
            written += ["--optimization-level", *([word[2:].removeprefix("=")] if word != "-O" else [])]
        elif word != "-O" and not _is_whole(word[2:].removeprefix("=")):
            raise RefusedError("argument -O: expected a level")
        else:
            written += ["-O.level" + (f"={word[2:].removeprefix('=')}" if word != "-O" else "")]
    return written


def _is_whole(text: str) -> bool:
    """Whether JSON has a whole number here, or what vLLM takes for one."""
    try:
        found = json.loads(text)
    except ValueError:
        return False
    return found is None or (isinstance(found, int | float) and found == int(found))


def _is_number(text: str) -> bool:
    return bool(re.fullmatch(r"-\d+|-\d*\.\d+", text))
