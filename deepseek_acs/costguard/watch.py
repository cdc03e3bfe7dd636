"""Looks at the groups of a LeaderWorkerSet, decides, and acts."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import quote

from deepseek_acs.apiserver import ApiServer
from deepseek_acs.apiserver.watching import LABELS, LWS_API, Clock, event, is_ready, repeat

from .decision import Attempt, Decision, Group, Limits, decide

PERIOD_SECONDS = 15

CONTROLLER = "deepseek-costguard"
FIELD_MANAGER = f"fieldManager={CONTROLLER}"
"""By which managedFields name this program."""

PAUSED_REPLICAS = "autoscaling.keda.sh/paused-replicas"
"""https://keda.sh/docs/latest/concepts/scaling-deployments/#pause-autoscaling"""

MOST_REPLICAS = 2**31 - 1
"""Of any object."""

NOT_HELD: dict[str, str | None] = {"held": None, "heldBack": None}


@dataclass(frozen=True, kw_only=True)
class Watched:
    """The LeaderWorkerSet ``name``, whose pods request GPUs as ``gpu_resource``. ``status`` is the ConfigMap with what
    was seen, and ``replicas`` the most groups that the stack wants. ``scaled_object`` is KEDA's, which would start the
    groups again; None without one."""

    namespace: str
    name: str
    gpu_resource: str
    status: str
    replicas: int = MOST_REPLICAS
    scaled_object: str | None = None


class Guard:
    """One LeaderWorkerSet."""

    def __init__(self, api: ApiServer, watched: Watched, limits: Limits, clock: Clock) -> None:
        self._api, self._watched, self._limits, self._clock = api, watched, limits, clock
        namespace = watched.namespace
        self._group = f"/apis/{LWS_API}/namespaces/{namespace}/leaderworkersets/{watched.name}"
        selector = quote(f"{LABELS}/name={watched.name}")
        self._pods = f"/api/v1/namespaces/{namespace}/pods?labelSelector={selector}"
        self._status = f"/api/v1/namespaces/{namespace}/configmaps/{watched.status}"
        self._events = f"/apis/events.k8s.io/v1/namespaces/{namespace}/events"
        self._scaled_object = f"/apis/keda.sh/v1alpha1/namespaces/{namespace}/scaledobjects/{watched.scaled_object}"

    def watch(self) -> NoReturn:
        """Without end."""
        repeat(self.step, self._clock, PERIOD_SECONDS)

    def step(self) -> None:
        """Looks once. Raises ApiError."""
        found = self._api.get(self._group)
        if found is None or "deletionTimestamp" in found["metadata"]:
            return
        seen: dict[str, str] = (self._api.get(self._status) or {}).get("data") or {}
        replicas, keep = found["spec"].get("replicas", 1), int(seen.get("keep", MOST_REPLICAS))
        if replicas > keep and seen["generation"] == str(found["metadata"]["generation"]):
            self._give_up(found, keep, seen["givenUp"])
            return
        if replicas > keep:
            self._event(found, "Normal", "StartedAgain", f"scaled to {replicas} after a group was given up")
            seen = self._write(seen, dict.fromkeys(seen))
        if "held" in seen:
            if self._waits(found, seen):
                return
            seen = self._write(seen, NOT_HELD)
        before = {int(index): Attempt.of(one) for index, one in json.loads(seen.get("attempts", "{}")).items()}
        pods = (self._api.get(self._pods) or {}).get("items") or []
        groups = groups_of(pods, found, self._watched.gpu_resource)
        decision = decide(self._limits, replicas, groups, before, self._clock.now())
        if decision.keep is not None:
            hours = f"{_hours(decision):.1f} GPU-hours"
            said = f"scaled to {decision.keep} of {replicas} groups after {hours}: {_reasons(decision)}"
            given_up = {"givenUp": said, "keep": str(decision.keep), "generation": str(found["metadata"]["generation"])}
            self._write(seen, {**_progress(decision), **given_up})
            self._give_up(found, decision.keep, said)
            return
        if decision.hold is not None:
            self._hold(found, seen, decision, decision.hold)
            return
        kept = _reasons(decision) or None
        if kept and "cannotGiveUp" not in seen:
            self._event(found, "Warning", "CannotGiveUp", f"{kept}; another group serves or is updated, so it is kept")
        self._write(seen, {**_progress(decision), "cannotGiveUp": kept})

    def _hold(self, found: Mapping[str, Any], seen: Mapping[str, str], decision: Decision, keep: int) -> None:
        """Scales the groups that have failed away, and notes for how long."""
        replicas, until = found["spec"].get("replicas", 1), self._clock.now() + decision.wait_seconds
        starts = [f"start {one.failed} of group {i} has failed" for i, one in decision.attempts.items() if i >= keep]
        said = f"scaled to {keep} of {replicas} groups for {decision.wait_seconds:.0f} s: {', '.join(starts)}"
        held = {"keep": keep, "replicas": replicas, "generation": found["metadata"]["generation"], "until": until}
        self._write(seen, {**_progress(decision), "held": json.dumps(held), "heldBack": said})
        self._scale(found, keep)
        self._event(found, "Warning", "HeldBack", said)

    def _waits(self, found: Mapping[str, Any], seen: Mapping[str, str]) -> bool:
        """Whether groups are held back; no longer if the number was changed since. When the time is over, they are
        started again."""
        held, replicas = json.loads(seen["held"]), found["spec"].get("replicas", 1)
        if replicas == held["replicas"] and found["metadata"]["generation"] == held["generation"]:
            # The program ended before it could scale.
            self._scale(found, held["keep"])
            return True
        if replicas != held["keep"]:
            return False
        if self._clock.now() >= held["until"]:
            # The stack may want fewer by now.
            replicas = max(held["keep"], min(held["replicas"], self._watched.replicas))
            self._scale(found, replicas)
            self._event(found, "Normal", "TriedAgain", f"scaled to {replicas} groups")
            self._write(seen, NOT_HELD)
        return True

    def _give_up(self, found: Mapping[str, Any], keep: int, said: str) -> None:
        if self._watched.scaled_object is not None:
            paused = {"metadata": {"annotations": {PAUSED_REPLICAS: str(keep)}}}
            self._api.patch(f"{self._scaled_object}?{FIELD_MANAGER}", paused)
        self._scale(found, keep)
        self._event(found, "Warning", "GivenUp", said)
        print(said, flush=True)

    def _scale(self, found: Mapping[str, Any], keep: int) -> None:
        """Scales to ``keep`` groups, unless the object has changed since it was read."""
        version = {"resourceVersion": found["metadata"]["resourceVersion"]}
        self._api.patch(f"{self._group}/scale?{FIELD_MANAGER}", {"metadata": version, "spec": {"replicas": keep}})

    def _write(self, seen: Mapping[str, str], new: Mapping[str, str | None]) -> dict[str, str]:
        """Writes what is not in the status yet; returns the status."""
        changes = {name: value for name, value in new.items() if seen.get(name) != value}
        if changes:
            self._api.patch(f"{self._status}?{FIELD_MANAGER}", {"data": changes})
        return {name: value for name, value in {**seen, **new}.items() if value is not None}

    def _event(self, found: Mapping[str, Any], kind: str, reason: str, note: str) -> None:
        about = {"apiVersion": LWS_API, "kind": "LeaderWorkerSet", **found}
        happened = event(
            about,
            kind=kind,
            reason=reason,
            action="Scale",
            note=note,
            controller=CONTROLLER,
            now=self._clock.now(),
        )
        self._api.create(self._events, happened)


def groups_of(pods: list[Mapping[str, Any]], found: Mapping[str, Any], gpu_resource: str) -> dict[int, Group]:
    """The groups of the LeaderWorkerSet ``found`` that have a leader, by index."""
    size = found["spec"]["leaderWorkerTemplate"].get("size", 1)
    members: dict[int, dict[int, Mapping[str, Any]]] = {}
    for pod in pods:
        labels = pod["metadata"].get("labels") or {}
        group, worker = labels.get(f"{LABELS}/group-index"), labels.get(f"{LABELS}/worker-index")
        if group is not None and worker is not None:
            members.setdefault(int(group), {})[int(worker)] = pod
    groups = {}
    for index, group_pods in members.items():
        leader = group_pods.get(0)
        if leader is None:
            continue
        pending = tuple(pod["metadata"]["name"] for _, pod in sorted(group_pods.items()) if not _has_started(pod))
        groups[index] = Group(
            uid=leader["metadata"]["uid"],
            revision=leader["metadata"]["labels"].get(f"{LABELS}/template-revision-hash", ""),
            ready=len(group_pods) == size
            and not pending
            and is_ready(leader)
            and "deletionTimestamp" not in leader["metadata"],
            gpus=sum(_gpus(pod, gpu_resource) for pod in group_pods.values() if _has_started(pod)),
            pending=pending,
        )
    return groups


def _has_started(pod: Mapping[str, Any]) -> bool:
    """Whether it has a sandbox: it then has an address, and ACS bills it."""
    status = pod.get("status") or {}
    return status.get("phase", "Pending") != "Pending" or bool(status.get("podIP"))


def _gpus(pod: Mapping[str, Any], resource: str) -> int:
    limits = (container.get("resources", {}).get("limits", {}) for container in pod["spec"]["containers"])
    return sum(int(one.get(resource, 0)) for one in limits)


def _reasons(decision: Decision) -> str:
    return "; ".join(f"group {index}: {reason}" for index, reason in sorted(decision.hopeless.items()))


def _progress(decision: Decision) -> dict[str, str | None]:
    """The part of the status about groups that are not ready; nothing if all are."""
    if not decision.attempts:
        return {"attempts": None, "gpuHours": None}
    attempts = {index: attempt.data() for index, attempt in decision.attempts.items()}
    return {"attempts": json.dumps(attempts), "gpuHours": f"{_hours(decision):.2f}"}


def _hours(decision: Decision) -> float:
    return sum(attempt.gpu_seconds for attempt in decision.attempts.values()) / 3600
