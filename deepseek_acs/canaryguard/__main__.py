"""Command line of ``canaryguard``. It ends by a signal only."""

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from deepseek_acs.apiserver import CREDENTIALS, ApiServer, in_cluster
from deepseek_acs.apiserver.watching import Clock

from .decision import Limits, Names
from .watch import Guard, Watched, scrape


def main() -> NoReturn:
    """Watches."""
    parser = argparse.ArgumentParser(prog="canaryguard")
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--group", required=True, help="name of the LeaderWorkerSet of the new groups")
    parser.add_argument("--port", type=int, required=True, help="port of its leaders")
    parser.add_argument("--route", required=True, help="name of the HTTPRoute")
    parser.add_argument("--service", required=True, help="Service of the new groups, as the route names it")
    parser.add_argument("--status", required=True, help="ConfigMap for the status")
    parser.add_argument("--http-requests", required=True, help="metric: HTTP requests by status")
    parser.add_argument("--finished", required=True, help="metric: requests by finished_reason")
    parser.add_argument("--first-token-latency", required=True, help="metric: histogram of seconds")
    parser.add_argument("--error-share", type=float, required=True, help="share of requests that may fail")
    parser.add_argument("--first-token-seconds", type=float, help="what 95 %% of the requests must meet")
    parser.add_argument("--least-requests", type=int, required=True, help="requests below which shares mean nothing")
    parser.add_argument("--credentials", type=Path, default=CREDENTIALS, help="folder of the service account")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    watched = Watched(
        namespace=options.namespace,
        group=options.group,
        port=options.port,
        route=options.route,
        service=options.service,
        status=options.status,
    )
    names = Names(
        http_requests=options.http_requests,
        finished=options.finished,
        first_token_latency=options.first_token_latency,
    )
    limits = Limits(
        error_share=options.error_share,
        first_token_seconds=options.first_token_seconds,
        least_requests=options.least_requests,
    )
    key = os.environ.get("METRICS_KEY")
    print(f"watching {options.namespace}/{options.group}: {limits}", flush=True)
    api = ApiServer(in_cluster(), options.credentials)
    Guard(api, watched, names, limits, Clock(), lambda url: scrape(url, key)).watch()


if __name__ == "__main__":
    main()
