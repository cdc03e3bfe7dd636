"""When the new groups lose their clients: a function of what their metrics have counted."""

import math
import re
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from typing import Self

LATE_SHARE = 0.05
"""Share of the first tokens that may come later than the limit: it is one for 95 % of the requests."""

SAMPLE = re.compile(r"^(?P<name>[A-Za-z_:][A-Za-z0-9_:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")
LABEL = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)"')
"""https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format"""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Share of the requests that may fail; seconds to the first token for 95 % of them, None without such a limit; and
    the number of requests below which shares mean nothing."""

    error_share: float
    first_token_seconds: float | None
    least_requests: int


@dataclass(frozen=True, kw_only=True)
class Names:
    """Names of the engine's metrics."""

    http_requests: str
    finished: str
    first_token_latency: str


@dataclass(frozen=True)
class Counts:
    """HTTP requests, and those with status 5xx; requests that the engine finished, and those with an error; first
    tokens, and those later than the limit. Since the engine started, or in a window."""

    requests: float = 0
    refused: float = 0
    finished: float = 0
    broken: float = 0
    first_tokens: float = 0
    late: float = 0

    def since(self, before: Self) -> Self:
        """What came after ``before``. Counters that are lower belong to an engine that has started since."""
        if self.requests < before.requests or self.finished < before.finished:
            return self
        return type(self)(*(now - then for now, then in zip(astuple(self), astuple(before), strict=True)))


def total(counts: Iterable[Counts]) -> Counts:
    """The sum."""
    return Counts(*map(sum, zip(*map(astuple, counts), strict=True)))


def counts_of(text: str, names: Names, limits: Limits) -> Counts:
    """From the engine's metrics, in Prometheus' text format."""
    requests = refused = finished = broken = 0.0
    latencies: dict[float, float] = {}
    for line in text.splitlines():
        sample = SAMPLE.match(line)
        if sample is None:
            continue
        value, labels = float(sample["value"]), dict(LABEL.findall(sample["labels"] or ""))
        if sample["name"] == names.http_requests:
            requests += value
            refused += value if labels.get("status") == "5xx" else 0
        elif sample["name"] == names.finished:
            finished += value
            broken += value if labels.get("finished_reason") == "error" else 0
        elif sample["name"] == f"{names.first_token_latency}_bucket":
            bound = float(labels["le"])
            latencies[bound] = latencies.get(bound, 0) + value
    first_tokens, late = latencies.get(math.inf, 0), 0.0
    if limits.first_token_seconds is not None and latencies:
        late = first_tokens - latencies[min(bound for bound in latencies if bound >= limits.first_token_seconds)]
    return Counts(requests, refused, finished, broken, first_tokens, late)


def reason(limits: Limits, window: Counts) -> str:
    """Why they lose them; empty as long as there is none."""
    for all_, bad, what in (
        (window.requests, window.refused, "were answered with status 5xx"),
        (window.finished, window.broken, "were ended by an error of the engine"),
    ):
        if all_ >= limits.least_requests and bad > limits.error_share * all_:
            return f"{bad:.0f} of {all_:.0f} requests {what}"
    if window.first_tokens >= limits.least_requests and window.late > LATE_SHARE * window.first_tokens:
        return (
            f"{window.late:.0f} of {window.first_tokens:.0f} first tokens took longer than "
            f"{limits.first_token_seconds:g} s"
        )
    return ""
