"""What a pod waits for, from its status alone."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .results import Layer

Pod = Mapping[str, Any]
Event = Mapping[str, Any]

WORKER_INDEX = "leaderworkerset.sigs.k8s.io/worker-index"
GROUP_NAME = "leaderworkerset.sigs.k8s.io/name"

PULL_REASONS = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
"""https://kubernetes.io/docs/concepts/containers/images/#imagepullbackoff"""

PREFLIGHT = "preflight failed"
"""In the termination message of a pod whose checks failed (deepseek_acs/preflight)."""

PREFLIGHT_SAID = "preflight: failed: "
"""In its log, while the pod still runs."""

MOUNT_WORDS = ("FailedMount", "FailedAttachVolume")

LOST_NODE = "NodeNotReady"
"""https://kubernetes.io/docs/concepts/architecture/nodes/#node-controller"""

CAUSE_CHARACTERS = 300


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """Why a pod is not ready. ``command`` is the kubectl command that shows more."""

    layer: Layer
    problem: str
    command: str


def is_leader(pod: Pod) -> bool:
    """Whether it is the first of its group."""
    return bool((pod["metadata"].get("labels") or {}).get(WORKER_INDEX) == "0")


def is_ready(pod: Pod) -> bool:
    """As its Service sees it; a terminating pod is not ready."""
    return "deletionTimestamp" not in pod["metadata"] and _condition(pod, "Ready").get("status") == "True"


def checked_first(pod: Pod) -> str | None:
    """The container that runs, and whose checks come before the engine; None if there is none."""
    running = {status["name"] for status in _containers(pod) if "running" in status.get("state", {})}
    containers = (c for c in pod["spec"]["containers"] if c["name"] in running)
    return next((c["name"] for c in containers if any("preflight" in word for word in c.get("command", []))), None)


def trouble(pod: Pod, events: Sequence[Event], now: datetime, said: str = "") -> Trouble | None:
    """Why ``pod`` is not ready, None if it is; ``events`` are its own, oldest first, and ``said`` are the last lines of
    the container that ``checked_first`` names."""
    name = pod["metadata"]["name"]
    describe, logs = f"describe pod {name}", f"logs {name} --all-containers --tail=100"
    if is_ready(pod):
        return None
    for line in said.splitlines():
        if line.startswith(PREFLIGHT_SAID):
            problem = f"does not start: {PREFLIGHT}: {line.removeprefix(PREFLIGHT_SAID)}"
            return Trouble(layer=Layer.PODS, problem=problem, command=logs)
    if "deletionTimestamp" in pod["metadata"]:
        return Trouble(layer=Layer.PODS, problem="is being deleted", command=describe)
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        why = scheduled.get("message") or scheduled.get("reason", "no reason given")
        return Trouble(layer=Layer.PODS, problem=f"cannot be scheduled: {why}", command=describe)
    for container in _containers(pod):
        if found := _container_trouble(container, name):
            return found
    if pod.get("status", {}).get("phase") == "Failed":
        status = pod["status"]
        why = status.get("message") or status.get("reason", "no reason given")
        return Trouble(layer=Layer.PODS, problem=f"has failed: {why}", command=describe)
    for event in reversed(events[-5:]):
        if event.get("reason") in MOUNT_WORDS:
            return Trouble(layer=Layer.STORAGE, problem=f"cannot mount a volume{_cause(event)}", command=describe)
    if any(event.get("reason") == LOST_NODE for event in events) and all(c.get("ready") for c in _containers(pod)):
        # Nothing tells of the containers since the node was lost, so they still seem ready.
        node = pod["spec"]["nodeName"]
        problem = f"its node {node} does not answer"
        return Trouble(layer=Layer.PODS, problem=problem, command=f"describe node {node}")
    running = [c["state"]["running"] for c in _containers(pod) if "running" in c.get("state", {})]
    if running:
        return Trouble(layer=Layer.PODS, problem=_loading(pod, running[0], now), command=logs)
    return Trouble(layer=Layer.PODS, problem="is starting: image, volumes", command=describe)


def _container_trouble(container: Mapping[str, Any], pod: str) -> Trouble | None:
    state, last = container.get("state", {}), container.get("lastState", {}).get("terminated")
    waiting, ended = state.get("waiting") or {}, state.get("terminated") or last
    reason, message = waiting.get("reason", ""), waiting.get("message", "")
    if reason in PULL_REASONS:
        problem = f"its image cannot be pulled: {message or reason}"
        return Trouble(layer=Layer.PODS, problem=problem, command=f"describe pod {pod}")
    if reason.startswith("Create") and reason.endswith("Error"):
        problem = f"its container cannot be created: {message or reason}"
        return Trouble(layer=Layer.PODS, problem=problem, command=f"describe pod {pod}")
    # Only a container that has been restarted in the same pod has a previous log.
    log = f"logs {pod} -c {container['name']}" + ("" if "terminated" in state else " --previous")
    if ended and not container.get("ready") and PREFLIGHT in ended.get("message", ""):
        return Trouble(layer=Layer.PODS, problem=f"did not start: {ended['message']}", command=log)
    if ended and not container.get("ready"):
        restarts = container.get("restartCount", 0)
        how = f"exited with code {ended.get('exitCode')} ({ended.get('reason', 'no reason')}), {restarts} restarts"
        return Trouble(
            layer=Layer.ENGINE,
            problem=f"its container {container['name']} {how}",
            command=f"{log} --tail=100",
        )
    return None


def _cause(event: Event) -> str:
    """What the volume plugin says, without the kubelet's and gRPC's words around it."""
    said = " ".join(event.get("message", "").rpartition("desc = ")[2].split())
    return f": {textwrap.shorten(said, CAUSE_CHARACTERS, placeholder=' ...')}" if said else ""


def _loading(pod: Pod, running: Mapping[str, Any], now: datetime) -> str:
    """How long it has been loading, and the time that its startup probe allows."""
    minutes = (now - datetime.fromisoformat(running["startedAt"])).total_seconds() / 60
    probes = (c["startupProbe"] for c in pod["spec"]["containers"] if "startupProbe" in c)
    granted = max((p.get("failureThreshold", 3) * p.get("periodSeconds", 10) / 60 for p in probes), default=None)
    limit = f" of at most {granted:.0f}" if granted is not None else ""
    return (
        f"is running but not ready: for {minutes:.0f} min{limit} it has been loading the model, or the engine is dead"
    )


def _containers(pod: Pod) -> list[Mapping[str, Any]]:
    status = pod.get("status", {})
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def _condition(pod: Pod, kind: str) -> Mapping[str, Any]:
    conditions = pod.get("status", {}).get("conditions") or []
    return next((condition for condition in conditions if condition["type"] == kind), {})
