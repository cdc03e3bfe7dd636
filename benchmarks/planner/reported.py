"""Start-up logs: the published ones of ``reported.toml``, and our own of ``measured.toml``."""

import datetime
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from deepseek_acs.planner import catalogue
from deepseek_acs.planner.memory import Memory, Stage, estimate
from deepseek_acs.planner.model import CompressedAttention, Model
from deepseek_acs.planner.vllm import Serving, engine_of, serving_changes


@dataclass(frozen=True, kw_only=True)
class Log:
    """One log; None where it does not say. The files say what the fields mean."""

    source: str = "benchmarks/planner/measured.toml"
    model: str
    engine: tuple[int, int, int]
    memory: float
    tensor: int
    max_model_len: int
    pipeline: int = 1
    gpu: str = "H100"
    utilization: float = 0.9
    context_parallel: int = 1
    arguments: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    draft_layers: int = 0
    weights: float | None = None
    cache: float | None = None
    tokens: int | None = None
    refused: str | None = None
    needed: float | None = None
    longest: int | None = None
    note: str = ""
    date: datetime.date | None = None
    layers: int | None = None
    rank: int | None = None
    activation: float | None = None
    graphs: float | None = None
    stopped: str | None = None

    @property
    def known_model(self) -> Model:
        """The model's row."""
        found = catalogue.model(self.model)
        assert found is not None
        if self.layers:
            return replace(found, sparse=found.sparse[: self.layers], windows=found.windows[: self.layers])
        if not self.draft_layers:
            return found
        # The layer of a draft model has a window and no compression; only its cache is asked for.
        attention, more = found.attention, self.draft_layers
        assert isinstance(attention, CompressedAttention)
        return replace(
            found,
            attention=replace(attention, ratios=(*attention.ratios, *([0] * more))),
            sparse=(*found.sparse, *([True] * more)),
            windows=(*found.windows, *([None] * more)),
        )

    @property
    def serving(self) -> Serving:
        """The engine's arguments."""
        base = Serving(
            max_model_len=self.max_model_len,
            utilization=self.utilization,
            context_parallel=self.context_parallel,
            eager="--enforce-eager" in self.arguments,
        )
        return replace(base, **serving_changes(self.arguments))  # type: ignore[arg-type]

    def estimate(self) -> Memory:
        """What the planner says of the same set-up."""
        gpu = replace(catalogue.gpus()[self.gpu], memory_gib=self.memory)
        engine = engine_of(self.engine, self.environment)
        return estimate(self.known_model, gpu, engine, self.serving, tensor=self.tensor, pipeline=self.pipeline)

    def stage(self) -> Stage:
        """What the planner says of the GPU whose figures the log has: the first stage's, or that of ``rank``."""
        return self.estimate().stages[(self.rank or 0) // self.tensor]


def logs() -> dict[str, Log]:
    """The published logs by name."""
    return {name: Log(**{**row, "engine": tuple(row["engine"])}) for name, row in _rows("reported.toml").items()}


def measured() -> dict[str, Log]:
    """Our own logs by name."""
    ours: dict[str, Any] = {"engine": (0, 20, 2), "gpu": "H200", "memory": 139.80}
    rows = {name: {**ours, **row} for name, row in _rows("measured.toml").items()}
    return {name: Log(**{**row, "engine": tuple(row["engine"])}) for name, row in rows.items()}


def _rows(file_name: str) -> Mapping[str, dict[str, Any]]:
    return tomllib.loads(Path(__file__).with_name(file_name).read_text(encoding="utf-8"))
