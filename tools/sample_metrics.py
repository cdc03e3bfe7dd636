"""An hour of a deployment in metrics, made up: two groups of two pods, traffic that grows, and a crash of one group.

For the picture of the dashboard and for its test. The figures are plausible and nothing more; none was measured.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from deepseek_acs.planner.metrics import EngineMetrics, Target

START = 1_767_225_600
"""2026-01-01 00:00 UTC; always the same, so the picture is, too."""

SECONDS, STEP = 4200, 15
"""Length, with ten minutes before the hour that is shown, and time between two samples."""

CRASH, REPLACED, LOADED = 2400, 2460, 3540
"""When group 1 dies, when its pods run again, and when the model is loaded again."""

CAPACITY = 48
GPUS = 8

Bounds = tuple[float, ...]
FIRST_TOKEN: Bounds = (0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0)
INTER_TOKEN: Bounds = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5)
REQUEST: Bounds = (5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0)


@dataclass
class _Samples:
    """Series by name and labels, each with its samples in order of time."""

    types: dict[str, str] = field(default_factory=dict)
    series: dict[str, dict[str, list[tuple[int, float]]]] = field(default_factory=dict)
    totals: dict[str, float] = field(default_factory=dict)

    def gauge(self, name: str, labels: str, when: int, value: float) -> None:
        self._add(name, "gauge", f"{name}{{{labels}}}", when, value)

    def count(self, name: str, labels: str, when: int, increase: float) -> None:
        key = f"{name}{{{labels}}}"
        self.totals[key] = self.totals.get(key, 0.0) + increase
        self._add(name.removesuffix("_total"), "counter", key, when, self.totals[key])

    def observe(self, name: str, labels: str, when: int, number: float, median: float, bounds: Bounds) -> None:
        """``number`` values around ``median``, log-normal."""
        for bound in (*bounds, math.inf):
            text = "+Inf" if bound == math.inf else str(bound)
            share = 1.0 if bound == math.inf else 0.5 * (1 + math.erf(math.log(bound / median) / 0.8))
            key = f'{name}_bucket{{{labels},le="{text}"}}'
            self.totals[key] = self.totals.get(key, 0.0) + number * share
            self._add(name, "histogram", key, when, self.totals[key])

    def forget(self, label: str) -> None:
        """A process that restarts counts from zero."""
        self.totals = {key: value for key, value in self.totals.items() if label not in key}

    def _add(self, family: str, kind: str, key: str, when: int, value: float) -> None:
        self.types[family] = kind
        self.series.setdefault(family, {}).setdefault(key, []).append((START + when, value))

    def text(self) -> str:
        """In OpenMetrics' format."""
        return "\n".join([*self._lines(), "# EOF", ""])

    def _lines(self) -> Iterator[str]:
        for family, series in self.series.items():
            yield f"# TYPE {family} {self.types[family]}"
            for key, values in series.items():
                for when, value in values:
                    yield f"{key} {value:.6g} {when}"


def sample_metrics(metrics: EngineMetrics, *, namespace: str, name: str) -> str:
    """The hour, as text with timestamps."""
    target = Target(namespace=namespace, name=name, metrics=metrics)
    samples = _Samples()
    for when in range(0, SECONDS, STEP):
        serving = [group for group in (0, 1) if group == 0 or not CRASH <= when < LOADED]
        demand = 20 + 62 * (1 - math.cos(math.pi * min(when, 3600) / 3600)) / 2 + 4 * math.sin(when / 97)
        for group in serving:
            _engine(samples, target, group, when, demand / len(serving) * (1.06 if group else 0.97))
        for group in (0, 1):
            _pods(samples, target, group, when, is_serving=group in serving)
        if when == CRASH:
            samples.forget('group="1"')
    return samples.text()


def _engine(samples: _Samples, target: Target, group: int, when: int, demand: float) -> None:
    metrics, wobble = target.metrics, 1 + 0.06 * math.sin(when / 41 + group)
    http = f'{target.engine},group="{group}",pod="{target.name}-{group}"'
    labels = f'{http},model_name="ds"'
    running, waiting = min(CAPACITY, demand) * wobble, max(0.0, demand - CAPACITY)
    per_step = running / 28 * STEP
    cache = min(0.99, running / CAPACITY * 0.93)

    samples.gauge(metrics.running, labels, when, round(running))
    samples.gauge(metrics.waiting, labels, when, round(waiting))
    samples.gauge(metrics.kv_cache_usage, labels, when, cache)
    samples.count(metrics.prompt_tokens, labels, when, per_step * 1100 * wobble)
    samples.count(metrics.generation_tokens, labels, when, running * 17 * STEP)
    samples.count(metrics.preemptions, labels, when, max(0.0, cache - 0.9) * 30)
    impatient = 0.01 + min(0.12, waiting / 200)
    for reason, share in (("stop", 0.87 - impatient), ("length", 0.13), ("abort", impatient), ("error", 0.0)):
        samples.count(metrics.finished, f'{labels},finished_reason="{reason}"', when, per_step * share)
    failing = 0.12 if CRASH - 60 <= when < CRASH + 60 and group == 1 else 0.0
    for status, share in (("2xx", 0.985 - failing), ("4xx", 0.015), ("5xx", failing)):
        answered = f'{http},handler="/v1/chat/completions",method="POST",status="{status}"'
        samples.count(metrics.http_requests, answered, when, per_step * share)
    samples.observe(metrics.first_token_latency, labels, when, per_step, 0.7 + waiting * 0.12, FIRST_TOKEN)
    samples.observe(metrics.inter_token_latency, labels, when, per_step * 480, 0.024 + running / 3000, INTER_TOKEN)
    samples.observe(metrics.request_latency, labels, when, per_step, 24 + waiting * 0.3, REQUEST)
    if metrics.prefix_counters:
        hits, queries = metrics.prefix_counters
        samples.count(queries, labels, when, per_step * 1100)
        samples.count(hits, labels, when, per_step * 1100 * (0.31 + 0.05 * math.sin(when / 300 + group)))
    else:
        samples.gauge(metrics.prefix_hit_gauge, labels, when, 0.3)


def _pods(samples: _Samples, target: Target, group: int, when: int, *, is_serving: bool) -> None:
    is_second = group == 1 and when >= REPLACED
    if group == 1 and CRASH <= when < REPLACED:
        return
    busy = 82 + 9 * math.sin(when / 60 + group) if is_serving else 0.0
    loaded = 1.0 if is_serving or group == 0 else max(0.02, (when - REPLACED) / (LOADED - REPLACED))
    for suffix in ("", "-1"):
        pod = f'namespace="{target.namespace}",pod="{target.name}-{group}{suffix}"'
        known = f'{pod},uid="{group}{suffix}-{int(is_second)}"'
        samples.gauge("kube_pod_created", known, when, START + (REPLACED if is_second else 0))
        samples.gauge("kube_pod_status_phase", f'{known},phase="Running"', when, 1)
        is_ready = is_serving if not suffix else True
        samples.gauge("kube_pod_status_ready", f'{known},condition="true"', when, int(is_ready))
        for gpu in range(GPUS):
            samples.gauge("DCGM_FI_DEV_GPU_UTIL", f'{pod},gpu="{gpu}"', when, max(0.0, busy - gpu))
            samples.gauge("DCGM_FI_DEV_FB_USED", f'{pod},gpu="{gpu}"', when, 1200 + 88_000 * loaded - 40 * gpu)
