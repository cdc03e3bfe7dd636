"""What has ended, and whether it was requested: functions of a pod as the API server shows it."""

import hashlib
import json
import re
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from deepseek_acs.apiserver.watching import LABELS

Object = Mapping[str, Any]

ENGINE_CONTAINER = "vllm"
"""As components/labels.py names it. Its pods may have others, of Fluid for instance."""

DISRUPTED = "DisruptionTarget"
"""https://kubernetes.io/docs/concepts/workloads/pods/disruptions/#pod-disruption-conditions"""

DISRUPTIONS = {
    "DeletionByTaintManager": "was deleted because its node was lost or tainted",
    "DeletionByPodGC": "was deleted because its node is gone",
    "PreemptionByScheduler": "was deleted for a pod of higher priority",
    "TerminationByKubelet": "was ended by its node, which ran out of a resource or was shut down",
}
"""Reasons of the condition that were not requested."""

EVICTED = "EvictionByEvictionAPI"
OUT_OF_MEMORY = "OOMKilled"
SIGNALLED = 128
"""An exit code above it is that plus the number of the signal."""

BY_HAND = "a deletion of the pod, by hand or by another program"

SETTLE_SECONDS = 60
"""Further ends of the same pods within this time belong to the first one, even if LeaderWorkerSet has not deleted the
pods yet."""

MISSED = "Missed"
"""The pod disappeared while this program did not run."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """A pod of a group as it was last seen; times as the API server writes them. ``memory`` is the limit of the
    engine's container, ``ready_since`` is empty until the pod has been ready."""

    name: str
    uid: str
    group: str
    worker: str
    node: str
    revision: str
    address: str
    memory: str
    created: str
    ready_since: str

    @property
    def is_leader(self) -> bool:
        return self.worker == "0"


@dataclass(frozen=True, kw_only=True)
class End:
    """A container that ended, or a pod that is deleted: then ``container`` is empty. ``requested`` says what requested
    it; empty if nothing did. ``code`` is None if there is none."""

    pod: str
    uid: str
    container: str
    at: str
    code: int | None
    reason: str
    message: str = ""
    requested: str = ""

    @property
    def key(self) -> str:
        """The same for the same end, however often it is seen."""
        return f"{self.uid}/{self.container}/{self.at if self.container else ''}"

    @property
    def is_killed(self) -> bool:
        """Whether a signal or the kernel ended it. Other containers of the group then fail, with an error of their
        own."""
        return bool(self.container) and (self.reason == OUT_OF_MEMORY or (self.code or 0) > SIGNALLED)


def member_of(pod: Object, before: Member | None = None) -> Member:
    """Of a pod with the labels of LeaderWorkerSet; ``before`` is what was known of it."""
    metadata, status, spec = pod["metadata"], pod.get("status") or {}, pod.get("spec") or {}
    labels = metadata.get("labels") or {}
    ready = next((c for c in status.get("conditions") or [] if c["type"] == "Ready" and c["status"] == "True"), None)
    limits = [c.get("resources", {}).get("limits", {}).get("memory", "") for c in spec.get("containers") or []]
    return Member(
        name=metadata["name"],
        uid=metadata["uid"],
        group=labels.get(f"{LABELS}/group-index", ""),
        worker=labels.get(f"{LABELS}/worker-index", ""),
        node=spec.get("nodeName", ""),
        revision=labels.get(f"{LABELS}/template-revision-hash", ""),
        address=status.get("podIP", "") or (before.address if before else ""),
        memory=next((one for one in limits if one), ""),
        created=metadata["creationTimestamp"],
        ready_since=ready.get("lastTransitionTime", "") if ready else before.ready_since if before else "",
    )


def engine_status(pod: Object) -> Object:
    """Of the engine's container; empty before the kubelet has it."""
    return next((one for one in _statuses(pod) if one["name"] == ENGINE_CONTAINER), {})


def containers_of(pod: Object) -> list[str]:
    """Names of those that have a log: they run or have run."""
    return [one["name"] for one in _statuses(pod) if one.get("lastState") or "waiting" not in one.get("state", {})]


def ends_of(pod: Object, requested: str) -> Iterator[End]:
    """All that has ended of a pod, as far as its status shows; ``requested`` is what has requested its deletion, if it
    is being deleted. An end of a container after that is a consequence."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    name, uid, deleted = metadata["name"], metadata["uid"], deleted_at(pod)
    for container, state in _terminated(pod):
        at = state.get("finishedAt") or metadata["creationTimestamp"]
        if deleted is None or moment(at) < deleted:
            yield End(
                pod=name,
                uid=uid,
                container=container,
                at=at,
                code=state.get("exitCode"),
                reason=state.get("reason", ""),
                message=(state.get("message") or "")[-500:],
            )
    target = next((c for c in status.get("conditions") or [] if c["type"] == DISRUPTED and c["status"] == "True"), None)
    if deleted is None and status.get("phase") == "Failed" and status.get("reason"):
        at = target["lastTransitionTime"] if target else metadata["creationTimestamp"]
        yield _of_pod(name, uid, at, status["reason"], status.get("message", ""), "")
    if deleted is None:
        return
    at = deleted.isoformat().replace("+00:00", "Z")
    if target is not None and target.get("reason") in DISRUPTIONS:
        yield _of_pod(name, uid, at, target["reason"], target.get("message", ""), "")
    else:
        evicted = "an eviction" if target is not None and target.get("reason") == EVICTED else ""
        yield _of_pod(name, uid, at, "Deleted", "", evicted or requested)


def template_digest(group_object: Object) -> str:
    """Of the pod templates of a LeaderWorkerSet."""
    return hashlib.sha256(json.dumps(group_object["spec"]["leaderWorkerTemplate"], sort_keys=True).encode()).hexdigest()


def deletion_request(member: Member, group_object: Object | None, digest: str | None) -> str:
    """What requested the deletion of a pod, from the LeaderWorkerSet, None if it is gone, and the digest of the
    templates from which the pod was made, None if it is not known."""
    if group_object is None or "deletionTimestamp" in group_object["metadata"]:
        return "the deletion of the LeaderWorkerSet"
    replicas = group_object["spec"].get("replicas", 1)
    if member.group.isdigit() and int(member.group) >= replicas:
        return f"a scale-down to {replicas} groups{_by(group_object)}"
    if digest is not None and digest != template_digest(group_object):
        return "an update of the pod template"
    return BY_HAND


def first_of(ends: Sequence[End], last_line: Callable[[End], str]) -> End:
    """The end that came first, of those of one group in the order in which they were seen; ``last_line`` gives the last
    line of a container's log before its end, with its time. Ends have whole seconds, and nodes report with some delay:
    of containers that ended before the pods were deleted, the earliest counts. Within a second it is one that was
    killed, because the others then fail, or else the one that was silent first: the others tell what they lost."""
    if not ends[0].container:
        return ends[0]
    containers = [one for one in ends if one.container]
    return min(containers, key=lambda one: (moment(one.at), not one.is_killed, last_line(one), ends.index(one)))


def before(lines: Sequence[str], end: End) -> list[str]:
    """The lines of a log from before an end, which has whole seconds. Later ones are those of a restarted container."""
    until = moment(end.at) + timedelta(seconds=1)
    return [line for line in lines if moment(line.partition(" ")[0]) < until]


def deleted_at(pod: Object) -> datetime | None:
    """When its deletion was requested; None if it was not."""
    metadata = pod["metadata"]
    if "deletionTimestamp" not in metadata:
        return None
    return moment(metadata["deletionTimestamp"]) - timedelta(seconds=metadata.get("deletionGracePeriodSeconds") or 0)


def cause(end: End, *, member: Member | None, probe: str) -> str:
    """Why it ended, as a part of a sentence; ``probe`` is what the kubelet said of a check that failed."""
    if not end.container:
        return _cause_of_pod(end)
    if end.reason == OUT_OF_MEMORY:
        limit = f" of {member.memory}" if member and member.memory else ""
        return f"was killed because it needed more memory than its limit{limit}"
    how = _how(end.code)
    if probe:
        return f"failed its health check ({probe}), and {how}"
    known = end.reason not in ("", "Error", "Completed")
    return f"{how} ({end.reason}: {end.message})" if known else how


def _cause_of_pod(end: End) -> str:
    if end.requested:
        return f"was deleted, as requested by {end.requested}"
    if end.reason == MISSED:
        return f"failed while the watcher did not run: {end.message}"
    what = DISRUPTIONS.get(end.reason, f"was ended by its node ({end.reason})")
    return f"{what}: {end.message}" if end.message else what


def _how(code: int | None) -> str:
    if code is None:
        return "ended"
    if code == 0:
        return "ended by itself with code 0"
    if code <= SIGNALLED:
        return f"ended with code {code}"
    try:
        name = signal.Signals(code - SIGNALLED).name
    except ValueError:
        return f"ended with code {code}"
    return f"was killed by signal {code - SIGNALLED} ({name})"


def moment(text: str) -> datetime:
    """Of a time as the API server writes it."""
    return datetime.fromisoformat(text).astimezone(UTC)


def without_numbers(text: str) -> str:
    """For comparing causes: without those in parentheses, as of a check that took a different time."""
    return re.sub(r"\(.*\)", lambda found: re.sub(r"\d+", "#", found[0]), text)


def _of_pod(name: str, uid: str, at: str, reason: str, message: str, requested: str) -> End:
    return End(pod=name, uid=uid, container="", at=at, code=None, reason=reason, message=message, requested=requested)


def _by(group_object: Object) -> str:
    """Who has set the number of groups, by the names of field managers
    (https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management)."""
    owners = [
        entry["manager"]
        for entry in group_object["metadata"].get("managedFields") or []
        if "f:replicas" in (entry.get("fieldsV1") or {}).get("f:spec", {})
    ]
    return f" by {', '.join(owners)}" if owners else ""


def _statuses(pod: Object) -> list[Object]:
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def _terminated(pod: Object) -> Iterator[tuple[str, Object]]:
    """Containers that ended, the earlier end of each first. An init container that ended with code 0 has done its
    work."""
    init = {one["name"] for one in (pod.get("status") or {}).get("initContainerStatuses") or []}
    for status in _statuses(pod):
        for state in (status.get("lastState") or {}, status.get("state") or {}):
            ended = state.get("terminated")
            if ended is not None and not (status["name"] in init and ended.get("exitCode") == 0):
                yield status["name"], ended
