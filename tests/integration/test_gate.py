"""What the gate asks, of the small server and of the same one with faults."""

import http.client
import itertools
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from components.zipapps import archive
from deepseek_acs.chatclient import Client
from deepseek_acs.gate.exam import CALIBRATION, Examiner, Paper, Question
from deepseek_acs.gate.judgement import Limits, Measured, wrong
from deepseek_acs.gate.record import Record
from local.faults import Fault
from local.openai.server import OpenAiServer, Reply, Served

pytestmark = pytest.mark.integration

LIMITS = Limits(at_least=1, worse_by=0, slower_by=1.25)
PAPER = Paper(
    questions=(
        Question(ask="What are you?", holds=("SMALL server", "no  engine")),
        Question(ask="Do you compute?", holds=("no tokens",)),
    ),
    max_tokens=64,
    long_tokens=1500,
    requests=4,
    concurrency=2,
    output_tokens=20,
)
CHAT = "^/v1/chat/completions"


def examiner(server: OpenAiServer, *, long_seconds: float = 5) -> Examiner:
    parts = urlsplit(server.url)
    numbers = itertools.count()

    def client(host: str, silence: float) -> Client:
        return Client(connect=partial(http.client.HTTPConnection, host, parts.port, timeout=silence))

    return Examiner(
        client,
        "ds",
        PAPER,
        LIMITS,
        lambda: f"n{next(numbers)}",
        silence_seconds=5,
        long_seconds=long_seconds,
    )


def record(measured: Measured) -> Record:
    assert measured.speed is not None
    return Record(
        template_digest="aaaaaaaa",
        image_digest="",
        revision="",
        exam=PAPER.digest,
        asked=measured.asked,
        passed=measured.passed,
        first_token_seconds=measured.speed.first_token_seconds,
        tokens_per_second=measured.speed.tokens_per_second,
        accepted_at="",
        template={},
    )


@pytest.fixture(scope="module")
def known() -> Record:
    """Of a server without faults."""
    with OpenAiServer(lambda: Served(models=frozenset({"ds"}))) as server:
        return record(examiner(server).examine("127.0.0.1", None))


@pytest.fixture
def server() -> Iterator[OpenAiServer]:
    with OpenAiServer(lambda: Served(models=frozenset({"ds"}))) as found:
        yield found


def test_equal_weights_pass_ten_times_in_a_row(server: OpenAiServer, known: Record) -> None:
    for _ in range(10):
        measured = examiner(server).examine("127.0.0.1", known)
        assert (measured.passed, measured.asked) == (2, 2)
        assert wrong(LIMITS, measured, known, exam=PAPER.digest) == ""


def said(server: OpenAiServer, known: Record, **options: Any) -> str:
    return wrong(LIMITS, examiner(server, **options).examine("127.0.0.1", known), known, exam=PAPER.digest)


def test_weights_of_zeros(known: Record) -> None:
    with OpenAiServer(lambda: Served(models=frozenset({"ds"})), reply=Reply(text="! " * 40)) as damaged:
        found = said(damaged, known)
    assert found.startswith("0 of 2 questions were answered rightly, and atLeast is 1; for example ")
    assert "one character repeated: damaged weights" in found


def test_a_sleep_per_token(server: OpenAiServer, known: Record) -> None:
    server.faults.add(Fault(action="slow-response", times=None, path=CHAT, bytes_per_second=8000))
    assert "tokens/s came, and too many to measure by the accepted template" in said(server, known)


def test_a_delay_that_passes_is_measured_again(server: OpenAiServer, known: Record) -> None:
    # After the questions and the three prompts of the long one.
    server.faults.add(Fault(action="delay", after=2 + 3, times=PAPER.requests, path=CHAT, seconds=0.3))
    assert said(server, known) == ""


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (Fault(action="reset-request", times=None, least_bytes=5000), "has no answer: ConnectionResetError"),
        (Fault(action="answer", status=500, times=None, least_bytes=5000), "has no answer: StatusError: HTTP 500"),
        (Fault(action="hold", times=None, least_bytes=5000), "has no answer: TimeoutError: timed out"),
    ],
)
def test_long_prompts_without_an_answer(server: OpenAiServer, known: Record, fault: Fault, text: str) -> None:
    server.faults.add(fault)
    try:
        found = said(server, known, long_seconds=0.5)
    finally:
        server.faults.clear()
    assert found.startswith("the prompt of 1,500 tokens ")
    assert text in found


def test_a_long_prompt_that_is_cut(known: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    from local.openai import server as module

    whole = module._ChatCompletion.text.fget  # type: ignore[attr-defined]
    cut = property(lambda asked: " ".join(whole(asked).split()[:1000]))
    monkeypatch.setattr(module._ChatCompletion, "text", cut)
    with OpenAiServer(lambda: Served(models=frozenset({"ds"}))) as short:
        assert said(short, known) == "of the prompt of 1,500 tokens, the engine has read 1,000"


def test_a_load_that_is_not_answered(server: OpenAiServer, known: Record) -> None:
    server.faults.add(Fault(action="answer", status=503, after=2 + len(CALIBRATION) + 1, times=None, path=CHAT))
    assert said(server, known).startswith("4 of 4 requests, 2 at a time, failed: StatusError: HTTP 503")


def test_the_program_runs_without_any_package(tmp_path: Path) -> None:
    path = tmp_path / "gate.pyz"
    path.write_bytes(archive("gate"))
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(path), "--help"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "--baseline" in done.stdout
