"""What the stack does not own: found before it would be taken over, and told with the ways out."""

from collections.abc import Callable, Mapping
from typing import Any

import pulumi
import pytest
from pulumi import ResourceHook, ResourceHookArgs

from components.live_cluster import LookupFailedError
from components.names import FIELD_MANAGER, field_manager
from components.ownership import Ownership
from components.secrets import Secrets
from deepseek_acs.planner.resolve import resolve
from deepseek_acs.settings.stack import StackSettings
from tests.unit.conftest import ROOT, Run, merged, stack_settings

NO_SECRETS = Secrets(
    kubeconfig=None,
    access_key=None,
    hub_token=None,
    api_key=None,
    ray_token=None,
    certificate=None,
    prometheus_token=None,
)
OURS = {"annotations": {FIELD_MANAGER: "pulumi-deepseek-dev"}}
EVERY_KIND = "*"


class FakeCluster:
    """Serves ``kinds`` and has ``objects`` by kind and name; counts the questions."""

    def __init__(self, objects: Mapping[str, Mapping[str, Any]], kinds: str | tuple[str, ...] = EVERY_KIND) -> None:
        self.objects = objects
        self.kinds = kinds
        self.asked: list[str] = []
        self.deleted: list[str] = []

    def serves(self, _: str, kind: str) -> bool:
        return self.kinds == EVERY_KIND or kind in self.kinds

    def metadata(self, _: str, kind: str, *, namespace: str | None, name: str) -> Mapping[str, Any] | None:
        self.asked.append(f"{kind} {namespace}/{name}" if namespace else f"{kind} {name}")
        return self.objects.get(self.asked[-1])

    def jobs(self, namespace: str) -> list[dict[str, Any]]:
        prefix = f"Job {namespace}/"
        return [
            {"metadata": {"name": key.removeprefix(prefix), **metadata}}
            for key, metadata in self.objects.items()
            if key.startswith(prefix)
        ]

    def delete_job(self, namespace: str, name: str) -> None:
        self.deleted.append(f"{namespace}/{name}")


class Unreachable(FakeCluster):
    def serves(self, _: str, __: str) -> bool:
        raise LookupFailedError("connection refused")

    def metadata(self, _: str, kind: str, *, namespace: str | None, name: str) -> Mapping[str, Any] | None:
        raise LookupFailedError("connection refused")


class Forbidding(FakeCluster):
    """Says what it serves, as every user may ask, and nothing of objects."""

    def metadata(self, _: str, kind: str, *, namespace: str | None, name: str) -> Mapping[str, Any] | None:
        raise LookupFailedError("status 403")


GROUPS = {"v1": "core/v1"}


def created(kind: str, metadata: Mapping[str, Any], api_version: str = "v1") -> ResourceHookArgs:
    inputs = {"apiVersion": api_version, "kind": kind, "metadata": metadata}
    return ResourceHookArgs(
        urn="urn", id="", name="it", type=f"kubernetes:{GROUPS.get(api_version, api_version)}:{kind}", new_inputs=inputs
    )


SERVICE = created("Service", {"name": "ds-leader", "namespace": "deepseek"})
NAMESPACE = created("Namespace", {"name": "deepseek"})
BUCKET = ResourceHookArgs(
    urn="urn", id="", name="models-bucket", type="alicloud:oss/bucket:Bucket", new_inputs={"bucket": "taken"}
)

Refuse = Callable[..., str]


@pytest.fixture
def refusal(deploy: Run, kubeconfig: object, hooks: dict[str, ResourceHook], monkeypatch: pytest.MonkeyPatch) -> Refuse:
    """``refusal(cluster, *created, changes={}, preview=True)`` is what a run says that is about to create these; empty
    where it says nothing."""

    def run(
        cluster: FakeCluster, *objects: ResourceHookArgs, changes: Mapping[str, Any] | None = None, preview: bool = True
    ) -> str:
        monkeypatch.setattr("components.ownership.LiveCluster", lambda *_: cluster)
        said: list[str] = []
        monkeypatch.setattr("pulumi.log.error", lambda text, *_: said.append(text))
        settings = StackSettings.model_validate(merged(stack_settings("dev"), changes or {}))

        def program() -> None:
            ownership = Ownership(resolve(settings, folder=ROOT), NO_SECRETS)

            async def create() -> None:
                for args in objects:
                    done = hooks["ownership"](args)
                    assert done is not None
                    await done
                await ownership.verdict()

            pulumi.run(create)

        try:
            deploy(program, stack="dev", preview=preview)
        except pulumi.RunError as error:
            said.append(str(error))
            return " ".join(" ".join(said).split())
        assert not said, "what a preview says must fail it"
        return ""

    return run


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr("pulumi.log.warn", lambda text, *_: found.append(text))
    return found


class TestObjects:
    def test_nothing_is_said_of_what_is_not_there(self, refusal: Refuse) -> None:
        assert refusal(FakeCluster({}), SERVICE, NAMESPACE) == ""

    def test_a_preview_tells_all_that_exists_already(self, refusal: Refuse) -> None:
        cluster = FakeCluster({"Service deepseek/ds-leader": {}, "Namespace deepseek": {}})
        text = refusal(cluster, NAMESPACE, SERVICE)
        assert text.count("Pulumi.dev.yaml: 1 problem, nothing was created or changed") == 2
        assert "the Namespace deepseek exists already in the cluster, and this stack did not create it" in text
        assert "write deployment.cluster.createNamespace: false" in text
        assert "choose another deployment.cluster.namespace" in text
        assert "the Service deepseek/ds-leader exists already" in text
        assert "choose another deployment.service.name" in text
        assert text.count("docs/names.md#taking-over-what-exists") == 2

    def test_an_update_stops_at_the_first(self, refusal: Refuse) -> None:
        cluster = FakeCluster({"Service deepseek/ds-leader": {}, "Namespace deepseek": {}})
        text = refusal(cluster, NAMESPACE, SERVICE, preview=False)
        assert "the Namespace deepseek exists already" in text
        assert "Service" not in text

    def test_another_stack_is_named(self, refusal: Refuse) -> None:
        theirs = {"annotations": {FIELD_MANAGER: "pulumi-deepseek-prod"}}
        text = refusal(FakeCluster({"Namespace deepseek": theirs}), NAMESPACE)
        assert "it is that of the Pulumi stack deepseek-prod" in text

    @pytest.mark.parametrize(
        ("kind", "name", "path", "another"),
        [
            ("LeaderWorkerSet", "deepseek-r1", "deployment.inference.name", "deployment.inference.name"),
            ("NetworkPolicy", "deepseek-r1-members", "deployment.inference.name", "deployment.inference.name"),
            ("ConfigMap", "modelmover-1a2b3c4d", "stack dev", "name of the stack (pulumi stack rename)"),
        ],
    )
    def test_what_names_it_is_told(self, refusal: Refuse, kind: str, name: str, path: str, another: str) -> None:
        text = refusal(
            FakeCluster({f"{kind} deepseek/{name}": {}}), created(kind, {"name": name, "namespace": "deepseek"})
        )
        assert f" {path} problem: the {kind} deepseek/{name} exists already" in text
        assert f"choose another {another}; or take it over" in text

    def test_what_a_killed_engine_left_is_ours(self, refusal: Refuse) -> None:
        """And so is what a replacement finds in a preview, before it has deleted it."""
        assert refusal(FakeCluster({"Service deepseek/ds-leader": OURS}), SERVICE) == ""

    @pytest.mark.parametrize(
        "metadata",
        [
            {"namespace": "deepseek"},
            {"name": pulumi.UNKNOWN, "namespace": "deepseek"},
            {"name": "api-key-1a2b3c4d", "annotations": {"pulumi.com/autonamed": "true"}},
        ],
        ids=["unnamed", "unknown", "named by the provider"],
    )
    def test_what_has_no_name_of_its_own_is_not_looked_up(self, refusal: Refuse, metadata: dict[str, Any]) -> None:
        cluster = FakeCluster({})
        assert refusal(cluster, created("Secret", metadata)) == ""
        assert cluster.asked == []

    def test_without_a_cluster_nothing_is_looked_up(self, refusal: Refuse) -> None:
        cluster = FakeCluster({"Namespace deepseek": {}})
        assert refusal(cluster, NAMESPACE, changes={"cluster": {"kubeconfigFile": "~/nowhere"}}) == ""
        assert cluster.asked == []

    @pytest.mark.parametrize("preview", [True, False])
    def test_a_cluster_that_does_not_answer_is_warned_of_once(
        self, refusal: Refuse, warnings: list[str], preview: bool
    ) -> None:
        """The provider meets the same, or else takes over what it finds."""
        assert refusal(Unreachable({"Namespace deepseek": {}}), NAMESPACE, SERVICE, preview=preview) == ""
        (warning,) = warnings
        assert "could not be asked what exists already (connection refused)" in warning

    def test_lookup_that_is_forbidden_hides_no_missing_api(self, refusal: Refuse, warnings: list[str]) -> None:
        assert "the cluster has no LeaderWorkerSet API" in refusal(Forbidding({}, kinds=()), NAMESPACE)
        assert "status 403" in warnings[0]


class TestForgottenJobs:
    OBJECTS: Mapping[str, Mapping[str, Any]] = {
        "Job deepseek/model-upload-faa0b844": OURS,
        "Job deepseek/model-upload-11111111": {},
        "Job deepseek/model-upload-22222222": {"annotations": {FIELD_MANAGER: "pulumi-deepseek-prod"}},
        "Job deepseek/model-upload-3525d24d": OURS,
        "Job deepseek/verify-44444444": OURS,
    }
    JOB = created("Job", {"name": "model-upload-3525d24d", "namespace": "deepseek"}, "batch/v1")

    def test_job_of_a_killed_update_makes_way_for_the_next(self, refusal: Refuse) -> None:
        """Its name follows its content, so nothing else would ever meet it; those of others, and of another kind,
        stay."""
        cluster = FakeCluster(self.OBJECTS)
        assert refusal(cluster, self.JOB, preview=False) == ""
        assert cluster.deleted == ["deepseek/model-upload-faa0b844"]

    def test_a_preview_deletes_nothing(self, refusal: Refuse) -> None:
        """There the Job that is about to be replaced is still alive."""
        cluster = FakeCluster(self.OBJECTS)
        assert refusal(cluster, self.JOB) == ""
        assert cluster.deleted == []


class TestApis:
    def test_all_that_are_missing_are_told_once(self, refusal: Refuse) -> None:
        changes = {"storage": {"kind": "fluid"}, "observability": {}}
        text = refusal(FakeCluster({}, kinds=("Namespace", "PodMonitor")), NAMESPACE, SERVICE, changes=changes)
        assert text.startswith("Pulumi.dev.yaml: 3 problems, nothing was created or changed")
        assert "deployment.operators.lws problem: the cluster has no LeaderWorkerSet API" in text
        assert "deployment.operators.fluid problem: the cluster has no Fluid API" in text
        assert "deployment.observability.alerts problem: the cluster has no API for alerts" in text

    def test_what_the_stack_installs_may_be_missing(self, refusal: Refuse) -> None:
        changes = {"operators": {"lws": {"kind": "install"}}}
        assert refusal(FakeCluster({}, kinds=("Namespace",)), NAMESPACE, changes=changes) == ""


class TestBucket:
    @pytest.mark.parametrize("preview", [True, False])
    def test_taken(self, refusal: Refuse, monkeypatch: pytest.MonkeyPatch, preview: bool) -> None:
        monkeypatch.setattr("components.ownership.bucket_exists", lambda _, name: name == "taken")
        text = refusal(FakeCluster({}), BUCKET, preview=preview)
        assert "deployment.weights.bucket problem: the OSS bucket taken exists already" in text
        assert "write another weights.bucket.name" in text
        assert "weights.bucket: {kind: existing, name: taken}" in text

    def test_free(self, refusal: Refuse, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("components.ownership.bucket_exists", lambda _, name: False)
        assert refusal(FakeCluster({}), BUCKET) == ""


class TestFieldManager:
    @pytest.mark.parametrize("stack", ["dev", "prod"])
    def test_every_object_names_it_and_is_looked_up_before_it_is_created(self, program: Run, stack: str) -> None:
        """Releases are Helm's, and components are no objects."""
        recorder = program(stack=stack)
        objects = {
            key: request
            for key, request in recorder.requests.items()
            if key.startswith("kubernetes:") and not key.startswith("kubernetes:helm.sh")
        }
        assert len(objects) > 5
        for key, request in objects.items():
            assert request.object["metadata"]["annotations"][FIELD_MANAGER] == f"pulumi-deepseek-{stack}", key
            assert list(request.hooks.before_create)[:1] == ["ownership"], key
        assert list(recorder.request("oss/bucket:Bucket").hooks.before_create) == ["ownership", "changes"]

    def test_release_is_left_to_helm(self, program: Run) -> None:
        release = program({"operators": {"lws": {"kind": "install"}}}).request("Release")
        assert "metadata" not in release.object
        assert list(release.hooks.before_create) == ["changes"]

    def test_longest_name_of_a_stack_makes_a_legal_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Pulumi allows 100 characters."""
        monkeypatch.setattr("pulumi.get_project", lambda: "deepseek")
        monkeypatch.setattr("pulumi.get_stack", lambda: 100 * "s")
        # https://github.com/kubernetes/apimachinery/blob/master/pkg/apis/meta/v1/validation/validation.go
        assert len(field_manager()) <= 128


def test_namespace_outlives_the_stack(program: Run) -> None:
    """With it would go what others have put into it."""
    assert program().request("Namespace").retainOnDelete is True
