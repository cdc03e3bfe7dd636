"""Results for users and for programs."""

import dataclasses
import json
import textwrap

from .results import Report, Result

WIDTH = 100
MARKS = {"passed": "ok", "failed": "FAIL", "skipped": "-"}


def line(result: Result) -> str:
    """One step. A failed one has its next command below it."""
    seconds = "" if result.state == "skipped" else f"{result.seconds:.2f} s"
    head = f"{MARKS[result.state]:<5}{result.layer:<14}"
    text = f"{result.pod}: {result.text}" if result.pod else result.text
    room = WIDTH - len(head) - 9
    first, *more = textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False) or [""]
    lines = [f"{head}{first:<{room}} {seconds:>8}".rstrip(), *(" " * len(head) + rest for rest in more)]
    if result.fix:
        lines.append(_next(result.fix))
    return "\n".join(lines)


def _next(fix: str) -> str:
    label = " " * 5 + "next: "
    if fix.startswith("kubectl "):
        # Users copy a command, so it stays on one line.
        return label + fix
    return textwrap.fill(
        fix,
        WIDTH,
        initial_indent=label,
        subsequent_indent=" " * len(label),
        break_long_words=False,
        break_on_hyphens=False,
    )


def verdict(report: Report) -> str:
    """The last line."""
    fault = report.fault
    if fault is None:
        return "The endpoint answers."
    return f"At fault: {fault.layer}{f' ({fault.pod})' if fault.pod else ''}: {fault.text}"


def as_json(report: Report) -> str:
    """``atFault`` is null if the endpoint answers; times in seconds."""
    fault = report.fault
    steps = [{**dataclasses.asdict(result), "layer": str(result.layer)} for result in report.results]
    return json.dumps({"atFault": str(fault.layer) if fault else None, "exitCode": report.exit_code, "steps": steps})
