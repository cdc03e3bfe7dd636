"""What model hubs have in common: an API that redirects to signed, expiring addresses of a content server.

A file's address is asked for once and kept until it is refused, since hubs limit requests and not bytes
(https://huggingface.co/docs/hub/rate-limits). The hub's credentials go to the hub alone, and nothing that a hub says is
believed before its type and size were looked at.
"""

import json
import re
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urljoin, urlsplit

from ..errors import (
    DataError,
    MoveError,
    NotFoundError,
    PermissionDeniedError,
    TransientError,
    UnavailableError,
)
from ..files import MAX_FILES, SourceFile
from ..http import Connections, Response, length_of, require_private, retry_after, split_url, without_query
from ..reader import SLOW_BYTES_PER_SECOND, SLOW_SECONDS

REDIRECTS = (301, 302, 303, 307, 308)
MAX_REDIRECTS = 5

PAGE_BYTES = 4 * 2**20
"""Limit of one page of a listing, in bytes: 3,000 entries of ModelScope have 2 MiB. JSON takes up to 33 times its size
in memory."""

LISTING_PAGES = 1000
LISTING_SECONDS = 600
"""Limits of one listing, with all its pages."""

COMMIT = re.compile(r"[0-9a-fA-F]{7,64}")

CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})")


MALFORMED = (KeyError, IndexError, TypeError, AttributeError, ValueError, RecursionError, OverflowError)
"""What comes of reading a document that has another form."""


class AddressError(TransientError):
    """The address that the API gave for a file cannot be reached, or refuses. That it is busy is another matter."""


class Hub:
    """An API at ``endpoint``; ``headers`` are its own, such as a token, and are sent nowhere else. Raises UsageError if
    they would be sent in the clear."""

    def __init__(self, endpoint: str, headers: Mapping[str, str]) -> None:
        if headers:
            require_private(endpoint, "the hub's token")
        self.endpoint = endpoint.rstrip("/")
        self._headers = headers
        self._connections = Connections()
        self._addresses: dict[str, str] = {}
        self._lock = threading.Lock()
        self._has_answered = False
        self._pages = 0
        self._listing_since = 0.0

    def begin_listing(self) -> None:
        """Begins to count pages and seconds."""
        self._pages, self._listing_since = 0, time.monotonic()

    def get_json(self, path: str) -> tuple[Any, Mapping[str, str]]:
        """The next page of a listing and its headers. Raises MoveError or TransientError."""
        self._pages += 1
        if self._pages > LISTING_PAGES:
            raise DataError(f"{self.endpoint}: the listing has more than {LISTING_PAGES} pages")
        if time.monotonic() - self._listing_since > LISTING_SECONDS:
            raise UnavailableError(f"{self.endpoint}: the listing took more than {LISTING_SECONDS} s")
        # A repository that was renamed is a redirect, too.
        response = self._follow(f"{self.endpoint}{path}", 0, {}, leaves=False)
        body = self._checked(response).read(PAGE_BYTES)
        try:
            return json.loads(body), response.headers
        except (ValueError, RecursionError):
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
        """Asks the API again at the next ``open``."""
        with self._lock:
            self._addresses.pop(file.path, None)

    def _follow(self, url: str, offset: int, headers: Mapping[str, str], *, leaves: bool) -> Response:
        """The answer at the end of all redirects; only with ``leaves`` may they lead away from the API, and never from
        HTTPS to plain HTTP."""
        response = self._get(url, offset, headers)
        for _ in range(MAX_REDIRECTS):
            if response.status not in REDIRECTS:
                return response
            response.close()
            following = _join(url, response.headers.get("location", ""))
            if not leaves and not self._is_own(following):
                raise DataError(
                    f"{self.endpoint} sends its clients on to {without_query(following)}; use that as the endpoint"
                )
            if urlsplit(url).scheme == "https" and urlsplit(following).scheme != "https":
                raise AddressError(f"{without_query(url)} redirects from HTTPS to {without_query(following)}; refused")
            url = following
            response = self._get(url, offset, headers)
        if response.status in REDIRECTS:
            response.close()
            raise TransientError(
                f"{without_query(url)}: redirected more than {MAX_REDIRECTS} times", refusal=True, final=DataError
            )
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
            self._has_answered = True
            return response
        response.close()
        if response.status == 403:
            # Hubs also answer so when they are busy; only the last attempt tells.
            raise TransientError(
                f"{where}: the hub refuses access (status 403); a private or gated repository needs a valid token",
                wait=retry_after(response),
                final=PermissionDeniedError,
            )
        if _is_busy(response.status):
            raise TransientError(f"{where}: status {response.status}", wait=retry_after(response))
        kind, text = _refusal(response.status)
        if not self._has_answered:
            raise kind(f"{where}: {text}")
        # It has served this run before, so one of its servers may be wrong, or the repository has changed.
        raise TransientError(
            f"{where}: {text}; it answered before, so the repository may have changed since it was listed: run again",
            refusal=True,
            final=kind,
        )


def _refusal(status: int) -> tuple[type[MoveError], str]:
    match status:
        case 401:
            return PermissionDeniedError, (
                "there is no such repository, or it is private and needs a valid token (status 401)"
            )
        case 404:
            return NotFoundError, "the hub has no such repository, revision or file (status 404)"
    return DataError, f"the hub answered with status {status}"


def _is_busy(status: int) -> bool:
    return status >= 500 or status in (408, 425, 429)


def _join(url: str, location: str) -> str:
    """Raises AddressError for a redirect that leads nowhere."""
    try:
        following = urljoin(url, location)
        split_url(following)
    except (ValueError, TransientError):
        raise AddressError(f"{without_query(url)} redirects to an unusable address") from None
    return following


def unique(files: Iterable[SourceFile], source: str) -> list[SourceFile]:
    """``files``, of which each path is there once. Raises DataError."""
    found: dict[str, SourceFile] = {}
    for file in files:
        if found.setdefault(file.path, file) is not file:
            raise DataError(f"{source}: the listing has {file.path} twice")
        if len(found) > MAX_FILES:
            raise DataError(f"{source}: the listing has more than {MAX_FILES} files")
    return list(found.values())


def unknown_type(path: object, kind: object) -> DataError:
    """An entry of a listing that is neither a file nor a folder: it may be needed, so it is not skipped."""
    return DataError(
        f"the listing has {str(path)[:200]!r} of the unknown type {str(kind)[:50]!r}; choose another revision or hub"
    )


def commit_of(value: object, endpoint: str) -> str:
    """``value`` as the name of a commit, which becomes part of addresses. Raises DataError."""
    if not isinstance(value, str) or not COMMIT.fullmatch(value):
        raise DataError(f"{endpoint}: the listing has no usable commit")
    return value


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
    length = length_of(response)
    if response.status == 206:
        match = CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
        first, last, total = map(int, match.groups()) if match else (-1, -1, -1)
        if (first, last, total) != (offset, file.size - 1, file.size):
            asked = f"{offset}-{file.size - 1}/{file.size}"
            raise TransientError(f"{where}: asked for the bytes {asked}, the answer has {first}-{last}/{total}")
        start = offset
    else:
        start = 0
    if length is not None and length != file.size - start:
        raise TransientError(f"{where}: {file.size - start} bytes are listed, the answer has {length}")
    if start < offset:
        # The range was ignored, as hubs do for files that they serve themselves.
        skip(response, offset)


def skip(response: Response, count: int) -> None:
    """Reads ``count`` bytes for nothing. Raises TransientError if they do not come, or too slowly."""
    scratch = memoryview(bytearray(min(count, 2**20)))
    until = time.monotonic() + SLOW_SECONDS + count / SLOW_BYTES_PER_SECOND
    while count:
        done = response.readinto(scratch[: min(count, len(scratch))])
        if done == 0 or time.monotonic() > until:
            raise TransientError(f"{without_query(response.url)}: the answer broke off")
        count -= done
