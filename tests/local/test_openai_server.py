"""The small server, as what drains it sees it: requests under way are counted, and end before it does."""

import http.client
import json
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deepseek_acs.engineprobe import program as engineprobe
from local.faults import Fault
from local.openai.server import OpenAiServer, Served
from local.ports import held_port

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
CHAT = {"model": "ds", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
SLOW = Fault(action="slow-response", path="chat", bytes_per_second=3000)


def begin(port: int) -> http.client.HTTPResponse:
    """A stream of which the head has come."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("POST", "/v1/chat/completions", json.dumps(CHAT))
    return connection.getresponse()


def running(port: int) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        load = engineprobe.parse(answer.read().decode())
    assert load is not None
    return load.requests


def test_a_request_counts_until_it_is_answered() -> None:
    with OpenAiServer(lambda: Served(models=frozenset({"ds"}))) as server:
        server.faults.add(SLOW)
        port = int(server.url.rpartition(":")[2])
        assert running(port) == 0
        answer = begin(port)
        assert running(port) == 1
        assert answer.read().endswith(b"data: [DONE]\n\n")
        # The client has the end of it a moment earlier.
        while running(port):
            pass


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[Any], int]]:
    """As the image of real nodes runs it."""
    command = [sys.executable, "-m", "local.engine_image.vllm", "serve", str(tmp_path)]
    command += ["--served-model-name=ds", "--shutdown-timeout=60"]
    with (
        held_port() as port,
        subprocess.Popen([*command, f"--port={port}"], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process,
    ):
        assert process.stdout is not None
        assert process.stdout.readline().startswith("serving ds")
        yield process, port
        process.kill()


def test_requests_under_way_end_first(engine: tuple[subprocess.Popen[Any], int]) -> None:
    process, port = engine
    faults = json.dumps([SLOW.model_dump()]).encode()
    while True:
        # It says that it serves just before it does.
        try:
            urllib.request.urlopen(
                urllib.request.Request(f"http://127.0.0.1:{port}/-/faults", data=faults, method="POST")
            )
            break
        except urllib.error.URLError:
            assert process.poll() is None
    answer = begin(port)
    process.send_signal(signal.SIGTERM)
    while can_connect(port):
        assert process.poll() is None
    assert answer.read().endswith(b"data: [DONE]\n\n")
    assert process.wait() == 0


def can_connect(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
