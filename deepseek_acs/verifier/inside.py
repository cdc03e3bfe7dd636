"""Verification from a pod of the cluster, like a client there: DNS, Service, engine."""

import http.client
import ipaddress
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from urllib.parse import urlsplit

from deepseek_acs.chatclient import Client

from .checks import Expected, check_engine
from .results import FaultError, Found, Layer, Report, SkippedError, Value

PAUSE_SECONDS = 2

DNS_SECONDS = 60
"""A Service has its DNS name immediately, independent of its first leader."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """Time until the Service must have a ready leader."""

    seconds: float
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def until(self, check: Callable[[], Found[Value]]) -> Found[Value]:
        """Repeats a check until it passes. Raises the last FaultError."""
        deadline = self.clock() + self.seconds
        while True:
            try:
                return check()
            except FaultError:
                if self.clock() >= deadline:
                    raise
            self.sleep(PAUSE_SECONDS)


def verify_inside(
    report: Report,
    url: str,
    model: str,
    *,
    key: str | None,
    filtered: bool = True,
    timeout_seconds: float,
    patience: Patience,
) -> None:
    """``url`` is that of the Service, without a path; ``filtered`` says whether a request filter is in front."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or http.client.HTTP_PORT
    before = len(report.results)
    for_name = replace(patience, seconds=min(patience.seconds, DNS_SECONDS))
    report.step(Layer.DNS, lambda: for_name.until(partial(resolve, host)))
    if report.results[before].state == "failed":
        return
    if report.step(Layer.SERVICE, lambda: patience.until(partial(reach, host, port))) is None:
        return
    logs = "kubectl logs -l role=leader --tail=100"
    expected = Expected(model=model, logs=logs, filtered=filtered, timeout_seconds=timeout_seconds)
    connect = partial(http.client.HTTPConnection, host, port, timeout=timeout_seconds)
    check_engine(report, Client(connect=connect, key=key), expected)


def resolve(host: str) -> Found[str]:
    """The Service's name has an address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        raise SkippedError(f"{host} is an address: there is no name to resolve")
    try:
        address = str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        raise FaultError(
            Layer.DNS,
            f"{host} does not resolve: {error.strerror}",
            fix="check whether the Service exists (kubectl get services) and the cluster's DNS runs (kubectl "
            "--namespace kube-system get pods)",
        ) from None
    return Found(f"{host} is {address}", address)


def reach(host: str, port: int) -> Found[bool]:
    """The Service's address accepts a connection."""
    try:
        with socket.create_connection((host, port), timeout=5):
            return Found(f"port {port} accepts connections", True)
    except OSError as error:
        why = "no answer within 5 s" if isinstance(error, TimeoutError) else error.strerror
        raise FaultError(
            Layer.SERVICE,
            f"{host}:{port} does not accept a connection: {why}",
            fix="check whether a ready leader is among its endpoints (kubectl get endpointslices), and whether a "
            "NetworkPolicy blocks this pod (kubectl get networkpolicies)",
        ) from None
