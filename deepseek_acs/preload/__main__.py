"""Command line of ``preload``. Exit codes: 0 the cache is filled, 1 it is not."""

import argparse
import json
import sys
from pathlib import Path

from deepseek_acs.apiserver import CREDENTIALS, ApiServer, in_cluster

from .loading import Clock, fill
from .outcome import failed, watched


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="preload")
    parser.add_argument("--dataload", type=json.loads, required=True, help="its manifest, in JSON")
    parser.add_argument("--seconds", type=int, required=True, help="after which the preload is given up")
    parser.add_argument("--credentials", type=Path, default=CREDENTIALS, help="folder of the service account")
    options = parser.parse_args()
    metadata = options.dataload["metadata"]
    namespace, name = metadata["namespace"], metadata["name"]
    print(watched(namespace, name, options.seconds), flush=True)
    api = ApiServer(in_cluster(), options.credentials)
    problem = fill(api, options.dataload, seconds=options.seconds, clock=Clock())
    print(failed(problem, namespace, name) if problem else f"Fluid cache {namespace}/{name}: filled", flush=True)
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
