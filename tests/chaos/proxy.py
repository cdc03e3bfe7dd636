"""A proxy before a server that does to chosen exchanges what networks, proxies and servers do: asyncio streams, since
no HTTP library sends a malformed answer on purpose.

Each exchange has an upstream connection of its own, and bodies are held in memory: the models of tests are small.
"""

import asyncio
import re
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType

HEAD_END = b"\r\n\r\n"
LIMIT = 64 * 2**20


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer as it goes to the client; nothing is corrected in it."""

    status: int = 200
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""

    def header(self, name: str) -> str | None:
        """The first one of this name."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def having(self, **headers: str | None) -> "Answer":
        """With other headers, None to leave one out; ``_`` stands for the hyphen."""
        changed = {name.replace("_", "-").lower(): value for name, value in headers.items()}
        kept = [(name, value) for name, value in self.headers if name.lower() not in changed]
        return replace(self, headers=[*kept, *((n, v) for n, v in changed.items() if v is not None)])

    @property
    def head(self) -> bytes:
        """Status line and headers."""
        lines = [f"HTTP/1.1 {self.status} X", *(f"{name}: {value}" for name, value in self.headers)]
        return "\r\n".join(lines).encode("latin-1") + HEAD_END


def complete(status: int, body: bytes = b"", **headers: str) -> Answer:
    """A well-formed answer."""
    return Answer(status=status, body=body).having(content_length=str(len(body)), **headers)


@dataclass
class Exchange:
    """One request, and the ways to go on with it. Each action ends with one of them."""

    proxy: "FaultProxy"
    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    writer: asyncio.StreamWriter

    async def forward(self) -> Answer:
        """The server's answer."""
        return await self.proxy._ask(self)

    async def send(self, answer: Answer, *, then_close: bool = False) -> None:
        """Answers the client."""
        self.writer.write(answer.head + (b"" if self.method == "HEAD" else answer.body))
        await self.writer.drain()
        if then_close:
            self.writer.close()

    def reset(self) -> None:
        """Breaks the connection, as a crash does."""
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Action = Callable[[Exchange], Awaitable[None]]


@dataclass
class Rule:
    """``action`` for the exchanges that match, from the ``after``-th on and ``times`` times; None is always."""

    action: Action
    path: str = ""
    method: str = ""
    after: int = 0
    times: int | None = 1
    matched: int = 0

    def takes(self, exchange: Exchange) -> bool:
        """Counts the exchange."""
        if self.method not in ("", exchange.method) or not re.search(self.path, exchange.target):
            return False
        self.matched += 1
        return self.after < self.matched and (self.times is None or self.matched <= self.after + self.times)

    @property
    def happened(self) -> bool:
        """Whether the fault took place at least once."""
        return self.matched > self.after


@dataclass
class FaultProxy:
    """Listens on a port of 127.0.0.1 while it is entered. ``watch`` sees each request, as (number, before its answer or
    after it), in the proxy's own thread."""

    upstream: str
    rules: list[Rule] = field(default_factory=list)
    seen: list[tuple[str, str]] = field(default_factory=list)
    watch: Callable[[int, bool], None] | None = None
    hold: Callable[[int], bool] | None = None
    """Whether the request with this number has to wait still."""

    def __enter__(self) -> "FaultProxy":
        self._loop = asyncio.new_event_loop()
        started = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(started,), name="fault-proxy")
        self._thread.start()
        started.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    @property
    def url(self) -> str:
        """Takes the place of ``upstream``."""
        return f"http://127.0.0.1:{self.port}"

    def reset(self, *rules: Rule) -> None:
        """Other rules, and no requests seen."""
        self.rules, self.seen, self.watch, self.hold = list(rules), [], None, None

    def _serve(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._client, "127.0.0.1", 0, limit=LIMIT))
        self.port = int(server.sockets[0].getsockname()[1])
        started.set()
        self._loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while not writer.is_closing():
                method, target, headers = _parsed((await reader.readuntil(HEAD_END))[: -len(HEAD_END)])
                body = await _body(reader, headers)
                await self._exchange(Exchange(self, method, target, headers, body, writer))
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            # The client or the server went away, as kills and faults make them, or the proxy ends.
            pass
        finally:
            writer.close()

    async def _exchange(self, exchange: Exchange) -> None:
        self.seen.append((exchange.method, exchange.target))
        number = len(self.seen)
        while self.hold is not None and self.hold(number):
            await asyncio.sleep(0.005)
        if self.watch is not None:
            self.watch(number, True)
        rule = next((rule for rule in self.rules if rule.takes(exchange)), None)
        if rule is not None:
            await rule.action(exchange)
            return
        answer = await exchange.forward()
        if self.watch is not None:
            self.watch(number, False)
        await exchange.send(answer)

    async def _ask(self, exchange: Exchange) -> Answer:
        host, port = self.upstream.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=LIMIT)
        try:
            dropped = ("connection", "content-length", "transfer-encoding")
            kept = [(name, value) for name, value in exchange.headers if name.lower() not in dropped]
            lines = [f"{exchange.method} {exchange.target} HTTP/1.1", *(f"{name}: {value}" for name, value in kept)]
            lines += ["Connection: close", f"Content-Length: {len(exchange.body)}"]
            writer.write("\r\n".join(lines).encode("latin-1") + HEAD_END + exchange.body)
            status, _, headers = _parsed((await reader.readuntil(HEAD_END))[: -len(HEAD_END)], answer=True)
            body = b"" if exchange.method == "HEAD" else await _body(reader, headers, to_the_end=True)
        finally:
            writer.close()
        answer = Answer(status=int(status), headers=headers, body=body).having(connection=None, transfer_encoding=None)
        if exchange.method != "HEAD" and answer.header("content-length") is None:
            answer = answer.having(content_length=str(len(body)))
        if location := answer.header("location"):
            answer = answer.having(location=location.replace(self.upstream, self.url))
        return answer


def _parsed(head: bytes, *, answer: bool = False) -> tuple[str, str, list[tuple[str, str]]]:
    """Method, target and headers of a request; status, reason and headers of an answer."""
    first, *lines = head.decode("latin-1").split("\r\n")
    one, two, *_ = [*first.split(" ")[1 if answer else 0 :], ""]
    headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    return one, two, headers


async def _body(reader: asyncio.StreamReader, headers: list[tuple[str, str]], *, to_the_end: bool = False) -> bytes:
    found = {name.lower(): value for name, value in headers}
    if found.get("transfer-encoding", "").lower() == "chunked":
        whole = b""
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            whole += await reader.readexactly(size)
            await reader.readexactly(2)
        return whole
    if "content-length" in found:
        return await reader.readexactly(int(found["content-length"]))
    return await reader.read(-1) if to_the_end else b""
