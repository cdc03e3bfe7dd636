"""What a deployment costs, as far as the prices are known.

The arithmetic, with the guide's group of 2 pods with 8 GPUs, 64 vCPUs and 512 GiB each, and example prices of 5 per
GPU, 0.01 per vCPU and 0.005 per GiB and hour::

    group    = 2 × (8 × 5 + 64 × 0.01 + 512 × 0.005)           = 86.40 per hour
    serving  = groups × group + cache + endpoint picker
    start    = group × read time to create time (loading.py)   = 52.54 to 136.42, or × a measured time
    update   = groups in addition (maxSurge) × group × update time
    tokens   = group ÷ (output tokens per second × 3600) × 1e6

A pod is billed by the second while it has its resources, whatever its containers do
(https://www.alibabacloud.com/help/en/cs/product-overview/product-billing-rules): a group that loads costs as much per
hour as one that serves.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from deepseek_acs.planner.fluid import CachePlan
from deepseek_acs.planner.prices import PodPrice
from deepseek_acs.planner.spec import ResolvedSpec
from deepseek_acs.planner.starts import start_seconds, start_time

HOUR = 3600


@dataclass(frozen=True)
class Amount:
    """An amount of money without what ``unpriced`` names, whose price is not known."""

    value: float = 0.0
    unpriced: tuple[str, ...] = ()

    def __add__(self, other: Self) -> "Amount":
        return Amount(self.value + other.value, tuple(dict.fromkeys((*self.unpriced, *other.unpriced))))

    def __mul__(self, factor: float) -> "Amount":
        return Amount(self.value * factor, self.unpriced if factor else ())


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Amounts in ``currency``. ``group`` is one group for an hour, ``cache`` all cache workers for an hour, ``picker``
    the endpoint picker for an hour, ``serving`` all together with the fewest and the most groups. ``start`` is for a
    group until it answers, at best and at worst; ``update`` at most for the groups that an update adds; ``storage`` for
    the weights in the bucket, for 30 days; ``upload`` at most to move them there. ``million_tokens`` of output are None
    if the throughput is not known."""

    currency: str
    group: Amount
    cache: Amount
    picker: Amount
    serving: tuple[Amount, Amount]
    start: tuple[Amount, Amount]
    update: Amount
    storage: Amount
    upload: Amount
    million_tokens: Amount | None

    @property
    def unpriced(self) -> tuple[str, ...]:
        """All that has no price."""
        return (self.group + self.cache + self.picker + self.storage + self.upload).unpriced


def cost(spec: ResolvedSpec) -> Cost:
    """The cost of ``spec``."""
    prices, layout, pod, replicas = spec.prices, spec.layout, spec.pod, spec.replicas
    fastest, slowest = start_seconds(spec)
    group = (
        _priced(layout.gpus, prices.gpu_hour, "GPUs")
        + _priced(layout.pods * pod.cpu, prices.gpu_pod.vcpu_hour, "vCPUs")
        + _priced(layout.pods * pod.memory_gib, prices.gpu_pod.memory_gib_hour, "memory")
        + _priced(layout.pods * spec.extra_ephemeral_gib, None, "ephemeral storage")
    )
    cache = _cache(spec.cache, prices.cache) if spec.cache else Amount()
    picker = (
        _plain_pod(spec.picker.cpu, spec.picker.memory_gib, prices.job, "endpoint picker") if spec.picker else Amount()
    )
    always = cache + picker
    added = min(spec.rollout.max_surge, replicas.most)
    candidate = spec.update.candidate if spec.update else None
    # While there are two revisions.
    if candidate:
        always += cost(candidate).group * candidate.replicas.most
    rate = prices.tokens_per_second
    return Cost(
        currency=prices.currency,
        group=group,
        cache=cache,
        picker=picker,
        serving=(group * replicas.least + always, group * replicas.most + always),
        start=(group * (fastest / HOUR), group * (slowest / HOUR)),
        update=group * (added * spec.update_seconds / HOUR),
        storage=_priced(spec.model.weights_gib, prices.storage_gib_month, "storage"),
        upload=_upload(spec),
        million_tokens=group * (1e6 / (rate * HOUR)) if rate else None,
    )


def _cache(plan: CachePlan, price: PodPrice) -> Amount:
    """All workers for an hour."""
    return _plain_pod(plan.cpu, plan.memory_gib, price, "cache") * plan.workers


def _upload(spec: ResolvedSpec) -> Amount:
    """The pod of the Job for all its time, and what it moves."""
    upload, prices = spec.weights.upload, spec.prices
    moved_gib = spec.model.weights_gib if spec.weights.hub else 0
    pod = _plain_pod(upload.cpu, upload.memory_gib, prices.job, "upload")
    return pod * (spec.upload_seconds / HOUR) + _priced(moved_gib, prices.traffic_gib, "traffic")


def _plain_pod(vcpus: int, memory_gib: float, price: PodPrice, name: str) -> Amount:
    """A pod without GPUs for an hour."""
    return _priced(vcpus, price.vcpu_hour, name) + _priced(memory_gib, price.memory_gib_hour, name)


def _priced(quantity: float, price: float | None, name: str) -> Amount:
    if not quantity:
        return Amount()
    return Amount(unpriced=(name,)) if price is None else Amount(quantity * price)


def lines(spec: ResolvedSpec) -> Iterator[tuple[str, str]]:
    """Lines for the summary, by what they are about."""
    found = cost(spec)
    yield from _groups(spec, found)
    if not found.storage.unpriced:
        traffic = " and traffic" if "traffic" in found.upload.unpriced else ""
        upload = f", upload at most {_range(found.currency, found.upload)}{traffic}" if found.upload.value else ""
        yield "bucket", f"{_range(found.currency, found.storage)} per month{upload}"
    yield from _without(found.unpriced)


def group_lines(spec: ResolvedSpec) -> Iterator[tuple[str, str]]:
    """The same without bucket, upload and cache: for a program that has them elsewhere."""
    found, replicas = cost(spec), spec.replicas
    serving = (found.group * replicas.least, found.group * replicas.most)
    yield from _groups(spec, dataclasses.replace(found, serving=serving))
    yield from _without(found.group.unpriced)


def _groups(spec: ResolvedSpec, found: Cost) -> Iterator[tuple[str, str]]:
    replicas = spec.replicas
    if "GPUs" not in found.group.unpriced:
        groups = f"{replicas.most} group{'' if replicas.most == 1 else 's'}"
        span = groups if replicas.least == replicas.most else f"{replicas.least} to {groups}"
        if spec.update:
            span += f" and {spec.update.candidate.replicas.most} of {spec.update.candidate.revision}"
        yield "cost", f"{_range(found.currency, *found.serving)} per hour for {span}"
        yield "start", f"{_range(found.currency, *found.start)} per group until it answers, after {start_time(spec)}"
        if found.update.value:
            yield "update", f"at most {_range(found.currency, found.update)} for the groups that it adds"
        if found.million_tokens:
            yield "tokens", f"{_range(found.currency, found.million_tokens)} per million of output"
    else:
        yield "cost", f"not known: there is no public price of {spec.gpu.series}; docs/cost.md says how to give yours"


def _without(unpriced: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    if unpriced and "GPUs" not in unpriced:
        yield "unpriced", f"{', '.join(unpriced)}: their prices are not known, and not in these amounts"


def data(found: Cost) -> dict[str, object]:
    """The cost as plain data; ``null`` where not everything of it has a price."""

    def plain(amount: Amount | None) -> float | None:
        return None if amount is None or amount.unpriced else round(amount.value, 2)

    return {
        "currency": found.currency,
        "groupPerHour": plain(found.group),
        "perHour": [plain(amount) for amount in found.serving],
        "start": [plain(amount) for amount in found.start],
        "update": plain(found.update),
        "storagePerMonth": plain(found.storage),
        "upload": plain(found.upload),
        "perMillionTokens": plain(found.million_tokens),
        "notPriced": list(found.unpriced),
    }


def _range(currency: str, low: Amount, high: Amount | None = None) -> str:
    """``USD 1.00 to 2.00``."""
    return f"{currency} {low.value:,.2f}" + (f" to {high.value:,.2f}" if high and high != low else "")
