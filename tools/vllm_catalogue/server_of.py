"""The HTTP server of ``vllm serve`` as a published version runs it, on its Python files alone and without an engine.

    python -m tools.vllm_catalogue.server_of FOLDER WORDS

WORDS follow ``vllm serve``. Parser, routers, middlewares (``--middleware`` included), key check and the options of
uvicorn are the version's own; the packages that make a server must be installed. What is replaced: the engine, and what
the version makes of it (``init_app_state``). So a route is found and its code runs, but its answer says little. Each
answer from a route has a header with the path of the route that the router chose.
"""

import asyncio
import contextlib
import importlib
import inspect
import json
import os
import sys
import typing
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

from tools.vllm_catalogue.parser_of import REAL, build

SERVER = {
    *("annotated_doc", "anyio", "click", "fastapi", "h11", "httptools", "idna", "jmespath"),
    *("model_hosting_container_standards", "multipart", "orjson", "prometheus_client"),
    *("prometheus_fastapi_instrumentator", "psutil", "python_multipart", "sniffio", "starlette", "uvicorn", "uvloop"),
    # FastAPI does without them where they are not installed.
    *("email_validator", "ujson"),
}
"""Packages that decide what a server answers."""

ROUTE_HEADER = b"x-route"

ENTRIES = ("vllm.entrypoints.launchers.api_server.entry", "vllm.entrypoints.openai.api_server")
"""The module with ``run_server``: from 0.29.0 on, and before."""


class NoEngine:
    """Takes the place of the engine and of all that answers with it: every method can be awaited and gives a stream of
    one piece."""

    errored = False
    is_running = True
    should_keep_api_server_alive = True
    model_config = vllm_config = MagicMock()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        async def method(*_: Any, **__: Any) -> Any:
            return _stream()

        return method

    async def get_vllm_config(self) -> Any:
        return self.vllm_config

    async def get_supported_tasks(self) -> tuple[str, ...]:
        """All, so that all routers are there."""
        tasks = importlib.import_module("vllm.tasks")
        return tuple(typing.get_args(tasks.SupportedTask))


async def _stream() -> AsyncIterator[str]:
    yield "data: [DONE]\n\n"


@contextlib.asynccontextmanager
async def no_engine(*_: Any, **__: Any) -> AsyncIterator[NoEngine]:
    """For ``build_async_engine_client``."""
    yield NoEngine()


class _State(dict[str, Any]):
    """What the version's code finds in ``app.state``: the engine in place of everything that answers with it."""

    def __missing__(self, _key: str) -> NoEngine:
        return NoEngine()


def in_place_of(init_app_state: Any) -> Any:
    """A function to call instead of ``init_app_state``."""
    signature = inspect.signature(init_app_state)

    async def init_no_state(*arguments: Any, **keywords: Any) -> None:
        given = signature.bind(*arguments, **keywords).arguments
        found = _State(args=given["args"], log_stats=False, enable_server_load_tracking=False, server_load_metrics=0)
        object.__setattr__(given["state"], "_state", found)

    return init_no_state


def announcing(build_app: Any) -> Any:
    """A function to call instead of ``build_app``, which prints all routes as JSON: a method and a path each."""

    def announcing_build_app(*arguments: Any, **keywords: Any) -> Any:
        app = build_app(*arguments, **keywords)
        routes = {(method, route.path) for route in app.routes for method in _methods(route)}
        # Not by print, to whose lines some versions add the process.
        os.write(sys.stdout.fileno(), f"{json.dumps(sorted(routes))}\n".encode())
        return app

    return announcing_build_app


def _methods(route: Any) -> set[str]:
    return getattr(route, "methods", None) or {"WEBSOCKET" if "WebSocket" in type(route).__name__ else "GET"}


def mark_routes() -> None:
    """Let each answer say which route gave it."""
    routing = importlib.import_module("starlette.routing")
    for class_ in (routing.Route, routing.WebSocketRoute, routing.Mount):
        class_.handle = _marked(class_.handle)


def _marked(handle: Any) -> Any:
    async def marked_handle(route: Any, scope: Any, receive: Any, send: Any) -> None:
        # Starlette asks a route with the path and another method to refuse it.
        if scope["type"] == "http" and scope["method"] not in (getattr(route, "methods", None) or {scope["method"]}):
            await handle(route, scope, receive, send)
            return
        started = False

        async def marked_send(message: Any) -> None:
            nonlocal started
            if message["type"] in ("http.response.start", "websocket.accept"):
                started = True
                message["headers"] = [*message.get("headers", ()), (ROUTE_HEADER, route.path.encode())]
            await send(message)

        try:
            await handle(route, scope, receive, marked_send)
        except Exception:
            # That an answer cannot be made without an engine does not matter.
            if started or scope["type"] != "http":
                raise
            await marked_send({"type": "http.response.start", "status": 500, "headers": [(b"content-length", b"0")]})
            await marked_send({"type": "http.response.body", "body": b""})

    return marked_handle


def main() -> None:
    """Serves until it is stopped."""
    folder, words = Path(sys.argv[1]), sys.argv[2:]
    os.environ["VLLM_SERVER_DEV_MODE"] = "1"
    with contextlib.redirect_stdout(sys.stderr):
        middlewares = {word.partition(".")[0] for option, word in pairwise(words) if option == "--middleware"}
        parser = build(folder, REAL | SERVER | middlewares)
    entry = importlib.import_module(next(name for name in ENTRIES if _exists(folder, name)))
    entry.build_app = announcing(entry.build_app)  # type: ignore[attr-defined]
    entry.build_async_engine_client = no_engine  # type: ignore[attr-defined]
    entry.init_app_state = in_place_of(entry.init_app_state)  # type: ignore[attr-defined]
    mark_routes()
    asyncio.run(entry.run_server(parser.parse_args(words)))


def _exists(folder: Path, module: str) -> bool:
    return folder.joinpath(*module.split(".")).with_suffix(".py").exists()


if __name__ == "__main__":
    main()
