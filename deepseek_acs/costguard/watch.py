"""Looks at the groups of a LeaderWorkerSet, decides, and acts."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import quote

from deepseek_acs.apiserver import ApiError, ApiServer
from deepseek_acs.apiserver.watching import LABELS, LWS_API, Clock, event

from .decision import Attempt, Decision, Group, Limits, decide

PERIOD_SECONDS = 15

CONTROLLER = "deepseek-costguard"
FIELD_MANAGER = f"fieldManager={CONTROLLER}"
"""By which managedFields name this program."""

PAUSED_REPLICAS = "autoscaling.keda.sh/paused-replicas"
"""https://keda.sh/docs/latest/concepts/scaling-deployments/#pause-autoscaling"""

MOST_REPLICAS = 2**31 - 1
"""Of any object."""


@dataclass(frozen=True, kw_only=True)
class Watched:
    """The LeaderWorkerSet ``name``, whose pods request GPUs as ``gpu_resource``. ``status`` is the ConfigMap with what
    was seen. ``scaled_object`` is KEDA's, which would start the groups again; None without one."""

    namespace: str
    name: str
    gpu_resource: str
    status: str
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
        """Without end. An error of the API server is said, and passes or not."""
        while True:
            try:
                self.step()
            except ApiError as error:
                print(f"looking again in {PERIOD_SECONDS} s: {error}", flush=True)
            self._clock.sleep(PERIOD_SECONDS)

    def step(self) -> None:
        """Looks once. Raises ApiError."""
        found = self._api.get(self._group)
        if found is None or "deletionTimestamp" in found["metadata"]:
            return
        seen: dict[str, str] = (self._api.get(self._status) or {}).get("data") or {}
        replicas, keep = found["spec"].get("replicas", 1), int(seen.get("keep", MOST_REPLICAS))
        if replicas > keep and seen["generation"] == str(found["metadata"]["generation"]):
            self._scale(found, keep, seen["givenUp"])
            return
        if replicas > keep:
            self._event(found, "Normal", "StartedAgain", f"scaled to {replicas} after a group was given up")
            seen = self._write(seen, dict.fromkeys(seen))
        before = {int(index): Attempt.of(one) for index, one in json.loads(seen.get("attempts", "{}")).items()}
        pods = (self._api.get(self._pods) or {}).get("items") or []
        groups = groups_of(pods, found, self._watched.gpu_resource)
        decision = decide(self._limits, replicas, groups, before, self._clock.now())
        if decision.keep is not None:
            hours = f"{_hours(decision):.1f} GPU-hours"
            said = f"scaled to {decision.keep} of {replicas} groups after {hours}: {_reasons(decision)}"
            given_up = {"givenUp": said, "keep": str(decision.keep), "generation": str(found["metadata"]["generation"])}
            self._write(seen, {**_progress(decision), **given_up})
            self._scale(found, decision.keep, said)
            return
        kept = _reasons(decision) or None
        if kept and "cannotGiveUp" not in seen:
            self._event(found, "Warning", "CannotGiveUp", f"{kept}; another group serves or is updated, so it is kept")
        self._write(seen, {**_progress(decision), "cannotGiveUp": kept})

    def _scale(self, found: Mapping[str, Any], keep: int, said: str) -> None:
        """Scales to ``keep`` groups, unless the object has changed since it was read."""
        if self._watched.scaled_object is not None:
            paused = {"metadata": {"annotations": {PAUSED_REPLICAS: str(keep)}}}
            self._api.patch(f"{self._scaled_object}?{FIELD_MANAGER}", paused)
        version = {"resourceVersion": found["metadata"]["resourceVersion"]}
        self._api.patch(f"{self._group}/scale?{FIELD_MANAGER}", {"metadata": version, "spec": {"replicas": keep}})
        self._event(found, "Warning", "GivenUp", said)
        print(said, flush=True)

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
            ready=len(group_pods) == size and not pending and _is_ready(leader),
            gpus=sum(_gpus(pod, gpu_resource) for pod in group_pods.values() if _has_started(pod)),
            pending=pending,
        )
    return groups


def _has_started(pod: Mapping[str, Any]) -> bool:
    """Whether it has a sandbox: it then has an address, and ACS bills it."""
    status = pod.get("status") or {}
    return status.get("phase", "Pending") != "Pending" or bool(status.get("podIP"))


def _is_ready(pod: Mapping[str, Any]) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    is_ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
    return is_ready and "deletionTimestamp" not in pod["metadata"]


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
