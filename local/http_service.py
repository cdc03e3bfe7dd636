"""A small HTTP/1.1 server for emulators of web services: threads, kept connections, bodies at memory speed, faults.

A service subclasses ``Service`` and implements ``handle``; ranges, faults and the log of requests are the base's.
Bodies of requests are received into one buffer of each thread, bodies that are files are sent by the kernel
(``sendfile``).

It stands on the standard library's ``http.server``. aiohttp 3.14 was tried in its place (four uploads or downloads of
512 MiB at once, CRC-64 of what arrives, two cores): 0.61 times the speed and 4 times the CPU per byte when it receives,
0.70 and 1.5 times when it sends. The mover's benchmark would measure the server.
"""

import contextlib
import http.client
import ipaddress
import json
import os
import re
import signal
import socket
import sys
import threading
import traceback
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from email.message import Message
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import ValidationError

from local.faults import Fault, Faults, read_faults

LOOPBACK = "127.0.0.1"
BUFFER_BYTES = 2**20
LOGGED_REQUESTS = 100_000
"""The oldest are forgotten."""

_SECRET_PARAMETER = re.compile("signature|credential|token|accesskeyid", re.IGNORECASE)
_SLOW_STEPS_PER_SECOND = 20


@dataclass(frozen=True)
class FilePart:
    """``size`` bytes of an open file from ``offset`` on."""

    file: BinaryIO
    offset: int
    size: int


class Body:
    """What is sent: bytes and parts of files, one after the other. Closing it closes the files."""

    def __init__(self, *pieces: bytes | FilePart) -> None:
        self._pieces = pieces
        self.size = sum(_size(piece) for piece in pieces)

    @classmethod
    def of_file(cls, path: Path) -> Self:
        """A whole file. Raises OSError."""
        file = path.open("rb")
        return cls(FilePart(file, 0, os.fstat(file.fileno()).st_size))

    def cut(self, start: int, stop: int) -> "Body":
        """The bytes from ``start`` to before ``stop``."""
        pieces: list[bytes | FilePart] = []
        position = 0
        for piece in self._pieces:
            first, last = max(start - position, 0), min(stop - position, _size(piece))
            if first < last:
                pieces.append(
                    replace(piece, offset=piece.offset + first, size=last - first)
                    if isinstance(piece, FilePart)
                    else piece[first:last]
                )
            position += _size(piece)
        return Body(*pieces)

    def flipped(self, offset: int) -> "Body":
        """The same with the lowest bit of the byte at ``offset`` inverted."""
        byte = self.cut(offset, offset + 1).read()
        return Body(
            *self.cut(0, offset)._pieces, bytes(value ^ 1 for value in byte), *self.cut(offset + 1, self.size)._pieces
        )

    def read(self) -> bytes:
        """All of it."""
        return b"".join(
            os.pread(piece.file.fileno(), piece.size, piece.offset) if isinstance(piece, FilePart) else piece
            for piece in self._pieces
        )

    def send(self, connection: socket.socket) -> None:
        """Sends all of it. Raises OSError."""
        for piece in self._pieces:
            if isinstance(piece, FilePart):
                _send_file(connection, piece)
            else:
                connection.sendall(piece)

    def close(self) -> None:
        """Closes the files."""
        for piece in self._pieces:
            if isinstance(piece, FilePart):
                piece.file.close()


def _size(piece: bytes | FilePart) -> int:
    return piece.size if isinstance(piece, FilePart) else len(piece)


def _send_file(connection: socket.socket, part: FilePart) -> None:
    offset, end = part.offset, part.offset + part.size
    while offset < end:
        sent = os.sendfile(connection.fileno(), part.file.fileno(), offset, end - offset)
        if sent == 0:
            raise OSError("the file became shorter while it was sent")
        offset += sent


@dataclass(frozen=True, kw_only=True)
class Response:
    """An answer. With ``ranged``, the request's Range header is applied to it."""

    status: int = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body = field(default_factory=Body)
    ranged: bool = False

    @classmethod
    def json(cls, value: Any, *, status: int = HTTPStatus.OK, headers: Mapping[str, str] | None = None) -> Self:
        """``value`` as JSON."""
        body = Body(json.dumps(value).encode())
        return cls(status=status, headers={"Content-Type": "application/json", **(headers or {})}, body=body)


@dataclass
class LoggedRequest:
    """One request as the log has it: it enters when its head was read; ``status`` is None until it is answered."""

    method: str
    path: str
    """Decoded."""
    query: Mapping[str, str]
    """Decoded, without values of signatures and the like."""
    status: int | None = None
    bytes_in: int = 0
    """Of the body, as received so far."""
    bytes_out: int = 0
    """Of the body; where a connection broke while it was sent, unknown and given in full."""


class RequestBody:
    """The body of a request, to be read once."""

    def __init__(self, stream: BinaryIO, headers: Message, log: LoggedRequest, fault: Fault | None) -> None:
        self._stream = stream
        self._log = log
        self._flip = fault.offset if fault and fault.action == "flip-request" else None
        self._reset = fault.offset if fault and fault.action == "reset-request" else None
        chunked = (headers.get("Transfer-Encoding") or "").lower() == "chunked"
        self._parts = self._chunks() if chunked else iter([int(headers.get("Content-Length") or 0)])
        self._views = self._read()

    def __iter__(self) -> Iterator[memoryview]:
        """The body piece by piece; each is valid until the next is asked for. Raises ResetError, OSError."""
        return self._views

    def read(self, limit: int = 16 * BUFFER_BYTES) -> bytes:
        """All of it. Raises RefusedError if it is longer than ``limit`` bytes."""
        whole = bytearray()
        for piece in self:
            whole += piece
            if len(whole) > limit:
                raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"more than {limit} bytes")
        return bytes(whole)

    def drain(self) -> None:
        """Reads what is left, so that the connection can be used again."""
        for _ in self:
            pass

    def _chunks(self) -> Iterator[int]:
        while size := int(self._line().split(b";")[0], 16):
            yield size
            self._line()
        while self._line().strip():
            pass

    def _line(self) -> bytes:
        line = self._stream.readline()
        if not line.endswith(b"\n"):
            raise ConnectionResetError("the client closed within a body")
        return line

    def _read(self) -> Iterator[memoryview]:
        buffer = _buffer()
        if self._reset == 0:
            raise ResetError
        for part in self._parts:
            left = part
            while left:
                piece = buffer[: min(left, BUFFER_BYTES)]
                if self._reset is not None:
                    piece = piece[: max(self._reset - self._log.bytes_in, 1)]
                read = self._stream.readinto(piece)  # type: ignore[attr-defined]
                if read < len(piece):
                    raise ConnectionResetError("the client closed within a body")
                self._flip_in(piece)
                self._log.bytes_in += read
                left -= read
                if self._reset is not None and self._log.bytes_in >= self._reset:
                    raise ResetError
                yield piece

    def _flip_in(self, piece: memoryview) -> None:
        if self._flip is not None and self._log.bytes_in <= self._flip < self._log.bytes_in + len(piece):
            piece[self._flip - self._log.bytes_in] ^= 1


_threads = threading.local()


def _buffer() -> memoryview:
    if not hasattr(_threads, "buffer"):
        _threads.buffer = memoryview(bytearray(BUFFER_BYTES))
    return _threads.buffer  # type: ignore[no-any-return]


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request whose body is still to be read."""

    method: str
    target: str
    """``path?query`` as the client sent it."""
    headers: Message
    body: RequestBody
    fault: Fault | None

    @property
    def path(self) -> str:
        """Decoded."""
        return unquote(urlsplit(self.target).path)

    @property
    def query(self) -> dict[str, str]:
        """Decoded; a parameter without a value has the empty one."""
        return _query(self.target)

    @property
    def size_error(self) -> int:
        """Bytes that a ``stale-size`` fault adds to the sizes in a listing."""
        return self.fault.offset if self.fault and self.fault.action == "stale-size" else 0


def _query(target: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(target).query, keep_blank_values=True))


class RefusedError(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def invalid(error: ValidationError) -> RefusedError:
    """The refusal of a body that a model does not accept: place and problem, but not the value, which may be secret."""
    problems = (f"{'.'.join(map(str, item['loc'])) or 'body'}: {item['msg']}" for item in error.errors())
    return RefusedError(HTTPStatus.BAD_REQUEST, "; ".join(problems))


class ResetError(Exception):
    """The connection is to be reset instead of an answer."""


class Service:
    """A web service, on 127.0.0.1 unless told otherwise. As a context manager it serves in threads of this process."""

    def __init__(self, *, port: int = 0, address: str = LOOPBACK) -> None:
        """Binds the port, 0 for any free one. Raises OSError."""
        self.faults = Faults()
        self._log: deque[LoggedRequest] = deque(maxlen=LOGGED_REQUESTS)
        self.stopping = threading.Event()
        self._server = _Server(self, address, port)
        self._thread = threading.Thread(target=self._server.accept_all)

    @property
    def url(self) -> str:
        """Of its root, without a slash at the end."""
        return f"http://{LOOPBACK}:{self._server.server_port}"

    @property
    def requests(self) -> Sequence[LoggedRequest]:
        """What was asked so far, without the control endpoints."""
        return list(self._log)

    def forget_requests(self) -> None:
        """Empties ``requests``."""
        self._log.clear()

    def handle(self, request: Request) -> Response:
        """Serves one request, in a thread of its connection. Raises RefusedError."""
        raise NotImplementedError

    def refusal(self, request: Request, status: int, code: str, message: str) -> Response:
        """An error in the service's own format; ``code`` is the service's name for it."""
        return Response.json({"code": code, "message": message}, status=status)

    def unsatisfiable_range(self, request: Request, whole: Response) -> Response:
        """The answer to a range of which ``whole`` has nothing."""
        status = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
        refusal = self.refusal(request, status, "InvalidRange", "The requested range cannot be satisfied.")
        return replace(refusal, headers={**refusal.headers, "Content-Range": f"bytes */{whole.body.size}"})

    def control(self, request: Request) -> Response:
        """Serves what is below ``/-/``: ``GET health``; ``POST`` and ``DELETE faults``, and ``GET faults``, the number
        of requests that each rule has matched. Services add theirs."""
        match request.method, request.path:
            case "GET", "/-/health":
                return Response()
            case "GET", "/-/faults":
                return Response.json(self.faults.matched())
            case "POST", "/-/faults":
                try:
                    self.faults.add(*read_faults(request.body.read()))
                except ValidationError as error:
                    raise invalid(error) from None
                return Response(status=HTTPStatus.NO_CONTENT)
            case "DELETE", "/-/faults":
                self.faults.clear()
                return Response(status=HTTPStatus.NO_CONTENT)
        raise RefusedError(HTTPStatus.NOT_FOUND, f"no control endpoint {request.method} {request.path}")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop_accepting()
        self._thread.join()
        self.faults.clear()
        self._server.disconnect()
        self._server.server_close()

    def serve_forever(self, *, finish_seconds: float = 0) -> None:
        """Serves until SIGTERM or SIGINT; then no connection is accepted, and requests under way have
        ``finish_seconds`` to end. For the main thread of a process that does nothing else."""
        signals = {signal.SIGTERM, signal.SIGINT}
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        with self:
            signal.sigwait(signals)
            self._server.finish(finish_seconds)

    def log(self, method: str, target: str) -> LoggedRequest:
        """Enters a request into the log."""
        query = {name: "***" if _SECRET_PARAMETER.search(name) else value for name, value in _query(target).items()}
        logged = LoggedRequest(method, unquote(urlsplit(target).path), query)
        if not logged.path.startswith("/-/"):
            self._log.append(logged)
        return logged


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    # The threads end when their connections do, and closing the server waits for them.
    daemon_threads = False

    def __init__(self, service: Service, address: str, port: int) -> None:
        self.service = service
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._under_way = 0
        self._idle = threading.Condition()
        self._accepting = True
        super().__init__((address, port), _Handler)

    def accept_all(self) -> None:
        """Accepts connections until ``stop_accepting``, for which ``serve_forever`` would have to look now and then."""
        while self._accepting:
            with contextlib.suppress(OSError):
                self.process_request(*self.get_request())

    def stop_accepting(self) -> None:
        self.service.stopping.set()
        self._accept_no_more()

    def finish(self, seconds: float) -> None:
        """Accepts no more, and waits for the requests under way."""
        self._accept_no_more()
        with self._idle:
            self._idle.wait_for(lambda: self._under_way == 0, seconds)

    def _accept_no_more(self) -> None:
        self._accepting = False
        # Not connected any more after the first time.
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    @contextlib.contextmanager
    def request_under_way(self) -> Iterator[None]:
        with self._idle:
            self._under_way += 1
        try:
            yield
        finally:
            with self._idle:
                self._under_way -= 1
                self._idle.notify_all()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        # Without the orderly shutdown of the base class, which would come before a reset.
        with self._lock:
            self._connections.discard(request)
            self.close_request(request)

    def disconnect(self) -> None:
        with self._lock:
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            traceback.print_exc()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline:
            self.close_connection = True
        elif self.parse_request():
            try:
                with self.server.request_under_way():
                    self._serve()
            except ResetError:
                self._reset()

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""

    def _serve(self) -> None:
        service = self.server.service
        log = service.log(self.command, self.path)
        cleared = service.faults.cleared
        announced = self.headers.get("Content-Length", "")
        fault = service.faults.take(self.command, self.path, int(announced) if announced.isdecimal() else 0)
        request = Request(
            method=self.command,
            target=self.path,
            headers=self.headers,
            body=RequestBody(self.rfile, self.headers, log, fault),  # type: ignore[arg-type]
            fault=fault,
        )
        if fault and fault.action == "delay":
            service.stopping.wait(fault.seconds)
        elif fault and fault.action == "hold":
            cleared.wait()
        served = response = self._response(request)
        try:
            request.body.drain()
            if fault and fault.action == "lose-answer":
                raise ResetError
            if response.ranged and not (fault and fault.action == "ignore-range"):
                response = _ranged(service, request, response)
            response = _distorted(response, request)
            log.status = response.status
            self._send(response, log, fault)
        finally:
            served.body.close()

    def _response(self, request: Request) -> Response:
        service, fault = self.server.service, request.fault
        if fault and fault.action == "answer":
            response = service.refusal(request, fault.status, fault.code, "a fault on demand")
            waits = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
            return replace(response, headers={**response.headers, **waits})
        try:
            if request.path.startswith("/-/"):
                _require_address(request.headers.get("Host", ""))
                return service.control(request)
            return service.handle(request)
        except RefusedError as error:
            return Response.json({"message": str(error)}, status=error.status)
        except (ResetError, ConnectionError):
            raise
        except Exception:
            traceback.print_exc()
            return service.refusal(request, HTTPStatus.INTERNAL_SERVER_ERROR, "InternalError", "see the server's log")

    def _send(self, response: Response, log: LoggedRequest, fault: Fault | None) -> None:
        body = response.body
        headers = {"Date": formatdate(usegmt=True), "Content-Length": str(body.size), **response.headers}
        if response.status == HTTPStatus.NO_CONTENT:
            del headers["Content-Length"]
        lines = [f"HTTP/1.1 {response.status} {http.client.responses.get(response.status, '')}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        has_body = body.size > 0 and self.command != "HEAD"
        # A head waits for the body that is sent with it, but is not to be lost with a fault.
        self.connection.sendall(
            "\r\n".join([*lines, "", ""]).encode("latin-1"), socket.MSG_MORE if has_body and fault is None else 0
        )
        if not has_body:
            return
        log.bytes_out = body.size
        match fault and fault.action:
            case "truncate-response" | "reset-response" if fault and fault.offset < body.size:
                body.cut(0, fault.offset).send(self.connection)
                log.bytes_out = fault.offset
                if fault.action == "reset-response":
                    raise ResetError
                self.close_connection = True
            case "slow-response" if fault:
                step = max(fault.bytes_per_second // _SLOW_STEPS_PER_SECOND, 1)
                for start in range(0, body.size, step):
                    body.cut(start, start + step).send(self.connection)
                    self.server.service.stopping.wait(step / fault.bytes_per_second)
            case _:
                body.send(self.connection)

    def _reset(self) -> None:
        # Closing sends a reset then.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.close_connection = True


def _require_address(host: str) -> None:
    """Raises RefusedError if a control endpoint is asked for by a name: a web page can have its name lead to this
    machine (DNS rebinding), but cannot send an address in the header Host."""
    name = urlsplit(f"//{host}").hostname or ""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        if name != "localhost":
            raise RefusedError(HTTPStatus.FORBIDDEN, "control endpoints are for addresses, not for names") from None


def _ranged(service: Service, request: Request, whole: Response) -> Response:
    size = whole.body.size
    headers = {**whole.headers, "Accept-Ranges": "bytes"}
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", (request.headers.get("Range") or "").strip())
    if match is None or match.groups() == ("", ""):
        return replace(whole, headers=headers)
    first, last = match.groups()
    if first:
        start, stop = int(first), min(int(last) + 1 if last else size, size)
    else:
        start, stop = max(size - int(last), 0), size
    if start >= stop:
        return service.unsatisfiable_range(request, whole)
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    return replace(whole, status=HTTPStatus.PARTIAL_CONTENT, headers=headers, body=whole.body.cut(start, stop))


def _distorted(response: Response, request: Request) -> Response:
    """The response with the faults that are about its content."""
    fault = request.fault
    content_range = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", response.headers.get("Content-Range", ""))
    match fault and fault.action:
        case "flip-response" if fault:
            return replace(response, body=response.body.flipped(fault.offset))
        case "wrong-content-range" if fault and content_range:
            start, end, size = map(int, content_range.groups())
            changed = f"bytes {start + fault.offset}-{end + fault.offset}/{size}"
            return replace(response, headers={**response.headers, "Content-Range": changed})
        case "stale-size" if fault and content_range:
            start, end, size = map(int, content_range.groups())
            changed = f"bytes {start}-{end}/{size + fault.offset}"
            return replace(response, headers={**response.headers, "Content-Range": changed})
        case "stale-size" if fault and request.method == "HEAD":
            length = str(int(response.headers.get("Content-Length", response.body.size)) + fault.offset)
            return replace(response, headers={**response.headers, "Content-Length": length})
    return response
