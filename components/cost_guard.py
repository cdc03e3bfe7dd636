"""Gives up groups that hold GPUs and cannot become ready: a Deployment with the program ``costguard``.

It may read the LeaderWorkerSet and the pods of the namespace, set the number of groups, write events, and write its
status: a ConfigMap that nothing mounts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pulumi
import pulumi_kubernetes as k8s

from deepseek_acs.apiserver import CREDENTIALS

from .acs_pods import GENERAL_PURPOSE
from .python_job import pod_with_token, program_config_map, program_container

PACKAGE = "costguard"
COMPONENT = "operations"


@dataclass(frozen=True, kw_only=True)
class CostGuardArgs:
    """``group`` is the name of the LeaderWorkerSet, whose pods request GPUs as ``gpu_resource``. The limits are those
    of the program. With ``pauses_keda``, KEDA's ScaledObject of the group's name is paused as well; with
    ``all_or_none``, all groups are given up together. ``image`` is an image with Python 3.11."""

    namespace: pulumi.Input[str]
    group: str
    gpu_resource: str
    failed_starts: int
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
        own = pulumi.ResourceOptions(parent=self)
        metadata: k8s.meta.v1.ObjectMetaArgsDict = {
            "name": status_name(args.group),
            "namespace": args.namespace,
            "labels": _labels(args),
        }
        zipped = program_config_map(PACKAGE, namespace=args.namespace, labels=_labels(args), parent=self)
        status = k8s.core.v1.ConfigMap(f"{name}-status", metadata=metadata, opts=own)
        account = k8s.core.v1.ServiceAccount(
            f"{name}-account", metadata=metadata, automount_service_account_token=False, opts=own
        )
        role = k8s.rbac.v1.Role(f"{name}-role", metadata=metadata, rules=rules(args), opts=own)
        allowed = k8s.rbac.v1.RoleBinding(
            f"{name}-role-binding",
            metadata=metadata,
            role_ref={"api_group": "rbac.authorization.k8s.io", "kind": "Role", "name": role.metadata["name"]},
            subjects=[{"kind": "ServiceAccount", "name": account.metadata["name"], "namespace": args.namespace}],
            opts=own,
        )
        k8s.apps.v1.Deployment(
            f"{name}-deployment",
            # Nothing waits for it: an update must not fail because its pod does not start.
            metadata={**metadata, "annotations": {"pulumi.com/skipAwait": "true"}},
            spec={
                "replicas": 1,
                # Two of them would count the same GPUs.
                "strategy": {"type": "Recreate"},
                "selector": {"match_labels": _labels(args)},
                "template": _pod_template(args, zipped, account),
            },
            opts=pulumi.ResourceOptions.merge(own, pulumi.ResourceOptions(depends_on=[allowed, status])),
        )
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


def _labels(args: CostGuardArgs) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": PACKAGE,
        "app.kubernetes.io/instance": args.group,
        "app.kubernetes.io/component": COMPONENT,
    }


def _pod_template(
    args: CostGuardArgs, zipped: k8s.core.v1.ConfigMap, account: k8s.core.v1.ServiceAccount
) -> k8s.core.v1.PodTemplateSpecArgsDict:
    container = program_container(
        PACKAGE,
        image=args.image,
        arguments=[
            pulumi.Output.format("--namespace={0}", args.namespace),
            f"--group={args.group}",
            f"--gpu-resource={args.gpu_resource}",
            f"--status={status_name(args.group)}",
            f"--failed-starts={args.failed_starts}",
            f"--pending-seconds={args.pending_seconds}",
            f"--unready-seconds={args.unready_seconds}",
            *([f"--scaled-object={args.group}"] if args.pauses_keda else []),
            *(["--all-or-none"] if args.all_or_none else []),
            f"--credentials={CREDENTIALS}",
        ],
        size={"cpu": "250m", "memory": "512Mi"},
    )
    return {
        "metadata": {
            "labels": {**_labels(args), **GENERAL_PURPOSE},
            **({"annotations": args.annotations} if args.annotations else {}),
        },
        "spec": pod_with_token(container, zipped, account),
    }
