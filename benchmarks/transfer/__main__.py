"""``python -m benchmarks.transfer``: how fast, and at what cost, a model comes from a hub into a bucket.

Client and servers share the machine's cores, over the loopback interface, in plain HTTP. Not measured: the real OSS and
hubs, latency, TLS, more cores. Figures are medians of rounds in which every contender has its turn.
"""

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import alibabacloud_oss_v2 as oss
import psutil

from benchmarks.transfer.contenders import ENVIRONMENT, GET_ALONE, PUT_ALONE, Command, Contender, complete, contenders
from benchmarks.transfer.servers import BUCKET, FILE_BYTES, Servers, running
from modelmover.checksums import crc64
from modelmover.transfer import Options

GIGABYTE = 1e9
CHUNK_BYTES = 2**26
POLL_SECONDS = 0.02
MEMORY_BUDGET_MIB = 120
"""What the mover may take beyond its buffers."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One turn: bytes per second, CPU-seconds per 10^9 bytes, the largest resident memory of one process in MiB, and
    blocks written to disk."""

    rate: float
    cpu: float
    memory: float
    blocks: int


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transfer", description=__doc__)
    parser.add_argument("--gib", type=int, default=4, help="size of the model (default: 4)")
    parser.add_argument("--repeats", type=int, default=5, help="rounds (default: 5)")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    parsed = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=_memory_folder()) as name:
        folder = Path(name)
        entrants = contenders(folder)
        with running(folder, parsed.gib) as servers:
            found = _measure(entrants, servers, _checksums(servers), parsed.repeats)
    print(_table(entrants, found, parsed.gib, parsed.repeats))
    if parsed.json:
        parsed.json.write_text(json.dumps({k: [asdict(run) for run in runs] for k, runs in found.items()}, indent=1))


def _memory_folder() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108


def _checksums(servers: Servers) -> Mapping[str, int]:
    found = {}
    for name in servers.files:
        value = 0
        with (servers.folder / name).open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                value = crc64(chunk, value)
        found[name] = value
    return found


def _measure(
    all_of_them: Sequence[Contender], servers: Servers, checksums: Mapping[str, int], repeats: int
) -> dict[str, list[Run]]:
    found: dict[str, list[Run]] = {contender.name: [] for contender in all_of_them}
    for turn in range(repeats):
        for contender in all_of_them:
            prefix = f"{contender.at_once}-{turn}-{abs(hash(contender.name))}"
            found[contender.name].append(_run(contender.commands(servers, prefix), contender.at_once, servers.size))
            if contender.in_bucket:
                complete(servers, prefix)
                _require_moved(servers, prefix, checksums, contender.name)
    return found


def _run(commands: Sequence[Command], at_once: int, size: int) -> Run:
    environment = {**os.environ, **ENVIRONMENT}
    waiting, alive = list(commands), set[int]()
    cpu, blocks = 0.0, 0
    started = time.monotonic()
    with _memory(alive) as memory:
        while waiting or alive:
            while waiting and len(alive) < at_once:
                process = subprocess.Popen(waiting.pop(0), env=environment, stderr=subprocess.DEVNULL)
                alive.add(process.pid)
            pid, status, usage = os.wait4(-1, 0)
            if pid not in alive:
                continue
            if status:
                raise SystemExit(f"a contender ended with status {status}")
            alive.discard(pid)
            cpu += usage.ru_utime + usage.ru_stime
            blocks += usage.ru_oublock
    seconds = time.monotonic() - started
    return Run(rate=size / seconds, cpu=cpu / (size / GIGABYTE), memory=max(memory) / 1024, blocks=blocks)


@contextmanager
def _memory(alive: set[int]) -> Iterator[list[int]]:
    """Peaks of resident memory in KiB, as seen from time to time: rusage has that of the parent before exec, too."""
    peaks, ended = [0], threading.Event()

    def look() -> None:
        while not ended.wait(POLL_SECONDS):
            for pid in list(alive):
                with contextlib.suppress(OSError):
                    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
                    peaks.extend(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield peaks
    finally:
        ended.set()
        thread.join()


def _require_moved(servers: Servers, prefix: str, checksums: Mapping[str, int], name: str) -> None:
    client = servers.client()
    for file, expected in checksums.items():
        head = client.head_object(oss.HeadObjectRequest(bucket=BUCKET, key=f"{prefix}/{file}"))
        if (head.content_length, int(head.hash_crc64 or 0)) != (FILE_BYTES, expected):
            raise SystemExit(f"{name} moved other bytes than there were")


def _table(entrants: Sequence[Contender], found: Mapping[str, Sequence[Run]], gib: int, repeats: int) -> str:
    rate = {name: statistics.median(run.rate for run in runs) / GIGABYTE for name, runs in found.items()}
    # Who looks at nothing has to do the one and the other, on the same cores.
    limit = 1 / (1 / rate[GET_ALONE] + 1 / rate[PUT_ALONE])
    lines = [
        f"{gib} GiB in files of 1 GiB, median of {repeats} (lowest–highest); {_machine()}",
        f"{'':<27}{'GB/s':>18}{'CPU-s/GB':>10}{'memory':>10}{'disk':>6}{'of limit':>10}  checks",
    ]
    for entrant in entrants:
        runs = found[entrant.name]
        rates = sorted(run.rate / GIGABYTE for run in runs)
        share = f"{rate[entrant.name] / limit:.0%}" if entrant.name not in (GET_ALONE, PUT_ALONE) else ""
        lines.append(
            f"{entrant.name:<27}{f'{rate[entrant.name]:.2f} ({rates[0]:.2f}–{rates[-1]:.2f})':>18}"
            f"{statistics.median(run.cpu for run in runs):>10.2f}{max(run.memory for run in runs):>6.0f} MiB"
            f"{max(run.blocks for run in runs):>6}{share:>10}  {entrant.checks}"
        )
    lines.append(f"limit: GET and PUT alone, one after the other: {limit:.2f} GB/s")
    for threads in (4, 2):
        pool = Options(streams=threads, uploads=threads).buffers * Options.part_size / 2**20
        most = max(run.memory for run in found[f"modelmover, {threads} streams"])
        lines.append(
            f"memory of the mover with {threads} streams: {most:.0f} MiB, of a budget of {pool:.0f} MiB of buffers and "
            f"{MEMORY_BUDGET_MIB} MiB"
        )
    return "\n".join(lines)


def _machine() -> str:
    described = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    name = described[0].partition(":")[2].strip() if described else platform.machine()
    return f"{psutil.cpu_count()} × {name}, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    main()
