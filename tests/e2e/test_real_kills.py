"""``kill -9`` of programs of a node and of the control plane, in the middle of ``make up`` on real nodes: the next
``make up`` heals. A node heals by itself, and ``up`` starts etcd and the API server again, or ends and says why. As
root, or not at all; `make faults`.

KILLS is their number, CHAOS_SEED chooses other moments.
"""

import os
import random
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import psutil
import pytest

from local import tools
from local.real_nodes.requirements import problem
from tests.e2e.conftest import COMMAND_SECONDS, Project, eventually, make_project
from tests.e2e.test_real_nodes import all_ready, process

LACKING = problem((Path(__file__).parents[2], tools.cache_directory()))
pytestmark = [pytest.mark.e2e, pytest.mark.faults, pytest.mark.skipif(LACKING is not None, reason=str(LACKING))]

COUNT, SEED = int(os.environ.get("KILLS", "3")), int(os.environ.get("CHAOS_SEED", "15"))

VICTIMS = ("kubelet", "etcd", "containerd", "kube-apiserver")
SAYS_WHY = re.compile(
    r"of the embedded cluster ended|error: the API server does not answer|error: [a-z-]+: waiting until .*: it ended"
)
OF_A_NODE = frozenset({"kubelet", "containerd"})

SITUATIONS = {
    "fresh": (
        "embedded cluster: starting",
        "The nodes are real",
        r"Updating \(",
        "model-upload-job",
        "LeaderWorkerSet",
    ),
    "stopped": ("embedded cluster: starting", "The nodes are real", r"Updating \("),
    "changed": ("embedded cluster: running", "The nodes are real", r"Updating \(", "LeaderWorkerSet"),
}
"""Moments of ``up``, by what it says, for each state that it may find: nothing at all, a stopped cluster, a running one
with other settings."""


@dataclass(frozen=True)
class Kill:
    """What is killed, and when."""

    victim: str
    node: str
    situation: str
    moment: str

    def __str__(self) -> str:
        return f"{self.victim}-{self.situation}-{re.sub(r'[^a-zA-Z]+', '-', self.moment).strip('-')}"


def kills() -> Iterator[Kill]:
    chosen = random.Random(SEED)
    for victim in islice(cycle(VICTIMS), COUNT):
        situation = chosen.choice(list(SITUATIONS))
        yield Kill(victim, chosen.choice(("node-a", "node-b")), situation, chosen.choice(SITUATIONS[situation]))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    tools.build_all(tools.NODE_TOOLS)
    found = make_project(tmp_path_factory.mktemp("real-kills"), "local")
    found.variables["NODES"] = "real"
    try:
        found.run("up")
        yield found
    finally:
        found.stop()


def brought_about(project: Project, situation: str) -> None:
    if situation == "fresh":
        project.run("reset")
    elif situation == "stopped":
        project.run("down")
    else:
        engine = project.settings()["inference"]["engine"]
        project.change(inference={"engine": {**engine, "maxModelLen": engine["maxModelLen"] + 1}})


def found(project: Project, kill: Kill) -> psutil.Process | None:
    """The victim, as soon as it is there."""
    try:
        if kill.victim not in OF_A_NODE:
            return process(project, kill.victim)
        inside = process(project, kill.node).children(recursive=True)
        return next((p for p in inside if p.name() == kill.victim), None)
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
        return None


def killed(project: Project, kill: Kill, up: subprocess.Popen[str]) -> list[str]:
    """Kills it at its moment; what ``up`` has said until then."""
    said: list[str] = []
    assert up.stdout is not None
    for line in up.stdout:
        said.append(line)
        if re.search(kill.moment, line):
            eventually(lambda: found(project, kill) is not None, seconds=COMMAND_SECONDS)
            victim = found(project, kill)
            assert victim is not None
            victim.kill()
            return said
    raise AssertionError("".join(said))


def answers(project: Project) -> bool:
    said, _ = project.start("verify").communicate(timeout=COMMAND_SECONDS)
    return "The endpoint answers." in said


@pytest.mark.parametrize("kill", [*kills()], ids=str)
def test_next_up_heals(project: Project, kill: Kill) -> None:
    brought_about(project, kill.situation)
    up = project.start("up", "--skip-preview")
    said = killed(project, kill, up)
    rest, _ = up.communicate(timeout=COMMAND_SECONDS)
    output = "".join([*said, rest])
    assert "Traceback" not in output, output
    assert up.returncode == 0 or (kill.victim not in OF_A_NODE and SAYS_WHY.search(output)), output
    project.run("up")
    # A group whose containers have ended is recreated some time after.
    eventually(lambda: all_ready(project) and answers(project), seconds=COMMAND_SECONDS)
    project.run("preview", "--expect-no-changes")
