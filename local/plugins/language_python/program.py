"""Runs one Pulumi program: a script which the language host starts with the project's interpreter.

``program.py ENGINE_ADDRESS`` reads a ``RunRequest`` from standard input: stack configuration holds secrets, which
belong neither in arguments nor in the environment. It imports nothing of this repository, because the project's
interpreter need not have it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import runpy
import signal
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

try:
    import grpc
    import pulumi
    import pulumi.runtime
    from pulumi.runtime.proto import language_pb2
except ImportError as missing:
    sys.exit(
        f"{missing}\nThe Pulumi SDK cannot be imported by {sys.executable}: run `pulumi install`, "
        "or `pip install -r requirements.txt` in the project's virtual environment"
    )

EXIT_MESSAGE_SHOWN = 32
"""The program failed and the engine has been told why: the host has nothing to add."""


def main(engine_address: str) -> int:
    """Run the program that standard input asks for; return the exit code."""
    # The engine itself says that it was interrupted; a traceback adds nothing.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    request = language_pb2.RunRequest.FromString(sys.stdin.buffer.read())
    os.chdir(request.pwd)
    program = Path(request.info.program_directory or request.pwd, request.info.entry_point or ".").resolve()
    sys.argv = [os.fspath(program), *request.args]
    # Unless PYTHONSAFEPATH is set, the first entry is the folder of this script.
    if sys.path[0] == os.path.dirname(__file__):
        del sys.path[0]
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
    return asyncio.run(_run(program, workers=max(request.parallel, 1) * 4))


async def _run(program: Path, *, workers: int) -> int:
    # Each registration takes a thread until it is answered.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(max_workers=workers))
    try:
        await pulumi.runtime.run_in_stack(lambda: _run_main(program))
    except pulumi.RunError as error:
        return _fail(str(error))
    except grpc.RpcError as error:
        # The monitor goes away when the deployment is cancelled; the engine reports that itself.
        unavailable = error.code() == grpc.StatusCode.UNAVAILABLE
        return EXIT_MESSAGE_SHOWN if unavailable else _fail(f"Program failed with an RPC error: {error.details()}")
    except Exception as error:
        shown = user_traceback(error, program if program.is_dir() else program.parent)
        return _fail(f"Program failed with an unhandled exception:\n{shown}")
    return 0


def _run_main(program: Path) -> None:
    if program.is_dir() and not (program / "__main__.py").is_file():
        raise pulumi.RunError(f"no Python program to run: {program / '__main__.py'} does not exist")
    if program.is_file():
        sys.path.insert(0, os.fspath(program.parent))
    runpy.run_path(os.fspath(program), run_name="__main__")


def user_traceback(error: BaseException, folder: Path) -> str:
    """Format `error` without the frames above the first one of the program in `folder`, if it has any."""
    frame = error.__traceback__
    while frame is not None:
        file = Path(frame.tb_frame.f_code.co_filename)
        if file.is_relative_to(folder) and "site-packages" not in file.parts:
            break
        frame = frame.tb_next
    return "".join(traceback.format_exception(error.with_traceback(frame or error.__traceback__)))


def _fail(message: str) -> int:
    try:
        pulumi.log.error(message)
    except grpc.RpcError:
        print(message, file=sys.stderr)
    return EXIT_MESSAGE_SHOWN


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
