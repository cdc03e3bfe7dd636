"""The paths of the engine's API that clients are let through to: one list for the request filter and for routes.

All of them ask for the key in every version of vLLM. What else the engine serves is left out on purpose:
``/invocations`` computes answers without a key, ``/pause`` and others stop the service, and ``/v1/load_lora_adapter``
changes the model (https://docs.vllm.ai/en/stable/usage/security/).
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from deepseek_acs.planner.vllm import split_arguments
from deepseek_acs.planner.vllm_releases.release import Version, changed_in

Task = Literal["generate", "embed", "score"]

MODELS = "GET /v1/models"

API_PATHS: Mapping[Task, tuple[str, ...]] = {
    "generate": (
        MODELS,
        "POST /v1/chat/completions",
        "POST /v1/completions",
        "POST /v1/responses",
        "GET /v1/responses/{id}",
        "POST /v1/responses/{id}/cancel",
    ),
    "embed": (MODELS, "POST /v1/embeddings"),
    "score": (MODELS, "POST /v1/score", "POST /v1/rerank"),
}
"""Methods and paths by what the model is for, in every version; ``{id}`` is one segment of a path."""

MESSAGES = "POST /v1/messages"
COUNT_TOKENS = "POST /v1/messages/count_tokens"
"""Anthropic's Messages API, for models that generate, and the versions that have it."""

TASK_FLAGS = ("--task", "--convert")
"""How a version is told the task; the second since 0.11 (https://docs.vllm.ai/en/stable/models/pooling_models/)."""

_TASKS: Mapping[str, Task] = {
    "embed": "embed",
    "embedding": "embed",
    "score": "score",
    "classify": "score",
}
"""Values of those arguments under which the model does not generate."""


def api_paths(extra_args: Sequence[str], version: Version) -> tuple[str, ...]:
    """Those of the task that the engine's arguments ask for, as far as ``version`` has them."""
    given = split_arguments(extra_args)
    tasks = [_TASKS[given[flag]] for flag in TASK_FLAGS if given.get(flag) in _TASKS]
    if tasks:
        return API_PATHS[tasks[0]]
    messages = (MESSAGES,) if version >= changed_in("messages_api") else ()
    counts = (COUNT_TOKENS,) if version >= changed_in("messages_counted") else ()
    return (*API_PATHS["generate"], *messages, *counts)


def exact_paths(paths: Sequence[str]) -> tuple[str, ...]:
    """The paths that have no others below them, for proxies that know no patterns."""
    parents = parent_paths(paths)
    return tuple(
        path for path in _plain(paths) if not any(path == one or path.startswith(f"{one}/") for one in parents)
    )


def parent_paths(paths: Sequence[str]) -> tuple[str, ...]:
    """The paths with others below them: proxies let through all that is there, the filter only what is listed."""
    return tuple(dict.fromkeys(path.partition("/{")[0] for path in _plain(paths) if "{" in path))


def _plain(paths: Sequence[str]) -> list[str]:
    return [entry.split(" ")[1] for entry in paths]
