"""Prices: those of the user, and public list prices for what the user leaves out. None where neither is known."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from deepseek_acs.planner.acs import is_mainland
from deepseek_acs.planner.catalogue import rows


@dataclass(frozen=True, kw_only=True)
class PodPrice:
    """One vCPU, and one GiB of memory, for one hour."""

    vcpu_hour: float | None
    memory_gib_hour: float | None


@dataclass(frozen=True, kw_only=True)
class Prices:
    """Prices in ``currency``. ``gpu_pod`` is for pods with GPUs, whose GPUs cost ``gpu_hour`` each; ``cache`` and
    ``job`` are for pods of the compute classes performance and general-purpose. ``tokens_per_second`` is the measured
    output of one group."""

    currency: str
    gpu_hour: float | None
    gpu_pod: PodPrice
    cache: PodPrice
    job: PodPrice
    storage_gib_month: float | None
    traffic_gib: float | None
    tokens_per_second: float | None


@cache
def _list_prices() -> Mapping[str, Any]:
    return rows("prices.toml")


def list_price(currency: str, compute_class: str, *, region: str) -> PodPrice:
    """Of pods without GPUs."""
    area = "mainland" if is_mainland(region) else "elsewhere"
    row = _list_prices().get(currency, {}).get(area, {}).get(compute_class, {})
    return PodPrice(vcpu_hour=row.get("vcpu_hour"), memory_gib_hour=row.get("memory_gib_hour"))


def storage_list_price(currency: str) -> float | None:
    """Of one GiB in OSS for 30 days."""
    price: float | None = _list_prices().get(currency, {}).get("storage_gib_month")
    return price
