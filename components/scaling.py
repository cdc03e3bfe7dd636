"""The autoscaler of the inference group: a KEDA ScaledObject, or a HorizontalPodAutoscaler.

Both compute an absolute number of groups: the load divided by the capacity of one group. Groups take up to an hour to
load and do not reduce the load until then. Ratios to the current load would multiply them; an absolute number does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pulumi
import pulumi_kubernetes as k8s

from deepseek_acs.planner.metrics import LWS_LABEL, EngineMetrics

from .crds import LeaderWorkerSet, ScaledObject, TriggerAuthentication

STABILIZATION_MAX_SECONDS = 3600
PERIOD_MAX_SECONDS = 1800
"""Upper bounds of ``stabilizationWindowSeconds`` and ``periodSeconds``
(https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/horizontal-pod-autoscaler-v2/)."""

SCHEDULE_COOLDOWN_SECONDS = 60
"""From the end of the last window to zero. A calendar does not fluctuate, so there is nothing to wait for."""

PAUSED_REPLICAS = "autoscaling.keda.sh/paused-replicas"
"""https://keda.sh/docs/latest/concepts/scaling-deployments/#pause-autoscaling"""


@dataclass(frozen=True, kw_only=True)
class Window:
    """A period with more groups; ``start`` and ``end`` are five fields of cron."""

    start: str
    end: str
    replicas: int


@dataclass(frozen=True, kw_only=True)
class AutoscalingArgs:
    """``group`` is the LeaderWorkerSet's name, ``create_seconds`` the time until a new group answers. ``hold`` fixes
    the number of groups temporarily.

    schedule: at least ``min_replicas``, and more in the ``windows``. queue and hpa: another group above
    ``waiting_requests`` per group or ``cache_usage`` of the KV cache, by metrics of these names, which queue reads from
    the Prometheus at ``prometheus_url``, with ``prometheus_token`` as the header Authorization."""

    namespace: str
    group: str
    kind: Literal["schedule", "queue", "hpa"]
    min_replicas: int
    max_replicas: int
    hold: int | None = None
    create_seconds: int
    timezone: str = "Asia/Shanghai"
    windows: tuple[Window, ...] = ()
    waiting_requests: int = 10
    cache_usage: float = 0.8
    waiting_metric: str = EngineMetrics.waiting
    cache_metric: str = ""
    prometheus_url: str = ""
    prometheus_token: pulumi.Input[str] | None = None
    activation_query: str | None = None


class Autoscaling(pulumi.ComponentResource):
    """The autoscaler that sets the replicas of the LeaderWorkerSet."""

    def __init__(self, name: str, args: AutoscalingArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("deepseek:inference:Autoscaling", name, None, opts)
        scaler = self._horizontal_pod_autoscaler(args) if args.kind == "hpa" else self._scaled_object(args)
        self.register_outputs({"name": scaler.metadata["name"]})

    def _horizontal_pod_autoscaler(self, args: AutoscalingArgs) -> k8s.autoscaling.v2.HorizontalPodAutoscaler:
        return k8s.autoscaling.v2.HorizontalPodAutoscaler(
            f"{self.pulumi_resource_name}-autoscaler",
            metadata={"name": args.group, "namespace": args.namespace},
            spec=hpa_spec(args),
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _authentication(self, args: AutoscalingArgs) -> pulumi.Output[str] | None:
        if args.prometheus_token is None:
            return None
        secret = k8s.core.v1.Secret(
            f"{self.pulumi_resource_name}-prometheus-authorization",
            metadata={"namespace": args.namespace},
            string_data={"header": "Authorization", "value": args.prometheus_token},
            opts=pulumi.ResourceOptions(parent=self),
        )
        authentication = TriggerAuthentication(
            f"{self.pulumi_resource_name}-prometheus-authentication",
            metadata={"namespace": args.namespace},
            spec=authentication_spec(secret.metadata["name"]),
            opts=pulumi.ResourceOptions(parent=self),
        )
        return authentication.metadata["name"]

    def _scaled_object(self, args: AutoscalingArgs) -> ScaledObject:
        paused = {} if args.hold is None else {"annotations": {PAUSED_REPLICAS: str(args.hold)}}
        spec = schedule_spec(args) if args.kind == "schedule" else queue_spec(args, self._authentication(args))
        return ScaledObject(
            f"{self.pulumi_resource_name}-autoscaler",
            metadata={"name": args.group, "namespace": args.namespace, **paused},
            spec={"scaleTargetRef": _target(args.group), **spec},
            opts=pulumi.ResourceOptions(parent=self),
        )


def _target(group: str) -> dict[str, str]:
    return {
        "apiVersion": LeaderWorkerSet.group_version,
        "kind": LeaderWorkerSet.resource_kind,
        "name": group,
    }


def authentication_spec(secret: pulumi.Input[str]) -> dict[str, Any]:
    """The TriggerAuthentication's spec: a header with name and value from the Secret."""
    keys = {"customAuthHeader": "header", "customAuthValue": "value"}
    return {"secretTargetRef": [{"parameter": p, "name": secret, "key": key} for p, key in keys.items()]}


def load_behavior(create_seconds: int) -> dict[str, Any]:
    """One group at a time. A group is removed only if the load has stayed low for the time that loading one takes.

    A model that takes longer to load than ``STABILIZATION_MAX_SECONDS`` gets that time: Kubernetes allows no longer
    windows.
    """
    one_group = [{"type": "Pods", "value": 1, "periodSeconds": min(create_seconds, PERIOD_MAX_SECONDS)}]
    return {
        "scaleUp": {"stabilizationWindowSeconds": 0, "policies": one_group},
        "scaleDown": {
            "stabilizationWindowSeconds": min(create_seconds, STABILIZATION_MAX_SECONDS),
            "policies": one_group,
        },
    }


def at_once(most: int) -> dict[str, Any]:
    """All groups of a window at once: the user sets its times."""
    rules = {"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": most, "periodSeconds": 15}]}
    return {"scaleUp": rules, "scaleDown": rules}


def schedule_spec(args: AutoscalingArgs) -> dict[str, Any]:
    """The ScaledObject's spec without its target (https://keda.sh/docs/latest/scalers/cron/)."""
    return {
        "minReplicaCount": args.min_replicas,
        "maxReplicaCount": args.max_replicas,
        "cooldownPeriod": SCHEDULE_COOLDOWN_SECONDS,
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": at_once(args.max_replicas)}},
        "triggers": [
            {
                "type": "cron",
                "metadata": {
                    "timezone": args.timezone,
                    "start": window.start,
                    "end": window.end,
                    "desiredReplicas": str(window.replicas),
                },
            }
            for window in args.windows
        ],
    }


def queue_spec(args: AutoscalingArgs, authentication: pulumi.Input[str] | None) -> dict[str, Any]:
    """The ScaledObject's spec without its target (https://keda.sh/docs/latest/scalers/prometheus/).

    A missing metric is an error, and the number of groups stays unchanged: an outage of Prometheus must not look like a
    time without requests. Only at zero groups it is normal, and the metrics count as 0."""
    missing = " or vector(0)" if args.min_replicas == 0 else ""
    selected = f'namespace="{args.namespace}",{LWS_LABEL}="{args.group}"'
    queries: dict[str, tuple[str, float]] = {
        "waiting": (f"sum({args.waiting_metric}{{{selected}}}){missing}", args.waiting_requests),
        "cache": (f"sum({args.cache_metric}{{{selected}}}){missing}", args.cache_usage),
    }
    if args.activation_query is not None:
        # It starts the first group, and never a second one.
        queries["activation"] = (f"clamp_max(max({args.activation_query}) or vector(0), 1)", 1)
    return {
        "minReplicaCount": args.min_replicas,
        "maxReplicaCount": args.max_replicas,
        "cooldownPeriod": args.create_seconds,
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": load_behavior(args.create_seconds)}},
        "triggers": [
            {
                "type": "prometheus",
                "name": name,
                "metadata": {
                    "serverAddress": args.prometheus_url,
                    "query": query,
                    "threshold": f"{threshold:g}",
                    "ignoreNullValues": "false",
                    **({"authModes": "custom"} if authentication is not None else {}),
                },
                **({"authenticationRef": {"name": authentication}} if authentication is not None else {}),
            }
            for name, (query, threshold) in queries.items()
        ],
    }


def hpa_spec(args: AutoscalingArgs) -> Any:
    """The HorizontalPodAutoscaler's spec. The metrics are those of the leaders: the LeaderWorkerSet's scale subresource
    selects no other pods (``status.hpaPodSelector``). A leader without metrics, which is still loading, counts as idle
    when scaling up, and as busy when scaling down."""
    thresholds = {
        args.waiting_metric: str(args.waiting_requests),
        args.cache_metric: f"{args.cache_usage * 1000:.0f}m",
    }
    held = args.hold is not None
    return {
        "scaleTargetRef": _target(args.group),
        "minReplicas": args.hold if held else args.min_replicas,
        "maxReplicas": args.hold if held else args.max_replicas,
        "behavior": load_behavior(args.create_seconds),
        "metrics": [
            {
                "type": "Pods",
                "pods": {"metric": {"name": name}, "target": {"type": "AverageValue", "averageValue": value}},
            }
            for name, value in thresholds.items()
        ],
    }
