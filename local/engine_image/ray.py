"""``ray_init.sh leader|worker ...``: the rendezvous of Ray without Ray. The leader waits for its workers and returns; a
worker joins the leader, stays, and ends with it."""

import argparse
import os
import signal
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Sequence

PORT = 6379
RETRY_SECONDS = 0.5
JOINED = b"ok\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="ray_init.sh", description=__doc__, allow_abbrev=False)
    parser.add_argument("role", choices=["leader", "worker"])
    parser.add_argument("--ray_cluster_size", type=int, default=1)
    parser.add_argument("--ray_address", default="")
    parser.add_argument("--ray_init_timeout", type=float, default=300)
    parser.add_argument("--ray_port", type=int, default=PORT)
    given, _ = parser.parse_known_args(arguments)
    deadline = time.monotonic() + given.ray_init_timeout
    if given.role == "worker":
        return join(given.ray_address, given.ray_port, deadline)
    return gather(given.ray_cluster_size - 1, given.ray_port, deadline)


def gather(workers: int, port: int, deadline: float) -> int:
    """Listens in a process of its own, which stays, and waits until as many workers have joined."""
    read, write = os.pipe()
    listener = os.fork()
    if listener == 0:
        os.close(read)
        _listen(workers, port, write)
    os.close(write)
    os.set_blocking(read, False)
    while time.monotonic() < deadline:
        try:
            if os.read(read, 1):
                print(f"All {workers + 1} ray workers are active", flush=True)
                return 0
            return 1
        except BlockingIOError:
            time.sleep(RETRY_SECONDS)
    os.kill(listener, signal.SIGKILL)
    print(f"error: not all of {workers} workers have joined in time", file=sys.stderr)
    return 1


def _listen(workers: int, port: int, write: int) -> None:
    full = threading.Semaphore(0)

    class Worker(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            print(f"{self.client_address[0]} has joined", flush=True)
            self.request.sendall(JOINED)
            full.release()
            self.request.recv(1)

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

    server = Server(("", port), Worker)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for _ in range(workers):
        full.acquire()
    os.write(write, b"1")
    threading.Event().wait()


def join(address: str, port: int, deadline: float) -> int:
    """Connects to the leader, and returns when the connection ends."""
    while time.monotonic() < deadline:
        try:
            connection = socket.create_connection((address, port), 5)
            connection.settimeout(None)
            break
        except OSError as error:
            print(f"{address}:{port}: {error}", flush=True)
            time.sleep(RETRY_SECONDS)
    else:
        print(f"error: the leader {address} is not there", file=sys.stderr)
        return 1
    with connection:
        if connection.recv(len(JOINED)) == JOINED:
            print(f"joined {address}", flush=True)
            connection.recv(1)
    print("the leader has gone", flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
