"""Another attempt after a while, as long as it may help."""

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from .errors import StoppedError, TransientError

Result = TypeVar("Result")

RETRY_AFTER_MAX_SECONDS = 60
"""The longest wait that a server can ask for."""

REFUSALS = 4
"""How often in a row an action may be refused before that is taken for the answer: some refusals are those of one
server behind a name, or of one moment."""


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """Exponential with full jitter (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).

    With the defaults the waits add up to six and a half minutes on average: more than the five minutes for which
    Hugging Face counts requests, and enough for a new AccessKey to become known everywhere.
    """

    attempts: int = 20
    base_seconds: float = 0.5
    cap_seconds: float = 60
    stop: threading.Event = field(default_factory=threading.Event)
    """Ends every wait; what is waited for then raises StoppedError."""

    def call(self, what: str, attempt: Callable[[], Result]) -> Result:
        """The result of ``attempt``, tried again after each TransientError. Raises MoveError after too many."""
        failures = Failures(self, what)
        while True:
            try:
                return attempt()
            except TransientError as error:
                failures.wait(error)


@dataclass
class Failures:
    """Failures in a row of one action. ``reset`` after each progress."""

    backoff: Backoff
    what: str
    count: int = 0
    refusals: int = 0

    def wait(self, error: TransientError) -> None:
        """Waits before the next attempt; raises the error's ``final`` once there were too many."""
        self.count += 1
        self.refusals += error.refusal
        if self.count >= self.backoff.attempts or self.refusals >= REFUSALS:
            raise error.final(f"{self.what}: gave up after {self.count} attempts; the last one: {error}") from None
        seconds = min(self.backoff.cap_seconds, self.backoff.base_seconds * 2 ** (self.count - 1)) * random.random()  # noqa: S311
        if error.wait is not None:
            seconds += min(error.wait, RETRY_AFTER_MAX_SECONDS)
        if self.backoff.stop.wait(seconds):
            raise StoppedError(self.what)

    def reset(self) -> None:
        """Forgets the failures: there was progress."""
        self.count = self.refusals = 0
