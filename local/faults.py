"""Faults on demand: rules that a service of ``local.http_service`` applies to the requests that they match."""

import re
import threading
from collections.abc import Sequence
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, field_validator, model_validator

Action = Literal[
    "answer",
    "delay",
    "flip-request",
    "flip-response",
    "hold",
    "ignore-range",
    "lose-answer",
    "reset-request",
    "reset-response",
    "slow-response",
    "stale-size",
    "truncate-response",
    "wrong-content-range",
]


class Fault(BaseModel):
    """What goes wrong, with which requests.

    - ``answer``: ``status`` and ``code``, with Retry-After if ``retry_after`` is given; nothing is done.
    - ``delay``: waits ``seconds`` before the request is served.
    - ``flip-request``, ``flip-response``: the lowest bit of the body's byte at ``offset`` is inverted, before the
      service reads it or the client does.
    - ``hold``: waits until the rules are cleared, and then serves the request, whether its client still waits or not.
    - ``ignore-range``: the whole body with status 200.
    - ``lose-answer``: serves the request, then resets the connection instead of answering.
    - ``reset-request``: resets the connection after ``offset`` bytes of the request's body; 0 is before any work.
    - ``reset-response``: resets the connection after the head and ``offset`` bytes of the response's body.
    - ``slow-response``: ``bytes_per_second`` of the response's body.
    - ``stale-size``: ``offset`` is added to the Content-Length of HEAD, to the size after the slash of Content-Range,
      and to the sizes in listings of a service that heeds ``Request.size_error``.
    - ``truncate-response``: announces the full Content-Length and closes in order after ``offset`` bytes.
    - ``wrong-content-range``: ``offset`` is added to both ends in Content-Range; the body is the right one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    action: Action
    method: str | None = None
    """None matches all."""
    path: str = ""
    """Regular expression, searched in ``path?query`` as the client sent it. Only one that begins with ``^/-/`` matches
    control endpoints."""
    least_bytes: int = Field(default=0, ge=0)
    """Only requests whose body has at least this size in bytes, as it is announced."""
    after: int = Field(default=0, ge=0)
    """Number of matching requests that are served before the first fault."""
    times: int | None = Field(default=1, ge=1)
    """Number of matching requests that then fail; None: all of them."""
    offset: int = 0
    """Bytes."""
    status: int = Field(default=503, ge=400, le=599)
    code: str = "ServiceUnavailable"
    retry_after: int | None = Field(default=None, ge=0)
    """Seconds."""
    bytes_per_second: int = Field(default=1024, ge=1)
    seconds: float = Field(default=1.0, ge=0)

    @field_validator("path")
    @classmethod
    def _is_a_regular_expression(cls, path: str) -> str:
        try:
            re.compile(path)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return path

    @model_validator(mode="after")
    def _offset_fits_the_action(self) -> Self:
        if self.action in ("stale-size", "wrong-content-range"):
            if self.offset == 0:
                raise ValueError(f"{self.action} needs an offset other than 0")
        elif self.offset < 0:
            raise ValueError(f"the offset of {self.action} is a place in the body, so not negative")
        return self

    def matches(self, method: str, target: str, body_bytes: int) -> bool:
        """Whether the rule is about this request; ``target`` is ``path?query``."""
        if target.startswith("/-/") and not self.path.startswith("^/-/"):
            return False
        fits = self.method in (None, method) and body_bytes >= self.least_bytes
        return fits and re.search(self.path, target) is not None


FAULTS = TypeAdapter(list[Fault])
"""Reads rules from JSON."""


class Faults:
    """The rules of one service, in order; the first that applies to a request wins. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: list[tuple[Fault, list[int]]] = []
        self.cleared = threading.Event()
        """Set once the rules of now are cleared; later rules have another one."""

    def add(self, *faults: Fault) -> None:
        """Appends rules."""
        with self._lock:
            self._rules += [(fault, [0]) for fault in faults]

    def clear(self) -> None:
        """Forgets all rules."""
        with self._lock:
            self._rules.clear()
            self.cleared.set()
            self.cleared = threading.Event()

    def take(self, method: str, target: str, body_bytes: int = 0) -> Fault | None:
        """The fault of this request; counts it."""
        with self._lock:
            for fault, matched in self._rules:
                if not fault.matches(method, target, body_bytes):
                    continue
                matched[0] += 1
                if matched[0] > fault.after and (fault.times is None or matched[0] <= fault.after + fault.times):
                    return fault
        return None

    def matched(self) -> list[int]:
        """How many requests each rule has matched so far, in the order of the rules."""
        with self._lock:
            return [matched[0] for _, matched in self._rules]

    def used_up(self) -> bool:
        """Whether every rule that ends has ended, for tests which must know that their faults happened."""
        with self._lock:
            return all(fault.times is None or matched[0] >= fault.after + fault.times for fault, matched in self._rules)


def read_faults(text: bytes) -> Sequence[Fault]:
    """Rules from a JSON list. Raises pydantic.ValidationError, which names the place."""
    return FAULTS.validate_json(text)
