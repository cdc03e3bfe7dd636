"""What the deployment needs of its cluster: the namespace, and the controllers whose APIs it uses.

The group depends on this component, so a cluster without the APIs is reported before any GPU is asked for.
"""

from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

from components.operators import Operators, OperatorsArgs
from components.settings.cloud import ClusterSettings


@dataclass(frozen=True, kw_only=True)
class ClusterArgs:
    """``operators`` says which controllers have to be there."""

    cluster: ClusterSettings
    operators: OperatorsArgs


class Cluster(pulumi.ComponentResource):
    """Namespace and controllers. What is put into the cluster depends on this component as a whole; the namespace's
    name is a plain string, so that previews can show where everything goes."""

    namespace: str

    def __init__(self, name: str, args: ClusterArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("deepseek:cluster:Cluster", name, None, opts)
        self.namespace = args.cluster.namespace
        if args.cluster.create_namespace:
            self._create_namespace()
        Operators("operators", args.operators, pulumi.ResourceOptions(parent=self))
        self.register_outputs({"namespace": self.namespace})

    def _create_namespace(self) -> None:
        k8s.core.v1.Namespace("namespace", metadata={"name": self.namespace}, opts=pulumi.ResourceOptions(parent=self))
