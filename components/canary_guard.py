"""Takes the requests from the new groups of an update: a Deployment with the program ``canaryguard``.

It may read the pods of the namespace, change the one HTTPRoute, write events, and write its status: a ConfigMap that
nothing mounts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pulumi
import pulumi_kubernetes as k8s

from .python_job import secret_variable
from .request_filter import METRICS_KEY
from .watching import WatchingArgs, watching_labels, watching_program

PACKAGE = "canaryguard"


@dataclass(frozen=True, kw_only=True)
class CanaryGuardArgs:
    """``group`` is the LeaderWorkerSet of the new groups, whose leaders have metrics at ``port``, and ``service`` its
    Service in the HTTPRoute ``route``. ``http_requests``, ``finished`` and ``first_token_latency`` are names of
    metrics, the limits are those of the program. ``keys_secret`` is the Secret with the key for ``/metrics``, None
    where none is asked for. ``base_name`` is the name that all revisions share."""

    namespace: pulumi.Input[str]
    base_name: str
    group: pulumi.Input[str]
    port: int
    route: pulumi.Input[str]
    service: pulumi.Input[str]
    http_requests: str
    finished: str
    first_token_latency: str
    error_share: float
    first_token_seconds: float | None
    least_requests: int
    keys_secret: pulumi.Input[str] | None
    image: str
    annotations: Mapping[str, str] = field(default_factory=dict)


def guard_status(base_name: str) -> str:
    """Name of the ConfigMap with the status, and of the other objects."""
    return f"{base_name}-{PACKAGE}"


def canary_guard_labels(base_name: str) -> dict[str, str]:
    """Of its pod, which the network policy lets ask the leaders."""
    return watching_labels(PACKAGE, base_name)


class CanaryGuard(pulumi.ComponentResource):
    """The program as a ConfigMap, its status, its rights, and the Deployment."""

    def __init__(self, name: str, args: CanaryGuardArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("deepseek:operations:CanaryGuard", name, None, opts)
        status = watching_program(
            self,
            WatchingArgs(
                package=PACKAGE,
                name=guard_status(args.base_name),
                namespace=args.namespace,
                instance=args.base_name,
                image=args.image,
                arguments=_arguments(args),
                rules=rules(args),
                env=secret_variable("METRICS_KEY", args.keys_secret, METRICS_KEY),
                annotations=args.annotations,
            ),
        )
        self.register_outputs({"status": status.metadata["name"]})


def rules(args: CanaryGuardArgs) -> list[k8s.rbac.v1.PolicyRuleArgsDict]:
    """A rule for ``list`` and ``create`` cannot name objects
    (https://kubernetes.io/docs/reference/access-authn-authz/rbac/#referring-to-resources)."""
    status = [guard_status(args.base_name)]
    gateway = ["gateway.networking.k8s.io"]
    return [
        {"api_groups": gateway, "resources": ["httproutes"], "resource_names": [args.route], "verbs": ["get", "patch"]},
        {"api_groups": [""], "resources": ["pods"], "verbs": ["list"]},
        {"api_groups": [""], "resources": ["configmaps"], "resource_names": status, "verbs": ["get", "patch"]},
        {"api_groups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create"]},
    ]


def _arguments(args: CanaryGuardArgs) -> list[pulumi.Input[str]]:
    seconds = args.first_token_seconds
    return [
        pulumi.Output.format("--group={0}", args.group),
        f"--port={args.port}",
        pulumi.Output.format("--route={0}", args.route),
        pulumi.Output.format("--service={0}", args.service),
        f"--http-requests={args.http_requests}",
        f"--finished={args.finished}",
        f"--first-token-latency={args.first_token_latency}",
        f"--error-share={args.error_share:g}",
        *([] if seconds is None else [f"--first-token-seconds={seconds:g}"]),
        f"--least-requests={args.least_requests}",
        f"--status={args.base_name}-{PACKAGE}",
    ]
