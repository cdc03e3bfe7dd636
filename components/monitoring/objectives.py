"""Whether an objective about latency can ever be missed, as far as the engine's histograms reach."""

from collections.abc import Iterator

from components.monitoring.metrics import EngineMetrics
from components.settings.observability import ObservabilitySettings
from planner.engine import Engine
from planner.findings import Finding


def objective_findings(observability: ObservabilitySettings | None, engine: Engine) -> Iterator[Finding]:
    """Objectives beyond the largest time that ``engine`` counts: their alerts would never fire."""
    alerts, metrics = observability.alerts if observability else None, EngineMetrics(version=engine.version)
    if alerts is None:
        return
    objectives = (
        ("timeToFirstTokenSeconds", alerts.time_to_first_token_seconds, metrics.longest_first_token_seconds),
        ("interTokenSeconds", alerts.inter_token_seconds, metrics.longest_inter_token_seconds),
    )
    for name, objective, longest in objectives:
        if objective is not None and objective > longest:
            yield Finding(
                path=f"deployment.observability.alerts.{name}",
                problem=f"the histogram of {engine.name} ends at {longest:g} s, so an alert at {objective:g} s would "
                "never fire",
                fix=f"write {longest:g} or less, or leave it out",
            )
