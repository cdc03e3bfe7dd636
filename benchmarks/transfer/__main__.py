"""``python -m benchmarks.transfer``: how fast, and at what cost, a model comes from a hub into a bucket.

Client and servers share the machine's cores, over the loopback interface, in plain HTTP. Figures are medians of turns;
in each round every contender has one.
"""

import argparse
import json
import os
import platform
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import alibabacloud_oss_v2 as oss
import psutil

from benchmarks.transfer.contenders import ENVIRONMENT, OPTIONS, Contender, contenders, modelmover
from benchmarks.transfer.servers import Servers, rclone, repository_folder, running
from benchmarks.transfer.usage import FailedError, Usage, run
from deepseek_acs.modelmover.transfer import MEBIBYTE

GIGABYTE = 1e9
GIBIBYTE = 2**30

STREAM_GIB = (1, 4, 16)
"""Sizes of single files by which it is seen whether memory depends on them."""

PART_SECONDS = 0.1
"""How long the OSS server waits with each part then: a reader that is faster than the senders fills every buffer."""

QUIET = 0.05
"""A turn in which other processes took more of the machine's CPU time does not count, and is repeated."""

PATIENCE = 4
"""Maximum number of rounds, as a multiple of the wanted ones."""

MEMORY_BUDGET_MIB = 120
"""What the mover may take beyond its buffers."""


@dataclass
class Outcome:
    """Turns of a contender; a failure ends them."""

    usages: list[Usage] = field(default_factory=list)
    failure: str | None = None

    @property
    def quiet(self) -> list[Usage]:
        """Those in which hardly anything else ran."""
        return [usage for usage in self.usages if usage.others <= QUIET]

    @property
    def counted(self) -> list[Usage]:
        """The quiet ones; all if there is none."""
        return self.quiet or self.usages


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transfer", description=__doc__)
    parser.add_argument("--gib", type=int, default=4, help="size of the model (default: 4)")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each (default: 5)")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    parsed = parser.parse_args()
    machine = _machine()
    rclone()
    # As Ctrl-C does: the model is in memory, and would stay there.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    with tempfile.TemporaryDirectory(dir=_memory_folder()) as name:
        folder, program = Path(name), Path(name) / "modelmover.pyz"
        entrants = contenders(program)
        with running(folder, parsed.gib) as servers:
            outcomes = _rounds(entrants, servers, parsed.repeats)
            servers.delay_parts(PART_SECONDS)
            memory = {gib: _stream_memory(program, servers, gib) for gib in STREAM_GIB}
    print(f"{parsed.gib} GiB in files of 1 GiB, median of {parsed.repeats} turns (lowest–highest)\n{machine}\n")
    print("\n".join(_table(entrants, outcomes, servers.size)))
    print(_others(outcomes))
    print("\n".join(_memory_lines(memory)))
    print("Not measured: the real OSS and hubs, latency, TLS, more cores, disks.")
    if parsed.json:
        figures = {name: asdict(outcome) for name, outcome in outcomes.items()}
        document = {"machine": machine, "bytes": servers.size, "turns": figures, "stream_memory": memory}
        parsed.json.write_text(json.dumps(document, indent=1))


def _memory_folder() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108


def _machine() -> str:
    described = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    name = described[0].partition(":")[2].strip() if described else platform.machine()
    load = os.getloadavg()[0]
    return (
        f"{time.strftime('%Y-%m-%d')}, {psutil.cpu_count()} × {name}, Python {platform.python_version()}, "
        f"load before {load:.1f}"
    )


def _rounds(entrants: Sequence[Contender], servers: Servers, repeats: int) -> dict[str, Outcome]:
    outcomes = {entrant.name: Outcome() for entrant in entrants}
    for turn in range(1, PATIENCE * repeats + 1):
        for number, entrant in enumerate(entrants):
            outcome = outcomes[entrant.name]
            if outcome.failure is not None or len(outcome.quiet) == repeats:
                continue
            try:
                usage = _turn(entrant, servers, f"{turn}/{number}")
            except FailedError as error:
                outcome.failure = str(error)
                _report(f"round {turn}, {entrant.name}: failed: {error}")
                continue
            outcome.usages.append(usage)
            _report(
                f"round {turn}, {entrant.name}: {servers.size / usage.seconds / GIGABYTE:.2f} GB/s, "
                f"others took {usage.others:.0%} of the CPU"
            )
    return outcomes


def _turn(entrant: Contender, servers: Servers, prefix: str) -> Usage:
    jobs = entrant.jobs(servers, prefix)
    environment = {**os.environ, **ENVIRONMENT}
    usage = run(jobs, at_once=entrant.at_once, environment=environment, servers=servers.pids)
    try:
        arrived = entrant.result(servers, prefix)
    except (OSError, oss.exceptions.OperationError) as error:
        raise FailedError("it ended well, but not all has arrived") from error
    if arrived != servers.files:
        raise FailedError("size or CRC-64 of what has arrived differ from the source's")
    return usage


def _stream_memory(program: Path, servers: Servers, gib: int) -> int:
    """Bytes that the mover takes for one file, of which no byte needs to be in memory: holes do here."""
    repository = f"benchmark/stream-{gib}"
    folder = repository_folder(servers.hub_folder, repository)
    folder.mkdir(parents=True)
    with (folder / "model.safetensors").open("wb") as file:
        file.truncate(gib * GIBIBYTE)
    servers.prepare(repository)
    command = modelmover(program, servers, repository, f"stream/{gib}")
    environment = {**os.environ, **ENVIRONMENT}
    usage = run([[command]], at_once=1, environment=environment, servers=servers.pids)
    _report(f"memory for a stream of {gib} GiB: {usage.memory_bytes / MEBIBYTE:.0f} MiB")
    return usage.memory_bytes


def _report(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _table(entrants: Sequence[Contender], outcomes: Mapping[str, Outcome], size: int) -> list[str]:
    rates = {
        name: [size / usage.seconds / GIGABYTE for usage in outcome.counted]
        for name, outcome in outcomes.items()
        if outcome.failure is None
    }
    limit = max((statistics.median(found) for name, found in rates.items() if name.startswith("splice")), default=None)
    lines = [f"{'':<21}{'turns':>5}{'GB/s':>17}{'CPU-s per GB':>17}{'memory':>9}{'disk':>7}{'share':>6}  checks"]
    for entrant in entrants:
        outcome = outcomes[entrant.name]
        if outcome.failure is not None:
            lines.append(f"{entrant.name:<21}  failed: {outcome.failure}"[:100])
            continue
        found = rates[entrant.name]
        costs = [usage.cpu_seconds / (size / GIGABYTE) for usage in outcome.counted]
        memory = max(usage.memory_bytes for usage in outcome.usages) / MEBIBYTE
        disk = max(usage.disk_bytes for usage in outcome.usages) / MEBIBYTE
        share = f"{statistics.median(found) / limit:.0%}" if limit else ""
        lines.append(
            f"{entrant.name:<21}{len(found):>5}{_spread(found):>17}{_spread(costs):>17}"
            f"{memory:>5.0f} MiB{disk:>3.0f} MiB{share:>6}  {entrant.checks}"
        )
    return [*lines, "share: of what the faster relay reaches, which looks at no byte"]


def _spread(found: Sequence[float]) -> str:
    return f"{statistics.median(found):.2f} ({min(found):.2f}–{max(found):.2f})"


def _others(outcomes: Mapping[str, Outcome]) -> str:
    shares = [usage.others for outcome in outcomes.values() for usage in outcome.counted]
    if not shares:
        return ""
    return (
        f"CPU time that went to neither client nor servers: {statistics.median(shares):.0%} of the machine, "
        f"{max(shares):.0%} in the worst turn"
    )


def _memory_lines(memory: Mapping[int, int]) -> list[str]:
    pool = OPTIONS.buffers * OPTIONS.part_size / MEBIBYTE
    lines = [
        f"Memory of the mover, its {OPTIONS.buffers} buffers all in use; budget: these {pool:.0f} MiB "
        f"+ {MEMORY_BUDGET_MIB} MiB"
    ]
    for gib, found in memory.items():
        lines.append(f"  one file of {gib:>2} GiB: {found / MEBIBYTE:.0f} MiB, {found / MEBIBYTE - pool:+.0f} MiB")
    return lines


if __name__ == "__main__":
    main()
