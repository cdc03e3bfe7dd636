"""The fake kubernetes plugin without a cluster: what is waited for, what is replaced, and the texts.

What it does with an API server is in ``test_kubernetes_plugin.py``, for the official plugin alike.
"""

import json
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pulumi.runtime.rpc import UNKNOWN

from local.plugins.kubernetes import provider as fake
from local.plugins.kubernetes import readiness, wait_for
from local.plugins.kubernetes.api import ApiError, Kind, Reference, UnknownKindError
from local.plugins.kubernetes.diff import AUTONAMED, changes, delete_first, normalized, pruned
from local.plugins.kubernetes.managed_fields import settle, taken_over
from local.plugins.kubernetes.provider import Configuration, FakeKubernetes, InitializationError, ProviderError

CONDITION = st.from_regex(r"condition=[A-Z][a-z]{1,9}(=(True|False))?", fullmatch=True)
JSONPATH = st.from_regex(r"jsonpath=\{(\.[a-z]{1,6}){1,3}\}(=[a-z0-9]{1,5})?", fullmatch=True)

SCHEDULED = {"type": "PodScheduled", "status": "True"}
READY = {"type": "Ready", "status": "False"}


def ended(exit_code: int, **more: str) -> dict[str, Any]:
    return {"exitCode": exit_code, "reason": "Error", **more}


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
            ("condition=Available", {}, ["Has no .status.conditions"]),
            ("jsonpath={.status.phase}=Bound", {"phase": "Bound"}, []),
            ("jsonpath={.status.a}=1", {"a": "2"}, ['Waiting for jsonpath={.status.a}=1 (found "2")']),
            ("jsonpath={.status.phase}", {}, ["Waiting for jsonpath={.status.phase}"]),
            ("jsonpath={.status.ready}=2", {"ready": 2}, []),
            ("jsonpath={.status.list[1].a}=x", {"list": [{}, {"a": "x"}]}, []),
            ("jsonpath={.status.a}", {"observedGeneration": 1, "a": 1}, ["Waiting for jsonpath={.status.a}"]),
        ],
    )
    def test_what_is_missing(self, condition: str, live: dict[str, Any], missing: list[str]) -> None:
        assert wait_for.unmet((condition,), {"metadata": {"generation": 2}, "status": live}) == missing

    @pytest.mark.parametrize(
        ("condition", "missing"),
        [
            ({"status": "True"}, []),
            ({"status": "False", "message": "0 of 1"}, ["Resource has condition Available=False (want True)"]),
            ({"status": "True", "observedGeneration": 1}, ["Generation 1 is less than expected 2"]),
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
            ("Namespace", {"status": {"phase": "Terminating"}}, True),
            ("Job", {"status": {"conditions": [{"type": "Complete", "status": "True"}]}}, True),
            ("Job", {"status": {}}, False),
            ("Anything", {}, True),
        ],
    )
    def test_built_in_waits(self, kind: str, live: dict[str, Any], ready: bool) -> None:
        assert (readiness.unmet({"kind": kind, "metadata": {"name": "a"}, **live}) == []) is ready

    @pytest.mark.parametrize(
        ("spec", "endpoints", "missing"),
        [
            ({"selector": {"a": "b"}}, None, ["Finding Pods to direct traffic to"]),
            (
                {"selector": {"a": "b"}},
                {"subsets": [{"notReadyAddresses": [{}]}]},
                ["Finding Pods to direct traffic to"],
            ),
            ({"selector": {"a": "b"}}, {"subsets": [{"addresses": [{}]}]}, []),
            ({"selector": {"a": "b"}}, {}, []),
            ({"selector": {"a": "b"}, "clusterIP": "None"}, None, []),
            ({"type": "LoadBalancer"}, None, [readiness.NO_ADDRESS]),
        ],
    )
    def test_service_waits_for_pods_that_are_not_ready(self, spec: Any, endpoints: Any, missing: list[str]) -> None:
        assert readiness.unmet({"kind": "Service", "spec": spec}, endpoints) == missing

    def test_failed_job_is_not_waited_for(self) -> None:
        with pytest.raises(readiness.FailedError, match=r"^\[BackoffLimitExceeded\] too often$"):
            readiness.unmet(job(Failed="BackoffLimitExceeded", message="too often"))

    def test_reason_that_the_official_plugin_does_not_know_is_waited_on(self) -> None:
        """So that a Job that would hang a real ``pulumi up`` hangs one here."""
        assert readiness.unmet(job(Failed="PodFailurePolicy")) == ['Waiting for Job "n/a" to start']

    @pytest.mark.parametrize(
        ("pod", "messages"),
        [
            ({"conditions": [SCHEDULED, {**READY, "status": "True"}]}, []),
            ({"phase": "Succeeded", "conditions": [SCHEDULED, READY]}, []),
            ({"conditions": [{**SCHEDULED, "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}]}, []),
            ({"conditions": [SCHEDULED, {**READY, "reason": "PodFailed"}]}, []),
            (
                {"conditions": [SCHEDULED, {**READY, "reason": "ContainersNotReady", "message": "unready: [mover]"}]},
                ["[Pod n/p]: unready: [mover]"],
            ),
            (
                {
                    "conditions": [SCHEDULED, READY],
                    "containerStatuses": [
                        {
                            "name": "mover",
                            "state": {"terminated": ended(66, message="no")},
                        },
                        {"name": "b", "state": {"terminated": ended(1)}},
                        {"name": "c", "state": {"waiting": {"reason": "ContainerCreating"}}},
                        {"name": "d", "state": {"waiting": {"reason": "NoSecret", "message": "none"}}},
                        {"name": "e", "ready": True, "state": {"terminated": ended(1)}},
                    ],
                },
                ['[Pod n/p]: [Error] no\ncontainer "b" completed with exit code 1\n[NoSecret] none'],
            ),
        ],
    )
    def test_what_pods_tell(self, pod: dict[str, Any], messages: list[str]) -> None:
        """Nothing of a pod that finds no node, as with the official plugin."""
        conditions = [*pod["conditions"], {"type": "Initialized", "status": "True"}]
        live = {"metadata": {"name": "p", "namespace": "n"}, "status": {**pod, "conditions": conditions}}
        assert readiness.pod_messages([live]) == messages


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
    def test_force_new_fields(self, kind: Any, old: Any, new: Any, path: str, replaces: bool) -> None:
        kind = {"apiVersion": "batch/v1" if kind == "Job" else "v1", "kind": kind}
        (change,) = changes({**kind, **old}, {**kind, **new}, mutable=frozenset())
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
        secret = {"apiVersion": "v1", "kind": "Secret"}
        (change,) = changes({**secret, **old}, {**secret, **new}, mutable=frozenset({"Secret"}))
        assert change.replaces is replaces

    def test_only_an_unchanged_fixed_name_is_deleted_first(self) -> None:
        fixed = {"metadata": {"name": "a", "namespace": "n"}}
        auto = {"metadata": {"name": "a", "annotations": {AUTONAMED: "true"}}}
        assert delete_first(fixed, fixed)
        assert not delete_first(fixed, {"metadata": {"name": "b", "namespace": "n"}})
        assert not delete_first(auto, auto)

    def test_a_secret_is_compared_as_the_server_returns_it(self) -> None:
        inputs = {"kind": "Secret", "stringData": {"a": "1"}, "data": {"b": "Mg=="}}
        assert normalized(inputs) == {"kind": "Secret", "data": {"a": "MQ==", "b": "Mg=="}}

    @pytest.mark.parametrize(
        ("api_version", "old", "new", "changed"),
        [
            ("batch/v1", {"limits": {"cpu": "1"}}, {"limits": {"cpu": "1000m"}}, False),
            ("batch/v1", {"limits": {"cpu": "1"}}, {"limits": {"cpu": 1}}, False),
            ("batch/v1", {"limits": {"memory": "1Gi"}}, {"limits": {"memory": "2048Mi"}}, True),
            ("v1", {}, {"ingress": [], "storageClassName": ""}, False),
            ("policy/v1", {"sizeLimit": "1Gi"}, {"sizeLimit": "x"}, True),
            ("leaderworkerset.x-k8s.io/v1", {"limits": {"cpu": "1"}}, {"limits": {"cpu": "1000m"}}, True),
            ("data.fluid.io/v1alpha1", {}, {"mounts": []}, True),
        ],
    )
    def test_quantities_are_read_in_kinds_of_kubernetes_alone(
        self, api_version: str, old: Any, new: Any, changed: bool
    ) -> None:
        before, after = ({"apiVersion": api_version, "kind": "A", "spec": {"r": spec}} for spec in (old, new))
        assert bool(changes(before, after, mutable=frozenset())) is changed

    def test_only_what_the_program_sets_is_compared(self) -> None:
        live = {"a": {"b": 1, "default": 2}, "list": [{"x": 1, "y": 2}, {"x": 3}], "status": {}}
        assert pruned(live, {"a": {"b": 0, "gone": 1}, "list": [{"x": 0}]}) == {"a": {"b": 1}, "list": [{"x": 1}]}


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

    def request(self, method: str, path: str) -> Any:
        raise ApiError('things "a" not found', status=404, reason="NotFound")

    def apply(self, reference: Reference, manifest: Any, **options: Any) -> Any:
        if self.error:
            raise self.error
        self.objects.append({**manifest, "metadata": {**manifest["metadata"], "uid": "u"}})
        return self.objects[-1]

    def create(self, reference: Reference, manifest: Any, **options: Any) -> Any:
        return self.apply(reference, manifest)

    def pods_of(self, job: Reference) -> list[dict[str, Any]]:
        return self.pods

    def warnings(self, live: Any) -> list[str]:
        return ["FailedCreate: no node has a GPU"]


def provider(api: FakeApi, **configuration: Any) -> FakeKubernetes:
    found: Any = api
    return FakeKubernetes(configuration=Configuration(api=found, **configuration))


def manifest(kind: str = "ConfigMap", **metadata: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": "a", "namespace": "n", **metadata}}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake, "POLL_SECONDS", 0)
    monkeypatch.setattr(fake, "KIND_ATTEMPTS", 1)


def create(found: FakeKubernetes, inputs: dict[str, Any], *, seconds: float = 0.01, shown: Any = None) -> Any:
    status = (lambda text: None) if shown is None else shown.append
    return found.create(inputs, urn="urn", seconds=seconds, status=status)


def job(message: str = "", **conditions: str) -> dict[str, Any]:
    found = [{"type": t, "status": "True", "reason": reason, "message": message} for t, reason in conditions.items()]
    annotations = {"pulumi.com/replaceUnready": "true"}
    body = manifest("Job", annotations=annotations)
    return {**body, "apiVersion": "batch/v1", "status": {"conditions": found}}


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
        assert not FakeKubernetes().replaces_unready(job())
        api = FakeApi(job())
        api.error = ApiError("the cluster is unreachable")
        assert not provider(api).replaces_unready(job())

    def test_failed_job_says_what_its_pods_said(self) -> None:
        api = FakeApi()
        terminated = ended(66, message="no such model")
        conditions = [SCHEDULED, {"type": "Initialized", "status": "True"}, READY]
        status = {
            "conditions": conditions,
            "containerStatuses": [{"name": "mover", "state": {"terminated": terminated}}],
        }
        api.pods = [{"metadata": {"name": "a-x", "namespace": "n"}, "status": status}]
        waits = job()
        with pytest.raises(InitializationError) as caught:
            create(provider(api), waits)
        assert caught.value.reasons == [
            'resource "urn" was successfully created, but the Kubernetes API server reported that it failed to fully '
            "initialize or become live: 'a' timed out waiting to be Ready",
            "[Pod n/a-x]: [Error] no such model",
        ]
        with pytest.raises(InitializationError) as caught:
            create(provider(api), job(Failed="BackoffLimitExceeded", message="too often"))
        assert caught.value.reasons[0].endswith("Resource 'a' was created but failed to initialize")
        assert caught.value.reasons[-1] == "[BackoffLimitExceeded] too often"


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

    @pytest.mark.parametrize("token", ["helm.sh/v3:Release", "core/v1:NamespacePatch", "apps/v1:Deployment"])
    def test_what_is_not_served(self, token: str) -> None:
        with pytest.raises(ProviderError, match=rf"does not serve kubernetes:{token}; install the official"):
            self.check({}, token=token)

    def test_kind_whose_wait_is_not_served_is_served_without_it(self) -> None:
        given = {"metadata": {"name": "route", "annotations": {"pulumi.com/skipAwait": "true"}}}
        assert self.check(given, token="networking.k8s.io/v1:Ingress")["kind"] == "Ingress"

    def test_wrong_wait_is_said_after_the_object_is_made(self) -> None:
        api = FakeApi()
        with pytest.raises(ProviderError, match="none of jsonpath"):
            create(provider(api), manifest(annotations={"pulumi.com/waitFor": "Ready"}))
        assert api.objects

    def test_custom_object_that_is_not_ready_says_nothing_of_why(self) -> None:
        shown = list[str]()
        inputs = manifest(annotations={"pulumi.com/waitFor": "condition=Available"})
        with pytest.raises(InitializationError) as caught:
            create(provider(FakeApi()), inputs, shown=shown)
        assert caught.value.id == "n/a"
        assert caught.value.reasons == [
            'resource "urn" was successfully created, but the Kubernetes API server reported that it failed to fully '
            "initialize or become live: timed out waiting for the condition"
        ]
        assert shown == ["Has no .status.conditions", "FailedCreate: no node has a GPU"]

    def test_cancel_ends_the_wait(self) -> None:
        found = provider(FakeApi())
        found.cancelled = threading.Event()
        found.cancelled.set()
        inputs = manifest(annotations={"pulumi.com/waitFor": "condition=Available"})
        with pytest.raises(InitializationError, match=r"become live: context canceled$"):
            create(found, inputs, seconds=60)

    def test_preview_asks_the_server_only_when_it_can_answer(self) -> None:
        api = FakeApi()
        for inputs in ({**manifest(), "data": {"x": UNKNOWN}}, manifest("Unknown")):
            assert provider(api).preview_create(inputs, urn="urn") == inputs
        for reason in ("NotFound", "Forbidden", "AlreadyExists"):
            api.error = ApiError("namespaces n not found", reason=reason)
            assert provider(api).preview_create(manifest(), urn="urn") == manifest()
        api.error = ApiError("spec.size: Invalid value", status=422)
        text = r'^resource "urn" was not successfully created by the Kubernetes API server: spec\.size: Invalid value$'
        with pytest.raises(ProviderError, match=text):
            provider(api).preview_create(manifest(), urn="urn")

    def test_update_of_an_unknown_kind(self) -> None:
        unknown = manifest("Unknown")
        assert provider(FakeApi()).update({}, unknown, urn="urn", preview=True) == unknown
        with pytest.raises(ProviderError, match=r'^update of resource "urn" failed: no such kind$'):
            provider(FakeApi()).update({}, unknown, urn="urn")

    def test_without_a_cluster_only_previews_work(self) -> None:
        found = FakeKubernetes()
        found.configure({"kubeconfig": "/nowhere/kubeconfig"})
        assert found.preview_create(manifest(), urn="urn") == manifest()
        assert found.update({}, manifest(), urn="urn", preview=True) == manifest()
        with pytest.raises(ProviderError, match="cluster is unreachable: the kubeconfig is neither the path"):
            create(found, manifest())

    def test_cluster_identifier_decides_about_replacement(self) -> None:
        old, new = {"clusterIdentifier": "c", "kubeconfig": "1"}, {"clusterIdentifier": "c", "kubeconfig": "2"}
        assert not fake.provider_is_replaced(old, new)
        assert fake.provider_is_replaced(old, {**old, "clusterIdentifier": "d"})
        assert fake.provider_is_replaced({"kubeconfig": "1"}, {"kubeconfig": "2"})


def owned(manager: str, operation: str = "Update", **spec: Any) -> dict[str, Any]:
    """An entry of ``managedFields``."""
    fields: dict[str, Any] = {"f:spec": {f"f:{key}": {} for key in spec}}
    return {"manager": manager, "operation": operation, "fieldsV1": fields}


class TestManagedFields:
    INPUTS = manifest() | {"spec": {"replicas": 1, "size": 2}}

    def settled(self, *managers: str, paths: tuple[str, ...] = ("spec.replicas",)) -> Any:
        fields = [owned(manager, replicas=3) for manager in managers] + [owned("us", size=2)]
        live = manifest(managedFields=fields) | {"spec": {"replicas": 3, "size": 2}}
        return settle(self.INPUTS, live, paths, manager="us")["spec"]

    def test_what_only_others_manage_is_left_out(self) -> None:
        assert self.settled("hpa") == {"size": 2}

    @pytest.mark.parametrize("managers", [("us",), ("us", "hpa"), ()])
    def test_what_this_manager_or_none_manages_keeps_its_live_value(self, managers: tuple[str, ...]) -> None:
        """An apply without it would take it away."""
        assert self.settled(*managers) == {"replicas": 3, "size": 2}

    def test_what_is_not_there_is_as_in_the_program(self) -> None:
        assert settle(self.INPUTS, manifest(), ["spec.replicas"], manager="us") == self.INPUTS

    def test_inputs_are_not_changed(self) -> None:
        self.settled("hpa")
        assert self.INPUTS["spec"] == {"replicas": 1, "size": 2}

    def test_kubectl_and_plain_writes_are_taken_over(self) -> None:
        hpa, status = owned("hpa", replicas=1), {**owned("kubectl-edit", size=1), "subresource": "status"}
        entries = [owned("kubectl-patch", size=1), hpa, status, owned("pulumi-kubernetes", name=1)]
        *others, ours = taken_over(entries, "us")
        assert others == [hpa, status]
        assert (ours["manager"], ours["operation"]) == ("us", "Apply")
        assert ours["fieldsV1"] == {"f:spec": {"f:size": {}, "f:name": {}}}
        again = taken_over([*others, ours, owned("kubectl", "Apply", extra=1)], "us")
        assert again[-1]["fieldsV1"] == {"f:spec": {"f:size": {}, "f:name": {}, "f:extra": {}}}
        assert taken_over([hpa], "us") == [hpa]
