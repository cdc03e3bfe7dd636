"""Looks at the weight and at the leaders of the new groups, decides, and acts."""

import http.client
import urllib.request
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import quote

from deepseek_acs.apiserver import ApiServer, opener
from deepseek_acs.apiserver.watching import LABELS, Clock, event, is_ready, metrics_url, repeat

from .decision import Counts, Limits, Names, counts_of, reason, total

PERIOD_SECONDS = 10
WINDOW_SECONDS = 300
SCRAPE_SECONDS = 5

UNREADY_LOOKS = 3
"""Looks in a row without a leader that is ready and has metrics: half a minute, as long as a leader's own readiness
probe may fail."""

CONTROLLER = "deepseek-canaryguard"
FIELD_MANAGER = f"fieldManager={CONTROLLER}"

Scrape = Callable[[str], str | None]


@dataclass(frozen=True, kw_only=True)
class Watched:
    """The LeaderWorkerSet ``group`` of the new groups, to whose ``service`` the HTTPRoute ``route`` sends a part of the
    requests. ``status`` is the ConfigMap that says why it no longer does."""

    namespace: str
    group: str
    port: int
    route: str
    service: str
    status: str


class Guard:
    """The new groups of one update. ``scrape`` reads metrics from a URL; None if there is no answer."""

    def __init__(
        self, api: ApiServer, watched: Watched, names: Names, limits: Limits, clock: Clock, scrape: Scrape
    ) -> None:
        self._api, self._watched, self._names, self._limits = api, watched, names, limits
        self._clock, self._scrape = clock, scrape
        namespace = watched.namespace
        self._route = f"/apis/gateway.networking.k8s.io/v1/namespaces/{namespace}/httproutes/{watched.route}"
        selector = quote(f"{LABELS}/name={watched.group},{LABELS}/worker-index=0")
        self._pods = f"/api/v1/namespaces/{namespace}/pods?labelSelector={selector}"
        self._status = f"/api/v1/namespaces/{namespace}/configmaps/{watched.status}"
        self._events = f"/apis/events.k8s.io/v1/namespaces/{namespace}/events"
        self._samples: dict[str, deque[tuple[float, Counts]]] = {}
        """By the leader's UID: what was counted until when, oldest first."""
        self._unready = 0
        self._weighed = False

    def watch(self) -> NoReturn:
        """Without end."""
        repeat(self.step, self._clock, PERIOD_SECONDS)

    def step(self) -> None:
        """Looks once. Raises ApiError."""
        route = self._api.get(self._route)
        if route is None or not weight_of(route, self._watched.service):
            self._forget()
            return
        if not self._weighed:
            self._weighed = True
            # Another weight was given since.
            self._api.patch(f"{self._status}?{FIELD_MANAGER}", {"data": {"putBack": None}})
        leaders = [pod for pod in (self._api.get(self._pods) or {}).get("items") or [] if is_ready(pod)]
        window = self._window(leaders)
        self._unready = 0 if window is not None else self._unready + 1
        if self._unready >= UNREADY_LOOKS:
            self._put_back(route, f"no leader of {self._watched.group} is ready")
        elif window is not None and (why := reason(self._limits, window)):
            self._put_back(route, f"{why} by {self._watched.group} in {WINDOW_SECONDS // 60} min")

    def _forget(self) -> None:
        """The next window begins with the next request."""
        self._samples.clear()
        self._unready, self._weighed = 0, False

    def _window(self, leaders: list[Mapping[str, Any]]) -> Counts | None:
        """What all leaders have counted in the window; None if none of them answers."""
        now = self._clock.now()
        counted = []
        samples: dict[str, deque[tuple[float, Counts]]] = {}
        for pod in leaders:
            text = self._scrape(metrics_url(pod["status"]["podIP"], self._watched.port))
            if text is None:
                continue
            uid, counts = pod["metadata"]["uid"], counts_of(text, self._names, self._limits)
            seen = samples[uid] = self._samples.get(uid, deque())
            seen.append((now, counts))
            while len(seen) > 2 and seen[1][0] <= now - WINDOW_SECONDS:
                seen.popleft()
            counted.append(counts.since(seen[0][1]))
        self._samples = samples
        return total(counted) if counted else None

    def _put_back(self, route: Mapping[str, Any], why: str) -> None:
        """Sets the weight to 0, unless the route has changed since it was read. The reason is written first: it is of
        no harm if it comes to nothing, and would be missed after a kill."""
        service, metadata = self._watched.service, route["metadata"]
        said = f"weight of {service} set from {weight_of(route, service)} to 0: {why}"
        self._api.patch(f"{self._status}?{FIELD_MANAGER}", {"data": {"putBack": said}})
        body = {
            "metadata": {"resourceVersion": metadata["resourceVersion"]},
            "spec": {"rules": [_without(rule, service) for rule in route["spec"]["rules"]]},
        }
        self._api.patch(f"{self._route}?{FIELD_MANAGER}", body)
        self._forget()
        about = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", **route}
        happened = event(
            about,
            kind="Warning",
            reason="PutBack",
            action="SetWeight",
            note=said,
            controller=CONTROLLER,
            now=self._clock.now(),
        )
        print(said, flush=True)
        self._api.create(self._events, happened)


def weight_of(route: Mapping[str, Any], service: str) -> int:
    """The weight of the Service in the route; 0 if it is none of its backends."""
    backends = [backend for rule in route["spec"].get("rules") or [] for backend in rule.get("backendRefs") or []]
    return max((backend.get("weight", 1) for backend in backends if backend["name"] == service), default=0)


def _without(rule: Mapping[str, Any], service: str) -> dict[str, Any]:
    """The rule with all requests to the other backends. One that had the weight 0 gets them all."""
    others = [backend for backend in rule["backendRefs"] if backend["name"] != service]
    weighed = any(backend.get("weight", 1) for backend in others)
    backends = [
        {**backend, "weight": 0 if backend["name"] == service else (backend.get("weight", 1) if weighed else 100)}
        for backend in rule["backendRefs"]
    ]
    return {**rule, "backendRefs": backends}


def scrape(url: str, key: str | None) -> str | None:
    """The metrics; None if there is no answer."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        with opener().open(urllib.request.Request(url, headers=headers), timeout=SCRAPE_SECONDS) as answer:  # noqa: S310
            return str(answer.read().decode("utf-8", "replace"))
    except (OSError, http.client.HTTPException):
        return None
