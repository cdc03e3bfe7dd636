"""Ways to ask for a path, and which of them the request filter lets through."""

import contextlib
import json
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepseek_acs.planner.api_paths import api_paths
from deepseek_acs.planner.vllm_releases.release import newest

KEY, CLIENT_KEY, METRICS_KEY = b"0123456789abcdef" * 4, b"c" * 32, b"m" * 32
ALLOWED = api_paths((), newest())
BODY = json.dumps({"model": "ds", "prompt": "a", "messages": [], "input": "a"}).encode()
BODY_BYTES, HEADER_BYTES = 4096, 8192
TIMEOUT = 30


def limits() -> dict[str, Any]:
    """What is admitted: the settings of the filter without its folder of keys."""
    return {
        "paths": ALLOWED,
        "header_bytes": HEADER_BYTES,
        "body_bytes": BODY_BYTES,
        "sequences": 4,
        "prompt_characters": 1000,
        "prompt_tokens": 100,
    }


def write_keys(folder: Path) -> None:
    """As a Secret's volume shows them."""
    (folder / "VLLM_API_KEY").write_bytes(KEY)
    (folder / "client-chat").write_bytes(CLIENT_KEY)
    (folder / "metrics").write_bytes(METRICS_KEY)
    (folder / "..data").mkdir()


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
        """What is sent; WEBSOCKET for the method asks for an upgrade."""
        upgrade = method == "WEBSOCKET"
        lines = [f"{'GET' if upgrade else method} {self.target(path)} HTTP/{self.version}", f"Host: {self.host}"]
        lines += self.headers
        if self.key is not None:
            lines.append(f"Authorization: Bearer {self.key.decode()}")
        body = self.body if method == "POST" else b""
        lines += [f"Content-Length: {len(body)}", "Content-Type: application/json"]
        lines += UPGRADE if upgrade else ["Connection: close"]
        return "\r\n".join([*lines, "", ""]).encode() + body


UPGRADE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


def case(**changes: Any) -> Case:
    """A request with the key, changed."""
    return Case(**changes)


def refused(**changes: Any) -> Case:
    """A request that is refused whatever it asks for."""
    return Case(passes=False, passes_health=False, **changes)


CASES = {
    "right key": case(),
    "a client's key": case(key=CLIENT_KEY),
    "no key": case(key=None, passes=False),
    "wrong key": case(key=b"x" * 64, passes=False),
    "empty key": case(key=b"", passes=False),
    "metrics key": case(key=METRICS_KEY, passes=False),
    "bent Host, no key": refused(key=None, host="leader/x"),
    "bent Host with ?, no key": refused(key=None, host="leader?x"),
    "bent Host with #, no key": refused(key=None, host="leader#x"),
    "bent Host, right key": refused(host="leader/x"),
    "absolute form, no key": case(key=None, target=lambda path: f"http://leader{path}", passes=False),
    "absolute form, right key": case(target=lambda path: f"http://elsewhere{path}"),
    "encoded first letter": refused(target=lambda path: f"/%{ord(path[1]):x}{path[2:]}"),
    "encoded slash": refused(target=lambda path: f"/{path[1:].replace('/', '%2f')}%2f"),
    "doubled slash": refused(target=lambda path: f"/{path}"),
    "doubled slash inside": refused(target=lambda path: path[0] + path[1:].replace("/", "//") + "/"),
    "dots": refused(target=lambda path: f"/v1/..{path}"),
    "HTTP/1.0": case(version="1.0"),
    "HTTP/1.0, no key": case(key=None, version="1.0", passes=False),
    "key in another case": case(key=None, headers=("authorization: bearer " + KEY.decode(),)),
    "two keys": case(headers=("Authorization: Bearer x",), passes=False),
    "header of 64 KiB": refused(headers=("X: " + "x" * 65536,)),
    "body over the limit": case(body=json.dumps({"prompt": "a", "x": [0] * BODY_BYTES}).encode()),
}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a server says; the status is 0 if it says nothing."""

    status: int
    headers: dict[str, str]
    body: bytes


def ask(port: int, request: bytes) -> Answer:
    """Send the bytes as they are."""
    return ask_by(socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT), request)


def ask_by(connected: socket.socket, request: bytes) -> Answer:
    """The same by a connection, which is closed."""
    with connected as connection:
        # A server that refuses a request need not read all of it.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(request)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(65536):
                answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Answer(status=int(first.split(" ")[1]) if first else 0, headers=headers, body=body)


def is_refused(answer: Answer) -> bool:
    """Whether the filter has refused, or uvicorn, and not an engine, which writes its errors without spaces."""
    return (
        answer.status in (0, 403) or b'"type": "invalid_request_error"' in answer.body or b"Invalid HTTP" in answer.body
    )


def filled(path: str) -> str:
    """A path of a route with something in place of its parameters."""
    return re.sub(r"\{[^}]*\}", "resp_1", path)


def should_pass(method: str, path: str, asked: Case, *, body_bytes: int = BODY_BYTES) -> bool:
    """Whether the request may reach the engine. ``{id}`` in a path that is allowed stands for ``resp_1``."""
    if (method, path) == ("GET", "/health"):
        return asked.passes_health
    if (method, path) == ("GET", "/metrics"):
        return (asked.passes and asked.key != CLIENT_KEY) or asked is CASES["metrics key"]
    too_long = method == "POST" and len(asked.body) > body_bytes
    return asked.passes and not too_long and f"{method} {path}" in ALLOWED_HERE


ALLOWED_HERE = {route.replace("{id}", "resp_1") for route in ALLOWED}
