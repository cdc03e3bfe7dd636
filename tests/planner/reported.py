"""The published start-up logs of ``reported.toml``."""

import tomllib
from dataclasses import dataclass, replace
from pathlib import Path

from planner import catalogue
from planner.engine import Engine, Serving
from planner.memory import Memory, estimate
from planner.model import Model


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
    weights: float | None = None
    cache: float | None = None
    tokens: int | None = None
    refused: str | None = None
    note: str = ""

    @property
    def known_model(self) -> Model:
        """The model's row."""
        found = catalogue.model(self.model)
        assert found is not None
        return found

    def estimate(self) -> Memory:
        """What the planner says of the same set-up."""
        serving = Serving(
            max_model_len=self.max_model_len,
            utilization=self.utilization,
            context_parallel=self.context_parallel,
        )
        gpu = replace(catalogue.gpus()[self.gpu], memory_gib=self.memory)
        engine = Engine(version=self.engine)
        return estimate(self.known_model, gpu, engine, serving, tensor=self.tensor, pipeline=self.pipeline)


def logs() -> dict[str, Log]:
    """All logs by name."""
    rows = tomllib.loads(Path(__file__).with_name("reported.toml").read_text(encoding="utf-8"))
    return {name: Log(**{**row, "engine": tuple(row["engine"])}) for name, row in rows.items()}
