"""The program that takes requests from new groups, on an API server, leaders and a clock of the test's own."""

from typing import Any

import pytest

from deepseek_acs.apiserver import ApiError, ApiServer
from deepseek_acs.apiserver.watching import LABELS, Clock
from deepseek_acs.canaryguard.decision import Limits, Names
from deepseek_acs.canaryguard.watch import CONTROLLER, PERIOD_SECONDS, UNREADY_LOOKS, Guard, Watched, weight_of

ROUTE = "/apis/gateway.networking.k8s.io/v1/namespaces/n/httproutes/route"
STATUS = "/api/v1/namespaces/n/configmaps/r1-canaryguard"
PODS = f"/api/v1/namespaces/n/pods?labelSelector={LABELS}/name%3Dr1-new%2C{LABELS}/worker-index%3D0"
WATCHED = Watched(
    namespace="n", group="r1-new", port=8000, route="route", service="leader-new", status="r1-canaryguard"
)
NAMES = Names(http_requests="http", finished="finished", first_token_latency="first")
LIMITS = Limits(error_share=0.1, first_token_seconds=2, least_requests=10)


class FakeClock(Clock):
    def __init__(self) -> None:
        self.time = 1_764_374_400.0

    def now(self) -> float:
        return self.time


class Cluster(ApiServer):
    """A route with two backends, and the leaders of the new groups by address, with what their metrics count."""

    def __init__(self, weight: int = 10) -> None:
        self.rules: list[dict[str, Any]] = []
        self.version = 7
        self.set(weight)
        self.leaders: dict[str, dict[str, float]] = {"10.0.0.1": {"ok": 0, "failed": 0}}
        self.ready = True
        self.silent = False
        self.status: dict[str, str] = {}
        self.events: list[dict[str, Any]] = []
        self.fails: set[str] = set()
        self.changed_meanwhile = False

    def set(self, weight: int) -> None:
        backends = [
            {"name": "leader", "port": 8000, "weight": 100 - weight},
            {"name": "leader-new", "port": 8000, "weight": weight},
        ]
        self.rules = [{"matches": ["kept"], "backendRefs": backends, "timeouts": {"request": "1s"}}]

    def weights(self) -> list[int]:
        return [backend["weight"] for backend in self.rules[0]["backendRefs"]]

    def get(self, path: str) -> dict[str, Any] | None:
        if path == PODS:
            ready = [{"type": "Ready", "status": str(self.ready)}]
            return {
                "items": [
                    {"metadata": {"uid": address}, "status": {"podIP": address, "conditions": ready}}
                    for address in self.leaders
                ]
            }
        assert path == ROUTE
        metadata = {"namespace": "n", "name": "route", "uid": "u", "resourceVersion": str(self.version)}
        return {"metadata": metadata, "spec": {"rules": self.rules}}

    def patch(self, path: str, body: Any) -> bool:
        path, _, query = path.partition("?")
        assert query == f"fieldManager={CONTROLLER}"
        if path in self.fails:
            raise ApiError("500")
        if path == STATUS:
            data = {**self.status, **body["data"]}
            self.status = {name: value for name, value in data.items() if value is not None}
            return True
        assert path == ROUTE
        if self.changed_meanwhile or body["metadata"]["resourceVersion"] != str(self.version):
            raise ApiError("409 Conflict")
        self.rules, self.version = body["spec"]["rules"], self.version + 1
        return True

    def create(self, path: str, body: Any) -> None:
        assert path == "/apis/events.k8s.io/v1/namespaces/n/events"
        self.events.append(body)

    def scrape(self, url: str) -> str | None:
        address = url.removeprefix("http://").removesuffix(":8000/metrics")
        counted = self.leaders[address]
        if self.silent:
            return None
        return f'http{{status="2xx"}} {counted["ok"]}\nhttp{{status="5xx"}} {counted["failed"]}\n'


def guard(cluster: Cluster) -> tuple[Guard, FakeClock]:
    clock = FakeClock()
    return Guard(cluster, WATCHED, NAMES, LIMITS, clock, cluster.scrape), clock


def look(guard: Guard, clock: FakeClock, times: int = 1) -> None:
    for _ in range(times):
        guard.step()
        clock.time += PERIOD_SECONDS


def test_errors_take_the_requests_from_the_new_groups() -> None:
    cluster = Cluster()
    one, clock = guard(cluster)
    cluster.leaders["10.0.0.1"] = {"ok": 1000, "failed": 900}
    look(one, clock)
    assert cluster.weights() == [90, 10], "what came before the first look does not count"
    cluster.leaders["10.0.0.1"] = {"ok": 1080, "failed": 920}
    look(one, clock)
    assert cluster.weights() == [90, 0]
    assert cluster.rules[0]["matches"] == ["kept"]
    assert cluster.rules[0]["timeouts"] == {"request": "1s"}
    said = "weight of leader-new set from 10 to 0: 20 of 100 requests were answered with status 5xx by r1-new in 5 min"
    assert cluster.status == {"putBack": said}
    (event,) = cluster.events
    assert (event["type"], event["reason"], event["note"]) == ("Warning", "PutBack", said)
    assert event["regarding"]["kind"] == "HTTPRoute"
    look(one, clock, 10)
    assert len(cluster.events) == 1


def test_all_of_them_go_back_to_groups_that_had_none() -> None:
    cluster = Cluster(weight=100)
    one, clock = guard(cluster)
    look(one, clock)
    cluster.leaders["10.0.0.1"] = {"ok": 0, "failed": 10}
    look(one, clock)
    assert cluster.weights() == [100, 0]


def test_errors_are_forgotten_after_the_window() -> None:
    cluster = Cluster()
    one, clock = guard(cluster)
    look(one, clock)
    cluster.leaders["10.0.0.1"] = {"ok": 0, "failed": 5}
    look(one, clock, 40)
    cluster.leaders["10.0.0.1"] = {"ok": 5, "failed": 5}
    look(one, clock, 40)
    cluster.leaders["10.0.0.1"] = {"ok": 14, "failed": 6}
    look(one, clock)
    assert cluster.weights() == [90, 10], "1 of 10 in five minutes, and not 6 of 20"


def test_leaders_are_counted_together() -> None:
    cluster = Cluster()
    cluster.leaders = {"10.0.0.1": {"ok": 0, "failed": 0}, "10.0.0.2": {"ok": 0, "failed": 0}}
    one, clock = guard(cluster)
    look(one, clock)
    cluster.leaders = {"10.0.0.1": {"ok": 12, "failed": 0}, "10.0.0.2": {"ok": 2, "failed": 2}}
    look(one, clock)
    assert "2 of 16" in cluster.status["putBack"]


@pytest.mark.parametrize("how", ["not ready", "no answer"])
def test_new_groups_that_do_not_answer(how: str) -> None:
    cluster = Cluster()
    one, clock = guard(cluster)
    look(one, clock)
    fails = {"ready": how != "not ready", "silent": how == "no answer"}
    vars(cluster).update(fails)
    look(one, clock, UNREADY_LOOKS - 1)
    cluster.ready, cluster.silent = True, False
    look(one, clock)
    assert cluster.weights() == [90, 10], "it was up again in time"
    vars(cluster).update(fails)
    look(one, clock, UNREADY_LOOKS)
    assert cluster.weights() == [90, 0]
    assert cluster.status["putBack"].endswith("no leader of r1-new is ready")


def test_without_requests_nothing_is_asked() -> None:
    cluster = Cluster(weight=0)
    cluster.leaders = {}
    one, clock = guard(cluster)
    look(one, clock, 2 * UNREADY_LOOKS)
    assert (cluster.weights(), cluster.events) == ([100, 0], [])


def test_a_new_weight_begins_another_window() -> None:
    cluster = Cluster()
    one, clock = guard(cluster)
    look(one, clock)
    cluster.leaders["10.0.0.1"] = {"ok": 0, "failed": 20}
    look(one, clock)
    look(one, clock)
    assert "putBack" in cluster.status
    cluster.set(20)
    look(one, clock, 3)
    assert cluster.weights() == [80, 20]
    assert cluster.status == {}


@pytest.mark.parametrize("failing", [STATUS, ROUTE])
def test_what_failed_is_done_by_the_next_look(failing: str) -> None:
    cluster = Cluster()
    one, clock = guard(cluster)
    look(one, clock)
    cluster.leaders["10.0.0.1"] = {"ok": 0, "failed": 20}
    cluster.fails = {failing}
    with pytest.raises(ApiError):
        one.step()
    assert cluster.weights() == [90, 10]
    cluster.fails = set()
    look(one, clock)
    assert cluster.weights() == [90, 0]


def test_a_route_that_has_changed_since_is_left() -> None:
    cluster = Cluster()
    one, clock = guard(cluster)
    look(one, clock)
    cluster.leaders["10.0.0.1"] = {"ok": 0, "failed": 20}
    cluster.changed_meanwhile = True
    with pytest.raises(ApiError, match="409"):
        one.step()


def test_after_a_kill_it_goes_on() -> None:
    cluster = Cluster()
    one, clock = guard(cluster)
    look(one, clock)
    cluster.leaders["10.0.0.1"] = {"ok": 0, "failed": 5}
    look(one, clock)
    another, clock = guard(cluster)
    look(another, clock)
    assert cluster.weights() == [90, 10]
    cluster.leaders["10.0.0.1"] = {"ok": 0, "failed": 15}
    look(another, clock)
    assert cluster.weights() == [90, 0]


def test_weight_of_a_service_that_is_not_a_backend() -> None:
    assert weight_of({"spec": {}}, "a") == 0
    assert weight_of({"spec": {"rules": [{"backendRefs": [{"name": "a"}]}]}}, "a") == 1
