"""``ray_init.sh leader|worker ...``: the rendezvous of Ray without Ray. The leader waits for its workers and returns; a
worker joins the leader, stays, and ends with it."""

import argparse
import sys
import time
from collections.abc import Sequence

from local.engine_image.rendezvous import gather, join

PORT = 6379


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
        return _follow(given.ray_address, given.ray_port, deadline)
    workers = given.ray_cluster_size - 1
    if not gather(workers, given.ray_port, deadline):
        print(f"error: not all of {workers} workers have joined in time", file=sys.stderr)
        return 1
    print(f"All {workers + 1} ray workers are active", flush=True)
    return 0


def _follow(address: str, port: int, deadline: float) -> int:
    """Joins the leader, and returns when the connection ends."""
    connection = join(address, port, deadline)
    if connection is None:
        print(f"error: the leader {address} is not there", file=sys.stderr)
        return 1
    with connection:
        connection.recv(1)
    print("the leader has gone", flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
