"""The simulated cloud: the control endpoints of the OSS server on this machine (``local/oss``)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

SECONDS = 30


class PluginFakeError(Exception):
    """A request that is not for a fake, or that the cloud refuses; the text says so and what to do."""


class RefusedError(Exception):
    """The cloud's refusal: its error code and its message."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class SimulatedCloud:
    """What is at `endpoint`, a URL or ``host:port`` of this machine. Raises RefusedError, PluginFakeError."""

    def __init__(self, endpoint: str) -> None:
        self._url = (endpoint if "//" in endpoint else f"http://{endpoint}").rstrip("/")

    def create(self, place: str, content: Mapping[str, Any]) -> None:
        """Puts there what must not be there yet."""
        self._request("PUT", place, content, {"If-None-Match": "*"})

    def replace(self, place: str, content: Mapping[str, Any]) -> None:
        """Puts it there, whatever is there."""
        self._request("PUT", place, content)

    def delete(self, place: str, *, force: bool) -> None:
        """Deletes it, if it is there; a bucket with objects, or a user with keys, only by `force`."""
        self._request("DELETE", place, query="?force" if force else "")

    def find(self, place: str) -> dict[str, Any] | None:
        """The record that is there."""
        found: dict[str, Any] | None = json.loads(self._request("GET", place) or "null")
        return found

    def _request(
        self,
        method: str,
        place: str,
        content: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        query: str = "",
    ) -> bytes:
        """The answer; nothing where nothing is."""
        url = f"{self._url}/-/{quote(place)}{query}"
        data = None if content is None else json.dumps(content).encode()
        request = Request(url, method=method, data=data, headers=dict(headers or {}))  # noqa: S310 - is_loopback
        try:
            with urlopen(request, timeout=SECONDS) as response:  # noqa: S310
                answer: bytes = response.read()
                return answer
        except HTTPError as error:
            body = error.read()
            if error.status == HTTPStatus.NOT_FOUND and method in ("GET", "DELETE"):
                return b""
            raise _refusal(error.status or 0, body) from None
        except OSError:
            raise PluginFakeError(f"the simulated cloud at {self._url} does not answer; make up starts it") from None


def _refusal(status: int, body: bytes) -> RefusedError:
    try:
        answer = json.loads(body)
    except ValueError:
        answer = {}
    return RefusedError(answer.get("code") or f"Status{status}", answer.get("message") or "")
