"""The program on an API server and a clock of the tests' own: what it writes at each kind of end."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from deepseek_acs.apiserver import ApiError
from deepseek_acs.apiserver.watching import Clock
from deepseek_acs.incidents.gauges import Gauges, Requests
from deepseek_acs.incidents.redaction import Redaction
from deepseek_acs.incidents.report import MOST_BYTES
from deepseek_acs.incidents.starts import Starts
from deepseek_acs.incidents.watch import COLLECT_SECONDS, LISTED, Watched, Watcher
from tests.incidents.world import Cluster, deleted, event, group, pod, running, terminated

RECREATED = "Worker pod r1-0-1 failed, deleted leader pod r1-0 to recreate group 0"

START = 1_795_964_400.0
"""2026-11-29T15:00:00Z"""


class FakeClock(Clock):
    def __init__(self) -> None:
        self.time = START

    def now(self) -> float:
        return self.time


class FakeGauges(Gauges):
    def __init__(self) -> None:
        self.asked: list[str] = []
        self.succeeded, self.at = 0, "2026-11-29T14:59:58Z"

    def read(self, address: str) -> Requests | None:
        self.asked.append(address)
        return Requests(running=3, waiting=1, succeeded=self.succeeded, at=self.at)


def _noise(number: int) -> str:
    return f" {hashlib.sha256(str(number).encode()).hexdigest()}" if number >= 100 else ""


class FakeJournals:
    """Logs in memory."""

    def __init__(self, lines: int = 2) -> None:
        self.followed: dict[str, list[str]] = {}
        self.lines = lines

    def follow(self, pod: Mapping[str, Any], containers: list[str]) -> None:
        self.followed.setdefault(pod["metadata"]["uid"], []).extend(containers)

    def of(self, uid: str) -> dict[str, list[str]]:
        # Not compressible, as the text of a log is not entirely.
        lines = [f"2026-11-29T14:59:59.{n:09}Z line {n} of {uid}{_noise(n)}" for n in range(self.lines)]
        return {one: lines for one in self.followed.get(uid, [])}

    def forget(self, uid: str) -> None:
        self.followed.pop(uid, None)


class World:
    """The program, which can be killed and started again, and its cluster."""

    def __init__(self, folder: Path, *, keep: int = 3, lines: int = 400) -> None:
        self.cluster, self.clock, self.gauges = Cluster(), FakeClock(), FakeGauges()
        self.journals = FakeJournals()
        self._folder, self._keep, self._lines = folder, keep, lines
        (folder / "key").write_text("k3y-0f-a-Test")
        self.start()

    def start(self) -> None:
        """As after a restart: only the file is left."""
        self.starts = Starts()
        watched = Watched(namespace="n", name="r1", store="r1-incidents", keep=self._keep, lines=self._lines, plan="p1")
        self.watcher = Watcher(
            self.cluster,
            watched,
            journals=self.journals,
            starts=self.starts,
            gauges=self.gauges,
            redaction=Redaction(self._folder),
            state=self._folder / "state.json",
            clock=self.clock,
        )

    def serve(self, life: int = 1) -> None:
        """Both pods are ready."""
        for worker in (0, 1):
            self.watcher.change("MODIFIED", running(0, worker, life))
        self.watcher.tick()

    def see(self, *pods: dict[str, Any]) -> None:
        for one in pods:
            self.watcher.change("MODIFIED", one)

    def gone(self, *pods: dict[str, Any]) -> None:
        for one in pods:
            self.watcher.change("DELETED", one)

    def wait(self, seconds: float = COLLECT_SECONDS) -> None:
        self.clock.time += seconds
        self.watcher.tick()

    def crash(self, life: int = 1, worker: int = 1, **state: Any) -> None:
        """A rank ends, and LeaderWorkerSet recreates the group."""
        ended = pod(0, worker, life=life, containerStatuses=[terminated(**{"exitCode": 137, **state})])
        self.see(ended)
        pods = [deleted(running(0, 1 - worker, life)), deleted(ended)]
        self.see(*pods)
        self.gone(*pods)
        self.wait()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


SAID = "2026-11-29T15:00:00Z group 0: r1-0-1, container vllm, was killed by signal 9 (SIGKILL)"


def test_a_rank_is_killed(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.cluster.events = [
        event("r1-0-1", "BackOff", "of an earlier pod of this name", uid="r1-0-1.0"),
        event("r1-0-1", "Killing", "Stopping container vllm k3y-0f-a-Test", uid="r1-0-1.1"),
        event("r1", "RecreateGroup", RECREATED),
        event("r1", "GroupsProgressing", "Created worker statefulset for leader pod r1-7"),
    ]
    world.serve()
    world.crash()
    (entry,) = world.cluster.ends
    assert entry == {
        "at": "2026-11-29T15:00:00Z",
        "group": "0",
        "pod": "r1-0-1",
        "container": "vllm",
        "cause": "was killed by signal 9 (SIGKILL)",
        "requested": False,
        "revision": "1",
        "uid": "r1-0-1.1",
        "count": 1,
        "report": "000001.txt.gz",
    }
    assert (world.cluster.data["last"], world.cluster.data["newest"]) == (SAID, "000001.txt.gz")
    assert capsys.readouterr().out == f"{SAID}\n"
    (report,) = world.cluster.reports.values()
    assert report == (
        f"what      {SAID}\n"
        "code      137\n"
        "node      node-1\n"
        "template  1\n"
        "ready     for 1:00:00 h before, since 2026-11-29T14:00:00Z\n"
        "requests  3 running and 1 waiting at 2026-11-29T14:59:58Z\n"
        "hint      no line of the first container looks like an error\n"
        "\n"
        "ends, in the order in which they were seen:\n"
        "  2026-11-29T15:00:00Z r1-0-1 vllm: code 137 Error\n"
        "  2026-11-29T15:00:01Z r1-0 the pod: Deleted\n"
        "  2026-11-29T15:00:01Z r1-0-1 the pod: Deleted\n"
        "\n"
        "events:\n"
        "  2026-11-29T15:00:00Z r1-0-1 Killing: Stopping container vllm [removed]\n"
        "  2026-11-29T15:00:00Z r1 RecreateGroup: Worker pod r1-0-1 failed, deleted leader pod r1-0 to recreate group "
        "0\n"
        "\n"
        "== r1-0, container vllm, on node-0: last 2 lines\n"
        "2026-11-29T14:59:59.000000000Z line 0 of r1-0.1\n"
        "2026-11-29T14:59:59.000000001Z line 1 of r1-0.1\n"
        "\n"
        "== r1-0-1, container vllm, on node-1: last 2 lines\n"
        "2026-11-29T14:59:59.000000000Z line 0 of r1-0-1.1\n"
        "2026-11-29T14:59:59.000000001Z line 1 of r1-0-1.1\n"
    )
    assert world.journals.followed == {}, "what is written is not kept twice"


def test_a_check_that_failed_is_the_cause(world: World) -> None:
    world.serve()
    world.cluster.events = [
        event("r1-0", "Unhealthy", "Liveness probe failed: no progress for 181 s", uid="r1-0.1"),
        event("r1-0", "Unhealthy", "Readiness probe failed: no answer", uid="r1-0.1"),
        event("r1-0", "Killing", "Container vllm failed liveness probe, will be restarted", uid="r1-0.1"),
    ]
    world.crash(worker=0)
    (entry,) = world.cluster.ends
    assert entry["cause"] == (
        "failed its health check (Liveness probe failed: no progress for 181 s), and was killed by signal 9 (SIGKILL)"
    )


def test_a_check_of_another_container_is_not(world: World) -> None:
    world.serve()
    text = "Container sidecar failed liveness probe, will be restarted"
    world.cluster.events = [event("r1-0", "Killing", text, uid="r1-0.1")]
    world.crash(worker=0)
    (entry,) = world.cluster.ends
    assert entry["cause"] == "was killed by signal 9 (SIGKILL)"


def test_pods_that_serve_cost_no_writes(world: World) -> None:
    world.serve()
    for _ in range(100):
        world.wait(60)
    assert world.cluster.patches == 0
    assert set(world.gauges.asked) == {"10.0.0.0"}, "the leader's address"


class TestRequested:
    @pytest.mark.parametrize(
        ("replicas", "image", "text"),
        [
            (1, "a", "a deletion of the pod, by hand or by another program"),
            (1, "b", "an update of the pod template"),
            (0, "a", "a scale-down to 0 groups by costguard"),
        ],
    )
    def test_it_is_listed_without_a_report(self, world: World, replicas: int, image: str, text: str) -> None:
        world.serve()
        world.cluster.group = group(replicas, image)
        late = terminated(exitCode=143, finishedAt="2026-11-29T15:00:05Z")
        pods = [deleted(running(0, 0)), deleted(pod(0, 1, containerStatuses=[late]))]
        world.see(*pods)
        world.gone(*pods)
        world.wait()
        (entry,) = world.cluster.ends
        assert (entry["pod"], entry["requested"]) == ("r1-0", True)
        assert entry["cause"] == f"was deleted, as requested by {text}"
        assert world.cluster.reports == {}
        assert "last" not in world.cluster.data

    def test_without_a_grace_period(self, world: World) -> None:
        """The pod is gone at once, and no state of it shows the deletion."""
        world.serve()
        world.gone(running(0, 1))
        world.wait()
        (entry,) = world.cluster.ends
        assert (entry["pod"], entry["requested"]) == ("r1-0-1", True)


class TestRestart:
    def test_in_the_middle_of_an_incident(self, world: World) -> None:
        world.serve()
        ended = pod(0, 1, containerStatuses=[terminated(exitCode=137)])
        world.see(ended)
        world.start()
        world.watcher.change(LISTED, [running(0, 0, life=2), running(0, 1, life=2)])
        world.wait()
        assert [entry["cause"] for entry in world.cluster.ends] == ["was killed by signal 9 (SIGKILL)"]
        (report,) = world.cluster.reports.values()
        assert "line 1 of r1-0-1.1" in report
        assert "3 running" in report

    def test_the_group_was_recreated_meanwhile(self, world: World) -> None:
        world.serve()
        world.start()
        world.cluster.events = [event("r1", "RecreateGroup", RECREATED)]
        world.watcher.change(LISTED, [running(0, 0, life=2), running(0, 1, life=2)])
        world.wait()
        (entry,) = world.cluster.ends
        assert (entry["pod"], entry["requested"]) == ("r1-0-1", False)
        assert entry["cause"] == f"failed while the watcher did not run: {RECREATED}"
        (report,) = world.cluster.reports.values()
        assert "line 1 of r1-0.1" in report

    def test_the_group_is_being_deleted_meanwhile(self, world: World) -> None:
        """The worker, which failed first, is gone already; the leader looks as if it were deleted by hand."""
        world.serve()
        world.start()
        world.cluster.events = [event("r1", "RecreateGroup", RECREATED)]
        world.watcher.change(LISTED, [deleted(running(0, 0))])
        world.wait()
        assert [(one["pod"], one["requested"]) for one in world.cluster.ends] == [("r1-0-1", False)]

    def test_a_deletion_meanwhile(self, world: World) -> None:
        world.serve()
        world.start()
        world.cluster.group = group(0)
        world.watcher.change(LISTED, [])
        world.wait()
        (entry,) = world.cluster.ends
        assert (entry["pod"], entry["requested"]) == ("r1-0", True)

    def test_after_the_report(self, world: World, tmp_path: Path) -> None:
        """In another pod as well, which knows nothing: the pods may still show the end."""
        world.serve()
        ended = pod(0, 1, containerStatuses=[terminated(exitCode=137)])
        world.see(ended)
        world.wait()
        (tmp_path / "state.json").unlink()
        world.start()
        world.watcher.change(LISTED, [running(0, 0), ended])
        world.wait()
        assert len(world.cluster.ends) == 1

    def test_in_another_pod_while_a_group_is_recreated(self, world: World, tmp_path: Path) -> None:
        """The end is listed already; of what is left of the group nothing else is known."""
        world.serve()
        world.crash()
        (tmp_path / "state.json").unlink()
        world.cluster.events = [event("r1", "RecreateGroup", RECREATED, at="2026-11-29T15:00:01Z")]
        world.start()
        world.watcher.change(LISTED, [deleted(running(0, 0)), running(0, 1, life=2)])
        world.gone(deleted(running(0, 0)))
        world.wait()
        assert [entry["cause"] for entry in world.cluster.ends] == ["was killed by signal 9 (SIGKILL)"]

    def test_the_next_group_fails_within_a_minute(self, world: World) -> None:
        """The listed end is that of earlier pods with the same names."""
        world.serve()
        world.crash()
        group = [running(0, worker, life=2) for worker in (0, 1)]
        for one in group:
            one["metadata"]["creationTimestamp"] = "2026-11-29T15:00:04Z"
            one["status"]["conditions"][0]["lastTransitionTime"] = "2026-11-29T15:00:20Z"
        world.see(*group)
        world.start()
        world.cluster.events = [event("r1", "RecreateGroup", RECREATED, at="2026-11-29T15:00:30Z")]
        world.watcher.change(LISTED, [deleted(group[0], at="2026-11-29T15:01:01Z")])
        world.wait()
        assert [(one["pod"], one["cause"].split(":")[0]) for one in world.cluster.ends] == [
            ("r1-0-1", "was killed by signal 9 (SIGKILL)"),
            ("r1-0-1", "failed while the watcher did not run"),
        ]

    def test_a_pod_that_is_going_when_the_program_comes_says_nothing(self, world: World) -> None:
        going = deleted(running(0, 0))
        world.watcher.change(LISTED, [going])
        world.gone(going)
        world.wait()
        assert world.cluster.ends == []

    def test_a_damaged_state_is_said(self, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "state.json").write_text("{")
        world.start()
        assert "starting without what was known before" in capsys.readouterr().out

    def test_the_api_server_does_not_answer(self, world: World) -> None:
        world.serve()
        world.see(pod(0, 1, containerStatuses=[terminated(exitCode=137)]))
        world.cluster.fails = True
        with pytest.raises(ApiError):
            world.wait()
        world.cluster.fails = False
        world.wait(0)
        assert len(world.cluster.ends) == 1


class TestBounds:
    def test_the_same_again_is_counted(self, world: World) -> None:
        for life in range(1, 6):
            world.serve(life)
            world.crash(life, exitCode=2, finishedAt=f"2026-11-29T15:0{life}:00Z")
        (entry,) = world.cluster.ends
        assert (entry["count"], entry["at"], entry["last"]) == (5, "2026-11-29T15:01:00Z", "2026-11-29T15:05:00Z")
        assert world.cluster.data["last"].endswith("ended with code 2 (5 times, the last at 2026-11-29T15:05:00Z)")
        assert len(world.cluster.reports) == 1

    def test_the_oldest_report_makes_room(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("deepseek_acs.incidents.report.MOST_ENDS", 5)
        for life in range(1, 15):
            world.serve(life)
            # Each for another reason than the one before.
            world.crash(life, worker=life % 2, finishedAt=f"2026-11-29T15:{life:02}:00Z")
        assert list(world.cluster.reports) == [f"{number:06}.txt.gz" for number in (12, 13, 14)]
        assert world.cluster.data["newest"] == "000014.txt.gz"
        assert len(world.cluster.ends) == 5

    def test_a_report_that_is_too_large_has_fewer_lines(self, tmp_path: Path) -> None:
        world = World(tmp_path, keep=100, lines=2000)
        world.journals = FakeJournals(lines=2000)
        world.start()
        world.serve()
        world.crash()
        assert world.cluster.store is not None
        (packed,) = world.cluster.store["binaryData"].values()
        assert len(packed) * 3 / 4 <= MOST_BYTES / 100
        (report,) = world.cluster.reports.values()
        assert "last 2000 lines" not in report
        assert "line 1999 of r1-0-1.1" in report, "the last ones stay"


def test_another_end_of_a_pod_that_stayed_is_another_incident(world: World) -> None:
    """With RecreateGroupAfterStart, a pod of a group that has not started restarts alone."""
    world.serve()
    world.see(pod(0, 1, containerStatuses=[terminated(exitCode=1)]))
    world.wait()
    world.see(pod(0, 1, containerStatuses=[terminated(exitCode=3, finishedAt="2026-11-29T15:05:00Z")]))
    world.wait()
    assert [entry["cause"] for entry in world.cluster.ends] == ["ended with code 1", "ended with code 3"]


def test_a_group_that_ends_at_once_again_is_listed_as_well(world: World) -> None:
    """The update of a group to a template that does not start: both within the time in which ends are collected."""
    world.serve()
    world.cluster.group = group(image="b")
    pods = [deleted(running(0, 0)), deleted(running(0, 1))]
    world.see(*pods)
    world.gone(*pods)
    world.wait(5)
    world.see(pod(0, 0, life=2, containerStatuses=[terminated(exitCode=2, finishedAt="2026-11-29T15:00:05Z")]))
    world.wait(5)
    world.wait(5)
    causes = ["was deleted, as requested by an update of the pod template", "ended with code 2"]
    assert [entry["cause"] for entry in world.cluster.ends] == causes


def test_without_the_config_map(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.serve()
    world.cluster.store = None
    world.crash()
    assert capsys.readouterr().out == ("the ConfigMap r1-incidents is gone; pulumi up --refresh creates it again\n")


def test_other_pods_are_not_followed(world: World) -> None:
    world.see({"metadata": {"name": "other", "uid": "other"}})
    assert world.journals.followed == {}
