"""Orders for the relay. Apart from it, because a CNI plugin has to start fast."""

import contextlib
import json
import os
import socket
from pathlib import Path

CONTROL_SOCKET = "relay.sock"
CONTROL_SECONDS = 5


def order(folder: Path, name: str, namespace: Path | None = None) -> None:
    """Tells the relay of ``folder`` to serve the network namespace under ``name``, or to serve all below ``name`` no
    more. Raises OSError."""
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(socket.socket(socket.AF_UNIX))
        connection.settimeout(CONTROL_SECONDS)
        # A path of a socket is 108 bytes at most; this one is as short as any.
        opened = os.open(folder, os.O_RDONLY)
        stack.callback(os.close, opened)
        connection.connect(f"/proc/self/fd/{opened}/{CONTROL_SOCKET}")
        descriptors = []
        if namespace is not None:
            descriptors.append(os.open(namespace, os.O_RDONLY))
            stack.callback(os.close, descriptors[0])
        socket.send_fds(connection, [json.dumps({"name": name}).encode()], descriptors)
        answer = connection.recv(4096).decode()
    if answer != "ok":
        raise OSError(f"the relay of the nodes' network: {answer or 'no answer'}")
