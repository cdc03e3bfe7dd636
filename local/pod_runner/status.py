"""The status of a pod as a kubelet writes it
(https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/)."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from local.pod_runner.sources import Manifest

MESSAGE_BYTES = 4096
LOG_BYTES = 2048
LOG_LINES = 80
"""Limits of a termination message, from its file or from the log
(https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/)."""

START_ERROR = 128
"""Exit code of a container that could not be started."""

Status = dict[str, Any]


def now() -> str:
    """The present, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def waiting(pod: Manifest, message: str) -> Status:
    """Something that the container needs is missing."""
    state = {"waiting": {"reason": "CreateContainerConfigError", "message": message}}
    return _status(pod, "Pending", state, started=now(), reason="ContainersNotReady")


def running(pod: Manifest, started: str) -> Status:
    """The container runs, and is ready at once."""
    return _status(pod, "Running", {"running": {"startedAt": started}}, started=started, ready=True)


def terminated(pod: Manifest, *, exit_code: int, started: str, message: str, reason: str = "") -> Status:
    """The container has ended."""
    state = {
        "exitCode": exit_code,
        "reason": reason or ("Completed" if exit_code == 0 else "Error"),
        "startedAt": started,
        "finishedAt": now(),
        "message": message,
    }
    phase, why = ("Succeeded", "PodCompleted") if exit_code == 0 else ("Failed", "PodFailed")
    return _status(pod, phase, {"terminated": state}, started=started, reason=why)


def unsupported(what: str) -> Status:
    """The pod asks for something that cannot be had here."""
    return {
        "phase": "Failed",
        "reason": "Unsupported",
        "message": f"The embedded cluster runs this pod as a process of the machine, and does not support {what}.",
    }


def disrupted(pod: Manifest) -> Status:
    """The runner was stopped while the pod ran; policies that ignore disruptions ignore this."""
    message = "The pod runner of the embedded cluster was stopped, and the container with it."
    state = {"exitCode": 137, "reason": "ContainerStatusUnknown", "finishedAt": now(), "message": message}
    status = _status(pod, "Failed", {"terminated": state}, started=now(), reason="PodFailed")
    condition = _condition("DisruptionTarget", True, "TerminationByKubelet")
    return {
        **status,
        "reason": "Terminated",
        "message": message,
        "conditions": [*status["conditions"], {**condition, "message": message}],
    }


def termination_message(file: Path, log: Path, *, failed: bool, fallback: bool) -> str:
    """The contents of the container's own ``file``; without any, the end of the log if the container ``failed`` and
    the policy is to fall back."""
    own = file.read_bytes()[:MESSAGE_BYTES].decode(errors="replace") if file.is_file() else ""
    if own or not (failed and fallback):
        return own
    with log.open("rb") as stream:
        stream.seek(max(log.stat().st_size - LOG_BYTES, 0))
        return "".join(stream.read().decode(errors="replace").splitlines(keepends=True)[-LOG_LINES:])


def _status(
    pod: Manifest, phase: str, state: dict[str, Any], *, started: str, ready: bool = False, reason: str = ""
) -> Status:
    container = pod["spec"]["containers"][0]
    return {
        "phase": phase,
        "startTime": pod.get("status", {}).get("startTime") or started,
        "conditions": [
            _condition("Initialized", True),
            *(_condition(kind, ready, reason) for kind in ("Ready", "ContainersReady")),
        ],
        "containerStatuses": [
            {
                "name": container["name"],
                "image": container.get("image", ""),
                "imageID": "",
                "restartCount": 0,
                "ready": ready,
                "started": ready,
                # The states exclude each other, but a patch would add one to another.
                "state": {"waiting": None, "running": None, "terminated": None, **state},
            }
        ],
    }


def _condition(kind: str, true: bool, reason: str = "") -> dict[str, Any]:
    return {"type": kind, "status": str(true), "reason": reason, "lastTransitionTime": now()}
