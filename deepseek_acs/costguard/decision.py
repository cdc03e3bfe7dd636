"""When a group is given up: a function of its pods, of what was seen before, and of the limits."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

LONGEST_BACK_OFF_SECONDS = 1800

HELD = ""
"""In the place of the leader's UID, of a group that was held back: its next start is not one that LeaderWorkerSet
made because the last one failed."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Starts in a row that may fail, and seconds: that some pods of a group may hold GPUs while another one has not
    started, that a group may hold GPUs without being ready, and that it is held back after the first start that failed
    (0: never). ``partly``: whether some groups may be given up while others stay."""

    failed_starts: int
    pending_seconds: int
    unready_seconds: int
    back_off_seconds: int = 0
    partly: bool = True


@dataclass(frozen=True, kw_only=True)
class Group:
    """A group as its pods are now. ``uid`` is the leader's, which changes with each start; ``revision`` changes with
    the pod template. ``gpus`` are those of pods that have started, ``pending`` the names of pods that have not."""

    uid: str
    revision: str
    ready: bool
    gpus: int
    pending: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """What was seen of a group since it was last ready. ``failed`` starts came before the one of ``uid``.
    ``pending_seconds`` are of this start, the other times of all; ``at`` is the time of the last look (Unix time)."""

    uid: str
    revision: str
    failed: int = 0
    pending_seconds: float = 0
    unready_seconds: float = 0
    gpu_seconds: float = 0
    at: float

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """From plain data."""
        return cls(**data)

    def data(self) -> dict[str, Any]:
        """As plain data."""
        return {**vars(self)}


@dataclass(frozen=True, kw_only=True)
class Decision:
    """``attempts`` are all groups that are not ready, ``hopeless`` those of which there is nothing to expect, with the
    reason. ``keep`` is the number of groups to scale to; None to leave it. ``hold`` is the number to scale to for
    ``wait_seconds``; None to hold no group back."""

    attempts: Mapping[int, Attempt]
    hopeless: Mapping[int, str]
    keep: int | None
    hold: int | None = None
    wait_seconds: float = 0


def decide(
    limits: Limits, replicas: int, groups: Mapping[int, Group], before: Mapping[int, Attempt], now: float
) -> Decision:
    """What to do about ``groups``, by their index. One whose pods are all gone for the moment is not among them; what
    was seen of it stays."""
    failed = set()
    attempts = {index: attempt for index, attempt in before.items() if index < replicas and index not in groups}
    hopeless = {}
    for index, group in groups.items():
        attempt = follow(group, before.get(index), now)
        if attempt is not None:
            attempts[index] = attempt
            if index in before and attempt.failed > before[index].failed:
                failed.add(index)
            if reason := reason_to_give_up(limits, attempt, group):
                hopeless[index] = reason
    keep, hold, wait = _kept(limits, replicas, groups, hopeless), None, 0.0
    if keep is None and failed and limits.back_off_seconds:
        hold = _kept(limits, replicas, groups, failed | hopeless.keys())
        wait = max(back_off_seconds(limits, attempts[index].failed) for index in failed)
    if hold is not None:
        attempts |= {index: replace(attempt, uid=HELD) for index, attempt in attempts.items() if index >= hold}
    return Decision(attempts=attempts, hopeless=hopeless, keep=keep, hold=hold, wait_seconds=wait)


def back_off_seconds(limits: Limits, failed: int) -> float:
    """How long a group is held back after ``failed`` starts: twice as long each time."""
    return min(limits.back_off_seconds * 2.0 ** (failed - 1), LONGEST_BACK_OFF_SECONDS)


def follow(group: Group, before: Attempt | None, now: float) -> Attempt | None:
    """What is known of a group after this look; None if it is ready. A changed template is a new attempt,
    because the cause may be removed."""
    if group.ready:
        return None
    if before is None or before.revision != group.revision:
        return Attempt(uid=group.uid, revision=group.revision, at=now)
    was_held = before.uid == HELD
    seconds = 0.0 if was_held else max(0.0, now - before.at)
    is_new = not was_held and group.uid != before.uid
    held = seconds if group.gpus else 0
    return replace(
        before,
        uid=group.uid,
        failed=before.failed + is_new,
        pending_seconds=0 if is_new or was_held or not group.pending else before.pending_seconds + held,
        unready_seconds=before.unready_seconds + held,
        gpu_seconds=before.gpu_seconds + seconds * group.gpus,
        at=max(now, before.at),
    )


def reason_to_give_up(limits: Limits, attempt: Attempt, group: Group) -> str:
    """Empty as long as there is none. Time in which the group holds no GPU does not count: it waits for free."""
    if attempt.failed >= limits.failed_starts:
        return f"{attempt.failed} starts in a row have failed"
    if attempt.pending_seconds >= limits.pending_seconds:
        minutes = attempt.pending_seconds / 60
        return f"{', '.join(group.pending)} did not start for {minutes:.0f} min while {group.gpus} GPUs were held"
    if attempt.unready_seconds >= limits.unready_seconds:
        return f"it held GPUs for {attempt.unready_seconds / 60:.0f} min and never answered"
    return ""


def _kept(limits: Limits, replicas: int, groups: Mapping[int, Group], hopeless: Collection[int]) -> int | None:
    """LeaderWorkerSet removes the groups with the highest index first, so only hopeless groups at the end can be given
    up while others stay. Not during an update: the number of groups is a part of its progress, and the next group would
    get the template that does not start."""
    keep = replicas
    while keep and keep - 1 in hopeless:
        keep -= 1
    is_updating = len({group.revision for group in groups.values()}) > 1
    if keep == replicas or (keep and (is_updating or not limits.partly)):
        return None
    return keep
