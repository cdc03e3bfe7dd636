"""What a group is asked. Standard library alone."""

import hashlib
import http.client
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Self

from deepseek_acs.chatclient import Client, Completion, ProtocolError, StatusError

from .judgement import Limits, Measured, Speed, slower
from .record import Record

FAILED = (StatusError, ProtocolError, OSError, http.client.HTTPException)
"""What a request without a usable answer raises."""

ATTEMPTS = 3
"""For a long prompt, or a load, that had no answer, and for a speed that is too low: other clients' requests may be the
cause."""

SENTENCE = "The quick brown fox jumps over the lazy dog. "
CALIBRATION = (20, 60)
"""Sentences of two short prompts, from whose tokens those of one sentence follow."""

COUNTED_SHARE = 0.95
"""Of the intended length, that the engine must have counted: a shorter prompt was cut."""

LOAD_SENTENCES = 20
REPEATED_CHARACTERS = 8
"""From how many characters on an answer that repeats one of them is taken for damaged."""

EXAMPLE_CHARACTERS = 80


@dataclass(frozen=True, kw_only=True)
class Question:
    """``ask``, and the texts that a right answer holds, in any case of letters."""

    ask: str
    holds: Sequence[str]

    def is_answered_by(self, text: str) -> bool:
        """Whether all texts are there."""
        folded = _folded(text)
        return all(_folded(one) in folded for one in self.holds)


@dataclass(frozen=True, kw_only=True)
class Paper:
    """All that is asked: questions, each with at most ``max_tokens`` of answer; a prompt of ``long_tokens``, 0 for
    none; and ``requests`` of ``output_tokens``, ``concurrency`` at a time."""

    questions: Sequence[Question]
    max_tokens: int
    long_tokens: int
    requests: int
    concurrency: int
    output_tokens: int

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """From the file that the program is given."""
        return cls(**{**given, "questions": tuple(Question(**one) for one in given["questions"])})

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:8]


class Examiner:
    """Asks one model. ``client`` makes a client of the leader at a host, whose requests end after some seconds
    without a byte. ``nonce`` is at the beginning of prompts whose cache must not help."""

    def __init__(
        self,
        client: Callable[[str, float], Client],
        model: str,
        paper: Paper,
        limits: Limits,
        nonce: Callable[[], str],
        *,
        silence_seconds: float,
        long_seconds: float,
    ) -> None:
        self._client, self._model, self._paper, self._limits = client, model, paper, limits
        self._nonce, self._silence, self._long = nonce, silence_seconds, long_seconds

    @property
    def exam(self) -> str:
        """Digest of what is asked."""
        return self._paper.digest

    def examine(self, host: str, known: Record | None) -> Measured:
        """Asks the leader at ``host``. ``known`` is the record that its speed is compared with: it is measured again
        while it is lower."""
        client = self._client(host, self._silence)
        passed, example = self._questions(client)
        asked = len(self._paper.questions)
        fault = self._long_prompt(host) if self._paper.long_tokens else ""
        if fault:
            return Measured(asked=asked, passed=passed, example=example, fault=fault)
        comparable = known if known is not None and known.exam == self.exam else None
        found: Speed | str = ""
        for _ in range(ATTEMPTS):
            found = self._load(client)
            if isinstance(found, Speed) and not slower(self._limits, found, comparable):
                break
        if isinstance(found, str):
            return Measured(asked=asked, passed=passed, example=example, fault=found)
        return Measured(asked=asked, passed=passed, example=example, speed=found)

    def _questions(self, client: Client) -> tuple[int, str]:
        """How many were answered rightly, and one that was not. One after another: batches of other sizes may compute
        other tokens."""
        passed, example = 0, ""
        for question in self._paper.questions:
            try:
                got = client.complete(self._model, question.ask, max_tokens=self._paper.max_tokens)
                text = got.answer or got.text
            except FAILED as error:
                example = example or f"{_short(question.ask)}: {error}"
                continue
            if question.is_answered_by(text):
                passed += 1
            else:
                example = example or f"{_short(question.ask)}: {_short(text)}{_noise(text)}"
        return passed, example

    def _long_prompt(self, host: str) -> str:
        """What is wrong with the answer to it; empty if nothing is."""
        found, target = "", self._paper.long_tokens
        for _ in range(ATTEMPTS):
            try:
                counts = [self._said(host, sentences) for sentences in CALIBRATION]
                each = (counts[1] - counts[0]) / (CALIBRATION[1] - CALIBRATION[0])
                around = counts[0] - CALIBRATION[0] * each
                counted = self._said(host, max(1, int((target - around) / each)))
            except (*FAILED, ZeroDivisionError) as error:
                found = f"the prompt of {target:,} tokens has no answer: {_name(error)}"
                continue
            if counted >= COUNTED_SHARE * target:
                return ""
            found = f"of the prompt of {target:,} tokens, the engine has read {counted:,}"
        return found

    def _said(self, host: str, sentences: int) -> int:
        """Tokens of such a prompt, as the engine has counted them. Raises one of FAILED."""
        prompt = f"{self._nonce()} {SENTENCE * sentences}Reply with one word."
        got = self._client(host, self._long).complete(self._model, prompt)
        count = got.usage.get("prompt_tokens")
        if not isinstance(count, int) or not got.text:
            raise ProtocolError("the answer has no tokens, or no usage")
        return count

    def _load(self, client: Client) -> Speed | str:
        """The speed, or what is wrong."""
        paper = self._paper

        def ask(_: int) -> Completion | str:
            prompt = f"{self._nonce()} {SENTENCE * LOAD_SENTENCES}Count from 1 to 1000."
            try:
                return client.complete(self._model, prompt, max_tokens=paper.output_tokens)
            except FAILED as error:
                return _name(error)

        with ThreadPoolExecutor(paper.concurrency) as pool:
            got = list(pool.map(ask, range(paper.requests)))
        if failed := [one for one in got if isinstance(one, str)]:
            return f"{len(failed)} of {paper.requests} requests, {paper.concurrency} at a time, failed: {failed[0]}"
        done = [one for one in got if isinstance(one, Completion)]
        firsts = [one.first_token_seconds for one in done if one.first_token_seconds is not None]
        rates = [one.tokens_per_second for one in done if one.tokens_per_second is not None]
        return Speed(
            first_token_seconds=round(median(firsts), 3) if firsts else None,
            # Of half of the requests: a rate of one that was too fast to measure has no number.
            tokens_per_second=round(median(rates), 2) if 2 * len(rates) > len(done) else None,
        )


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold()


def _short(text: str) -> str:
    text = " ".join(text.split())
    return f'"{text[:EXAMPLE_CHARACTERS]}{"…" if len(text) > EXAMPLE_CHARACTERS else ""}"'


def _noise(text: str) -> str:
    is_noise = len(text) >= REPEATED_CHARACTERS and len(set(text) - {" "}) == 1
    return (
        " (one character repeated: damaged weights, or a kernel that computes wrongly on this GPU)" if is_noise else ""
    )


def _name(error: Exception) -> str:
    said = str(error)
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
