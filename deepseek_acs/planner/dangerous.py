"""Arguments and variables of vLLM that open a door, each with the reason; and which of them a text means.

Read from the published wheels of 0.7.2 and 0.20.2 (``entrypoints/openai/cli_args.py``, ``engine/arg_utils.py``,
``envs.py``) and https://docs.vllm.ai/en/stable/usage/security/.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Danger:
    """``reason`` completes "it cannot be used: ...". ``level`` ``always``: no deployment has it. ``exposed``: none that
    clients reach from outside the cluster, or that asks for a key; others are warned of. ``harmless`` are values with
    which it does nothing."""

    reason: str
    level: Literal["always", "exposed"] = "always"
    harmless: tuple[str, ...] = ()


_NO_PLAIN_HTTP = "the probes, which ask by plain HTTP, would never find the engine ready"
_CLIENT_TENSORS = "clients then send tensors that torch unpickles, which has run code in the engine (CVE-2025-62164)"
_PROFILER = "it adds /start_profile and /stop_profile, which ask for no key, and write until the disk is full"

FLAGS: Mapping[str, Danger] = {
    "--ssl-keyfile": Danger(reason=_NO_PLAIN_HTTP),
    "--ssl-certfile": Danger(reason=_NO_PLAIN_HTTP),
    "--uds": Danger(reason=_NO_PLAIN_HTTP),
    "--host": Danger(reason="the probes need all addresses, to which vLLM listens without it"),
    "--root-path": Danger(
        reason="the key, the route and the checks are for the paths of vLLM as they are; 0.7.2 asks for the key only "
        "below the root path"
    ),
    "--master-port": Danger(reason="the checks of the pods look for the leader at vLLM's own port"),
    "--config": Danger(reason="it reads arguments from a file that no check sees"),
    "--middleware": Danger(reason="it runs code of its own before the key is asked for"),
    "--grpc": Danger(reason="it serves by a protocol in which nobody asks for the key, and without the probes' paths"),
    "--logits-processor-pattern": Danger(reason="clients then name Python objects that the engine imports and calls"),
    "--allowed-local-media-path": Danger(
        reason="clients then read files of the pod, by file:// addresses in their requests", level="exposed"
    ),
    "--enable-prompt-embeds": Danger(reason=_CLIENT_TENSORS, level="exposed"),
    "--enable-mm-embeds": Danger(reason=_CLIENT_TENSORS, level="exposed"),
    "--trust-request-chat-template": Danger(
        reason="a client's own chat template runs in the server and can block it for good (CVE-2025-61620)",
        level="exposed",
    ),
    "--profiler-config": Danger(reason=_PROFILER, level="exposed"),
    "--enable-tokenizer-info-endpoint": Danger(
        reason="it adds /tokenizer_info, which asks for no key and shows the chat template", level="exposed"
    ),
    "--weight-transfer-config": Danger(
        reason="it adds paths by which clients replace the weights of the running engine", level="exposed"
    ),
}
"""Arguments of ``vllm serve``."""

VARIABLES: Mapping[str, Danger] = {
    "VLLM_ALLOW_INSECURE_SERIALIZATION": Danger(
        reason="the processes of the engine then exchange pickles, which run code where they are read",
        harmless=("0",),
    ),
    "VLLM_SERVER_DEV_MODE": Danger(
        reason="it opens /collective_rpc, /sleep and more of the engine without the key", harmless=("0",)
    ),
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": Danger(
        reason="clients then have the engine load files and repositories that they name",
        level="exposed",
        harmless=("", "0", "false"),
    ),
    "VLLM_LORA_RESOLVER_HF_REPO_LIST": Danger(
        reason="a client's request then has the engine download from the hub, past the weights that are proved",
        level="exposed",
    ),
    "VLLM_TORCH_PROFILER_DIR": Danger(reason=_PROFILER, level="exposed", harmless=("",)),
    "VLLM_DEBUG_LOG_API_SERVER_RESPONSE": Danger(
        reason="every answer, with what a client was told, then stands in the log",
        level="exposed",
        harmless=("", "0", "false"),
    ),
}
"""Environment variables of vLLM."""

API_KEY_FLAG = "--api-key"

SECRET_FLAGS = frozenset({API_KEY_FLAG, "--hf-token"})
"""Arguments that carry a secret, which everyone who may read pods would see."""

PICKLE_FORMATS = frozenset({"pt", "npcache"})
"""Values of ``--load-format`` that read pickles (``vllm/config/load.py`` of 0.20.2)."""

WHOLE = frozenset({"--reasoning-parser"})
"""Arguments of vLLM that are the beginning of a longer one, and no abbreviation of it."""

REFERENCE = re.compile(r"\$\(([A-Za-z_.-][A-Za-z0-9_.-]*)\)")
"""A variable as Kubernetes writes it in commands and variables
(https://kubernetes.io/docs/tasks/inject-data-application/define-environment-variable-container/)."""


def flag_of(item: str) -> str:
    """The flag of one item of ``extraArgs``, as vLLM reads it: without its value, with ``-`` for ``_``, and without the
    path in a flag that sets a part of a JSON object (``FlexibleArgumentParser``)."""
    return re.split(r"[=\s.]", item, maxsplit=1)[0].replace("_", "-")


def meant(flag: str, names: Iterable[str]) -> str | None:
    """Which of ``names`` a flag means; argparse takes every beginning of a flag for it
    (https://docs.python.org/3/library/argparse.html#allow-abbrev)."""
    known = tuple(names)
    if flag in known:
        return flag
    if flag in WHOLE or not flag.startswith("-"):
        return None
    return next((name for name in known if len(flag) > 1 and name.startswith(flag)), None)
