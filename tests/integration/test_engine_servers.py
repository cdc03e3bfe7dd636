"""The request filter in front of the servers of published versions of vLLM: their own routers, key check, loading of
``--middleware`` and uvicorn. Only the engine itself is missing (tools/vllm_catalogue/server_of.py).

``make integration`` installs the packages of each server into an environment of its own.
"""

import contextlib
import json
import os
import subprocess
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from components.request_filter import ARGUMENTS, MODULE, SETTINGS_FILE
from deepseek_acs.planner.api_paths import api_paths
from deepseek_acs.planner.vllm_releases import release
from deepseek_acs.requestfilter import program
from local.ports import held_port
from tests.integration.filter_cases import CASES, KEY, ask, filled, limits, should_pass, write_keys
from tools.vllm_catalogue.wheels import CACHE, digest, published, unpacked

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
DIGESTS = tomllib.loads((ROOT / "tests" / "data" / "engine_servers" / "digests.toml").read_text())

OPEN_WITHOUT_KEY = ("POST /invocations", "POST /tokenize", "GET /version")
"""Routes of every version that ask for no key."""

BENT = ("0.7.2", "0.11.0")
"""Versions in which a bent Host opens all the others, too (CVE-2026-48746)."""


def published_files(version: str) -> Path:
    """Those of the wheel, if they are what was there when the test was written."""
    folder = CACHE / version
    if not folder.exists():
        folder = unpacked(next(wheel for wheel in published() if str(wheel.version) == version))
    assert digest(folder) == DIGESTS[version], f"the files of vLLM {version} are not those that were published"
    return folder


@dataclass(frozen=True, kw_only=True)
class Server:
    """One that runs, and the routes that it says it has."""

    port: int
    routes: tuple[tuple[str, str], ...]

    def route_reached(self, request: bytes) -> str | None:
        """The path of the route that answers; None if none does."""
        return ask(self.port, request).headers.get("x-route")


@contextlib.contextmanager
def served(version: str, words: Sequence[str], *, log: Path, pythonpath: Path) -> Iterator[Server]:
    """``vllm serve`` of a version, without an engine."""
    python = ROOT / ".venv" / "engines" / version / "bin" / "python"
    environment = {
        **{name: os.environ[name] for name in ("PATH", "HOME")},
        "PYTHONPATH": str(pythonpath),
        "PYTHONDONTWRITEBYTECODE": "1",
        "VLLM_API_KEY": KEY.decode(),
    }
    with (
        held_port() as port,
        log.open("w") as errors,
    ):
        command = [str(python), "-m", "tools.vllm_catalogue.server_of", str(published_files(version)), "model"]
        command += ["--host", "127.0.0.1", "--port", str(port), "--uvicorn-log-level", "error", *words]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, log.read_text()
            while not answers(port):
                assert process.poll() is None, log.read_text()
                time.sleep(0.1)
            yield Server(port=port, routes=tuple((method, path) for method, path in json.loads(line)))
        finally:
            process.kill()
            process.communicate()


def answers(port: int) -> bool:
    """Whether the server has begun."""
    with contextlib.suppress(ConnectionRefusedError):
        return ask(port, CASES["right key"].request("GET", "/health")).status > 0
    return False


@pytest.fixture
def program_folder(tmp_path: Path) -> Path:
    """The filter as the ConfigMap has it."""
    folder, keys = tmp_path / MODULE, tmp_path / "keys"
    folder.mkdir()
    keys.mkdir()
    write_keys(keys)
    (folder / f"{MODULE}.py").write_bytes(Path(program.__file__).read_bytes())
    (folder / SETTINGS_FILE).write_text(json.dumps({**limits(), "keys": str(keys)}))
    return folder


@pytest.mark.parametrize("version", DIGESTS)
def test_only_what_is_allowed_reaches_a_route(version: str, program_folder: Path, tmp_path: Path) -> None:
    wrong, reached = [], set()
    with served(version, ARGUMENTS, log=tmp_path / "log", pythonpath=program_folder) as server:
        for method, route in server.routes:
            path = filled(route)
            for name, asked in CASES.items():
                found = server.route_reached(asked.request(method, path))
                expected = route if should_pass(method, path, asked) else None
                if found != expected:
                    wrong.append((method, route, name, found))
                elif found:
                    reached.add(route)
    assert not wrong
    assert {"/health", "/metrics", "/v1/models", "/v1/chat/completions", "/v1/completions"} <= reached
    own = {path.split(" ")[1] for path in api_paths((), release.version(version)) if "messages" in path}
    assert own == {route for route in reached if "messages" in route}
    assert {"/invocations", "/tokenize", "/version"} <= {route for _, route in server.routes} - reached


@pytest.mark.parametrize("version", DIGESTS)
def test_a_stream_comes_through_the_engines_own_code(version: str, program_folder: Path, tmp_path: Path) -> None:
    with served(version, ARGUMENTS, log=tmp_path / "log", pythonpath=program_folder) as server:
        for path in ("/v1/chat/completions", "/v1/completions"):
            answer = ask(server.port, CASES["a client's key"].request("POST", path))
            assert (answer.status, b"data: [DONE]" in answer.body) == (200, True), answer


@pytest.mark.parametrize("version", DIGESTS)
def test_without_the_filter_routes_answer_without_a_key(version: str, program_folder: Path, tmp_path: Path) -> None:
    """What this is all about, so that the tests above cannot pass by accident."""
    with served(version, [], log=tmp_path / "log", pythonpath=program_folder) as server:
        for route in OPEN_WITHOUT_KEY:
            assert server.route_reached(CASES["no key"].request(*route.split(" "))) is not None, route
        for path in ("/v1/chat/completions", "/v1/completions"):
            assert server.route_reached(CASES["no key"].request("POST", path)) is None
            bent = server.route_reached(CASES["bent Host, no key"].request("POST", path))
            assert bent == (path if version in BENT else None)
