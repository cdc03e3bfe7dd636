"""``python -m benchmarks.request_filter``: an engine that computes nothing, with the filter in front and without it.

Both run in uvicorn with httptools, as in vLLM, in turn, in the same process; the client waits for each answer. What is
printed is the ratio of the medians: with the filter / without it. An engine that computes makes it smaller.
"""

import argparse
import asyncio
import json
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from deepseek_acs.planner.api_paths import API_PATHS
from deepseek_acs.requestfilter.program import RequestFilter, Settings

KEY = b"k" * 64
CHUNKS = 2000


@dataclass(frozen=True, kw_only=True)
class Load:
    """``count`` requests one after the other."""

    name: str
    body: bytes
    count: int


LOADS = (
    Load(name="chat of 200 characters", body=json.dumps({"messages": [{"content": "a" * 200}]}).encode(), count=400),
    Load(name="prompt of 128 KiB", body=json.dumps({"prompt": "a" * 2**17}).encode(), count=100),
    Load(name="prompt of 4 MiB", body=json.dumps({"prompt": "a" * 2**22}).encode(), count=10),
    Load(name=f"stream of {CHUNKS} chunks", body=json.dumps({"prompt": "a", "stream": True}).encode(), count=10),
)


async def _answer(request: Request) -> Response:
    # vLLM reads the request as JSON, too.
    if (await request.json()).get("stream"):
        return StreamingResponse(_chunks(), media_type="text/event-stream")
    return PlainTextResponse("answer")


async def _chunks() -> AsyncIterator[bytes]:
    for number in range(CHUNKS):
        yield f"data: {number}\n\n".encode()
        # An engine writes one when it has it.
        await asyncio.sleep(0)


def engine() -> Callable[..., Awaitable[None]]:
    """The app behind the filter."""
    return Starlette(routes=[Route("/v1/completions", _answer, methods=["POST"])])


def filtered(folder: Path, clients: int) -> RequestFilter:
    """The same behind the filter, with the keys of this number of clients."""
    for name in ["VLLM_API_KEY", *(f"client-{number}" for number in range(clients))]:
        (folder / name).write_bytes(KEY if name == "VLLM_API_KEY" else name.encode() * 8)
    settings = Settings(
        paths=API_PATHS["generate"],
        keys=str(folder),
        header_bytes=2**14,
        body_bytes=2**25,
        sequences=64,
        prompt_characters=2**23,
        prompt_tokens=2**20,
    )
    return RequestFilter(engine(), settings)


async def _seconds(app: Any, load: Load) -> list[float]:
    """Time of each request, of a server of its own."""
    server = uvicorn.Server(uvicorn.Config(app, http="httptools", lifespan="off", log_level="critical"))
    # With the protocol, or asyncio leaves Nagle's algorithm on.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    task = asyncio.create_task(server.serve([listener]))
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.getsockname()[1], limit=2**20)
    head = f"POST /v1/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {KEY.decode()}\r\n"
    request = f"{head}Content-Type: application/json\r\nContent-Length: {len(load.body)}\r\n\r\n".encode() + load.body
    times = []
    for _ in range(load.count):
        started = time.perf_counter()
        writer.write(request)
        answer = await reader.readuntil(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(answer.decode())
        await reader.readuntil(b"\r\n0\r\n\r\n" if b"chunked" in answer else b"answer")
        times.append(time.perf_counter() - started)
    writer.close()
    server.should_exit = True
    await task
    return times


async def _measure(turns: int, clients: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        print(f"{'request':<26} {'without':>10} {'with':>10} {'ratio':>6}")
        for load in LOADS:
            without: list[float] = []
            with_filter: list[float] = []
            for _ in range(turns):
                without += await _seconds(engine(), load)
                with_filter += await _seconds(filtered(Path(folder), clients), load)
            before, after = statistics.median(without), statistics.median(with_filter)
            print(f"{load.name:<26} {before * 1000:>7.2f} ms {after * 1000:>7.2f} ms {after / before:>6.2f}")


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.request_filter", description=__doc__)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--clients", type=int, default=10, help="clients with a key of their own")
    given = parser.parse_args()
    asyncio.run(_measure(given.turns, given.clients))
    return 0


if __name__ == "__main__":
    sys.exit(main())
