"""The controllers that the deployment needs in the cluster: expected, or installed by their Helm charts.

They are Helm releases and not single resources: each is one resource instead of twenty-five, Helm never deletes the
content of a chart's ``crds/``, and the hooks with which ack-fluid upgrades its definitions run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from deepseek_acs.planner.findings import Finding
from deepseek_acs.planner.spec import ResolvedSpec

from .crds import (
    HTTPRoute,
    InferencePool,
    JindoRuntime,
    LeaderWorkerSet,
    NamespacedResource,
    PodGroup,
    PodMonitor,
    PrometheusRule,
    ScaledObject,
)


@dataclass(frozen=True, kw_only=True)
class Api:
    """An API that the stack expects in its cluster, and the finding if the cluster does not serve it."""

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
        problem="the cluster has no Gateway API (gateway.networking.k8s.io/v1), which a route of kind gateway or "
        "inferencePool needs",
        fix="install it with a gateway controller, for example the component Gateway API of ACS, or write a route of "
        "kind ingress",
    ),
)
INFERENCE_POOLS = Api(
    resource=InferencePool,
    finding=Finding(
        path="deployment.service.route",
        problem="the cluster has no InferencePools (inference.networking.k8s.io/v1), which a route of kind "
        "inferencePool needs",
        fix="install a gateway with the Gateway API Inference Extension 1.0 or newer and its definitions "
        "(docs/inference-pool.md), or write a route of kind gateway",
    ),
)
"""https://gateway-api-inference-extension.sigs.k8s.io/guides/"""

MONITORS = Api(
    resource=PodMonitor,
    finding=Finding(
        path="deployment.observability",
        problem="the cluster has no API for monitors (PodMonitor of monitoring.coreos.com/v1)",
        fix="install prometheus-operator (the chart kube-prometheus-stack) or enable Managed Service for Prometheus "
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
"""prometheus-operator serves both; a managed agent may serve only that of monitors."""

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

GANG = Api(
    resource=PodGroup,
    finding=Finding(
        path="deployment.inference.gang",
        problem="the cluster has no PodGroups (scheduling.sigs.k8s.io/v1alpha1), so its scheduler knows no gangs",
        fix="upgrade the cluster's kube-scheduler (docs/gang.md), or remove the setting",
    ),
)
"""https://help.aliyun.com/en/cs/user-guide/using-gang-scheduling"""

RELEASE_SECONDS = 600
"""Time until a controller's pods are ready: capacity, and the pull of a small image."""


@dataclass(frozen=True, kw_only=True)
class OperatorsArgs:
    """Versions, charts and images of the controllers to install; None: not installed. ``region`` is the region of the
    registry for ack-fluid's images, ``fluid_sidecar`` the label value that adds its client to pods."""

    region: str
    lws_version: str | None = None
    lws_repository: str = "oci://registry.k8s.io/lws/charts"
    lws_image: str | None = None
    fluid_chart: str | None = None
    fluid_image_tag: str = ""
    fluid_sidecar: str = "acs"


class Operators(pulumi.ComponentResource):
    """The controllers to install."""

    def __init__(self, name: str, args: OperatorsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("deepseek:cluster:Operators", name, None, opts)
        installed = []
        if args.lws_version is not None:
            installed.append(self._install_lws(args, args.lws_version))
        if args.fluid_chart is not None:
            installed.append(self._install_fluid(args, args.fluid_chart))
        self.register_outputs({"releases": [release.name for release in installed]})

    def _install_lws(self, args: OperatorsArgs, version: str) -> k8s.helm.v3.Release:
        values = {"image": {"manager": {"repository": args.lws_image}}} if args.lws_image else {}
        chart = f"{args.lws_repository}/lws"
        return self._release("lws", namespace="lws-system", chart=chart, version=version, values=values)

    def _install_fluid(self, args: OperatorsArgs, chart: str) -> k8s.helm.v3.Release:
        return self._release(
            "ack-fluid", namespace="fluid-system", chart=chart, version=None, values=fluid_values(args)
        )

    def _release(
        self, name: str, *, namespace: str, chart: str, version: str | None, values: Mapping[str, Any]
    ) -> k8s.helm.v3.Release:
        return k8s.helm.v3.Release(
            f"{self.pulumi_resource_name}-{name}",
            name=name,
            namespace=namespace,
            create_namespace=True,
            chart=chart,
            version=version,
            values=values,
            timeout=RELEASE_SECONDS,
            # Otherwise a failed first installation would keep its name, and the next pulumi up could not try again.
            atomic=True,
            opts=pulumi.ResourceOptions(parent=self),
        )


def expected_apis(spec: ResolvedSpec) -> list[Api]:
    """The APIs that must exist before anything is created, because the stack does not install them."""
    observability, route, scaler = spec.observability, spec.service.route, spec.replicas.scaler
    needed = [
        (LWS, spec.operators.lws.kind != "install"),
        (FLUID, spec.cache is not None and spec.operators.fluid.kind != "install"),
        (GATEWAY, route is not None and route.kind != "ingress"),
        (INFERENCE_POOLS, route is not None and route.kind == "inferencePool"),
        (MONITORS, observability is not None),
        (ALERTS, observability is not None and observability.alerts is not None),
        (GANG, spec.gang is not None),
        (KEDA, scaler is not None and scaler.kind != "hpa"),
    ]
    return [api for api, is_needed in needed if is_needed]


def fluid_values(args: OperatorsArgs) -> dict[str, Any]:
    """Values of the chart on an ACS cluster. Its defaults are placeholders that only the console fills in
    (https://github.com/aliyun-computenest/quickstart-vllm-ack, .computenest/ros_templates/acs-ecs.yaml)."""
    inject = {
        "platformKey": "alibabacloud.com/fluid-sidecar-target",
        "platformValue": args.fluid_sidecar,
        "vfuseResourceName": "alibabacloud.com/vfuse",
    }
    return {
        "region": args.region,
        "cluster_profile": "ManagedKubernetes",
        "clusterProfileforApp": "Acs",
        "pullImageByVPCNetwork": True,
        "appendImageTag": True,
        "helmDriver": "configmap",
        "version": args.fluid_image_tag,
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
            # It fails closed: while no replica answers, no pod with the label is created, and no group recovers.
            "replicas": 2,
            **({"serverlessInject": inject} if args.fluid_sidecar != "none" else {}),
        },
        # ACS has no host namespaces. The two settings are at different levels.
        "csi": {"config": {"hostNetwork": False}, "hostPID": False},
        "fluidapp": {"enabled": True},
    }
