"""Linux namespaces, for Python 3.11, which has neither ``os.unshare`` nor ``os.setns``."""

import ctypes
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

NEW_MOUNT, NEW_UTS, NEW_IPC, NEW_PID, NEW_NETWORK = 0x00020000, 0x04000000, 0x08000000, 0x20000000, 0x40000000
"""<linux/sched.h>"""

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)

Result = TypeVar("Result")


def unshare(flags: int) -> None:
    """Moves the calling thread into new namespaces. Raises OSError."""
    if _LIBC.unshare(flags):
        raise OSError(ctypes.get_errno(), f"unshare: {os.strerror(ctypes.get_errno())}")


def network_of(pid: int | None = None) -> Path:
    """The network namespace of a process, by default of the calling thread."""
    return Path(f"/proc/{pid}/ns/net" if pid else "/proc/thread-self/ns/net")


def in_network(namespace: int, call: Callable[[], Result]) -> Result:
    """What ``call`` returns in a thread of the network namespace that the descriptor ``namespace`` refers to. A socket
    stays in the namespace that it was made in."""
    results: list[Result] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            if _LIBC.setns(namespace, NEW_NETWORK):
                raise OSError(ctypes.get_errno(), f"setns: {os.strerror(ctypes.get_errno())}")
            results.append(call())
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def end_with_parent() -> None:
    """The kernel kills this process when its parent ends, and with the first process of a pid namespace all others."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
