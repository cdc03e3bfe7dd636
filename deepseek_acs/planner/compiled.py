"""Code that engines compile when they start, and whether a cache of it has something to keep."""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence

VARIABLES = {
    "VLLM_CACHE_ROOT": "vllm",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TRITON_CACHE_DIR": "triton",
    "DG_JIT_CACHE_DIR": "deepgemm",
}
"""Variables with the folders of compiled code, and a name for each: of vLLM (torch.compile, in 0.6.6 already), PyTorch,
Triton and DeepGEMM. A version that does not know one does not read it
(https://docs.vllm.ai/en/stable/configuration/env_vars.html, https://docs.pytorch.org/tutorials/recipes/
torch_compile_caching_configuration_tutorial.html, https://github.com/triton-lang/triton/blob/main/README.md,
https://github.com/deepseek-ai/DeepGEMM)."""

HELPER_CPU, HELPER_GIB = 1, 1
"""vCPUs and memory of the container that saves the cache, which is next to the engine as long as that runs."""

DISABLING = {"VLLM_DISABLE_COMPILE_CACHE": "1", "TORCH_COMPILE_DISABLE": "1", "TORCHDYNAMO_DISABLE": "1"}
"""Variables by which vLLM keeps no compiled code, or PyTorch compiles none."""

CONFIG_FLAGS = ("--compilation-config", "-cc", "-O")
LEVEL_KEYS = ("mode", "level")
"""Of ``--compilation-config``; ``level`` is the name before 0.11.1."""

OFF = ("0", "NONE")


def reason_for_nothing(arguments: Sequence[str], env: Mapping[str, str], *, eager: bool, is_v0: bool) -> str | None:
    """Why torch.compile leaves nothing to keep; None if it may."""
    if eager:
        return "the engine runs eagerly"
    for name, value in DISABLING.items():
        if env.get(name) == value:
            return f"{name}={value} is set"
    levels = list(_levels(arguments))
    if levels and levels[-1] in OFF:
        return f"{CONFIG_FLAGS[0]} switches compilation off"
    if is_v0 and not levels:
        return "engines of this generation compile only if --compilation-config asks for it"
    return None


def _levels(arguments: Sequence[str]) -> Iterator[str]:
    """Levels that arguments ask for, in their order and in all spellings: ``-O0``, ``-O=0``, ``-cc.mode=0``,
    ``--compilation-config.mode 0``, ``--compilation-config={"mode": 0}``."""
    for item, following in itertools.pairwise([*arguments, ""]):
        name, is_joined, value = item.partition("=")
        flag, _, key = name.replace("_", "-").partition(".")
        value = value if is_joined else following
        if flag[:2] == "-O" and flag[2:].isdecimal():
            yield flag[2:]
        elif flag in CONFIG_FLAGS and (key in LEVEL_KEYS or (not key and value.isdecimal())):
            yield value.upper()
        elif flag in CONFIG_FLAGS and not key:
            yield from _of_object(value)


def _of_object(text: str) -> Iterator[str]:
    try:
        found = json.loads(text)
    except ValueError:
        return
    if isinstance(found, dict):
        yield from (str(found[key]).upper() for key in LEVEL_KEYS if key in found)
