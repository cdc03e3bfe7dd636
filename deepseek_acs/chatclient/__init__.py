"""A client of an OpenAI-compatible server: health, models, one streamed chat completion. Standard library alone."""

import http.client
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

MAX_TOKENS = 16
PROMPT = "Reply with one short sentence: what is deep learning?"
BODY_BYTES = 2**20
"""Of an answer that is not streamed."""


class StatusError(Exception):
    """The server answered with an error; the text is the beginning of what it says."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"HTTP {status}: {text}" if text else f"HTTP {status}")
        self.status = status


class ProtocolError(Exception):
    """The answer does not conform to the API."""


@dataclass(frozen=True, kw_only=True)
class Completion:
    """The result of a chat completion. Times in seconds since the request was sent."""

    text: str
    """All pieces, those of the reasoning first."""
    answer: str
    """Without the reasoning, as far as a parser has set it apart."""
    chunks: int
    """Pieces of text: at most as many as tokens, since one piece can hold several."""
    finish_reason: str | None
    usage: Mapping[str, Any]
    first_token_seconds: float | None
    last_token_seconds: float | None

    @property
    def tokens(self) -> int | None:
        """Tokens of the answer, as the server counts them."""
        count = self.usage.get("completion_tokens")
        return count if isinstance(count, int) else None

    @property
    def tokens_per_second(self) -> float | None:
        """After the first token; None if there were too few tokens."""
        if self.first_token_seconds is None or self.last_token_seconds is None or not self.tokens:
            return None
        seconds = self.last_token_seconds - self.first_token_seconds
        return (self.tokens - 1) / seconds if self.tokens > 1 and seconds >= 0.01 else None


@dataclass(frozen=True, kw_only=True)
class Client:
    """A client of one server; every request has its own connection.

    :param connect: makes a connection whose reads end after ``silence_seconds`` without a byte.
    """

    connect: Callable[[], http.client.HTTPConnection]
    key: str | None = field(default=None, repr=False)
    clock: Callable[[], float] = time.monotonic

    def with_key(self, key: str | None) -> "Client":
        """The same client with other credentials, or none."""
        return Client(connect=self.connect, key=key, clock=self.clock)

    def status(self, method: str, path: str, body: object = None, *, host: str | None = None) -> int:
        """The status of the answer. ``host`` is sent as the header Host."""
        try:
            for _ in self._lines(method, path, body, host=host):
                pass
        except StatusError as error:
            return error.status
        return http.client.OK

    def health(self) -> None:
        """Raises StatusError, OSError, http.client.HTTPException, as all requests do."""
        for _ in self._lines("GET", "/health"):
            pass

    def models(self) -> dict[str, str]:
        """Names of the served models and their owners: ``vllm`` is vLLM. Raises ProtocolError."""
        body = _json(b"".join(self._lines("GET", "/v1/models")))
        try:
            return {str(item["id"]): str(item.get("owned_by", "")) for item in body["data"]}
        except (KeyError, TypeError, AttributeError):
            raise ProtocolError("/v1/models has no list of models") from None

    def complete(self, model: str, prompt: str = PROMPT, *, max_tokens: int = MAX_TOKENS) -> Completion:
        """An answer, streamed, at temperature 0. Raises ProtocolError."""
        body = {
            "model": model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": max_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        started = self.clock()
        text: list[str] = []
        answer: list[str] = []
        times: list[float] = []
        finish_reason: str | None = None
        usage: Mapping[str, Any] = {}
        for event in _events(self._lines("POST", "/v1/chat/completions", body)):
            if "error" in event:
                # An error after the first byte cannot have a status.
                raise StatusError(500, _message(event))
            usage = event.get("usage") or usage
            for choice in event.get("choices") or []:
                finish_reason = choice.get("finish_reason") or finish_reason
                delta = choice.get("delta") or {}
                if piece := _text(delta):
                    times.append(self.clock() - started)
                    text.append(piece)
                    answer.append(delta.get("content") or "")
        return Completion(
            text="".join(text),
            answer="".join(answer),
            chunks=len(text),
            finish_reason=finish_reason,
            usage=usage,
            first_token_seconds=times[0] if times else None,
            last_token_seconds=times[-1] if times else None,
        )

    def _lines(self, method: str, path: str, body: object = None, *, host: str | None = None) -> Iterator[bytes]:
        headers = {"Connection": "close", "Accept": "*/*"}
        if self.key is not None:
            headers["Authorization"] = f"Bearer {self.key}"
        if host is not None:
            headers["Host"] = host
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body).encode()
        with closing(self.connect()) as connection:
            connection.request(method, path, body=data, headers=headers)
            response = connection.getresponse()
            if response.status != http.client.OK:
                raise StatusError(response.status, self._reason(response.read(BODY_BYTES)))
            yield from response

    def _reason(self, body: bytes) -> str:
        try:
            text = _message(json.loads(body))
        except ValueError:
            text = body.decode(errors="replace")
        text = " ".join(text.split())[:200]
        return text.replace(self.key, "***") if self.key else text


def _text(delta: Mapping[str, Any]) -> str:
    """With a reasoning parser the first tokens are in a separate field, which has had two names
    (https://docs.vllm.ai/en/latest/features/reasoning_outputs/)."""
    return "".join(delta.get(name) or "" for name in ("reasoning_content", "reasoning", "content"))


def _events(lines: Iterator[bytes]) -> Iterator[dict[str, Any]]:
    """The events of a stream up to its end mark."""
    for line in lines:
        if not line.startswith(b"data:"):
            continue
        if not line.endswith(b"\n"):
            break
        data = line.removeprefix(b"data:").strip()
        if data == b"[DONE]":
            return
        yield _json(data)
    raise ProtocolError("the stream ended before its end mark")


def _json(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError:
        raise ProtocolError("the answer is not JSON") from None
    if not isinstance(value, dict):
        raise ProtocolError("the answer is not a JSON object")
    return value


def _message(body: object) -> str:
    """The text of an error in the forms that vLLM and its framework have."""
    if isinstance(body, dict):
        for name in ("error", "message", "detail"):
            if name in body:
                return _message(body[name])
    return str(body)
