"""Who is filling a prefix: an object of the mover that keeps another model's run away from it.

Runs of the same model share a claim, because what they do is the same. A run that was killed leaves its claim behind;
it ends LEASE_SECONDS after its last renewal, by the clock of OSS.
"""

import contextlib
import json
import logging
import threading
from types import TracebackType

from .errors import DataError, MoveError, StoppedError, UnavailableError, UnfinishedError
from .layout import claim_key
from .oss.client import Bucket, ObjectExistsError

RENEW_SECONDS = 60
LEASE_SECONDS = 600
"""More than a run waits for an OSS that fails (``deepseek_acs/modelmover/retry.py``)."""

ATTEMPTS = 3

log = logging.getLogger(__name__)


def holder(bucket: Bucket, prefix: str) -> str | None:
    """The source that has claimed ``prefix``, None if there is no claim or it cannot be read."""
    try:
        return str(json.loads(bucket.get(claim_key(prefix)) or b"")["source"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


class Claim:
    """The right to fill ``prefix`` with ``source``, a repository at its commit, while it is entered."""

    def __init__(self, bucket: Bucket, prefix: str, source: str) -> None:
        self._bucket = bucket
        self._prefix = prefix
        self._key = claim_key(prefix)
        self._source = source
        self._content = json.dumps({"source": source}).encode()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="claim", daemon=True)

    def __enter__(self) -> "Claim":
        """Raises DataError if another model has the prefix."""
        self._take()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        with contextlib.suppress(MoveError, StoppedError):
            if self._holder() == self._source:
                self._bucket.delete(self._key)

    def require(self) -> None:
        """Raises UnfinishedError if another model has the prefix by now."""
        if (other := self._holder()) not in (None, self._source):
            raise UnfinishedError(
                f"oss://{self._bucket.name}/{self._prefix} was taken over by a run that moves {other}; this one had "
                f"given no sign of life for {LEASE_SECONDS} s"
            )

    def _take(self) -> None:
        for _ in range(ATTEMPTS):
            try:
                self._bucket.put(self._key, self._content, replaces=False)
            except ObjectExistsError:
                age = self._bucket.age(self._key)
                other = self._holder()
                if other not in (None, self._source) and age < LEASE_SECONDS:
                    raise DataError(
                        f"oss://{self._bucket.name}/{self._prefix} is being filled from {other} by another run, whose "
                        f"last sign of life was {age:.0f} s ago; two models must not share a prefix: choose another "
                        f"one, or wait until that run has ended (one that was killed: {LEASE_SECONDS} s)"
                    ) from None
                self._bucket.delete(self._key)
                continue
            if self._bucket.age(self._key) > RENEW_SECONDS:
                # Left behind by an earlier run of the same model.
                self._bucket.put(self._key, self._content)
            return
        raise UnavailableError(f"oss://{self._bucket.name}/{self._key} changes with each look at it; run again")

    def _holder(self) -> str | None:
        return holder(self._bucket, self._prefix)

    def _renew(self) -> None:
        while not self._ended.wait(RENEW_SECONDS):
            try:
                if self._holder() in (None, self._source):
                    self._bucket.put(self._key, self._content)
            except (MoveError, StoppedError) as error:
                log.warning("the claim of the prefix was not renewed: %s", error)
