"""What a check has to say: the place in the stack file, what is wrong, and what to write instead."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

TERMINAL_WIDTH = 96
"""Columns of the text; the CLI indents it by two and terminals of 100 columns are the narrow ones."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One problem of a stack file. ``path`` is dotted, from ``deployment``; no text may hold a secret."""

    path: str
    problem: str
    fix: str


class PlanError(Exception):
    """The choices cannot work; ``findings`` says all of why."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("; ".join(f"{f.path}: {f.problem}" for f in findings))
        self.findings = list(findings)


def report(findings: Sequence[Finding], *, where: str, outcome: str = "nothing was created or changed") -> str:
    """All findings as one text for a terminal; ``where`` names the file they are about."""
    count = "1 problem" if len(findings) == 1 else f"{len(findings)} problems"
    blocks = [f"  {f.path}\n{_line('problem: ', f.problem)}\n{_line('fix:     ', f.fix)}" for f in findings]
    return "\n\n".join([f"{where}: {count}, {outcome}", *blocks])


def _line(label: str, text: str) -> str:
    # Commands and addresses are to be copied, so they stay whole.
    return textwrap.fill(
        text,
        width=TERMINAL_WIDTH,
        initial_indent=f"    {label}",
        subsequent_indent=" " * (4 + len(label)),
        break_long_words=False,
        break_on_hyphens=False,
    )
