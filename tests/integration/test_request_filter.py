"""The request filter in real uvicorn, in front of every route that vLLM has, with the key check of each version.

Needs nothing of the project but the filter, so that ``make filter-starlette`` runs it on the Starlette of vLLM 0.7.2.
"""

import asyncio
import contextlib
import json
import socket
import threading
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import starlette
import uvicorn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.datastructures import URL
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from deepseek_acs.requestfilter.program import RequestFilter, Settings

pytestmark = pytest.mark.integration

KEY, CLIENT_KEY, METRICS_KEY = b"0123456789abcdef" * 4, b"c" * 32, b"m" * 32
ALLOWED = (
    "GET /v1/models",
    "POST /v1/chat/completions",
    "POST /v1/completions",
    "POST /v1/responses",
    "GET /v1/responses/{id}",
    "POST /v1/responses/{id}/cancel",
)
ROUTES = tomllib.loads((Path(__file__).parents[1] / "data" / "engine_routes.toml").read_text())
VERSIONS = tuple(ROUTES)
ANSWER = "answered by the engine"
BODY = json.dumps({"model": "ds", "prompt": "a"}).encode()
BODY_BYTES, HEADER_BYTES = 4096, 8192
TIMEOUT = 30

App = Callable[[Any, Any, Any], Awaitable[None]]


class AuthorityOfUrl:
    """The key check of 0.7.2 and 0.11 on the Starlette of their time: the path is that of a URL made with Host."""

    prefixes: tuple[str, ...] = ("/v1",)

    def __init__(self, app: App) -> None:
        self.app = app

    def path(self, scope: Any) -> str:
        if starlette.__version__.startswith("0."):
            return URL(scope=scope).path
        host = dict(scope["headers"]).get(b"host", b"localhost").decode("latin-1")
        return urlsplit(f"http://{host}{scope['path']}").path

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        guarded = scope["type"] == "http" and self.path(scope).startswith(self.prefixes)
        if guarded and dict(scope["headers"]).get(b"authorization") != b"Bearer " + KEY:
            await PlainTextResponse("Unauthorized", 401)(scope, receive, send)
        else:
            await self.app(scope, receive, send)


class PathOfScope(AuthorityOfUrl):
    """That of 0.22 and newer."""

    prefixes = ("/v1", "/v2", "/inference", "/cohere")

    def path(self, scope: Any) -> str:
        return str(scope["path"])


CHECKS = {"0.7.2": AuthorityOfUrl, "0.11.0": AuthorityOfUrl, "0.33.0": PathOfScope}


def engine(version: str) -> App:
    """A server with the routes of a version, which answer whatever they are asked."""

    async def answer(request: Request) -> PlainTextResponse:
        await request.body()
        return PlainTextResponse(ANSWER)

    async def accept(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(ANSWER)
        await websocket.close()

    routes: list[Any] = []
    for route in ROUTES[version]["routes"]:
        method, path = route.split(" ")
        routes.append(WebSocketRoute(path, accept) if method == "WEBSOCKET" else Route(path, answer, methods=[method]))
    return CHECKS[version](Starlette(routes=routes))


@pytest.fixture(scope="module")
def filter_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("keys")
    (folder / "VLLM_API_KEY").write_bytes(KEY)
    (folder / "client-chat").write_bytes(CLIENT_KEY)
    (folder / "metrics").write_bytes(METRICS_KEY)
    (folder / "..data").mkdir()
    return Settings(
        paths=ALLOWED,
        keys=str(folder),
        header_bytes=HEADER_BYTES,
        body_bytes=BODY_BYTES,
        sequences=4,
        prompt_characters=1000,
        prompt_tokens=100,
    )


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


@dataclass(frozen=True, kw_only=True)
class Case:
    """One way to ask for a route."""

    target: Callable[[str], str] = lambda path: path
    key: bytes | None = KEY
    host: str = "leader:8000"
    version: str = "1.1"
    headers: tuple[str, ...] = ()
    body: bytes = BODY
    passes: bool = True
    """Whether it gets to a route that is allowed."""
    passes_health: bool = True

    def request(self, method: str, path: str) -> bytes:
        lines = [f"{method} {self.target(path)} HTTP/{self.version}", f"Host: {self.host}", *self.headers]
        if self.key is not None:
            lines.append(f"Authorization: Bearer {self.key.decode()}")
        body = self.body if method == "POST" else b""
        lines += ["Connection: close", f"Content-Length: {len(body)}", "Content-Type: application/json"]
        return "\r\n".join([*lines, "", ""]).encode() + body


def case(**changes: Any) -> Case:
    return Case(**changes)


CASES = {
    "right key": case(),
    "a client's key": case(key=CLIENT_KEY),
    "no key": case(key=None, passes=False),
    "wrong key": case(key=b"x" * 64, passes=False),
    "empty key": case(key=b"", passes=False),
    "metrics key": case(key=METRICS_KEY, passes=False),
    "bent Host, no key": case(key=None, host="leader/x", passes=False, passes_health=False),
    "bent Host with ?, no key": case(key=None, host="leader?x", passes=False, passes_health=False),
    "bent Host with #, no key": case(key=None, host="leader#x", passes=False, passes_health=False),
    "bent Host, right key": case(host="leader/x", passes=False, passes_health=False),
    "absolute form, no key": case(key=None, target=lambda path: f"http://leader{path}", passes=False),
    "encoded first letter": case(
        target=lambda path: f"/%{ord(path[1]):x}{path[2:]}", passes=False, passes_health=False
    ),
    "encoded slash": case(target=lambda path: f"/{path[1:].replace('/', '%2f')}%2f", passes=False, passes_health=False),
    "doubled slash": case(target=lambda path: f"/{path}", passes=False, passes_health=False),
    "doubled slash inside": case(
        target=lambda p: p[0] + p[1:].replace("/", "//") + "/", passes=False, passes_health=False
    ),
    "dots": case(target=lambda path: f"/v1/..{path}", passes=False, passes_health=False),
    "HTTP/1.0": case(version="1.0"),
    "HTTP/1.0, no key": case(key=None, version="1.0", passes=False),
    "key in another case": case(key=None, headers=("authorization: bearer " + KEY.decode(),)),
    "two keys": case(headers=("Authorization: Bearer x",), passes=False),
    "header of 64 KiB": case(headers=("X: " + "x" * 65536,), passes=False, passes_health=False),
    "body over the limit": case(body=json.dumps({"prompt": "a", "x": [0] * BODY_BYTES}).encode()),
}


def status_and_body(port: int, request: bytes) -> tuple[int, bytes]:
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as connection:
        # A server that refuses a request need not read all of it.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(request)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(65536):
                answer += piece
    return (int(answer.split(b" ", 2)[1]), answer.partition(b"\r\n\r\n")[2]) if answer else (0, b"")


def filled(path: str) -> str:
    return path.replace("{response_id}", "resp_1").replace("{path}", "a.js")


ALLOWED_HERE = {route.replace("{id}", "resp_1") for route in ALLOWED}


def should_pass(method: str, path: str, asked: Case) -> bool:
    if (method, path) == ("GET", "/health"):
        return asked.passes_health
    if (method, path) == ("GET", "/metrics"):
        return (asked.passes and asked.key != CLIENT_KEY) or asked is CASES["metrics key"]
    too_long = method == "POST" and len(asked.body) > BODY_BYTES
    return asked.passes and not too_long and f"{method} {path}" in ALLOWED_HERE


@pytest.mark.parametrize("http", ["h11", "httptools"])
@pytest.mark.parametrize("version", VERSIONS)
def test_only_what_is_allowed_answers(version: str, http: str, filter_settings: Settings) -> None:
    wrong = []
    with served(RequestFilter(engine(version), filter_settings), http) as port:
        for route in ROUTES[version]["routes"]:
            method, path = route.split(" ")
            method, path = ("GET" if method == "WEBSOCKET" else method), filled(path)
            for name, asked in CASES.items():
                expected = should_pass(method, path, asked)
                if name == "absolute form, no key" and http == "h11":
                    expected = False
                status, body = status_and_body(port, asked.request(method, path))
                if (body.decode() == ANSWER, status == 200) != (expected, expected):
                    wrong.append((route, name, status, body))
    assert not wrong


@pytest.mark.parametrize(("http", "answers"), [("h11", False), ("httptools", True)])
def test_absolute_form_is_judged_by_what_the_router_sees(http: str, answers: bool, filter_settings: Settings) -> None:
    """httptools takes the authority away before any application sees the target; with a key nothing changes."""
    asked = Case(target=lambda path: f"http://elsewhere{path}")
    with served(RequestFilter(engine("0.7.2"), filter_settings), http) as port:
        for path in ("/v1/models", "/invocations", "/version"):
            status, _ = status_and_body(port, asked.request("GET", path))
            assert (status == 200) is (answers and path == "/v1/models")


@pytest.mark.parametrize("version", ["0.7.2", "0.11.0"])
def test_without_the_filter_the_bent_host_opens_the_engine(version: str) -> None:
    """What this is all about, so that the tests above cannot pass by accident."""
    with served(engine(version), "h11") as port:
        for path in ("/v1/chat/completions", "/invocations"):
            request = CASES["bent Host, no key"].request("POST", path)
            assert status_and_body(port, request) == (200, ANSWER.encode())


def test_websockets_are_refused(filter_settings: Settings) -> None:
    sent: list[Any] = []

    async def ask() -> None:
        async def receive() -> Any:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "websocket", "path": "/v1/realtime", "raw_path": b"/v1/realtime", "headers": []}
        await RequestFilter(engine("0.33.0"), filter_settings)(scope, receive, send)

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
    async def everything(scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse(scope["path"])(scope, receive, send)

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
    status, body = status_and_body(any_port, Case(key=key, host=host, target=lambda _: target).request(method, ""))
    if status == 200:
        seen = body.decode() if method != "HEAD" else "HEAD answered"
        assert target.partition("?")[0].partition("#")[0] == seen
        routes = {f"{method} {seen}", f"{method} " + "/".join(["/v1/responses", "{id}", *seen.split("/")[4:]])}
        by_key = {KEY: {*ALLOWED, "GET /metrics"}, CLIENT_KEY: set(ALLOWED), METRICS_KEY: {"GET /metrics"}}
        assert routes & {"GET /health", *by_key.get(key or b"", set())}
    else:
        assert status in (400, 401, 404, 405, 431)


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
