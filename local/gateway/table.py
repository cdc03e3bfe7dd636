"""Where requests go: what the routes and the endpoints of the cluster say, and the turns of weighted backends."""

import itertools
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Object = Mapping[str, Any]


@dataclass(frozen=True)
class Pod:
    """A ready pod behind a Service, and its port."""

    namespace: str
    name: str
    port: int


@dataclass(frozen=True, kw_only=True)
class Backend:
    """A Service, its weight, and its pods that are ready."""

    service: str
    weight: int
    pods: tuple[Pod, ...]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Requests for one of ``hosts`` (all, if there are none) and one of the paths go to ``backends``."""

    hosts: frozenset[str]
    exact: frozenset[str]
    prefixes: tuple[str, ...]
    backends: tuple[Backend, ...]

    def takes(self, host: str, path: str) -> bool:
        """Whether a request is one of them."""
        if self.hosts and host not in self.hosts:
            return False
        return path in self.exact or any(f"{path}/".startswith(f"{prefix.rstrip('/')}/") for prefix in self.prefixes)


def rules_of(routes: Iterable[Object], slices: Sequence[Object]) -> list[Rule]:
    """The rules of HTTPRoutes, with endpoints from EndpointSlices (both as the API server lists them)."""
    found = []
    for route in routes:
        namespace, spec = route["metadata"]["namespace"], route["spec"]
        for rule in spec.get("rules") or []:
            paths = [match["path"] for match in rule.get("matches") or []]
            found.append(
                Rule(
                    hosts=frozenset(spec.get("hostnames") or ()),
                    exact=frozenset(path["value"] for path in paths if path["type"] == "Exact"),
                    prefixes=tuple(path["value"] for path in paths if path["type"] == "PathPrefix"),
                    backends=tuple(
                        Backend(
                            service=backend["name"],
                            weight=backend.get("weight", 1),
                            pods=_pods(namespace, backend["name"], slices),
                        )
                        for backend in rule.get("backendRefs") or []
                    ),
                )
            )
    return found


def _pods(namespace: str, service: str, slices: Sequence[Object]) -> tuple[Pod, ...]:
    return tuple(
        Pod(namespace, endpoint["targetRef"]["name"], one["ports"][0]["port"])
        for one in slices
        if one["metadata"]["namespace"] == namespace
        and (one["metadata"].get("labels") or {}).get("kubernetes.io/service-name") == service
        for endpoint in one.get("endpoints") or []
        if (endpoint.get("conditions") or {}).get("ready")
    )


class Table:
    """The rules as of the last look. Safe for threads."""

    def __init__(self) -> None:
        self._rules: Sequence[Rule] = ()
        self._turns = itertools.count()
        self._lock = threading.Lock()

    def update(self, rules: Sequence[Rule]) -> None:
        """Replaces all rules."""
        with self._lock:
            self._rules = rules

    def choose(self, host: str, path: str) -> Pod | int:
        """The pod for a request, or the status with which a Gateway answers itself: 404 if no rule takes it, 503 if the
        backend whose turn it is has no ready pod
        (https://gateway-api.sigs.k8s.io/reference/spec/#httprouterule, ``backendRefs``)."""
        with self._lock:
            rule = next((rule for rule in self._rules if rule.takes(host, path)), None)
            turn = next(self._turns)
        if rule is None:
            return 404
        backend = turn_of(rule.backends, turn)
        return backend.pods[turn % len(backend.pods)] if backend and backend.pods else 503


def turn_of(backends: Sequence[Backend], turn: int) -> Backend | None:
    """The backend of a turn: of as many turns as all weights together, each has its weight, spread evenly."""
    whole = sum(backend.weight for backend in backends)
    if not whole:
        return None
    # 61 has no divisor in common with 100, so that neighbouring turns are far apart.
    place = turn * 61 % whole
    for backend in backends:
        place -= backend.weight
        if place < 0:
            return backend
    return None
