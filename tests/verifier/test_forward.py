"""A port that the API server does not forward."""

from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes import client

from deepseek_acs.verifier import forward
from deepseek_acs.verifier.results import FaultError, Layer
from tests.verifier.world import TARGET


@pytest.fixture
def connection(monkeypatch: pytest.MonkeyPatch) -> forward.ForwardedConnection:
    # Without the SDK's CoreV1Api, whose module takes half a second to load and is not used here.
    core = SimpleNamespace(connect_get_namespaced_pod_portforward=None)
    sdk = SimpleNamespace(CoreV1Api=lambda api: core, ApiException=client.ApiException)
    monkeypatch.setattr(forward, "client", sdk)
    server: Any = SimpleNamespace(api=None)
    return forward.ForwardedConnection(server, TARGET, "r1-0", 8000, silence_seconds=1)


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (client.ApiException(status=403, reason="Forbidden"), "403 Forbidden"),
        (ConnectionRefusedError("secret address"), "ConnectionRefusedError"),
    ],
)
def test_refused_port(
    connection: forward.ForwardedConnection, error: Exception, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(forward, "portforward", refuse)
    with pytest.raises(FaultError) as caught:
        connection.connect()
    assert caught.value.layer is Layer.FORWARD
    assert caught.value.problem == f"port 8000 of r1-0 cannot be forwarded: {why}"
    assert caught.value.fix.endswith("port-forward r1-0 8000:8000")
