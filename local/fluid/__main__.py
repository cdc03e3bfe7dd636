"""``python -m local.fluid --kubeconfig FILE``: acts out the life of Fluid's objects until it is terminated."""

import argparse
import logging
import signal
import sys
import threading
from pathlib import Path

from kubernetes import client, config, watch
from kubernetes.client import ApiException
from urllib3.exceptions import HTTPError

from local.fluid.controller import GROUP, PLURALS, VERSION, Controller

RETRY_SECONDS = 0.5
"""Until the next look while an object is under way, and after an error."""

IDLE_SECONDS = 10
"""Until the next look without news: Secrets are not watched."""


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m local.fluid", description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    ended, news = threading.Event(), threading.Event()

    def end(*_: object) -> None:
        ended.set()
        news.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    api = config.new_client_from_config(str(arguments.kubeconfig))
    custom = client.CustomObjectsApi(api)
    for plural in PLURALS:
        threading.Thread(target=_watch, args=(custom, plural, news), daemon=True).start()
    controller = Controller(client.CoreV1Api(api), custom)
    while not ended.is_set():
        news.wait(_look(controller))
        news.clear()
    return 0


def _look(controller: Controller) -> float:
    """One step; returns the seconds until the next."""
    try:
        return RETRY_SECONDS if controller.reconcile() else IDLE_SECONDS
    except (ApiException, HTTPError, OSError) as error:
        logging.warning("%s", error)
        return RETRY_SECONDS


def _watch(custom: client.CustomObjectsApi, plural: str, news: threading.Event) -> None:
    while True:
        try:
            for _ in watch.Watch().stream(custom.list_cluster_custom_object, GROUP, VERSION, plural):
                news.set()
        except (ApiException, HTTPError, OSError) as error:
            logging.warning("watch of %s: %s", plural, error)
            threading.Event().wait(RETRY_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
