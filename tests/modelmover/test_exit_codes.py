"""Every way to end has a text and an exit code that the documents know."""

import errno
import re
import signal
from pathlib import Path

import pytest

from deepseek_acs.modelmover import __main__ as program
from deepseek_acs.modelmover.errors import CONTINUE_EXIT_CODES, MoveError, exhausted, is_exhaustion

WEIGHTS = Path(__file__).parents[2] / "docs" / "weights.md"


def kinds() -> list[type[MoveError]]:
    return MoveError.__subclasses__()


def documented() -> dict[int, str]:
    rows = re.findall(r"^\| (\d+) \| (.+) \| (.+) \|$", WEIGHTS.read_text(), re.MULTILINE)
    return {int(code): action for code, _, action in rows}


def test_every_exit_code_is_documented_with_what_the_job_does() -> None:
    found = documented()
    assert {kind.exit_code for kind in kinds()} | {0, 128 + signal.SIGTERM, 128 + signal.SIGKILL} == found.keys()
    continued = {code for code, action in found.items() if "starts another pod" in action}
    assert continued == set(CONTINUE_EXIT_CODES)
    assert 1 not in found


@pytest.mark.parametrize("kind", kinds())
def test_error_ends_the_program_with_its_code(
    kind: type[MoveError], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, kind("what it is")) == kind.exit_code
    assert capsys.readouterr().err.endswith("ERROR what it is\n")


def run(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> int:
    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(program, "_run", fail)
    monkeypatch.setattr(program, "_stop_on_signals", lambda stop: [])
    return program.main(["plan", "/model"])


def test_fault_of_the_program_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, TypeError("hidden")) == 70
    text = capsys.readouterr().err
    assert re.search(r"failed in a way that it does not know: TypeError in fail, line \d+ of test_exit_codes\.py", text)
    assert text.count("\n") == 1
    assert "hidden" not in text


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.EMFILE, "Too many open files"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("can't start new thread"),
    ],
)
def test_machine_without_room_is_reported(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert is_exhaustion(error)
    assert exhausted(error).exit_code == run(monkeypatch, error) == 71
    assert "use --part-size 1 --streams 2 --uploads 2" in capsys.readouterr().err


@pytest.mark.parametrize("error", [OSError(errno.EIO, "x"), RuntimeError("other"), ValueError()])
def test_other_errors_are_no_lack_of_room(error: Exception) -> None:
    assert not is_exhaustion(error)


def test_what_servers_say_cannot_steer_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, MoveError.__subclasses__()[0]("\x1b[2Jgone\nERROR forged " + "x" * 10_000))
    text = capsys.readouterr().err
    assert "\x1b" not in text
    assert text.count("\n") == 1
    assert len(text) < 4100
