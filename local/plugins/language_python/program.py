"""Runs one Pulumi program: a script which the language host starts with the project's interpreter.

``program.py ENGINE_ADDRESS`` reads a length-prefixed ``RunRequest`` from standard input: stack configuration
holds secrets, which belong neither in arguments nor in the environment. It imports nothing of this
repository, because the project's interpreter need not have it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import runpy
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

try:
    import grpc
    import pulumi
    import pulumi.runtime
    from pulumi.runtime.proto import language_pb2
except ImportError as error:
    print(
        f"{error}\nThe Pulumi SDK cannot be imported by {sys.executable}: run `pulumi install`, "
        "or `pip install -r requirements.txt` in the project's virtual environment",
        file=sys.stderr,
    )
    sys.exit(1)

if TYPE_CHECKING:
    from types import TracebackType

EXIT_MESSAGE_SHOWN = 32
"""The program failed and the engine has been told why: the host has nothing to add."""
EXIT_INTERRUPTED = 130
"""128 + SIGINT, as shells count it."""


def main(engine_address: str) -> int:
    """Run the program that standard input asks for; return the exit code."""
    request = _receive_request()
    # Unless PYTHONSAFEPATH is set, the interpreter has put this script's folder before all others.
    if sys.path and Path(sys.path[0]) == Path(__file__).parent:
        del sys.path[0]
    os.chdir(request.pwd)
    program = Path(request.info.program_directory or request.pwd, request.info.entry_point or ".").resolve()
    sys.argv = [os.fspath(program), *request.args]
    pulumi.runtime.set_all_config(dict(request.config), list(request.configSecretKeys))
    pulumi.runtime.configure(
        pulumi.runtime.Settings(
            project=request.project,
            stack=request.stack,
            monitor=request.monitor_address,
            engine=engine_address,
            parallel=request.parallel,
            dry_run=request.dryRun,
            organization=request.organization or "organization",
            root_directory=request.info.root_directory,
        )
    )
    # A program that fails leaves futures unobserved on purpose; asyncio would report each of them.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    return _run(program, workers=max(request.parallel, 1) * 4)


def _run(program: Path, *, workers: int) -> int:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    with ThreadPoolExecutor(max_workers=workers) as executor:
        loop.set_default_executor(executor)
        try:
            loop.run_until_complete(pulumi.runtime.run_in_stack(lambda: _run_main(program)))
        except KeyboardInterrupt:
            _leave()
        except pulumi.RunError as error:
            return _fail(str(error))
        except grpc.RpcError as error:
            # The monitor goes away when the deployment is cancelled; the engine reports that itself.
            if error.code() == grpc.StatusCode.UNAVAILABLE:
                return EXIT_MESSAGE_SHOWN
            return _fail(f"Program failed with an RPC error: {error.details()}")
        except Exception as error:
            shown = user_traceback(error, program if program.is_dir() else program.parent)
            return _fail("Program failed with an unhandled exception:\n" + shown)
    return 0


def _run_main(program: Path) -> None:
    if program.is_dir() and not (program / "__main__.py").is_file():
        raise pulumi.RunError(f"no Python program to run: {program / '__main__.py'} does not exist")
    if program.is_file():
        sys.path.insert(0, os.fspath(program.parent))
    try:
        runpy.run_path(os.fspath(program), run_name="__main__")
    except KeyboardInterrupt:
        # Raised further, it would first wait for every resource operation under way.
        _leave()


def user_traceback(error: BaseException, folder: Path) -> str:
    """Format `error` without the frames above the first one of the program in `folder`.

    A syntax error in ``__main__.py`` itself has no such frame, and names file and line; any other error that
    has none keeps all its frames.
    """
    frame = error.__traceback__
    while frame is not None and not _is_of_program(frame, folder):
        frame = frame.tb_next
    if frame is not None or isinstance(error, SyntaxError):
        error = error.with_traceback(frame)
    return "".join(traceback.format_exception(error))


def _is_of_program(frame: TracebackType, folder: Path) -> bool:
    file = Path(frame.tb_frame.f_code.co_filename)
    return file.is_relative_to(folder) and "site-packages" not in file.parts


def _fail(message: str) -> int:
    try:
        pulumi.log.error(message)
    except grpc.RpcError:
        print(message, file=sys.stderr)
    return EXIT_MESSAGE_SHOWN


def _leave() -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    # sys.exit would wait for threads that wait for the engine.
    os._exit(EXIT_INTERRUPTED)


def _receive_request() -> language_pb2.RunRequest:
    """Read the request, then end this process as soon as the host does; the program's own input is empty."""
    size = int.from_bytes(sys.stdin.buffer.read(8), "big")
    request = language_pb2.RunRequest()
    request.ParseFromString(sys.stdin.buffer.read(size))
    host = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)

    def leave_with_host() -> None:
        os.read(host, 1)
        _leave()

    threading.Thread(target=leave_with_host, name="host-lifeline", daemon=True).start()
    return request


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
