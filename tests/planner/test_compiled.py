"""Whether an engine compiles anything that a cache could keep."""

import pytest

from deepseek_acs.planner.compiled import reason_for_nothing
from tests.planner.specs import guide, stack_findings

OFF = "--compilation-config switches compilation off"


@pytest.mark.parametrize(
    ("arguments", "env", "reason"),
    [
        ((), {}, None),
        (("-O0",), {}, OFF),
        (("-O=0",), {}, OFF),
        (("-O", "0"), {}, OFF),
        (("-O3",), {}, None),
        (("-O0", "-O3"), {}, None),
        (("--compilation-config", "0"), {}, OFF),
        (('--compilation-config={"mode": 0}',), {}, OFF),
        (('-cc={"level": 0}',), {}, OFF),
        (('--compilation-config={"mode": "NONE"}',), {}, OFF),
        (('--compilation-config={"mode": 3}',), {}, None),
        (('--compilation-config={"cudagraph_mode": "NONE"}',), {}, None),
        (("--compilation-config={",), {}, None),
        (("--compilation-config.mode=0",), {}, OFF),
        (("--compilation-config.mode", "none"), {}, OFF),
        (("--compilation_config.mode=0",), {}, OFF),
        (("--compilation-config.cudagraph_mode=0",), {}, None),
        (("--max-num-seqs=0",), {}, None),
        ((), {"VLLM_DISABLE_COMPILE_CACHE": "1"}, "VLLM_DISABLE_COMPILE_CACHE=1 is set"),
        ((), {"VLLM_DISABLE_COMPILE_CACHE": "0"}, None),
    ],
)
def test_arguments_and_variables(arguments: tuple[str, ...], env: dict[str, str], reason: str | None) -> None:
    assert reason_for_nothing(arguments, env, eager=False, is_v0=False) == reason


def test_eager() -> None:
    assert reason_for_nothing((), {}, eager=True, is_v0=False) == "the engine runs eagerly"


def test_the_first_generation_compiles_if_it_is_asked_to() -> None:
    assert "of this generation" in str(reason_for_nothing((), {}, eager=False, is_v0=True))
    assert reason_for_nothing(("-O3",), {}, eager=False, is_v0=True) is None


def test_nothing_is_said_where_it_is_off() -> None:
    found = guide(env={"TRITON_CACHE_DIR": "/a"}, identity={"kind": "accessKey"})
    assert not [finding for finding in stack_findings(found) if "compileCache" in str(finding)]
