"""A program that watches the groups through the API server: its ConfigMaps, its rights, and its Deployment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pulumi
import pulumi_kubernetes as k8s

from deepseek_acs.apiserver import CREDENTIALS

from .acs_pods import GENERAL_PURPOSE
from .python_job import (
    pod_with_token,
    program_config_map,
    program_container,
)
from .rights import grant

COMPONENT = "operations"

SIZE: Mapping[str, str] = {"cpu": "250m", "memory": "512Mi"}


@dataclass(frozen=True, kw_only=True)
class WatchingArgs:
    """``package`` is the program, ``name`` that of all objects, ``instance`` what it watches. The program writes only
    the ConfigMap of that name, without a right to create one. ``arguments`` are in addition to the namespace and the
    credentials. ``volumes`` are mounted where ``mounts`` say, ``env`` are variables."""

    package: str
    name: str
    namespace: pulumi.Input[str]
    instance: str
    image: str
    arguments: Sequence[pulumi.Input[str]]
    rules: Sequence[k8s.rbac.v1.PolicyRuleArgsDict]
    annotations: Mapping[str, str] = field(default_factory=dict)
    volumes: Sequence[k8s.core.v1.VolumeArgsDict] = ()
    mounts: Sequence[k8s.core.v1.VolumeMountArgsDict] = ()
    env: Sequence[k8s.core.v1.EnvVarArgsDict] | None = None


def watching_labels(package: str, instance: str) -> dict[str, str]:
    """Of the pod and all objects of such a program."""
    return {
        "app.kubernetes.io/name": package,
        "app.kubernetes.io/instance": instance,
        "app.kubernetes.io/component": COMPONENT,
    }


def watching_program(parent: pulumi.Resource, args: WatchingArgs) -> k8s.core.v1.ConfigMap:
    """The ConfigMap that the program writes."""
    name, own = parent.pulumi_resource_name, pulumi.ResourceOptions(parent=parent)
    labels = watching_labels(args.package, args.instance)
    metadata: k8s.meta.v1.ObjectMetaArgsDict = {
        "name": args.name,
        "namespace": args.namespace,
        "labels": labels,
    }
    zipped = program_config_map(args.package, namespace=args.namespace, labels=labels, parent=parent)
    status = k8s.core.v1.ConfigMap(f"{name}-status", metadata=metadata, opts=own)
    account = k8s.core.v1.ServiceAccount(
        f"{name}-account", metadata=metadata, automount_service_account_token=False, opts=own
    )
    allowed = grant(f"{name}-role", f"{name}-role-binding", account, args.rules, metadata=metadata, opts=own)
    k8s.apps.v1.Deployment(
        f"{name}-deployment",
        # Nothing waits for it: an update must not fail because its pod does not start.
        metadata={**metadata, "annotations": {"pulumi.com/skipAwait": "true"}},
        spec={
            "replicas": 1,
            # Two of them would count, and report, the same twice.
            "strategy": {"type": "Recreate"},
            "selector": {"match_labels": labels},
            "template": {
                "metadata": {
                    "labels": {**labels, **GENERAL_PURPOSE},
                    **({"annotations": args.annotations} if args.annotations else {}),
                },
                "spec": _pod(args, zipped, account),
            },
        },
        opts=pulumi.ResourceOptions.merge(own, pulumi.ResourceOptions(depends_on=[allowed, status])),
    )
    return status


def _pod(
    args: WatchingArgs, zipped: k8s.core.v1.ConfigMap, account: k8s.core.v1.ServiceAccount
) -> k8s.core.v1.PodSpecArgsDict:
    namespace, credentials = pulumi.Output.format("--namespace={0}", args.namespace), f"--credentials={CREDENTIALS}"
    arguments = [namespace, *args.arguments, credentials]
    container = program_container(
        args.package, image=args.image, arguments=arguments, size=SIZE, env=args.env, mounts=args.mounts
    )
    return pod_with_token(container, zipped, account, args.volumes)
