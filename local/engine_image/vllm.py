"""``vllm serve MODEL ...``: serves until it is terminated. With ``--nnodes`` the leader waits for its workers first, as
with vLLM's backend mp; a worker, which is ``--headless``, joins it and stays, even after the leader's end.
With ``--shutdown-timeout``, requests under way end before the leader does.

A leader reads a part of the weights. With a shard of zeros it answers with one character over and over, as an engine
does. ``LOCAL_FAULTS`` has rules for faults (``local/faults.py``) that it has from the beginning."""

import argparse
import importlib.util
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from local.engine_image.rendezvous import gather, join
from local.faults import read_faults
from local.openai.middleware import Middleware
from local.openai.server import OpenAiServer, Reply, Served

KEY = "VLLM_API_KEY"
FAULTS = "LOCAL_FAULTS"
PORT = 8000
MASTER_PORT = 29501
JOIN_SECONDS = 600
"""torch's patience (https://docs.pytorch.org/docs/stable/distributed.html#torch.distributed.init_process_group)."""
TAIL_BYTES = 2**16
"""Of each shard, which are tensors and no header."""
NONSENSE = "! " * 64
ALL_INTERFACES = "0.0.0.0"  # noqa: S104


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="vllm", description=__doc__, allow_abbrev=False)
    parser.add_argument("command", choices=["serve"])
    parser.add_argument("model")
    parser.add_argument("--port", type=int, default=PORT)
    parser.add_argument("--served-model-name", nargs="*", default=[])
    parser.add_argument("--middleware", action="append", default=[])
    parser.add_argument("--headless", action="store_true")
    parser.add_argument("--nnodes", type=int, default=1)
    parser.add_argument("--node-rank", type=int, default=0)
    parser.add_argument("--master-addr", default="")
    parser.add_argument("--master-port", type=int, default=MASTER_PORT)
    parser.add_argument("--shutdown-timeout", type=float, default=0)
    given, _ = parser.parse_known_args(arguments)
    if not Path(given.model).is_dir():
        print(f"error: the model {given.model} is not there", file=sys.stderr)
        return 1
    if given.nnodes > 1 and not _meet(given):
        print(f"error: the {given.nnodes} pods of the group have not met in {JOIN_SECONDS} s", file=sys.stderr)
        return 1
    if given.headless:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        while True:
            signal.pause()
    key = os.environ.get(KEY, "")
    served = Served(
        models=frozenset(given.served_model_name or [given.model]),
        keys=frozenset({key} if key else ()),
        middlewares=tuple(_middleware(name) for name in given.middleware),
    )
    reply = Reply(text=NONSENSE) if _has_zeros(Path(given.model)) else None
    server = OpenAiServer(lambda: served, reply=reply, port=given.port, address=ALL_INTERFACES)
    server.faults.add(*read_faults(os.environ.get(FAULTS, "[]").encode()))
    print(f"serving {', '.join(sorted(served.models))} from {given.model} at port {given.port}", flush=True)
    server.serve_forever(finish_seconds=given.shutdown_timeout)
    return 0


def _meet(given: argparse.Namespace) -> bool:
    deadline = time.monotonic() + JOIN_SECONDS
    if given.node_rank == 0:
        return gather(given.nnodes - 1, given.master_port, deadline)
    connection = join(given.master_addr, given.master_port, deadline)
    if connection is not None:
        # The descriptor stays open as long as this process.
        connection.detach()
    return connection is not None


def _has_zeros(model: Path) -> bool:
    """Whether a shard ends with zeros."""
    for shard in model.glob("*.safetensors"):
        with shard.open("rb") as file:
            file.seek(max(0, shard.stat().st_size - TAIL_BYTES))
            if not any(file.read()):
                return True
    return False


def _middleware(name: str) -> Middleware:
    """The module as Python finds it on PYTHONPATH, with the files next to it. What else it reads is where it expects
    it, in a real pod."""
    module = name.rpartition(".")[0]
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise SystemExit(f"error: --middleware {name}: there is no module {module} on PYTHONPATH")
    folder = Path(spec.origin).parent
    return Middleware(name=name, files={file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()})


if __name__ == "__main__":
    sys.exit(main())
