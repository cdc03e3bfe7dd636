"""Arguments and variables of the engine that give clients more access than intended."""

from collections.abc import Iterator

from deepseek_acs.planner.dangerous import FLAGS, PICKLE_FORMATS, REFERENCE, VARIABLES, Danger, flag_of, meant
from deepseek_acs.planner.findings import Field
from deepseek_acs.planner.rules.advisories import is_reached_from_outside
from deepseek_acs.planner.rules.rule import Problem, rule, warning
from deepseek_acs.planner.spec import ResolvedSpec
from deepseek_acs.planner.vllm import split_arguments

SECURITY = "https://docs.vllm.ai/en/stable/usage/security/"
EXPANSION = "https://kubernetes.io/docs/tasks/inject-data-application/define-command-argument-container/"

API_KEY_VARIABLES = ("VLLM_API_KEY",)
"""Variables with a secret that the program sets."""


def is_exposed(spec: ResolvedSpec) -> bool:
    """Whether clients come from outside the cluster, or need an API key."""
    return spec.service.api_key or is_reached_from_outside(spec)


def _dangers(spec: ResolvedSpec) -> Iterator[tuple[Field, str, Danger]]:
    """Field, spelling and danger of each dangerous argument or variable. Values are left out: one could be a misplaced
    secret."""
    for item in spec.engine.extra_args:
        flag = flag_of(item)
        if name := meant(flag, FLAGS):
            yield Field.EXTRA_ARGS, flag if flag == name else f"{flag}, which vLLM reads as {name},", FLAGS[name]
    for name, danger in VARIABLES.items():
        given = spec.engine.env.get(name)
        if given is not None and given.strip().lower() not in danger.harmless:
            yield Field.ENV, name, danger
        if name in spec.engine.secret_env:
            yield Field.SECRET_ENV, name, danger


@rule(SECURITY)
def closed_doors(spec: ResolvedSpec) -> Iterator[Problem]:
    """No argument or variable of the engine lets clients do more than send requests to the model."""
    for field, name, danger in _dangers(spec):
        if danger.level == "always" or is_exposed(spec):
            tls = f"; the proxy of {Field.ROUTE} terminates TLS" if "--ssl" in name else ""
            yield field, f"{name} cannot be used: {danger.reason}", f"remove it{tls}"


@warning(SECURITY)
def closed_doors_inside(spec: ResolvedSpec) -> Iterator[Problem]:
    """The same if only pods of the cluster reach the engine, without an API key."""
    for field, name, danger in _dangers(spec):
        if danger.level == "exposed" and not is_exposed(spec):
            yield (
                field,
                f"{name} lets every pod of the cluster do more than send requests to the model: {danger.reason}",
                "remove it, or keep other pods out (docs/access.md)",
            )


@rule("https://huggingface.co/docs/hub/security-pickle")
def pickle_format(spec: ResolvedSpec) -> Iterator[Problem]:
    """The engine reads pickles only where they are allowed."""
    given = split_arguments(spec.engine.extra_args)
    values = {value for flag, value in given.items() if meant(flag, ["--load-format"])}
    if (found := sorted(values & PICKLE_FORMATS)) and not spec.weights.allow_pickle:
        yield (
            Field.EXTRA_ARGS,
            f"--load-format={found[0]} reads pickles, which run code when they are loaded",
            f"remove it, or write {Field.ALLOW_PICKLE}: true",
        )


@rule(EXPANSION)
def secret_references(spec: ResolvedSpec) -> Iterator[Problem]:
    """No argument and no variable contains a secret: any user who may read processes or pods could read it there."""
    secret = {*API_KEY_VARIABLES, *spec.engine.secret_env}
    for field, name in _references(spec):
        if name in secret:
            yield (
                field,
                f"$({name}) would show a secret in the process list",
                f"remove it; the engine reads the variable {name} by itself",
            )


@warning(EXPANSION)
def references(spec: ResolvedSpec) -> Iterator[Problem]:
    """Nothing looks like a variable reference of Kubernetes, because references are not expanded."""
    secret = {*API_KEY_VARIABLES, *spec.engine.secret_env}
    for field, name in _references(spec):
        if name not in secret:
            yield (
                field,
                f"$({name}) reaches the engine literally: variable references in the stack file are not expanded",
                "write the value itself",
            )


def _references(spec: ResolvedSpec) -> Iterator[tuple[Field, str]]:
    for field, texts in ((Field.EXTRA_ARGS, spec.engine.extra_args), (Field.ENV, tuple(spec.engine.env.values()))):
        for name in sorted({name for text in texts for name in REFERENCE.findall(text)}):
            yield field, name
