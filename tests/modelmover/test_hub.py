"""What a hub's answer is taken for, and how long it is waited for."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

import pytest

from deepseek_acs.modelmover import http
from deepseek_acs.modelmover.errors import (
    DataError,
    MoveError,
    StoppedError,
    TransientError,
    UnavailableError,
    UsageError,
)
from deepseek_acs.modelmover.files import SourceFile
from deepseek_acs.modelmover.http import retry_after
from deepseek_acs.modelmover.retry import RETRY_AFTER_MAX_SECONDS, Backoff, Failures
from deepseek_acs.modelmover.sources.hub import AddressError, Hub, positioned

FILE = SourceFile(path="m", size=100, digest=f"sha256:{'0' * 64}")


@dataclass
class Answer:
    """Headers, and a body of ``left`` bytes."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    left: int = 100
    closed: bool = False
    url: str = "https://cdn/m?Signature=hidden"

    def readinto(self, buffer: memoryview) -> int:
        count = min(len(buffer), self.left)
        self.left -= count
        return count

    def close(self) -> None:
        self.closed = True

    @property
    def response(self) -> http.Response:
        return cast(http.Response, self)


def part(content_range: str, length: str = "60") -> Answer:
    return Answer(206, {"content-range": content_range, "content-length": length}, left=60)


class TestPosition:
    @pytest.mark.parametrize(
        ("answer", "offset", "left"),
        [
            (Answer(headers={"content-length": "100"}), 0, 100),
            (Answer(), 0, 100),
            (part("bytes 40-99/100"), 40, 60),
            (Answer(headers={"content-length": "100"}), 40, 60),
        ],
    )
    def test_body_begins_where_it_is_to(self, answer: Answer, offset: int, left: int) -> None:
        assert positioned(answer.response, FILE, offset) is answer.response
        assert (answer.left, answer.closed) == (left, False)

    @pytest.mark.parametrize(
        ("answer", "offset", "said"),
        [
            (part("bytes 39-98/100"), 40, "asked for the bytes 40-99/100, the answer has 39-98/100"),
            (part("bytes 40-98/100"), 40, "asked for the bytes 40-99/100, the answer has 40-98/100"),
            (part("bytes 40-99/101"), 40, "asked for the bytes 40-99/100, the answer has 40-99/101"),
            (part("bytes 40-99/*"), 40, "asked for the bytes 40-99/100, the answer has -1--1/-1"),
            (Answer(206), 40, "asked for the bytes 40-99/100, the answer has -1--1/-1"),
            (part("bytes 40-99/100", length="59"), 40, "60 bytes are listed, the answer has 59"),
            (Answer(headers={"content-length": "101"}), 0, "100 bytes are listed, the answer has 101"),
            (Answer(headers={"content-encoding": "gzip"}), 0, "the answer is encoded as gzip"),
            (Answer(headers={"content-length": "abc"}), 0, "the answer has no usable length"),
            (Answer(left=39), 40, "the answer broke off"),
        ],
    )
    def test_any_other_answer_is_given_up_unread(self, answer: Answer, offset: int, said: str) -> None:
        with pytest.raises(TransientError) as caught:
            positioned(answer.response, FILE, offset)
        assert str(caught.value) == f"https://cdn/m: {said}"
        assert answer.closed


class TestAddresses:
    @pytest.mark.parametrize(
        "location",
        ["http://cdn/m", "ftp://cdn/m", "file:///etc/passwd", "https://cdn:99999/m", "https://[x/m", "https://a b/m"],
    )
    def test_redirect_that_is_unusable_or_readable_on_the_way_is_refused(
        self, monkeypatch: pytest.MonkeyPatch, location: str
    ) -> None:
        asked: list[str] = []

        def request(pool: object, method: str, url: str, *, headers: Mapping[str, str]) -> http.Response:
            asked.append(url)
            return Answer(302, {"location": location}, url=url).response

        monkeypatch.setattr(http.Connections, "request", request)
        with pytest.raises(AddressError, match=r"redirects from HTTPS to http://cdn/m; refused|an unusable address"):
            Hub("https://hub", {}).open("/m", FILE, 0, {})
        assert asked == ["https://hub/m"]

    def test_token_is_sent_to_the_hub_by_tls_alone(self) -> None:
        with pytest.raises(UsageError, match=r"http://hub is plain HTTP, and the hub's token would be readable"):
            Hub("http://hub", {"Authorization": "Bearer hidden"})
        for endpoint in ("https://hub", "http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1"):
            Hub(endpoint, {"Authorization": "Bearer hidden"})
        Hub("http://hub", {})

    def test_redirects_without_an_end_are_reported(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def request(pool: object, method: str, url: str, *, headers: Mapping[str, str]) -> http.Response:
            return Answer(302, {"location": url}, url=url).response

        monkeypatch.setattr(http.Connections, "request", request)
        with pytest.raises(TransientError, match=r"https://hub/m: redirected more than 5 times") as caught:
            Hub("https://hub", {}).open("/m", FILE, 0, {})
        assert (caught.value.refusal, caught.value.final) == (True, DataError)


class Stop(threading.Event):
    """Notes the waits instead of waiting."""

    def __init__(self, *, stops: bool = False) -> None:
        super().__init__()
        self.waits: list[float | None] = []
        self._stops = stops

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout)
        return self._stops


class TestWaiting:
    @pytest.mark.parametrize(
        ("answer", "seconds"),
        [
            (Answer(429), None),
            (Answer(503, {"retry-after": "7"}), 7),
            (
                Answer(429, {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT", "date": "Wed, 21 Oct 2026 07:27:50 GMT"}),
                10,
            ),
            (Answer(429, {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT", "date": "Wed, 21 Oct 2026 07:28:50 GMT"}), 0),
            (Answer(429, {"retry-after": "soon"}), None),
            (Answer(429, {"retry-after": "²"}), None),
            (Answer(429, {"ratelimit": '"api";r=0;t=55'}), 55),
            (Answer(429, {"ratelimit": '"api";r=0;t=55', "retry-after": "3"}), 3),
            (Answer(503, {"ratelimit": '"api";r=9;t=55'}), None),
        ],
    )
    def test_hub_says_how_long(self, answer: Answer, seconds: float | None) -> None:
        assert retry_after(answer.response) == seconds

    def test_what_the_server_asks_for_comes_on_top(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("random.random", lambda: 1.0)
        stop = Stop()
        failures = Failures(Backoff(base_seconds=1, cap_seconds=4, stop=stop), "list")
        for wait in (None, 10, RETRY_AFTER_MAX_SECONDS + 1, 0, None):
            failures.wait(TransientError("busy", wait=wait))
        assert stop.waits == [1, 2 + 10, 4 + RETRY_AFTER_MAX_SECONDS, 4, 4]
        failures.reset()
        failures.wait(TransientError("busy"))
        assert stop.waits[-1] == 1

    def test_there_is_an_end_to_it(self) -> None:
        failures = Failures(Backoff(attempts=2, stop=Stop()), "list")
        failures.wait(TransientError("busy"))
        with pytest.raises(UnavailableError, match="list: gave up after 2 attempts; the last one: busy"):
            failures.wait(TransientError("busy"))

    def test_it_can_be_stopped(self) -> None:
        with pytest.raises(StoppedError):
            Failures(Backoff(stop=Stop(stops=True)), "list").wait(TransientError("busy"))

    def test_a_refusal_is_believed_after_a_few_attempts(self) -> None:
        stop = Stop()

        def attempt() -> None:
            raise TransientError("refused", final=DataError, refusal=True)

        with pytest.raises(DataError, match="list: gave up after 4 attempts; the last one: refused"):
            Backoff(stop=stop).call("list", attempt)

    def test_what_cannot_heal_is_not_waited_for(self) -> None:
        stop = Stop()

        def attempt() -> None:
            raise MoveError("for good")

        with pytest.raises(MoveError, match="for good"):
            Backoff(stop=stop).call("list", attempt)
        assert stop.waits == []
