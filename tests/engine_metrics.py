"""What an engine exports, and what the program reads of it."""

import json
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from components.monitoring.alerts import AlertThresholds, rule_groups
from components.monitoring.dashboard import dashboard_json
from components.scaling import AutoscalingArgs, hpa_spec, queue_spec
from deepseek_acs.engineprobe import program as engineprobe
from deepseek_acs.planner.loading import load_budget
from deepseek_acs.planner.metrics import EngineMetrics, Target

RECORDED = Path(__file__).parent / "data" / "vllm-0.32.0-metrics.txt"
"""Names and labels of the metrics of a real vLLM of this version, after requests; tests/engine writes it."""
VERSION = (0, 32, 0)

_SAMPLE = re.compile(r"^(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})? ")
_LABEL = re.compile(r'(\w+)="')
_USED = re.compile(r"\b(?:vllm:|http_request)\w+")


def exported(metrics: str) -> dict[str, set[str]]:
    """Labels by name of everything in Prometheus' text format."""
    found: dict[str, set[str]] = {}
    for line in metrics.splitlines():
        if match := _SAMPLE.match(line):
            found.setdefault(match["name"], set()).update(_LABEL.findall(match["labels"] or ""))
    return found


def as_text(names: Mapping[str, Iterable[str]]) -> str:
    """One line for each name, without what depends on the time or on the machine."""
    stable = {name: labels for name, labels in names.items() if name.startswith(("vllm:", "http_"))}
    return "".join(f"{' '.join([name, *sorted(labels)])}\n" for name, labels in sorted(stable.items()))


def recorded() -> dict[str, set[str]]:
    """What the file says."""
    lines = (line.split() for line in RECORDED.read_text(encoding="utf-8").splitlines())
    return {name: set(labels) for name, *labels in lines}


@cache
def used() -> dict[str, set[str]]:
    """Names of the engine's metrics by what reads them."""
    metrics = EngineMetrics(version=VERSION)
    target = Target(namespace="n", name="r1", metrics=metrics)
    settings = AlertThresholds(time_to_first_token_seconds=5, inter_token_seconds=0.1)
    budget = load_budget(weights_gib=641.3, throughput_mib_s=300)
    scaling = AutoscalingArgs(
        namespace="n",
        group="r1",
        kind="queue",
        min_replicas=1,
        max_replicas=2,
        create_seconds=600,
        cache_metric=metrics.kv_cache_usage,
        prometheus_url="http://prometheus:9090",
    )
    texts = {
        "alerts": json.dumps(rule_groups(settings, target, budget)),
        "dashboard": dashboard_json(target, settings),
        "KEDA": json.dumps(queue_spec(scaling, None)),
        "HPA": json.dumps(hpa_spec(scaling)),
        "engineprobe": " ".join((*engineprobe.REQUESTS[:2], *engineprobe.PROGRESS)),
    }
    return {reader: set(_USED.findall(text)) for reader, text in texts.items()}
