"""What the pods of a Job tell about it, for whoever waits for the Job."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

Pod = Mapping[str, Any]

MOST_FAILURES = 3
"""The latest pods; the ones before them failed for much the same reasons."""

QUIET = frozenset({"ContainerCreating", "PodInitializing"})
"""Reasons to wait that are part of every start."""


def progress(pods: Sequence[Pod]) -> list[str]:
    """In few words, for a line that is shown while it lasts; ``pods`` from the oldest to the newest."""
    notes = []
    failed = [pod for pod in pods if _phase(pod) == "Failed"]
    if failed:
        count = "1 Pod" if len(failed) == 1 else f"{len(failed)} Pods"
        notes.append(", the last one: ".join([f"{count} failed", *_problems(failed[-1], _last_line)][:2]))
    if pods and pods[-1] not in failed:
        what = f"Pod {pods[-1]['metadata']['name']} is {_phase(pods[-1])}"
        notes.append(": ".join([what, *_problems(pods[-1], _last_line)]))
    return notes


def failures(pods: Sequence[Pod]) -> list[str]:
    """In full, for the error: what the latest pods met that failed or did not come to run."""
    found = [f"Pod {_name(pod)}: {problem}" for pod in pods for problem in _problems(pod, str.strip)]
    return found[-MOST_FAILURES:]


def _problems(pod: Pod, shown: Callable[[str], str]) -> Iterator[str]:
    """``shown`` makes of a message what there is room for."""

    def because(told: Mapping[str, Any]) -> str:
        reason, message = told.get("reason"), shown(told.get("message") or "")
        return (f" ({reason})" if reason else "") + (f": {message}" if message else "")

    status = pod.get("status", {})
    for container in status.get("containerStatuses") or []:
        state = container.get("state", {})
        waiting, terminated = state.get("waiting"), state.get("terminated")
        if waiting and waiting.get("reason") not in QUIET:
            yield f"container {container['name']} waits{because(waiting)}"
        if terminated and terminated["exitCode"] != 0:
            yield f"container {container['name']} ended with exit code {terminated['exitCode']}{because(terminated)}"
    if status.get("reason"):
        yield f"the pod is {_phase(pod)}{because(status)}"
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            yield f"it finds no node{because(condition)}"


def _last_line(message: str) -> str:
    # The last one of a log, which is what ended the container.
    return (message.rstrip().splitlines() or [""])[-1]


def _phase(pod: Pod) -> str:
    return str(pod.get("status", {}).get("phase", "Pending"))


def _name(pod: Pod) -> str:
    metadata = pod["metadata"]
    return f"{metadata['namespace']}/{metadata['name']}"
