"""Plugins in Python, such as policy packs, under the stand-in for the language host."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from google.protobuf import struct_pb2
from pulumi.runtime.proto import language_pb2

from local.plugins.language_python.host import LanguageHost, plugin_toolchain
from local.plugins.language_python.toolchain import ToolchainError

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
        self.aborted = ""

    def add_callback(self, callback: Callable[[], None]) -> bool:
        self.callbacks.append(callback)
        return True

    def abort(self, code: object, details: str) -> None:
        self.aborted = details


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
    host = LanguageHost("127.0.0.1:1", "3.0.0")
    answers = list(host.RunPlugin(request(folder, virtualenv=".venv"), Context()))
    assert b"".join(answer.stdout for answer in answers) == b"8080\n"
    assert b"".join(answer.stderr for answer in answers) == f"hello=you {folder.parent} 127.0.0.1:1\n".encode()
    assert answers[-1].WhichOneof("output") == "exitcode"
    assert answers[-1].exitcode == 3


@pytest.mark.integration
def test_the_engine_ends_a_plugin(plugin: Callable[[str], Path]) -> None:
    folder = plugin("import time\nprint(8080)\ntime.sleep(600)")
    context = Context()
    answers = iter(LanguageHost("127.0.0.1:1", "3.0.0").RunPlugin(request(folder, virtualenv=".venv"), context))
    assert next(answers).stdout == b"8080\n"
    for callback in context.callbacks:
        callback()
    assert [answer.exitcode for answer in answers] == [-15]


def test_a_missing_environment_is_named(tmp_path: Path) -> None:
    context = Context()
    with pytest.raises(ToolchainError):
        list(LanguageHost("127.0.0.1:1", "3.0.0").RunPlugin(request(tmp_path), context))
    assert context.aborted == (
        f"PulumiPolicy.yaml: runtime.options.virtualenv: 'venv' is no virtual environment ({tmp_path}/venv/bin/python "
        "is missing); run `pulumi install` beside that file to create it"
    )


def test_other_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ToolchainError, match=r"^PulumiPolicy.yaml: runtime.options.typechecker: not served"):
        plugin_toolchain(request(tmp_path, typechecker="mypy"))
