"""``python -m deepseek_acs.verifier --outputs FILE|-``, or ``--url URL --model NAME`` in a pod: verifies a deployment.

The API key is taken from the environment, VLLM_API_KEY. Exit codes: 0 all answered, 2 wrong arguments, and for each
layer at fault its own: 10 API server, 11 storage, 12 pods, 13 group, 14 Service, 15 DNS, 16 port-forward, 17 engine,
18 API key, 19 model, 20 completion.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from .inside import Patience, verify_inside
from .output import as_json, line, verdict
from .results import Report, Result
from .target import Target, TargetError

KEY_VARIABLE = "VLLM_API_KEY"


class _Printing(list[Result]):
    """Results that are printed as they come."""

    def append(self, result: Result) -> None:
        super().append(result)
        print(line(result), flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m deepseek_acs.verifier",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--outputs", help="file with the outputs of pulumi stack output --json; - is stdin")
    where.add_argument("--url", help="of the Service, for a pod of the cluster")
    parser.add_argument("--model", help="served name, with --url")
    parser.add_argument("--kubeconfig", help="with --outputs (default: that of kubectl)")
    parser.add_argument("--context", help="with --outputs (default: the kubeconfig's current one)")
    parser.add_argument("--timeout", type=float, default=180, help="longest silence of the engine in s (default: 180)")
    parser.add_argument("--patience", type=float, default=60, help="for the Service in s, with --url (default: 60)")
    parser.add_argument(
        "--no-filter", action="store_true", help="with --url: no request filter is in front, so say what is open"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    given = parser.parse_args(arguments)
    if given.url and not given.model:
        parser.error("--url needs --model")
    report = Report() if given.json else Report(results=_Printing())
    key = os.environ.get(KEY_VARIABLE) or None
    if given.url:
        patience = Patience(seconds=given.patience)
        verify_inside(
            report,
            given.url,
            given.model,
            key=key,
            filtered=not given.no_filter,
            timeout_seconds=given.timeout,
            patience=patience,
        )
    else:
        try:
            target = _target(given.outputs, given.kubeconfig, given.context)
        except TargetError as error:
            parser.error(str(error))
        # Here, because a pod has no kubernetes package and needs none.
        from .outside import verify_outside

        verify_outside(report, target, key=key, timeout_seconds=given.timeout)
    print(as_json(report) if given.json else verdict(report), flush=True)
    return report.exit_code


def _target(outputs: str, kubeconfig: str | None, context: str | None) -> Target:
    """Raises TargetError."""
    try:
        text = sys.stdin.read() if outputs == "-" else Path(outputs).read_text(encoding="utf-8")
        found = json.loads(text)
    except (OSError, ValueError) as error:
        raise TargetError(f"cannot read the stack's outputs from {outputs}: {error}") from None
    return Target.of_outputs(found, kubeconfig=kubeconfig, context=context)


if __name__ == "__main__":
    sys.exit(main())
