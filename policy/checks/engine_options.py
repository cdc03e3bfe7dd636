"""Options and variables of vLLM that open what the API key closes."""

import itertools
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from deepseek_acs.planner.dangerous import FLAGS, PICKLE_FORMATS, VARIABLES, flag_of, meant
from deepseek_acs.planner.findings import Finding
from policy.pods import Pod, pods
from policy.resources import Resource, items, mapping, text

MIDDLEWARE = "--middleware"
LOAD_FORMAT = "--load-format"
UNSAFE_FLAGS = FLAGS.keys() - {"--host", "--master-port", "--ssl-certfile", "--ssl-keyfile", "--uds"}
"""Without those that would only keep the probes from working."""

UNSAFE_VARIABLES: Mapping[str, str] = {
    "VLLM_PLUGINS": "it makes the engine import packages that it names",
    "LD_PRELOAD": "it loads a library into every process",
}
"""Variables that no setting of the program can hold, in addition to those of the planner's table."""


def unsafe_options(
    resource: Resource, *, allowed_options: Sequence[str], allowed_middleware: Sequence[str]
) -> Iterator[Finding]:
    """An engine with options that open it."""
    for pod in pods(resource):
        for path, container in pod.containers():
            for variable in map(mapping, items(container.get("env"))):
                name = text(variable.get("name"))
                if name not in allowed_options and (problem := _problem(name, variable)):
                    yield Finding(path=f"{path}.env[{name}]", problem=problem, fix=f"remove {name}")
            for field in ("command", "args") if pod.has_engine() else ():
                for name, problem in _unsafe(_words(container.get(field)), allowed_middleware):
                    if name not in allowed_options:
                        yield Finding(
                            path=f"{path}.{field}", problem=f"{name}: {problem}", fix=f"remove {name} and its value"
                        )


def middleware(pod: Pod) -> set[str]:
    """The middleware that runs in the pod's engine."""
    found = set()
    for _, container in pod.containers():
        words = _words([*items(container.get("command")), *items(container.get("args"))])
        for word, following in itertools.zip_longest(words, words[1:], fillvalue=""):
            if meant(flag_of(word), FLAGS) == MIDDLEWARE:
                found.add(word.partition("=")[2] or following)
    return found


def _problem(name: str, variable: Mapping[str, Any]) -> str | None:
    """What a variable does, unless it is switched off."""
    danger = VARIABLES.get(name)
    if danger is None:
        return UNSAFE_VARIABLES.get(name)
    value = text(variable.get("value")).strip().lower()
    return None if "valueFrom" not in variable and value in danger.harmless else danger.reason


def _unsafe(words: Sequence[str], allowed_middleware: Sequence[str]) -> Iterator[tuple[str, str]]:
    for word, following in itertools.zip_longest(words, words[1:], fillvalue=""):
        flag = flag_of(word)
        if not flag.startswith("--") or len(flag) <= len("--a"):
            continue
        value = word.partition("=")[2] or following
        name = meant(flag, (*FLAGS, LOAD_FORMAT))
        if name == LOAD_FORMAT and value in PICKLE_FORMATS:
            yield name, "the format is pickle, and loading it runs code"
        elif name in UNSAFE_FLAGS and not (name == MIDDLEWARE and value in allowed_middleware):
            yield str(name), FLAGS[str(name)].reason


def _words(arguments: Any) -> list[str]:
    """The words of a command; a script for ``sh -c`` is taken apart."""
    found: list[str] = []
    for argument in map(text, items(arguments)):
        try:
            found += shlex.split(argument) if " " in argument else [argument]
        except ValueError:
            found += argument.split()
    return found
