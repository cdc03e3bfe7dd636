"""What a Prometheus and a Grafana in the cluster pick up: PodMonitor, PrometheusRule, and the dashboard.

On ACS these are read by Managed Service for Prometheus, in which PodMonitors are switched on for the cluster
(https://www.alibabacloud.com/help/en/prometheus/user-guide/custom-collection-monitoring-metrics-through-pod-monitor,
for ACK clusters; not verified on an ACS cluster), or by a prometheus-operator of your own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from components.crds import PodMonitor, PrometheusRule
from components.monitoring.alerts import rule_groups
from components.monitoring.logs import labels
from components.settings.observability import AlertSettings, DashboardSettings, ObservabilitySettings
from planner.engine import Version
from planner.loading import LoadBudget
from planner.metrics import GROUP_LABEL, LWS_LABEL, EngineMetrics, Target

SCRAPE_TIMEOUT_SECONDS = 10
"""A leader answers in milliseconds; one under full load may need seconds."""

FOLDER = "grafana_folder"
"""Annotation of the sidecar (https://github.com/grafana/helm-charts/tree/main/charts/grafana, ``folderAnnotation``)."""

RELABELLED = {
    "namespace": "__meta_kubernetes_namespace",
    "pod": "__meta_kubernetes_pod_name",
    LWS_LABEL: "__meta_kubernetes_pod_label_leaderworkerset_sigs_k8s_io_name",
    GROUP_LABEL: "__meta_kubernetes_pod_label_leaderworkerset_sigs_k8s_io_group_index",
}
"""Labels of everything that is scraped, and where they come from. prometheus-operator adds the first two itself; a
managed agent need not, and the alerts depend on them."""


@dataclass(frozen=True, kw_only=True)
class ObservabilityArgs:
    """``group`` is the LeaderWorkerSet's name and ``selector`` selects its leaders, ``version`` is the engine's,
    ``budget`` the time that loading may take."""

    namespace: str
    group: str
    version: Version
    observability: ObservabilitySettings
    budget: LoadBudget
    selector: Mapping[str, pulumi.Input[str]]


class Observability(pulumi.ComponentResource):
    """PodMonitor, and alerts and dashboard where the settings have them."""

    def __init__(self, name: str, args: ObservabilityArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("deepseek:operations:Observability", name, None, opts)
        settings = args.observability
        target = Target(namespace=args.namespace, name=args.group, metrics=EngineMetrics(version=args.version))
        self._pod_monitor(args)
        if settings.alerts:
            self._rules(args, target, settings.alerts)
        if settings.dashboard:
            self._dashboard(args, target, settings.dashboard)
        self.register_outputs({})

    def _pod_monitor(self, args: ObservabilityArgs) -> None:
        PodMonitor(
            "leaders",
            metadata=_metadata(args, "metrics", args.observability.labels),
            spec=pod_monitor_spec(args.selector, scrape_seconds=args.observability.scrape_seconds),
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _rules(self, args: ObservabilityArgs, target: Target, alerts: AlertSettings) -> None:
        PrometheusRule(
            "alerts",
            metadata=_metadata(args, "alerts", args.observability.labels),
            spec={"groups": rule_groups(alerts, target, args.budget)},
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _dashboard(self, args: ObservabilityArgs, target: Target, dashboard: DashboardSettings) -> None:
        # Grafana's library is large, and most runs have no use for it.
        from components.monitoring.dashboard import dashboard_json

        metadata = _metadata(args, "dashboard", dashboard.labels)
        if dashboard.folder:
            metadata["annotations"] = {FOLDER: dashboard.folder}
        alerts = args.observability.alerts or AlertSettings()
        k8s.core.v1.ConfigMap(
            "dashboard",
            metadata=metadata,
            data={f"vllm-{args.namespace}-{args.group}.json": dashboard_json(target, alerts)},
            opts=pulumi.ResourceOptions(parent=self),
        )


def pod_monitor_spec(selector: Mapping[str, pulumi.Input[str]], *, scrape_seconds: int) -> dict[str, Any]:
    """The spec of the PodMonitor: the leaders' port ``http``, whose ``/metrics`` needs no API key, because vLLM asks
    for one below ``/v1`` only (https://docs.vllm.ai/en/stable/usage/security/)."""
    return {
        "selector": {"matchLabels": selector},
        "podMetricsEndpoints": [
            {
                "port": "http",
                "path": "/metrics",
                "interval": f"{scrape_seconds}s",
                "scrapeTimeout": f"{min(scrape_seconds, SCRAPE_TIMEOUT_SECONDS)}s",
                "relabelings": [
                    {"sourceLabels": [source], "targetLabel": label} for label, source in RELABELLED.items()
                ],
            }
        ],
    }


def _metadata(args: ObservabilityArgs, component: str, chosen: Mapping[str, str]) -> k8s.meta.v1.ObjectMetaArgsDict:
    return {
        "name": f"{args.group}-{component}",
        "namespace": args.namespace,
        "labels": {**labels(args.group, component=component), **chosen},
    }
