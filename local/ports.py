"""Ports for servers of this machine that have to be told theirs."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

LOOPBACK = "127.0.0.1"


@contextmanager
def held_port() -> Iterator[int]:
    """A free port that no other program is given until the block ends.

    It is bound and not listening: a server that sets SO_REUSEADDR, as those of Python, Go and uvicorn do, can take it,
    and a connection before that is refused.
    """
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((LOOPBACK, 0))
        yield held.getsockname()[1]
