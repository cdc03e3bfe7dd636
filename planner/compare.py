"""All layouts of a model on several GPU series, side by side."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from planner.case import Case, Choices, Layout
from planner.catalogue import gpu_series
from planner.memory import Memory
from planner.plan import check, resolve
from planner.search import candidates


@dataclass(frozen=True, kw_only=True)
class Row:
    """One layout on one series; ``problem`` says why it cannot work, None if it can or if that is too close to say."""

    case: Case
    problem: str | None

    @property
    def layout(self) -> Layout:
        """How the replica is spread."""
        return self.case.layout

    @property
    def memory(self) -> Memory | None:
        """The estimate; None where there is none."""
        return self.case.memory


def compare(choices: Choices, series: Sequence[str] = ()) -> list[Row]:
    """Rows for every layout that agrees with ``choices``, on ``series`` or all of the catalogue; fewest GPUs first."""
    rows = []
    for name in series or gpu_series():
        case = resolve(dataclasses.replace(choices, series=name))
        for layout in candidates(case, given_only=True):
            other = case.with_layout(layout)
            findings = check(other, severity="error", suggest=False)
            rows.append(Row(case=other, problem=findings[0].problem if findings else None))
    return sorted(
        rows, key=lambda row: (row.layout.gpus, row.case.choices.series, row.layout.pods, row.layout.pipeline)
    )


def best(rows: Sequence[Row]) -> list[Row]:
    """Of the rows that can work, those of the two smallest numbers of GPUs of each series."""
    kept = []
    for name in dict.fromkeys(row.case.choices.series for row in rows):
        working = [row for row in rows if row.case.choices.series == name and row.problem is None]
        counts = sorted({row.layout.gpus for row in working})[:2]
        kept += [row for row in working if row.layout.gpus in counts]
    return kept
