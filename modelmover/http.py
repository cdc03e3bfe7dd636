"""HTTP over connections that are kept open, for all threads.

Bodies go from and into buffers of the caller, so nothing is copied that need not be.
"""

import http.client
import socket
import ssl
import threading
from collections.abc import Mapping
from functools import cache
from typing import Any
from urllib.parse import SplitResult, urlsplit, urlunsplit

from modelmover.checksums import Data
from modelmover.errors import MoveError, TransientError

CONNECT_SECONDS = 10
IDLE_SECONDS = 60
"""Longest time for one piece to be sent or received."""

SLICE_BYTES = 2**20
"""Bodies are sent in pieces of this size, each with its own time."""

SMALL_BODY_BYTES = 64 * 2**20
"""Limit of answers that are read into memory as a whole: listings, indexes, error texts."""

NETWORK_ERRORS = (OSError, http.client.HTTPException)


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
        except NETWORK_ERRORS as error:
            raise TransientError(f"{without_query(self.url)}: {describe(error)}") from None

    def read(self) -> bytes:
        """The whole body, which is then closed. Raises TransientError."""
        try:
            body = self._raw.read(SMALL_BODY_BYTES + 1)
        except NETWORK_ERRORS as error:
            raise TransientError(f"{without_query(self.url)}: {describe(error)}") from None
        finally:
            self.close()
        if len(body) > SMALL_BODY_BYTES:
            raise TransientError(f"{without_query(self.url)}: the answer has more than {SMALL_BODY_BYTES} bytes")
        if not self._is_whole(len(body)):
            raise TransientError(f"{without_query(self.url)}: the answer broke off after {len(body)} bytes")
        return body

    def close(self) -> None:
        """Ends the answer. Its connection is kept for the next request only if the body was read to its end."""
        if self._connection is not None:
            self._connection.release(reusable=self._raw.isclosed())
            self._connection = None

    def _is_whole(self, count: int) -> bool:
        announced = self.headers.get("content-length")
        return announced is None or not self._has_body or int(announced) == count


class Connections:
    """A pool of connections for all threads."""

    def __init__(self) -> None:
        self._idle: dict[tuple[str, str], list[_Connection]] = {}
        self._lock = threading.Lock()

    def request(self, method: str, url: str, *, headers: Mapping[str, str] | None = None, body: Data = b"") -> Response:
        """Sends a request; redirects are not followed. Raises TransientError if there is no answer."""
        parts = urlsplit(url)
        target = urlunsplit(("", "", parts.path or "/", parts.query, ""))
        all_headers = {"Accept-Encoding": "identity", **(headers or {})}
        connection, is_fresh = self._take(parts)
        while True:
            try:
                raw = connection.send(method, target, all_headers, body)
                return Response(method, url, raw, connection)
            except ValueError:
                connection.release(reusable=False)
                # The text of the error would show the header, which may be a token.
                raise MoveError(f"{without_query(url)}: a header or the address cannot be sent") from None
            except NETWORK_ERRORS as error:
                connection.release(reusable=False)
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

    def send(self, method: str, target: str, headers: Mapping[str, str], body: Data) -> http.client.HTTPResponse:
        if self._client.sock is None:
            self._client.connect()
            connected: Any = self._client.sock
            connected.settimeout(IDLE_SECONDS)
        if len(body) <= SLICE_BYTES:
            self._client.request(method, target, body=body or None, headers=dict(headers))
        else:
            slices = (memoryview(body)[i : i + SLICE_BYTES] for i in range(0, len(body), SLICE_BYTES))
            length = {"Content-Length": str(len(body))}
            self._client.request(method, target, body=slices, headers={**headers, **length})
        return self._client.getresponse()

    def release(self, *, reusable: bool) -> None:
        if reusable:
            self._pool.put_back(self)
        else:
            self._client.close()


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def without_query(url: str) -> str:
    """``url`` for people: a query may carry a signature."""
    return urlunsplit(urlsplit(url)._replace(query="", fragment=""))


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
