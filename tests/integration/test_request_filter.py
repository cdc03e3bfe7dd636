"""The request filter in real uvicorn, in front of servers that answer everything, stream, or wait.

tests/integration/test_engine_servers.py puts the servers of published versions of vLLM behind it.
"""

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import uvicorn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from deepseek_acs.requestfilter.program import RequestFilter, Settings
from tests.integration.filter_cases import (
    ALLOWED,
    ALLOWED_HERE,
    BODY,
    CASES,
    CLIENT_KEY,
    KEY,
    METRICS_KEY,
    TIMEOUT,
    Case,
    ask,
    limits,
    should_pass,
    write_keys,
)

pytestmark = pytest.mark.integration

App = Callable[[Any, Any, Any], Awaitable[None]]


@pytest.fixture(scope="module")
def filter_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("keys")
    write_keys(folder)
    return Settings(**limits(), keys=str(folder))


@contextlib.contextmanager
def served(app: App, http: str) -> Iterator[int]:
    """The port of a uvicorn in a thread of its own."""
    config = uvicorn.Config(app, http=http, lifespan="off", log_level="critical", ws="none")
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(TIMEOUT)
        listener.close()


async def everything(scope: Any, receive: Any, send: Any) -> None:
    """An engine that answers whatever it is asked, with the path."""
    await Request(scope, receive).body()
    await PlainTextResponse(scope["path"])(scope, receive, send)


OTHERS = ("GET /health", "POST /health", "GET /metrics", "POST /invocations", "GET /version", "POST /v1/models")


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_only_what_is_allowed_answers(http: str, filter_settings: Settings) -> None:
    wrong = []
    with served(RequestFilter(everything, filter_settings), http) as port:
        for route in [*ALLOWED_HERE, *OTHERS]:
            method, path = route.split(" ")
            for name, asked in CASES.items():
                expected = should_pass(method, path, asked)
                # httptools takes the authority away before any application sees the target, and h11 does not.
                if name.startswith("absolute form") and http == "h11":
                    expected = False
                answer = ask(port, asked.request(method, path))
                if (answer.body.decode() == path, answer.status == 200) != (expected, expected):
                    wrong.append((route, name, answer))
    assert not wrong


def test_websockets_are_refused(filter_settings: Settings) -> None:
    sent: list[Any] = []

    async def ask() -> None:
        async def receive() -> Any:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "websocket", "path": "/v1/realtime", "raw_path": b"/v1/realtime", "headers": []}
        await RequestFilter(everything, filter_settings)(scope, receive, send)

    asyncio.run(ask())
    assert sent == [{"type": "websocket.close", "code": 1008}]


PIECES = (
    "/",
    "//",
    "v1",
    "models",
    "chat",
    "completions",
    "responses",
    "invocations",
    "health",
    "..",
    ".",
    ";",
    "%",
    "%2f",
)


@pytest.fixture(scope="module")
def any_port(filter_settings: Settings) -> Iterator[int]:
    with served(RequestFilter(everything, filter_settings), "httptools") as port:
        yield port


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "OPTIONS", "HEAD"]),
    path=st.lists(st.sampled_from(PIECES) | st.text(st.characters(min_codepoint=33, max_codepoint=126)), max_size=8),
    host=st.sampled_from(["leader", "leader/x", "leader?", "a b", "", "[::1]:8000", "leader:x"]),
    key=st.sampled_from([None, KEY, CLIENT_KEY, METRICS_KEY, b"x"]),
)
def test_random_requests(any_port: int, method: str, path: list[str], host: str, key: bytes | None) -> None:
    """Whatever is asked: what gets through is a route that is allowed, spelled as it is, with the key for it."""
    target = "/" + "".join(path)
    answer = ask(any_port, Case(key=key, host=host, target=lambda _: target).request(method, ""))
    if answer.status == 200:
        seen = answer.body.decode() if method != "HEAD" else "HEAD answered"
        assert target.partition("?")[0].partition("#")[0] == seen
        routes = {f"{method} {seen}", f"{method} " + "/".join(["/v1/responses", "{id}", *seen.split("/")[4:]])}
        by_key = {KEY: {*ALLOWED, "GET /metrics"}, CLIENT_KEY: set(ALLOWED), METRICS_KEY: {"GET /metrics"}}
        assert routes & {"GET /health", *by_key.get(key or b"", set())}
    else:
        assert answer.status in (400, 401, 404, 405, 431)


@dataclass
class Running:
    """A uvicorn in the loop of a test."""

    server: uvicorn.Server
    port: int
    task: "asyncio.Task[None]"


@contextlib.asynccontextmanager
async def running(app: App, http: str) -> AsyncIterator[Running]:
    server = uvicorn.Server(uvicorn.Config(app, http=http, lifespan="off", log_level="critical"))
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    task = asyncio.create_task(server._serve([listener]))
    try:
        yield Running(server, listener.getsockname()[1], task)
    finally:
        server.should_exit = True
        await asyncio.wait_for(task, TIMEOUT)


CHUNKS = 10_000
COMPLETE = Case().request("POST", "/v1/chat/completions")


def in_step(ready: asyncio.Semaphore) -> App:
    """An engine that writes each piece only when the client has the one before."""

    async def stream() -> AsyncIterator[bytes]:
        for number in range(CHUNKS):
            await ready.acquire()
            yield f"data: {number:05}\n\n".encode()

    async def answer(request: Request) -> StreamingResponse:
        return StreamingResponse(stream(), media_type="text/event-stream")

    return Starlette(routes=[Route("/v1/chat/completions", answer, methods=["POST"])])


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_streams_are_passed_on_piece_by_piece_and_end_in_a_drain(http: str, filter_settings: Settings) -> None:
    """Were one piece held back, engine and client would wait for each other. In the middle the server has to end."""

    async def read() -> int:
        ready = asyncio.Semaphore(0)
        async with running(RequestFilter(in_step(ready), filter_settings), http) as found:
            reader, writer = await asyncio.open_connection("127.0.0.1", found.port)
            writer.write(COMPLETE)
            received = 0
            await reader.readuntil(b"\r\n\r\n")
            for number in range(CHUNKS):
                ready.release()
                await reader.readuntil(f"data: {number:05}\n\n".encode())
                received += 1
                if number == CHUNKS // 2:
                    found.server.should_exit = True
            writer.close()
        return received

    assert asyncio.run(asyncio.wait_for(read(), 60)) == CHUNKS


def test_many_at_once(filter_settings: Settings) -> None:
    """None is answered before all are inside."""
    count = 200

    async def ask_all() -> list[bytes]:
        barrier = asyncio.Barrier(count)

        async def answer(request: Request) -> PlainTextResponse:
            await barrier.wait()
            return PlainTextResponse(json.dumps(await request.json()))

        app = Starlette(routes=[Route("/v1/chat/completions", answer, methods=["POST"])])
        async with running(RequestFilter(app, filter_settings), "httptools") as found:

            async def ask(number: int) -> bytes:
                reader, writer = await asyncio.open_connection("127.0.0.1", found.port)
                body = json.dumps({"prompt": str(number)}).encode()
                writer.write(Case(body=body).request("POST", "/v1/chat/completions"))
                answer = await reader.read()
                writer.close()
                return answer.partition(b"\r\n\r\n")[2]

            return await asyncio.gather(*map(ask, range(count)))

    answers = asyncio.run(asyncio.wait_for(ask_all(), 60))
    assert [json.loads(answer)["prompt"] for answer in answers] == [str(number) for number in range(count)]


def test_the_engine_learns_that_a_client_has_left(filter_settings: Settings) -> None:
    async def leave() -> None:
        started, left = asyncio.Event(), asyncio.Event()

        async def answer(scope: Any, receive: Any, send: Any) -> None:
            assert (await receive())["body"] == BODY
            started.set()
            assert (await receive())["type"] == "http.disconnect"
            left.set()

        async with running(RequestFilter(answer, filter_settings), "h11") as found:
            _, writer = await asyncio.open_connection("127.0.0.1", found.port)
            writer.write(COMPLETE)
            await started.wait()
            writer.close()
            await left.wait()

    asyncio.run(asyncio.wait_for(leave(), TIMEOUT))
