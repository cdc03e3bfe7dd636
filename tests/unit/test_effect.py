"""The effect of an update, in words, and when it may restart groups."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

import pytest

from deepseek_acs.planner.calendar import is_between, latest, upcoming
from deepseek_acs.planner.effect import (
    WIDTH,
    EffectClass,
    GroupUpdate,
    Operation,
    Revision,
    Update,
    classes,
    refusal,
    restarted,
    revisions,
    setting_changes,
    text,
)
from deepseek_acs.planner.spec import ResolvedSpec
from deepseek_acs.planner.starts import MeasuredStarts
from tests.unit.conftest import resolved
from tests.unit.test_updates import stack

SHANGHAI = ZoneInfo("Asia/Shanghai")
SUNDAY = datetime(2026, 11, 29, 15, 40, tzinfo=SHANGHAI)
WEEKDAY_NIGHTS = {"start": "0 1 * * 1-5", "end": "0 6 * * 1-5"}
LONGER: dict[str, Any] = {"inference": {"engine": {"maxModelLen": 4096}}}
DIGEST = "7f3a9c12"
OLD, NEW = "deepseek-r1", "deepseek-r1-v33"


def spec(**inference: Any) -> ResolvedSpec:
    return resolved({"inference": inference})


def operation(action: Any, kind: str, name: str = "x") -> Operation:
    return Operation(action=action, kind=kind, name=name)


CHANGES_GROUP = operation("update", "LeaderWorkerSet", OLD)


def update(
    *operations: Operation,
    groups: Mapping[str, GroupUpdate] | None = None,
    before: Any = LONGER,
    settings: Any = LONGER,
    revisions: Mapping[str, Revision] | None = None,
) -> Update:
    return Update(
        before=before, settings=settings, revisions=revisions or {}, operations=operations, groups=groups or {}
    )


def template(before: int = 2, after: int = 2, **changes: Any) -> GroupUpdate:
    return GroupUpdate(template=True, replicas=(before, after), digest=DIGEST, **changes)


def restart(before: int = 2, after: int = 2, **changes: Any) -> Update:
    return update(CHANGES_GROUP, groups={OLD: template(before, after, **changes)})


def scale(before: int, after: int) -> Update:
    group = GroupUpdate(template=False, replicas=(before, after), digest=DIGEST)
    return update(CHANGES_GROUP, groups={OLD: group})


SCALED = update(CHANGES_GROUP, groups={"deepseek-r1": GroupUpdate(template=True, replicas=None, digest=DIGEST)})
"""A restart of groups whose number an autoscaler sets."""


def said(found: Update, stack: ResolvedSpec) -> dict[str, str]:
    """Lines by label, unwrapped."""
    lines: dict[str, str] = {}
    label = ""
    for line in text(found, stack, now=SUNDAY).splitlines():
        assert len(line) <= WIDTH
        label = line[:10].strip() or label
        lines[label] = f"{lines.get(label, '')} {line[10:]}".strip()
    return lines


class TestClasses:
    @pytest.mark.parametrize(
        ("found", "expected"),
        [
            (operation("replace", "LeaderWorkerSet", OLD), EffectClass.REPLACEMENT),
            (operation("create", "PersistentVolumeClaim"), EffectClass.NEW_VOLUME),
            (operation("replace", "Dataset"), EffectClass.NEW_VOLUME),
            (operation("update", "JindoRuntime"), EffectClass.OTHER_OBJECTS),
            (operation("replace", "Job", "model-upload"), EffectClass.MOVE_OF_WEIGHTS),
            (operation("replace", "Job", "verification-smoke"), EffectClass.OTHER_OBJECTS),
            (operation("update", "Service"), EffectClass.ROUTE),
            (operation("delete", "Ingress"), EffectClass.ROUTE),
            (operation("update", "PrometheusRule"), EffectClass.OTHER_OBJECTS),
        ],
    )
    def test_of_an_object(self, found: Operation, expected: EffectClass) -> None:
        assert classes(update(found), spec()) == (expected,)

    def test_nothing(self) -> None:
        assert classes(update(), spec()) == ()

    def test_another_template_restarts_groups(self) -> None:
        assert classes(restart(), spec()) == (EffectClass.RESTART,)
        assert restarted(template(3, 3), 0) == (0, 3)

    def test_groups_that_are_new_or_leave_are_not_restarted(self) -> None:
        assert restarted(template(1, 3), 0) == (0, 1)
        assert restarted(template(3, 1), 0) == (0, 1)

    def test_nothing_that_does_not_run_is_restarted(self) -> None:
        assert classes(restart(0, 0), spec()) == (EffectClass.OTHER_OBJECTS,)

    def test_a_partition_keeps_the_groups_below_it(self) -> None:
        assert restarted(template(3, 3), 2) == (2, 1)
        assert classes(restart(2, 2), spec(rollout={"partition": 2})) == (EffectClass.OTHER_OBJECTS,)

    def test_how_many_an_autoscaler_has_is_not_known(self) -> None:
        assert restarted(SCALED.groups[OLD], 0) is None
        assert classes(SCALED, spec()) == (EffectClass.RESTART,)

    def test_all_at_once_the_most_severe_first(self) -> None:
        found = update(
            operation("replace", "Job", "model-upload"),
            operation("create", "PersistentVolume"),
            operation("update", "Policy"),
            CHANGES_GROUP,
            groups={OLD: template()},
        )
        assert [effect.value for effect in classes(found, spec())] == [
            *("restart", "new volume", "move of weights", "other objects")
        ]


class TestText:
    def test_a_restart(self) -> None:
        lines = said(restart(), spec(lifecycle={}))
        assert lines["effect"] == "restart"
        assert lines["restart"] == (
            "2 groups, from the highest number down, 1 at a time; ready in 37 to 95 min each, 73 to 211 min "
            "in all, by the plan"
        )
        assert lines["serves"] == "at least 1 of 2 groups at any time"
        assert lines["requests"] == "those under way finish within 600 s; longer ones are cut off"
        assert lines["keeps"] == "weights, volume, Service and route"

    def test_with_measured_starts(self) -> None:
        starts = MeasuredStarts(count=3, seconds=2040, phases={"read": 2040})
        lines = said(restart(), replace(spec(lifecycle={}), starts=starts))
        assert lines["restart"] == (
            "2 groups, from the highest number down, 1 at a time; ready in about 34 min each, 68 to 90 min in "
            "all, as measured"
        )

    def test_of_the_only_group(self) -> None:
        lines = said(restart(1, 1), spec())
        assert lines["serves"] == "none until a new group answers: the endpoint is down"
        assert lines["requests"].startswith("those under way in a group that ends are cut off after 30 s at most")

    def test_with_spare_gpus(self) -> None:
        lines = said(restart(1, 1), spec(rollout={"maxSurge": 1, "maxUnavailable": 0}))
        assert lines["serves"] == "at least 1 of 1 group at any time"

    def test_of_a_part(self) -> None:
        lines = said(restart(3, 3), spec(rollout={"partition": 2}))
        assert lines["restart"].startswith("1 group from number 2 on (partition)")

    def test_under_an_autoscaler(self) -> None:
        lines = said(SCALED, spec())
        assert lines["restart"].startswith("all groups that run")
        assert lines["serves"] == "all groups but 1"

    def test_a_template_that_no_group_has(self) -> None:
        assert said(restart(0, 0), spec())["restart"].startswith("none: no group runs")

    @pytest.mark.parametrize(
        ("before", "after", "expected"),
        [
            (1, 2, "from 1 to 2 groups: adds group 1, ready in 37 to 95 min"),
            (1, 3, "from 1 to 3 groups: adds groups 1 to 2, ready in 37 to 95 min"),
            (3, 2, "from 3 to 2 groups: ends group 2 (the highest), even if busy"),
            (2, 0, "from 2 to 0 groups: ends groups 0 to 1 (the highest), even if busy; the endpoint is down"),
        ],
    )
    def test_another_number(self, before: int, after: int, expected: str) -> None:
        lines = said(scale(before, after), spec())
        assert (lines["effect"], lines["scale"]) == ("scale", expected)

    def test_objects(self) -> None:
        found = update(
            operation("update", "Service"),
            operation("create", "ConfigMap"),
            operation("create", "ConfigMap", "y"),
            operation("delete", "Job"),
            operation("replace", "Secret"),
        )
        lines = said(found, spec())
        assert lines["effect"] == "route, other objects: no pod of a group is restarted"
        labels = ("creates", "changes", "replaces", "deletes")
        assert [lines[label] for label in labels] == ["2 ConfigMap", "Service", "Secret", "Job"]

    def test_nothing(self) -> None:
        lines = said(update(), spec())
        assert lines == {
            "change": "none since the last update that succeeded",
            "effect": "nothing: no object changes, and no pod is restarted",
        }

    def test_a_replacement(self) -> None:
        lines = said(update(operation("replace", "LeaderWorkerSet", OLD)), spec())
        assert lines["effect"] == "replacement"
        assert "need GPUs at the same time" in lines["restart"]
        assert lines["serves"] == "the old groups until the new ones answer"
        assert "keeps" not in lines

    def test_a_first_update(self) -> None:
        found = update(operation("create", "LeaderWorkerSet", OLD), operation("create", "Service"), before=None)
        assert said(found, spec()) == {"effect": "creates the stack: LeaderWorkerSet, Service"}

    def test_what_no_update_has_recorded(self) -> None:
        """An update of an older version of the program."""
        lines = said(update(operation("update", "Service"), before=None), spec())
        assert lines["change"] == "not known: no update has recorded its settings yet"
        assert lines["deletes"] == "not known: no update has recorded its objects yet"
        assert lines["effect"] == "route: no pod of a group is restarted"


class TestCause:
    def test_settings(self) -> None:
        before = {"inference": {"replicas": 1.0, "engine": {"maxModelLen": 2048.0, "extraArgs": ["-x"]}}, "prices": {}}
        after = {"inference": {"replicas": 1, "engine": {"maxModelLen": 4096, "image": "v" * 60}}}
        assert setting_changes(before, after) == [
            "inference.engine.extraArgs removed",
            f"inference.engine.image {'v' * 39}… (new)",
            "inference.engine.maxModelLen 2048 → 4096",
            "prices removed",
        ]

    def test_each_has_a_line(self) -> None:
        shown = text(update(before={"a": 1, "b": {"c": 2}}, settings={"a": 2}), spec(), now=SUNDAY)
        assert shown.startswith("change    a 1 → 2\n          b.c removed\neffect    nothing")

    def test_not_more_than_a_dozen(self) -> None:
        many = {f"setting{number:02}": number for number in range(20)}
        shown = text(update(before={}, settings=many), spec(), now=SUNDAY).splitlines()
        assert shown[11:13] == ["          setting11 11 (new)", "          and 8 more"]

    def test_the_state_has_no_whole_numbers(self) -> None:
        assert setting_changes({"a": [1.0, {"b": 2.0}]}, {"a": [1, {"b": 2}]}) == []

    def test_a_secret(self) -> None:
        found = update(operation("replace", "Secret", "access-api-key"), CHANGES_GROUP, groups={OLD: template()})
        assert said(found, spec())["change"] == "no setting; a secret: access-api-key"

    def test_the_program(self) -> None:
        lines = said(restart(), spec())
        assert lines["change"].startswith("no setting: by the program")
        assert lines["effect"] == "restart"


class TestRevisions:
    """An update by a second LeaderWorkerSet (docs/updates.md)."""

    RECORDED: ClassVar = {
        OLD: Revision(replicas=2, requests=90, is_second=False),
        NEW: Revision(replicas=1, requests=10, is_second=True),
    }

    def test_a_second_one_while_the_first_serves(self) -> None:
        found = update(operation("create", "LeaderWorkerSet", NEW), revisions=revisions(resolved(stack())))
        lines = said(found, resolved(stack(weight=10)))
        assert lines["effect"] == "second revision"
        assert lines["revision"] == (
            f"creates {NEW}: 1 group, ready in 37 to 95 min each; {OLD} serves meanwhile, so GPUs for both are needed"
        )
        assert lines["shares"] == f"{OLD} 100 → 90 %, {NEW} 0 → 10 %"
        assert "restart" not in lines
        assert "requests" not in lines, "none is cut off"

    def test_another_weight_is_of_the_route(self) -> None:
        found = update(operation("update", "HTTPRoute"), revisions=self.RECORDED)
        lines = said(found, resolved(stack(weight=50)))
        assert lines["effect"] == "route: no pod of a group is restarted"
        assert lines["shares"] == f"{OLD} 90 → 50 %, {NEW} 10 → 50 %"

    def test_promotion(self) -> None:
        found = update(
            operation("delete", "LeaderWorkerSet", OLD),
            operation("update", "LeaderWorkerSet", NEW),
            groups={NEW: GroupUpdate(template=False, replicas=(1, 2), digest=DIGEST)},
            revisions=self.RECORDED,
        )
        lines = said(found, resolved(stack(promote=True)))
        assert lines["effect"] == "promotion, scale"
        assert lines["revision"] == f"{NEW} serves from now on; then {OLD} is deleted (2 groups)"
        assert lines["scale"].startswith("from 1 to 2 groups: adds group 1")
        assert lines["requests"] == "those under way finish within 1800 s; longer ones are cut off"
        assert lines["shares"] == f"{OLD} 90 → 0 %, {NEW} 10 → 100 %"

    def test_going_back(self) -> None:
        found = update(operation("delete", "LeaderWorkerSet", NEW), revisions=self.RECORDED)
        lines = said(found, resolved(stack()))
        assert lines["effect"] == "going back"
        assert lines["revision"] == f"gives up {NEW} (1 group): {OLD} serves, and then it is deleted"
        assert lines["shares"] == f"{OLD} 90 → 100 %, {NEW} 10 → 0 %"

    def test_another_revision_without_update_replaces(self) -> None:
        """Nothing serves that was there before."""
        found = update(
            operation("create", "LeaderWorkerSet", NEW),
            operation("delete", "LeaderWorkerSet", OLD),
            revisions=self.RECORDED,
        )
        assert said(found, resolved(stack({"inference": {"revision": "v33"}})))["effect"] == "replacement"

    def test_groups_without_requests_are_restarted_at_any_time(self) -> None:
        confirmed = {"inference": {"rollout": {"restarts": {"allow": "confirmed"}}}}
        found = update(operation("update", "LeaderWorkerSet", NEW), groups={NEW: template(1, 1)})
        weightless = resolved(stack(confirmed, weight=0))
        assert refusal(found, weightless, now=SUNDAY) is None
        lines = said(found, weightless)
        assert lines["effect"] == "restart"
        assert lines["restart"].startswith(f"{NEW}: 1 group; ready in")
        assert lines["serves"] == f"{NEW}: gets no requests yet"
        assert "allowed" not in lines
        old = update(CHANGES_GROUP, groups={OLD: template(1, 1)})
        assert refusal(old, weightless, now=SUNDAY) is not None
        assert said(old, weightless)["serves"] == f"{OLD}: none until a new group answers: the endpoint is down"


class TestByHand:
    FIELDS = (("spec.replicas", "kubectl-scale", "2"), ("spec.x", "kubectl-edit", None))

    def test_what_is_lost_and_what_stays(self) -> None:
        shown = text(restart(by_hand=self.FIELDS), spec(), now=SUNDAY)
        assert "by hand   sets back spec.replicas to 2 (set by kubectl-scale)" in shown
        assert "by hand   keeps spec.x (set by kubectl-edit)" in shown

    def test_not_known(self) -> None:
        assert said(restart(by_hand=None), spec())["by hand"].startswith("not known")


class TestPermission:
    WINDOW: ClassVar[dict[str, Any]] = {"rollout": {"restarts": {"allow": "window", "windows": [WEEKDAY_NIGHTS]}}}

    def test_outside_the_windows(self) -> None:
        found = refusal(restart(), spec(**self.WINDOW), now=SUNDAY)
        assert found is not None
        assert (
            found.problem == "this update restarts 2 groups, and Sun 2026-11-29 15:40 (Asia/Shanghai) is in no window"
        )
        assert (
            found.fix
            == "wait until Mon 2026-11-30 01:00, or write confirm: 7f3a9c12 to let this one change through now"
        )
        assert said(restart(), spec(**self.WINDOW))["allowed"].startswith("no (rollout.restarts, allow: window)")

    def test_within_one(self) -> None:
        assert refusal(restart(), spec(**self.WINDOW), now=SUNDAY.replace(day=30, hour=2)) is None

    @pytest.mark.parametrize("allow", ["window", "confirmed"])
    def test_confirmed(self, allow: str) -> None:
        windows = [WEEKDAY_NIGHTS] if allow == "window" else []
        stack = spec(rollout={"restarts": {"allow": allow, "windows": windows, "confirm": DIGEST}})
        assert refusal(restart(), stack, now=SUNDAY) is None
        assert said(restart(), stack)["allowed"] == f"yes (rollout.restarts, allow: {allow}); digest {DIGEST}"

    def test_another_change_was_confirmed(self) -> None:
        stack = spec(rollout={"restarts": {"allow": "confirmed", "confirm": "00000000"}})
        found = refusal(restart(), stack, now=SUNDAY)
        assert found is not None
        assert found.problem.endswith("which has not been confirmed; confirm: 00000000 is of another change")

    def test_a_replacement_is_one_of_all_groups(self) -> None:
        found = refusal(update(operation("replace", "LeaderWorkerSet", OLD)), spec(**self.WINDOW), now=SUNDAY)
        assert found is not None
        assert "restarts all groups" in found.problem

    @pytest.mark.parametrize(
        "harmless",
        [
            update(operation("update", "Service")),
            restart(0, 0),
            scale(1, 2),
            update(operation("create", "LeaderWorkerSet", OLD), before=None),
        ],
    )
    def test_what_restarts_nothing_needs_none(self, harmless: Update) -> None:
        assert refusal(harmless, spec(**self.WINDOW), now=SUNDAY) is None

    def test_always_by_default(self) -> None:
        assert refusal(restart(), spec(), now=SUNDAY) is None
        assert "allowed" not in said(restart(), spec())


class TestCalendar:
    @pytest.mark.parametrize(
        ("cron", "before", "after"),
        [
            ("0 1 * * 1-5", (2026, 11, 27, 1, 0), (2026, 11, 30, 1, 0)),
            ("*/20 15 * * *", (2026, 11, 29, 15, 40), (2026, 11, 30, 15, 0)),
            ("5/15 15 * * sun", (2026, 11, 29, 15, 35), (2026, 11, 29, 15, 50)),
            ("30 12 29 feb *", (2024, 2, 29, 12, 30), (2028, 2, 29, 12, 30)),
            ("0 0 1 * 0", (2026, 11, 29, 0, 0), (2026, 12, 1, 0, 0)),
        ],
    )
    def test_neighbours(self, cron: str, before: tuple[int, ...], after: tuple[int, ...]) -> None:
        """The last: day and weekday are both restricted, and one is enough."""
        assert latest(cron, SUNDAY) == datetime(*before, tzinfo=SHANGHAI)  # type: ignore[misc, arg-type]
        assert upcoming(cron, SUNDAY) == datetime(*after, tzinfo=SHANGHAI)  # type: ignore[misc, arg-type]

    def test_a_day_that_never_comes(self) -> None:
        assert latest("0 0 30 2 *", SUNDAY) is None
        assert upcoming("0 0 30 2 *", SUNDAY) is None
        assert not is_between("0 0 30 2 *", "0 6 * * *", SUNDAY)

    @pytest.mark.parametrize(("hour", "expected"), [(0, False), (1, True), (5, True), (6, False)])
    def test_between(self, hour: int, expected: bool) -> None:
        assert is_between("0 1 * * *", "0 6 * * *", SUNDAY.replace(hour=hour, minute=30)) is expected

    def test_over_midnight(self) -> None:
        assert is_between("0 23 * * *", "0 2 * * *", SUNDAY.replace(hour=1))
        assert not is_between("0 23 * * *", "0 2 * * *", SUNDAY)
