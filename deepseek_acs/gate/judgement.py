"""Whether a group passes: a function of what was measured, and of the record that it is compared with."""

from dataclasses import dataclass

from .record import Record

FIRST_TOKEN_NOISE_SECONDS = 0.1
TOKEN_NOISE_SECONDS = 0.005
"""Differences that mean nothing: below these, a ratio of two short times is noise."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """``at_least`` is the share of questions that must be answered rightly, ``worse_by`` how much lower than the
    accepted one it may be, and ``slower_by`` the ratio of times that is too slow."""

    at_least: float
    worse_by: float
    slower_by: float


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Medians of the requests of the fixed load."""

    first_token_seconds: float | None
    tokens_per_second: float | None
    """Of one request; None: too fast to measure."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a group has answered. ``fault`` is what no limit allows: a long prompt, or a load, without an answer."""

    asked: int
    passed: int
    example: str = ""
    """A question that was answered wrongly."""

    speed: Speed | None = None
    fault: str = ""


def wrong(limits: Limits, measured: Measured, known: Record | None, *, exam: str) -> str:
    """Why the group does not pass; empty if it does."""
    share = measured.passed / measured.asked
    counted = f"{measured.passed} of {measured.asked} questions were answered rightly"
    example = f"; for example {measured.example}" if measured.example else ""
    if share < limits.at_least:
        return f"{counted}, and atLeast is {limits.at_least:g}{example}"
    comparable = known if known is not None and known.exam == exam else None
    if comparable and share < comparable.passed / comparable.asked - limits.worse_by:
        return f"{counted}, and {comparable.passed} of {comparable.asked} by the accepted template{example}"
    if measured.fault:
        return measured.fault
    return slower(limits, measured.speed, comparable) if measured.speed else ""


def slower(limits: Limits, speed: Speed, known: Record | None) -> str:
    """In what it is too slow; empty if it is not, or if there is nothing to compare it with."""
    if known is None:
        return ""
    now, before = speed.first_token_seconds or 0, known.first_token_seconds or 0
    if now > before * limits.slower_by and now - before > FIRST_TOKEN_NOISE_SECONDS:
        return f"the first token came after {now:.2f} s, and after {before:.2f} s by the accepted template"
    now, before = _token_seconds(speed.tokens_per_second), _token_seconds(known.tokens_per_second)
    if now > before * limits.slower_by and now - before > TOKEN_NOISE_SECONDS:
        was = f"{known.tokens_per_second:.1f}" if known.tokens_per_second else "too many to measure"
        return f"{speed.tokens_per_second:.1f} tokens/s came, and {was} by the accepted template"
    return ""


def _token_seconds(per_second: float | None) -> float:
    return 1 / per_second if per_second else 0
