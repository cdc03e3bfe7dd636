"""The kubernetes stand-in without a cluster: what is waited for, what is replaced, how things are named."""

import json
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pulumi.runtime.rpc import UNKNOWN

from local.plugins.kubernetes import job_pods, readiness, wait_for
from local.plugins.kubernetes import provider as stand_in
from local.plugins.kubernetes.api import ApiError, Kind, Reference, UnknownKindError
from local.plugins.kubernetes.diff import AUTONAMED, changes, delete_first
from local.plugins.kubernetes.provider import Configuration, InitializationError, KubernetesStandIn, ProviderError

CONDITION = st.from_regex(r"condition=[A-Z][a-z]{1,9}(=(True|False))?", fullmatch=True)
JSONPATH = st.from_regex(r"jsonpath=\{(\.[a-z]{1,6}){1,3}\}(=[a-z0-9]{1,5})?", fullmatch=True)


class TestWaitFor:
    @given(st.lists(CONDITION | JSONPATH, min_size=1))
    def test_a_json_array_means_all_of_them(self, conditions: list[str]) -> None:
        assert wait_for.parse(json.dumps(conditions)) == tuple(conditions)
        assert wait_for.parse(conditions[0]) == (conditions[0],)

    @pytest.mark.parametrize(
        "wrong", ["Available", "jsonpath=.status.phase=Bound", "condition=", "[1]", "[", "jsonpath={}"]
    )
    def test_anything_else_is_refused(self, wrong: str) -> None:
        with pytest.raises(wait_for.WaitForError, match=r"pulumi\.com/waitFor"):
            wait_for.parse(wrong)

    @pytest.mark.parametrize(
        ("condition", "live", "missing"),
        [
            ("condition=Available", {}, ["condition Available is absent"]),
            ("jsonpath={.status.phase}=Bound", {"phase": "Bound"}, []),
            ("jsonpath={.status.phase}=Bound", {"phase": "Lost"}, [".status.phase is Lost, not Bound"]),
            ("jsonpath={.status.phase}", {}, [".status.phase is absent"]),
            ("jsonpath={.status.ready}=2", {"ready": 2}, []),
            ("jsonpath={.status.list[1].a}=x", {"list": [{}, {"a": "x"}]}, []),
            ("jsonpath={.status.a}", {"observedGeneration": 1, "a": 1}, ["the controller has seen generation 1 of 2"]),
        ],
    )
    def test_what_is_missing(self, condition: str, live: dict[str, Any], missing: list[str]) -> None:
        assert wait_for.unmet((condition,), {"metadata": {"generation": 2}, "status": live}) == missing

    @pytest.mark.parametrize(
        ("condition", "missing"),
        [
            ({"status": "True"}, []),
            ({"status": "False", "message": "0 of 1"}, ["condition Available is False (0 of 1)"]),
            ({"status": "True", "observedGeneration": 1}, ["condition Available is of an earlier generation"]),
        ],
    )
    def test_conditions(self, condition: dict[str, Any], missing: list[str]) -> None:
        live = {"metadata": {"generation": 2}, "status": {"conditions": [{"type": "Available", **condition}]}}
        assert wait_for.unmet(("condition=Available",), live) == missing


class TestReadiness:
    @pytest.mark.parametrize(
        ("kind", "live", "ready"),
        [
            ("PersistentVolumeClaim", {"status": {"phase": "Bound"}}, True),
            ("PersistentVolumeClaim", {"status": {"phase": "Pending"}}, False),
            ("PersistentVolume", {"status": {"phase": "Available"}}, True),
            ("Namespace", {"status": {"phase": "Terminating"}}, False),
            ("Service", {"spec": {"type": "ClusterIP"}}, True),
            ("Service", {"spec": {"type": "LoadBalancer"}, "status": {"loadBalancer": {}}}, False),
            ("Job", {"status": {"conditions": [{"type": "Complete", "status": "True"}]}}, True),
            ("Job", {"status": {}}, False),
            ("Deployment", {"metadata": {"generation": 2}, "spec": {}, "status": {"observedGeneration": 1}}, False),
            ("Anything", {}, True),
        ],
    )
    def test_built_in_waits(self, kind: str, live: dict[str, Any], ready: bool) -> None:
        assert (readiness.unmet({"kind": kind, **live}) == []) is ready

    def test_failed_job_is_not_waited_for(self) -> None:
        failed = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "too often"}
        with pytest.raises(readiness.FailedError, match=r"^Job n/a failed \(BackoffLimitExceeded\) too often$"):
            readiness.unmet({**manifest("Job"), "status": {"conditions": [failed]}})


def job_pod(name: str, phase: str, *, reason: str = "", conditions: Any = (), **state: Any) -> dict[str, Any]:
    statuses = [{"name": "mover", "state": {kind: value} if value else {}} for kind, value in state.items()]
    status = {"phase": phase, "reason": reason, "conditions": list(conditions), "containerStatuses": statuses}
    return {"metadata": {"name": name, "namespace": "n"}, "status": status}


def ended(exit_code: int, message: str = "") -> dict[str, Any]:
    return {"exitCode": exit_code, "reason": "Error" if exit_code else "Completed", "message": message}


CREATING = {"reason": "ContainerCreating"}
NO_SECRET = {"reason": "CreateContainerConfigError", "message": 'secret "s" not found'}
NO_NODE = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}


class TestJobPods:
    @pytest.mark.parametrize(
        ("pods", "notes"),
        [
            ([], []),
            ([job_pod("a", "Pending", waiting=CREATING)], ["Pod a is Pending"]),
            (
                [job_pod("a", "Pending", waiting=NO_SECRET)],
                ['Pod a is Pending: container mover waits (CreateContainerConfigError): secret "s" not found'],
            ),
            (
                [job_pod("a", "Pending", conditions=[NO_NODE])],
                ["Pod a is Pending: it finds no node (Unschedulable): 0/1 nodes"],
            ),
            ([job_pod("a", "Running", running={})], ["Pod a is Running"]),
            (
                [job_pod("a", "Failed", terminated=ended(75, "one\ntwo\nthree\n")), job_pod("b", "Running")],
                [
                    "1 Pod failed, the last one: container mover ended with exit code 75 (Error): three",
                    "Pod b is Running",
                ],
            ),
            (
                [job_pod("a", "Failed"), job_pod("b", "Failed", terminated=ended(2))],
                ["2 Pods failed, the last one: container mover ended with exit code 2 (Error)"],
            ),
        ],
    )
    def test_progress(self, pods: list[dict[str, Any]], notes: list[str]) -> None:
        assert job_pods.progress(pods) == notes

    def test_failures_are_those_of_the_latest_pods_in_full(self) -> None:
        pods = [job_pod(f"p{n}", "Failed", terminated=ended(n, f"{n}\nlines")) for n in range(1, 5)]
        assert job_pods.failures([*pods, job_pod("ok", "Succeeded", terminated=ended(0))]) == [
            f"Pod n/p{n}: container mover ended with exit code {n} (Error): {n}\nlines" for n in (2, 3, 4)
        ]

    def test_failure_without_a_container(self) -> None:
        assert job_pods.failures([job_pod("a", "Failed", reason="Evicted")]) == ["Pod n/a: the pod is Failed (Evicted)"]


class TestDiff:
    @pytest.mark.parametrize(
        ("kind", "old", "new", "path", "replaces"),
        [
            ("Secret", {"stringData": {"a": "1"}}, {"stringData": {"a": "2"}}, "stringData.a", True),
            ("ConfigMap", {"data": {"a": "1"}}, {"data": {}}, "data.a", True),
            ("ConfigMap", {"binaryData": {"a": "1"}}, {"binaryData": {"a": "2"}}, "binaryData.a", True),
            ("Job", {"spec": {"template": {"x": 1}}}, {"spec": {"template": {"x": 2}}}, "spec.template.x", True),
            ("Job", {"spec": {"backoffLimit": 1}}, {"spec": {"backoffLimit": 2}}, "spec.backoffLimit", False),
            ("PersistentVolume", {"spec": {"csi": {"x": 1}}}, {"spec": {"csi": {"x": 2}}}, "spec.csi.x", True),
            (
                "PersistentVolumeClaim",
                {"spec": {"volumeName": "a"}},
                {"spec": {"volumeName": "b"}},
                "spec.volumeName",
                True,
            ),
            (
                "Service",
                {"spec": {"ports": [{"port": 1}]}},
                {"spec": {"ports": [{"port": 2}]}},
                "spec.ports[0].port",
                False,
            ),
            ("LeaderWorkerSet", {"spec": {"replicas": 1}}, {"spec": {"replicas": 2}}, "spec.replicas", False),
            ("Job", {"metadata": {"name": "a"}}, {"metadata": {"name": "b"}}, "metadata.name", True),
            ("Pod", {}, {"metadata": {"labels": {"a.b/c": "x"}}}, "metadata", False),
        ],
    )
    def test_force_new_fields(self, kind: str, old: Any, new: Any, path: str, replaces: bool) -> None:
        (change,) = changes({"kind": kind, **old}, {"kind": kind, **new}, mutable=frozenset())
        assert (change.path, change.replaces) == (path, replaces)

    @pytest.mark.parametrize(
        ("old", "new", "replaces"),
        [
            ({"stringData": {"a": "1"}}, {"stringData": {"a": "2"}}, False),
            ({"immutable": True, "data": {"a": "1"}}, {"immutable": True, "data": {"a": "2"}}, True),
            ({"type": "Opaque"}, {"type": "x/y"}, True),
        ],
    )
    def test_mutable_secret_is_changed_in_place(self, old: Any, new: Any, replaces: bool) -> None:
        (change,) = changes({"kind": "Secret", **old}, {"kind": "Secret", **new}, mutable=frozenset({"Secret"}))
        assert change.replaces is replaces

    def test_only_an_unchanged_fixed_name_is_deleted_first(self) -> None:
        fixed = {"metadata": {"name": "a", "namespace": "n"}}
        auto = {"metadata": {"name": "a", "annotations": {AUTONAMED: "true"}}}
        assert delete_first(fixed, fixed)
        assert not delete_first(fixed, {"metadata": {"name": "b", "namespace": "n"}})
        assert not delete_first(auto, auto)


class FakeApi:
    """A server with one kind, in a dict."""

    def __init__(self, *live: dict[str, Any]) -> None:
        self.objects = list(live)
        self.pods: list[dict[str, Any]] = []
        self.error: ApiError | None = None

    def kind(self, api_version: str, name: str) -> Kind:
        if name == "Unknown":
            raise UnknownKindError("no such kind", status=404)
        return Kind(api_version, name, f"{name.lower()}s", True)

    def get(self, reference: Reference) -> dict[str, Any] | None:
        if self.error:
            raise self.error
        return self.objects[-1] if self.objects else None

    def apply(self, reference: Reference, manifest: Any, **options: Any) -> Any:
        if self.error:
            raise self.error
        self.objects.append({**manifest, "metadata": {**manifest["metadata"], "uid": "u"}})
        return self.objects[-1]

    def delete(self, reference: Reference, propagation: str) -> None:
        self.objects[-1]["metadata"]["finalizers"] = ["foregroundDeletion"]

    def pods_of(self, job: Reference) -> list[dict[str, Any]]:
        return self.pods

    def warnings(self, reference: Reference) -> list[str]:
        return ["Pod a-0: no node has a GPU"]


def provider(api: FakeApi, **configuration: Any) -> KubernetesStandIn:
    found: Any = api
    return KubernetesStandIn(configuration=Configuration(api=found, **configuration))


def manifest(kind: str = "ConfigMap", **metadata: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": "a", "namespace": "n", **metadata}}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stand_in, "POLL_SECONDS", 0)
    monkeypatch.setattr(stand_in, "KIND_ATTEMPTS", 1)


def create(found: KubernetesStandIn, inputs: dict[str, Any]) -> Any:
    return found.create(inputs, urn="urn", seconds=0.01, status=lambda text: None)


def job(**conditions: str) -> dict[str, Any]:
    status = {"conditions": [{"type": t, "status": "True", "reason": reason} for t, reason in conditions.items()]}
    annotations = {"pulumi.com/replaceUnready": "true"}
    return {**manifest("Job", annotations=annotations), "apiVersion": "batch/v1", "status": status}


class TestJobs:
    @pytest.mark.parametrize(
        ("live", "replaced"),
        [
            ([], False),
            ([job()], True),
            ([job(Failed="BackoffLimitExceeded")], True),
            ([job(FailureTarget="PodFailurePolicy")], True),
            ([job(Complete="")], False),
        ],
    )
    def test_job_that_is_not_complete_is_replaced(self, live: list[dict[str, Any]], replaced: bool) -> None:
        assert provider(FakeApi(*live)).replaces_unready(job()) is replaced

    def test_only_jobs_with_the_annotation(self) -> None:
        plain = {**job(), "metadata": manifest()["metadata"]}
        assert not provider(FakeApi(job())).replaces_unready(plain)
        assert not provider(FakeApi(job())).replaces_unready({**job(), "kind": "Deployment"})
        assert not KubernetesStandIn().replaces_unready(job())
        api = FakeApi(job())
        api.error = ApiError("the cluster is unreachable")
        assert not provider(api).replaces_unready(job())

    def test_failed_job_says_what_its_pods_said(self) -> None:
        api = FakeApi()
        api.pods = [job_pod("a-x", "Failed", terminated=ended(66, "no such model"))]
        with pytest.raises(InitializationError) as caught:
            create(provider(api), job(Failed="BackoffLimitExceeded"))
        assert caught.value.reasons == [
            "Job n/a failed (BackoffLimitExceeded)",
            "Pod n/a-x: container mover ended with exit code 66 (Error): no such model",
            "Pod a-0: no node has a GPU",
        ]

    def test_event_that_only_repeats_the_condition_is_left_out(self) -> None:
        live = job(Failed="DeadlineExceeded")
        live["status"]["conditions"][0]["message"] = "no node has a GPU"
        with pytest.raises(InitializationError) as caught:
            create(provider(FakeApi()), live)
        assert caught.value.reasons == ["Job n/a failed (DeadlineExceeded) no node has a GPU"]

    def test_reason_that_the_official_plugin_does_not_know_is_waited_on(self) -> None:
        """So that a Job that would hang a real ``pulumi up`` hangs one here."""
        assert readiness.unmet(job(Failed="PodFailurePolicy")) == ["the Job is not complete"]

    def test_progress_is_shown_once(self) -> None:
        api, shown = FakeApi(), list[str]()
        api.pods = [job_pod("a-x", "Running")]

        def show(text: str) -> None:
            shown.append(text)
            if len(shown) == 2:
                api.objects.append(job(Complete=""))
            api.pods = [job_pod("a-x", "Failed", terminated=ended(75)), job_pod("a-y", "Running")]

        provider(api).create(job(), urn="urn", seconds=60, status=show)
        assert shown == [
            "waiting: the Job is not complete; Pod a-x is Running",
            "waiting: the Job is not complete; 1 Pod failed, the last one: container mover ended with exit code 75 "
            "(Error); Pod a-y is Running",
        ]


class TestProvider:
    def check(self, new: dict[str, Any], old: dict[str, Any] | None = None, *, token: str = "core/v1:Secret") -> Any:
        return provider(FakeApi(), namespace="ours").check(
            old or {}, new, token=f"kubernetes:{token}", name="thing", seed=b"seed"
        )

    def test_names_are_made_up_and_kept(self) -> None:
        first = self.check({})
        assert first["apiVersion"] == "v1"
        assert first["metadata"]["name"].startswith("thing-")
        assert first["metadata"]["namespace"] == "ours"
        kept = provider(FakeApi()).check(first, {}, token="kubernetes:core/v1:Secret", name="thing", seed=b"other")
        assert kept["metadata"]["name"] == first["metadata"]["name"]

    def test_replacement_of_an_immutable_secret_gets_a_name_of_its_own(self) -> None:
        """The engine checks a replacement without the old inputs and with another seed; both then exist at once, until
        what refers to the old one has moved."""
        first = self.check({"immutable": True, "stringData": {"key": "a"}})
        second = {"immutable": True, "stringData": {"key": "b"}}
        (changed,) = changes(first, self.check(second, first), mutable=frozenset({"Secret"}))
        assert (changed.path, changed.replaces) == ("stringData.key", True)
        replacement = provider(FakeApi(), namespace="ours").check(
            {}, second, token="kubernetes:core/v1:Secret", name="thing", seed=b"another"
        )
        assert replacement["metadata"]["name"] != first["metadata"]["name"]
        assert not delete_first(first, replacement)

    def test_given_name_and_kinds_of_the_whole_cluster(self) -> None:
        checked = self.check({"metadata": {"name": "x"}}, token="core/v1:PersistentVolume")
        assert checked["metadata"] == {"name": "x"}

    def test_what_is_not_served(self) -> None:
        with pytest.raises(ProviderError, match=r"does not serve kubernetes:helm\.sh/v3:Release; install the official"):
            self.check({}, token="helm.sh/v3:Release")
        with pytest.raises(ProviderError, match="none of jsonpath"):
            self.check({"metadata": {"annotations": {"pulumi.com/waitFor": "Ready"}}})

    def test_existing_object_is_not_taken_over(self) -> None:
        with pytest.raises(
            ProviderError, match=r"ConfigMap n/a exists already .*pulumi import kubernetes:core/v1:ConfigMap"
        ):
            create(provider(FakeApi(manifest())), manifest())

    def test_unready_object_is_reported_and_kept(self) -> None:
        inputs = manifest(annotations={"pulumi.com/waitFor": "condition=Available"})
        with pytest.raises(InitializationError) as caught:
            create(provider(FakeApi()), inputs)
        assert caught.value.id == "n/a"
        assert caught.value.reasons == [
            "timeout after 0 s",
            "condition Available is absent",
            "Pod a-0: no node has a GPU",
        ]

    def test_cancel_ends_the_wait(self) -> None:
        found = provider(FakeApi())
        found.cancelled = threading.Event()
        found.cancelled.set()
        with pytest.raises(InitializationError, match="cancelled while waiting"):
            found.create(
                manifest(annotations={"pulumi.com/waitFor": "condition=Available"}),
                urn="urn",
                seconds=60,
                status=lambda text: None,
            )

    def test_deletion_names_the_finalizers_that_hold_it(self) -> None:
        live = manifest(uid="u")
        with pytest.raises(ProviderError, match=r"ConfigMap n/a is not gone yet; finalizers that hold it: foreground"):
            provider(FakeApi(live)).delete("n/a", state=live, seconds=0.01)

    def test_preview_asks_the_server_only_when_it_can_answer(self) -> None:
        api = FakeApi()
        for inputs in ({**manifest(), "data": {"x": UNKNOWN}}, manifest("Unknown")):
            assert provider(api).preview(inputs, urn="urn") == inputs
        api.error = ApiError("namespaces n not found", status=404)
        assert provider(api).preview(manifest(), urn="urn") == manifest()
        api.error = ApiError("spec.size: Invalid value", status=422)
        with pytest.raises(ProviderError, match=r"^ConfigMap n/a: spec\.size: Invalid value$"):
            provider(api).preview(manifest(), urn="urn")

    def test_conflict_tells_the_way_out_and_a_secret_stays_one(self) -> None:
        api = FakeApi()
        api.error = ApiError('conflict with "kubectl": .data.a', status=409, reason="Conflict")
        with pytest.raises(ProviderError, match=r'conflict with "kubectl".*pulumi\.com/patchForce'):
            create(provider(api), manifest())
        api.error = ApiError("Invalid value: hunter2", status=422, reason="Invalid")
        with pytest.raises(ProviderError, match="they are not shown here") as caught:
            create(provider(api), manifest("Secret"))
        assert "hunter2" not in str(caught.value)

    def test_without_a_cluster_only_previews_work(self) -> None:
        found = KubernetesStandIn()
        found.configure({"kubeconfig": "/nowhere/kubeconfig"})
        assert found.preview(manifest(), urn="urn") == manifest()
        with pytest.raises(ProviderError, match="no cluster: the kubeconfig is neither the path"):
            create(found, manifest())

    def test_cluster_identifier_decides_about_replacement(self) -> None:
        old, new = {"clusterIdentifier": "c", "kubeconfig": "1"}, {"clusterIdentifier": "c", "kubeconfig": "2"}
        assert not stand_in.provider_is_replaced(old, new)
        assert stand_in.provider_is_replaced(old, {**old, "clusterIdentifier": "d"})
        assert stand_in.provider_is_replaced({"kubeconfig": "1"}, {"kubeconfig": "2"})
