"""The controllers that the deployment needs in the cluster: expected, or installed by their Helm charts.

Installed as Helm releases and not as single resources: each is one resource instead of twenty-five, Helm never deletes
what lies in a chart's ``crds/``, and the hooks by which ack-fluid upgrades its definitions run.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from components.crds import (
    HTTPRoute,
    JindoRuntime,
    LeaderWorkerSet,
    NamespacedResource,
    PodMonitor,
    PrometheusRule,
    ScaledObject,
)
from components.settings.deployment import Deployment
from components.settings.operators import InstallFluid, InstallLws, OperatorsSettings
from components.settings.route import GatewayRoute
from components.settings.scaling import QueueScaling, ScheduleScaling
from components.settings.storage import FluidCacheSettings, OssVolumeSettings
from planner.findings import Finding


@dataclass(frozen=True, kw_only=True)
class Api:
    """An API that the stack expects of its cluster, and what to say where the cluster does not serve it."""

    resource: type[NamespacedResource]
    finding: Finding


LWS = Api(
    resource=LeaderWorkerSet,
    finding=Finding(
        path="deployment.operators.lws",
        problem="the cluster has no LeaderWorkerSet API (leaderworkerset.x-k8s.io/v1)",
        fix="install the component lws from the ACS App Marketplace, or write operators.lws.kind: install",
    ),
)
FLUID = Api(
    resource=JindoRuntime,
    finding=Finding(
        path="deployment.operators.fluid",
        problem="the cluster has no Fluid API (data.fluid.io/v1alpha1), which storage.kind: fluid needs",
        fix="install the component ack-fluid from the ACS App Marketplace, or write operators.fluid.kind: install",
    ),
)
GATEWAY = Api(
    resource=HTTPRoute,
    finding=Finding(
        path="deployment.service.route",
        problem="the cluster has no Gateway API (gateway.networking.k8s.io/v1), which a route of kind gateway needs",
        fix="install it with a gateway controller, for example the component Gateway API of ACS, or write a route of "
        "kind ingress",
    ),
)
MONITORS = Api(
    resource=PodMonitor,
    finding=Finding(
        path="deployment.observability",
        problem="the cluster has no API for monitors (PodMonitor of monitoring.coreos.com/v1)",
        fix="install prometheus-operator (the chart kube-prometheus-stack) or switch Managed Service for Prometheus on "
        "for the cluster, or remove observability",
    ),
)
ALERTS = Api(
    resource=PrometheusRule,
    finding=Finding(
        path="deployment.observability.alerts",
        problem="the cluster has no API for alerts (PrometheusRule of monitoring.coreos.com/v1)",
        fix="install prometheus-operator (the chart kube-prometheus-stack), or write alerts: null",
    ),
)
"""prometheus-operator brings both, a managed agent perhaps only that of monitors."""

KEDA = Api(
    resource=ScaledObject,
    finding=Finding(
        path="deployment.inference.scaling",
        problem="the cluster has no KEDA (keda.sh/v1alpha1), which the kinds schedule and queue need",
        fix="install the component ack-keda from the ACS App Marketplace, or KEDA by its own chart, or write kind: "
        "manual",
    ),
)
"""https://www.alibabacloud.com/help/en/cs/user-guide/keda/"""

RELEASE_SECONDS = 600
"""Time until a controller's pods are ready: capacity, and the pull of a small image."""


@dataclass(frozen=True, kw_only=True)
class OperatorsArgs:
    """``region`` is where ack-fluid's images are pulled from."""

    operators: OperatorsSettings
    storage: OssVolumeSettings | FluidCacheSettings
    region: str


class Operators(pulumi.ComponentResource):
    """The controllers that the settings install."""

    def __init__(self, name: str, args: OperatorsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("deepseek:cluster:Operators", name, None, opts)
        lws, fluid = args.operators.lws, args.operators.fluid
        if isinstance(lws, InstallLws):
            self._install_lws(lws)
        if isinstance(fluid, InstallFluid):
            self._install_fluid(fluid, args)
        self.register_outputs({})

    def _install_lws(self, settings: InstallLws) -> None:
        values = {"image": {"manager": {"repository": settings.image}}} if settings.image else {}
        self._release(
            "lws", namespace="lws-system", chart=f"{settings.repository}/lws", version=settings.version, values=values
        )

    def _install_fluid(self, settings: InstallFluid, args: OperatorsArgs) -> None:
        values = fluid_values(settings, region=args.region, storage=args.storage)
        self._release("ack-fluid", namespace="fluid-system", chart=settings.chart, version=None, values=values)

    def _release(
        self, name: str, *, namespace: str, chart: str, version: str | None, values: Mapping[str, Any]
    ) -> None:
        k8s.helm.v3.Release(
            f"{self.pulumi_resource_name}-{name}",
            name=name,
            namespace=namespace,
            create_namespace=True,
            chart=chart,
            version=version,
            values=values,
            timeout=RELEASE_SECONDS,
            # A first installation that fails would otherwise keep the name, and the next pulumi up from trying again.
            atomic=True,
            opts=pulumi.ResourceOptions(parent=self),
        )


def expected_apis(settings: Deployment) -> list[Api]:
    """The APIs that must be there before anything is created, because nothing of the stack installs them."""
    lws, fluid, observability = settings.operators.lws, settings.operators.fluid, settings.observability
    needed = [
        (LWS, not isinstance(lws, InstallLws)),
        (FLUID, isinstance(settings.storage, FluidCacheSettings) and not isinstance(fluid, InstallFluid)),
        (GATEWAY, isinstance(settings.service.route, GatewayRoute)),
        (MONITORS, observability is not None),
        (ALERTS, observability is not None and observability.alerts is not None),
        (KEDA, isinstance(settings.inference.scaling, ScheduleScaling | QueueScaling)),
    ]
    return [api for api, is_needed in needed if is_needed]


def fluid_values(
    settings: InstallFluid, *, region: str, storage: OssVolumeSettings | FluidCacheSettings
) -> dict[str, Any]:
    """Values of the chart on an ACS cluster. Its own are placeholders that only the console fills in
    (https://github.com/aliyun-computenest/quickstart-vllm-ack, .computenest/ros_templates/acs-ecs.yaml)."""
    target = storage.sidecar if isinstance(storage, FluidCacheSettings) else "acs"
    inject = {
        "platformKey": "alibabacloud.com/fluid-sidecar-target",
        "platformValue": target,
        "vfuseResourceName": "alibabacloud.com/vfuse",
    }
    return {
        "region": region,
        "cluster_profile": "ManagedKubernetes",
        "clusterProfileforApp": "Acs",
        "pullImageByVPCNetwork": True,
        "appendImageTag": True,
        "helmDriver": "configmap",
        "version": settings.image_tag,
        "crdUpgrade": {"enabled": True},
        "runtime": {
            "jindo": {
                "enabled": False,
                "engine": "jindocache",
                "queryUfsTotal": True,
                "init": {"portCheck": {"enabled": False}},
            }
        },
        "webhook": {
            "enabled": True,
            "timeoutSeconds": 15,
            "reinvocationPolicy": "IfNeeded",
            # It fails closed: while none answers, no pod with the label is made, and no group recovers.
            "replicas": 2,
            **({"serverlessInject": inject} if target != "none" else {}),
        },
        # ACS has no host namespaces. The two lie at different depths.
        "csi": {"config": {"hostNetwork": False}, "hostPID": False},
        "fluidapp": {"enabled": True},
    }
