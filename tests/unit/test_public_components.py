"""The components for other programs: built directly, with the checks of a stack file, and accepted by the analyser."""

import json
import re
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import pulumi
import pulumi_kubernetes as k8s
import pytest
from pulumi.provider.experimental.component import ComponentProvider
from pulumi.provider.experimental.util import camel_case

from components import ModelService, ModelServiceArgs, ModelStorage, ModelWeights
from components.public import arguments
from components.public.provider import COMPONENTS, PACKAGE
from tests.unit.conftest import API_KEY, ROOT, Recorder, Run, is_secret, plain

KEY: dict[str, Any] = {"access_key_id": "LTAI", "access_key_secret": "hidden"}
ROLE: dict[str, Any] = {"role_arn": "acs:ram::1:role/r", "oidc_provider_arn": "acs:ram::1:oidc-provider/a"}
REGION: dict[str, Any] = {"region": "cn-hangzhou"}


@pytest.fixture
def build(deploy: Run) -> Callable[..., Recorder]:
    """``build(Component, **args)`` runs a program with one component, called llm. A function stands for an output of
    another resource, which only a program has."""

    def build(component: type[Any], /, *, config: dict[str, str] | None = None, **args: Any) -> Recorder:
        def program() -> None:
            component("llm", {name: value() if callable(value) else value for name, value in args.items()})

        found: Recorder = deploy(program, config=config or {})
        return found

    return build


def later(value: str) -> Callable[[], pulumi.Output[str]]:
    return lambda: pulumi.Output.from_input(value)


def whole(name: str, namespace: pulumi.Output[str], kind: str = "csi") -> ModelService:
    """All three, one over the other."""
    weights = ModelWeights(name, {"region": "cn-hangzhou", "namespace": namespace})
    assert weights.access_key_id is not None
    assert weights.access_key_secret is not None
    mounted = ModelStorage(
        name,
        {
            "region": "cn-hangzhou",
            "namespace": namespace,
            "bucket_name": weights.bucket_name,
            "endpoint": weights.endpoint,
            "access_key_id": weights.access_key_id,
            "access_key_secret": weights.access_key_secret,
            "kind": kind,
        },
    )
    return ModelService(
        name,
        {
            "region": "cn-hangzhou",
            "namespace": namespace,
            "claim_name": mounted.claim_name,
            "storage": kind,
            "api_key": pulumi.Output.secret(API_KEY["apiKey"]),
        },
    )


@pytest.mark.parametrize("kind", ["csi", "fluid"])
def test_twice_in_one_program(kind: str, deploy: Run) -> None:
    def program() -> None:
        namespace = k8s.core.v1.Namespace("theirs", metadata={"name": "n"}).metadata["name"]
        for name in ("first", "second"):
            whole(name, namespace, kind=kind)

    # The recorder refuses two resources of one type and name.
    recorder: Recorder = deploy(program)
    assert Counter(kind for kind in recorder.kinds() if kind.startswith("Model")) >= Counter(
        {"ModelWeights": 2, "ModelStorage": 2, "ModelService": 2, "ModelBucket": 2}
    )
    bodies = [body for body in recorder.manifests() if "name" in body["metadata"]]
    named = Counter((body["kind"], body["metadata"]["name"]) for body in bodies)
    assert not [name for name, count in named.items() if count > 1]
    namespaces = {body["metadata"].get("namespace") for body in recorder.manifests()}
    assert namespaces == {None, "n"}, "only the namespace itself and the volumes are in none"
    outputs = {urn: found for urn, found in recorder.component_outputs.items() if "deepseek-acs:index" in urn}
    assert len(outputs) == 6
    assert all(found for found in outputs.values())


def dependencies(recorder: Recorder, kind: str) -> set[str]:
    """Types of what a resource waits for."""
    return {urn.split("::")[2].rsplit("$", 1)[-1].rsplit(":", 1)[-1] for urn in recorder.request(kind).dependencies}


def test_pods_come_after_the_weights(deploy: Run) -> None:
    recorder = deploy(lambda: whole("llm", later("n")()))
    assert "Job" in dependencies(recorder, "PersistentVolume")
    assert "PersistentVolumeClaim" in dependencies(recorder, "LeaderWorkerSet")


def test_a_preview_knows_the_bucket(deploy: Run) -> None:
    recorder = deploy(lambda: whole("llm", later("n")()), preview=True)
    bucket = recorder.inputs("Bucket")["bucket"]
    assert recorder.manifest("PersistentVolume")["spec"]["csi"]["volumeAttributes"]["bucket"] == bucket


def test_keys_stay_secret(deploy: Run) -> None:
    recorder = deploy(lambda: whole("llm", later("n")()))
    outputs = next(found for urn, found in recorder.component_outputs.items() if "ModelWeights" in urn)
    assert is_secret(outputs["accessKeySecret"])
    assert is_secret(outputs["accessKeyId"])
    assert {"stringData"} == {
        key for key, value in recorder.raw_inputs("Secret", "llm-api-key").items() if is_secret(value)
    }


def test_the_same_pods_as_the_stack_program(deploy: Run, program: Run) -> None:
    """The components have the defaults of a stack file: the stack's group, with the names that a component gives."""
    args: ModelServiceArgs = {
        "region": "cn-hangzhou",
        "claim_name": "c",
        "group_name": "deepseek-r1",
        "max_model_len": 2048,
        "gpus_per_pod": 8,
        "tensor_parallel_size": 8,
        "pipeline_parallel_size": 2,
    }
    ours = deploy(lambda: ModelService("llm", args) and None).manifest("LeaderWorkerSet")
    theirs = program(stack="dev").manifest("LeaderWorkerSet")
    claim = theirs["spec"]["leaderWorkerTemplate"]["leaderTemplate"]["spec"]["volumes"][0]["persistentVolumeClaim"]
    text = json.dumps(theirs["spec"]).replace(claim["claimName"], "c")
    assert ours["spec"] == json.loads(text)


def test_hardening_can_be_switched_off(build: Callable[..., Recorder]) -> None:
    assert "ServiceAccount" in build(ModelService, **SERVICE).kinds()
    assert "ServiceAccount" not in build(ModelService, **SERVICE, hardened=False).kinds()


def test_a_bucket_and_roles_of_their_own(build: Callable[..., Recorder]) -> None:
    recorder = build(
        ModelWeights,
        **REGION,
        bucket=later("theirs"),
        existing_bucket=True,
        oidc_provider_arn="acs:ram::1:oidc-provider/a",
        oidc_issuer="https://issuer",
        namespace=later("n"),
    )
    assert not [key for key in recorder.requests if "BucketPolicy" in key], "an existing bucket is left alone"
    account = recorder.manifest("ServiceAccount")["metadata"]
    assert account["namespace"] == "n"
    trust = recorder.inputs("Role", "mover")["assumeRolePolicyDocument"]
    assert f"system:serviceaccount:n:{account['name']}" in trust
    outputs = next(found for urn, found in recorder.component_outputs.items() if "ModelWeights" in urn)
    assert {"bucketName", "endpoint", "prefix", "roleArn", "oidcProviderArn"} == outputs.keys()
    assert plain(outputs["bucketName"]) == "theirs"


def test_the_region_is_the_providers(build: Callable[..., Recorder]) -> None:
    recorder = build(ModelStorage, config={"alicloud:region": "cn-beijing"}, bucket_name="theirs", **ROLE)
    attributes = recorder.manifest("PersistentVolume")["spec"]["csi"]["volumeAttributes"]
    assert attributes["url"] == "https://oss-cn-beijing-internal.aliyuncs.com"
    assert attributes["authType"] == "rrsa"


def test_another_content_is_another_volume(build: Callable[..., Recorder]) -> None:
    args: dict[str, Any] = {**REGION, **KEY, "bucket_name": later("theirs")}
    first, second = (build(ModelStorage, **args, content=content).manifest("PersistentVolumeClaim") for content in "ab")
    assert first["metadata"]["name"] != second["metadata"]["name"]


STORAGE = {**REGION, "bucket_name": "theirs"}
SERVICE = {**REGION, "claim_name": "c"}
MISTAKES: list[tuple[type[Any], dict[str, Any], str, str]] = [
    (ModelWeights, {}, "region", "this setting is required"),
    (ModelWeights, {**REGION, "bukcet": "b"}, "bukcet", "there is no such argument; did you mean bucket?"),
    (
        ModelWeights,
        {**REGION, "x": 1},
        "x",
        "there is no such argument; remove it: docs/library.md lists the arguments",
    ),
    (ModelWeights, {**REGION, "model": "deepseek-ai/DeepSeek-R2"}, "model", "set weights_gib to the size of its"),
    (
        ModelWeights,
        {**REGION, "source": "s3"},
        "source",
        "this value is not one of the choices; write 'modelScope' or 'huggingFace'",
    ),
    (ModelWeights, {**REGION, "existing_bucket": True}, "bucket", "this setting is required"),
    (ModelWeights, {**REGION, "access_key_id": "i"}, "access_key_secret", "it is missing, and access_key_id is given"),
    (ModelWeights, {**REGION, "oidc_issuer": "https://i"}, "oidc_provider_arn", "this setting is required"),
    (
        ModelWeights,
        {**REGION, "prefix": later("p")},
        "prefix",
        "the plan needs the value before any exists; write a plain",
    ),
    (ModelStorage, {**REGION, **KEY}, "bucket_name", "this argument is required; add it"),
    (ModelStorage, STORAGE, "access_key_id", "there is neither an AccessKey nor a role; write access_key_id and"),
    (ModelStorage, {**STORAGE, **KEY, **ROLE}, "access_key_id", "there are an AccessKey and a role; write"),
    (
        ModelStorage,
        {**STORAGE, "role_arn": "r"},
        "oidc_provider_arn",
        "it is missing, and role_arn is given; write both",
    ),
    (ModelStorage, {**STORAGE, **ROLE, "kind": "fluid"}, "role_arn", "fluid reads the bucket with an AccessKey"),
    (ModelStorage, {**STORAGE, **KEY, "kind": "fluid", "workers": 2}, "workers", "less than the"),
    (ModelStorage, {**STORAGE, **KEY, "bucket_name": "No!"}, "bucket_name", "does not have the expected form"),
    (ModelService, REGION, "claim_name", "this argument is required; add it"),
    (
        ModelService,
        {**SERVICE, "gpu_series": "gu8tf"},
        "gpu_series",
        "there is no series gu8tf; names are case-sensitive; write GU8TF",
    ),
    (ModelService, {**SERVICE, "tensor_parallel_size": 7}, "tensor_parallel_size", "7"),
    (ModelService, {**SERVICE, "gpus_per_pod": 1, "tensor_parallel_size": 1, "pipeline_parallel_size": 1}, "", "fit"),
    (ModelService, {**SERVICE, "service_name": "llm"}, "service_name", "it equals group_name"),
    (ModelService, {**SERVICE, "allowed_cidrs": ["10.0.0.0/8"]}, "service_kind", "or set clients instead"),
    (ModelService, {**SERVICE, "replicas": -1}, "replicas", "greater than or equal to 0"),
    (ModelService, {**SERVICE, "gpu_hour_price": -1}, "gpu_hour_price", "greater than or equal to 0"),
]


@pytest.mark.parametrize(("component", "args", "path", "text"), MISTAKES)
def test_mistakes_are_named_by_argument(
    component: type[Any], args: dict[str, Any], path: str, text: str, build: Callable[..., Recorder]
) -> None:
    with pytest.raises(pulumi.RunError) as raised:
        build(component, **args)
    message = str(raised.value)
    assert message.startswith(f"{component.__name__} llm: ")
    assert "deployment." not in message
    flat = " ".join(message.split()).replace(" fix: ", "; ")
    assert re.search(rf"\b{path}\b.*problem: .*{re.escape(text)}", flat), message


SECRET_MISTAKES: list[tuple[type[Any], dict[str, Any], str]] = [
    (ModelService, {**SERVICE, "api_key": "s3cret"}, "api_key: it has fewer than 32 characters; make one with openssl"),
    (ModelWeights, {**REGION, "hub_token": "s3cret "}, "hub_token: it contains white space or other characters"),
    (ModelWeights, {**REGION, **KEY, "access_key_secret": "s3cret\n"}, "access_key_secret: it contains white space"),
]


@pytest.mark.parametrize(("component", "args", "text"), SECRET_MISTAKES)
def test_a_secret_of_the_wrong_form_is_refused_and_not_shown(
    component: type[Any], args: dict[str, Any], text: str, build: Callable[..., Recorder]
) -> None:
    with pytest.raises(pulumi.RunError, match=re.escape(text)) as raised:
        build(component, **args)
    assert "s3cret" not in str(raised.value)


def test_a_long_name_is_refused(deploy: Run) -> None:
    name = "a-name-that-no-bucket-can-have-with-project-and-stack"
    with pytest.raises(pulumi.RunError, match=r"set bucket, or rename the stack"):
        deploy(lambda: ModelWeights(name, {"region": "cn-hangzhou"}))


def test_users_of_the_schema_read_its_names(build: Callable[..., Recorder], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arguments, "spell", camel_case)
    with pytest.raises(pulumi.RunError, match=r"\n  tensorParallelSize\n[^\0]*gpusPerPod"):
        build(ModelService, **SERVICE, tensor_parallel_size=7)


def test_warnings_are_the_components(build: Callable[..., Recorder], monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(
        pulumi.log, "warn", lambda text, resource: said.append(f"{resource.pulumi_resource_name}: {text}")
    )
    build(ModelStorage, **STORAGE, **KEY, pods=100)
    assert said == [
        "llm: throughput_mibps: 300 MiB/s is more than OSS delivers: an account has 100 Gbit/s in cn-hangzhou, and 100 "
        "pods that start together get 119; write 119, so that the timeouts allow for the real load time"
    ]


def test_the_preview_names_the_cost_of_the_groups(
    build: Callable[..., Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not that of bucket, upload and cache, which are other components'."""
    said: list[str] = []
    monkeypatch.setattr(pulumi.log, "info", lambda text, resource: said.append(text))
    build(ModelService, **SERVICE)
    assert "cost      not known: there is no public price of GU8TF; docs/cost.md says" in said[0]
    build(ModelService, **SERVICE, storage="fluid", gpu_hour_price=5, memory_gib_hour_price=0, tokens_per_second=1000)
    lines = {line[:10].strip(): line[10:] for line in said[1].splitlines()}
    assert lines["cost"] == "USD 80.00 per hour for 1 group"
    assert lines["tokens"] == "USD 22.22 per million of output"
    assert lines["unpriced"].startswith("vCPUs: ")
    assert "bucket" not in lines


def test_the_schema(request: pytest.FixtureRequest) -> None:
    """What the analyser makes of the three: the interface of all other languages."""
    provider = ComponentProvider([*COMPONENTS], PACKAGE, version="0.0.0")
    schema = json.dumps(json.loads(provider.schema or ""), indent=2) + "\n"
    golden = ROOT / "tests" / "golden" / "schema.json"
    if request.config.getoption("--update-golden"):
        golden.write_text(schema)
    assert schema == golden.read_text(), "make golden rewrites it; a change may break programs of others"


@pytest.mark.parametrize("component", [ModelService, ModelStorage, ModelWeights])
def test_every_argument_is_documented_and_known(component: type[Any]) -> None:
    module = sys.modules[component.__module__]
    known = module.ARGUMENTS
    declared = module.__dict__[f"{component.__name__}Args"].__annotations__
    assert declared.keys() == {*known.paths, *known.inputs, *known.others}
    schema = json.loads((ROOT / "tests" / "golden" / "schema.json").read_text())
    described = schema["resources"][f"deepseek-acs:index:{component.__name__}"]
    assert all(value.get("description") for value in described["inputProperties"].values())
    assert all(value.get("description") for value in described["properties"].values())
