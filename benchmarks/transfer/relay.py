"""``python -m benchmarks.transfer.relay AT_ONCE [FROM TO]...``: moves the body of a GET into a PUT, from socket to
socket within the kernel (``splice``), without a look at it. Nothing that moves the same bytes over the same servers can
be expected to be much faster, so it is the measure of the others."""

import http.client
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from fcntl import F_SETPIPE_SZ, fcntl
from urllib.parse import urlsplit
from urllib.request import urlopen

PIPE_BYTES = 2**20


def main() -> None:
    """Raises what the first failed one raised."""
    at_once, *pairs = sys.argv[1:]
    with ThreadPoolExecutor(int(at_once)) as threads:
        list(threads.map(_relay, pairs[::2], pairs[1::2]))


def _relay(source: str, destination: str) -> None:
    parts = urlsplit(destination)
    with urlopen(source) as response, closing(http.client.HTTPConnection(parts.netloc)) as connection:
        size = int(response.headers["Content-Length"])
        connection.putrequest("PUT", f"{parts.path}?{parts.query}")
        connection.putheader("Content-Length", str(size))
        connection.endheaders()
        # What came in together with the head is in Python's buffer already.
        start = response.read(min(len(response.fp.peek()), size))
        connection.send(start)
        _splice(response.fileno(), connection.sock.fileno(), size - len(start))
        with connection.getresponse() as answer:
            if answer.status != http.client.OK:
                raise SystemExit(f"PUT was answered with {answer.status}")


def _splice(source: int, destination: int, size: int) -> None:
    read_end, write_end = os.pipe()
    try:
        capacity = fcntl(write_end, F_SETPIPE_SZ, PIPE_BYTES)
        while size:
            inside = os.splice(source, write_end, min(capacity, size))
            if inside == 0:
                raise SystemExit("the source ended early")
            size -= inside
            while inside:
                inside -= os.splice(read_end, destination, inside)
    finally:
        os.close(read_end)
        os.close(write_end)


if __name__ == "__main__":
    main()
