"""The only memory that grows with the work, and so the only brake: who has no buffer waits."""

import contextlib
import mmap
import queue
from collections.abc import Iterator

from .errors import StoppedError, exhausted, is_exhaustion
from .retry import Backoff

POLL_SECONDS = 0.2


class BufferPool:
    """``count`` buffers of ``size`` bytes, which take memory only from when they are first used."""

    def __init__(self, *, count: int, size: int, backoff: Backoff) -> None:
        self.size = size
        self._stop = backoff.stop
        self._free: queue.LifoQueue[memoryview] = queue.LifoQueue()
        try:
            memory = mmap.mmap(-1, count * size)
        except (OSError, MemoryError, OverflowError) as error:
            raise exhausted(error if is_exhaustion(error) else MemoryError()) from None
        # The first touch of each small page was a tenth of the mover's CPU time.
        with contextlib.suppress(AttributeError, OSError):
            memory.madvise(mmap.MADV_HUGEPAGE)
        for start in reversed(range(0, count * size, size)):
            self._free.put(memoryview(memory)[start : start + size])

    def take(self) -> memoryview:
        """A buffer, once one is free. Raises StoppedError."""
        while not self._stop.is_set():
            try:
                return self._free.get(timeout=POLL_SECONDS)
            except queue.Empty:
                continue
        raise StoppedError("waiting for a buffer")

    def give_back(self, buffer: memoryview) -> None:
        """Frees a buffer."""
        self._free.put(buffer)

    @contextlib.contextmanager
    def lent(self) -> Iterator[memoryview]:
        """A buffer for the length of a block."""
        buffer = self.take()
        try:
            yield buffer
        finally:
            self.give_back(buffer)
