"""What the deployment makes in its cluster before all else: the namespace, and the controllers that it installs."""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

from components.operators import Operators, OperatorsArgs
from components.settings.cloud import ClusterSettings
from components.settings.deployment import Deployment
from planner.pod_security import namespace_labels
from planner.spec import ResolvedSpec


@dataclass(frozen=True, kw_only=True)
class ClusterArgs:
    """``operators`` says which controllers are installed; ``labels`` are those of a namespace that is created."""

    cluster: ClusterSettings
    operators: OperatorsArgs
    labels: Mapping[str, str]


def cluster_args(settings: Deployment, spec: ResolvedSpec) -> ClusterArgs:
    """What the settings ask of the cluster."""
    operators = OperatorsArgs(
        operators=settings.operators,
        storage=settings.storage,
        region=settings.cloud.region,
    )
    return ClusterArgs(cluster=settings.cluster, operators=operators, labels=namespace_labels(spec))


class Cluster(pulumi.ComponentResource):
    """Namespace and controllers. What is put into the cluster depends on this component as a whole; the namespace's
    name is a plain string, so that previews can show where everything goes."""

    namespace: str

    def __init__(self, name: str, args: ClusterArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("deepseek:cluster:Cluster", name, None, opts)
        self.namespace = args.cluster.namespace
        if args.cluster.create_namespace:
            self._create_namespace(args.labels)
        Operators(f"{name}-operators", args.operators, pulumi.ResourceOptions(parent=self))
        self.register_outputs({"namespace": self.namespace})

    def _create_namespace(self, labels: Mapping[str, str]) -> None:
        metadata: k8s.meta.v1.ObjectMetaArgsDict = {"name": self.namespace}
        if labels:
            metadata["labels"] = labels
        k8s.core.v1.Namespace(
            f"{self.pulumi_resource_name}-namespace",
            metadata=metadata,
            # With it would go all that is in it, of this stack or not.
            opts=pulumi.ResourceOptions(parent=self, retain_on_delete=True),
        )
