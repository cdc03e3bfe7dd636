"""What model hubs have in common: an API that redirects to signed, expiring addresses of a content server.

A file's address is asked for once and kept until it is refused, since hubs limit requests and not bytes
(https://huggingface.co/docs/hub/rate-limits). The hub's credentials go to the hub alone.
"""

import json
import re
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import urljoin, urlsplit

from modelmover.errors import DataError, NotFoundError, PermissionDeniedError, TransientError
from modelmover.files import SourceFile
from modelmover.http import Connections, Response, without_query

REDIRECTS = (301, 302, 303, 307, 308)
MAX_REDIRECTS = 5

RATE_LIMIT = re.compile(r";\s*t=(\d+)")

CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


class AddressError(TransientError):
    """The address that the API gave for a file cannot be reached, or refuses. That it is busy is another matter."""


class Hub:
    """An API at ``endpoint``; ``headers`` are its own, such as a token, and are sent nowhere else."""

    def __init__(self, endpoint: str, headers: Mapping[str, str]) -> None:
        self.endpoint = endpoint.rstrip("/")
        self._headers = headers
        self._connections = Connections()
        self._addresses: dict[str, str] = {}
        self._lock = threading.Lock()

    def get_json(self, path: str) -> tuple[Any, Mapping[str, str]]:
        """The answer of the API and its headers. Raises MoveError or TransientError."""
        # A repository that was renamed is a redirect, too.
        response = self._follow(f"{self.endpoint}{path}", 0, {}, leaves=False)
        body = self._checked(response).read()
        try:
            return json.loads(body), response.headers
        except ValueError:
            raise TransientError(f"{without_query(response.url)}: the answer is not JSON") from None

    def open(self, path: str, file: SourceFile, offset: int, headers: Mapping[str, str]) -> Response:
        """The bytes of ``file`` from ``offset`` on, by way of ``path`` of the API; ``headers`` are for the API. Raises
        MoveError, AddressError or TransientError."""
        with self._lock:
            known = self._addresses.get(file.path)
        response = self._follow(known or f"{self.endpoint}{path}", offset, headers, leaves=True)
        url = response.url
        if self._is_own(url):
            self._checked(response)
        elif response.status not in (200, 206):
            # Expired, most likely: the next attempt asks for another address.
            response.close()
            self.forget(file)
            kind = TransientError if _is_busy(response.status) else AddressError
            raise kind(f"{without_query(url)}: status {response.status}", wait=retry_after(response))
        else:
            with self._lock:
                self._addresses[file.path] = url
        return positioned(response, file, offset)

    def forget(self, file: SourceFile) -> None:
        """Asks the API anew at the next ``open``."""
        with self._lock:
            self._addresses.pop(file.path, None)

    def _follow(self, url: str, offset: int, headers: Mapping[str, str], *, leaves: bool) -> Response:
        """The answer at the end of all redirects; only with ``leaves`` may they lead away from the API."""
        response = self._get(url, offset, headers)
        for _ in range(MAX_REDIRECTS):
            if response.status not in REDIRECTS:
                break
            response.close()
            url = urljoin(url, response.headers.get("location", ""))
            if not leaves and not self._is_own(url):
                raise DataError(
                    f"{self.endpoint} sends its clients on to {without_query(url)}; use that as the endpoint"
                )
            response = self._get(url, offset, headers)
        return response

    def _get(self, url: str, offset: int, headers: Mapping[str, str]) -> Response:
        own = {**self._headers, **headers} if self._is_own(url) else {}
        wanted = {"Range": f"bytes={offset}-"} if offset else {}
        try:
            return self._connections.request("GET", url, headers={**own, **wanted})
        except TransientError as error:
            raise error if self._is_own(url) else AddressError(str(error)) from None

    def _is_own(self, url: str) -> bool:
        return urlsplit(url)[:2] == urlsplit(self.endpoint)[:2]

    def _checked(self, response: Response) -> Response:
        """The answer of the hub's API itself, if it is a good one."""
        where = without_query(response.url)
        if response.status in (200, 206):
            return response
        response.close()
        if response.status == 401:
            raise PermissionDeniedError(
                f"{where}: there is no such repository, or it is private and needs a valid token (status 401)"
            )
        if response.status == 403:
            # Hubs also answer so when they are busy; only the last attempt tells.
            raise TransientError(
                f"{where}: the hub refuses access (status 403); a private or gated repository needs a valid token",
                wait=retry_after(response),
                final=PermissionDeniedError,
            )
        if response.status == 404:
            raise NotFoundError(f"{where}: the hub has no such repository, revision or file (status 404)")
        if not _is_busy(response.status):
            raise DataError(f"{where}: the hub answered with status {response.status}")
        raise TransientError(f"{where}: status {response.status}", wait=retry_after(response))


def _is_busy(status: int) -> bool:
    return status >= 500 or status in (408, 425, 429)


def retry_after(response: Response) -> float | None:
    """Seconds that the server asks to wait, if it does; Hugging Face says ``ratelimit: "api";r=0;t=55``."""
    value = response.headers.get("retry-after", "")
    limit = RATE_LIMIT.search(response.headers.get("ratelimit", ""))
    return float(value) if value.isdigit() else float(limit[1]) if limit and response.status == 429 else None


def positioned(response: Response, file: SourceFile, offset: int) -> Response:
    """``response``, once its headers prove that its body is ``file`` from ``offset`` on. Raises TransientError: another
    server behind the same name may know better."""
    try:
        _require_position(response, file, offset)
    except TransientError:
        response.close()
        raise
    return response


def _require_position(response: Response, file: SourceFile, offset: int) -> None:
    where = without_query(response.url)
    if response.headers.get("content-encoding", "identity") != "identity":
        raise TransientError(f"{where}: the answer is encoded as {response.headers['content-encoding']}")
    length = response.headers.get("content-length")
    if response.status == 206:
        match = CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
        first, last, total = map(int, match.groups()) if match else (-1, -1, -1)
        if (first, last, total) != (offset, file.size - 1, file.size):
            asked = f"{offset}-{file.size - 1}/{file.size}"
            raise TransientError(f"{where}: asked for the bytes {asked}, the answer has {first}-{last}/{total}")
        start = offset
    else:
        start = 0
    if length is not None and int(length) != file.size - start:
        raise TransientError(f"{where}: {file.size - start} bytes are listed, the answer has {length}")
    if start < offset:
        # The range was ignored, as hubs do for files that they serve themselves.
        skip(response, offset)


def skip(response: Response, count: int) -> None:
    """Reads ``count`` bytes for nothing."""
    scratch = memoryview(bytearray(min(count, 2**20)))
    while count:
        done = response.readinto(scratch[: min(count, len(scratch))])
        if done == 0:
            raise TransientError(f"{without_query(response.url)}: the answer broke off")
        count -= done
