"""The emulator of a Gateway: where a request goes."""

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from local.gateway.table import Backend, Pod, Table, rules_of, turn_of


def route(*backends: dict[str, Any], namespace: str = "n") -> dict[str, Any]:
    paths = [{"type": "Exact", "value": "/v1/models"}, {"type": "PathPrefix", "value": "/v1/responses"}]
    rule = {"matches": [{"path": path} for path in paths], "backendRefs": list(backends)}
    return {"metadata": {"namespace": namespace}, "spec": {"hostnames": ["a.example.com"], "rules": [rule]}}


def endpoints(service: str, *pods: str, ready: bool = True, namespace: str = "n") -> dict[str, Any]:
    return {
        "metadata": {"namespace": namespace, "labels": {"kubernetes.io/service-name": service}},
        "ports": [{"port": 8000}],
        "endpoints": [{"targetRef": {"name": pod}, "conditions": {"ready": ready}} for pod in pods],
    }


def table(routes: list[dict[str, Any]], slices: list[dict[str, Any]]) -> Table:
    found = Table()
    found.update(rules_of(routes, slices))
    return found


@pytest.mark.parametrize(
    ("host", "path", "status"),
    [
        ("a.example.com", "/v1/models", None),
        ("a.example.com", "/v1/responses", None),
        ("a.example.com", "/v1/responses/1", None),
        ("a.example.com", "/v1/responsesx", 404),
        ("a.example.com", "/v1/models/1", 404),
        ("b.example.com", "/v1/models", 404),
    ],
)
def test_hosts_and_paths(host: str, path: str, status: int | None) -> None:
    found = table([route({"name": "s"})], [endpoints("s", "p")]).choose(host, path)
    assert found == (status or Pod("n", "p", 8000))


def test_without_a_ready_pod_there_is_503() -> None:
    slices = [endpoints("s", "p", ready=False), endpoints("s", "q", namespace="other"), endpoints("other", "r")]
    assert table([route({"name": "s"})], slices).choose("a.example.com", "/v1/models") == 503
    weightless = table([route({"name": "s", "weight": 0})], [endpoints("s", "p")])
    assert weightless.choose("a.example.com", "/v1/models") == 503


@pytest.mark.parametrize("weights", [(90, 10), (100, 0), (0, 100), (1, 1), (50, 25, 25)])
def test_turns_have_the_weights(weights: tuple[int, ...]) -> None:
    backends = [Backend(service=str(i), weight=weight, pods=()) for i, weight in enumerate(weights)]
    whole = sum(weights)
    counted = Counter(found.service for turn in range(10 * whole) if (found := turn_of(backends, turn)))
    assert counted == Counter({str(i): 10 * weight for i, weight in enumerate(weights) if weight})


def test_a_small_weight_is_not_the_last() -> None:
    backends = [Backend(service="old", weight=90, pods=()), Backend(service="new", weight=10, pods=())]
    turns = [turn for turn in range(100) if (found := turn_of(backends, turn)) and found.service == "new"]
    assert max(later - earlier for earlier, later in pairwise(turns)) < 20
