"""Who reaches the engine: the request filter is there, and in front."""

from collections.abc import Iterator

from deepseek_acs.planner.dangerous import flag_of, meant
from deepseek_acs.planner.findings import Field
from deepseek_acs.planner.rules.rule import Problem, rule, warning
from deepseek_acs.planner.spec import ResolvedSpec

VLLM_SECURITY = "https://docs.vllm.ai/en/stable/usage/security/"

OTHER_FRONTENDS = {"VLLM_USE_RUST_FRONTEND": "0"}
"""Variables with which another server answers than the one that loads middleware, and their value when it does not
(https://github.com/vllm-project/vllm/blob/v0.33.0/vllm/envs.py)."""

ORIGINS = "--allowed-origins"


@warning(VLLM_SECURITY)
def key_is_kept(spec: ResolvedSpec) -> Iterator[Problem]:
    """A key is asked for on all paths."""
    if spec.service.api_key and spec.request_filter is None:
        yield (
            Field.REQUEST_FILTER,
            f"without it {spec.engine.vllm.name} asks for the key on some paths only: /invocations computes answers "
            "for everyone who reaches the port",
            "remove the line, or let a proxy that forwards the paths of the API alone reach the port, and nothing else",
        )


@rule(VLLM_SECURITY)
def filter_is_in_front(spec: ResolvedSpec) -> Iterator[Problem]:
    """The request filter sees every request."""
    if spec.request_filter is None:
        return
    off = f"or set {Field.REQUEST_FILTER} to null"
    for name, default in OTHER_FRONTENDS.items():
        if spec.engine.env.get(name, default) != default:
            yield (
                Field.ENV,
                f"{name} starts a server that loads no middleware, the filter included",
                f"remove {name}, {off}",
            )
    if any(meant(flag_of(argument), [ORIGINS]) for argument in spec.engine.extra_args):
        yield (
            Field.EXTRA_ARGS,
            f"{ORIGINS} has no effect: {Field.REQUEST_FILTER} removes the header Origin, so that no page of another "
            "origin can use the engine",
            f"remove {ORIGINS}, {off}",
        )
