"""Ends a plugin together with the engine that started it."""

from __future__ import annotations

import os
import stat
import sys
import threading
from collections.abc import Callable


def on_engine_gone(stop: Callable[[], None]) -> None:
    """Call `stop`, from another thread, once the engine that started this plugin has gone.

    The engine holds the other end of a plugin's standard input and never writes to it, so end of file there means that
    it has ended, even by SIGKILL. Standard input that is not a pipe is ignored."""
    descriptor = sys.stdin.fileno()
    if not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
        return

    def watch() -> None:
        while os.read(descriptor, 1024):
            pass
        stop()

    threading.Thread(target=watch, name="engine-lifeline", daemon=True).start()
