"""When a group is given up, for any course of events."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepseek_acs.costguard.decision import Attempt, Decision, Group, Limits, decide

LIMITS = Limits(failed_starts=3, pending_seconds=600, unready_seconds=3000)


def loading(uid: str = "a", *, gpus: int = 16, revision: str = "1") -> Group:
    return Group(uid=uid, revision=revision, ready=False, gpus=gpus)


def partial(uid: str = "a") -> Group:
    """The worker has no node."""
    return Group(uid=uid, revision="1", ready=False, gpus=8, pending=("r1-0-1",))


def waiting() -> Group:
    """No pod has a node."""
    return Group(uid="a", revision="1", ready=False, gpus=0, pending=("r1-0", "r1-0-1"))


READY = Group(uid="a", revision="1", ready=True, gpus=16)


@dataclass
class Course:
    """What a guard sees that looks every ``period`` seconds."""

    limits: Limits = LIMITS
    replicas: int = 1
    period: float = 60
    now: float = 1_000_000
    seen: dict[int, Attempt] | None = None

    def look(self, *groups: Group | None, times: int = 1) -> Decision:
        """The groups by index; None is one without pods."""
        for _ in range(times):
            self.now += self.period
            present = {index: group for index, group in enumerate(groups) if group is not None}
            found = decide(self.limits, self.replicas, present, self.seen or {}, self.now)
            # As the status has it.
            data = json.loads(json.dumps({index: attempt.data() for index, attempt in found.attempts.items()}))
            self.seen = {int(index): Attempt.of(one) for index, one in data.items()}
            if found.keep is not None:
                break
        return found


def test_a_worker_that_never_comes() -> None:
    course = Course()
    assert course.look(partial(), times=10).hopeless == {}
    found = course.look(partial())
    assert found.keep == 0
    assert found.hopeless == {0: "r1-0-1 did not start for 10 min while 8 GPUs were held"}
    assert found.attempts[0].gpu_seconds == 8 * 10 * 60


def test_a_group_without_any_gpu_waits_for_free() -> None:
    assert Course().look(waiting(), times=1_000).keep is None


def test_starts_that_fail() -> None:
    course = Course()
    for uid in "abc":
        assert course.look(loading(uid), times=5).keep is None
        course.look(None)
    found = course.look(loading("d"))
    assert (found.keep, found.hopeless) == (0, {0: "3 starts in a row have failed"})


def test_a_load_that_is_slower_than_planned() -> None:
    course = Course()
    assert course.look(loading(), times=50).keep is None
    found = course.look(loading())
    assert (found.keep, found.hopeless) == (0, {0: "it held GPUs for 50 min and never answered"})


def test_a_ready_group_resets_the_counts() -> None:
    course = Course()
    for _ in range(20):
        assert course.look(loading("a"), times=2).keep is None
        assert course.look(loading("b"), times=2).keep is None
        assert course.look(READY).attempts == {}


def test_a_changed_template_resets_the_counts() -> None:
    course = Course()
    for revision in range(20):
        assert course.look(partial(), times=9).keep is None
        assert course.look(loading(revision=f"new{revision}")).attempts[0].gpu_seconds == 0


def test_only_the_last_groups_are_given_up() -> None:
    course = Course(replicas=3)
    found = course.look(READY, partial("b"), partial("c"), times=30)
    assert (found.keep, set(found.hopeless)) == (1, {1, 2})


def test_a_group_below_one_that_serves_is_kept() -> None:
    found = Course(replicas=2).look(partial(), READY, times=30)
    assert (found.keep, set(found.hopeless)) == (None, {0})


def test_an_update_that_does_not_start_takes_no_other_group_down() -> None:
    """With one group fewer, LeaderWorkerSet would update the next one."""
    old = Group(uid="b", revision="0", ready=True, gpus=16)
    found = Course(replicas=2).look(old, partial(), times=30)
    assert (found.keep, set(found.hopeless)) == (None, {1})
    assert Course(replicas=1).look(partial(), times=30).keep == 0


def test_a_group_that_an_update_adds_cannot_be_scaled_away() -> None:
    found = Course(replicas=1).look(READY, partial("b"), times=30)
    assert (found.keep, set(found.hopeless)) == (None, {1})


def test_together_or_not_at_all() -> None:
    limits = Limits(failed_starts=3, pending_seconds=600, unready_seconds=3000, partly=False)
    assert Course(limits=limits, replicas=2).look(READY, partial("b"), times=30).keep is None
    assert Course(limits=limits, replicas=2).look(partial(), partial("b"), times=30).keep == 0


def test_a_clock_that_is_set_back_counts_nothing() -> None:
    course = Course()
    before = course.look(partial(), times=5).attempts[0]
    course.now -= 10_000
    after = course.look(partial()).attempts[0]
    assert after == before


GROUPS = st.one_of(
    st.none(),
    st.builds(
        Group,
        uid=st.sampled_from("abcd"),
        revision=st.sampled_from(["1", "1", "1", "2"]),
        ready=st.booleans(),
        gpus=st.sampled_from([0, 8, 16]),
        pending=st.sampled_from([(), (), ("w",)]),
    ),
)
COURSES = st.integers(1, 4).flatmap(lambda count: st.lists(st.lists(GROUPS, min_size=count, max_size=count)))


@given(COURSES, st.integers(1, 3), st.integers(60, 600), st.integers(60, 3000), st.floats(1, 400))
def test_whatever_happens(
    course: Sequence[Sequence[Group | None]], failed: int, pending: int, unready: int, period: float
) -> None:
    limits = Limits(failed_starts=failed, pending_seconds=pending, unready_seconds=unready)
    replicas = len(course[0]) if course else 1
    run = Course(limits=limits, replicas=replicas, period=period)
    for groups in course:
        found = run.look(*groups)
        by_index = {index: group for index, group in enumerate(groups) if group is not None}
        for index, attempt in found.attempts.items():
            assert index not in by_index or not by_index[index].ready
            assert 0 <= attempt.pending_seconds <= attempt.unready_seconds + 1e-6
            assert attempt.gpu_seconds <= 16 * period * len(course)
            assert attempt.at <= run.now
        for index, reason in found.hopeless.items():
            attempt = found.attempts[index]
            assert reason
            assert attempt.failed >= failed or attempt.pending_seconds >= pending or attempt.unready_seconds >= unready
        if found.keep is not None:
            assert 0 <= found.keep < replicas
            given_up = set(range(found.keep, replicas))
            assert given_up <= set(found.hopeless), "no group that may still start, and none that serves"
            if found.keep:
                assert len({group.revision for group in by_index.values()}) == 1
            break


@pytest.mark.parametrize("group", [partial(), loading()])
@given(period=st.floats(1, 300), failed=st.integers(1, 10), pending=st.integers(1, 900), unready=st.integers(1, 900))
def test_a_group_that_holds_gpus_is_given_up_in_time(
    group: Group, period: float, failed: int, pending: int, unready: int
) -> None:
    limits = Limits(failed_starts=failed, pending_seconds=pending, unready_seconds=unready)
    run = Course(limits=limits, period=period)
    begin = run.now + period
    limit = min(pending, unready) if group.pending else unready
    found = run.look(group, times=int(limit / period) + 3)
    assert found.keep == 0
    assert limit <= run.now - begin + 1e-6
    assert run.now - begin <= limit + period + 1e-6
    assert found.attempts[0].gpu_seconds == pytest.approx(group.gpus * (run.now - begin))
