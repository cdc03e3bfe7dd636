"""Follows the pods of a LeaderWorkerSet, writes a report at an end that was not requested, and the phases of starts."""

import contextlib
import functools
import json
import queue
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn, Protocol, Self
from urllib.parse import quote

from deepseek_acs.apiserver import ApiError, ApiServer
from deepseek_acs.apiserver.watching import LABELS, LWS_API, Clock

from .ends import (
    BY_HAND,
    MISSED,
    SETTLE_SECONDS,
    End,
    Member,
    Object,
    before,
    cause,
    containers_of,
    deletion_request,
    ends_of,
    first_of,
    member_of,
    moment,
    template_digest,
)
from .gauges import Gauges, Requests
from .redaction import Redaction
from .report import Incident, updated
from .starts import Starts, with_start

CONTROLLER = "deepseek-incidents"
FIELD_MANAGER = f"fieldManager={CONTROLLER}"

RECREATED = re.compile(r"Worker pod (?P<failed>\S+) failed, deleted leader pod (?P<leader>\S+) to recreate group")
"""In LeaderWorkerSet's event about a group that it recreates
(https://github.com/kubernetes-sigs/lws/blob/v0.9.0/pkg/controllers/pod_controller.go)."""

PROBED = re.compile(r"Container (?P<container>\S+) failed (?P<kind>\w+) probe")
"""In the kubelet's event about a container that it ends for a check
(https://github.com/kubernetes/kubernetes/blob/v1.36.3/pkg/kubelet/kuberuntime/kuberuntime_manager.go)."""

WATCH_SECONDS = 300
RETRY_SECONDS = 2

COLLECT_SECONDS = 10
"""After the first end of a group: the others report theirs, and the last lines arrive."""

GAUGE_SECONDS = 5

LISTED = "LISTED"
"""Not a kind of the watch: a list of all pods."""


class Journals(Protocol):
    """The logs."""

    def follow(self, pod: Mapping[str, Any], containers: list[str]) -> None:
        """Follows containers of a pod."""

    def of(self, uid: str) -> dict[str, list[str]]:
        """The last lines of a pod by container."""

    def forget(self, uid: str) -> None:
        """Removes what is kept of a pod."""


@dataclass(frozen=True, kw_only=True)
class Watched:
    """The LeaderWorkerSet ``name``. ``store`` is the ConfigMap for the reports: ``keep`` of them, with ``lines`` of
    each container. ``plan`` is stored with each start, so that one of another model or layout is recognised."""

    namespace: str
    name: str
    store: str
    keep: int
    lines: int
    plan: str


@dataclass
class Open:
    """What is known of an end of ``group``. ``since`` is when it was first seen (Unix time); after ``written`` it only
    serves to recognise what belongs to it."""

    group: str
    since: float
    uids: list[str]
    ends: list[End]
    requests: Requests | None
    written: bool = False

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """From plain data. Raises TypeError, KeyError."""
        requests = Requests(**data["requests"]) if data["requests"] else None
        return cls(**{**data, "ends": [End(**one) for one in data["ends"]], "requests": requests})


class Watcher:
    """One LeaderWorkerSet. ``state`` is the file with what must survive a restart of the program."""

    def __init__(
        self,
        api: ApiServer,
        watched: Watched,
        *,
        journals: Journals,
        starts: Starts,
        gauges: Gauges,
        redaction: Redaction,
        state: Path,
        clock: Clock,
    ) -> None:
        self._api, self._watched, self._clock = api, watched, clock
        self._journals, self._starts, self._gauges, self._redaction = journals, starts, gauges, redaction
        base = f"/api/v1/namespaces/{watched.namespace}"
        self._pods = f"{base}/pods?labelSelector={quote(f'{LABELS}/name={watched.name}')}"
        self._store = f"{base}/configmaps/{watched.store}"
        self._events = f"{base}/events"
        self._group = f"/apis/{LWS_API}/namespaces/{watched.namespace}/leaderworkersets/{watched.name}"
        self._state = state
        self._members: dict[str, Member] = {}
        self._open: list[Open] = []
        self._seen: set[str] = set()
        """Keys of ends."""
        self._absent: set[str] = set()
        """Members that are gone, of which the end is not written yet."""
        self._requests: dict[str, Requests] = {}
        self._digests: dict[str, str] = {}
        self._read_at = 0.0
        self._recall()

    def watch(self) -> NoReturn:
        """Without end. An error of the API server is said, and passes or not."""
        changes: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        threading.Thread(target=self._stream, args=(changes,), daemon=True).start()
        while True:
            with contextlib.suppress(queue.Empty):
                kind, found = changes.get(timeout=1)
                # Until it is done: no change may be lost.
                while not self._try(functools.partial(self.change, kind, found)):
                    time.sleep(RETRY_SECONDS)
            self._try(self.tick)

    def change(self, kind: str, found: Any) -> None:
        """One change of the watch, or a list of all pods. Raises ApiError, and may then be repeated."""
        if kind == LISTED:
            self._listed(found)
        elif f"{LABELS}/group-index" in (found["metadata"].get("labels") or {}):
            self._see(found)
            if kind == "DELETED":
                self._gone(found["metadata"]["uid"])
        self._clean_up()
        self._remember()

    def tick(self) -> None:
        """Writes what is complete. Raises ApiError."""
        now = self._clock.now()
        if now - self._read_at >= GAUGE_SECONDS:
            self._read_at = now
            self._redaction.reload()
            self._read_gauges()
            self._remember()
        for found in self._open:
            if not found.written and now - found.since >= COLLECT_SECONDS:
                self._write(found)
                found.written = True
        for member in list(self._members.values()):
            if self._serves(member) and now - moment(member.ready_since).timestamp() >= COLLECT_SECONDS:
                self._write_start(member)
        self._clean_up()

    def _listed(self, pods: list[Object]) -> None:
        present = {pod["metadata"]["uid"] for pod in pods}
        for member in [one for uid, one in self._members.items() if uid not in present]:
            self._missed(member)
            self._gone(member.uid)
        for pod in pods:
            if "deletionTimestamp" in pod["metadata"]:
                self._ending(pod)
            self.change("ADDED", pod)

    def _ending(self, pod: Object) -> None:
        """A pod whose deletion began while this program did not watch. Of one that it has never seen, nothing is known
        of what came before: its deletion says nothing."""
        uid = pod["metadata"]["uid"]
        is_new = uid not in self._members
        member = self._members.setdefault(uid, member_of(pod))
        self._missed(member)
        if is_new and not self._belongs(member):
            self._seen.add(f"{uid}//")

    def _missed(self, member: Member) -> None:
        """For a pod that was deleted while this program did not watch: LeaderWorkerSet may have done it, because of a
        pod of which nothing can be seen any more. What it says of that pod is what is known of the first end."""
        group = {one.name: one for one in self._members.values() if one.group == member.group}
        leader = next((one for one in group.values() if one.is_leader), member)
        for event in self._events_about(self._watched.name):
            found = RECREATED.search(_text(event))
            is_later = not member.ready_since or _event_time(event) >= moment(member.ready_since)
            if found is None or found["leader"] != leader.name or not is_later or self._belongs(member):
                continue
            failed = group.get(found["failed"], leader)
            at = _event_time(event).isoformat(timespec="seconds").replace("+00:00", "Z")
            end = End(
                pod=failed.name, uid=failed.uid, container="", at=at, code=None, reason=MISSED, message=_text(event)
            )
            self._ended(failed, end)

    def _see(self, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        member = self._members[uid] = member_of(pod, self._members.get(uid))
        self._learn(member.revision)
        self._starts.see(pod, member)
        self._journals.follow(pod, containers_of(pod))
        requested = self._requested(member) if "deletionTimestamp" in pod["metadata"] else ""
        for end in ends_of(pod, requested):
            self._ended(member, end)

    def _gone(self, uid: str) -> None:
        """A pod that exists no more. If nothing is known of its end, it was deleted without a grace period, or while
        this program did not run."""
        member = self._members[uid]
        if not self._belongs(member):
            at = datetime.fromtimestamp(self._clock.now(), UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
            requested = self._requested(member)
            self._ended(
                member,
                End(pod=member.name, uid=uid, container="", at=at, code=None, reason="Deleted", requested=requested),
            )
        self._absent.add(uid)

    def _ended(self, member: Member, end: End) -> None:
        if end.key in self._seen:
            return
        self._seen.add(end.key)
        for found in self._open:
            if member.uid in found.uids and _is_part(found, end):
                found.ends.append(end)
                return
        group = [one for one in self._members.values() if one.group == member.group and one.uid not in self._absent]
        requests = next((self._requests.get(one.uid) for one in group if one.is_leader), None)
        uids = [one.uid for one in group]
        since = self._clock.now()
        self._open.append(Open(group=member.group, since=since, uids=uids, ends=[end], requests=requests))

    def _belongs(self, member: Member) -> bool:
        """Whether it is known that its group has ended."""
        return any(member.uid in found.uids for found in self._open)

    def _requested(self, member: Member) -> str:
        """What requested that the pod is deleted."""
        return deletion_request(member, self._api.get(self._group), self._digests.get(member.revision))

    def _learn(self, revision: str) -> None:
        """Which templates a revision stands for: those that the LeaderWorkerSet has when its first pod appears."""
        found = self._api.get(self._group) if revision not in self._digests else None
        if found is not None:
            current = {one.revision for one in self._members.values()} | {revision}
            kept = {one: digest for one, digest in self._digests.items() if one in current}
            self._digests = {**kept, revision: template_digest(found)}

    def _read_gauges(self) -> None:
        for member in self._members.values():
            if member.address and self._serves(member):
                requests = self._gauges.read(member.address)
                if requests is not None:
                    self._requests[member.uid] = requests

    def _serves(self, member: Member) -> bool:
        """Whether it is the leader of a group that is ready, and of whose end nothing is known."""
        return member.is_leader and bool(member.ready_since) and not self._belongs(member)

    def _write_start(self, leader: Member) -> None:
        group = [one for one in self._members.values() if one.group == leader.group and one.uid not in self._absent]
        requests = self._requests.get(leader.uid)
        entry = self._starts.record(leader, group, answered=requests.at if requests and requests.succeeded else "")
        stored = self._stored_data() if entry else None
        if entry is None or stored is None:
            return
        starts = with_start(json.loads(stored["data"].get("starts", "[]")), {**entry, "plan": self._watched.plan})
        self._api.patch(f"{self._store}?{FIELD_MANAGER}", {"data": {"starts": json.dumps(starts, indent=1)}})
        self._starts.stored(entry)
        print(f"{entry['at']} group {entry['group']}: ready, seconds by phase: {entry['seconds']}", flush=True)

    def _stored_data(self) -> dict[str, Any] | None:
        """``data`` and ``binaryData`` of the ConfigMap; None if it is gone."""
        found = self._api.get(self._store)
        if found is None:
            print(f"the ConfigMap {self._watched.store} is gone; pulumi up --refresh creates it again", flush=True)
            return None
        return {name: found.get(name) or {} for name in ("data", "binaryData")}

    def _write(self, found: Open) -> None:
        members = sorted((m for m in self._members.values() if m.uid in found.uids), key=lambda one: one.name)
        ends = _consequences(found.ends)
        lines = {
            (member.uid, container): _of_its_life(kept, member.uid, container, ends)
            for member in members
            for container, kept in self._journals.of(member.uid).items()
        }
        first = first_of(ends, lambda end: next(iter(lines.get((end.uid, end.container), [])[-1:]), ""))
        events = self._events_of(members)
        member = next((one for one in members if one.uid == first.uid), None)
        clean = self._redaction.clean
        incident = Incident(
            group=found.group,
            first=_cleaned(first, clean),
            cause=clean(cause(first, member=member, probe=_probe(events, first))),
            members=members,
            ends=[_cleaned(one, clean) for one in ends],
            lines=lines,
            events=[clean(_event_line(one)) for one in events],
            requests=found.requests,
        )
        stored = self._stored_data()
        if stored is None:
            return
        patch = updated(
            stored["data"],
            stored["binaryData"],
            incident,
            keep=self._watched.keep,
            lines=self._watched.lines,
        )
        if patch is not None:
            self._api.patch(f"{self._store}?{FIELD_MANAGER}", patch)
            print(incident.headline, flush=True)

    def _events_of(self, members: list[Member]) -> list[Object]:
        """Those of the group's pods, and of the LeaderWorkerSet about them, oldest first."""
        found = [
            event
            for member in members
            for event in self._events_about(member.name)
            if event["involvedObject"].get("uid") == member.uid
        ]
        names, created = {member.name for member in members}, [moment(member.created) for member in members]
        found += [
            event
            for event in self._events_about(self._watched.name)
            if names & set(_text(event).split()) and _event_time(event) >= min(created)
        ]
        return sorted(found, key=_event_time)

    def _events_about(self, name: str) -> list[Object]:
        selection = quote(f"involvedObject.name={name}")
        return list((self._api.get(f"{self._events}?fieldSelector={selection}") or {}).get("items") or [])

    def _clean_up(self) -> None:
        """Forgets pods that are gone once their end is written."""
        for uid in list(self._absent):
            if any(uid in found.uids and not found.written for found in self._open):
                continue
            self._absent.discard(uid)
            del self._members[uid]
            self._requests.pop(uid, None)
            self._journals.forget(uid)
            self._starts.forget(uid)
            self._seen = {key for key in self._seen if not key.startswith(f"{uid}/")}
        self._open = [one for one in self._open if not one.written or set(one.uids) & self._members.keys()]

    def _recall(self) -> None:
        """What an earlier run of the program knew."""
        try:
            saved = json.loads(self._state.read_text(encoding="utf-8"))
            self._members = {uid: Member(**one) for uid, one in saved["members"].items()}
            self._open = [Open.of(one) for one in saved["open"]]
            self._requests = {uid: Requests(**one) for uid, one in saved["requests"].items()}
            self._digests = saved["digests"]
            self._starts.recall(saved["starts"])
            self._seen, self._absent = set(saved["seen"]), set(saved["absent"])
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            print(f"starting without what was known before: {error}", flush=True)

    def _remember(self) -> None:
        saved = {
            "members": {uid: vars(one) for uid, one in self._members.items()},
            "open": [asdict(one) for one in self._open],
            "requests": {uid: vars(one) for uid, one in self._requests.items()},
            "digests": self._digests,
            "starts": self._starts.saved(),
            "seen": sorted(self._seen),
            "absent": sorted(self._absent),
        }
        new = self._state.with_suffix(".new")
        new.write_text(json.dumps(saved), encoding="utf-8")
        new.replace(self._state)

    def _try(self, step: Callable[[], None]) -> bool:
        try:
            step()
        except ApiError as error:
            print(f"trying again: {error}", flush=True)
            return False
        return True

    def _stream(self, changes: "queue.SimpleQueue[tuple[str, Any]]") -> None:
        """Lists the pods, then watches them, without end
        (https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes)."""
        while True:
            try:
                found = self._api.get(self._pods) or {}
                changes.put((LISTED, found.get("items") or []))
                version = found.get("metadata", {}).get("resourceVersion", "")
                query = f"&watch=1&timeoutSeconds={WATCH_SECONDS}&resourceVersion={version}"
                for line in self._api.stream(f"{self._pods}{query}", silence_seconds=WATCH_SECONDS + 30):
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        break
                    changes.put((event["type"], event["object"]))
            except (ApiError, ValueError) as error:
                print(f"listing the pods again: {error}", flush=True)
            time.sleep(RETRY_SECONDS)


def _consequences(ends: list[End]) -> list[End]:
    """After a container has ended by itself, LeaderWorkerSet deletes the pods, as if by hand."""
    if not ends[0].container and ends[0].requested:
        return ends
    return [replace(one, requested="") if one.requested == BY_HAND else one for one in ends]


def _of_its_life(lines: list[str], uid: str, container: str, ends: list[End]) -> list[str]:
    """The lines of a container from before its end, if it has ended."""
    end = next((one for one in ends if (one.uid, one.container) == (uid, container)), None)
    return before(lines, end) if end else lines


def _is_part(found: Open, end: End) -> bool:
    """Whether the end of a pod that was there at the first one belongs to it: the pod is deleted, or it is soon
    after."""
    seconds = (moment(end.at) - moment(found.ends[0].at)).total_seconds()
    return not end.container or abs(seconds) < SETTLE_SECONDS


def _probe(events: list[Object], first: End) -> str:
    """What the kubelet said of the check for which it ended the container; empty if it did not."""
    own = [one for one in events if one["involvedObject"].get("uid") == first.uid]
    verdicts = [PROBED.search(_text(one)) for one in own if one.get("reason") == "Killing"]
    kinds = [found["kind"] for found in verdicts if found is not None and found["container"] == first.container]
    if not kinds:
        return ""
    said = [" ".join(_text(one).split()) for one in own if one.get("reason") == "Unhealthy"]
    failures = [text for text in said if text.lower().startswith(f"{kinds[-1]} probe")]
    return failures[-1][:300] if failures else f"{kinds[-1]} probe"


def _event_line(event: Object) -> str:
    at = _event_time(event).isoformat(timespec="seconds").replace("+00:00", "Z")
    name = event["involvedObject"].get("name", "")
    return f"{at} {name} {event.get('reason', '')}: {' '.join(_text(event).split())[:500]}"


def _event_time(event: Object) -> datetime:
    series = event.get("series") or {}
    at = series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime")
    return moment(at or event["metadata"]["creationTimestamp"])


def _text(event: Object) -> str:
    return str(event.get("message") or "")


def _cleaned(end: End, clean: Callable[[str], str]) -> End:
    return replace(end, message=clean(end.message.strip()))
