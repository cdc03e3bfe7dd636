"""The phases of each start of a group, by the times of its pods and by lines in the engine's logs."""

import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from .ends import Member, Object, engine_status, moment

PHASES = ("schedule", "image", "engine", "read", "compile", "serve")
"""In their order: until all pods have a node, all containers run, all ranks begin to load, all have loaded, all have
compiled and captured graphs, and the leader is ready. A phase whose end is not in the log is a part of the next."""

MARKS = {
    "begun": re.compile(r"Starting to load model"),
    "read": re.compile(r"Loading (?:model )?weights took|Model loading took"),
    "compiled": re.compile(
        r"torch\.compile (?:took|takes) .* in total|Graph capturing finished in|init engine \(profile"
    ),
}
"""In the logs of vLLM 0.6.6 to 0.33.0 (for instance https://github.com/vllm-project/vllm/blob/v0.20.2/vllm/v1/worker/
gpu_model_runner.py, model_executor/model_loader/default_loader.py, v1/engine/core.py)."""

MOST_STARTS = 20


@dataclass(frozen=True, kw_only=True)
class Times:
    """Of a pod, as the API server and the kubelet write them; empty if not known. ``marks`` are when lines of ``MARKS``
    came: of the first kind the first one, of the others the last. ``is_measurable`` says whether the pod was seen
    before it was ready, so that its log was read from the beginning, and no container was restarted."""

    created: str
    scheduled: str = ""
    running: str = ""
    marks: Mapping[str, str] = field(default_factory=dict)
    image: str = ""
    is_measurable: bool = True


class Starts:
    """Of the pods that are followed. ``line`` is for the threads that read logs, all else for one thread."""

    def __init__(self) -> None:
        self._times: dict[str, Times] = {}
        self._stored: dict[str, bool] = {}
        """Whether the first answer is stored, of the leaders whose start is."""
        self._lock = threading.Lock()

    def see(self, pod: Object, member: Member) -> None:
        """A pod as it is now."""
        conditions = {c["type"]: c for c in pod.get("status", {}).get("conditions") or [] if c["status"] == "True"}
        engine = engine_status(pod)
        started = (engine.get("state") or {}).get("running", {}).get("startedAt", "")
        with self._lock:
            known = self._times.get(member.uid) or Times(created=member.created, is_measurable=not member.ready_since)
            self._times[member.uid] = replace(
                known,
                scheduled=known.scheduled or conditions.get("PodScheduled", {}).get("lastTransitionTime", ""),
                running=known.running or started,
                image=engine.get("imageID", "") or known.image,
                is_measurable=known.is_measurable and not engine.get("restartCount"),
            )

    def line(self, uid: str, at: str, text: str) -> None:
        """A line of a log, and when it was written. The same line may come again."""
        mark = next((name for name, pattern in MARKS.items() if pattern.search(text)), None)
        if mark is None:
            return
        with self._lock:
            known = self._times.get(uid)
            before = known.marks.get(mark) if known else None
            if known and (before is None or (moment(at) < moment(before)) == (mark == "begun")):
                self._times[uid] = replace(known, marks={**known.marks, mark: at})

    def record(self, leader: Member, group: Sequence[Member], *, answered: str) -> dict[str, Any] | None:
        """The start of a group whose leader is ready, if it is new or if its first answer is; ``answered`` is when
        that was seen, empty before. None as well where it cannot be measured."""
        with self._lock:
            times = [found for one in group if (found := self._times.get(one.uid))]
            image = self._times[leader.uid].image if leader.uid in self._times else ""
        is_old = leader.uid in self._stored and (self._stored[leader.uid] or not answered)
        if is_old or len(times) < len(group) or not all(one.is_measurable for one in times):
            return None
        answer = (moment(answered) - moment(leader.ready_since)).total_seconds() if answered else None
        return {
            "at": leader.ready_since,
            "group": leader.group,
            "uid": leader.uid,
            "revision": leader.revision,
            "image": image,
            "seconds": phases(times, leader.ready_since),
            "answer": None if answer is None else max(0, round(answer)),
        }

    def stored(self, entry: Mapping[str, Any]) -> None:
        """What ``record`` returned is in the ConfigMap."""
        self._stored[entry["uid"]] = entry["answer"] is not None

    def forget(self, uid: str) -> None:
        """Of a pod that is gone."""
        with self._lock:
            self._times.pop(uid, None)
        self._stored.pop(uid, None)

    def saved(self) -> dict[str, Any]:
        """Plain data, for ``recall``."""
        with self._lock:
            return {"times": {uid: asdict(one) for uid, one in self._times.items()}, "stored": dict(self._stored)}

    def recall(self, saved: Mapping[str, Any]) -> None:
        """What an earlier run of the program knew. Raises TypeError, KeyError."""
        times = {uid: Times(**one) for uid, one in saved["times"].items()}
        with self._lock:
            self._times = times
        self._stored = dict(saved["stored"])


def phases(times: Sequence[Times], ready: str) -> dict[str, int]:
    """Seconds by phase. They add up to the time from the creation of the first pod to the leader's readiness."""
    begin, end = min(moment(one.created) for one in times), moment(ready)
    reached = [[one.scheduled for one in times], [one.running for one in times]]
    reached += [[one.marks.get(mark, "") for one in times] for mark in MARKS]
    found, passed = dict[str, int](), 0
    for phase, all_of_it in zip(PHASES, [*reached, [ready]], strict=True):
        # A rank that logs nothing, as a headless worker may, does not hide what the others say.
        known = [moment(at) for at in all_of_it if at]
        if not known:
            continue
        after = round((min(max(known), end) - begin).total_seconds())
        found[phase], passed = max(0, after - passed), max(passed, after)
    return found


def with_start(starts: Sequence[Mapping[str, Any]], entry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The list with one more, or with a newer one of the same group's life; the oldest makes room."""
    return [*(one for one in starts if one["uid"] != entry["uid"]), entry][-MOST_STARTS:]
