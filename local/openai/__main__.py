"""``python -m local.openai --port N --kubeconfig FILE``: serves until it is terminated."""

import argparse
import sys
from pathlib import Path

from kubernetes import client, config

from local.openai.leaders import ClusterLeaders
from local.openai.server import OpenAiServer


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m local.openai", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1 (default: any free one)")
    parser.add_argument("--kubeconfig", type=Path, required=True, help="of the cluster whose leaders it plays")
    arguments = parser.parse_args()
    leaders = ClusterLeaders(client.CoreV1Api(config.new_client_from_config(str(arguments.kubeconfig))))
    try:
        server = OpenAiServer(leaders.served, port=arguments.port)
    except OSError as error:
        print(f"error: cannot serve at 127.0.0.1:{arguments.port}: {error.strerror}", file=sys.stderr)
        return 1
    print(server.url, flush=True)
    server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
