"""How pods of a group finish their requests: stop hooks, a grace period, and stricter liveness checks.

All pods of a group get SIGTERM at about the same time when one of them is evicted or its container terminates, and when
the stack is destroyed. A worker therefore outlives its leader, whose last requests need it. In an update the leader is
deleted first anyway. docs/lifecycle.md has the details."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import pulumi
import pulumi_kubernetes as k8s

from deepseek_acs.planner.loading import POD_START_SECONDS, PROBE_PERIOD_SECONDS, failure_threshold
from deepseek_acs.planner.shutdown import ANNOUNCE_SECONDS, STOP_SECONDS
from deepseek_acs.planner.vllm import RENDEZVOUS_PORTS

from .group_args import InferenceGroupArgs
from .names import name_of

Role = Literal["leader", "worker"]

PROGRAM = "engineprobe.py"
MOUNT_PATH = "/opt/engineprobe"
LABELS = {"app.kubernetes.io/name": "engineprobe", "app.kubernetes.io/component": "inference"}

WORKER_STOP_SECONDS = 10
"""Time that remains for a worker after it stopped waiting for its leader."""

CHECK_SECONDS = 30
"""Period and timeout of a liveness check: three requests of 8 s and the start of Python."""

LEADER_FAILURES = 6
WORKER_FAILURES = 10
"""Consecutive failures, three and five minutes: a restart recreates the group and loads the model again."""

LOST_NODE_TAINTS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
"""Taints of a lost node. Kubernetes gives pods without a toleration of their own five minutes
(https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/#taint-based-evictions)."""

DEAD_GRACE_SECONDS = ANNOUNCE_SECONDS + STOP_SECONDS
"""Termination grace period of a pod that failed its liveness check
(https://kubernetes.io/docs/tasks/configure-pod-container/configure-liveness-readiness-startup-probes/)."""


@dataclass(frozen=True, kw_only=True)
class PodLifecycle:
    """Additional fields of a pod's spec and its container; those of the container override existing ones."""

    spec: Mapping[str, Any] = field(default_factory=dict)
    container: Mapping[str, Any] = field(default_factory=dict)
    volumes: Sequence[Mapping[str, Any]] = ()
    mounts: Sequence[Mapping[str, Any]] = ()


def pod_lifecycle(role: Role, args: InferenceGroupArgs) -> PodLifecycle:
    """What a pod of this role needs to finish its requests and to be monitored; nothing without ``request_seconds``."""
    if args.request_seconds is None:
        return PodLifecycle()
    hook = _leader_hook(args, args.request_seconds) if role == "leader" else _worker_hook(args)
    container: dict[str, Any] = {"lifecycle": {"preStop": {"exec": {"command": hook}}}}
    if args.stall_seconds is not None:
        container |= _leader_checks(args, args.stall_seconds) if role == "leader" else _worker_checks(args)
    return PodLifecycle(
        spec={"terminationGracePeriodSeconds": args.grace_seconds, **_tolerations(args.lost_node_seconds)},
        container=container,
        volumes=[{"name": "engineprobe", "configMap": {"name": engineprobe_name(args.name)}}],
        mounts=[{"name": "engineprobe", "mountPath": MOUNT_PATH, "readOnly": True}],
    )


def engineprobe_config_map(name: str, args: InferenceGroupArgs, opts: pulumi.ResourceOptions) -> k8s.core.v1.ConfigMap:
    """The program, named by its content, so that the pods never see it change."""
    return k8s.core.v1.ConfigMap(
        name,
        metadata={"name": engineprobe_name(args.name), "namespace": args.namespace, "labels": LABELS},
        data={PROGRAM: _source()},
        immutable=True,
        opts=opts,
    )


def engineprobe_name(group: str) -> str:
    """Name of the ConfigMap for the LeaderWorkerSet ``group``."""
    return name_of("engineprobe", group, _source())


@cache
def _source() -> str:
    return files("deepseek_acs.engineprobe").joinpath("program.py").read_text(encoding="utf-8")


def _tolerations(seconds: int | None) -> dict[str, Any]:
    if seconds is None:
        return {}
    wait = {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}
    return {"tolerations": [{"key": key, **wait} for key in LOST_NODE_TAINTS]}


def _leader_hook(args: InferenceGroupArgs, request_seconds: int) -> list[str]:
    if args.drains_itself:
        # Kubernetes has an action for this only since 1.30, and ACS clusters may be older.
        return ["sleep", str(ANNOUNCE_SECONDS)]
    return _run(
        "drain",
        f"--port={args.port}",
        f"--announce-seconds={ANNOUNCE_SECONDS}",
        f"--request-seconds={request_seconds}",
    )


def _worker_hook(args: InferenceGroupArgs) -> list[str]:
    seconds = max(1, args.grace_seconds - WORKER_STOP_SECONDS)
    return _run("outlast", _rendezvous(args), f"--seconds={seconds}")


def _leader_checks(args: InferenceGroupArgs, stall_seconds: int) -> dict[str, Any]:
    command = _run(
        "check-engine",
        f"--port={args.port}",
        f"--stall-seconds={stall_seconds}",
        f"--model={args.served_name}",
        *(["--canary"] if args.canary else []),
    )
    return {"livenessProbe": _liveness(command, LEADER_FAILURES)}


def _worker_checks(args: InferenceGroupArgs) -> dict[str, Any]:
    """A worker may start before its leader, and gets the time that both together may take. Once it has reached its
    leader, an outage of the cluster's DNS must not restart all groups."""
    if args.pods == 1:
        return {}
    command = _run("check-leader", _rendezvous(args))
    patience = failure_threshold(POD_START_SECONDS) + failure_threshold(args.startup_seconds)
    return {
        "startupProbe": _check(command, PROBE_PERIOD_SECONDS, patience),
        "livenessProbe": _liveness([*command, "--met"], WORKER_FAILURES),
    }


def _liveness(command: Sequence[str], failures: int) -> dict[str, Any]:
    # Do not wait for the requests of a dead engine (Kubernetes 1.25 or newer).
    return _check(command, CHECK_SECONDS, failures) | {"terminationGracePeriodSeconds": DEAD_GRACE_SECONDS}


def _check(command: Sequence[str], period: int, failures: int) -> dict[str, Any]:
    probe = {"exec": {"command": command}, "timeoutSeconds": CHECK_SECONDS}
    return probe | {"periodSeconds": period, "failureThreshold": failures}


def _rendezvous(args: InferenceGroupArgs) -> str:
    return f"--port={RENDEZVOUS_PORTS[args.backend]}"


def _run(*arguments: str) -> list[str]:
    return ["python3", f"{MOUNT_PATH}/{PROGRAM}", *arguments]
