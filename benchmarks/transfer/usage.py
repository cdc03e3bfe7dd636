"""Runs commands, and takes what they cost."""

import os
import subprocess
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

from benchmarks.transfer.contenders import Job

LOOK_SECONDS = 0.02
BLOCK_BYTES = 512
"""Unit of ``ru_oublock`` in getrusage(2)."""


class FailedError(Exception):
    """A command has failed; the text is the last line that it wrote."""


@dataclass(frozen=True, kw_only=True)
class Usage:
    """From the start of the first process to the end of the last: ``seconds``, CPU-seconds and bytes written to disk of
    all processes, bytes of resident memory of those that ran together at most, and ``others``, the share of the
    machine's CPU time that neither they nor the servers took."""

    seconds: float
    cpu_seconds: float
    memory_bytes: int
    disk_bytes: int
    others: float


def run(jobs: Sequence[Job], *, at_once: int, environment: Mapping[str, str], servers: Collection[int]) -> Usage:
    """Runs ``jobs``, at most ``at_once`` at a time. Raises FailedError."""
    waiting, alive = list(enumerate(jobs)), dict[int, int]()
    cpu_seconds, blocks = 0.0, 0
    with open(os.memfd_create("stderr"), "r+") as errors, _processes_ended() as processes, _memory(alive) as peaks:
        busy, served = _busy_seconds(), _cpu_seconds(servers)
        started = time.monotonic()
        while waiting or alive:
            while waiting and len(set(alive.values())) < at_once:
                number, job = waiting.pop(0)
                for process in _start(job, environment, errors):
                    processes[process.pid] = process
                    alive[process.pid] = number
            pid, status, usage = os.wait4(-1, 0)
            if pid not in alive:
                continue
            del alive[pid]
            processes.pop(pid).returncode = os.waitstatus_to_exitcode(status)
            if status:
                raise FailedError(_last_line(errors))
            cpu_seconds += usage.ru_utime + usage.ru_stime
            blocks += usage.ru_oublock
        seconds = time.monotonic() - started
        ours = cpu_seconds + _cpu_seconds(servers) - served
        others = (_busy_seconds() - busy - ours) / seconds / (os.cpu_count() or 1)
    return Usage(
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        memory_bytes=max(peaks),
        disk_bytes=blocks * BLOCK_BYTES,
        others=max(others, 0),
    )


def _start(job: Job, environment: Mapping[str, str], errors: IO[str]) -> Iterator["subprocess.Popen[bytes]"]:
    source: IO[bytes] | None = None
    for number, command in enumerate(job, 1):
        output = subprocess.PIPE if number < len(job) else subprocess.DEVNULL
        process = subprocess.Popen(
            command, stdin=source or subprocess.DEVNULL, stdout=output, stderr=errors, env=environment
        )
        if source is not None:
            source.close()
        source = process.stdout
        yield process


@contextmanager
def _processes_ended() -> "Iterator[dict[int, subprocess.Popen[bytes]]]":
    """What is still in the dictionary at the end of the block is killed."""
    processes: dict[int, subprocess.Popen[bytes]] = {}
    try:
        yield processes
    finally:
        for process in processes.values():
            process.kill()
            process.wait()


@contextmanager
def _memory(alive: Mapping[int, int]) -> Iterator[list[int]]:
    """Sums of the peaks of the living, in bytes, seen from time to time. Not of rusage, which counts the memory of the
    parent before exec, too."""
    peaks, ended = [0], threading.Event()

    def look() -> None:
        while not ended.wait(LOOK_SECONDS):
            peaks.append(sum(_peak(pid) for pid in list(alive)))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield peaks
    finally:
        ended.set()
        thread.join()


def _peak(pid: int) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    return 0


def _busy_seconds() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system)


def _cpu_seconds(pids: Collection[int]) -> float:
    return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids)


def _last_line(errors: IO[str]) -> str:
    errors.seek(0)
    return next((line.strip() for line in reversed(errors.readlines()) if line.strip()), "no word about why")
