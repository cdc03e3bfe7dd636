"""The autoscaler of the inference group: a KEDA ScaledObject, or a HorizontalPodAutoscaler.

Both ask for an absolute number of groups, the load divided by what one group bears. So groups that are still loading,
which takes an hour and gives no relief meanwhile, are not multiplied, as they would be with ratios to the present load.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from components.crds import LeaderWorkerSet, ScaledObject, TriggerAuthentication
from components.settings.scaling import Autoscaler, HpaScaling, QueueScaling, ScheduleScaling
from planner.engine import Version
from planner.loading import LoadBudget
from planner.metrics import EngineMetrics, Target

STABILIZATION_MAX_SECONDS = 3600
PERIOD_MAX_SECONDS = 1800
"""Upper bounds of ``stabilizationWindowSeconds`` and ``periodSeconds``
(https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/horizontal-pod-autoscaler-v2/)."""

SCHEDULE_COOLDOWN_SECONDS = 60
"""From the end of the last window to zero. A calendar does not waver, so there is nothing to wait for."""

PAUSED_REPLICAS = "autoscaling.keda.sh/paused-replicas"
"""https://keda.sh/docs/latest/concepts/scaling-deployments/#pause-autoscaling"""


@dataclass(frozen=True, kw_only=True)
class AutoscalingArgs:
    """``group`` is the LeaderWorkerSet's name, ``version`` the engine's, ``budget`` the time that loading takes;
    ``prometheus_token`` is the value of the header Authorization for Prometheus, if it asks for one."""

    namespace: str
    group: str
    scaling: Autoscaler
    version: Version
    budget: LoadBudget
    prometheus_token: pulumi.Output[str] | None


class Autoscaling(pulumi.ComponentResource):
    """What sets the replicas of the LeaderWorkerSet."""

    def __init__(self, name: str, args: AutoscalingArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("deepseek:inference:Autoscaling", name, None, opts)
        if isinstance(args.scaling, HpaScaling):
            self._horizontal_pod_autoscaler(args, args.scaling)
        else:
            authentication = self._authentication(args)
            self._scaled_object(args, args.scaling, authentication)
        self.register_outputs({})

    def _horizontal_pod_autoscaler(self, args: AutoscalingArgs, scaling: HpaScaling) -> None:
        k8s.autoscaling.v2.HorizontalPodAutoscaler(
            "autoscaler",
            metadata={"name": args.group, "namespace": args.namespace},
            spec=hpa_spec(scaling, target=_target(args.group), version=args.version, budget=args.budget),
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _authentication(self, args: AutoscalingArgs) -> pulumi.Output[str] | None:
        if args.prometheus_token is None:
            return None
        secret = k8s.core.v1.Secret(
            "prometheus-authorization",
            metadata={"namespace": args.namespace},
            string_data={"header": "Authorization", "value": args.prometheus_token},
            opts=pulumi.ResourceOptions(parent=self),
        )
        authentication = TriggerAuthentication(
            "prometheus-authentication",
            metadata={"namespace": args.namespace},
            spec=authentication_spec(secret.metadata["name"]),
            opts=pulumi.ResourceOptions(parent=self),
        )
        return authentication.metadata["name"]

    def _scaled_object(
        self,
        args: AutoscalingArgs,
        scaling: ScheduleScaling | QueueScaling,
        authentication: pulumi.Output[str] | None,
    ) -> None:
        paused = {} if scaling.hold is None else {"annotations": {PAUSED_REPLICAS: str(scaling.hold)}}
        if isinstance(scaling, ScheduleScaling):
            spec = schedule_spec(scaling)
        else:
            engine = Target(namespace=args.namespace, name=args.group, metrics=EngineMetrics(version=args.version))
            spec = queue_spec(scaling, engine=engine, authentication=authentication, budget=args.budget)
        ScaledObject(
            "autoscaler",
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
    """The TriggerAuthentication's spec: a header of the name and value that the Secret has."""
    keys = {"customAuthHeader": "header", "customAuthValue": "value"}
    return {"secretTargetRef": [{"parameter": p, "name": secret, "key": key} for p, key in keys.items()]}


def load_behavior(budget: LoadBudget) -> dict[str, Any]:
    """One group at a time, and none is taken away that would be missed before another could be loaded.

    A model that takes longer to load than ``STABILIZATION_MAX_SECONDS`` gets only these: Kubernetes knows no longer
    windows.
    """
    loading = budget.create_seconds
    one_group = [{"type": "Pods", "value": 1, "periodSeconds": min(loading, PERIOD_MAX_SECONDS)}]
    return {
        "scaleUp": {"stabilizationWindowSeconds": 0, "policies": one_group},
        "scaleDown": {
            "stabilizationWindowSeconds": min(loading, STABILIZATION_MAX_SECONDS),
            "policies": one_group,
        },
    }


def at_once(most: int) -> dict[str, Any]:
    """All groups of a window together: its times are the user's."""
    rules = {"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": most, "periodSeconds": 15}]}
    return {"scaleUp": rules, "scaleDown": rules}


def schedule_spec(scaling: ScheduleScaling) -> dict[str, Any]:
    """The ScaledObject's spec without its target (https://keda.sh/docs/latest/scalers/cron/)."""
    return {
        "minReplicaCount": scaling.min_replicas,
        "maxReplicaCount": scaling.most,
        "cooldownPeriod": SCHEDULE_COOLDOWN_SECONDS,
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": at_once(scaling.most)}},
        "triggers": [
            {
                "type": "cron",
                "metadata": {
                    "timezone": scaling.timezone,
                    "start": window.start,
                    "end": window.end,
                    "desiredReplicas": str(window.replicas),
                },
            }
            for window in scaling.windows
        ],
    }


def queue_spec(
    scaling: QueueScaling,
    *,
    engine: Target,
    authentication: pulumi.Input[str] | None,
    budget: LoadBudget,
) -> dict[str, Any]:
    """The ScaledObject's spec without its target (https://keda.sh/docs/latest/scalers/prometheus/); ``engine`` selects
    the group's metrics.

    A metric that is missing is an error, and then the number of groups stays as it is: an outage of Prometheus must not
    look like a night without requests. Only at zero groups is it the rule, and the metrics read as 0.
    """
    missing = " or vector(0)" if scaling.min_replicas == 0 else ""
    queries: dict[str, tuple[str, float]] = {
        "waiting": (f"sum({engine.metrics.waiting}{{{engine.engine}}}){missing}", scaling.waiting_requests),
        "cache": (f"sum({engine.metrics.kv_cache_usage}{{{engine.engine}}}){missing}", scaling.cache_usage),
    }
    if scaling.activation_query is not None:
        # It wakes up the first group and never asks for a second one.
        queries["activation"] = (f"clamp_max(max({scaling.activation_query}) or vector(0), 1)", 1)
    return {
        "minReplicaCount": scaling.min_replicas,
        "maxReplicaCount": scaling.most,
        "cooldownPeriod": budget.create_seconds,
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": load_behavior(budget)}},
        "triggers": [
            {
                "type": "prometheus",
                "name": name,
                "metadata": {
                    "serverAddress": scaling.prometheus.url,
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


def hpa_spec(scaling: HpaScaling, *, target: Mapping[str, str], version: Version, budget: LoadBudget) -> Any:
    """The HorizontalPodAutoscaler's spec. The metrics are those of the leaders: the LeaderWorkerSet's scale subresource
    selects no other pods (``status.hpaPodSelector``). A leader without metrics, which is still loading, counts as idle
    when more groups are wanted, and as busy when fewer are."""
    thresholds = {
        scaling.waiting_metric: str(scaling.waiting_requests),
        scaling.cache_metric or EngineMetrics(version=version).kv_cache_usage: f"{scaling.cache_usage * 1000:.0f}m",
    }
    held = scaling.hold is not None
    return {
        "scaleTargetRef": target,
        "minReplicas": scaling.hold if held else scaling.min_replicas,
        "maxReplicas": scaling.hold if held else scaling.max_replicas,
        "behavior": load_behavior(budget),
        "metrics": [
            {
                "type": "Pods",
                "pods": {"metric": {"name": name}, "target": {"type": "AverageValue", "averageValue": value}},
            }
            for name, value in thresholds.items()
        ],
    }
