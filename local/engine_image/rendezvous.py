"""Where the pods of a group meet: a port of the leader's, without Ray and without torch."""

import os
import signal
import socket
import socketserver
import threading
import time

RETRY_SECONDS = 0.5
JOINED = b"ok\n"


def gather(workers: int, port: int, deadline: float) -> bool:
    """Listens in a process of its own, which stays, and waits until as many workers have joined. False if they have
    not by ``deadline``, or if nothing can listen there."""
    read, write = os.pipe()
    listener = os.fork()
    if listener == 0:
        os.close(read)
        _listen(workers, port, write)
    os.close(write)
    os.set_blocking(read, False)
    while time.monotonic() < deadline:
        try:
            return bool(os.read(read, 1))
        except BlockingIOError:
            time.sleep(RETRY_SECONDS)
    os.kill(listener, signal.SIGKILL)
    return False


def _listen(workers: int, port: int, write: int) -> None:
    full = threading.Semaphore(0)

    class Worker(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            # A probe connects, too, and leaves.
            if self.request.recv(len(JOINED)) != JOINED:
                return
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


def join(address: str, port: int, deadline: float) -> socket.socket | None:
    """A connection that ends with the leader; None if it is not there by ``deadline``."""
    while time.monotonic() < deadline:
        try:
            connection = socket.create_connection((address, port), 5)
            connection.settimeout(None)
            connection.sendall(JOINED)
            if connection.recv(len(JOINED)) == JOINED:
                print(f"joined {address}", flush=True)
                return connection
            connection.close()
        except OSError as error:
            print(f"{address}:{port}: {error}", flush=True)
        time.sleep(RETRY_SECONDS)
    return None
