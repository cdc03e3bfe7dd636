"""The gate on an API server whose LeaderWorkerSet rolls as LeaderWorkerSet does."""

import dataclasses
import itertools
import json
from typing import Any

import pytest

from deepseek_acs.apiserver import ApiError, DeniedError
from deepseek_acs.gate.gate import RefusedError
from deepseek_acs.gate.judgement import Measured, Speed
from deepseek_acs.gate.record import GROUPS_MAX, Record, accepted, merge_patch, previous, with_accepted
from tests.gate.world import GOOD, A, Answers, B, KilledError, World, gate, merged, template_hash

BAD = dataclasses.replace(GOOD, passed=10, example='"What is 17 + 25?": "!!!!"')


def with_record(world: World) -> Record:
    """The world after the first template was accepted."""
    gate(world, Answers(world, {"a": GOOD}), "aaaaaaaa").run()
    world.moves.clear()
    world.events.clear()
    return world.accepted()


def test_the_first_record() -> None:
    world = World()
    world.partition = 3
    answers = Answers(world, {"a": GOOD})
    assert gate(world, answers, "aaaaaaaa").run().startswith("template aaaaaaaa is accepted: 19 of 20 questions")
    assert answers.asked == ["10.0.0.2"]
    assert (world.partition, world.events[0][0]) == (0, "GatePassed")
    record = world.accepted()
    assert (record.template_digest, record.revision) == ("aaaaaaaa", template_hash(A))
    assert (record.template, record.image_digest) == (A, f"image@{template_hash(A)}")
    assert (record.asked, record.passed, record.tokens_per_second) == (20, 19, 40)
    assert record.accepted_at == "2025-11-29T00:00:05Z"


def test_the_others_follow_when_the_first_one_has_passed() -> None:
    world = World()
    with_record(world)
    world.apply(B)
    answers = Answers(world, {"b": GOOD})
    gate(world, answers, "bbbbbbbb").run()
    assert world.moves == [2, 0]
    assert answers.asked == ["10.0.0.2"]
    assert world.revisions == [template_hash(B)] * 3
    assert world.accepted().template_digest == "bbbbbbbb"
    assert json.loads(world.data["previous.r1"])["template_digest"] == "aaaaaaaa"


def test_no_other_group_is_updated_before() -> None:
    world = World()
    with_record(world)
    world.apply(B)
    seen = []

    class Watching(Answers):
        def examine(self, host: str, known: Record | None) -> Measured:
            seen.append(world.revisions)
            return super().examine(host, known)

    gate(world, Watching(world, {"b": GOOD}), "bbbbbbbb").run()
    assert seen == [[template_hash(A), template_hash(A), template_hash(B)]]


def test_a_bad_template_is_put_back() -> None:
    world = World()
    record = with_record(world)
    world.apply(B)
    with pytest.raises(RefusedError, match=r"10 of 20 questions were answered rightly, and atLeast is 0.9") as refused:
        gate(world, Answers(world, {"b": BAD}), "bbbbbbbb").run()
    assert "template aaaaaaaa is put back; the groups run the accepted template again" in str(refused.value)
    assert (world.template, world.partition) == (record.template, 0)
    world.sleep(1)
    assert world.revisions == [template_hash(A)] * 3
    assert world.accepted() == record
    assert [reason for reason, _ in world.events] == ["GateReturned"]
    assert json.loads(world.data["refused"])["template_digest"] == "bbbbbbbb"


def test_a_conflict_while_it_is_put_back() -> None:
    class Busy(World):
        conflicts = 2

        def patch(self, path: str, body: Any) -> bool:
            if "leaderWorkerTemplate" in body.get("spec", {}) and self.conflicts:
                self.conflicts -= 1
                self.generation += 1
                raise ApiError("409 Conflict")
            return super().patch(path, body)

    world = Busy()
    with_record(world)
    world.apply(B)
    answers = Answers(world, {"b": BAD})
    with pytest.raises(RefusedError, match="template aaaaaaaa is put back"):
        gate(world, answers, "bbbbbbbb").run()
    assert (world.template, len(answers.asked), world.conflicts) == (A, 1, 0)


def test_the_same_settings_again_change_nothing() -> None:
    """Pulumi's state has the refused template, so it applies nothing."""
    world = World()
    with_record(world)
    world.apply(B)
    for _ in range(2):
        answers = Answers(world, {"b": BAD})
        with pytest.raises(RefusedError, match="pulumi up --refresh tries these once more"):
            gate(world, answers, "bbbbbbbb").run()
    assert (world.template, answers.asked) == (A, [])


def test_the_old_settings_pass_without_asking() -> None:
    world = World()
    with_record(world)
    world.apply(B)
    with pytest.raises(RefusedError):
        gate(world, Answers(world, {"b": BAD}), "bbbbbbbb").run()
    world.apply(A)
    answers = Answers(world, {})
    gate(world, answers, "aaaaaaaa").run()
    assert (answers.asked, world.partition) == ([], 0)
    assert "refused" not in world.data


def test_the_refused_template_applied_again_is_asked_again() -> None:
    world = World()
    with_record(world)
    world.apply(B)
    with pytest.raises(RefusedError):
        gate(world, Answers(world, {"b": BAD}), "bbbbbbbb").run()
    world.apply(B)
    gate(world, Answers(world, {"b": GOOD}), "bbbbbbbb").run()
    assert world.accepted().template_digest == "bbbbbbbb"
    assert "refused" not in world.data


def test_hold() -> None:
    world = World()
    with_record(world)
    world.apply(B)
    with pytest.raises(RefusedError, match="no further group is updated, and nothing that the others use is deleted"):
        gate(world, Answers(world, {"b": BAD}), "bbbbbbbb", returns=False).run()
    world.sleep(60)
    assert (world.template, world.partition) == (B, 2)
    assert world.revisions == [template_hash(A), template_hash(A), template_hash(B)]
    assert world.events[-1][0] == "GateHeld"


def test_without_a_record_there_is_nothing_to_go_back_to() -> None:
    world = World()
    with pytest.raises(RefusedError, match="no further group is updated"):
        gate(world, Answers(world, {"a": BAD}), "aaaaaaaa").run()
    assert world.template == A
    assert accepted(world.data, "r1") is None


def test_a_group_that_does_not_become_ready() -> None:
    world = World()
    with_record(world)
    world.never_ready.add(template_hash(B))
    world.apply(B)
    with pytest.raises(RefusedError, match="the first new group was not ready within 10 min"):
        gate(world, Answers(world, {}), "bbbbbbbb").run()
    assert world.template == A


def test_no_group_to_ask() -> None:
    world = World()
    with_record(world)
    world.apply(B)
    world.replicas = 0
    with pytest.raises(RefusedError, match="r1 is scaled to 0, so there is no group to ask"):
        gate(world, Answers(world, {}), "bbbbbbbb").run()
    assert world.template == B, "an autoscaler gives no reason to go back"


def test_an_autoscaler_may_have_another_number() -> None:
    world = World(replicas=2)
    with_record(world)
    world.apply(B, partition=5)
    gate(world, Answers(world, {"b": GOOD}), "bbbbbbbb").run()
    assert world.moves == [1, 0]


def test_a_change_while_the_group_is_asked() -> None:
    world = World()
    with_record(world)
    world.apply(B)

    class Changing(Answers):
        def examine(self, host: str, known: Record | None) -> Measured:
            found = super().examine(host, known)
            if len(self.asked) == 1:
                world.apply({**B, "size": 4}, partition=2)
            return found

    answers = Changing(world, {"b": GOOD})
    gate(world, answers, "bbbbbbbb").run()
    assert len(answers.asked) == 2
    assert world.accepted().template["size"] == 4


def test_other_questions_are_asked_again() -> None:
    world = World()
    with_record(world)
    answers = Answers(world, {"a": GOOD})
    answers.exam = "e2"
    gate(world, answers, "aaaaaaaa").run()
    assert (answers.asked, world.accepted().exam) == (["10.0.0.2"], "e2")
    assert previous(world.data, "r1") is None


def test_other_questions_that_the_accepted_template_does_not_answer() -> None:
    world = World()
    record = with_record(world)
    answers = Answers(world, {"a": BAD})
    answers.exam = "e2"
    with pytest.raises(RefusedError, match="no further group is updated"):
        gate(world, answers, "aaaaaaaa").run()
    assert (world.template, world.accepted()) == (A, record)


def test_a_controller_that_does_not_say_what_it_has_seen() -> None:
    world = World(says_generation=False)
    with_record(world)
    world.apply(B)
    gate(world, Answers(world, {"b": GOOD}), "bbbbbbbb").run()
    assert world.revisions == [template_hash(B)] * 3


def test_a_template_that_means_the_same_is_the_accepted_one() -> None:
    """After an upgrade, an API server may add defaults to the template, and LeaderWorkerSet compares without them."""
    world = World()
    with_record(world)
    world.data["accepted.r1"] = json.dumps({**json.loads(world.data["accepted.r1"]), "template": {"size": 2}})
    answers = Answers(world, {})
    gate(world, answers, "aaaaaaaa").run()
    assert answers.asked == []


def test_the_groups_of_a_second_revision_are_compared_with_the_first() -> None:
    world = World(replicas=1)
    first = Record(**{**vars(with_record(world)), "tokens_per_second": 80})
    world.data = {"accepted.r0": first.text()}
    slow = dataclasses.replace(GOOD, speed=Speed(first_token_seconds=0.5, tokens_per_second=40))
    with pytest.raises(RefusedError, match=r"40.0 tokens/s came, and 80.0 by the accepted template") as refused:
        gate(world, Answers(world, {"a": slow}), "aaaaaaaa", baseline="r0", returns=False).run()
    assert "the requests stay where they are" in str(refused.value)
    assert world.moves == []
    fast = dataclasses.replace(GOOD, speed=Speed(first_token_seconds=0.5, tokens_per_second=80))
    gate(world, Answers(world, {"a": fast}), "aaaaaaaa", baseline="r0", returns=False).run()
    assert world.accepted().template_digest == "aaaaaaaa"
    assert accepted(world.data, "r0") == first


def test_an_api_server_that_fails_for_a_while() -> None:
    world = World()
    world.fails = 5
    gate(world, Answers(world, {"a": GOOD}), "aaaaaaaa").run()
    assert world.accepted()


def test_missing_rights_end_it() -> None:
    class Denied(World):
        def patch(self, path: str, body: object) -> bool:
            raise DeniedError("403")

    world = Denied()
    world.partition = 3
    with pytest.raises(DeniedError):
        gate(world, Answers(world, {"a": GOOD}), "aaaaaaaa").run()


@pytest.mark.parametrize("measured", [GOOD, BAD])
def test_killed_at_any_change(measured: Measured) -> None:
    """The next pod ends where one that was not killed would have."""
    for changes in itertools.count():
        world = World()
        record = with_record(world)
        world.apply(B)
        world.kill_after = changes
        answers = Answers(world, {"b": measured})
        try:
            gate(world, answers, "bbbbbbbb").run()
            killed = False
        except RefusedError:
            killed = False
        except KilledError:
            killed = True
        world.kill_after = None
        if killed:
            try:
                gate(world, answers, "bbbbbbbb").run()
                refused = False
            except RefusedError:
                refused = True
            assert refused is (measured is BAD), f"killed at change {changes}"
        world.sleep(1)
        wanted = A if measured is BAD else B
        assert (world.template, world.partition) == (wanted, 0)
        assert world.revisions == [template_hash(wanted)] * 3
        assert world.accepted().template_digest == ("aaaaaaaa" if measured is BAD else "bbbbbbbb")
        assert (world.accepted() == record) is (measured is BAD)
        if not killed:
            assert changes > 2
            return


def test_records_of_few_groups_are_kept() -> None:
    data: dict[str, str] = {}
    for number in range(GROUPS_MAX + 3):
        record = Record(
            template_digest=f"{number}",
            image_digest="",
            revision="",
            exam="",
            asked=1,
            passed=1,
            first_token_seconds=None,
            tokens_per_second=None,
            accepted_at=f"2026-01-0{number + 1}",
            template={},
        )
        changed = {**data, **with_accepted(data, f"r{number}", record)}
        data = {name: value for name, value in changed.items() if value is not None}
    assert sorted(data) == [f"accepted.r{number}" for number in range(3, GROUPS_MAX + 3)]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (A, B),
        ({"a": {"b": 1, "c": 2}, "d": [1, 2]}, {"a": {"c": 3}, "d": [2], "e": {"f": 1}}),
        ({"a": 1}, {"a": {"b": 1}}),
        ({"a": {"b": 1}}, {}),
    ],
)
def test_a_merge_patch_makes_the_other_object(before: object, after: object) -> None:
    assert merged(before, merge_patch(before, after)) == after


def test_an_edited_record_is_none() -> None:
    assert accepted({"accepted.r1": "{"}, "r1") is None
    assert accepted({"accepted.r1": '{"template": {}}'}, "r1") is None
