"""The catalogues of models, GPUs and GPU series of ACS: data files next to this module, read on demand."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from deepseek_acs.planner import config_json
from deepseek_acs.planner.model import Model

NVIDIA = "nvidia.com/gpu"

DEFAULT_NIC = "1"
"""For a series without a known network card: the type of all NVIDIA series that have one. A rule warns of it."""

UNKNOWN_GPU_SHARE = 0.92
"""Of the nominal memory of a GPU that is not in gpus.toml: the smallest share among those that are (GDDR with ECC)."""


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One GPU. ``memory_gib`` is what PyTorch reports; ``capability`` None for hardware without CUDA or unknown."""

    name: str
    memory_gib: float
    capability: float | None = None
    bandwidth_gb_s: float | None = None
    nvlink_gb_s: float | None = None
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class Nic:
    """One type of RDMA network card, as environment variables of the containers that use it."""

    environment: Mapping[str, str]
    open_source_environment: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class GpuSeries:
    """One GPU series of ACS; ``memory_gib`` is nominal, ``gpus_per_pod`` the legal numbers of GPUs per pod.

    ``pods`` gives for a number of GPUs the legal memory sizes in GiB by vCPUs, where they are published. ``drivers``
    has the default first, ``ephemeral_gib`` is by number of GPUs, ``nic`` is None where ACS lists no RDMA.
    """

    name: str
    memory_gib: int
    gpus_per_pod: tuple[int, ...]
    gpu: str | None
    rdma_gpus_per_pod: tuple[int, ...]
    pods: Mapping[int, Mapping[int, tuple[int, ...]]]
    resource: str
    drivers: tuple[str, ...]
    ephemeral_gib: Mapping[int, int]
    nic: Nic | None


def rows(file_name: str) -> Mapping[str, Any]:
    """A data file of this package."""
    # Loading the parser and the files costs a few milliseconds, which only those pay who plan.
    import tomllib

    return tomllib.loads(Path(__file__).with_name(file_name).read_text(encoding="utf-8"))


@cache
def _model_rows() -> Mapping[str, Any]:
    return rows("models.toml")


@cache
def model_names() -> tuple[str, ...]:
    """The names of all models of the catalogue."""
    return tuple(_model_rows())


@cache
def model(name: str) -> Model | None:
    """The model of this name; None if the catalogue does not have it."""
    row = _model_rows().get(name)
    if row is None:
        return None
    shapes = _model_rows()[row.get("same_as", name)]
    found = config_json.parse(
        shapes["config"], name=name, source=shapes["source"], weights_gib=shapes.get("weights_gib")
    )
    # A test holds that every row can be predicted.
    return found if isinstance(found, Model) else None


@cache
def models() -> Mapping[str, Model]:
    """All models by name."""
    return {name: found for name in model_names() if (found := model(name))}


@cache
def gpus() -> Mapping[str, Gpu]:
    """All GPUs by name."""
    return {name: Gpu(name=name, **row) for name, row in rows("gpus.toml").items()}


@cache
def _series_document() -> Mapping[str, Any]:
    return rows("gpu_series.toml")


@cache
def nic(kind: str) -> Nic:
    """The network card of this type."""
    return Nic(**_series_document()["nic"][kind])


@cache
def gpu_series() -> Mapping[str, GpuSeries]:
    """All GPU series by the value of ``alibabacloud.com/gpu-model-series``."""
    return {
        name: GpuSeries(
            name=name,
            memory_gib=row["memory_gib"],
            gpus_per_pod=tuple(row["gpus_per_pod"]),
            gpu=row.get("gpu"),
            rdma_gpus_per_pod=tuple(row.get("rdma_gpus_per_pod", ())),
            pods={
                int(gpus_per_pod): {int(cpu): tuple(sizes) for cpu, sizes in shapes.items()}
                for gpus_per_pod, shapes in row.get("pods", {}).items()
            },
            resource=row.get("resource", NVIDIA),
            drivers=tuple(row["drivers"]),
            ephemeral_gib={int(gpus_per_pod): gib for gpus_per_pod, gib in row.get("ephemeral_gib", {}).items()},
            nic=nic(row["nic"]) if "nic" in row else None,
        )
        for name, row in _series_document()["series"].items()
    }


def resource_name(series: str) -> str:
    """The extended resource by which GPUs of ``series`` are counted."""
    found = gpu_series().get(series)
    return found.resource if found else NVIDIA


def rdma_environment(series: str, *, open_source_image: bool) -> Mapping[str, str]:
    """Variables that make NCCL use the RDMA network card of ``series``."""
    found = gpu_series().get(series)
    card = (found.nic if found else None) or nic(DEFAULT_NIC)
    return {**card.environment, **(card.open_source_environment if open_source_image else {})}


def gpu_of(series: str) -> Gpu | None:
    """The hardware of a series of ACS, or the GPU of that name; None if neither is known."""
    row = gpu_series().get(series)
    if row is None:
        return gpus().get(series)
    if row.gpu is not None:
        return gpus()[row.gpu]
    return Gpu(name=series, memory_gib=row.memory_gib * UNKNOWN_GPU_SHARE)
