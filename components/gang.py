"""The gang of a group: a PodGroup, to which the label of its pods refers (``acs_pods.POD_GROUP``)."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi

from .crds import PodGroup


@dataclass(frozen=True, kw_only=True)
class GangArgs:
    """``group`` is the name of the LeaderWorkerSet. The scheduler binds no pod before it has a node for ``pods`` of
    them, and reserves nodes for ``timeout_seconds``."""

    namespace: pulumi.Input[str]
    group: str
    pods: int
    timeout_seconds: int


class Gang(pulumi.ComponentResource):
    """The PodGroup. It must exist before the pods."""

    def __init__(self, name: str, args: GangArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("deepseek:inference:Gang", name, None, opts)
        group = PodGroup(
            f"{name}-pod-group",
            metadata={"name": args.group, "namespace": args.namespace},
            spec={"minMember": args.pods, "scheduleTimeoutSeconds": args.timeout_seconds},
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs({"name": group.metadata["name"]})
