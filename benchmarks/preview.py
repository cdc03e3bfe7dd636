"""``python -m benchmarks.preview``: how long a preview of the stack ``local`` takes, and how much of it is due to the
program.

Two programs that create nothing are previewed in turn with it, by the same engine, plugins and Python. The stack is one
of a copy of the project with a cluster of its own, which is deleted at the end.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.transfer.usage import Usage, run
from local.pulumi_environment import engine_environment
from local.stack import CLUSTER_FOLDER
from local.tools import tool
from tests.e2e.conftest import Project, install_policy_pack, make_project

GOAL = 2.5
"""Times an empty program's preview that one of the stack may take."""

QUIET = 0.1
"""A turn in which other processes took more of the machine's CPU time does not count, and is repeated."""

PATIENCE = 2
"""Rounds at most, as a multiple of the wanted ones."""

EMPTY, PROVIDERS, STACK = "empty program", "both providers, no resource", "stack local"
DRIVER, WITH_POLICIES = "make preview POLICY=off", "make preview"

PROJECT_FILE = """\
name: {name}
runtime:
  name: python
  options: {{toolchain: pip, virtualenv: {virtualenv}}}
"""

PROVIDERS_PROGRAM = """\
import pulumi_alicloud
import pulumi_kubernetes

endpoint = {endpoint!r}
pulumi_alicloud.Provider("alicloud", region="cn-hangzhou", endpoints=[{{"oss": endpoint, "ram": endpoint}}])
pulumi_kubernetes.Provider("kubernetes", kubeconfig={kubeconfig!r}, enable_server_side_apply=True)
"""


@dataclass(kw_only=True)
class Contender:
    """A command that previews something, and the turns that it had."""

    name: str
    command: Sequence[str]
    turns: list[Usage] = field(default_factory=list)

    @property
    def quiet(self) -> list[Usage]:
        """Turns in which hardly anything else ran."""
        return [turn for turn in self.turns if turn.others <= QUIET]

    @property
    def counted(self) -> list[Usage]:
        """The quiet turns; all if there is none."""
        return self.quiet or self.turns

    @property
    def seconds(self) -> float:
        """Median."""
        return statistics.median(turn.seconds for turn in self.counted)


def main() -> None:
    """Print one table for the stack before its first ``up``, and one for the stack that is up."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.preview", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each that count (default: 5)")
    rounds = parser.parse_args().rounds
    print(_machine())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "project").mkdir()
        project = make_project(folder / "project", "local")
        try:
            install_policy_pack(project.folder)
            _compare(project, folder, rounds)
        finally:
            project.stop()


def _compare(project: Project, folder: Path, rounds: int) -> None:
    pulumi = tool("pulumi")
    found = engine_environment(
        project.folder, pulumi=pulumi, emulated_cloud=True, on_loopback=True, environ=project.environment()
    )
    environment = found.over(project.environment())
    # As on most machines: bytecode is kept from one run to the next.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    print(found.describe())
    project.run("preview")
    pids = [json.loads(path.read_text())["pid"] for path in (project.folder / CLUSTER_FOLDER / "pids").iterdir()]
    providers = PROVIDERS_PROGRAM.format(endpoint=project.addresses["oss"], kubeconfig=str(project.cluster.kubeconfig))
    programs = {
        EMPTY: _program(folder / "empty", "", pulumi, environment),
        PROVIDERS: _program(folder / "providers", providers, pulumi, environment),
        STACK: project.folder,
    }

    def contenders() -> list[Contender]:
        previews = [
            Contender(name=name, command=[str(pulumi), "preview", "--cwd", str(place), "--stack", project.stack])
            for name, place in programs.items()
        ]
        driver = ["env", "-C", str(project.folder), sys.executable, "-m", "local", "preview", "--stack", project.stack]
        return [
            *previews,
            Contender(name=DRIVER, command=driver),
            Contender(name=WITH_POLICIES, command=[*driver, "--policy", "on"]),
        ]

    for state in ("before the first up", "up, nothing changed"):
        print(f"\n{state}\n" + "\n".join(_table(_turns(contenders(), rounds, environment, pids))))
        if state == "before the first up":
            project.run("up")


def _program(folder: Path, code: str, pulumi: Path, environment: Mapping[str, str]) -> Path:
    """A project in ``folder`` whose stack is up."""
    folder.mkdir()
    (folder / "Pulumi.yaml").write_text(PROJECT_FILE.format(name=folder.name, virtualenv=sys.prefix))
    (folder / "__main__.py").write_text(code)
    up = [str(pulumi), "up", "--cwd", str(folder), "--stack", "local", "--yes", "--skip-preview"]
    for command in ([str(pulumi), "stack", "init", "--cwd", str(folder), "--stack", "local"], up):
        subprocess.run(command, env=environment, capture_output=True, check=True)
    return folder


def _turns(
    contenders: Sequence[Contender], rounds: int, environment: Mapping[str, str], servers: Sequence[int]
) -> Sequence[Contender]:
    for _ in range(PATIENCE * rounds):
        for contender in contenders:
            if len(contender.quiet) < rounds:
                usage = run([[contender.command]], at_once=1, environment=environment, servers=servers)
                contender.turns.append(usage)
    return contenders


def _table(contenders: Sequence[Contender]) -> list[str]:
    empty, providers = (next(c.seconds for c in contenders if c.name == name) for name in (EMPTY, PROVIDERS))
    lines = [f"{'':<28}{'turns':>5}{'seconds':>19}{'CPU-s':>7}{'× empty':>9}{'× providers':>13}"]
    for contender in contenders:
        seconds = [turn.seconds for turn in contender.counted]
        cpu = statistics.median(turn.cpu_seconds for turn in contender.counted)
        spread = f"{contender.seconds:.2f} ({min(seconds):.2f}–{max(seconds):.2f})"
        lines.append(
            f"{contender.name:<28}{len(seconds):>5}{spread:>19}{cpu:>7.2f}"
            f"{contender.seconds / empty:>9.2f}{contender.seconds / providers:>13.2f}"
        )
    return [*lines, f"goal: {STACK} within {GOAL:g} × {EMPTY}"]


def _machine() -> str:
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    name = models[0].partition(":")[2].strip() if models else platform.machine()
    return f"{time.strftime('%Y-%m-%d')}, {psutil.cpu_count()} × {name}, Python {platform.python_version()}"


if __name__ == "__main__":
    main()
