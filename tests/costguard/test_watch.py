"""The program that gives up groups, on an API server and a clock of the test's own."""

import json
from dataclasses import replace
from typing import Any

import pytest

from deepseek_acs.apiserver import ApiError, ApiServer
from deepseek_acs.apiserver.watching import Clock
from deepseek_acs.costguard.decision import Limits
from deepseek_acs.costguard.watch import CONTROLLER, PAUSED_REPLICAS, PERIOD_SECONDS, Guard, Watched, groups_of

GROUP = "/apis/leaderworkerset.x-k8s.io/v1/namespaces/n/leaderworkersets/r1"
STATUS = "/api/v1/namespaces/n/configmaps/r1-costguard"
PODS = "/api/v1/namespaces/n/pods?labelSelector=leaderworkerset.sigs.k8s.io/name%3Dr1"
EVENTS = "/apis/events.k8s.io/v1/namespaces/n/events"
KEDA = "/apis/keda.sh/v1alpha1/namespaces/n/scaledobjects/r1"
LABELS = "leaderworkerset.sigs.k8s.io"
LIMITS = Limits(failed_starts=3, pending_seconds=600, unready_seconds=3000)


def pod(group: int, worker: int, *, uid: str = "u", **status: Any) -> dict[str, Any]:
    labels = {"group-index": str(group), "worker-index": str(worker), "template-revision-hash": "1"}
    name = f"r1-{group}" + (f"-{worker}" if worker else "")
    container = {"name": "vllm", "resources": {"limits": {"nvidia.com/gpu": "8"}}}
    return {
        "metadata": {"name": name, "uid": f"{uid}{group}", "labels": {f"{LABELS}/{k}": v for k, v in labels.items()}},
        "spec": {"containers": [container, {"name": "sidecar"}]},
        "status": status or {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    }


class FakeClock(Clock):
    def __init__(self) -> None:
        self.time = 1_764_374_400.0

    def now(self) -> float:
        return self.time


class Cluster(ApiServer):
    """One LeaderWorkerSet of groups of two pods; the pods of ``groups`` groups, whose workers are pending."""

    def __init__(self, replicas: int = 1, *, pending: frozenset[int] = frozenset({0})) -> None:
        self.replicas, self.generation, self.version = replicas, 1, 7
        self.pending = pending
        self.status: dict[str, str] = {}
        self.events: list[dict[str, Any]] = []
        self.paused: str | None = None
        self.calls: list[str] = []
        self.fails: set[str] = set()
        self.exists = True

    def get(self, path: str) -> dict[str, Any] | None:
        if path == STATUS:
            return {"data": dict(self.status)}
        if path == PODS:
            workers = [pod(g, 1, **({"phase": "Pending"} if g in self.pending else {})) for g in range(self.replicas)]
            return {"items": [*(pod(g, 0) for g in range(self.replicas)), *workers]}
        assert path == GROUP
        metadata: dict[str, Any] = {"namespace": "n", "name": "r1", "uid": "lws", "generation": self.generation}
        metadata["resourceVersion"] = str(self.version)
        spec = {"replicas": self.replicas, "leaderWorkerTemplate": {"size": 2}}
        return {"metadata": metadata, "spec": spec} if self.exists else None

    def patch(self, path: str, body: Any) -> bool:
        path, _, query = path.partition("?")
        assert query == f"fieldManager={CONTROLLER}"
        self.calls.append(path)
        if path in self.fails:
            raise ApiError(f"PATCH {path}: 500")
        if path == STATUS:
            data = {**self.status, **body["data"]}
            self.status = {name: value for name, value in data.items() if value is not None}
        elif path == KEDA:
            self.paused = body["metadata"]["annotations"][PAUSED_REPLICAS]
        else:
            assert path == f"{GROUP}/scale"
            if body["metadata"]["resourceVersion"] != str(self.version):
                raise ApiError("409 Conflict")
            self.scale(body["spec"]["replicas"])
        return True

    def create(self, path: str, body: Any) -> None:
        assert path == EVENTS
        if path in self.fails:
            raise ApiError("500")
        self.events.append(body)

    def scale(self, replicas: int) -> None:
        self.replicas, self.generation, self.version = replicas, self.generation + 1, self.version + 1

    def reasons(self) -> list[str]:
        return [event["reason"] for event in self.events]


def guard(cluster: Cluster, *, scaled_object: str | None = None) -> tuple[Guard, FakeClock]:
    watched = Watched(
        namespace="n", name="r1", gpu_resource="nvidia.com/gpu", status="r1-costguard", scaled_object=scaled_object
    )
    clock = FakeClock()
    return Guard(cluster, watched, LIMITS, clock), clock


def run(cluster: Cluster, minutes: int, **options: Any) -> None:
    """Another program each minute, as after a restart: all that it knows is in the cluster."""
    _, clock = guard(cluster)
    clock.time += getattr(cluster, "elapsed", 0)
    for _ in range(minutes):
        one, own = guard(cluster, **options)
        clock.time += 60
        own.time = clock.time
        one.step()
    cluster.elapsed = clock.time - FakeClock().time  # type: ignore[attr-defined]


SAID = "scaled to 0 of 1 groups after 1.3 GPU-hours: group 0: r1-0-1 did not start for 10 min while 8 GPUs were held"


def test_a_worker_that_never_comes(capsys: pytest.CaptureFixture[str]) -> None:
    cluster = Cluster()
    run(cluster, 10)
    assert (cluster.replicas, cluster.status["gpuHours"]) == (1, "1.20")
    run(cluster, 20)
    assert (cluster.replicas, cluster.status["keep"]) == (0, "0")
    assert cluster.status["givenUp"] == SAID
    (event,) = cluster.events
    assert (event["type"], event["reason"], event["note"]) == ("Warning", "GivenUp", SAID)
    assert event["regarding"] == {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "namespace": "n",
        "name": "r1",
        "uid": "lws",
    }
    assert capsys.readouterr().out == f"{SAID}\n"


def test_groups_that_are_ready_cost_no_writes() -> None:
    cluster = Cluster(2, pending=frozenset())
    run(cluster, 100)
    assert (cluster.calls, cluster.status, cluster.events) == ([], {}, [])


def test_a_group_that_becomes_ready_leaves_nothing() -> None:
    cluster = Cluster()
    run(cluster, 5)
    assert cluster.status
    cluster.pending = frozenset()
    run(cluster, 1)
    assert cluster.status == {}


def test_keda_is_paused_before_it_could_start_them_again() -> None:
    cluster = Cluster()
    run(cluster, 11, scaled_object="r1")
    assert cluster.paused == "0"
    assert cluster.calls[-2:] == [KEDA, f"{GROUP}/scale"]


@pytest.mark.parametrize("place", [f"{GROUP}/scale", KEDA, EVENTS])
def test_what_failed_is_done_by_the_next_look(place: str) -> None:
    """Whatever comes after the note of it is repeated, if it has not happened."""
    cluster = Cluster()
    run(cluster, 10)
    cluster.fails = {place}
    with pytest.raises(ApiError):
        run(cluster, 1, scaled_object="r1")
    cluster.fails = set()
    run(cluster, 3, scaled_object="r1")
    assert (cluster.replicas, cluster.status["givenUp"]) == (0, SAID)
    assert "StartedAgain" not in cluster.reasons()


def test_a_status_that_cannot_be_written_scales_nothing() -> None:
    cluster = Cluster()
    run(cluster, 10)
    cluster.fails = {STATUS}
    with pytest.raises(ApiError):
        run(cluster, 1)
    assert (cluster.replicas, cluster.events) == (1, [])


def test_who_scales_it_up_again_gets_another_try() -> None:
    cluster = Cluster()
    run(cluster, 30)
    cluster.scale(1)
    run(cluster, 5)
    assert (cluster.replicas, cluster.reasons()) == (1, ["GivenUp", "StartedAgain"])
    assert "givenUp" not in cluster.status
    run(cluster, 10)
    assert (cluster.replicas, cluster.reasons()) == (0, ["GivenUp", "StartedAgain", "GivenUp"])


def test_the_last_group_alone_is_given_up() -> None:
    cluster = Cluster(2, pending=frozenset({1}))
    run(cluster, 30)
    assert (cluster.replicas, cluster.reasons()) == (1, ["GivenUp"])
    cluster.pending = frozenset({0})
    run(cluster, 15)
    assert (cluster.replicas, cluster.reasons()) == (0, ["GivenUp", "GivenUp"])


def test_a_group_that_has_to_stay_is_told_once() -> None:
    cluster = Cluster(2, pending=frozenset({0}))
    run(cluster, 30)
    assert (cluster.replicas, cluster.reasons()) == (2, ["CannotGiveUp"])
    assert "did not start for" in cluster.status["cannotGiveUp"]
    cluster.pending = frozenset()
    run(cluster, 1)
    assert cluster.status == {}


class Failing(Cluster):
    """Its groups fail between two looks, and LeaderWorkerSet recreates them: another leader each time."""

    def __init__(self, replicas: int = 1, *, failing: frozenset[int] = frozenset({0})) -> None:
        super().__init__(replicas, pending=frozenset())
        self.failing, self.starts, self.history = failing, 0, list[int]()

    def get(self, path: str) -> dict[str, Any] | None:
        found = super().get(path)
        if path == GROUP:
            self.history.append(self.replicas)
        if path == PODS and found is not None:
            self.starts += 1
            for one in found["items"]:
                if int(one["metadata"]["labels"][f"{LABELS}/group-index"]) in self.failing:
                    one["metadata"]["uid"] += f"-{self.starts}"
                    one["status"] = {"phase": "Running", "conditions": []}
        return found


BACK_OFF = replace(LIMITS, failed_starts=4, unready_seconds=100_000, back_off_seconds=120)


def hold(cluster: Cluster, minutes: int, *, replicas: int = 1) -> None:
    """As ``run``, with back-off."""
    clock = FakeClock()
    clock.time += getattr(cluster, "elapsed", 0)
    for _ in range(minutes):
        clock.time += 60
        watched = Watched(namespace="n", name="r1", gpu_resource="g", status="r1-costguard", replicas=replicas)
        Guard(cluster, watched, BACK_OFF, clock).step()
    cluster.elapsed = clock.time - FakeClock().time  # type: ignore[attr-defined]


def test_a_group_is_held_back_for_growing_times() -> None:
    cluster = Failing()
    hold(cluster, 30)
    # The first look, the second one that sees the failure; then without groups for 2, 4 and 8 minutes.
    assert cluster.history == [1, 1, 0, 0, *[1, 1], *[0] * 4, *[1, 1], *[0] * 8, *[1, 1], *[0] * 8]
    assert cluster.reasons() == ["HeldBack", "TriedAgain"] * 3 + ["GivenUp"]
    assert cluster.events[2]["note"] == "scaled to 0 of 1 groups for 240 s: start 2 of group 0 has failed"
    assert "4 starts in a row have failed" in cluster.status["givenUp"]
    assert "held" not in cluster.status


def test_what_is_held_back_is_told_and_costs_nothing() -> None:
    cluster = Failing()
    hold(cluster, 3)
    assert cluster.status["heldBack"] == "scaled to 0 of 1 groups for 120 s: start 1 of group 0 has failed"
    assert cluster.status["gpuHours"] == "0.00"
    hold(cluster, 1)
    assert "heldBack" not in cluster.status


def test_a_group_that_starts_after_it_was_held_back_leaves_nothing() -> None:
    cluster = Failing()
    hold(cluster, 3)
    cluster.failing = frozenset()
    hold(cluster, 5)
    assert (cluster.replicas, cluster.status) == (1, {})


def test_only_the_last_group_is_held_back() -> None:
    cluster = Failing(2, failing=frozenset({1}))
    hold(cluster, 3, replicas=2)
    assert cluster.replicas == 1
    first = Failing(2, failing=frozenset({0}))
    hold(first, 3, replicas=2)
    assert first.replicas == 2, "the one that serves would end first"


def test_a_number_that_is_changed_meanwhile_stays() -> None:
    cluster = Failing(3, failing=frozenset({2}))
    hold(cluster, 2, replicas=3)
    assert cluster.replicas == 2
    cluster.scale(1)
    hold(cluster, 5, replicas=3)
    assert cluster.replicas == 1


def test_the_stack_wants_fewer_meanwhile() -> None:
    """The number stays the same, so the object does not tell."""
    cluster = Failing(3, failing=frozenset({2}))
    hold(cluster, 2, replicas=3)
    hold(cluster, 10, replicas=2)
    assert cluster.replicas == 2
    assert "held" not in cluster.status


@pytest.mark.parametrize("place", [f"{GROUP}/scale", STATUS])
def test_a_hold_that_was_interrupted(place: str) -> None:
    cluster = Failing()
    hold(cluster, 1)
    cluster.fails = {place}
    with pytest.raises(ApiError):
        hold(cluster, 1)
    assert cluster.replicas == 1
    cluster.fails = set()
    hold(cluster, 1)
    assert cluster.replicas == 0
    assert cluster.status["heldBack"]


def test_a_start_after_a_hold_that_was_not_noted() -> None:
    """The scale was done, and its note not removed."""
    cluster = Failing()
    hold(cluster, 3)
    cluster.fails = {EVENTS}
    with pytest.raises(ApiError):
        hold(cluster, 1)
    assert cluster.replicas == 1
    assert "held" in cluster.status
    cluster.fails = set()
    hold(cluster, 1)
    assert (cluster.replicas, "held" in cluster.status) == (1, False)


def test_without_a_group_there_is_nothing_to_do() -> None:
    cluster = Cluster()
    cluster.exists = False
    run(cluster, 30)
    assert cluster.calls == []


def test_groups_of_pods() -> None:
    lws = {"spec": {"leaderWorkerTemplate": {"size": 2}}}

    def only(*pods: dict[str, Any]) -> Any:
        return groups_of(list(pods), lws, "nvidia.com/gpu")

    (whole,) = only(pod(0, 0), pod(0, 1)).values()
    assert (whole.uid, whole.revision, whole.ready, whole.gpus, whole.pending) == ("u0", "1", True, 16, ())
    assert not only(pod(0, 0))[0].ready, "its worker does not exist"
    assert only(pod(0, 1)) == {}, "its leader does not exist"
    pulling = only(pod(0, 0), pod(0, 1, phase="Pending", podIP="10.0.0.1"))[0]
    assert (pulling.gpus, pulling.pending) == (16, ()), "it has a sandbox, and is billed"
    ending = pod(0, 0)
    ending["metadata"]["deletionTimestamp"] = "now"
    assert not only(ending, pod(0, 1))[0].ready
    assert only({"metadata": {"name": "other"}, "spec": {}}) == {}


def test_an_error_is_said_and_the_next_look_comes(capsys: pytest.CaptureFixture[str]) -> None:
    class Ends(Exception):  # noqa: N818
        pass

    class Broken(Cluster):
        def get(self, path: str) -> dict[str, Any] | None:
            raise ApiError("GET /: 503")

    class Impatient(FakeClock):
        slept: list[float] = []  # noqa: RUF012

        def sleep(self, seconds: float) -> None:
            self.slept.append(seconds)
            if len(self.slept) == 3:
                raise Ends

    clock = Impatient()
    watched = Watched(namespace="n", name="r1", gpu_resource="g", status="s")
    with pytest.raises(Ends):
        Guard(Broken(), watched, LIMITS, clock).watch()
    assert clock.slept == [PERIOD_SECONDS] * 3
    assert capsys.readouterr().out == f"looking again in {PERIOD_SECONDS} s: GET /: 503\n" * 3


def test_the_status_is_small() -> None:
    cluster = Cluster(1000, pending=frozenset(range(1000)))
    run(cluster, 2)
    assert len(json.dumps(cluster.status)) < 2**19, "a ConfigMap may have 1 MiB"
