"""Programs that send a key to a leader send it to no other server."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from deepseek_acs.canaryguard.watch import scrape
from deepseek_acs.incidents.gauges import Gauges

pytestmark = pytest.mark.integration


class Server(ThreadingHTTPServer):
    """Answers with metrics at one path, and redirects to it from all others."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(f"{self.path} {self.headers['Authorization']}")
        self.send_response(200 if self.path == "/elsewhere" else 302)
        self.send_header("Location", f"{self.server.url}/elsewhere")
        self.end_headers()
        self.wfile.write(b"vllm:num_requests_running 1.0\n")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield found
        found.shutdown()


def test_a_leader_cannot_pass_the_key_on(server: Server, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("k")
    assert scrape(f"{server.url}/metrics", "k") is None
    assert Gauges(server.server_port, key).read("127.0.0.1") is None
    assert server.asked == ["/metrics Bearer k"] * 2
    assert scrape(f"{server.url}/elsewhere", "k") == "vllm:num_requests_running 1.0\n"
