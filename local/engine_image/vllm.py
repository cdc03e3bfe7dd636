"""``vllm serve MODEL ...``: serves until it is terminated; ``--headless`` only stays, as a worker of vLLM does."""

import argparse
import importlib.util
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from local.openai.middleware import Middleware
from local.openai.server import OpenAiServer, Served

KEY = "VLLM_API_KEY"
PORT = 8000
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
    given, _ = parser.parse_known_args(arguments)
    if not Path(given.model).is_dir():
        print(f"error: the model {given.model} is not there", file=sys.stderr)
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
    server = OpenAiServer(lambda: served, port=given.port, address=ALL_INTERFACES)
    print(f"serving {', '.join(sorted(served.models))} from {given.model} at port {given.port}", flush=True)
    server.serve_forever()
    return 0


def _middleware(name: str) -> Middleware:
    """The module as Python finds it on PYTHONPATH. What it reads is where it expects it, in a real pod."""
    module = name.rpartition(".")[0]
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise SystemExit(f"error: --middleware {name}: there is no module {module} on PYTHONPATH")
    return Middleware(name=name, files={f"{module}.py": Path(spec.origin).read_bytes()})


if __name__ == "__main__":
    sys.exit(main())
