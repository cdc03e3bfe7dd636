"""The catalogues of models and GPU series: data files beside this module, read once."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Model:
    """One published model; ``weights_gib`` is the size of its safetensors files in GiB."""

    name: str
    weights_gib: float
    source: str


@dataclass(frozen=True, kw_only=True)
class GpuSeries:
    """One GPU series of ACS; ``memory_gib`` is per card, ``cards`` the legal numbers of cards per pod."""

    name: str
    memory_gib: int
    cards: tuple[int, ...]


def _rows(file_name: str) -> Mapping[str, Mapping[str, Any]]:
    return tomllib.loads(files(__package__).joinpath(file_name).read_text(encoding="utf-8"))


@cache
def models() -> Mapping[str, Model]:
    """All models by name."""
    return {name: Model(name=name, **row) for name, row in _rows("models.toml").items()}


@cache
def gpu_series() -> Mapping[str, GpuSeries]:
    """All GPU series by the value of ``alibabacloud.com/gpu-model-series``."""
    return {
        name: GpuSeries(name=name, memory_gib=row["memory_gib"], cards=tuple(row["cards"]))
        for name, row in _rows("gpus.toml").items()
    }
