"""Plugins in Python, such as policy packs, under the fake of the language host."""

import platform
import re
import runpy
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from google.protobuf import struct_pb2
from pulumi.runtime.proto import language_pb2

from local.plugins.language_python.host import LanguageHost, outcome
from local.plugins.language_python.program import user_traceback

PLUGIN = """
import os, sys
print("8080")
print(os.environ["GREETING"], os.getcwd(), sys.argv[1], file=sys.stderr)
sys.exit(3)
"""


class Context:
    """A call of the engine, as far as the host uses it; its callbacks run when the engine has done with it."""

    def __init__(self) -> None:
        self.callbacks: list[Callable[[], None]] = []

    def add_callback(self, callback: Callable[[], None]) -> bool:
        self.callbacks.append(callback)
        return True

    def abort(self, code: object, details: str) -> None:
        raise ConnectionAbortedError(details)


def request(folder: Path, **options: str) -> language_pb2.RunPluginRequest:
    struct = struct_pb2.Struct()
    struct.update(options)
    info = language_pb2.ProgramInfo(
        root_directory=str(folder), program_directory=str(folder), entry_point=".", options=struct
    )
    environment = ["GREETING=hello=you", f"PATH={folder}"]
    return language_pb2.RunPluginRequest(
        pwd=str(folder.parent), args=["127.0.0.1:1"], env=environment, info=info, kind="analyzer"
    )


@pytest.fixture
def plugin(tmp_path: Path) -> Callable[[str], Path]:
    def plugin(program: str) -> Path:
        folder = tmp_path / "pack"
        folder.mkdir()
        (folder / "__main__.py").write_text(program)
        (folder / ".venv").symlink_to(sys.prefix)
        return folder

    return plugin


@pytest.mark.integration
def test_a_plugin_runs(plugin: Callable[[str], Path]) -> None:
    folder = plugin(PLUGIN)
    host = LanguageHost("127.0.0.1:1")
    answers = list(host.RunPlugin(request(folder, virtualenv=".venv"), Context()))
    assert b"".join(answer.stdout for answer in answers) == b"8080\n"
    assert b"".join(answer.stderr for answer in answers) == f"hello=you {folder.parent} 127.0.0.1:1\n".encode()
    assert answers[-1].WhichOneof("output") == "exitcode"
    assert answers[-1].exitcode == 3


@pytest.mark.integration
def test_the_engine_ends_a_plugin(plugin: Callable[[str], Path]) -> None:
    folder = plugin("import time\nprint(8080)\ntime.sleep(600)")
    context = Context()
    answers = iter(LanguageHost("127.0.0.1:1").RunPlugin(request(folder, virtualenv=".venv"), context))
    assert next(answers).stdout == b"8080\n"
    for callback in context.callbacks:
        callback()
    assert [answer.exitcode for answer in answers] == [-15]


def test_a_missing_environment_is_named(tmp_path: Path) -> None:
    problem = (
        "PulumiPolicy.yaml: runtime.options.virtualenv: 'venv' is not a virtual environment "
        f"({tmp_path}/venv/bin/python is missing); run `pulumi install` in that file's folder to create it"
    )
    with pytest.raises(ConnectionAbortedError, match=re.escape(problem)):
        list(LanguageHost("127.0.0.1:1").RunPlugin(request(tmp_path), Context()))


@pytest.mark.parametrize("option", [{"typechecker": "mypy"}, {"toolchain": "uv"}])
def test_other_options_are_refused(tmp_path: Path, option: dict[str, str]) -> None:
    ((name, value),) = option.items()
    problem = rf"PulumiPolicy.yaml: runtime.options.{name}: '{value}' needs Pulumi's own Python language host; remove"
    with pytest.raises(ConnectionAbortedError, match=problem):
        list(LanguageHost("127.0.0.1:1").RunPlugin(request(tmp_path, **option), Context()))


def test_a_program_without_an_interpreter_fails(tmp_path: Path) -> None:
    info = request(tmp_path, virtualenv="nothing").info
    run = LanguageHost("127.0.0.1:1").Run(language_pb2.RunRequest(pwd=str(tmp_path), info=info), Context())
    assert run.error.startswith("Pulumi.yaml: runtime.options.virtualenv: 'nothing' is not a virtual environment")


@pytest.mark.integration
def test_a_program_reads_its_request_and_its_exit_code_counts(tmp_path: Path) -> None:
    python = tmp_path / "env" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\ncat > request\necho "$@" > arguments\nexit 7\n')
    python.chmod(0o755)
    info = request(tmp_path, virtualenv="env").info
    asked = language_pb2.RunRequest(stack="dev", pwd=str(tmp_path), info=info, config={"p:key": "hidden"})
    assert LanguageHost("127.0.0.1:1").Run(asked, Context()).error == "the program exited with code 7"
    assert language_pb2.RunRequest.FromString((tmp_path / "request").read_bytes()) == asked
    assert (tmp_path / "arguments").read_text().endswith("/program.py 127.0.0.1:1\n"), "no secret"


@pytest.mark.integration
def test_install_makes_the_environment(tmp_path: Path) -> None:
    asked = language_pb2.InstallDependenciesRequest(info=request(tmp_path, virtualenv="env").info)
    list(LanguageHost("127.0.0.1:1").InstallDependencies(asked, Context()))
    about = LanguageHost("127.0.0.1:1").About(language_pb2.AboutRequest(info=asked.info), Context())
    assert about.executable == str(tmp_path / "env" / "bin" / "python")
    assert about.version == platform.python_version()


@pytest.mark.integration
def test_a_failed_installation_is_said(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("/nothing/here.whl")
    asked = language_pb2.InstallDependenciesRequest(info=request(tmp_path, virtualenv=sys.prefix).info)
    with pytest.raises(ConnectionAbortedError, match=r"pip install -r requirements.txt` failed with exit code 1"):
        list(LanguageHost("127.0.0.1:1").InstallDependencies(asked, Context()))


def test_how_a_program_ended() -> None:
    assert outcome(0) == language_pb2.RunResponse()
    assert outcome(32).bail, "it has said itself why"
    assert outcome(-signal.SIGINT).bail
    assert outcome(-signal.SIGKILL).error == "signal SIGKILL ended the program"


def test_a_traceback_begins_in_the_program(tmp_path: Path) -> None:
    program = tmp_path / "__main__.py"
    program.write_text("int('x')")
    with pytest.raises(ValueError, match="invalid literal") as raised:
        runpy.run_path(str(program))
    assert "pytest" in user_traceback(raised.value, tmp_path / "other"), "of another program it has no frame"
    shown = user_traceback(raised.value, tmp_path)
    assert shown.splitlines()[1].strip() == f'File "{program}", line 1, in <module>'
