"""Long-running processes that outlive the command which started them."""

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

STOP_SECONDS = 10
"""Time to end after SIGTERM, before SIGKILL."""
POLL_SECONDS = 0.05


@dataclass(frozen=True, kw_only=True)
class ProcessStatus:
    """One process; ``memory_mib`` is its resident memory, 0 if it does not run."""

    name: str
    running: bool
    memory_mib: int
    log: Path


@dataclass(frozen=True, kw_only=True)
class Process:
    """A program with its arguments; its pid file and its log are in ``folder``."""

    name: str
    command: Sequence[str]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        """Output of the current run; the previous run's has the ending ``.log.1``."""
        return self.folder / "logs" / f"{self.name}.log"

    @property
    def _pid_file(self) -> Path:
        return self.folder / "pids" / f"{self.name}.json"

    @property
    def was_started(self) -> bool:
        """Whether it was started and not stopped, even if it has died since."""
        return self._pid_file.exists()

    def running(self) -> psutil.Process | None:
        """The process, if it runs. Its start time is compared too, so a pid that was given out again is not it."""
        try:
            saved = self._saved()
            process = psutil.Process(saved["pid"])
            # Its threads end after the first of them, and hold its ports until then.
            alive = process.create_time() == saved["started"] and (
                process.status() != psutil.STATUS_ZOMBIE or process.num_threads() > 1
            )
        except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
            return None
        return process if alive else None

    def _saved(self) -> dict[str, Any]:
        saved: dict[str, Any] = json.loads(self._pid_file.read_text(encoding="utf-8"))
        return saved

    def start(self) -> None:
        """Starts it, in a session of its own, so that Ctrl-C in the terminal does not reach it. One that runs with
        another command line is replaced."""
        if self.running():
            if self._saved().get("command") == list(self.command):
                return
            self.stop()
        for path in (self.log, self._pid_file):
            path.parent.mkdir(parents=True, exist_ok=True)
        if self.log.exists():
            self.log.replace(self.log.with_suffix(".log.1"))
        with self.log.open("wb") as log:
            started = subprocess.Popen(  # noqa: S603
                list(self.command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.environment},
                cwd=self.folder,
                start_new_session=True,
            )
        process = psutil.Process(started.pid)
        saved = {"pid": process.pid, "started": process.create_time(), "command": list(self.command)}
        self._pid_file.write_text(json.dumps(saved), encoding="utf-8")

    def start_again(self) -> None:
        """Starts it with the command line that it had, after it has ended by itself."""
        replace(self, command=self._saved()["command"]).start()

    def stop(self, *, at_once: bool = False) -> None:
        """Ends it; does nothing if it does not run. ``at_once``: without time to finish what it does."""
        process = self.running()
        if process is not None:
            process.send_signal(signal.SIGKILL if at_once else signal.SIGTERM)
            if not self._ends():
                process.kill()
                self._ends()
        self._pid_file.unlink(missing_ok=True)

    def _ends(self) -> bool:
        """Whether it ends in time. One whose parent has not read its exit code has ended, too."""
        deadline = time.monotonic() + STOP_SECONDS
        while self.running() is not None:
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_SECONDS)
        return True

    def status(self) -> ProcessStatus:
        """Whether it runs, and with how much memory, that of its children included."""
        running = self.running()
        memory = _memory(running) // 2**20 if running else 0
        return ProcessStatus(name=self.name, running=running is not None, memory_mib=memory, log=self.log)

    def log_tail(self, lines: int = 8) -> str:
        """The end of the log."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def _memory(process: psutil.Process) -> int:
    """Resident bytes of the process and all below it."""
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        for one in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += one.memory_info().rss
    return total


def python_process(name: str, module: str, *arguments: str, folder: Path) -> Process:
    """One of this project's own programs."""
    return Process(
        name=name,
        command=[sys.executable, "-m", module, *arguments],
        folder=folder,
        environment={"PYTHONPATH": str(Path(__file__).resolve().parent.parent)},
    )


def wait_until(what: str, condition: Callable[[], bool], *, seconds: float, process: Process) -> None:
    """Polls ``condition`` until it holds; raises ProcessError with the log's end if it does not in time, or if
    ``process`` has exited in between."""
    deadline = time.monotonic() + seconds
    while True:
        if condition():
            return
        ended = process.running() is None
        if ended or time.monotonic() > deadline:
            why = "it ended" if ended else f"not within {seconds:.0f} s"
            raise ProcessError(
                f"{process.name}: waiting until {what}: {why}.\nEnd of its log, {process.log}:\n{process.log_tail()}"
            )
        time.sleep(0.1)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lets one command at a time start and stop the processes of ``folder``."""
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def listens(port: int) -> bool:
    """Whether anybody accepts connections to the port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def memory_mib(statuses: Sequence[ProcessStatus]) -> int:
    """Resident memory of all processes together, in MiB."""
    return sum(status.memory_mib for status in statuses)


class ProcessError(Exception):
    """A process did not come up; the text names its log, or says what to change."""
