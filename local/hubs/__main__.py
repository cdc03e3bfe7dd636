"""``python -m local.hubs --port N --data FOLDER``: serves until terminated. Makes the small model if it is absent."""

import argparse
import sys
from pathlib import Path

from local.hubs.modelhub import ModelHub
from local.hubs.repositories import DEFAULT_BRANCH
from local.hubs.small_model import make_small_model

SMALL_MODEL = "deepseek-local/DeepSeek-R1-tiny"


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m local.hubs", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1 (default: any free one)")
    parser.add_argument("--data", type=Path, required=True, help="the repositories, as OWNER/NAME/BRANCH/...")
    arguments = parser.parse_args()
    try:
        hub = ModelHub(arguments.data, port=arguments.port)
    except OSError as error:
        print(f"error: cannot serve at 127.0.0.1:{arguments.port}: {error.strerror}", file=sys.stderr)
        return 1
    make_small_model(arguments.data / SMALL_MODEL / DEFAULT_BRANCH)
    print(hub.url, flush=True)
    hub.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
