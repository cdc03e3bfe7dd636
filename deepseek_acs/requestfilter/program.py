"""An ASGI middleware that admits requests to the API's paths with a valid key, and refuses everything else.

vLLM's own check of the key covers a few path prefixes and, before 0.22, checks a URL that it rebuilds from the Host
header (CVE-2026-48746). This filter checks the path of the request line, which is also what the router uses
(https://docs.vllm.ai/en/stable/usage/security/).

    /health   open: the kubelet's probes have no key, and it tells nothing but that the engine lives
    /metrics  for the metrics key and the stack's own key; open where an endpoint picker reads it, which can send none
    the API   for the stack's own key and those of the clients

Admitted requests go on with the engine's own key, so that its check holds for every client, and without the header
Origin, so that its CORS headers are never sent. Answers are not touched: they stream as the engine writes them.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Any, NamedTuple

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

SETTINGS_FILE = "settings.json"
"""Lies next to this module in the pod."""

STACK_KEY, METRICS_KEY = "VLLM_API_KEY", "metrics"
"""Names of keys with a meaning of their own: the one that the engine itself asks for, and the one for ``/metrics``. All
others are clients'."""

HEALTH, METRICS = "/health", "/metrics"

SEGMENT = "[A-Za-z0-9_-]+"
"""What ``{id}`` in a path stands for."""

HOST = re.compile(rb"[A-Za-z0-9._-]+(:[0-9]+)?|\[[0-9A-Fa-f:.]+\](:[0-9]+)?")

REFUSED_FIELDS = {
    "chat_template": "the server has a chat template, and a client's can block it",
    "guided_decoding_backend": "the server chooses it",
    "kv_transfer_params": "it is for the server's own parts",
    "mm_processor_kwargs": "it reaches what loads the model's code",
    "prompt_embeds": "embeddings of a prompt are loaded with torch.load",
}
"""Fields of a request by which clients of some versions reach further into the engine than a prompt does, and why."""

CACHE_SALT_CHARACTERS = 256
"""Longest ``cache_salt``: each block of the prompt is hashed with it."""

REFUSED_TEMPLATE_ARGUMENTS = ("chat_template", "tokenize")
"""In ``chat_template_kwargs``; the first is a template again, the second blocks the server (CVE-2025-62426)."""


class Settings(NamedTuple):
    """What is admitted.

    :param paths: method and path, such as ``GET /v1/responses/{id}``.
    :param keys: folder with one file per key.
    :param header_bytes: longest request line and headers together.
    :param sequences: answers to one request: prompts times ``n``.
    :param prompt_characters: longest prompt that is given as text, everything else that the request says included.
    :param prompt_tokens: longest prompt that is given as tokens.
    :param open_metrics: whether ``/metrics`` needs no key.
    """

    paths: tuple[str, ...]
    keys: str
    header_bytes: int
    body_bytes: int
    sequences: int
    prompt_characters: int
    prompt_tokens: int
    open_metrics: bool = False


class RefusedError(Exception):
    """The request is not admitted."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}


class DisconnectedError(Exception):
    """The client has left."""


def read_settings(path: Path) -> Settings:
    """Raises OSError, ValueError, TypeError."""
    given = json.loads(path.read_text(encoding="utf-8"))
    return Settings(**{**given, "paths": tuple(given["paths"])})


# At the import, so that an engine whose filter cannot work does not start.
_FILE = Path(__file__).with_name(SETTINGS_FILE)
SETTINGS = read_settings(_FILE) if _FILE.exists() else None


def read_keys(folder: Path) -> dict[str, bytes]:
    """Keys by name. Raises OSError, ValueError."""
    # Kubernetes keeps the files of a volume in a folder whose name begins with a period, behind links.
    keys = {file.name: file.read_bytes() for file in sorted(folder.iterdir()) if not file.name.startswith(".")}
    if STACK_KEY not in keys:
        raise ValueError(f"{folder} has no key {STACK_KEY}")
    for name, key in keys.items():
        if not key:
            raise ValueError(f"the key {name} in {folder} is empty")
    return keys


class RequestFilter:
    """The middleware: ``vllm serve --middleware requestfilter.RequestFilter``."""

    def __init__(self, app: App, settings: Settings | None = SETTINGS) -> None:
        if settings is None:
            raise RuntimeError(f"{SETTINGS_FILE} is missing next to {__file__}")
        keys = read_keys(Path(settings.keys))
        self._app = app
        self._settings = settings
        self._engine_key = b"Bearer " + keys[STACK_KEY]
        self._digests = {name: hashlib.sha256(key).digest() for name, key in keys.items()}
        self._paths = [(method, _pattern(path)) for method, path in (entry.split(" ") for entry in settings.paths)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            # Before it is accepted, which the server answers with 403.
            await send({"type": "websocket.close", "code": 1008})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            admitted, body = await self._admitted(scope, receive)
        except RefusedError as refusal:
            await _refuse(refusal, send)
        except DisconnectedError:
            return
        else:
            await self._app(admitted, receive if body is None else _replayed(body, receive), send)

    async def _admitted(self, scope: Scope, receive: Receive) -> tuple[Scope, bytes | None]:
        """The request as it goes on, and its body if that was read. Raises RefusedError, DisconnectedError."""
        self._check_head(scope)
        method, path = scope["method"], _path(scope)
        if path == HEALTH:
            _require_method(method, {"GET"})
            return _cleaned(scope), None
        if path == METRICS:
            _require_method(method, {"GET"})
            if not self._settings.open_metrics:
                self._require_key(scope, lambda name: name in (STACK_KEY, METRICS_KEY))
            return _cleaned(scope), None
        methods = {allowed for allowed, pattern in self._paths if pattern.fullmatch(path)}
        if not methods:
            raise RefusedError(404, "Not Found")
        self._require_key(scope, lambda name: name != METRICS_KEY)
        _require_method(method, methods)
        body = await self._body(scope, receive) if method == "POST" else None
        if body:
            self._check_request(body)
        return _cleaned(scope, authorization=self._engine_key), body

    def _check_head(self, scope: Scope) -> None:
        target = len(scope.get("raw_path") or b"") + len(scope.get("query_string") or b"")
        if target + sum(len(name) + len(value) + 4 for name, value in scope["headers"]) > self._settings.header_bytes:
            raise RefusedError(431, f"the headers are longer than {self._settings.header_bytes} bytes")
        hosts = _header(scope, b"host")
        if len(hosts) > 1 or any(not HOST.fullmatch(host) for host in hosts):
            raise RefusedError(400, "the header Host is not the name of a host")

    def _require_key(self, scope: Scope, opens: Callable[[str], bool]) -> None:
        given = _header(scope, b"authorization")
        scheme, _, token = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
        digest, found = hashlib.sha256(token).digest(), ""
        # All are compared, each in constant time, so that the time tells nothing.
        for name, known in self._digests.items():
            if hmac.compare_digest(known, digest):
                found = name
        if scheme.lower() != b"bearer" or not found or not opens(found):
            raise RefusedError(401, "Unauthorized", {"www-authenticate": "Bearer"})

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        limit = self._settings.body_bytes
        too_long = RefusedError(413, f"the body is longer than {limit} bytes")
        if any(encoding.strip().lower() != b"identity" for encoding in _header(scope, b"content-encoding")):
            raise RefusedError(415, "the body must not be compressed")
        if any(length.isdigit() and int(length) > limit for length in _header(scope, b"content-length")):
            raise too_long
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise DisconnectedError
            body += message.get("body", b"")
            if len(body) > limit:
                raise too_long
            if not message.get("more_body", False):
                return bytes(body)

    def _check_request(self, body: bytes) -> None:
        """Raises RefusedError if it asks for too much, or for what clients have no business with."""
        request = _parsed(body)
        for field, why in REFUSED_FIELDS.items():
            if request.get(field) is not None:
                raise RefusedError(400, f"{field} is not accepted: {why}")
        arguments = request.get("chat_template_kwargs")
        for field in REFUSED_TEMPLATE_ARGUMENTS:
            if isinstance(arguments, dict) and field in arguments:
                raise RefusedError(400, f"chat_template_kwargs.{field} is not accepted")
        if _whole(request, "min_tokens") > self._settings.prompt_tokens:
            raise RefusedError(400, f"min_tokens is more than {self._settings.prompt_tokens}")
        if _characters(request.get("cache_salt")) > CACHE_SALT_CHARACTERS:
            raise RefusedError(400, f"cache_salt is longer than {CACHE_SALT_CHARACTERS} characters")
        prompts = [*_items(request.get("prompt")), *_items(request.get("input"))]
        answers = max(_whole(request, "n"), _whole(request, "best_of")) * max(len(_items(request.get("prompt"))), 1)
        if answers > self._settings.sequences:
            raise RefusedError(
                400, f"the request asks for {answers} answers, and at most {self._settings.sequences} are allowed"
            )
        rest = _characters({field: value for field, value in request.items() if field not in ("prompt", "input")})
        for prompt in prompts or [""]:
            if _is_tokens(prompt):
                if any(token < 0 for token in prompt):
                    raise RefusedError(400, "a token of a prompt is less than 0")
                if len(prompt) > self._settings.prompt_tokens:
                    raise RefusedError(400, f"a prompt is longer than {self._settings.prompt_tokens} tokens")
            elif rest + _characters(prompt) > self._settings.prompt_characters:
                raise RefusedError(400, f"the prompt is longer than {self._settings.prompt_characters} characters")


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.escape(path).replace(re.escape("{id}"), SEGMENT))


def _path(scope: Scope) -> str:
    """The path of the request line. One that is encoded, or that a proxy's prefix was taken from, is none of ours."""
    raw, path = scope.get("raw_path"), scope["path"]
    if raw is None or scope.get("root_path") or raw != path.encode("utf-8", "surrogateescape"):
        raise RefusedError(404, "Not Found")
    return str(path)


def _header(scope: Scope, name: bytes) -> list[bytes]:
    return [value for given, value in scope["headers"] if given.lower() == name]


def _require_method(method: str, allowed: set[str]) -> None:
    if method not in allowed:
        raise RefusedError(405, "Method Not Allowed", {"allow": ", ".join(sorted(allowed))})


def _cleaned(scope: Scope, *, authorization: bytes | None = None) -> Scope:
    """The scope without the clients' key and Origin; with the engine's key where one is needed."""
    headers = [(name, value) for name, value in scope["headers"] if name.lower() not in (b"authorization", b"origin")]
    if authorization is not None:
        headers.append((b"authorization", authorization))
    return {**scope, "headers": headers}


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        # Strictly, and each field once: the engine must not read another request than this filter did.
        request = json.loads(
            body.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_finite, parse_float=_finite
        )
        if isinstance(request, dict):
            return request
    except (ValueError, RecursionError):
        pass
    raise RefusedError(400, "the body is not a JSON object in UTF-8 with each field once")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field is given twice")
    return found


def _finite(text: str) -> float:
    """A number. NaN and Infinity are not valid JSON, and limits cannot be compared with them."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def _whole(request: Mapping[str, Any], field: str) -> int:
    """A count. vLLM also takes ``"5"`` and ``5.0``, which no client needs."""
    value = request.get(field)
    if value is None:
        return 1
    if type(value) is not int:
        raise RefusedError(400, f"{field} is not a whole number")
    return value


def _items(value: Any) -> list[Any]:
    """What the engine takes for prompts of their own: the items of a list of texts, or of a list of lists."""
    if isinstance(value, list) and all(isinstance(item, (str, list)) for item in value):
        return value
    return [] if value is None else [value]


def _is_tokens(prompt: Any) -> bool:
    return isinstance(prompt, list) and all(type(item) is int for item in prompt)


def _characters(value: Any) -> int:
    """Of all texts in it, names of fields included."""
    total, left = 0, [value]
    while left:
        item = left.pop()
        if isinstance(item, str):
            total += len(item)
        elif isinstance(item, dict):
            left += item
            left += item.values()
        elif isinstance(item, list):
            left += item
    return total


def _replayed(body: bytes, receive: Receive) -> Receive:
    """The body in one piece, and then what comes after it: that the client leaves."""
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def replay() -> Message:
        return next(messages, None) or await receive()

    return replay


async def _refuse(refusal: RefusedError, send: Send) -> None:
    error = {"message": str(refusal), "type": "invalid_request_error", "param": None, "code": refusal.status}
    body = json.dumps({"error": error}).encode()
    # What is left of the request's body is not waited for.
    headers = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
    encoded = [(name.encode(), value.encode()) for name, value in {**headers, **refusal.headers}.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})
