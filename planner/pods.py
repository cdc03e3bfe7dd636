"""What ACS gives the pods of a GPU series besides the cards: resource name, drivers, storage, RDMA (``pods.toml``)."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from planner.catalogue import rows

NVIDIA = "nvidia.com/gpu"


@dataclass(frozen=True, kw_only=True)
class Nic:
    """One type of RDMA network card, as environment variables of the containers that use it."""

    environment: Mapping[str, str]
    open_source_environment: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class PodSeries:
    """One GPU series; ``drivers`` has the default first, ``ephemeral_gib`` is by number of cards, ``nic`` None where
    ACS lists no RDMA."""

    resource: str
    drivers: tuple[str, ...]
    ephemeral_gib: Mapping[int, int]
    nic: Nic | None


@cache
def _document() -> Mapping[str, Any]:
    return rows("pods.toml")


@cache
def nic(kind: str) -> Nic:
    """The network card of this type."""
    return Nic(**_document()["nic"][kind])


DEFAULT_NIC = "1"
"""For a series without a known card: the type of all NVIDIA series that have one. ``acs_rules`` warns of it."""


@cache
def pod_series() -> Mapping[str, PodSeries]:
    """All series by the value of ``alibabacloud.com/gpu-model-series``."""
    return {
        name: PodSeries(
            resource=row.get("resource", NVIDIA),
            drivers=tuple(row["drivers"]),
            ephemeral_gib={int(cards): gib for cards, gib in row.get("ephemeral_gib", {}).items()},
            nic=nic(row["nic"]) if "nic" in row else None,
        )
        for name, row in _document()["series"].items()
    }


def resource_name(series: str) -> str:
    """The extended resource by which cards of ``series`` are counted."""
    found = pod_series().get(series)
    return found.resource if found else NVIDIA


def rdma_environment(series: str, *, open_source_image: bool) -> Mapping[str, str]:
    """Variables that make NCCL use the RDMA network card of ``series``."""
    found = pod_series().get(series)
    card = (found.nic if found else None) or nic(DEFAULT_NIC)
    return {**card.environment, **(card.open_source_environment if open_source_image else {})}
