"""Command line of ``incidents``. It ends by a signal only."""

import argparse
import signal
import sys
from pathlib import Path
from typing import NoReturn

from deepseek_acs.apiserver import CREDENTIALS, ApiServer, in_cluster
from deepseek_acs.apiserver.watching import Clock

from .gauges import Gauges
from .logs import Logs
from .redaction import Redaction
from .starts import Starts
from .watch import Watched, Watcher


def main() -> NoReturn:
    """Watches."""
    parser = argparse.ArgumentParser(prog="incidents")
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--group", required=True, help="name of the LeaderWorkerSet")
    parser.add_argument("--store", required=True, help="ConfigMap for the reports")
    parser.add_argument("--keep", type=int, required=True, help="reports that are kept")
    parser.add_argument("--lines", type=int, required=True, help="last lines of each container")
    parser.add_argument("--plan", required=True, help="digest of what the time of a start depends on")
    parser.add_argument("--port", type=int, required=True, help="of the engine's server on the leaders")
    parser.add_argument("--state", type=Path, required=True, help="folder that survives a restart of the container")
    parser.add_argument("--secrets", type=Path, help="folder with the values to remove from all texts")
    parser.add_argument("--metrics-key", type=Path, help="file with the key for /metrics")
    parser.add_argument("--credentials", type=Path, default=CREDENTIALS, help="folder of the service account")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    watched = Watched(
        namespace=options.namespace,
        name=options.group,
        store=options.store,
        keep=options.keep,
        lines=options.lines,
        plan=options.plan,
    )
    api, redaction, starts = ApiServer(in_cluster(), options.credentials), Redaction(options.secrets), Starts()
    watcher = Watcher(
        api,
        watched,
        journals=Logs(api, watched.namespace, options.state, most=watched.lines, redaction=redaction, starts=starts),
        starts=starts,
        gauges=Gauges(options.port, options.metrics_key),
        redaction=redaction,
        state=options.state / "state.json",
        clock=Clock(),
    )
    print(f"watching {watched.namespace}/{watched.name}", flush=True)
    watcher.watch()


if __name__ == "__main__":
    main()
