"""Reads one file of a source in order, hashing as it goes, over as many connections as it takes."""

import time
from collections.abc import Callable

from .checksums import Hasher
from .errors import StoppedError, TransientError
from .files import SourceFile
from .retry import Backoff, Failures
from .sources import Stream

CHUNK_BYTES = 4 * 2**20
CHUNK_SECONDS = 0.5
"""What is hashed at once: this number of bytes, or what arrives in the time below. Each piece costs two turns of
Python's lock, so fast streams are hashed in large ones; slow ones in small ones, so that slowness, or a wish to stop,
is noticed."""

SLOW_BYTES_PER_SECOND = 16 * 2**10
SLOW_SECONDS = 60
"""A stream that is slower than this for ``SLOW_SECONDS`` is reopened: another server may be faster."""


Opener = Callable[[SourceFile, int], Stream]
"""Opens a file at an offset; raises MoveError or TransientError."""


class Reader:
    """``file`` from ``offset`` on, by as many calls of ``opened`` as it takes; ``hasher`` has seen what is before."""

    def __init__(self, opened: Opener, file: SourceFile, *, offset: int, hasher: Hasher, backoff: Backoff) -> None:
        self._open = opened
        self._file = file
        self._offset = offset
        self._hasher = hasher
        self._stop = backoff.stop
        self._failures = Failures(backoff, f"read {file.path}")
        self._stream: Stream | None = None
        self._window_seconds = 0.0
        self._window_bytes = 0

    def fill(self, buffer: memoryview) -> None:
        """Reads the next bytes, as many as ``buffer`` has room for. Raises MoveError or StoppedError."""
        done = 0
        while done < len(buffer):
            if self._stop.is_set():
                raise StoppedError(self._file.path)
            try:
                count = self._read(buffer[done : done + CHUNK_BYTES])
            except TransientError as error:
                self.close()
                self._failures.wait(error)
                continue
            self._hasher.update(buffer[done : done + count])
            self._failures.reset()
            done += count

    def close(self) -> None:
        """Gives the stream up."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _read(self, buffer: memoryview) -> int:
        if self._stream is None:
            self._stream = self._open(self._file, self._offset)
            self._window_seconds, self._window_bytes = 0.0, 0
        started = time.monotonic()
        count = 0
        while count < len(buffer) and time.monotonic() - started < CHUNK_SECONDS and not self._stop.is_set():
            received = self._stream.readinto(buffer[count:])
            if received == 0:
                break
            count += received
        if count == 0 and not self._stop.is_set():
            raise TransientError(f"the source ended at byte {self._offset} of {self._file.size}")
        self._offset += count
        # Only the time of reading: a reader that waits for a buffer is not slow.
        seconds = time.monotonic() - started
        self._require_speed(seconds, count)
        return count

    def _require_speed(self, seconds: float, count: int) -> None:
        self._window_seconds += seconds
        self._window_bytes += count
        if self._window_seconds < SLOW_SECONDS:
            return
        if self._window_bytes < SLOW_BYTES_PER_SECOND * self._window_seconds:
            # What was read counts; only the next bytes come by another connection.
            self.close()
        self._window_seconds, self._window_bytes = 0.0, 0
