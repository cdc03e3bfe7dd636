"""The tests of all ways in which a group can end. A module for each engine has the fixture ``ends``, and a class with
the two faults that depend on the engine."""

from typing import Any

import pytest

from tests.e2e.ends import LEADER, WORKER, Ends

Template = dict[str, Any]


def leader_of(template: Template) -> Template:
    """The engine's container."""
    (container,) = template["leaderTemplate"]["spec"]["containers"]
    found: Template = container
    return found


def give_up_lost_nodes_soon(template: Template) -> None:
    """Instead of after the five minutes that Kubernetes waits by default."""
    kinds = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
    tolerations = [{"key": kind, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1} for kind in kinds]
    for role in ("leaderTemplate", "workerTemplate"):
        template[role]["spec"]["tolerations"] = tolerations


class GroupEnds:
    """In the order of the file. Each test begins with a group that serves. Most are for ``make faults``, also with the
    small server: they take a minute each."""

    @pytest.fixture(autouse=True)
    def _serves(self, ends: Ends) -> None:
        ends.ready()

    def give_too_little_memory(self, template: Template) -> None:
        raise NotImplementedError

    def give_a_wrong_argument(self, template: Template) -> None:
        raise NotImplementedError

    def test_a_rank_is_killed(self, ends: Ends) -> None:
        # The program has read the engine's requests before it lists the start.
        ends.until(lambda: bool(ends.starts()), "no start is listed")
        ends.process(WORKER).kill()
        entry = ends.next(requested=False)
        assert (entry["pod"], entry["container"]) == (WORKER, "vllm")
        assert entry["cause"] == "was killed by signal 9 (SIGKILL)"
        report = ends.report(entry)
        for pod in (LEADER, WORKER):
            assert f"== {pod}, container vllm, on virtual-kubelet-" in report
        assert "code      137" in report
        assert "template  unknown" not in report
        assert "ready     for 0:" in report
        assert "requests  0 running and 0 waiting at " in report

    def test_the_watcher_is_killed_with_the_rank(self, ends: Ends) -> None:
        watcher = ends.watcher()
        ends.process(WORKER).kill()
        watcher.kill()
        entry = ends.next(requested=False)
        assert entry["pod"] == WORKER
        # Which one depends on who is faster, the watcher or LeaderWorkerSet, which deletes the pod.
        assert "signal 9" in entry["cause"] or "failed while the watcher did not run" in entry["cause"]
        assert f"== {WORKER}, container vllm, on virtual-kubelet-" in ends.reports()[-1]

    @pytest.mark.faults
    def test_the_container_ends_with_code_0(self, ends: Ends) -> None:
        with ends.changed(lambda template: leader_of(template).update(command=["sh", "-c", "sleep 5"])):
            assert "an update of the pod template" in ends.next(requested=True)["cause"]
            entry = ends.next(requested=False)
        assert (entry["pod"], entry["cause"]) == (LEADER, "ended by itself with code 0")

    @pytest.mark.faults
    def test_a_wrong_argument(self, ends: Ends) -> None:
        with ends.changed(self.give_a_wrong_argument):
            entry = ends.next(requested=False)
        assert (entry["pod"], entry["cause"]) == (LEADER, "ended with code 2")
        assert "never: the group ended before it was ready" in ends.report(entry)

    @pytest.mark.faults
    def test_too_little_memory(self, ends: Ends) -> None:
        with ends.changed(self.give_too_little_memory):
            entry = ends.next(requested=False)
        assert entry["pod"] == LEADER
        assert "needed more memory than its limit" in entry["cause"]

    @pytest.mark.faults
    def test_the_process_stops(self, ends: Ends) -> None:
        ends.process(LEADER).suspend()
        entry = ends.next(requested=False)
        assert (entry["pod"], entry["container"]) == (LEADER, "vllm")
        assert "failed its health check" in entry["cause"]

    @pytest.mark.faults
    def test_a_pod_is_deleted_by_hand(self, ends: Ends) -> None:
        ends.project.core.delete_namespaced_pod(WORKER, ends.project.namespace)
        entry = ends.next(requested=True)
        assert entry["pod"] == WORKER
        assert entry["cause"] == "was deleted, as requested by a deletion of the pod, by hand or by another program"

    @pytest.mark.faults
    def test_an_update(self, ends: Ends) -> None:
        def annotate(template: Template) -> None:
            template["leaderTemplate"]["metadata"].setdefault("annotations", {})["example.com/a"] = "1"

        with ends.changed(annotate):
            entry = ends.next(requested=True)
            assert entry["pod"] == LEADER
            assert "an update of the pod template" in entry["cause"]
            ends.ready()
        ends.next(requested=True)

    @pytest.mark.faults
    def test_a_scale_down(self, ends: Ends) -> None:
        ends.scale(0)
        entry = ends.next(requested=True)
        # Without the manager's name: the API server notes no owner of 0.
        assert (entry["pod"], entry["cause"]) == (LEADER, "was deleted, as requested by a scale-down to 0 groups")
        ends.scale(1)

    @pytest.mark.faults
    def test_a_kubelet_stops(self, ends: Ends) -> None:
        with ends.changed(give_up_lost_nodes_soon):
            ends.next(requested=True)
            ends.ready()
            kubelet = ends.kubelet(ends.project.pods()[WORKER].spec.node_name)
            kubelet.suspend()
            try:
                entry = ends.next(requested=False)
            finally:
                kubelet.resume()
        assert entry["pod"] == WORKER
        assert entry["cause"].startswith("was deleted because its node was lost")

    def test_verify_and_an_output_name_the_last_one(self, ends: Ends) -> None:
        said = " ".join(ends.project.run("verify").split())
        # Its lines are wrapped, and the first of them ends with the time that the step took.
        assert f"last incident: {ends.last()[:40]}" in said
        assert "pulumi stack output incidentsCommand" in said
        assert "The endpoint answers." in said
        command = ends.project.pulumi("stack", "output", "incidentsCommand")
        assert "get configmap deepseek-r1-incidents -o go-template=" in command
