"""The checks of one engine through a client: health, models, a completion, and whether the key is required."""

import http.client
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from deepseek_acs.chatclient import MAX_TOKENS, Client, Completion, ProtocolError, StatusError

from .results import FaultError, Found, Layer, Report, SkippedError, Value

UNAUTHORIZED = 401
CUT = (OSError, http.client.HTTPException)
"""Exceptions of a connection that breaks or times out."""

WRONG_KEY = "no-key-of-this-stack"

BENT_HOST = "leader/x"
"""With it, versions of vLLM before 0.22 check another path than the one that they serve (CVE-2026-48746)."""

REPEATED_CHARACTERS = 8
"""From how many characters on an answer that repeats one of them is taken for damaged."""

ROLL = "pulumi up with service.apiKey: true, which gives the leaders keys and the request filter and rolls the group"
GET_KEY = "export VLLM_API_KEY=$(pulumi config get --stack STACK deepseek:apiKey)"


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What the engine is to serve, and the command that shows its log, for what to do next. ``filtered`` says whether a
    request filter is in front of it, as it should be where there is a key."""

    model: str
    logs: str
    filtered: bool = True
    timeout_seconds: float
    """Longest time without a byte of the answer."""


def check_engine(report: Report, client: Client, expected: Expected, *, pod: str = "") -> None:
    """All steps; steps that need a failed one are skipped."""
    if report.step(Layer.ENGINE, lambda: health(client, expected), pod=pod) is None:
        return
    if report.step(Layer.MODEL, lambda: models(client, expected), pod=pod) is None:
        return
    if report.step(Layer.COMPLETION, lambda: completion(client, expected), pod=pod) is None:
        return
    if client.key is None:
        report.skip(Layer.KEY, "no API key is configured, so none is required")
    else:
        report.step(Layer.KEY, lambda: key(client, expected), pod=pod)
        report.step(Layer.KEY, lambda: way_around(client, expected), pod=pod)


def health(client: Client, expected: Expected) -> Found[bool]:
    """vLLM's ``/health``, which fails when the engine behind the server has died."""
    _asked("/health", client.health, expected)
    return Found("/health answers", True)


def models(client: Client, expected: Expected) -> Found[dict[str, str]]:
    """The served name is listed."""
    found = _asked("/v1/models", client.models, expected)
    if expected.model not in found:
        raise FaultError(
            Layer.MODEL,
            f"the engine serves {', '.join(found) or 'nothing'}, not {expected.model}",
            fix="pulumi preview shows whether deployment.model.servedName differs from the running group; pulumi up "
            "updates the group",
        )
    return Found(f"{expected.model} is listed, owned by {found[expected.model] or 'no one'}", found)


def completion(client: Client, expected: Expected) -> Found[Completion]:
    """A streamed chat completion with tokens, a reason for its end, and counts that agree."""
    got = _asked("the chat completion", lambda: client.complete(expected.model), expected)
    if wrong := _wrong(got):
        raise FaultError(Layer.COMPLETION, wrong, fix=expected.logs)
    speed = f", then {got.tokens_per_second:.1f} tokens/s" if got.tokens_per_second else ""
    first = f"{got.first_token_seconds:.2f}" if got.first_token_seconds is not None else "?"
    return Found(f"{got.tokens} tokens ({got.finish_reason}), the first after {first} s{speed}{_noise(got)}", got)


def key(client: Client, expected: Expected) -> Found[bool]:
    """The same completion is refused without a key, with an empty one, and with a wrong one."""
    _without_key(client, expected)
    for kind, given in {"an empty key": "", "a wrong key": WRONG_KEY}.items():
        ask = partial(client.with_key(given).status, "GET", "/v1/models")
        status = _asked(f"the request with {kind}", ask, expected)
        if status != UNAUTHORIZED:
            raise FaultError(Layer.KEY, f"the engine answers HTTP {status} to {kind}, not 401", fix=ROLL)
    return Found("without the key, with an empty and with a wrong one the engine refuses (401)", True)


def _without_key(client: Client, expected: Expected) -> None:
    try:
        client.with_key(None).complete(expected.model)
    except StatusError as error:
        if error.status == UNAUTHORIZED:
            return
        raise _fault("the request without the key", error, expected) from None
    except (*CUT, ProtocolError) as error:
        raise _fault("the request without the key", error, expected) from None
    raise FaultError(
        Layer.KEY,
        "the engine answers without the key: any client that reaches it can use it",
        fix=ROLL,
    )


@dataclass(frozen=True)
class WayAround:
    """A request without the key that vLLM's own check accepts, and the answers that refuse it. It is incomplete: an
    engine that accepts it answers that something is missing."""

    name: str
    method: str
    path: str
    refused: frozenset[int]
    body: object = None
    host: str | None = None


REFUSED = frozenset({401, 403, 404, 405})
WAYS_AROUND = (
    WayAround("/invocations", "POST", "/invocations", REFUSED, body={}),
    WayAround("/tokenize", "POST", "/tokenize", REFUSED, body={}),
    WayAround("a bent Host", "GET", "/v1/models", REFUSED | {400}, host=BENT_HOST),
)


def way_around(client: Client, expected: Expected) -> Found[bool]:
    """No endpoint computes without the key."""
    without = client.with_key(None)
    found = []
    for way in WAYS_AROUND:
        ask = partial(without.status, way.method, way.path, way.body, host=way.host)
        status = _asked(f"{way.name} without the key", ask, expected)
        if status not in way.refused:
            found.append(f"{way.name} (HTTP {status})")
    if not found:
        return Found(f"so are {', '.join(way.name for way in WAYS_AROUND)}", True)
    said = f"without the key it answers to {', '.join(found)}"
    if not expected.filtered:
        raise SkippedError(f"{said}: service.requestFilter is null")
    raise FaultError(Layer.KEY, f"{said}: any client that reaches it can use it", fix=ROLL)


def _noise(got: Completion) -> str:
    """A warning if an answer is one character over and over, which a model with random weights may give, too."""
    if len(got.text) < REPEATED_CHARACTERS or len(set(got.text)) > 1:
        return ""
    return (
        f"; warning: it is one character {len(got.text)} times, as from damaged weights or a kernel that computes "
        "wrongly on this GPU: compare the files with modelmover verify --full"
    )


def _wrong(got: Completion) -> str:
    """What is wrong with an answer; empty if nothing is."""
    prompt, total = got.usage.get("prompt_tokens"), got.usage.get("total_tokens")
    if not got.text:
        return "the answer has no tokens"
    if got.finish_reason is None:
        return "the answer has no finish_reason: it was cut off"
    if got.tokens is None or not isinstance(prompt, int):
        return "the answer has no usage"
    if prompt < 1 or not 1 <= got.tokens <= MAX_TOKENS or total != prompt + got.tokens or got.chunks > got.tokens:
        return (
            f"the counts do not agree: {prompt} tokens of prompt and {got.tokens} of answer are {total}; "
            f"{got.chunks} pieces came and at most {MAX_TOKENS} tokens were asked for"
        )
    return ""


def _asked(what: str, ask: Callable[[], Value], expected: Expected) -> Value:
    try:
        return ask()
    except (StatusError, ProtocolError, *CUT) as error:
        raise _fault(what, error, expected) from None


def _fault(what: str, error: Exception, expected: Expected) -> FaultError:
    match error:
        case StatusError(status=401):
            return FaultError(Layer.KEY, f"{what}: the engine refuses this key, or requires one", fix=GET_KEY)
        case StatusError(status=404):
            return FaultError(Layer.MODEL, f"{what}: {error}", fix=expected.logs)
        case StatusError() if error.status < http.client.INTERNAL_SERVER_ERROR:
            return FaultError(Layer.COMPLETION, f"{what}: {error}", fix=expected.logs)
        case StatusError():
            problem = f"{what}: {error}: the engine behind the server has failed"
        case TimeoutError():
            problem = f"{what}: no byte in {expected.timeout_seconds:g} s: the engine behind the server hangs"
        case ProtocolError():
            return FaultError(Layer.COMPLETION, f"{what}: {error}", fix=expected.logs)
        case _:
            problem = f"{what}: the connection broke ({type(error).__name__})"
    return FaultError(Layer.ENGINE, problem, fix=expected.logs)
