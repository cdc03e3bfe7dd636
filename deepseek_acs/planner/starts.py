"""Times of starts that were measured (deepseek_acs/incidents/starts.py).

With enough of them, they take the place of the plan's in what the preview says. Nothing that is deployed depends on
them: a probe that changed with each measurement would restart the groups."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepseek_acs.planner.spec import ResolvedSpec

FEWEST, MOST = 3, 5
"""Starts for a median: with fewer, one slow image pull would decide; older ones tell less."""

SHORTEST_READ_SECONDS = 60
"""Of a shorter read, what is not reading (set-up of the model's layers) may be the larger part."""


@dataclass(frozen=True, kw_only=True)
class MeasuredStarts:
    """Medians of the last ``count`` starts: seconds in all, and by phase in their order."""

    count: int
    seconds: float
    phases: Mapping[str, float]

    @property
    def slowest(self) -> str:
        """The phase that takes longest."""
        return max(self.phases, key=lambda phase: self.phases[phase])

    def read_mi_bps(self, weights_gib: float) -> float | None:
        """MiB/s at which each pod read ``weights_gib`` GiB; None where they were read too fast to tell."""
        seconds = self.phases.get("read", 0)
        return weights_gib * 1024 / seconds if seconds >= SHORTEST_READ_SECONDS else None

    def __str__(self) -> str:
        unit, one = ("min", 60) if self.seconds >= 600 else ("s", 1)
        rounded = {phase: round(seconds / one) for phase, seconds in self.phases.items()}
        parts = ", ".join(f"{phase} {value}" for phase, value in rounded.items() if value)
        return f"{duration(self.seconds)}: {parts} {unit}; slowest: {self.slowest}; median of {self.count}"


def measured_starts(records: Sequence[Mapping[str, Any]], plan: str) -> MeasuredStarts | None:
    """From the list of the ConfigMap, oldest first: those of ``plan``; None for fewer than ``FEWEST``. Raises KeyError,
    TypeError or ValueError for something else than such a list."""
    found = [record["seconds"] for record in records if record["plan"] == plan][-MOST:]
    if len(found) < FEWEST:
        return None
    names = dict.fromkeys(phase for one in found for phase in one)
    return MeasuredStarts(
        count=len(found),
        seconds=median(sum(one.values()) for one in found),
        phases={phase: median(one.get(phase, 0) for one in found) for phase in names},
    )


def start_plan(spec: "ResolvedSpec") -> str:
    """Digest of what the time of a start depends on. The stated throughput is not: it is what is compared."""
    storage = spec.storage.model_dump(exclude={"throughput_mi_bps"})
    what = {
        "model": spec.model.name,
        "weights": round(spec.model.weights_gib, 1),
        "image": spec.engine.image,
        "eager": spec.engine.enforce_eager,
        "series": spec.gpu.series,
        "layout": [spec.layout.pods, spec.layout.gpus_per_pod, spec.layout.tensor, spec.layout.pipeline],
        "network": spec.network,
        "storage": storage,
        **({"compileCache": True} if spec.engine.compile_cache else {}),
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()[:16]


def start_seconds(spec: "ResolvedSpec") -> tuple[float, float]:
    """Until a new group answers, at best and at worst: measured, or by the plan."""
    if spec.starts:
        return spec.starts.seconds, spec.starts.seconds
    return spec.budget.read_seconds, spec.budget.create_seconds


def start_time(spec: "ResolvedSpec") -> str:
    """The same for people."""
    if spec.starts:
        return f"about {duration(spec.starts.seconds)}"
    low, high = (math.ceil(seconds / 60) for seconds in start_seconds(spec))
    return f"{low} to {high} min"


def duration(seconds: float) -> str:
    """Minutes from ten minutes on."""
    return f"{math.ceil(seconds / 60)} min" if seconds >= 600 else f"{math.ceil(seconds)} s"
