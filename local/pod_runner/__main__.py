"""``python -m local.pod_runner --kubeconfig FILE --folder FOLDER``: runs pods until it is terminated."""

import argparse
import logging
import signal
import sys
import threading
from pathlib import Path

from kubernetes import client, config

from local.pod_runner.runner import Runner


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m local.pod_runner", description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True, help="where the pods' files and logs are")
    parser.add_argument("--engine", required=True, help="HOST:PORT of this machine that plays the engines")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    signals = {signal.SIGTERM, signal.SIGINT}
    # Before any thread is made, so that all of them leave these signals to this one.
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    api = client.CoreV1Api(config.new_client_from_config(str(arguments.kubeconfig)))
    runner = Runner(api, arguments.folder, arguments.engine)
    threading.Thread(target=runner.follow, daemon=True).start()
    signal.sigwait(signals)
    runner.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
