"""Arguments and variables of vLLM that are dangerous, each with the reason, and how to recognise them.

Read from the published wheels of 0.7.2 and 0.20.2 (``entrypoints/openai/cli_args.py``, ``engine/arg_utils.py``,
``envs.py``) and https://docs.vllm.ai/en/stable/usage/security/.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Danger:
    """``reason`` completes "it cannot be used: ...". ``level`` ``always``: refused in every deployment. ``exposed``:
    refused if clients come from outside the cluster or need a key, otherwise a warning. ``harmless`` are values with
    which it has no effect."""

    reason: str
    level: Literal["always", "exposed"] = "always"
    harmless: tuple[str, ...] = ()


_NO_PLAIN_HTTP = "the probes use plain HTTP, so the engine would never become ready"
_CLIENT_TENSORS = "clients then send tensors that torch unpickles, which has run code in the engine (CVE-2025-62164)"
_PROFILER = "it adds /start_profile and /stop_profile, which do not ask for the key and write until the disk is full"

FLAGS: Mapping[str, Danger] = {
    "--ssl-keyfile": Danger(reason=_NO_PLAIN_HTTP),
    "--ssl-certfile": Danger(reason=_NO_PLAIN_HTTP),
    "--uds": Danger(reason=_NO_PLAIN_HTTP),
    "--host": Danger(reason="the probes need vLLM to listen on all addresses, its default"),
    "--root-path": Danger(
        reason="the API key, the route and the checks rely on vLLM's own paths; 0.7.2 asks for the key only below the "
        "root path"
    ),
    "--master-port": Danger(reason="the probes of the workers expect the leader at vLLM's default port"),
    "--config": Danger(reason="it reads arguments from a file that is not checked"),
    "--middleware": Danger(reason="it runs other code before the API key is checked"),
    "--grpc": Danger(reason="it serves a protocol that does not ask for the API key and lacks the paths of the probes"),
    "--logits-processor-pattern": Danger(
        reason="clients could then name Python objects that the engine imports and calls"
    ),
    "--allowed-local-media-path": Danger(
        reason="clients could then read files of the pod through file:// addresses in their requests", level="exposed"
    ),
    "--enable-prompt-embeds": Danger(reason=_CLIENT_TENSORS, level="exposed"),
    "--enable-mm-embeds": Danger(reason=_CLIENT_TENSORS, level="exposed"),
    "--trust-request-chat-template": Danger(
        reason="a client's own chat template runs in the server and can block it permanently (CVE-2025-61620)",
        level="exposed",
    ),
    "--profiler-config": Danger(reason=_PROFILER, level="exposed"),
    "--enable-tokenizer-info-endpoint": Danger(
        reason="it adds /tokenizer_info, which does not ask for the key and shows the chat template", level="exposed"
    ),
    "--weight-transfer-config": Danger(
        reason="it adds paths through which clients can replace the weights of the running engine", level="exposed"
    ),
}
"""Arguments of ``vllm serve``."""

VARIABLES: Mapping[str, Danger] = {
    "VLLM_ALLOW_INSECURE_SERIALIZATION": Danger(
        reason="the processes of the engine then exchange pickles, which run code when they are read",
        harmless=("0",),
    ),
    "VLLM_SERVER_DEV_MODE": Danger(
        reason="it opens /collective_rpc, /sleep and other endpoints of the engine without the key", harmless=("0",)
    ),
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": Danger(
        reason="clients can then make the engine load files and repositories that they name",
        level="exposed",
        harmless=("", "0", "false"),
    ),
    "VLLM_LORA_RESOLVER_HF_REPO_LIST": Danger(
        reason="a client's request then makes the engine download from the hub, past the verified weights",
        level="exposed",
    ),
    "VLLM_TORCH_PROFILER_DIR": Danger(reason=_PROFILER, level="exposed", harmless=("",)),
    "VLLM_DEBUG_LOG_API_SERVER_RESPONSE": Danger(
        reason="the log then contains every answer in full",
        level="exposed",
        harmless=("", "0", "false"),
    ),
}
"""Environment variables of vLLM."""

API_KEY_FLAG = "--api-key"

SECRET_FLAGS = frozenset({API_KEY_FLAG, "--hf-token"})
"""Arguments that carry a secret. Any user who may read pods would see it."""

PICKLE_FORMATS = frozenset({"pt", "npcache"})
"""Values of ``--load-format`` that read pickles (``vllm/config/load.py`` of 0.20.2)."""

WHOLE = frozenset({"--reasoning-parser"})
"""Arguments of vLLM that are a prefix of a longer one, but not an abbreviation of it."""

REFERENCE = re.compile(r"\$\(([A-Za-z_.-][A-Za-z0-9_.-]*)\)")
"""A reference to a variable in commands and variables of Kubernetes
(https://kubernetes.io/docs/tasks/inject-data-application/define-environment-variable-container/)."""


def flag_of(item: str) -> str:
    """The flag of one item of ``extraArgs``, as vLLM reads it: without its value, with ``-`` for ``_``, and without the
    path in a flag that sets a part of a JSON object (``FlexibleArgumentParser``)."""
    return re.split(r"[=\s.]", item, maxsplit=1)[0].replace("_", "-")


def meant(flag: str, names: Iterable[str]) -> str | None:
    """Which of ``names`` a flag means; argparse accepts every unique prefix of a flag
    (https://docs.python.org/3/library/argparse.html#allow-abbrev)."""
    known = tuple(names)
    if flag in known:
        return flag
    if flag in WHOLE or not flag.startswith("-"):
        return None
    return next((name for name in known if len(flag) > 1 and name.startswith(flag)), None)
