"""The language host: the gRPC service by which the engine runs Python programs and plugins, and asks about them."""

# ruff: noqa: N802 -- the service's method names are given

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import grpc
from google.protobuf import empty_pb2, json_format
from pulumi.runtime.proto import LanguageRuntimeServicer, language_pb2, plugin_pb2

from local.plugins.language_python.program import EXIT_MESSAGE_SHOWN

_PROGRAM = os.fspath(Path(__file__).with_name("program.py"))


class LanguageHost(LanguageRuntimeServicer):
    """Runs each program and each plugin in a process of its own, of the project's interpreter.

    :param engine_address: of the engine's own service, to which programs log.
    """

    def __init__(self, engine_address: str) -> None:
        self._engine_address = engine_address
        self._running: set[subprocess.Popen[bytes]] = set()

    def Handshake(
        self, request: language_pb2.LanguageHandshakeRequest, context: grpc.ServicerContext
    ) -> language_pb2.LanguageHandshakeResponse:
        self._engine_address = request.engine_address
        return language_pb2.LanguageHandshakeResponse()

    def GetPluginInfo(self, request: empty_pb2.Empty, context: grpc.ServicerContext) -> plugin_pb2.PluginInfo:
        return plugin_pb2.PluginInfo(version=version("pulumi"))

    def About(self, request: language_pb2.AboutRequest, context: grpc.ServicerContext) -> language_pb2.AboutResponse:
        python = _python(request.info, context)
        said = _output([python, "--version"]).removeprefix("Python ").strip()
        return language_pb2.AboutResponse(executable=python, version=said, metadata={"host": "fake"})

    def GetRequiredPackages(
        self, request: language_pb2.GetRequiredPackagesRequest, context: grpc.ServicerContext
    ) -> language_pb2.GetRequiredPackagesResponse:
        # Each resource says again which version of which plugin it needs.
        return language_pb2.GetRequiredPackagesResponse()

    def GetProgramDependencies(
        self, request: language_pb2.GetProgramDependenciesRequest, context: grpc.ServicerContext
    ) -> language_pb2.GetProgramDependenciesResponse:
        only_direct = [] if request.transitiveDependencies else ["--not-required"]
        listed = _output([_python(request.info, context), "-m", "pip", "list", "--format=json", *only_direct])
        return language_pb2.GetProgramDependenciesResponse(
            dependencies=[
                language_pb2.DependencyInfo(name=package["name"], version=package["version"])
                for package in json.loads(listed)
            ]
        )

    def InstallDependencies(
        self, request: language_pb2.InstallDependenciesRequest, context: grpc.ServicerContext
    ) -> Iterator[language_pb2.InstallDependenciesResponse]:
        virtualenv = _options(request.info).get("virtualenv")
        if virtualenv and not Path(request.info.root_directory, virtualenv, "bin", "python").exists():
            folder = os.path.join(request.info.root_directory, virtualenv)
            yield from _installed([sys.executable, "-m", "venv", folder], request, context)
        if Path(_program_directory(request), "requirements.txt").is_file():
            python = _python(request.info, context)
            yield from _installed([python, "-m", "pip", "install", "-r", "requirements.txt"], request, context)

    def RunPlugin(
        self, request: language_pb2.RunPluginRequest, context: grpc.ServicerContext
    ) -> Iterator[language_pb2.RunPluginResponse]:
        file = "PulumiPolicy.yaml" if request.kind == "analyzer" else "PulumiPlugin.yaml"
        # As with the official host, a plugin's interpreter is never that of the machine.
        python = _python(request.info, context, file, virtualenv="venv")
        plugin = subprocess.Popen(  # noqa: S603
            [python, request.info.program_directory, *request.args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=request.pwd,
            # Unbuffered, because a plugin need not flush the port that it prints.
            env={**dict(entry.split("=", 1) for entry in request.env), "PYTHONUNBUFFERED": "1"},
        )
        with self._running_until_done(plugin):
            # The engine ends a plugin by ending this call.
            if not context.add_callback(plugin.terminate):
                plugin.terminate()
            yield from _printed(plugin)

    def Run(self, request: language_pb2.RunRequest, context: grpc.ServicerContext) -> language_pb2.RunResponse:
        try:
            command = [interpreter(request.info.root_directory, _options(request.info)), _PROGRAM, self._engine_address]
        except ToolchainError as error:
            return language_pb2.RunResponse(error=str(error))
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        program = subprocess.Popen(command, stdin=subprocess.PIPE, cwd=request.pwd, env=environment)  # noqa: S603
        with self._running_until_done(program):
            program.communicate(request.SerializeToString())
        return outcome(program.returncode)

    def Cancel(self, request: empty_pb2.Empty, context: grpc.ServicerContext) -> empty_pb2.Empty:
        self.terminate()
        return empty_pb2.Empty()

    def terminate(self) -> None:
        """Send SIGTERM to every program and plugin that runs."""
        for process in list(self._running):
            process.terminate()

    @contextmanager
    def _running_until_done(self, process: subprocess.Popen[bytes]) -> Iterator[None]:
        with process:
            self._running.add(process)
            try:
                yield
            finally:
                self._running.discard(process)


def outcome(exit_code: int) -> language_pb2.RunResponse:
    """The engine's view of a program that ended with `exit_code`, or by signal ``-exit_code``."""
    if exit_code == 0:
        return language_pb2.RunResponse()
    if exit_code in (EXIT_MESSAGE_SHOWN, -signal.SIGINT, -signal.SIGTERM):
        return language_pb2.RunResponse(bail=True)
    if exit_code < 0:
        return language_pb2.RunResponse(error=f"signal {signal.Signals(-exit_code).name} ended the program")
    return language_pb2.RunResponse(error=f"the program exited with code {exit_code}")


class ToolchainError(Exception):
    """The project's Python cannot be used as its ``Pulumi*.yaml`` describes it; the text says what to do."""


def interpreter(root: str, options: Mapping[str, Any], file: str = "Pulumi.yaml") -> str:
    """The path of the interpreter: that of the virtual environment, or ``python3`` on the PATH.

    :param options: ``runtime.options`` of `file`.
    :raises ToolchainError: if there is none, or for an option that only the official host serves.
    """
    for option, value in sorted(options.items()):
        if option != "virtualenv" and (option, value) != ("toolchain", "pip"):
            raise ToolchainError(
                f"{file}: runtime.options.{option}: {value!r} needs Pulumi's own Python language host; remove the "
                "option, or install Pulumi with that host (https://www.pulumi.com/docs/install/)"
            )
    virtualenv = options.get("virtualenv")
    if virtualenv is None:
        found = shutil.which("python3")
        if found is None:
            raise ToolchainError(f"no python3 on the PATH; install Python, or set runtime.options.virtualenv in {file}")
        return found
    python = Path(root, virtualenv).absolute() / "bin" / "python"
    if not python.is_file():
        raise ToolchainError(
            f"{file}: runtime.options.virtualenv: {virtualenv!r} is not a virtual environment ({python} is missing); "
            "run `pulumi install` in that file's folder to create it"
        )
    return os.fspath(python)


def _options(info: language_pb2.ProgramInfo) -> dict[str, Any]:
    options: dict[str, Any] = json_format.MessageToDict(info.options)
    return options


def _python(
    info: language_pb2.ProgramInfo, context: grpc.ServicerContext, file: str = "Pulumi.yaml", **defaults: str
) -> str:
    try:
        return interpreter(info.root_directory, {**defaults, **_options(info)}, file)
    except ToolchainError as error:
        _abort(context, str(error))


def _abort(context: grpc.ServicerContext, message: str) -> NoReturn:
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, message)
    raise AssertionError("abort has returned")


def _output(command: Sequence[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603


def _program_directory(request: language_pb2.InstallDependenciesRequest) -> str:
    return str(request.info.program_directory or request.directory)


def _installed(
    command: Sequence[str], request: language_pb2.InstallDependenciesRequest, context: grpc.ServicerContext
) -> Iterator[language_pb2.InstallDependenciesResponse]:
    with subprocess.Popen(  # noqa: S603
        command, cwd=_program_directory(request), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        for line in process.stdout or ():
            yield language_pb2.InstallDependenciesResponse(stdout=line)
    if process.returncode != 0:
        _abort(context, f"`{' '.join(command)}` failed with exit code {process.returncode}; its output is above")


def _printed(plugin: subprocess.Popen[bytes]) -> Iterator[language_pb2.RunPluginResponse]:
    """What a plugin prints, as it prints it, and then its exit code."""
    lines: queue.SimpleQueue[language_pb2.RunPluginResponse | None] = queue.SimpleQueue()

    def read(stream: str) -> None:
        for line in getattr(plugin, stream):
            lines.put(language_pb2.RunPluginResponse(**{stream: line}))
        lines.put(None)

    for stream in ("stdout", "stderr"):
        threading.Thread(target=read, args=(stream,), daemon=True).start()
    for _ in range(2):
        yield from iter(lines.get, None)
    yield language_pb2.RunPluginResponse(exitcode=plugin.wait())
