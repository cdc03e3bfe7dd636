"""The published start-up logs of ``reported.toml``."""

import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path

from planner import catalogue
from planner.engine import Engine, Serving, serving_changes
from planner.memory import Memory, estimate
from planner.model import CompressedAttention, Model


@dataclass(frozen=True, kw_only=True)
class Log:
    """One log; None where it does not say."""

    source: str
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
    draft_layers: int = 0
    weights: float | None = None
    cache: float | None = None
    tokens: int | None = None
    refused: str | None = None
    needed: float | None = None
    longest: int | None = None
    note: str = ""

    @property
    def known_model(self) -> Model:
        """The model's row."""
        found = catalogue.model(self.model)
        assert found is not None
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
        )
        return replace(base, **serving_changes(self.arguments))  # type: ignore[arg-type]

    def estimate(self) -> Memory:
        """What the planner says of the same set-up."""
        gpu = replace(catalogue.gpus()[self.gpu], memory_gib=self.memory)
        engine = Engine(version=self.engine)
        return estimate(self.known_model, gpu, engine, self.serving, tensor=self.tensor, pipeline=self.pipeline)


def logs() -> dict[str, Log]:
    """All logs by name."""
    rows = tomllib.loads(Path(__file__).with_name("reported.toml").read_text(encoding="utf-8"))
    return {name: Log(**{**row, "engine": tuple(row["engine"])}) for name, row in rows.items()}
