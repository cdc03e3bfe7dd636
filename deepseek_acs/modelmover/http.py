"""HTTP over connections that are kept open, for all threads.

Bodies go from and into buffers of the caller, so nothing is copied that need not be.
"""

import contextlib
import encodings.idna  # noqa: F401 - else imported at the first look-up of a name, when no file may be open any more
import http.client
import ipaddress
import re
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any
from urllib.parse import SplitResult, urlsplit, urlunsplit

from .checksums import Data
from .errors import TransientError, UsageError, exhausted, is_exhaustion

CONNECT_SECONDS = 10
IDLE_SECONDS = 60
"""Longest time for one piece to be sent or received."""

ANSWER_SECONDS = 120
"""Longest time for the head of an answer, and again for a small body: one byte within each IDLE_SECONDS is an answer
that never ends."""

WATCH_SECONDS = 1.0

SLICE_BYTES = 2**20
"""Bodies are sent in pieces of this size, each with its own time."""

SMALL_BODY_BYTES = 64 * 2**20
"""Limit of answers that are read into memory as a whole: manifests, pages of a listing, error texts."""

NETWORK_ERRORS = (OSError, http.client.HTTPException)

HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9a-fA-F:.]+")

DIGITS = re.compile(r"[0-9]{1,20}")

RATE_LIMIT = re.compile(r";\s*t=([0-9]{1,9})")


class Response:
    """An answer whose body is still to be read, by ``read`` or ``readinto``, or given up by ``close``."""

    def __init__(self, method: str, url: str, raw: http.client.HTTPResponse, connection: "_Connection") -> None:
        self.url = url
        self._has_body = method != "HEAD"
        self.status = raw.status
        self.headers: Mapping[str, str] = {name.lower(): value for name, value in raw.headers.items()}
        self._raw = raw
        self._connection: _Connection | None = connection

    def readinto(self, buffer: memoryview) -> int:
        """Reads what is there, up to the size of ``buffer``; 0 at the end. Raises TransientError."""
        raw: Any = self._raw
        try:
            if raw.isclosed() or raw.chunked or raw.length is None:
                return int(raw.readinto(buffer))
            # The response's own readinto waits until the buffer is full, however slowly that goes.
            count: int = raw.fp.readinto1(buffer[: raw.length])
            raw.length -= count
            if raw.length == 0 or count == 0:
                raw.readinto(bytearray(0 if count else 1))  # ends the response
            return count
        except (*NETWORK_ERRORS, ValueError) as error:
            raise TransientError(f"{without_query(self.url)}: {describe(error)}") from None

    def read(self, limit: int = SMALL_BODY_BYTES) -> bytes:
        """The whole body of at most ``limit`` bytes, which is then closed. Raises TransientError."""
        where = without_query(self.url)
        watched = _WATCH.begin(self._connection) if self._connection is not None else None
        try:
            body = self._raw.read(limit + 1)
        except (*NETWORK_ERRORS, ValueError) as error:
            raise TransientError(f"{where}: {describe(error)}") from None
        finally:
            in_time = watched is None or _WATCH.end(watched)
            self.close()
        if not in_time:
            raise TransientError(f"{where}: the answer did not end within {ANSWER_SECONDS} s")
        if len(body) > limit:
            raise TransientError(f"{where}: the answer has more than {limit} bytes")
        if self._has_body and length_of(self) not in (None, len(body)):
            raise TransientError(f"{where}: the answer broke off after {len(body)} bytes")
        return body

    def close(self) -> None:
        """Ends the answer. Its connection is kept for the next request only if the body was read to its end."""
        if self._connection is not None:
            self._connection.release(reusable=self._raw.isclosed())
            self._connection = None


def number(text: str | None) -> int | None:
    """A number of a header or a document; None if it is not one."""
    return int(text) if text is not None and DIGITS.fullmatch(text) else None


def length_of(response: Response) -> int | None:
    """The announced length of the body in bytes, None if there is none. Raises TransientError for one that is not a
    number."""
    text = response.headers.get("content-length")
    if text is not None and number(text) is None:
        raise TransientError(f"{without_query(response.url)}: the answer has no usable length")
    return number(text)


def retry_after(response: Response) -> float | None:
    """Seconds that the server asks to wait, if it does; Hugging Face says ``ratelimit: "api";r=0;t=55``."""
    text = response.headers.get("retry-after", "")
    if (seconds := number(text)) is not None:
        return float(seconds)
    if (until := date(text)) is not None:
        now = date(response.headers.get("date", "")) or datetime.now(UTC)
        return max(0.0, (until - now).total_seconds())
    limit = RATE_LIMIT.search(response.headers.get("ratelimit", ""))
    return float(limit[1]) if limit and response.status == 429 else None


def date(text: str) -> datetime | None:
    """A date of a header; None if it is not one."""
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


class Connections:
    """A pool of connections for all threads."""

    def __init__(self) -> None:
        self._idle: dict[tuple[str, str], list[_Connection]] = {}
        self._lock = threading.Lock()

    def request(self, method: str, url: str, *, headers: Mapping[str, str] | None = None, body: Data = b"") -> Response:
        """Sends a request; redirects are not followed. Raises TransientError if there is no answer, ResourceError if
        this machine has no room for another connection."""
        parts = split_url(url)
        target = urlunsplit(("", "", parts.path or "/", parts.query, ""))
        all_headers = {"Accept-Encoding": "identity", **(headers or {})}
        connection, is_fresh = self._take(parts)
        while True:
            try:
                raw = connection.send(method, target, all_headers, body)
                return Response(method, url, raw, connection)
            except UnicodeError:
                connection.release(reusable=False)
                raise TransientError(f"{without_query(url)}: the address cannot be used", refusal=True) from None
            except ValueError:
                connection.release(reusable=False)
                # The text of the error would show the header, which may be a token.
                raise UsageError(f"{without_query(url)}: a header cannot be sent; check the arguments") from None
            except NETWORK_ERRORS as error:
                connection.release(reusable=False)
                if is_exhaustion(error):
                    raise exhausted(error) from None
                if is_fresh or isinstance(error, TimeoutError):
                    raise TransientError(f"{without_query(url)}: {describe(error)}") from None
                # The server had closed a connection that was idle, which says nothing about the request.
                connection, is_fresh = _Connection(self, parts), True

    def _take(self, parts: SplitResult) -> "tuple[_Connection, bool]":
        with self._lock:
            idle = self._idle.get((parts.scheme, parts.netloc))
            return (idle.pop(), False) if idle else (_Connection(self, parts), True)

    def put_back(self, connection: "_Connection") -> None:
        """Keeps an idle connection."""
        with self._lock:
            self._idle.setdefault(connection.key, []).append(connection)


class _Connection:
    def __init__(self, pool: Connections, parts: SplitResult) -> None:
        self.key = parts.scheme, parts.netloc
        self._pool = pool
        host, port = parts.hostname or "", parts.port
        self._client = (
            http.client.HTTPSConnection(host, port, timeout=CONNECT_SECONDS, context=_tls())
            if parts.scheme == "https"
            else http.client.HTTPConnection(host, port, timeout=CONNECT_SECONDS)
        )

        self._socket: socket.socket | None = None

    def send(self, method: str, target: str, headers: Mapping[str, str], body: Data) -> http.client.HTTPResponse:
        if self._client.sock is None:
            self._client.connect()
            # The client forgets its socket when an answer without a length takes it over.
            connected: Any = self._client.sock
            connected.settimeout(IDLE_SECONDS)
            self._socket = connected
        if len(body) <= SLICE_BYTES:
            self._client.request(method, target, body=body or None, headers=dict(headers))
        else:
            slices = (memoryview(body)[i : i + SLICE_BYTES] for i in range(0, len(body), SLICE_BYTES))
            length = {"Content-Length": str(len(body))}
            self._client.request(method, target, body=slices, headers={**headers, **length})
        watched = _WATCH.begin(self)
        try:
            return self._client.getresponse()
        except NETWORK_ERRORS:
            if not _WATCH.end(watched):
                raise TimeoutError from None
            raise
        finally:
            _WATCH.end(watched)

    def interrupt(self) -> None:
        """Ends what another thread waits for on this connection."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def release(self, *, reusable: bool) -> None:
        if reusable:
            self._pool.put_back(self)
        else:
            self._client.close()


class _Watch:
    """Interrupts connections whose time is over: a socket's own timeout begins again with each byte."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[object, tuple[float, _Connection]] = {}
        self._thread: threading.Thread | None = None

    def begin(self, connection: _Connection) -> object:
        """Gives ``connection`` ANSWER_SECONDS from now on."""
        token = object()
        with self._lock:
            self._running[token] = time.monotonic() + ANSWER_SECONDS, connection
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="watch", daemon=True)
                thread.start()
                self._thread = thread
        return token

    def end(self, token: object) -> bool:
        """Ends what ``begin`` began; False if its time was over before."""
        with self._lock:
            return self._running.pop(token, None) is not None

    def _run(self) -> None:
        while True:
            time.sleep(WATCH_SECONDS)
            now = time.monotonic()
            with self._lock:
                over = [(token, connection) for token, (end, connection) in self._running.items() if end < now]
                for token, _ in over:
                    del self._running[token]
            for _, connection in over:
                connection.interrupt()


_WATCH = _Watch()


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def split_url(url: str) -> SplitResult:
    """The parts of an address with a usable host and port. Raises TransientError: a server gave it."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.port != 0 and HOST.fullmatch(parts.hostname or "")
    except ValueError:
        usable = None
    if not usable:
        raise TransientError("the address cannot be used: it has no usable host and port", refusal=True)
    return parts


def is_loopback(url: str) -> bool:
    """Whether ``url`` leads to this machine itself."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def require_private(url: str, what: str) -> None:
    """Raises UsageError if ``what``, a secret, would be readable on the way to ``url``."""
    if urlsplit(url).scheme != "https" and not is_loopback(url):
        raise UsageError(f"{url} is plain HTTP, and {what} would be readable on the way; write https://")


def without_query(url: str) -> str:
    """``url`` for people: a query may carry a signature."""
    try:
        return urlunsplit(urlsplit(url)._replace(query="", fragment=""))
    except ValueError:
        return "an unusable address"


def describe(error: Exception) -> str:
    """A network error for people."""
    match error:
        case ssl.SSLCertVerificationError():
            return f"the certificate is not trusted ({error.verify_message})"
        case socket.gaierror():
            return "the host's name cannot be resolved"
        case ConnectionRefusedError():
            return "the connection was refused"
        case TimeoutError():
            return f"no answer within {IDLE_SECONDS} s"
        case _:
            return f"the connection broke ({type(error).__name__})"
