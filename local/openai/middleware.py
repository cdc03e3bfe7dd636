"""The middleware that a leader's pod was given, in front of this server: the pod's own files, and the ASGI interface.

vLLM runs it in uvicorn; here a request of ``local.http_service`` is put into its form, and its answer taken out of it.
"""

import asyncio
import importlib.util
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from local.http_service import Body, RefusedError, Request, Response

Answer = Callable[[Request, bytes], Response]
"""What is behind: an answer to a request and its body."""


@dataclass(frozen=True, kw_only=True)
class Middleware:
    """One middleware as a pod has it. ``files`` are those of the folder on its PYTHONPATH, ``name`` the argument of
    ``--middleware``, and ``folders`` what else it reads, by the paths in the pod."""

    name: str
    files: Mapping[str, bytes]
    folders: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict, repr=False)


def through(middlewares: Sequence[Middleware], request: Request, answer: Answer) -> Response:
    """The answer of the engines behind their middleware. It is not known for which of them the request is, so it is the
    first that does not ask for another key."""
    body = request.body.read()
    for middleware in middlewares:
        response = asyncio.run(_Exchange(request, body, answer).run(_loaded(*_content(middleware))))
        if response.status != HTTPStatus.UNAUTHORIZED:
            break
    return response


_Files = tuple[tuple[str, bytes], ...]


def _content(middleware: Middleware) -> tuple[str, _Files, tuple[tuple[str, _Files], ...]]:
    folders = tuple((path, tuple(sorted(files.items()))) for path, files in sorted(middleware.folders.items()))
    return middleware.name, tuple(sorted(middleware.files.items())), folders


@lru_cache(maxsize=16)
def _loaded(name: str, files: _Files, folders: tuple[tuple[str, _Files], ...]) -> Any:
    """The class, of a module that is imported from the pod's files, with the pod's paths led to copies."""
    module, _, attribute = name.rpartition(".")
    root = Path(tempfile.mkdtemp(prefix="deepseek-middleware-"))
    for number, (path, content) in enumerate(folders):
        copy = root / str(number)
        copy.mkdir(mode=0o700)
        for file, data in content:
            (copy / file).write_bytes(data)
        files = tuple((file, data.replace(path.encode(), str(copy).encode())) for file, data in files)
    for file, data in files:
        (root / file).write_bytes(data)
    spec = importlib.util.spec_from_file_location(module, root / f"{module}.py")
    if spec is None or spec.loader is None:
        raise ImportError(module)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return getattr(found, attribute)


class _Exchange:
    """One request through an ASGI application."""

    def __init__(self, request: Request, body: bytes, answer: Answer) -> None:
        self._request, self._body, self._answer = request, body, answer
        self._start: dict[str, Any] = {}
        self._pieces: list[bytes] = []
        self._response: Response | None = None

    async def run(self, middleware: Any) -> Response:
        """With an instance of ``middleware`` in front."""
        raw_path, _, query = self._request.target.encode("latin-1").partition(b"?")
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": self._request.method,
            "path": unquote(raw_path.decode("latin-1")),
            "raw_path": raw_path,
            "root_path": "",
            "query_string": query,
            "headers": [
                (name.lower().encode(), value.encode("latin-1")) for name, value in self._request.headers.items()
            ],
        }
        await middleware(self._behind)(scope, self._receive, self._send)
        if self._response is not None:
            return self._response
        headers = {name.decode(): value.decode() for name, value in self._start["headers"]}
        return Response(status=self._start["status"], headers=headers, body=Body(b"".join(self._pieces)))

    async def _receive(self) -> dict[str, Any]:
        return {"type": "http.request", "body": self._body, "more_body": False}

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self._start = message
        else:
            self._pieces.append(message.get("body", b""))

    async def _behind(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """The engine, which answers by itself: what is in front of it looks at requests only."""
        body = (await receive())["body"] if scope["method"] == "POST" else b""
        headers = self._request.headers.__class__()
        for name, value in scope["headers"]:
            headers[name.decode()] = value.decode("latin-1")
        try:
            self._response = self._answer(replace(self._request, headers=headers), body)
        except RefusedError as error:
            self._response = Response.json({"message": str(error)}, status=error.status)
