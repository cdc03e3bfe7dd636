"""All layouts of a model on several GPU series, side by side."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from deepseek_acs.planner.catalogue import gpu_series
from deepseek_acs.planner.check import check
from deepseek_acs.planner.findings import Finding
from deepseek_acs.planner.memory import Memory
from deepseek_acs.planner.rules.engine import unknown_kernels
from deepseek_acs.planner.search import candidates
from deepseek_acs.planner.spec import Layout, ResolvedSpec, gpu_spec


@dataclass(frozen=True, kw_only=True)
class Row:
    """One layout on one series; ``finding`` says why it cannot work, None if it can or if that is too close to say."""

    spec: ResolvedSpec
    finding: Finding | None

    @property
    def layout(self) -> Layout:
        """How the replica is spread."""
        return self.spec.layout

    @property
    def memory(self) -> Memory | None:
        """The estimate; None where there is none."""
        return self.spec.memory


def compare(spec: ResolvedSpec, series: Sequence[str] = ()) -> list[Row]:
    """Rows for every layout that agrees with what ``spec`` fixed, on ``series`` or all of the catalogue; fewest GPUs
    first."""
    rows = []
    for name in series or gpu_series():
        # What was measured, was measured on the layout that ``spec`` has.
        other = dataclasses.replace(spec, gpu=gpu_spec(name, stated_gib=spec.gpu.stated_gib))
        for layout in candidates(other, given_only=True):
            changed = other.with_layout(layout)
            errors = (finding for finding in check(changed, suggest=False) if finding.severity == "error")
            rows.append(Row(spec=changed, finding=next(errors, None)))
    return sorted(rows, key=lambda row: (row.layout.gpus, row.spec.gpu.series, row.layout.pods, row.layout.pipeline))


def best(rows: Sequence[Row]) -> list[Row]:
    """Of the rows that can work, those of the two smallest numbers of GPUs of each series; series of which that is not
    known only if there is no other."""
    kept = []
    able = [row for row in rows if row.finding is None]
    able = [row for row in able if not unknown_kernels(row.spec)] or able
    for name in dict.fromkeys(row.spec.gpu.series for row in rows):
        working = [row for row in able if row.spec.gpu.series == name]
        counts = sorted({row.layout.gpus for row in working})[:2]
        kept += [row for row in working if row.layout.gpus in counts]
    return kept
