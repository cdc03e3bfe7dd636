"""The last lines of containers, over interruptions, restarts of the program, and successors of a pod."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from deepseek_acs.apiserver import ApiError, ApiServer
from deepseek_acs.incidents.gauges import Gauges, sums
from deepseek_acs.incidents.logs import Journal, Logs
from deepseek_acs.incidents.redaction import Redaction
from deepseek_acs.incidents.starts import Starts


def line(second: int, text: str = "x") -> str:
    return f"2026-11-29T15:00:{second:02}.000000001Z {text}"


class TestJournal:
    def test_keeps_the_last_lines_over_a_restart(self, tmp_path: Path) -> None:
        journal = Journal(tmp_path / "a.log", 3)
        for second in range(20):
            journal.add(line(second))
        assert journal.lines() == [line(17), line(18), line(19)]
        assert Journal(tmp_path / "a.log", 3).lines() == journal.lines()
        assert len((tmp_path / "a.log").read_text().splitlines()) <= 6, "the file is bounded as well"

    def test_ignores_what_it_has(self, tmp_path: Path) -> None:
        journal = Journal(tmp_path / "a.log", 10)
        for second in (1, 2, 1, 2, 3):
            journal.add(line(second))
        assert journal.lines() == [line(1), line(2), line(3)]

    def test_time_zones(self, tmp_path: Path) -> None:
        journal = Journal(tmp_path / "a.log", 10)
        journal.add("2026-11-29T23:00:01.000000001+08:00 x")
        journal.add(line(1, "the same moment, later text"[:1]))
        journal.add(line(2))
        assert journal.lines()[-1] == line(2)


class ApiFake(ThreadingHTTPServer):
    """Answers with what the tests put into ``logs``, and the pod of ``uid``."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.logs: dict[str, list[str]] = {}
        self.uid = "u1"
        self.asked: list[dict[str, list[str]]] = []
        self.done = threading.Event()


class _Handler(BaseHTTPRequestHandler):
    server: ApiFake

    def do_GET(self) -> None:
        found = urlsplit(self.path)
        query = parse_qs(found.query)
        if not found.path.endswith("/log"):
            self._answer(200, f'{{"items": [{{"metadata": {{"uid": "{self.server.uid}"}}}}]}}')
            self.server.done.set()
            return
        self.server.asked.append(query)
        kind = "previous" if "previous" in query else "follow"
        lines = self.server.logs.get(kind)
        self._answer(200 if lines is not None else 400, "".join(f"{one}\n" for one in lines or []))

    def _answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: Any) -> None:
        """Not into the tests' output."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiFake]:
    monkeypatch.setattr("deepseek_acs.incidents.logs.RETRY_SECONDS", 0)
    made = ApiFake()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture
def logs(server: ApiFake, tmp_path: Path) -> Callable[[], Logs]:
    (tmp_path / "token").write_text("t")
    (tmp_path / "state").mkdir()

    def make() -> Logs:
        api = ApiServer(f"http://127.0.0.1:{server.server_port}", tmp_path)
        return Logs(api, "n", tmp_path / "state", most=10, redaction=Redaction(None), starts=Starts())

    return make


POD = {"metadata": {"name": "r1-0", "uid": "u1"}}


def test_the_container_before_a_restart_is_read_too(server: ApiFake, logs: Callable[[], Logs]) -> None:
    server.logs = {"previous": [line(1, "died")], "follow": [line(2, "prompt: 'secret'"), line(3)]}
    server.uid = "u2"
    found = logs()
    found.follow(POD, ["vllm"])
    assert server.done.wait(10)
    assert found.of("u1") == {"vllm": [line(1, "died"), line(2, "prompt: [removed]"), line(3)]}
    assert server.asked[0]["tailLines"] == ["10"]
    found.forget("u1")
    assert found.of("u1") == {}


def test_a_restart_of_the_program_continues(server: ApiFake, logs: Callable[[], Logs]) -> None:
    server.logs = {"follow": [line(1), line(2)]}
    server.uid = "u2"
    first = logs()
    first.follow(POD, ["vllm"])
    assert server.done.wait(10)
    server.done.clear()
    server.logs = {"previous": [line(1)], "follow": [line(2), line(3)]}
    asked = len(server.asked)
    second = logs()
    assert second.of("u1") == {"vllm": [line(1), line(2)]}, "also of a pod that is gone"
    second.follow(POD, ["vllm"])
    assert server.done.wait(10)
    assert second.of("u1") == {"vllm": [line(1), line(2), line(3)]}
    assert [one.get("sinceTime") for one in server.asked[asked:]] == [["2026-11-29T15:00:02+00:00"]]


def test_anything_but_a_log_line_ends_the_reading(server: ApiFake, logs: Callable[[], Logs]) -> None:
    """The kubelet writes its own errors into the stream, without a time."""
    server.logs = {
        "previous": ["unable to retrieve container logs for containerd://1"],
        "follow": [line(1), "failed to try resolving symlinks", line(2)],
    }
    server.uid = "u2"
    found = logs()
    found.follow(POD, ["vllm"])
    assert server.done.wait(10)
    assert found.of("u1") == {"vllm": [line(1)]}


def test_a_refused_stream(server: ApiFake, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t")
    api = ApiServer(f"http://127.0.0.1:{server.server_port}", tmp_path)
    with pytest.raises(ApiError, match="400"):
        list(api.stream("/api/v1/namespaces/n/pods/r1-0/log", silence_seconds=5))
    with pytest.raises(ApiError):
        list(ApiServer("http://127.0.0.1:1", tmp_path).stream("/x", silence_seconds=5))


METRICS = """# HELP vllm:num_requests_running Requests
vllm:num_requests_running{engine="0",model_name="ds"} 2.0
vllm:num_requests_running{engine="1",model_name="ds"} 1.0
vllm:num_requests_waiting{engine="0",model_name="ds"} 4.0
"""


def test_gauges() -> None:
    assert sums(METRICS) == {"vllm:num_requests_running": 3, "vllm:num_requests_waiting": 4}
    assert Gauges(1, None).read("127.0.0.1") is None
