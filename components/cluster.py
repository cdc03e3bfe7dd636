"""What the deployment creates in its cluster first: the namespace, and the controllers that it installs."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pulumi
import pulumi_kubernetes as k8s

from .operators import Operators, OperatorsArgs


@dataclass(frozen=True, kw_only=True)
class ClusterArgs:
    """``operators`` says which controllers are installed. The namespace is expected, or created with ``labels``."""

    namespace: str
    create_namespace: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    operators: OperatorsArgs


class Cluster(pulumi.ComponentResource):
    """Namespace and controllers. Everything in the cluster depends on this component as a whole. The namespace's name
    is a plain string, so that previews can show it."""

    namespace: str

    def __init__(self, name: str, args: ClusterArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("deepseek:cluster:Cluster", name, None, opts)
        self.namespace = args.namespace
        if args.create_namespace:
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
            # Deleting it would delete everything in it, also what does not belong to this stack.
            opts=pulumi.ResourceOptions(parent=self, retain_on_delete=True),
        )
