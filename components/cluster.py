"""What the deployment needs of its cluster: the namespace, and the LeaderWorkerSet API.

The group depends on this component, so a cluster without the API is reported before any GPU is asked for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from components.crds import LeaderWorkerSet
from components.settings import ClusterSettings

LWS_CRD = "leaderworkersets.leaderworkerset.x-k8s.io"
INSTALL_LWS = "install-the-component-lws-if-this-does-not-exist"
"""Name of the resource that reads the definition. If it is absent, the engine stops the program at once and prints this
name and "does not exist"; a name is all that the program can add."""

LWS_API_MISSING = (
    f"The cluster has no LeaderWorkerSet API (custom resource definition {LWS_CRD} with version v1). "
    "Install the component lws from the ACS App Marketplace, or the chart of "
    "https://lws.sigs.k8s.io/docs/installation/, and run pulumi up again."
)


@dataclass(frozen=True, kw_only=True)
class ClusterArgs:
    """``check_apis`` is off only in a preview that has no cluster to ask."""

    cluster: ClusterSettings
    check_apis: bool


class Cluster(pulumi.ComponentResource):
    """Namespace and API check. What is put into the cluster depends on this component as a whole; the namespace's name
    is a plain string, so that previews can show where everything goes."""

    namespace: str

    def __init__(self, name: str, args: ClusterArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("deepseek:cluster:Cluster", name, None, opts)
        self.namespace = args.cluster.namespace
        if args.cluster.create_namespace:
            self._create_namespace()
        if args.check_apis:
            self._check_leader_worker_set()
        self.register_outputs({"namespace": self.namespace})

    def _create_namespace(self) -> None:
        k8s.core.v1.Namespace("namespace", metadata={"name": self.namespace}, opts=pulumi.ResourceOptions(parent=self))

    def _check_leader_worker_set(self) -> None:
        definition = k8s.apiextensions.v1.CustomResourceDefinition.get(
            INSTALL_LWS, LWS_CRD, opts=pulumi.ResourceOptions(parent=self)
        )
        definition.spec.apply(_require_served_version)


def _require_served_version(spec: Any) -> None:
    version = LeaderWorkerSet.group_version.rpartition("/")[2]
    if version not in _served_versions(spec.versions if spec else ()):
        raise pulumi.RunError(LWS_API_MISSING)


def _served_versions(versions: Sequence[Any]) -> list[str]:
    return [v["name"] if isinstance(v, Mapping) else v.name for v in versions]
