"""The language host: the gRPC service by which the engine runs and asks about Python programs."""

# ruff: noqa: N802 -- the service's method names are given

from __future__ import annotations

import os
import queue
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NoReturn

import grpc
from google.protobuf import empty_pb2, json_format
from pulumi.runtime.proto import LanguageRuntimeServicer, language_pb2, plugin_pb2

from local.plugins.language_python.program import EXIT_INTERRUPTED, EXIT_MESSAGE_SHOWN
from local.plugins.language_python.toolchain import Toolchain, ToolchainError

_ROOT = Path(__file__).resolve().parents[3]
_PROGRAM = Path(__file__).with_name("program.py")

INTERRUPT_GRACE = 3.0
"""Seconds that an interrupted program has before it is killed; the engine kills a host after five."""


class LanguageHost(LanguageRuntimeServicer):
    """Runs each program in a process of its own, of the project's interpreter.

    So every run starts from fresh module state (``pulumi up`` asks one host for a preview and then for the
    update), a crash is the program's alone, and it can be interrupted.

    :param engine_address: of the engine's own service, to which programs log.
    :param version: what the CLI is told of this plugin's version.
    """

    def __init__(self, engine_address: str, version: str) -> None:
        self._engine_address = engine_address
        self._version = version
        self._programs: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()

    def Handshake(
        self, request: language_pb2.LanguageHandshakeRequest, context: grpc.ServicerContext
    ) -> language_pb2.LanguageHandshakeResponse:
        self._engine_address = request.engine_address
        return language_pb2.LanguageHandshakeResponse()

    def GetPluginInfo(self, request: empty_pb2.Empty, context: grpc.ServicerContext) -> plugin_pb2.PluginInfo:
        return plugin_pb2.PluginInfo(version=self._version)

    def About(self, request: language_pb2.AboutRequest, context: grpc.ServicerContext) -> language_pb2.AboutResponse:
        try:
            interpreter = _toolchain(request.info).interpreter()
        except ToolchainError as error:
            _abort(context, error)
        return language_pb2.AboutResponse(
            executable=interpreter.executable,
            version=interpreter.version,
            metadata={"host": "stand-in", "toolchain": "pip"},
        )

    def GetRequiredPackages(
        self, request: language_pb2.GetRequiredPackagesRequest, context: grpc.ServicerContext
    ) -> language_pb2.GetRequiredPackagesResponse:
        try:
            plugins = _toolchain(request.info).required_plugins()
        except ToolchainError as error:
            _abort(context, error)
        return language_pb2.GetRequiredPackagesResponse(
            packages=[
                plugin_pb2.PackageDependency(
                    name=plugin.name, kind="resource", version=plugin.version, server=plugin.server
                )
                for plugin in plugins
            ]
        )

    def GetProgramDependencies(
        self, request: language_pb2.GetProgramDependenciesRequest, context: grpc.ServicerContext
    ) -> language_pb2.GetProgramDependenciesResponse:
        try:
            packages = _toolchain(request.info).packages(transitive=request.transitiveDependencies)
        except ToolchainError as error:
            _abort(context, error)
        return language_pb2.GetProgramDependenciesResponse(
            dependencies=[language_pb2.DependencyInfo(name=name, version=version) for name, version in packages]
        )

    def InstallDependencies(
        self, request: language_pb2.InstallDependenciesRequest, context: grpc.ServicerContext
    ) -> Iterator[language_pb2.InstallDependenciesResponse]:
        directory = Path(request.info.program_directory or request.directory)
        try:
            for line in _toolchain(request.info).install(directory):
                yield language_pb2.InstallDependenciesResponse(stdout=line)
        except ToolchainError as error:
            _abort(context, error)

    def RuntimeOptionsPrompts(
        self, request: language_pb2.RuntimeOptionsRequest, context: grpc.ServicerContext
    ) -> language_pb2.RuntimeOptionsResponse:
        return language_pb2.RuntimeOptionsResponse()

    def RunPlugin(
        self, request: language_pb2.RunPluginRequest, context: grpc.ServicerContext
    ) -> Iterator[language_pb2.RunPluginResponse]:
        try:
            python = plugin_toolchain(request).python
        except ToolchainError as error:
            _abort(context, error)
        with subprocess.Popen(  # noqa: S603 -- the plugin's own interpreter
            [python, request.info.program_directory, *request.args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=request.pwd,
            # Unbuffered, because a plugin need not flush the port that it prints.
            env={**dict(entry.split("=", 1) for entry in request.env), "PYTHONUNBUFFERED": "1"},
        ) as plugin:
            # The engine ends a plugin by ending this call.
            if not context.add_callback(plugin.terminate):
                plugin.terminate()
            with self._lock:
                self._programs.add(plugin)
            try:
                yield from plugin_output(plugin)
            finally:
                with self._lock:
                    self._programs.discard(plugin)

    def Run(self, request: language_pb2.RunRequest, context: grpc.ServicerContext) -> language_pb2.RunResponse:
        try:
            python = _toolchain(request.info).python
        except ToolchainError as error:
            return language_pb2.RunResponse(error=str(error))
        with subprocess.Popen(  # noqa: S603 -- the project's own interpreter
            [python, _PROGRAM, self._engine_address],
            stdin=subprocess.PIPE,
            cwd=request.pwd,
            env=program_environment(os.environ),
        ) as program:
            with self._lock:
                self._programs.add(program)
            try:
                _send(program, request)
                exit_code = program.wait()
            finally:
                with self._lock:
                    self._programs.discard(program)
        return outcome(exit_code)

    def Cancel(self, request: empty_pb2.Empty, context: grpc.ServicerContext) -> empty_pb2.Empty:
        self.interrupt_programs()
        return empty_pb2.Empty()

    def interrupt_programs(self) -> None:
        """Interrupt every program under way; after :data:`INTERRUPT_GRACE` seconds, kill those that go on."""
        with self._lock:
            programs = list(self._programs)
        for program in programs:
            program.send_signal(signal.SIGINT)
        for program in programs:
            try:
                program.wait(INTERRUPT_GRACE)
            except subprocess.TimeoutExpired:
                program.kill()


def outcome(exit_code: int) -> language_pb2.RunResponse:
    """What the engine is told of a program that ended with `exit_code`, or by signal ``-exit_code``."""
    if exit_code == 0:
        return language_pb2.RunResponse()
    if exit_code in (EXIT_MESSAGE_SHOWN, EXIT_INTERRUPTED, -signal.SIGINT):
        return language_pb2.RunResponse(bail=True)
    if exit_code < 0:
        name = signal.Signals(-exit_code).name
        return language_pb2.RunResponse(error=f"the program was ended by signal {name}")
    return language_pb2.RunResponse(error=f"the program exited with code {exit_code}")


def plugin_toolchain(request: language_pb2.RunPluginRequest) -> Toolchain:
    """The Python of a plugin such as a policy pack; as with the official host, never that of the machine."""
    options = {"virtualenv": "venv", **json_format.MessageToDict(request.info.options)}
    file = "PulumiPolicy.yaml" if request.kind == "analyzer" else "PulumiPlugin.yaml"
    return Toolchain.from_options(request.info.root_directory, options, file=file)


def plugin_output(plugin: subprocess.Popen[bytes]) -> Iterator[language_pb2.RunPluginResponse]:
    """What a plugin prints, as it prints it, and then its exit code."""
    printed: queue.SimpleQueue[language_pb2.RunPluginResponse | None] = queue.SimpleQueue()

    def read(stream: str) -> None:
        for line in getattr(plugin, stream):
            printed.put(language_pb2.RunPluginResponse(**{stream: line}))
        printed.put(None)

    streams = ("stdout", "stderr")
    for stream in streams:
        threading.Thread(target=read, args=(stream,), name=f"plugin-{stream}", daemon=True).start()
    for _ in streams:
        yield from iter(printed.get, None)
    yield language_pb2.RunPluginResponse(exitcode=plugin.wait())


def program_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a program: the plugin's own, less what its launcher put on ``PYTHONPATH``."""
    path = [entry for entry in environment.get("PYTHONPATH", "").split(os.pathsep) if entry]
    if path and Path(path[0]) == _ROOT:
        path = path[1:]
    rest = {name: value for name, value in environment.items() if name != "PYTHONPATH"}
    # Unbuffered, so that what a program prints is shown when it is printed.
    return {**rest, **({"PYTHONPATH": os.pathsep.join(path)} if path else {}), "PYTHONUNBUFFERED": "1"}


def _send(program: subprocess.Popen[bytes], request: language_pb2.RunRequest) -> None:
    if program.stdin is None:
        raise RuntimeError("the program was started without a pipe for its request")
    body = request.SerializeToString()
    try:
        program.stdin.write(len(body).to_bytes(8, "big") + body)
        # Left open: its end tells the program that this host has gone.
        program.stdin.flush()
    except BrokenPipeError:
        pass  # The program has ended already; its exit code says why.


def _toolchain(info: language_pb2.ProgramInfo) -> Toolchain:
    return Toolchain.from_options(info.root_directory, json_format.MessageToDict(info.options))


def _abort(context: grpc.ServicerContext, error: ToolchainError) -> NoReturn:
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
    raise error
