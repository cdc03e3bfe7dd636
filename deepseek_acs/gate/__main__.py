"""Command line of ``gate``. Exit codes: 0 accepted, 1 refused, 2 wrong arguments; 143 when it is terminated, after
which another pod continues."""

import argparse
import http.client
import json
import os
import secrets
import signal
import sys
from functools import partial
from pathlib import Path

from deepseek_acs.apiserver import CREDENTIALS, ApiServer, DeniedError, in_cluster
from deepseek_acs.apiserver.watching import Clock
from deepseek_acs.chatclient import Client

from .exam import Examiner, Paper
from .gate import Gate, RefusedError, Subject
from .judgement import Limits

KEY_VARIABLE = "VLLM_API_KEY"
TERMINATED = 143


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="gate")
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--group", required=True, help="name of the LeaderWorkerSet")
    parser.add_argument("--port", type=int, required=True, help="port of its leaders")
    parser.add_argument("--container", required=True, help="name of the engine's container")
    parser.add_argument("--model", required=True, help="served name")
    parser.add_argument("--digest", required=True, help="digest of the template that is to be accepted")
    parser.add_argument("--store", required=True, help="ConfigMap for the records")
    parser.add_argument("--paper", type=Path, required=True, help="file with what is asked")
    parser.add_argument("--baseline", help="LeaderWorkerSet with whose record a second one is compared")
    parser.add_argument("--return", dest="returns", action="store_true", help="put the accepted template back")
    parser.add_argument("--at-least", type=float, required=True, help="share of right answers")
    parser.add_argument("--worse-by", type=float, required=True, help="how much lower the share may be than before")
    parser.add_argument("--slower-by", type=float, required=True, help="ratio of times that is too slow")
    parser.add_argument("--ready-seconds", type=float, required=True, help="time of the first new group")
    parser.add_argument("--silence-seconds", type=float, required=True, help="longest silence of a short request")
    parser.add_argument("--long-seconds", type=float, required=True, help="longest silence of a long prompt")
    parser.add_argument("--credentials", type=Path, default=CREDENTIALS, help="folder of the service account")
    given = parser.parse_args()
    # The first process of a container ignores the signal unless it has a handler.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    key = os.environ.get(KEY_VARIABLE) or None

    def client(host: str, silence: float) -> Client:
        return Client(connect=partial(http.client.HTTPConnection, host, given.port, timeout=silence), key=key)

    limits = Limits(at_least=given.at_least, worse_by=given.worse_by, slower_by=given.slower_by)
    examiner = Examiner(
        client,
        given.model,
        Paper.of(json.loads(given.paper.read_text(encoding="utf-8"))),
        limits,
        partial(secrets.token_hex, 4),
        silence_seconds=given.silence_seconds,
        long_seconds=given.long_seconds,
    )
    subject = Subject(
        namespace=given.namespace,
        group=given.group,
        store=given.store,
        digest=given.digest,
        container=given.container,
        returns=given.returns,
        ready_seconds=given.ready_seconds,
        baseline=given.baseline,
    )
    try:
        print(Gate(ApiServer(in_cluster(), given.credentials), subject, limits, examiner, Clock()).run(), flush=True)
    except (RefusedError, DeniedError) as error:
        print(f"template {given.digest} does not pass: {error}", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
