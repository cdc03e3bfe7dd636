"""What Prometheus and Grafana in the cluster read: PodMonitor, PrometheusRule, and the dashboard.

On ACS, Managed Service for Prometheus reads them, if PodMonitors are enabled for the cluster
(https://www.alibabacloud.com/help/en/prometheus/user-guide/custom-collection-monitoring-metrics-through-pod-monitor,
for ACK clusters; not verified on an ACS cluster), or your own prometheus-operator does."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from deepseek_acs.planner.loading import LoadBudget
from deepseek_acs.planner.metrics import GROUP_LABEL, LWS_LABEL, EngineMetrics, Target
from deepseek_acs.planner.vllm_releases.release import Version

from .crds import PodMonitor, PrometheusRule
from .labels import common_labels
from .monitoring.alerts import AlertThresholds, rule_groups
from .request_filter import METRICS_KEY

SCRAPE_TIMEOUT_SECONDS = 10
"""A leader answers within milliseconds, under full load within seconds."""

FOLDER = "grafana_folder"
"""Annotation of the sidecar (https://github.com/grafana/helm-charts/tree/main/charts/grafana, ``folderAnnotation``)."""

RELABELLED = {
    "namespace": "__meta_kubernetes_namespace",
    "pod": "__meta_kubernetes_pod_name",
    LWS_LABEL: "__meta_kubernetes_pod_label_leaderworkerset_sigs_k8s_io_name",
    GROUP_LABEL: "__meta_kubernetes_pod_label_leaderworkerset_sigs_k8s_io_group_index",
}
"""Labels of all scraped metrics, and their sources. prometheus-operator adds the first two itself; a managed agent may
not, and the alerts depend on them."""


@dataclass(frozen=True, kw_only=True)
class ObservabilityArgs:
    """``group`` is the LeaderWorkerSet's name and ``selector`` selects its leaders, ``engine_version`` is vLLM's.
    ``budget`` is the time that loading may take. ``keys_secret`` is the Secret with the key for ``/metrics``, None
    where none is asked for. ``picker_labels`` select the endpoint picker; None: there is none. ``labels`` are those by
    which Prometheus selects monitors and rules, ``dashboard_labels`` those by which Grafana's sidecar finds the
    dashboard, in ``dashboard_folder``; None: there is none."""

    namespace: str
    group: str
    selector: Mapping[str, pulumi.Input[str]]
    engine_version: Version
    budget: LoadBudget
    labels: Mapping[str, str] = field(default_factory=dict)
    scrape_seconds: int = 15
    keys_secret: pulumi.Input[str] | None = None
    picker_labels: Mapping[str, str] | None = None
    alerts: AlertThresholds | None = None
    dashboard_labels: Mapping[str, str] | None = None
    dashboard_folder: str | None = None


class Observability(pulumi.ComponentResource):
    """PodMonitor, and alerts and dashboard if they are enabled."""

    def __init__(self, name: str, args: ObservabilityArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("deepseek:operations:Observability", name, None, opts)
        target = Target(namespace=args.namespace, name=args.group, metrics=EngineMetrics(version=args.engine_version))
        monitor = self._pod_monitor(name, args)
        if args.picker_labels is not None:
            self._picker_monitor(name, args, args.picker_labels)
        if args.alerts:
            self._rules(name, args, target, args.alerts)
        if args.dashboard_labels is not None:
            self._dashboard(name, args, target, args.dashboard_labels)
        self.register_outputs({"podMonitor": monitor.metadata["name"]})

    def _pod_monitor(self, name: str, args: ObservabilityArgs) -> PodMonitor:
        return PodMonitor(
            f"{name}-leaders",
            metadata=_metadata(args, "metrics", args.labels),
            spec=pod_monitor_spec(args.selector, scrape_seconds=args.scrape_seconds, keys_secret=args.keys_secret),
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _picker_monitor(self, name: str, args: ObservabilityArgs, selector: Mapping[str, str]) -> None:
        PodMonitor(
            f"{name}-picker",
            metadata=_metadata(args, "picker-metrics", args.labels),
            spec={
                "selector": {"matchLabels": selector},
                "podMetricsEndpoints": [
                    {
                        "port": "metrics",
                        "interval": f"{args.scrape_seconds}s",
                        "scrapeTimeout": f"{min(args.scrape_seconds, SCRAPE_TIMEOUT_SECONDS)}s",
                        # Not the label of the LeaderWorkerSet, by which the alerts select the engine.
                        "relabelings": _relabelings(("namespace", "pod")),
                    }
                ],
            },
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _rules(self, name: str, args: ObservabilityArgs, target: Target, alerts: AlertThresholds) -> None:
        PrometheusRule(
            f"{name}-alerts",
            metadata=_metadata(args, "alerts", args.labels),
            spec={"groups": rule_groups(alerts, target, args.budget)},
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _dashboard(self, name: str, args: ObservabilityArgs, target: Target, labels: Mapping[str, str]) -> None:
        # Grafana's library is large, and most runs do not need it.
        from .monitoring.dashboard import dashboard_json

        metadata = _metadata(args, "dashboard", labels)
        if args.dashboard_folder:
            metadata["annotations"] = {FOLDER: args.dashboard_folder}
        alerts = args.alerts or AlertThresholds()
        k8s.core.v1.ConfigMap(
            f"{name}-dashboard",
            metadata=metadata,
            data={f"vllm-{args.namespace}-{args.group}.json": dashboard_json(target, alerts)},
            opts=pulumi.ResourceOptions(parent=self),
        )


def pod_monitor_spec(
    selector: Mapping[str, pulumi.Input[str]], *, scrape_seconds: int, keys_secret: pulumi.Input[str] | None = None
) -> dict[str, Any]:
    """The spec of the PodMonitor: the leaders' port ``http``. The request filter asks for a key on ``/metrics``, which
    vLLM does not (https://prometheus-operator.dev/docs/api-reference/api/#monitoring.coreos.com/v1.SafeAuthorization)."""
    key = {"type": "Bearer", "credentials": {"name": keys_secret, "key": METRICS_KEY}}
    return {
        "selector": {"matchLabels": selector},
        "podMetricsEndpoints": [
            {
                "port": "http",
                "path": "/metrics",
                "interval": f"{scrape_seconds}s",
                "scrapeTimeout": f"{min(scrape_seconds, SCRAPE_TIMEOUT_SECONDS)}s",
                **({"authorization": key} if keys_secret is not None else {}),
                "relabelings": _relabelings(RELABELLED),
            }
        ],
    }


def _relabelings(labels: Iterable[str]) -> list[dict[str, Any]]:
    return [{"sourceLabels": [RELABELLED[label]], "targetLabel": label} for label in labels]


def _metadata(args: ObservabilityArgs, component: str, chosen: Mapping[str, str]) -> k8s.meta.v1.ObjectMetaArgsDict:
    return {
        "name": f"{args.group}-{component}",
        "namespace": args.namespace,
        "labels": {**common_labels(args.group, component=component), **chosen},
    }
