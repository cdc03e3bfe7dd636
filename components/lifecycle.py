"""What the section ``lifecycle`` adds to the pods of a group: stop hooks, time to end, and stricter liveness checks.

All pods of a group are told to end at about the same time when one of them was evicted or its container ended, and when
the stack is destroyed. A worker therefore outlasts its leader, whose last requests need it; in an update the leader
goes first anyway. docs/lifecycle.md has the whole story.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import pulumi
import pulumi_kubernetes as k8s

from components.names import name_of
from components.settings.inference import InferenceSettings
from components.settings.lifecycle import HealthCheckSettings
from planner.engine import RENDEZVOUS_PORTS, version_of
from planner.loading import POD_START_SECONDS, PROBE_PERIOD_SECONDS
from planner.shutdown import ANNOUNCE_SECONDS, STOP_SECONDS, grace_seconds, refuses_while_ending
from planner.spec import ResolvedSpec

Role = Literal["leader", "worker"]

PROGRAM = "engineprobe.py"
MOUNT_PATH = "/opt/engineprobe"
LABELS = {"app.kubernetes.io/name": "engineprobe", "app.kubernetes.io/component": "inference"}

WORKER_STOP_SECONDS = 10
"""What a worker has left after it gave up waiting for its leader."""

CHECK_SECONDS = 30
"""Period and timeout of a liveness check: three requests of 8 s and the start of Python."""

LEADER_FAILURES = 6
WORKER_FAILURES = 10
"""Checks in a row that must fail, three and five minutes: a restart rebuilds the group and loads the model again."""

DEAD_GRACE_SECONDS = ANNOUNCE_SECONDS + STOP_SECONDS
"""Time to end for a pod that failed its liveness check
(https://kubernetes.io/docs/tasks/configure-pod-container/configure-liveness-readiness-startup-probes/)."""


@dataclass(frozen=True, kw_only=True)
class PodLifecycle:
    """Fields that a pod's spec and its container get in addition; the container's win over those that it has."""

    spec: Mapping[str, Any] = field(default_factory=dict)
    container: Mapping[str, Any] = field(default_factory=dict)
    volumes: Sequence[Mapping[str, Any]] = ()
    mounts: Sequence[Mapping[str, Any]] = ()


def pod_lifecycle(role: Role, inference: InferenceSettings, plan: ResolvedSpec, *, served_name: str) -> PodLifecycle:
    """What the section asks for in a pod of this role; nothing without the section."""
    lifecycle = inference.lifecycle
    if lifecycle is None:
        return PodLifecycle()
    hook = _leader_hook(inference) if role == "leader" else _worker_hook(inference)
    container: dict[str, Any] = {"lifecycle": {"preStop": {"exec": {"command": hook}}}}
    if check := lifecycle.health_check:
        checks = _leader_checks(inference, check, served_name) if role == "leader" else _worker_checks(inference, plan)
        container |= checks
    return PodLifecycle(
        spec={"terminationGracePeriodSeconds": grace(inference)},
        container=container,
        volumes=[{"name": "engineprobe", "configMap": {"name": program_name()}}],
        mounts=[{"name": "engineprobe", "mountPath": MOUNT_PATH, "readOnly": True}],
    )


def program(namespace: str, opts: pulumi.ResourceOptions) -> k8s.core.v1.ConfigMap:
    """The program, named by its content, so that the pods never see it change."""
    return k8s.core.v1.ConfigMap(
        "engineprobe",
        metadata={"name": program_name(), "namespace": namespace, "labels": LABELS},
        data={PROGRAM: _source()},
        immutable=True,
        opts=opts,
    )


def program_name() -> str:
    """Name of the ConfigMap."""
    return name_of("engineprobe", _source())


@cache
def _source() -> str:
    return files("engineprobe").joinpath("program.py").read_text(encoding="utf-8")


def grace(inference: InferenceSettings) -> int:
    """Seconds that a pod has to end; 0 without the section, which leaves it to Kubernetes."""
    lifecycle = inference.lifecycle
    if lifecycle is None:
        return 0
    return lifecycle.grace_seconds or grace_seconds(lifecycle.request_seconds)


def serve_arguments(inference: InferenceSettings) -> list[str]:
    """Arguments of ``vllm serve`` by which the engine finishes its requests when it is told to end."""
    if inference.lifecycle is None or not _ends_by_itself(inference):
        return []
    return ["--shutdown-timeout", str(inference.lifecycle.request_seconds)]


def interruptible(inference: InferenceSettings, command: str) -> str:
    """A shell command that a shell can be told to end: as the first process of a container it would ignore that, and
    hold its GPUs until the grace period is over."""
    # A shell runs a trap at once only while it waits for a process in the background.
    return command if inference.lifecycle is None else f"trap 'exit 143' TERM; {command} & wait $!"


def _ends_by_itself(inference: InferenceSettings) -> bool:
    return refuses_while_ending(version_of(inference.engine.image))


def _leader_hook(inference: InferenceSettings) -> list[str]:
    assert inference.lifecycle is not None  # noqa: S101 - for the type checker
    if _ends_by_itself(inference):
        # Kubernetes has an action for this only since 1.30, and ACS clusters may be older.
        return ["sleep", str(ANNOUNCE_SECONDS)]
    return _run(
        "drain",
        f"--port={inference.engine.port}",
        f"--announce-seconds={ANNOUNCE_SECONDS}",
        f"--request-seconds={inference.lifecycle.request_seconds}",
    )


def _worker_hook(inference: InferenceSettings) -> list[str]:
    seconds = max(1, grace(inference) - WORKER_STOP_SECONDS)
    return _run("outlast", _rendezvous(inference), f"--seconds={seconds}")


def _leader_checks(inference: InferenceSettings, check: HealthCheckSettings, served_name: str) -> dict[str, Any]:
    command = _run(
        "check-engine",
        f"--port={inference.engine.port}",
        f"--stall-seconds={check.stall_seconds}",
        f"--model={served_name}",
        *(["--canary"] if check.canary else []),
    )
    return {"livenessProbe": _liveness(command, LEADER_FAILURES)}


def _worker_checks(inference: InferenceSettings, plan: ResolvedSpec) -> dict[str, Any]:
    """A worker may start before its leader does, and is given as long as the two together may take. Once it has met its
    leader, an outage of the cluster's DNS must not end every group there is."""
    if plan.layout.pods == 1:
        return {}
    command = _run("check-leader", _rendezvous(inference))
    patience = POD_START_SECONDS // PROBE_PERIOD_SECONDS + plan.budget.startup_failure_threshold
    return {
        "startupProbe": _check(command, PROBE_PERIOD_SECONDS, patience),
        "livenessProbe": _liveness([*command, "--met"], WORKER_FAILURES),
    }


def _liveness(command: Sequence[str], failures: int) -> dict[str, Any]:
    # The requests of an engine that was found dead are not waited for (Kubernetes 1.25 or newer).
    return _check(command, CHECK_SECONDS, failures) | {"terminationGracePeriodSeconds": DEAD_GRACE_SECONDS}


def _check(command: Sequence[str], period: int, failures: int) -> dict[str, Any]:
    probe = {"exec": {"command": command}, "timeoutSeconds": CHECK_SECONDS}
    return probe | {"periodSeconds": period, "failureThreshold": failures}


def _rendezvous(inference: InferenceSettings) -> str:
    return f"--port={RENDEZVOUS_PORTS[inference.engine.backend]}"


def _run(*arguments: str) -> list[str]:
    return ["python3", f"{MOUNT_PATH}/{PROGRAM}", *arguments]
