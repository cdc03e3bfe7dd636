"""A limit for evictions, counted in groups.

It selects all pods of the set, because the eviction of a worker stops its group as well. The number is right for groups
of any size: while a group is deleted, the StatefulSet of its workers is deleted as well, so exactly its leader is
missing from what the disruption controller expects. While the group is recreated, only its leader is not ready. In
between, terminating pods count as unavailable, and the controller allows fewer evictions rather than more
(https://github.com/kubernetes/kubernetes/blob/master/pkg/controller/disruption/disruption.go)."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s


@dataclass(frozen=True, kw_only=True)
class DisruptionBudgetArgs:
    """``group_name`` is the name of the LeaderWorkerSet; evictions may stop ``max_unavailable`` groups at the same
    time."""

    namespace: pulumi.Input[str]
    group_name: pulumi.Input[str]
    max_unavailable: int


class DisruptionBudget(pulumi.ComponentResource):
    """The PodDisruptionBudget of all groups."""

    def __init__(self, name: str, args: DisruptionBudgetArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("deepseek:inference:DisruptionBudget", name, None, opts)
        budget = self._budget(name, args)
        self.register_outputs({"name": budget.metadata["name"]})

    def _budget(self, name: str, args: DisruptionBudgetArgs) -> k8s.policy.v1.PodDisruptionBudget:
        return k8s.policy.v1.PodDisruptionBudget(
            f"{name}-groups",
            metadata={"name": args.group_name, "namespace": args.namespace},
            spec={
                "selector": {"match_labels": {"leaderworkerset.sigs.k8s.io/name": args.group_name}},
                "max_unavailable": args.max_unavailable,
                # A group that is broken or still loading must not prevent the drain of its node.
                "unhealthy_pod_eviction_policy": "AlwaysAllow",
            },
            opts=pulumi.ResourceOptions(parent=self),
        )
