"""The only memory that grows with the work, and so the only brake: who has no buffer waits."""

import queue
from collections.abc import Iterator
from contextlib import contextmanager

from modelmover.errors import StoppedError
from modelmover.retry import Backoff

POLL_SECONDS = 0.2


class BufferPool:
    """``count`` buffers of ``size`` bytes, made when they are first needed."""

    def __init__(self, *, count: int, size: int, backoff: Backoff) -> None:
        self.size = size
        self._stop = backoff.stop
        self._free: queue.LifoQueue[bytearray | None] = queue.LifoQueue()
        for _ in range(count):
            self._free.put(None)

    def take(self) -> bytearray:
        """A buffer, once one is free. Raises StoppedError."""
        while not self._stop.is_set():
            try:
                return self._free.get(timeout=POLL_SECONDS) or bytearray(self.size)
            except queue.Empty:
                continue
        raise StoppedError("waiting for a buffer")

    def give_back(self, buffer: bytearray) -> None:
        """Frees a buffer."""
        self._free.put(buffer)

    @contextmanager
    def lent(self) -> Iterator[bytearray]:
        """A buffer for the length of a block."""
        buffer = self.take()
        try:
            yield buffer
        finally:
            self.give_back(buffer)
