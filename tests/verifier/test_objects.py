"""Each way in which the cluster's objects can be wrong, and the layer that is named for it."""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from deepseek_acs.verifier.cluster import ApiServer
from deepseek_acs.verifier.objects import INFERENCE, Objects
from deepseek_acs.verifier.outside import verify_outside
from deepseek_acs.verifier.pods import trouble
from deepseek_acs.verifier.results import FaultError, Layer, Report, SkippedError
from deepseek_acs.verifier.target import Target, TargetError
from tests.verifier.world import (
    CLAIM,
    DATASET,
    EVENTS,
    GROUP,
    KUBECTL,
    LOADS,
    NAME,
    PODS,
    SERVICE,
    SLICES,
    TARGET,
    FakeCluster,
    healthy,
    pod,
)

REPORTS = "/api/v1/namespaces/n/configmaps/r1-incidents"

Change = Callable[[dict[str, Any]], object]


def objects(change: Change = lambda found: None) -> Objects:
    found = healthy()
    change(found)
    return Objects(cluster=FakeCluster(found), target=TARGET)


def fault(check: Callable[[], object]) -> FaultError:
    with pytest.raises(FaultError) as raised:
        check()
    return raised.value


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}}
    return {"phase": "Pending", "containerStatuses": [{"name": "vllm", "ready": False, "state": state}]}


class TestHealthy:
    def test_each_check_says_what_it_found(self) -> None:
        found = objects()
        assert found.group().text == "r1: 1 of 1 replicas ready, Available"
        assert found.pods().text == "2 pods ready, 1 of them leaders"
        assert found.storage().text == "the claim model is bound"
        assert found.service().text == "leaders:80 selects leaders only, ready: 1"
        assert found.service().value == 8000, "the leader's port, not the Service's"
        assert [leader["metadata"]["name"] for leader in found.ready_leaders()] == ["r1-0"]

    def test_cache_is_part_of_storage(self) -> None:
        dataset = {"status": {"phase": "Bound", "cacheStates": {"cachedPercentage": "100.0%"}}}
        load = {"metadata": {"name": "l"}, "spec": {"dataset": {"name": "model"}}, "status": {"phase": "Complete"}}
        found = objects(lambda all_: all_.update({DATASET: dataset, LOADS: {"items": [load]}}))
        assert found.storage().text == "the claim model is bound, its cache filled to 100.0%"


class TestIncidents:
    def said(self, *config_maps: dict[str, Any]) -> str:
        return objects(lambda all_: all_.update(dict.fromkeys([REPORTS], *config_maps))).incidents().text

    def test_none_so_far(self) -> None:
        assert self.said({}) == "no incident so far"

    def test_the_last_one_is_named_without_a_fault(self) -> None:
        assert self.said({"data": {"last": "2026-11-29T15:00:00Z group 0: r1-0 ended with code 1"}}) == (
            "last incident: 2026-11-29T15:00:00Z group 0: r1-0 ended with code 1; its report: pulumi stack output "
            "incidentsCommand"
        )

    def test_without_its_config_map(self) -> None:
        with pytest.raises(SkippedError, match=r"ConfigMap r1-incidents .* is gone: pulumi up --refresh"):
            objects().incidents()

    @pytest.mark.parametrize(("outputs", "asked"), [({"incidents": "r1-incidents"}, True), ({}, False)])
    def test_only_a_stack_that_keeps_them_is_asked(self, outputs: dict[str, Any], *, asked: bool) -> None:
        known = {"model": "m", "namespace": "n", "group": "r1", "serviceDnsName": "leaders.n", "servicePort": 80}
        assert Target.of_outputs({**known, **outputs}).keeps_incidents is asked


POOL = f"{INFERENCE}/namespaces/n/inferencepools/r1"


class TestPool:
    def pool(self, *conditions: dict[str, str], parents: int = 1, ready: bool = True) -> Objects:
        parent = {"parentRef": {"name": "shared"}, "conditions": list(conditions)}
        found = {
            "spec": {"endpointPickerRef": {"name": "r1-epp"}},
            "status": {"parents": [parent] * parents} if parents else {},
        }
        cluster = {POOL: found, SLICES: {"items": [{"endpoints": [{"conditions": {"ready": ready}}]}]}}
        return Objects(cluster=FakeCluster(cluster), target=dataclasses.replace(TARGET, pool="r1"))

    def test_accepted(self) -> None:
        found = self.pool({"type": "Accepted", "status": "True"}, {"type": "ResolvedRefs", "status": "True"}).pool()
        assert found.text == "the InferencePool r1 is accepted, its endpoint picker r1-epp is ready"

    def test_absent(self) -> None:
        gone = Objects(cluster=FakeCluster({}), target=dataclasses.replace(TARGET, pool="r1"))
        found = fault(gone.pool)
        assert (found.layer, found.problem) == (Layer.SERVICE, "the InferencePool r1 does not exist")
        assert found.fix == "pulumi up"

    def test_no_picker(self) -> None:
        found = fault(self.pool({"type": "Accepted", "status": "True"}, ready=False).pool)
        assert "no endpoint picker is ready behind the Service r1-epp" in found.problem
        assert found.fix == f"{KUBECTL} describe deployment r1-epp"

    def test_no_gateway(self) -> None:
        found = fault(self.pool(parents=0).pool)
        assert found.problem == "no Gateway has taken the InferencePool r1: its controller may not support it"

    def test_refused(self) -> None:
        refused = {"type": "ResolvedRefs", "status": "False", "message": "Service r1-epp not found"}
        found = fault(self.pool({"type": "Accepted", "status": "True"}, refused).pool)
        assert found.problem == "the InferencePool r1 is not ResolvedRefs: Service r1-epp not found"
        assert found.fix == f"{KUBECTL} describe inferencepool r1"

    @pytest.mark.parametrize(("outputs", "name"), [({"inferencePool": "r1"}, "r1"), ({}, None)])
    def test_only_a_stack_that_has_one_is_asked(self, outputs: dict[str, Any], name: str | None) -> None:
        known = {"model": "m", "namespace": "n", "group": "r1", "serviceDnsName": "leaders.n", "servicePort": 80}
        assert Target.of_outputs({**known, **outputs}).pool == name


class TestNewGroup:
    """A second revision next to the first."""

    STATUS = "/api/v1/namespaces/n/configmaps/r1-canaryguard"

    def new(self, change: Change = lambda found: None) -> Objects:
        found = healthy()
        found[f"{GROUP}-v33"] = found[GROUP]
        change(found)
        target = replace(TARGET, new_group="r1-v33", new_group_guard="r1-canaryguard")
        return Objects(cluster=FakeCluster(found), target=target)

    def test_it_is_ready(self) -> None:
        assert self.new().new_group().text == "r1-v33: 1 of 1 replicas ready, Available"

    def test_absent(self) -> None:
        found = fault(self.new(lambda all_: all_.pop(f"{GROUP}-v33")).new_group)
        assert found.problem == "there is no LeaderWorkerSet r1-v33 in the namespace n"

    def test_it_has_lost_its_requests(self) -> None:
        status = {"data": {"putBack": "weight of leader-v33 set from 10 to 0: 9 of 20"}}
        found = fault(self.new(lambda all_: all_.update({self.STATUS: status})).new_group)
        assert found.layer is Layer.GROUP
        assert found.problem == ("r1-v33 gets no requests any more: weight of leader-v33 set from 10 to 0: 9 of 20")
        assert found.fix == "remove the cause, or deployment.update: docs/updates.md#the-automatic-way-back"

    def test_the_outputs_name_it(self) -> None:
        update = {"group": "r1-v33", "weight": 10, "guard": None}
        found = Target.of_outputs({**TestTarget.OUTPUTS, "update": update})
        assert (found.new_group, found.new_group_guard) == ("r1-v33", None)


ACCEPTED = {"template_digest": "ab12cd34", "accepted_at": "2026-11-29T00:00:00Z"}


class TestGate:
    """What the gate has written."""

    STORE = "/api/v1/namespaces/n/configmaps/r1-known-good"

    def gated(self, **data: Any) -> Objects:
        found = {self.STORE: {"data": {key: json.dumps(value) for key, value in data.items()}}}
        return Objects(cluster=FakeCluster(found), target=replace(TARGET, records="r1-known-good"))

    def test_accepted(self) -> None:
        found = self.gated(**{"accepted.r1": ACCEPTED}).gate()
        assert found.text == "template ab12cd34 was accepted 2026-11-29T00:00:00Z"

    def test_nothing_yet(self) -> None:
        with pytest.raises(SkippedError, match="no template of r1 has passed the gate yet"):
            self.gated().gate()

    @pytest.mark.parametrize(
        ("action", "done"), [("returned", "the accepted template was put back"), ("held", "the update is held")]
    )
    def test_refused(self, action: str, done: str) -> None:
        refused = {"template_digest": "ef56ab78", "action": action, "why": "9 of 20", "refused_at": ""}
        found = fault(self.gated(refused=refused, **{"accepted.r1": ACCEPTED}).gate)
        assert (found.layer, found.problem) == (
            Layer.GROUP,
            f"template ef56ab78 did not pass the gate: 9 of 20; {done}",
        )
        assert found.fix == "write other settings, then pulumi up: docs/known-good.md#after-a-refusal"

    def test_the_outputs_name_the_records(self) -> None:
        assert Target.of_outputs(TestTarget.OUTPUTS).records is None
        found = Target.of_outputs({**TestTarget.OUTPUTS, "knownGoodStore": "r1-known-good"})
        assert found.records == "r1-known-good"


class TestGroup:
    def test_absent(self) -> None:
        found = fault(objects(lambda all_: all_.pop(GROUP)).group)
        assert found.layer is Layer.GROUP
        assert found.problem == "there is no LeaderWorkerSet r1 in the namespace n"
        assert found.fix == "pulumi up"

    def test_scaled_to_zero(self) -> None:
        found = fault(objects(lambda all_: all_[GROUP]["spec"].update(replicas=0)).group)
        assert found.problem == "r1 is scaled to 0: nothing serves"
        assert "inference.replicas" in found.fix

    def test_given_up(self) -> None:
        status = {"data": {"givenUp": "scaled from 1 to 0 groups", "keep": "0"}}

        def change(all_: dict[str, Any]) -> None:
            all_[GROUP]["spec"].update(replicas=0)
            all_["/api/v1/namespaces/n/configmaps/r1-costguard"] = status

        found = fault(objects(change).group)
        assert (found.layer, found.problem) == (Layer.GROUP, "r1 was given up: scaled from 1 to 0 groups")
        assert found.fix == "remove the cause, then start it again: docs/cost.md#starting-again"

    def test_held_back(self) -> None:
        def change(all_: dict[str, Any]) -> None:
            all_[GROUP]["spec"].update(replicas=0)
            all_["/api/v1/namespaces/n/configmaps/r1-costguard"] = {"data": {"heldBack": "scaled to 0 for 60 s"}}

        found = fault(objects(change).group)
        assert (found.layer, found.problem) == (Layer.GROUP, "r1 is held back: scaled to 0 for 60 s")
        assert found.fix == "find out why its starts fail (docs/runbook.md); it is started again by itself"

    def test_replica_is_missing(self) -> None:
        found = fault(objects(lambda all_: all_[GROUP]["spec"].update(replicas=3)).group)
        assert found.problem == "r1: 1 of 3 replicas ready, Available"
        assert found.fix == f"{KUBECTL} describe leaderworkerset r1"

    def test_condition_is_not_there_yet(self) -> None:
        found = fault(objects(lambda all_: all_[GROUP].update(status={})).group)
        assert found.problem == "r1: 0 of 1 replicas ready, not Available"


class TestPods:
    def one(self, *events: str, **status: Any) -> FaultError:
        def change(found: dict[str, Any]) -> None:
            found[PODS]["items"][1] = pod("r1-0-1", 1, **status)
            parts = (one.partition(": ") for one in events)
            found[EVENTS] = {"items": [{"reason": reason, "message": message} for reason, _, message in parts]}

        return fault(objects(change).pods)

    def test_no_place(self) -> None:
        condition = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes: Insufficient nvidia.com/gpu"}
        found = self.one(phase="Pending", conditions=[condition])
        assert found.layer is Layer.PODS
        assert found.problem == "r1-0-1 cannot be scheduled: 0/3 nodes: Insufficient nvidia.com/gpu"
        assert found.fix == f"{KUBECTL} describe pod r1-0-1"

    def test_preflight(self) -> None:
        message = "preflight failed: pod r1-0-1: gpu: 7 of 8 GPUs are visible; fix: report the node"
        state = {"terminated": {"exitCode": 78, "reason": "Error", "message": message}}
        found = self.one(phase="Running", containerStatuses=[{"name": "vllm", "ready": False, "state": state}])
        assert (found.layer, found.problem) == (Layer.PODS, f"r1-0-1 did not start: {message}")
        assert found.fix == f"{KUBECTL} logs r1-0-1 -c vllm", "this container has not been restarted"

    def test_preflight_that_has_failed_and_still_runs(self) -> None:
        """LeaderWorkerSet deletes the pods as soon as one ends, and termination messages with them."""
        said = "preflight: failed: pod r1-0-1: gpu: 7 of 8 GPUs are visible; fix: report the node"
        state = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}

        def change(found: dict[Any, Any]) -> None:
            changed = pod("r1-0-1", 1, containerStatuses=[{"name": "vllm", "ready": False, "state": state}])
            changed["spec"]["containers"] = [{"name": "vllm", "command": ["python3", "/opt/preflight/preflight.py"]}]
            found[PODS]["items"][1] = changed
            found["r1-0-1", "n", "vllm"] = f"preflight: /dev/shm: 4.0 GiB\n{said}\n"

        found = fault(objects(change).pods)
        assert found.layer is Layer.PODS
        assert found.problem == f"r1-0-1 does not start: {said.replace('preflight: failed', 'preflight failed')}"
        assert found.fix == f"{KUBECTL} logs r1-0-1 --all-containers --tail=100"

    def test_image(self) -> None:
        found = self.one(**waiting("ImagePullBackOff", "Back-off pulling image x"))
        assert (found.layer, found.problem) == (
            Layer.PODS,
            "r1-0-1 its image cannot be pulled: Back-off pulling image x",
        )

    def test_secret_is_missing(self) -> None:
        found = self.one(**waiting("CreateContainerConfigError", 'secret "key" not found'))
        assert found.problem == 'r1-0-1 its container cannot be created: secret "key" not found'

    def test_engine_crashes(self) -> None:
        status = waiting("CrashLoopBackOff")
        last = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
        status["containerStatuses"][0] |= {"lastState": last, "restartCount": 4}
        found = self.one(**status)
        assert found.layer is Layer.ENGINE
        assert found.problem == "r1-0-1 its container vllm exited with code 137 (OOMKilled), 4 restarts"
        assert found.fix == f"{KUBECTL} logs r1-0-1 -c vllm --previous --tail=100"

    def test_pod_has_failed_as_a_whole(self) -> None:
        found = self.one(phase="Failed", reason="Evicted")
        assert found.problem == "r1-0-1 has failed: Evicted"

    def test_volume_is_not_mounted(self) -> None:
        found = self.one("Scheduled", "FailedMount", **waiting("ContainerCreating"))
        assert (found.layer, found.problem) == (Layer.STORAGE, "r1-0-1 cannot mount a volume")

    def test_volume_plugin_says_why(self) -> None:
        said = 'FailedMount: MountVolume.SetUp failed for volume "v" : rpc error: code = Internal desc = wrong\nkey'
        found = self.one(said, "Pulled", **waiting("ContainerCreating"))
        assert (found.layer, found.problem) == (Layer.STORAGE, "r1-0-1 cannot mount a volume: wrong key")

    def test_starting(self) -> None:
        assert self.one(**waiting("ContainerCreating")).problem == "r1-0-1 is starting: image, volumes"

    def test_going(self) -> None:
        def change(found: dict[str, Any]) -> None:
            found[PODS]["items"][1]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"

        assert fault(objects(change).pods).problem == "r1-0-1 is being deleted"

    def test_loading_with_the_time_that_it_may_take(self) -> None:
        state = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
        status = {"phase": "Running", "containerStatuses": [{"name": "vllm", "ready": False, "state": state}]}
        found = trouble(pod("r1-0", 0, **status), [], datetime(2026, 1, 1, 0, 12, tzinfo=UTC))
        assert found is not None
        assert found.problem == (
            "is running but not ready: for 12 min of at most 65 it has been loading the model, or the engine is dead"
        )
        assert found.command == "logs r1-0 --all-containers --tail=100"

    @pytest.mark.parametrize(("is_lost", "ready"), [(True, True), (False, False)])
    def test_node_is_lost(self, is_lost: bool, ready: bool) -> None:
        """Its containers seem ready; those of a node that has come back are as it says."""
        state = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
        found = pod("r1-0", 0, containerStatuses=[{"name": "vllm", "ready": ready, "state": state}])
        found["spec"]["nodeName"] = "node-b"
        cause = trouble(found, [{"reason": "NodeNotReady"}], datetime(2026, 1, 1, 0, 12, tzinfo=UTC))
        assert cause is not None
        assert (cause.problem == "its node node-b does not answer") is is_lost
        assert (cause.command == "describe node node-b") is is_lost

    def test_pods_that_were_never_made(self) -> None:
        found = fault(objects(lambda all_: all_[PODS]["items"].pop()).pods)
        assert found.problem.startswith("1 of 2 pods exist")


class TestStorage:
    @pytest.mark.parametrize(
        ("change", "problem", "fix"),
        [
            (
                lambda f: f[CLAIM].update(status={"phase": "Pending"}),
                "the claim model is Pending",
                "describe pvc model",
            ),
            (lambda f: f.pop(CLAIM), "the claim model does not exist", "pulumi up"),
            (
                lambda f: f.update({DATASET: {"status": {"phase": "Failed"}}}),
                "the Dataset model is Failed",
                "describe dataset model",
            ),
        ],
    )
    def test_claim_and_dataset(self, change: Change, problem: str, fix: str) -> None:
        found = fault(objects(change).storage)
        assert (found.layer, found.problem) == (Layer.STORAGE, problem)
        assert found.fix.endswith(fix)

    def test_preload_of_this_cache_alone(self) -> None:
        def load(dataset: str) -> dict[str, Any]:
            return {"metadata": {"name": "l"}, "spec": {"dataset": {"name": dataset}}, "status": {"phase": "Failed"}}

        def change(dataset: str) -> Change:
            return lambda f: f.update({DATASET: {"status": {"phase": "Bound"}}, LOADS: {"items": [load(dataset)]}})

        assert objects(change("other")).storage().text == "the claim model is bound, its cache filled"
        found = fault(objects(change("model")).storage)
        assert found.problem == "the preload l is Failed, so pods read from the bucket"

    def test_no_claim(self) -> None:
        template: dict[str, Any] = {"spec": {}}
        found = objects(lambda f: f[GROUP]["spec"]["leaderWorkerTemplate"].update(workerTemplate=template))
        with pytest.raises(SkippedError, match="mount no claim"):
            found.storage()


class TestService:
    @pytest.mark.parametrize(
        ("change", "problem"),
        [
            (lambda f: f.pop(SERVICE), "the Service leaders does not exist"),
            (lambda f: f[SERVICE]["spec"].update(ports=[{"port": 81}]), "leaders has no port 80"),
            (lambda f: f[SERVICE]["spec"].pop("selector"), "leaders selects no pods"),
            (
                lambda f: f[SERVICE]["spec"].update(selector={NAME: "r1"}),
                "leaders selects pods that are not leaders and do not answer: r1-0-1",
            ),
            (
                lambda f: f[SLICES]["items"][0]["endpoints"][0].update(conditions={"ready": False}),
                f"leaders has no ready endpoint: it selects {NAME}=r1,role=leader, and no such pod is ready",
            ),
        ],
    )
    def test_each_fault(self, change: Change, problem: str) -> None:
        found = fault(objects(change).service)
        assert (found.layer, found.problem) == (Layer.SERVICE, problem)


def test_api_server_that_fails_between_two_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(FakeCluster):
        def get(self, path: str, **query: str) -> dict[str, Any] | None:
            if path == PODS and SLICES in read:
                raise FaultError(Layer.API, "gone", fix="")
            read.add(path)
            return super().get(path, **query)

    read: set[str] = set()
    monkeypatch.setattr("deepseek_acs.verifier.outside.ApiServer", lambda target: Failing(healthy()))
    report = Report()
    verify_outside(report, TARGET, key=None, timeout_seconds=1)
    assert report.fault is not None
    assert report.fault.layer is Layer.API
    assert report.fault.text == "gone"


class TestTarget:
    OUTPUTS = {  # noqa: RUF012
        "model": "ds",
        "namespace": "n",
        "group": "r1",
        "serviceDnsName": "leaders.n.svc.cluster.local",
        "servicePort": 80,
    }

    def test_comes_from_the_outputs(self) -> None:
        assert Target.of_outputs(self.OUTPUTS, kubeconfig="k.yaml", context="c") == TARGET

    def test_stack_that_is_not_deployed(self) -> None:
        with pytest.raises(TargetError, match="no output 'model': deploy it first"):
            Target.of_outputs({})

    def test_kubeconfig_that_is_not_there(self) -> None:
        target = Target.of_outputs(self.OUTPUTS, kubeconfig="/nonexistent/kubeconfig")
        found = fault(lambda: ApiServer(target))
        assert found.layer is Layer.API
        assert "the kubeconfig /nonexistent/kubeconfig cannot be used" in found.problem
        assert "cluster.kubeconfigFile" in found.fix
