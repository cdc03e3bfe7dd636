"""Runs Go, and says how far a build is."""

import re
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from os import environ
from pathlib import Path
from types import TracebackType
from typing import Self

VERSION = (1, 26)
NEEDED = f"Go {VERSION[0]}.{VERSION[1]} or newer is needed to build the embedded cluster: https://go.dev/dl"

Report = Callable[[str], None]

SHOWN_SECONDS = 60
"""Between two lines where there is no terminal."""

KEPT_LINES = 40
"""Of what Go says, for an error's text."""


class ToolError(Exception):
    """A binary cannot be had; the text says why and what to do."""


class Progress:
    """A line that says what is built and how much of it is left: rewritten each second on a terminal, elsewhere said
    each minute."""

    def __init__(self, what: str, report: Report) -> None:
        self._what, self._report = what, report
        self._lock = threading.Lock()
        self._start = time.monotonic()
        self._begun = 0.0
        self._total = self._compiled = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._repeat, daemon=True)

    def __enter__(self) -> Self:
        self._report(f"{self._what} (first time only) …")
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr, flush=True)
        if kind is None:
            self._report(f"built in {time.monotonic() - self._start:.0f} s")

    def expect(self, packages: int) -> None:
        """Adds packages that are to be compiled, unless Go's cache has them."""
        with self._lock:
            self._total += packages

    def compiled(self) -> None:
        """One more package."""
        with self._lock:
            self._begun = self._begun or time.monotonic()
            self._compiled += 1

    def line(self) -> str:
        """How far it is. What is left is estimated by the speed until now, so a busy machine is taken into account."""
        with self._lock:
            if not self._compiled:
                return "downloading Go modules"
            left = (time.monotonic() - self._begun) * max(self._total / self._compiled - 1, 0)
            return f"{self._compiled} of {self._total} packages compiled, at most {left / 60:.0f} min left"

    def _repeat(self) -> None:
        on_terminal = sys.stderr.isatty()
        while not self._ended.wait(1 if on_terminal else SHOWN_SECONDS):
            if on_terminal:
                print(f"\r\033[K{self.line()}", end="", file=sys.stderr, flush=True)
            else:
                self._report(self.line())


def find() -> str:
    """The program ``go``. Raises ToolError if there is none, or if it is too old."""
    go = shutil.which("go")
    if go is None:
        raise ToolError(f"{NEEDED} (no go is on the PATH)")
    printed = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=False).stdout  # noqa: S603
    found = re.match(r"go(\d+)\.(\d+)", printed)
    if found is None or tuple(map(int, found.groups())) < VERSION:
        raise ToolError(f"{NEEDED} ({go} is {printed.strip() or 'not a working Go'})")
    return go


def output_name(module: Path, package: str) -> str:
    """The name that ``go build`` gives to a program: the last part of its package's path that is not a version."""
    return next(part for part in reversed((module / package).parts) if not re.fullmatch(r"v\d+", part))


def run(go: str, module: Path, arguments: Sequence[str]) -> str:
    """What Go prints in the folder of a module. Raises ToolError."""
    done = subprocess.run(  # noqa: S603
        [go, *arguments], cwd=module, env=_environment(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise _failed(module, arguments, done.stderr)
    return done.stdout


def build(
    go: str, module: Path, flags: Sequence[str], packages: Sequence[str], folder: Path, progress: Progress
) -> None:
    """Builds programs of a module into a folder, in one call: they are linked while others are compiled. Raises
    ToolError."""
    arguments = ["build", "-v", *flags, "-o", f"{folder}/", *packages]
    said: deque[str] = deque(maxlen=KEPT_LINES)
    with subprocess.Popen(  # noqa: S603
        [go, *arguments], cwd=module, env=_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        for line in process.stderr or ():
            # A package's path alone: it is being compiled.
            if " " in line.rstrip("\n"):
                said.append(line)
            else:
                progress.compiled()
    if process.returncode:
        raise _failed(module, ["build", *packages], "".join(said))


def _environment() -> dict[str, str]:
    return {**environ, "GOFLAGS": "", "GOWORK": "off", "CGO_ENABLED": environ.get("CGO_ENABLED", "1")}


def _failed(module: Path, arguments: Sequence[str], said: str) -> ToolError:
    words = " ".join(word for word in arguments if not word.startswith("-"))
    return ToolError(
        f"go {words} failed in local/tools/{module.name}:\n"
        f"{said.strip()[-2000:]}\n"
        "If a download failed, check that the Go module proxy is reached (go env GOPROXY), and try again."
    )
