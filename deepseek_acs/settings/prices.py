"""Prices, for the costs in the preview."""

from typing import Annotated

from pydantic import Field

from deepseek_acs.settings.base import Settings

Price = Annotated[float, Field(ge=0, le=100_000)]


class PriceSettings(Settings):
    """Prices of your account, for the costs that the preview names. A public list price that exists is the default
    (deepseek_acs/planner/prices.toml); without one, the price is not known and the preview says so. 0 is a price: write
    it for what a reservation has paid for already."""

    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$", examples=["CNY"])] = "USD"
    """Currency of all prices, by its ISO 4217 code. List prices are known in USD and CNY."""

    gpu_hour: Price | None = None
    """One GPU of the series for one hour. Alibaba Cloud publishes no list price of ACS GPUs."""

    vcpu_hour: Price | None = None
    """One vCPU of a GPU pod for one hour; 0 if gpuHour includes it."""

    memory_gib_hour: Annotated[Price | None, Field(alias="memoryGiBHour")] = None
    """One GiB of a GPU pod's memory for one hour; 0 if gpuHour includes it."""

    storage_gib_month: Annotated[Price | None, Field(alias="storageGiBMonth")] = None
    """One GiB in the bucket for 30 days. By default the list price of OSS, Standard, locally redundant."""

    traffic_gib: Annotated[Price | None, Field(alias="trafficGiB")] = None
    """One GiB that the upload gets through the NAT gateway or the EIP. OSS itself charges nothing for incoming traffic,
    nor for what pods of the same region read through its internal address."""

    tokens_per_second: Annotated[float | None, Field(gt=0, le=10_000_000)] = None
    """Output tokens per second of one group at your load, as measured (verification.benchmark). The price of a million
    tokens follows from it."""
