"""``python -m local.oss --port N --data FOLDER --region REGION``: serves until it is terminated."""

import argparse
import sys
from pathlib import Path

from local.oss.server import OssServer


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m local.oss", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1 (default: any free one)")
    parser.add_argument("--data", type=Path, help="where all is kept; without it only sizes and checksums are")
    parser.add_argument("--region", default="cn-hangzhou", help="in which it is (default: cn-hangzhou)")
    arguments = parser.parse_args()
    try:
        server = OssServer(data=arguments.data, region=arguments.region, port=arguments.port)
    except OSError as error:
        print(f"error: cannot serve at 127.0.0.1:{arguments.port}: {error.strerror}", file=sys.stderr)
        return 1
    print(server.url, flush=True)
    server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
