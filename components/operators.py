"""The controllers that the deployment needs in the cluster: expected and checked, or installed by their Helm charts.

Installed as Helm releases and not as single resources: each is one resource instead of twenty-five, Helm never deletes
what lies in a chart's ``crds/``, and the hooks by which ack-fluid upgrades its definitions run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from components.crds import HTTPRoute, JindoRuntime, LeaderWorkerSet, PodMonitor, PrometheusRule, ScaledObject
from components.settings.observability import ObservabilitySettings
from components.settings.operators import InstallFluid, InstallLws, OperatorsSettings
from components.settings.storage import FluidCacheSettings, OssVolumeSettings

LWS_CRD = "leaderworkersets.leaderworkerset.x-k8s.io"
FLUID_CRD = "jindoruntimes.data.fluid.io"
KEDA_CRD = "scaledobjects.keda.sh"
GATEWAY_CRD = "httproutes.gateway.networking.k8s.io"
POD_MONITOR_CRD = "podmonitors.monitoring.coreos.com"
PROMETHEUS_RULE_CRD = "prometheusrules.monitoring.coreos.com"

INSTALL_LWS = "install-the-component-lws-if-this-does-not-exist"
INSTALL_FLUID = "install-the-component-ack-fluid-if-this-does-not-exist"
INSTALL_KEDA = "install-the-component-ack-keda-if-this-does-not-exist"
INSTALL_GATEWAY = "install-the-gateway-api-if-this-does-not-exist"
INSTALL_PROMETHEUS = "install-prometheus-operator-or-remove-observability-if-this-does-not-exist"
"""Names of the resources that read a definition. If it is absent, the engine stops the program at once and prints this
name and "does not exist"; a name is all that the program can add."""

LWS_API_MISSING = (
    f"The cluster has no LeaderWorkerSet API (custom resource definition {LWS_CRD} with version v1). "
    "Install the component lws from the ACS App Marketplace, or set deployment.operators.lws.kind: install, and run "
    "pulumi up again."
)
FLUID_API_MISSING = (
    f"The cluster has no Fluid API (custom resource definition {FLUID_CRD} with version v1alpha1). "
    "Install the component ack-fluid from the ACS App Marketplace, or set deployment.operators.fluid.kind: install, "
    "and run pulumi up again."
)
GATEWAY_API_MISSING = (
    f"The cluster has no Gateway API (custom resource definition {GATEWAY_CRD} with version v1), which "
    "deployment.service.route of kind gateway needs. Install it with a gateway controller, for example the component "
    "Gateway API of ACS, or write a route of kind ingress, and run pulumi up again."
)
POD_MONITOR_API_MISSING = (
    f"The cluster has no API for monitors (custom resource definition {POD_MONITOR_CRD} with version v1). Install "
    "prometheus-operator (the chart kube-prometheus-stack) or switch Managed Service for Prometheus on for the "
    "cluster, or remove deployment.observability, and run pulumi up again."
)
PROMETHEUS_RULE_API_MISSING = (
    f"The cluster has no API for alerts (custom resource definition {PROMETHEUS_RULE_CRD} with version v1). Install "
    "prometheus-operator (the chart kube-prometheus-stack), or set deployment.observability.alerts: null, and run "
    "pulumi up again."
)
KEDA_API_MISSING = (
    f"The cluster has no KEDA (custom resource definition {KEDA_CRD} with version v1alpha1), which "
    "deployment.inference.scaling of kind schedule or queue needs. Install the component ack-keda from the ACS App "
    "Marketplace, or KEDA by its own chart, or write kind: manual, and run pulumi up again."
)
"""https://www.alibabacloud.com/help/en/cs/user-guide/keda/"""

RELEASE_SECONDS = 600
"""Time until a controller's pods are ready: capacity, and the pull of a small image."""


@dataclass(frozen=True, kw_only=True)
class OperatorsArgs:
    """``check_apis`` is off only in a preview that has no cluster to ask; ``region`` is where ack-fluid's images are
    pulled from; ``uses_gateway`` says whether there is a route of the Gateway API, ``uses_keda`` whether there
    is an autoscaler of KEDA's."""

    operators: OperatorsSettings
    storage: OssVolumeSettings | FluidCacheSettings
    region: str
    check_apis: bool
    uses_gateway: bool = False
    observability: ObservabilitySettings | None = None
    uses_keda: bool = False


class Operators(pulumi.ComponentResource):
    """LeaderWorkerSet's controller, ack-fluid where the storage needs it or the settings install it, and the APIs that
    optional parts need."""

    def __init__(self, name: str, args: OperatorsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("deepseek:cluster:Operators", name, None, opts)
        lws, fluid = args.operators.lws, args.operators.fluid
        if isinstance(lws, InstallLws):
            self._install_lws(lws)
        elif args.check_apis:
            self._check(INSTALL_LWS, LWS_CRD, LeaderWorkerSet.group_version, LWS_API_MISSING)
        if isinstance(fluid, InstallFluid):
            self._install_fluid(fluid, args)
        elif args.check_apis and isinstance(args.storage, FluidCacheSettings):
            self._check(INSTALL_FLUID, FLUID_CRD, JindoRuntime.group_version, FLUID_API_MISSING)
        if args.check_apis and args.uses_gateway:
            self._check(INSTALL_GATEWAY, GATEWAY_CRD, HTTPRoute.group_version, GATEWAY_API_MISSING)
        if args.check_apis and args.observability:
            self._check_monitoring(args.observability)
        if args.check_apis and args.uses_keda:
            self._check(INSTALL_KEDA, KEDA_CRD, ScaledObject.group_version, KEDA_API_MISSING)
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
            name,
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

    def _check_monitoring(self, observability: ObservabilitySettings) -> None:
        # prometheus-operator brings both definitions, a managed agent perhaps only that of monitors.
        if observability.alerts:
            definition, version = PROMETHEUS_RULE_CRD, PrometheusRule.group_version
            self._check(INSTALL_PROMETHEUS, definition, version, PROMETHEUS_RULE_API_MISSING)
        else:
            self._check(INSTALL_PROMETHEUS, POD_MONITOR_CRD, PodMonitor.group_version, POD_MONITOR_API_MISSING)

    def _check(self, name: str, definition: str, group_version: str, missing: str) -> None:
        found = k8s.apiextensions.v1.CustomResourceDefinition.get(
            name, definition, opts=pulumi.ResourceOptions(parent=self)
        )
        version = group_version.rpartition("/")[2]
        found.spec.apply(lambda spec: _require_served_version(spec, version, missing))


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


def _require_served_version(spec: Any, version: str, missing: str) -> None:
    if version not in _served_versions(spec.versions if spec else ()):
        raise pulumi.RunError(missing)


def _served_versions(versions: Sequence[Any]) -> list[str]:
    plain = [v if isinstance(v, Mapping) else {"name": v.name, "served": v.served} for v in versions]
    return [version["name"] for version in plain if version["served"]]
