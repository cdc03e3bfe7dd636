"""Command line of ``costguard``. It ends by a signal only."""

import argparse
import signal
import sys
from pathlib import Path
from typing import NoReturn

from deepseek_acs.apiserver import CREDENTIALS, ApiServer, in_cluster
from deepseek_acs.apiserver.watching import Clock

from .decision import Limits
from .watch import Guard, Watched


def main() -> NoReturn:
    """Watches."""
    parser = argparse.ArgumentParser(prog="costguard")
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--group", required=True, help="name of the LeaderWorkerSet")
    parser.add_argument("--gpu-resource", required=True, help="extended resource of the GPUs")
    parser.add_argument("--status", required=True, help="ConfigMap for the status")
    parser.add_argument("--failed-starts", type=int, required=True, help="starts in a row that may fail")
    parser.add_argument("--pending-seconds", type=int, required=True, help="wait for the other pods of a group")
    parser.add_argument("--unready-seconds", type=int, required=True, help="wait for a group with GPUs")
    parser.add_argument("--replicas", type=int, required=True, help="the most groups that the stack wants")
    parser.add_argument("--back-off-seconds", type=int, default=0, help="wait after the first start that failed")
    parser.add_argument("--scaled-object", help="KEDA's ScaledObject, which is paused")
    parser.add_argument("--all-or-none", action="store_true", help="give up all groups together, or none")
    parser.add_argument("--credentials", type=Path, default=CREDENTIALS, help="folder of the service account")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    watched = Watched(
        namespace=options.namespace,
        name=options.group,
        gpu_resource=options.gpu_resource,
        status=options.status,
        replicas=options.replicas,
        scaled_object=options.scaled_object,
    )
    limits = Limits(
        failed_starts=options.failed_starts,
        pending_seconds=options.pending_seconds,
        unready_seconds=options.unready_seconds,
        back_off_seconds=options.back_off_seconds,
        partly=not options.all_or_none,
    )
    print(f"watching {options.namespace}/{options.group}: {limits}", flush=True)
    Guard(ApiServer(in_cluster(), options.credentials), watched, limits, Clock()).watch()


if __name__ == "__main__":
    main()
