"""Connections to a port of a pod through the API server, as ``kubectl port-forward`` makes them.

It uses the websocket form of the API. Whether ACS's virtual nodes serve it as they serve kubectl is not verified."""

import http.client
import ssl
from typing import Any

from kubernetes import client
from kubernetes.stream import portforward
from websocket import WebSocketException

from .cluster import ApiServer
from .results import FaultError, Layer
from .target import Target

UNUSABLE = (client.ApiException, WebSocketException, OSError, ssl.SSLError)


class ForwardedConnection(http.client.HTTPConnection):
    """HTTP over a forwarded port. ``connect`` raises FaultError."""

    def __init__(self, server: ApiServer, target: Target, pod: str, port: int, *, silence_seconds: float) -> None:
        super().__init__("localhost", port)
        self._api = client.CoreV1Api(server.api)
        self._target = target
        self._pod = pod
        self._silence_seconds = silence_seconds
        self._forward: Any = None

    def connect(self) -> None:
        try:
            self._forward = portforward(
                self._api.connect_get_namespaced_pod_portforward,
                self._pod,
                self._target.namespace,
                ports=str(self.port),
            )
        except UNUSABLE as error:
            why = f"{error.status} {error.reason}" if isinstance(error, client.ApiException) else type(error).__name__
            raise self._fault(why) from None
        self.sock = self._forward.socket(self.port)
        self.sock.settimeout(self._silence_seconds)

    def getresponse(self) -> http.client.HTTPResponse:
        try:
            return super().getresponse()
        except (ConnectionError, http.client.HTTPException):
            # The node's error about an unreachable port comes on a separate channel.
            if said := self._forward.error(self.port):
                raise self._fault(said) from None
            raise

    def _fault(self, why: str) -> FaultError:
        return FaultError(
            Layer.FORWARD,
            f"port {self.port} of {self._pod} cannot be forwarded: {' '.join(why.split())[:300]}",
            fix=self._target.kubectl(f"port-forward {self._pod} {self.port}:{self.port}"),
        )
