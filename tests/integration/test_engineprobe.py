"""The program as the pods start it: a file, run by Python, against a server of this machine."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from components.expansion import interruptible

pytestmark = pytest.mark.integration

PROGRAM = str(files("deepseek_acs.engineprobe").joinpath("program.py"))


@dataclass
class Vllm:
    """A server that answers as vLLM's does."""

    requests: int = 0
    progress: int = 0
    health: int = 200
    completions: int = 200
    keys: list[str | None] = field(default_factory=list)
    port: int = 0

    def metrics(self) -> str:
        return f'vllm:num_requests_running{{m="x"}} {self.requests}.0\nvllm:generation_tokens_total {self.progress}.0\n'


@pytest.fixture
def vllm() -> Iterator[Vllm]:
    state = Vllm()

    class Handler(BaseHTTPRequestHandler):
        def answer(self, status: int, body: str = "") -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def do_GET(self) -> None:
            if self.path == "/health":
                self.answer(state.health)
            else:
                self.answer(200, state.metrics())

        def do_POST(self) -> None:
            state.keys.append(self.headers.get("Authorization"))
            self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(state.completions)

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


def run(*arguments: str, **environment: str) -> tuple[int, str]:
    # A proxy would be used for the loopback interface, too.
    variables = {**os.environ, "http_proxy": "http://127.0.0.1:9", **environment}
    done = subprocess.run(
        [sys.executable, "-I", PROGRAM, *arguments], capture_output=True, text=True, env=variables, timeout=60
    )
    assert not done.stderr
    return done.returncode, done.stdout.strip()


@pytest.fixture
def check(vllm: Vllm, tmp_path: Path) -> list[str]:
    return [
        "check-engine",
        f"--port={vllm.port}",
        "--stall-seconds=300",
        "--model=ds",
        f"--state-file={tmp_path / 'state'}",
    ]


def test_a_healthy_engine(vllm: Vllm, check: list[str], tmp_path: Path) -> None:
    vllm.requests, vllm.progress = 2, 100
    assert run(*check) == (0, "ok")
    assert json.loads((tmp_path / "state").read_text())["progress"] == 100


def test_a_stuck_engine(vllm: Vllm, check: list[str], tmp_path: Path) -> None:
    vllm.requests, vllm.completions = 2, 500
    assert run(*check) == (0, "ok")
    state = json.loads((tmp_path / "state").read_text())
    (tmp_path / "state").write_text(json.dumps({**state, "moved": state["moved"] - 300}))
    code, said = run(*check)
    assert code == 1
    assert said.startswith("2 requests and no progress for 3")


def test_a_dead_engine(vllm: Vllm, check: list[str]) -> None:
    vllm.health = 503
    assert run(*check) == (1, "/health does not answer 200")


@pytest.mark.parametrize("status", [200, 401, 500])
def test_its_own_request_takes_the_key_from_the_environment(
    vllm: Vllm, check: list[str], tmp_path: Path, status: int
) -> None:
    vllm.completions = status
    run(*check)
    state = json.loads((tmp_path / "state").read_text())
    (tmp_path / "state").write_text(json.dumps({**state, "alive": state["alive"] - 300}))
    assert run(*check, "--canary", VLLM_API_KEY="hunter2") == (0, "ok")
    assert vllm.keys == ["Bearer hunter2"]
    assert "hunter2" not in (tmp_path / "state").read_text()


def test_a_worker_knows_its_leader_by_a_port(vllm: Vllm) -> None:
    assert run("check-leader", f"--port={vllm.port}", LWS_LEADER_ADDRESS="127.0.0.1") == (0, "ok")
    assert run("check-leader", f"--port={vllm.port}", "--met", LWS_LEADER_ADDRESS="127.0.0.1") == (0, "ok")
    assert run("check-leader", f"--port={vllm.port}", LWS_LEADER_ADDRESS="leader.invalid") == (
        1,
        f"leader.invalid:{vllm.port} cannot be reached",
    )


def test_a_leader_without_requests_ends(vllm: Vllm, tmp_path: Path) -> None:
    limits = ["--announce-seconds=0", "--request-seconds=60", f"--log-file={tmp_path / 'log'}"]
    assert run("drain", f"--port={vllm.port}", *limits) == (0, "")
    assert (tmp_path / "log").read_text().startswith("engineprobe: all requests are done")


def test_a_worker_whose_leader_has_ended_ends(tmp_path: Path) -> None:
    options = ["--port=9", "--seconds=60", f"--log-file={tmp_path / 'log'}"]
    assert run("outlast", *options, LWS_LEADER_ADDRESS="127.0.0.1") == (0, "")
    assert (tmp_path / "log").read_text().startswith("engineprobe: the leader has ended")


@pytest.mark.parametrize(("connected", "said"), [(True, "the leader is still there"), (False, "the leader has ended")])
def test_a_worker_does_not_wait_for_the_next_leader_of_its_name(tmp_path: Path, connected: bool, said: str) -> None:
    """That one listens at the same port, but this pod has not joined it."""
    address = "127.45.6.8"
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server((address, 0)))
        if connected:
            stack.enter_context(socket.create_connection(server.getsockname()))
        options = [f"--port={server.getsockname()[1]}", "--seconds=12", f"--log-file={tmp_path / 'log'}"]
        assert run("outlast", *options, LWS_LEADER_ADDRESS=address) == (0, "")
    assert (tmp_path / "log").read_text().startswith(f"engineprobe: {said}")


def test_a_shell_that_waits_can_be_terminated() -> None:
    script = interruptible("{ echo started; exec sleep 60; }") + " && exec echo served"
    shell = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert shell.stdout is not None
    try:
        assert shell.stdout.readline() == "started\n"
        shell.terminate()
        assert shell.wait(timeout=30) == 143
    finally:
        # In a pod, what is left ends with its first process.
        os.killpg(shell.pid, signal.SIGKILL)
        shell.stdout.close()


@pytest.mark.parametrize(("command", "code", "said"), [("true", 0, "served\n"), ("exit 3", 3, "")])
def test_a_start_that_failed_is_not_hidden(command: str, code: int, said: str) -> None:
    script = interruptible(command) + " && exec echo served"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (code, said)
