"""Gives up groups that hold GPUs and cannot become ready: a Deployment with the program ``costguard``.

It may read the LeaderWorkerSet and the pods of the namespace, set the number of groups, write events, and write its
status: a ConfigMap that nothing mounts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pulumi
import pulumi_kubernetes as k8s

from .watching import WatchingArgs, watching_program

PACKAGE = "costguard"


@dataclass(frozen=True, kw_only=True)
class CostGuardArgs:
    """``group`` is the name of the LeaderWorkerSet, whose pods request GPUs as ``gpu_resource``. The limits are those
    of the program. With ``pauses_keda``, KEDA's ScaledObject of the group's name is paused as well; with
    ``all_or_none``, all groups are given up together. ``image`` is an image with Python 3.11."""

    namespace: pulumi.Input[str]
    group: str
    gpu_resource: str
    replicas: int
    """The most groups that the stack wants."""

    failed_starts: int
    back_off_seconds: int = 0
    pending_seconds: int
    unready_seconds: int
    pauses_keda: bool = False
    all_or_none: bool = False
    image: str
    annotations: Mapping[str, str] = field(default_factory=dict)


def status_name(group: str) -> str:
    """Name of the ConfigMap with the status, and of the other objects."""
    return f"{group}-costguard"


class CostGuard(pulumi.ComponentResource):
    """The program as a ConfigMap, its status, its rights, and the Deployment."""

    def __init__(self, name: str, args: CostGuardArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("deepseek:operations:CostGuard", name, None, opts)
        status = watching_program(self, _watching(args))
        self.register_outputs({"status": status.metadata["name"]})


def rules(args: CostGuardArgs) -> list[k8s.rbac.v1.PolicyRuleArgsDict]:
    """A rule for ``list`` and ``create`` cannot name objects
    (https://kubernetes.io/docs/reference/access-authn-authz/rbac/#referring-to-resources)."""
    group, status, lws = [args.group], [status_name(args.group)], ["leaderworkerset.x-k8s.io"]
    found: list[k8s.rbac.v1.PolicyRuleArgsDict] = [
        {"api_groups": lws, "resources": ["leaderworkersets"], "resource_names": group, "verbs": ["get"]},
        # The scale alone: who may patch the object itself may run any image.
        {"api_groups": lws, "resources": ["leaderworkersets/scale"], "resource_names": group, "verbs": ["patch"]},
        {"api_groups": [""], "resources": ["pods"], "verbs": ["list"]},
        {"api_groups": [""], "resources": ["configmaps"], "resource_names": status, "verbs": ["get", "patch"]},
        {"api_groups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create"]},
    ]
    if args.pauses_keda:
        keda = ["keda.sh"]
        found.append({"api_groups": keda, "resources": ["scaledobjects"], "resource_names": group, "verbs": ["patch"]})
    return found


def _watching(args: CostGuardArgs) -> WatchingArgs:
    return WatchingArgs(
        package=PACKAGE,
        name=status_name(args.group),
        namespace=args.namespace,
        instance=args.group,
        image=args.image,
        arguments=[
            f"--group={args.group}",
            f"--gpu-resource={args.gpu_resource}",
            f"--status={status_name(args.group)}",
            f"--replicas={args.replicas}",
            f"--failed-starts={args.failed_starts}",
            *([f"--back-off-seconds={args.back_off_seconds}"] if args.back_off_seconds else []),
            f"--pending-seconds={args.pending_seconds}",
            f"--unready-seconds={args.unready_seconds}",
            *([f"--scaled-object={args.group}"] if args.pauses_keda else []),
            *(["--all-or-none"] if args.all_or_none else []),
        ],
        rules=rules(args),
        annotations=args.annotations,
    )
