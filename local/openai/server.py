"""The server."""

import hmac
import itertools
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from local.http_service import LOOPBACK, Body, RefusedError, Request, Response, Service, invalid
from local.openai.metrics import CONTENT_TYPE, Metrics
from local.openai.middleware import Middleware, through

OWNER = "deepseek-local"
"""What ``owned_by`` says, where vLLM says ``vllm``."""

SENTENCE = (
    "This is a small server of the embedded cluster and no engine: it computes no tokens, and every answer is this "
    "sentence, cut to the length that was asked for."
)
PROTECTED = ("/v1",)
"""Paths that vLLM asks the key for, and no others
(https://github.com/vllm-project/vllm/blob/v0.7.2/vllm/entrypoints/openai/api_server.py)."""


@dataclass(frozen=True, kw_only=True)
class Served:
    """What the engines in whose place it answers were told."""

    models: frozenset[str]
    keys: frozenset[str] = field(default=frozenset(), repr=False)
    """API keys; without any, none is asked for."""
    middlewares: tuple[Middleware, ...] = ()
    """What is in front of each of them; without any, all is asked of the engine itself."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """The answer. Counts and reason can be made wrong, for tests of what reads them."""

    text: str = SENTENCE
    finish_reason: str | None = None
    """None: the right one."""
    total_tokens: int | None = None
    """None: the right number."""


Asked = TypeVar("Asked", bound=BaseModel)


class _Message(BaseModel):
    role: str
    content: str | None = None


class _StreamOptions(BaseModel):
    include_usage: bool = False


class _Completion(BaseModel):
    """What is read of a request; more is accepted, as vLLM does."""

    model_config = ConfigDict(frozen=True)

    model: str
    max_tokens: Annotated[int | None, Field(ge=1)] = None
    max_completion_tokens: Annotated[int | None, Field(ge=1)] = None
    stream: bool = False
    stream_options: _StreamOptions = _StreamOptions()


class _ChatCompletion(_Completion):
    messages: Annotated[tuple[_Message, ...], Field(min_length=1)]

    @property
    def text(self) -> str:
        """All that was said."""
        return " ".join(message.content or "" for message in self.messages)


class _TextCompletion(_Completion):
    prompt: str

    @property
    def text(self) -> str:
        """All that was said."""
        return self.prompt


class _Prompt(BaseModel):
    prompt: str


class OpenAiServer(Service):
    """Answers for the engines that ``served`` describes, which is asked for each request."""

    def __init__(
        self, served: Callable[[], Served], *, reply: Reply | None = None, port: int = 0, address: str = LOOPBACK
    ) -> None:
        super().__init__(port=port, address=address)
        self._served = served
        self._reply = reply or Reply()
        self._metrics = Metrics()
        self._ids = itertools.count(1)

    def handle(self, request: Request) -> Response:
        served = self._served()
        if served.middlewares:
            return through(served.middlewares, request, lambda seen, body: self._engine(seen, body, served))
        return self._engine(request, request.body.read(), served)

    def _engine(self, request: Request, body: bytes, served: Served) -> Response:
        if _normal_path(request).startswith(PROTECTED):
            _require_key(request, served)
        match request.method, request.path:
            case "GET", "/health":
                return Response()
            case "GET", "/version" | "/docs" | "/openapi.json":
                return Response.json({"version": "0.7.2"})
            case "POST", "/tokenize":
                prompt = _read(_Prompt, body).prompt
                return Response.json({"count": len(prompt.split()), "tokens": [1] * len(prompt.split())})
            case "POST", "/invocations":
                chat = b'"messages"' in body
                return self._complete(_read(_ChatCompletion, body) if chat else _read(_TextCompletion, body), served)
            case "GET", "/v1/models":
                return Response.json({"object": "list", "data": [_model(name) for name in sorted(served.models)]})
            case "POST", "/v1/chat/completions":
                return self._counted(request, self._complete(_read(_ChatCompletion, body), served))
            case "POST", "/v1/completions":
                return self._counted(request, self._complete(_read(_TextCompletion, body), served))
            case "GET", "/metrics":
                text = self._metrics.text(sorted(served.models))
                return Response(headers={"Content-Type": CONTENT_TYPE}, body=Body(text))
        raise RefusedError(HTTPStatus.NOT_FOUND, "Not Found")

    def _counted(self, request: Request, response: Response) -> Response:
        self._metrics.answer(request.path, request.method, response.status)
        return response

    def refusal(self, request: Request, status: int, code: str, message: str) -> Response:
        self._metrics.answer(request.path, request.method, status)
        error = {"object": "error", "message": message, "type": code, "param": None, "code": status}
        return Response.json(error, status=status)

    def _complete(self, asked: _ChatCompletion | _TextCompletion, served: Served) -> Response:
        if asked.model not in served.models:
            raise RefusedError(HTTPStatus.NOT_FOUND, f"The model `{asked.model}` does not exist.")
        words = self._reply.text.split()
        limit = asked.max_completion_tokens or asked.max_tokens or len(words)
        answer = [word if place == 0 else f" {word}" for place, word in enumerate(words[:limit])]
        right: Literal["length", "stop"] = "length" if limit < len(words) else "stop"
        prompt_tokens = max(len(asked.text.split()), 1)
        usage = {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": len(answer),
            "total_tokens": self._reply.total_tokens or prompt_tokens + len(answer),
        }
        self._metrics.count(asked.model, prompt_tokens=prompt_tokens, generated_tokens=len(answer), reason=right)
        form = _Form(asked, number=next(self._ids))
        self._metrics.begin(asked.model)
        ended = partial(self._metrics.end, asked.model)
        reason = self._reply.finish_reason or right
        if not asked.stream:
            whole = json.dumps(form.whole("".join(answer), reason, usage)).encode()
            return Response(headers={"Content-Type": "application/json"}, body=_Answer(whole, ended))
        events = form.events(answer, reason, usage if asked.stream_options.include_usage else None)
        body = b"".join(f"data: {json.dumps(event)}\n\n".encode() for event in events) + b"data: [DONE]\n\n"
        return Response(headers={"Content-Type": "text/event-stream; charset=utf-8"}, body=_Answer(body, ended))


class _Answer(Body):
    """Tells when it has been sent."""

    def __init__(self, content: bytes, ended: Callable[[], None]) -> None:
        super().__init__(content)
        self._ended = ended

    def close(self) -> None:
        super().close()
        self._ended()


class _Form:
    """The two forms of an answer, each whole or in pieces
    (https://platform.openai.com/docs/api-reference/chat/streaming)."""

    def __init__(self, asked: _ChatCompletion | _TextCompletion, *, number: int) -> None:
        self._chat = isinstance(asked, _ChatCompletion)
        name = "chat.completion" if self._chat else "text_completion"
        self._head: dict[str, Any] = {"id": f"{'chatcmpl' if self._chat else 'cmpl'}-{number}", "model": asked.model}
        self._head |= {"created": int(time.time())}
        self._whole, self._piece = name, "chat.completion.chunk" if self._chat else name

    def whole(self, text: str, reason: str, usage: dict[str, int]) -> dict[str, Any]:
        content = {"message": {"role": "assistant", "content": text}} if self._chat else {"text": text}
        choice = {"index": 0, **content, "logprobs": None, "finish_reason": reason}
        return {**self._head, "object": self._whole, "choices": [choice], "usage": usage}

    def events(self, pieces: list[str], reason: str, usage: dict[str, int] | None) -> Iterator[dict[str, Any]]:
        if self._chat:
            yield self._event({"delta": {"role": "assistant", "content": ""}}, None)
        for piece in pieces:
            yield self._event({"delta": {"content": piece}} if self._chat else {"text": piece}, None)
        yield self._event({"delta": {}} if self._chat else {"text": ""}, reason)
        if usage is not None:
            yield {**self._head, "object": self._piece, "choices": [], "usage": usage}

    def _event(self, content: dict[str, Any], reason: str | None) -> dict[str, Any]:
        choice = {"index": 0, **content, "logprobs": None, "finish_reason": reason}
        return {**self._head, "object": self._piece, "choices": [choice]}


def _require_key(request: Request, served: Served) -> None:
    given = (request.headers.get("Authorization") or "").removeprefix("Bearer ")
    # All are compared, so that the time tells nothing.
    fits = [hmac.compare_digest(given.encode(), key.encode()) for key in served.keys]
    if served.keys and not any(fits):
        raise RefusedError(HTTPStatus.UNAUTHORIZED, "Unauthorized")


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": OWNER}


def _normal_path(request: Request) -> str:
    """The path that vLLM before 0.22 checks: that of a URL which its framework makes with the header Host
    (CVE-2026-48746)."""
    return urlsplit(f"http://{request.headers.get('Host') or 'localhost'}{request.target}").path


def _read(model: type[Asked], body: bytes) -> Asked:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise invalid(error) from None
