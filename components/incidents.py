"""Keeps evidence of groups that ended: a Deployment with the program ``incidents``.

It may read the LeaderWorkerSet, and the pods, their logs and the events of the namespace, and write one ConfigMap,
which nothing mounts. It has the Secrets of the engine's pods, to remove their values from what it
keeps, and to read the leaders' metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pulumi
import pulumi_kubernetes as k8s

from .labels import reports_name
from .request_filter import METRICS_KEY
from .watching import WatchingArgs, watching_program

PACKAGE = "incidents"
STATE, SECRETS = "/var/lib/incidents", "/var/run/secrets/engine"
STATE_MIB = 256
"""Of the volume with what must survive a restart of the container: the last lines of all containers."""


@dataclass(frozen=True, kw_only=True)
class IncidentsArgs:
    """``group`` is the name of the LeaderWorkerSet, whose leaders listen on ``port``. ``keep`` reports have the last
    ``lines`` of each container, and starts are stored with ``plan``, a digest of what their times depend on.
    ``keys_secret`` is the Secret with the clients' keys, ``asks_metrics_key`` says whether ``/metrics`` asks for the
    one that is for it, ``ray_token_secret`` has the token of the members' Ray processes, and ``secret_environment`` has
    Secret and key by the engine's variables. ``image`` is an image with Python 3.11."""

    namespace: pulumi.Input[str]
    group: str
    port: int
    keep: int
    lines: int
    plan: str
    keys_secret: pulumi.Input[str] | None = None
    asks_metrics_key: bool = False
    ray_token_secret: pulumi.Input[str] | None = None
    secret_environment: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    image: str
    annotations: Mapping[str, str] = field(default_factory=dict)


class Incidents(pulumi.ComponentResource):
    """The program, its rights, its Deployment, and the ConfigMap with the reports."""

    def __init__(self, name: str, args: IncidentsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("deepseek:operations:Incidents", name, None, opts)
        reports = watching_program(self, _watching(args))
        self.register_outputs({"reports": reports.metadata["name"]})


def rules(args: IncidentsArgs) -> list[k8s.rbac.v1.PolicyRuleArgsDict]:
    """A rule for ``list`` and ``watch``, or for pods whose names are not known beforehand, cannot name objects
    (https://kubernetes.io/docs/reference/access-authn-authz/rbac/#referring-to-resources)."""
    group, reports = [args.group], [reports_name(args.group)]
    return [
        {
            "api_groups": ["leaderworkerset.x-k8s.io"],
            "resources": ["leaderworkersets"],
            "resource_names": group,
            "verbs": ["get"],
        },
        {"api_groups": [""], "resources": ["pods"], "verbs": ["list", "watch"]},
        {"api_groups": [""], "resources": ["pods/log"], "verbs": ["get"]},
        {"api_groups": [""], "resources": ["events"], "verbs": ["list"]},
        {"api_groups": [""], "resources": ["configmaps"], "resource_names": reports, "verbs": ["get", "patch"]},
    ]


def _secrets(args: IncidentsArgs) -> list[k8s.core.v1.VolumeProjectionArgsDict]:
    """The Secrets of the engine's pods, as one folder."""
    found: list[k8s.core.v1.VolumeProjectionArgsDict] = []
    if args.keys_secret is not None:
        found.append({"secret": {"name": args.keys_secret}})
    if args.ray_token_secret is not None:
        found.append({"secret": {"name": args.ray_token_secret}})
    # The user makes these. Without one, the engine does not start, but this program must.
    found += [
        {"secret": {"name": secret, "items": [{"key": key, "path": f"env/{variable}"}], "optional": True}}
        for variable, (secret, key) in args.secret_environment.items()
    ]
    return found


def _watching(args: IncidentsArgs) -> WatchingArgs:
    state: k8s.core.v1.VolumeArgsDict = {"name": "state", "empty_dir": {"size_limit": f"{STATE_MIB}Mi"}}
    mounts: list[k8s.core.v1.VolumeMountArgsDict] = [{"name": "state", "mount_path": STATE}]
    options: list[pulumi.Input[str]] = []
    volumes = [state]
    if secrets := _secrets(args):
        volumes.append({"name": "engine-secrets", "projected": {"sources": secrets}})
        mounts.append({"name": "engine-secrets", "mount_path": SECRETS, "read_only": True})
        options.append(f"--secrets={SECRETS}")
    if args.asks_metrics_key:
        options.append(f"--metrics-key={SECRETS}/{METRICS_KEY}")
    return WatchingArgs(
        package=PACKAGE,
        name=reports_name(args.group),
        namespace=args.namespace,
        instance=args.group,
        image=args.image,
        arguments=[
            f"--group={args.group}",
            f"--store={reports_name(args.group)}",
            f"--keep={args.keep}",
            f"--lines={args.lines}",
            f"--plan={args.plan}",
            f"--port={args.port}",
            f"--state={STATE}",
            *options,
        ],
        rules=rules(args),
        annotations=args.annotations,
        volumes=volumes,
        mounts=mounts,
    )
