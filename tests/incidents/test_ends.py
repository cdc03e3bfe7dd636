"""What has ended, and whether it was requested."""

from typing import Any

import pytest

from deepseek_acs.incidents.ends import (
    BY_HAND,
    End,
    before,
    cause,
    containers_of,
    deletion_request,
    ends_of,
    first_of,
    member_of,
    template_digest,
)
from tests.incidents.world import LABELS, deleted, group, pod, terminated


def ended(container: str = "vllm", at: str = "2026-11-29T15:00:10Z", code: int = 1, pod: str = "r1-0") -> End:
    return End(pod=pod, uid=pod, container=container, at=at, code=code, reason="Error")


def quiet(_: End) -> str:
    return ""


def said(end: End, probe: str = "") -> str:
    return cause(end, member=member_of(pod(0, 0)), probe=probe)


@pytest.mark.parametrize(
    ("state", "text"),
    [
        ({"exitCode": 137, "reason": "Error"}, "was killed by signal 9 (SIGKILL)"),
        ({"exitCode": 139, "reason": "Error"}, "was killed by signal 11 (SIGSEGV)"),
        ({"exitCode": 1, "reason": "Error"}, "ended with code 1"),
        ({"exitCode": 0, "reason": "Completed"}, "ended by itself with code 0"),
        ({"exitCode": 255, "reason": "Error"}, "ended with code 255"),
        (
            {"exitCode": 137, "reason": "OOMKilled"},
            "was killed because it needed more memory than its limit of 512Gi",
        ),
        (
            {"exitCode": 128, "reason": "StartError", "message": 'exec: "vllm": not found'},
            'ended with code 128 (StartError: exec: "vllm": not found)',
        ),
    ],
)
def test_why_a_container_ended(state: dict[str, Any], text: str) -> None:
    (end,) = ends_of(pod(0, 0, containerStatuses=[terminated(**state)]), "")
    assert (end.requested, said(end)) == ("", text)


def test_a_failed_check() -> None:
    assert said(ended(code=137), "Liveness probe failed: 3 requests and no progress for 181 s") == (
        "failed its health check (Liveness probe failed: 3 requests and no progress for 181 s), and was killed by "
        "signal 9 (SIGKILL)"
    )


def test_the_end_before_a_restart_is_seen() -> None:
    status = {"name": "vllm", "restartCount": 1, "state": {"running": {}}, **terminated(exitCode=1, key="lastState")}
    (end,) = ends_of(pod(0, 1, containerStatuses=[status]), "")
    assert (end.pod, end.container, end.code) == ("r1-0-1", "vllm", 1)


def test_an_init_container_that_has_done_its_work_has_not_ended() -> None:
    done = {**terminated(exitCode=0), "name": "preflight"}
    assert list(ends_of(pod(0, 0, initContainerStatuses=[done]), "")) == []
    failed = {**terminated(exitCode=3), "name": "preflight"}
    assert [end.container for end in ends_of(pod(0, 0, initContainerStatuses=[failed]), "")] == ["preflight"]


def test_what_ends_after_the_deletion_is_a_consequence() -> None:
    """A pod whose deletion was requested at 15:00:00 with 30 s of grace."""
    late = terminated(exitCode=137, finishedAt="2026-11-29T15:00:07Z")
    (end,) = ends_of(deleted(pod(0, 0, containerStatuses=[late]), at="2026-11-29T15:00:30Z"), "an update")
    assert (end.container, end.at, end.requested) == ("", "2026-11-29T15:00:00Z", "an update")
    early = terminated(exitCode=137, finishedAt="2026-11-29T14:59:59Z")
    both = list(ends_of(deleted(pod(0, 0, containerStatuses=[early]), at="2026-11-29T15:00:30Z"), "an update"))
    assert [one.container for one in both] == ["vllm", ""]


@pytest.mark.parametrize(
    ("reason", "text", "requested"),
    [
        ("DeletionByTaintManager", "was deleted because its node was lost or tainted: said by the cluster", False),
        ("PreemptionByScheduler", "was deleted for a pod of higher priority: said by the cluster", False),
        ("EvictionByEvictionAPI", "was deleted, as requested by an eviction", True),
    ],
)
def test_disruptions(reason: str, text: str, *, requested: bool) -> None:
    condition = {"type": "DisruptionTarget", "status": "True", "reason": reason, "message": "said by the cluster"}
    (end,) = ends_of(deleted(pod(0, 0, conditions=[condition])), BY_HAND)
    assert (said(end), bool(end.requested)) == (text, requested)


def test_a_node_that_runs_out_of_memory() -> None:
    evicted = pod(0, 0, phase="Failed", reason="Evicted", message="The node was low on resource: memory.")
    (end,) = ends_of(evicted, "")
    assert said(end) == "was ended by its node (Evicted): The node was low on resource: memory."


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (None, "the deletion of the LeaderWorkerSet"),
        (group(deletionTimestamp="2026-11-29T15:00:00Z"), "the deletion of the LeaderWorkerSet"),
        (group(replicas=1), "a scale-down to 1 groups by costguard"),
        (group(replicas=2, image="b"), "an update of the pod template"),
        (group(replicas=2), BY_HAND),
    ],
)
def test_what_requested_a_deletion(found: dict[str, Any] | None, text: str) -> None:
    assert deletion_request(member_of(pod(1, 0)), found, template_digest(group())) == text
    assert deletion_request(member_of(pod(1, 0)), group(replicas=2, image="b"), None) == BY_HAND


class TestFirst:
    def test_the_earliest(self) -> None:
        late, early = ended(at="2026-11-29T15:00:11Z"), ended(pod="r1-0-1", at="2026-11-29T15:00:10Z")
        assert first_of([late, early], quiet) is early

    def test_within_a_second_the_one_that_was_killed(self) -> None:
        failed, killed = ended(), ended(pod="r1-0-1", code=137)
        assert first_of([failed, killed], quiet) is killed

    def test_then_the_one_that_was_seen_first(self) -> None:
        ends = [ended(), ended(pod="r1-0-1")]
        assert first_of(ends, quiet) is ends[0]

    def test_before_that_the_one_that_was_silent_first(self) -> None:
        """A leader with a wrong argument, whose worker sees it go, and whose node reports sooner."""
        told, failed = ended(pod="r1-0-1"), ended(code=2)
        lines = {
            "r1-0": "2026-11-29T15:00:10.063039857Z error: invalid choice",
            "r1-0-1": "2026-11-29T15:00:10.217897892Z the leader has gone",
        }
        assert first_of([told, failed], lambda end: lines[end.pod]) is failed

    def test_a_deletion_that_was_seen_first(self) -> None:
        deletion = End(pod="r1-0", uid="u", container="", at="2026-11-29T15:00:10Z", code=None, reason="Deleted")
        assert first_of([deletion, ended(pod="r1-0-1", code=137, at="2026-11-29T15:00:09Z")], quiet) is deletion
        crashed = ended(at="2026-11-29T15:00:10Z")
        assert first_of([crashed, deletion], quiet) is crashed


def test_lines_of_a_restarted_container_are_told_apart() -> None:
    lines = ["2026-11-29T15:00:10.9Z a", "2026-11-29T23:00:10.9+08:00 b", "2026-11-29T15:00:11.0Z c"]
    assert before(lines, ended()) == lines[:2]


def test_members_keep_what_later_states_do_not_show() -> None:
    ready = [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-29T14:00:00Z"}]
    before = member_of(pod(0, 0, conditions=ready, podIP="10.0.0.1"))
    after = member_of(pod(0, 0, podIP=""), before)
    assert (after.ready_since, after.address) == ("2026-11-29T14:00:00Z", "10.0.0.1")
    assert (after.group, after.worker, after.revision, after.is_leader) == ("0", "0", "1", True)
    assert pod(0, 0)["metadata"]["labels"][f"{LABELS}/name"] == "r1"


def test_a_log_is_there_once_a_container_has_run() -> None:
    waiting = {"name": "vllm", "state": {"waiting": {"reason": "ContainerCreating"}}}
    running = {"name": "sidecar", "containerID": "containerd://1", "state": {"running": {}}}
    assert containers_of(pod(0, 0, containerStatuses=[waiting, running])) == ["sidecar"]
