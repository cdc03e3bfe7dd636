"""Connections: kept, shared, given up when they are of no use; errors that can be printed."""

import threading
from pathlib import Path

import pytest

from deepseek_acs.modelmover.errors import TransientError
from deepseek_acs.modelmover.http import Connections
from local.faults import Fault
from local.http_service import Body, Request, Response, Service

pytestmark = pytest.mark.integration

CONTENT = bytes(range(256)) * 1000


class Echo(Service):
    """Answers with what was sent, or with the content."""

    def handle(self, request: Request) -> Response:
        return Response(body=Body(request.body.read() or CONTENT), ranged=True)


@pytest.fixture
def connections() -> Connections:
    return Connections()


def test_connection_is_used_again_once_its_answer_was_read(connections: Connections) -> None:
    with Echo() as server:
        connections.request("GET", server.url).read()
        (kept,) = connections._idle.values()
        first = kept[0]
        connections.request("GET", server.url).read()
        assert kept == [first]
        response = connections.request("GET", server.url)
        response.readinto(memoryview(bytearray(10)))
        response.close()
        assert kept == [], "the rest of the body is still to come on it"


def test_body_is_sent_from_any_buffer(connections: Connections) -> None:
    with Echo() as server:
        for body in (b"abc", bytearray(b"abc"), memoryview(b"xabcx")[1:4]):
            assert connections.request("PUT", server.url, body=body).read() == b"abc"


def test_stale_connection_does_not_fail(connections: Connections) -> None:
    with Echo() as server:
        connections.request("GET", server.url).read()
        server.faults.add(Fault(action="reset-request"))
        assert connections.request("GET", server.url).read() == CONTENT
        assert server.faults.used_up()


@pytest.mark.parametrize(
    "fault",
    [
        Fault(action="reset-response", offset=10, times=None),
        Fault(action="truncate-response", offset=10, times=None),
    ],
)
def test_answer_that_breaks_off_is_an_error(connections: Connections, fault: Fault) -> None:
    with Echo() as server:
        server.faults.add(fault)
        with pytest.raises(
            TransientError, match=r"^http://127\.0\.0\.1:\d+/a: the (connection broke|answer broke off)"
        ):
            connections.request("GET", f"{server.url}/a?Signature=hidden").read()


def test_a_refused_connection_is_an_error_without_the_query(connections: Connections) -> None:
    with Echo() as server:
        url = server.url
    with pytest.raises(TransientError) as caught:
        connections.request("GET", f"{url}/a?Signature=hidden")
    assert str(caught.value) == f"{url}/a: the connection was refused"


def test_unknown_host_is_an_error(connections: Connections) -> None:
    with pytest.raises(TransientError, match="the host's name cannot be resolved"):
        connections.request("GET", "http://nowhere.invalid/")


def test_answer_too_large_for_memory_is_refused(connections: Connections) -> None:
    with Echo() as server, pytest.raises(TransientError, match="more than 1000 bytes"):
        connections.request("GET", server.url).read(1000)


def test_answer_that_trickles_is_given_up(connections: Connections, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepseek_acs.modelmover.http.ANSWER_SECONDS", 0)
    monkeypatch.setattr("deepseek_acs.modelmover.http.WATCH_SECONDS", 0.01)
    with Echo() as server:
        server.faults.add(Fault(action="slow-response", bytes_per_second=100))
        with pytest.raises(TransientError, match=r"no answer within|did not end within"):
            connections.request("GET", server.url).read()


def test_threads_do_not_share_a_connection(connections: Connections, tmp_path: Path) -> None:
    results: list[bytes] = []
    with Echo() as server:
        bodies = [bytes([n]) * 100_000 for n in range(8)]
        threads = [
            threading.Thread(
                target=lambda b=body: results.append(connections.request("PUT", server.url, body=b).read())
            )
            for body in bodies
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(results) == bodies
