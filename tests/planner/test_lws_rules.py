"""What needs a newer controller: an error where the stack installs an older one, a warning where nobody knows."""

import pytest

from planner.lws_rules import asked_features, controller_findings, controller_warnings


@pytest.mark.parametrize(
    ("partition", "max_unavailable", "restart_after_start", "paths"),
    [
        (0, 1, False, []),
        (1, 1, False, ["deployment.inference.rollout.partition"]),
        (0, 0, False, ["deployment.inference.rollout.maxUnavailable"]),
        (0, 1, True, ["deployment.inference.lifecycle.groupRestart"]),
    ],
)
def test_each_feature_is_asked_for_by_its_setting(
    partition: int, max_unavailable: int, restart_after_start: bool, paths: list[str]
) -> None:
    asked = asked_features(
        partition=partition, max_unavailable=max_unavailable, restart_after_start=restart_after_start
    )
    assert [feature.path for feature in asked] == paths


def test_an_installed_controller_must_have_it() -> None:
    asked = asked_features(partition=1, max_unavailable=0, restart_after_start=True)
    assert controller_findings(asked, installs=(0, 9, 0)) == controller_findings(asked, installs=None) == []
    first, second = controller_findings(asked, installs=(0, 8, 0))
    assert first.problem == "0 needs LeaderWorkerSet 0.9.0; 0.8.0, which the stack installs, makes no pod at all"
    assert first.fix == "raise deployment.operators.lws.version, or write 1"
    assert second.problem == "afterStart needs LeaderWorkerSet 0.9.0; 0.8.0, which the stack installs, refuses it"


def test_of_a_controller_that_is_there_already_nothing_is_known() -> None:
    asked = asked_features(partition=1, max_unavailable=1, restart_after_start=False)
    assert controller_warnings(asked, installs=(0, 8, 0)) == []
    assert controller_warnings(asked, installs=None) == [
        "deployment.inference.rollout.partition: a partition needs LeaderWorkerSet 0.7.0 in the cluster; an older one "
        "updates all groups"
    ]
