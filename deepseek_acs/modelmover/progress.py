"""How far the run is: a bar on a terminal, a line now and then in a log."""

import logging
import sys
import threading
import time
from types import TracebackType
from typing import Any

LOG_SECONDS = 15

log = logging.getLogger(__name__)


class Progress:
    """Counts bytes and files of a run of ``total_bytes`` in ``total_files``, and shows them while it is entered."""

    def __init__(self, *, total_bytes: int, total_files: int, kept_bytes: int = 0, kept_files: int = 0) -> None:
        self.sent_bytes = 0
        self._total_bytes = total_bytes
        self._total_files = total_files
        self._fetched_bytes = kept_bytes
        self._kept_bytes = kept_bytes
        self._files = kept_files
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._started = time.monotonic()
        self._thread = threading.Thread(target=self._show, name="progress", daemon=True)

    def fetched(self, count: int) -> None:
        """Adds bytes that the source has delivered; negative for bytes that will be fetched again."""
        with self._lock:
            self._fetched_bytes += count

    def kept(self, count: int) -> None:
        """Adds bytes that an earlier run had already moved."""
        with self._lock:
            self._fetched_bytes += count
            self._kept_bytes += count

    def sent(self, count: int) -> None:
        """Adds bytes that were sent to the bucket."""
        with self._lock:
            self.sent_bytes += count

    def file_done(self) -> None:
        """One file more is in the bucket."""
        with self._lock:
            self._files += 1

    def __enter__(self) -> "Progress":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def line(self) -> str:
        """The state in words."""
        seconds = max(time.monotonic() - self._started, 1e-9)
        rate = (self._fetched_bytes - self._kept_bytes) / seconds
        share = self._fetched_bytes / self._total_bytes if self._total_bytes else 1
        left = duration((self._total_bytes - self._fetched_bytes) / rate) if rate > 0 else "unknown"
        return (
            f"{size(self._fetched_bytes)} of {size(self._total_bytes)} ({share:.0%}), "
            f"{self._files} of {self._total_files} files, {rate / 2**20:.0f} MiB/s, left: {left}"
        )

    def _show(self) -> None:
        if sys.stderr.isatty():
            bar = _bar(self._total_bytes)
            if bar is not None:
                self._show_bar(bar)
                return
        while not self._ended.wait(LOG_SECONDS):
            log.info(self.line())

    def _show_bar(self, bar: Any) -> None:
        with bar:
            ended = False
            while not ended:
                ended = self._ended.wait(0.2)
                bar.set_postfix_str(f"{self._files} of {self._total_files} files", refresh=False)
                bar.n = self._fetched_bytes
                bar.refresh()


def _bar(total: int) -> Any:
    """A progress bar of tqdm, if it is installed. In a pod it is not."""
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm(total=total, unit="B", unit_scale=True, unit_divisor=1024, dynamic_ncols=True, smoothing=0.05)


def size(count: int) -> str:
    """Bytes for people."""
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.2f} MiB"


def duration(seconds: float) -> str:
    """Hours, minutes and seconds for people."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
