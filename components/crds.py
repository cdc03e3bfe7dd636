"""Custom resources as typed Pulumi resources.

The stock ``apiextensions.CustomResource`` hides ``status`` in Python, so each kind has its own small class. The type
token is the one that crd2pulumi would generate."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, ClassVar

import pulumi


class NamespacedResource(pulumi.CustomResource):
    """A custom resource in a namespace. Keys of ``spec`` are those of the CRD (camelCase)."""

    group_version: ClassVar[str]
    resource_kind: ClassVar[str]

    metadata: pulumi.Output[Mapping[str, Any]]
    spec: pulumi.Output[Mapping[str, Any]]
    status: pulumi.Output[Mapping[str, Any]]

    def __init__(
        self,
        resource_name: str,
        *,
        metadata: Mapping[str, Any] | None,
        spec: Mapping[str, Any] | None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(
            f"kubernetes:{self.group_version}:{self.resource_kind}",
            resource_name,
            {
                "apiVersion": self.group_version,
                "kind": self.resource_kind,
                "metadata": metadata,
                "spec": spec,
                # None declares an output that is not sent as an input.
                "status": None,
            },
            pulumi.ResourceOptions.merge(pulumi.ResourceOptions(version=version("pulumi-kubernetes")), opts),
        )


class LeaderWorkerSet(NamespacedResource):
    """https://lws.sigs.k8s.io/docs/reference/leaderworkerset.v1/"""

    group_version = "leaderworkerset.x-k8s.io/v1"
    resource_kind = "LeaderWorkerSet"


class Dataset(NamespacedResource):
    """https://github.com/fluid-cloudnative/fluid/blob/master/api/v1alpha1/dataset_types.go"""

    group_version = "data.fluid.io/v1alpha1"
    resource_kind = "Dataset"


class JindoRuntime(NamespacedResource):
    """https://github.com/fluid-cloudnative/fluid/blob/master/api/v1alpha1/jindoruntime_types.go"""

    group_version = "data.fluid.io/v1alpha1"
    resource_kind = "JindoRuntime"


class DataLoad(NamespacedResource):
    """https://github.com/fluid-cloudnative/fluid/blob/master/api/v1alpha1/dataload_types.go"""

    group_version = "data.fluid.io/v1alpha1"
    resource_kind = "DataLoad"


class PodMonitor(NamespacedResource):
    """https://prometheus-operator.dev/docs/api-reference/api/#monitoring.coreos.com/v1.PodMonitor"""

    group_version = "monitoring.coreos.com/v1"
    resource_kind = "PodMonitor"


class PrometheusRule(NamespacedResource):
    """https://prometheus-operator.dev/docs/api-reference/api/#monitoring.coreos.com/v1.PrometheusRule"""

    group_version = "monitoring.coreos.com/v1"
    resource_kind = "PrometheusRule"


class PodGroup(NamespacedResource):
    """https://github.com/kubernetes-sigs/scheduler-plugins/blob/master/apis/scheduling/v1alpha1/types.go"""

    group_version = "scheduling.sigs.k8s.io/v1alpha1"
    resource_kind = "PodGroup"


class HTTPRoute(NamespacedResource):
    """https://gateway-api.sigs.k8s.io/reference/spec/#httproute"""

    group_version = "gateway.networking.k8s.io/v1"
    resource_kind = "HTTPRoute"


class InferencePool(NamespacedResource):
    """https://gateway-api-inference-extension.sigs.k8s.io/reference/spec/#inferencepool"""

    group_version = "inference.networking.k8s.io/v1"
    resource_kind = "InferencePool"


class ScaledObject(NamespacedResource):
    """https://keda.sh/docs/latest/reference/scaledobject-spec/"""

    group_version = "keda.sh/v1alpha1"
    resource_kind = "ScaledObject"


class TriggerAuthentication(NamespacedResource):
    """https://keda.sh/docs/latest/concepts/authentication/"""

    group_version = "keda.sh/v1alpha1"
    resource_kind = "TriggerAuthentication"
