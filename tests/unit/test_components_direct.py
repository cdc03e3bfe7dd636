"""Each component on its own, twice in one program: nothing that either of them has collides with the other's."""

import re
import tomllib
from collections import Counter
from collections.abc import Callable
from typing import Any

import pulumi
import pulumi_kubernetes as k8s
import pytest

from components.access import Access, AccessArgs
from components.canary_guard import CanaryGuard, CanaryGuardArgs
from components.cluster import Cluster, ClusterArgs
from components.cost_guard import CostGuard, CostGuardArgs
from components.credentials import AccessKey
from components.disruption_budget import DisruptionBudget, DisruptionBudgetArgs
from components.fluid_cache import FluidCache, FluidCacheArgs
from components.gang import Gang, GangArgs
from components.gate import Gate, GateArgs, KnownGood, QuestionArgs
from components.group_args import InferenceGroupArgs
from components.incidents import Incidents, IncidentsArgs
from components.inference_group import InferenceGroup
from components.inference_pool import EndpointPickerArgs, InferencePoolArgs, LeaderPool
from components.inference_service import InferenceService, InferenceServiceArgs
from components.model_bucket import ModelBucket, ModelBucketArgs
from components.model_upload import ModelUpload, ModelUploadArgs
from components.monitoring.alerts import AlertThresholds
from components.network_policy import Client
from components.observability import Observability, ObservabilityArgs
from components.operators import OperatorsArgs
from components.oss_volume import OssVolume, OssVolumeArgs
from components.route import Route, RouteArgs
from components.scaling import Autoscaling, AutoscalingArgs
from components.verification import BenchmarkArgs, Verification, VerificationArgs
from deepseek_acs.planner.loading import load_budget
from tests.unit.conftest import ROOT, Recorder, Run

Make = Callable[[str, pulumi.Output[str]], pulumi.ComponentResource]
"""Makes a component of this name in the namespace of another resource."""

KEY: dict[str, Any] = {"access_key_id": "id", "access_key_secret": "secret"}
WEIGHTS: dict[str, Any] = {"bucket_name": "theirs", "endpoint": "https://oss", "prefix": "models/m", "content": "m"}
LOADING = load_budget(weights_gib=10, throughput_mib_s=300)


def bucket(name: str, _: pulumi.Output[str]) -> pulumi.ComponentResource:
    return ModelBucket(name, ModelBucketArgs(region="cn-hangzhou", prefix="models/m", mover_subject="s"))


def bucket_with_roles(name: str, _: pulumi.Output[str]) -> pulumi.ComponentResource:
    roles: dict[str, Any] = {"oidc_provider_arn": "acs:ram::1:oidc-provider/a", "oidc_issuer": "https://issuer"}
    return ModelBucket(name, ModelBucketArgs(region="cn-hangzhou", prefix="models/m", mover_subject="s", **roles))


def bucket_with_a_key(name: str, _: pulumi.Output[str]) -> pulumi.ComponentResource:
    key = AccessKey(key_id=pulumi.Output.secret("id"), key_secret=pulumi.Output.secret("secret"))
    return ModelBucket(name, ModelBucketArgs(region="cn-hangzhou", prefix="models/m", access_key=key))


def upload(name: str, namespace: pulumi.Output[str]) -> pulumi.ComponentResource:
    args = ModelUploadArgs(
        namespace=namespace,
        source="hf://owner/name@main",
        destination="oss://theirs/models/m",
        region="cn-hangzhou",
        endpoint="https://oss",
        hub_token="token",
        image="python:3.12",
        cpu=8,
        memory="16Gi",
        deadline_seconds=60,
        **KEY,
    )
    return ModelUpload(name, args)


def volume(name: str, namespace: pulumi.Output[str]) -> pulumi.ComponentResource:
    return OssVolume(name, OssVolumeArgs(namespace=namespace, **WEIGHTS, **KEY))


def cache(name: str, namespace: pulumi.Output[str]) -> pulumi.ComponentResource:
    size: dict[str, Any] = {"workers": 2, "cpu": 16, "memory": "128Gi", "quota_gib": 115, "preload_seconds": 60}
    return FluidCache(name, FluidCacheArgs(namespace=namespace, image="python:3.12", **size, **WEIGHTS, **KEY))


def group(name: str, namespace: pulumi.Output[str]) -> pulumi.ComponentResource:
    args = InferenceGroupArgs(
        namespace=namespace,
        name=name,
        tensor=8,
        pipeline=1,
        gpu_resource="nvidia.com/gpu",
        gpus=8,
        cpu=64,
        memory_gib=512,
        shared_memory_gib=32,
        image="vllm:v0.33.0",
        served_name="m",
        gpu_memory_utilization=0.9,
        claim_name=pulumi.Output.from_input("a-claim-of-another-program"),
        model_path="/models/m",
        startup_seconds=600,
        create_seconds=2400,
        update_seconds=2400,
        request_seconds=600,
        grace_seconds=645,
    )
    return InferenceGroup(name, args)


def service(name: str, namespace: pulumi.Output[str]) -> pulumi.ComponentResource:
    return InferenceService(name, InferenceServiceArgs(namespace=namespace, name=name, selector={"role": "leader"}))


def access(name: str, namespace: pulumi.Output[str]) -> pulumi.ComponentResource:
    args = AccessArgs(
        namespace=namespace,
        group=name,
        api_key="key",
        has_service_account=True,
        clients=(Client(cidr="10.0.0.0/8"),),
        allowed_cidrs=("10.0.0.0/8",),
    )
    return Access(name, args)


def cluster(name: str, _: pulumi.Output[str]) -> pulumi.ComponentResource:
    return Cluster(name, ClusterArgs(namespace=name, create_namespace=True, operators=OperatorsArgs(region="r")))


def budget(name: str, namespace: pulumi.Output[str]) -> pulumi.ComponentResource:
    return DisruptionBudget(name, DisruptionBudgetArgs(namespace=namespace, group_name=name, max_unavailable=1))


def http_route(name: str, namespace: pulumi.Output[str]) -> pulumi.ComponentResource:
    way: dict[str, Any] = {"gateway": "g", "section_name": "https", "exact_paths": ("/v1/models",)}
    return Route(name, RouteArgs(namespace=namespace, host="h.example.com", service="s", port=80, **way))


def ingress(name: str, namespace: pulumi.Output[str]) -> pulumi.ComponentResource:
    way: dict[str, Any] = {"class_name": "nginx", "certificate": "pem", "key": "pem", "exact_paths": ("/v1/models",)}
    return Route(name, RouteArgs(namespace=namespace, host="h.example.com", service="s", port=80, **way))


def observability(name: str, _: pulumi.Output[str]) -> pulumi.ComponentResource:
    args = ObservabilityArgs(
        namespace="n",
        group=name,
        selector={"role": "leader"},
        engine_version=(0, 33, 0),
        budget=LOADING,
        alerts=AlertThresholds(),
        dashboard_labels={"grafana_dashboard": "1"},
    )
    return Observability(name, args)


def queue(name: str, _: pulumi.Output[str]) -> pulumi.ComponentResource:
    args = AutoscalingArgs(
        namespace="n",
        group=name,
        kind="queue",
        min_replicas=1,
        max_replicas=2,
        create_seconds=60,
        cache_metric="cache",
        prometheus_url="http://p",
        prometheus_token="token",
    )
    return Autoscaling(name, args)


def gang(name: str, namespace: pulumi.Output[str]) -> pulumi.ComponentResource:
    return Gang(name, GangArgs(namespace=namespace, group=name, pods=2, timeout_seconds=60))


def cost_guard(name: str, namespace: pulumi.Output[str]) -> pulumi.ComponentResource:
    limits: dict[str, Any] = {"failed_starts": 3, "pending_seconds": 600, "unready_seconds": 3000}
    limits |= {"replicas": 1, "gpu_resource": "nvidia.com/gpu"}
    args = CostGuardArgs(namespace=namespace, group=name, image="python:3.12", **limits)
    return CostGuard(name, args)


def canary_guard(name: str, namespace: pulumi.Output[str]) -> pulumi.ComponentResource:
    args = CanaryGuardArgs(
        namespace=namespace,
        base_name=name,
        group=f"{name}-v33",
        port=8000,
        route="route",
        service="leader-v33",
        http_requests="a",
        finished="b",
        first_token_latency="c",
        error_share=0.05,
        first_token_seconds=None,
        least_requests=20,
        keys_secret=None,
        image="python:3.12",
    )
    return CanaryGuard(name, args)


def gate_args(name: str, namespace: pulumi.Output[str], store: pulumi.Output[str]) -> GateArgs:
    return GateArgs(
        namespace=namespace,
        store=store,
        group=name,
        model="m",
        port=8000,
        template_digest="0a1b2c3d",
        questions=(QuestionArgs(ask="1 + 1?", holds=("2",)),),
        max_tokens=16,
        at_least=0.9,
        worse_by=0.05,
        long_tokens=0,
        requests=4,
        concurrency=2,
        output_tokens=8,
        slower_by=1.25,
        returns=True,
        ready_seconds=600,
        deadline_seconds=1800,
        silence_seconds=180,
        long_seconds=900,
        image="python:3.12",
    )


def known_good(name: str, namespace: pulumi.Output[str]) -> pulumi.ComponentResource:
    return KnownGood(name, name, namespace)


def gate(name: str, namespace: pulumi.Output[str]) -> pulumi.ComponentResource:
    return Gate(name, gate_args(name, namespace, pulumi.Output.from_input("records")))


def incidents(name: str, namespace: pulumi.Output[str]) -> pulumi.ComponentResource:
    args = IncidentsArgs(namespace=namespace, group=name, port=8000, keep=2, lines=10, plan="p", image="python:3.12")
    return Incidents(name, args)


def pool(name: str, namespace: pulumi.Output[str]) -> pulumi.ComponentResource:
    picker = EndpointPickerArgs(image="epp:v1.5.0", cpu=1, memory="1Gi", engine_version=(0, 33, 0))
    args = InferencePoolArgs(namespace=namespace, group=name, selector={"a": "b"}, port=8000, picker=picker)
    return LeaderPool(name, args)


def verification(name: str, namespace: pulumi.Output[str]) -> pulumi.ComponentResource:
    args = VerificationArgs(
        namespace=namespace,
        model="m",
        url="http://s",
        subject="0123",
        smoke=True,
        benchmark=BenchmarkArgs(image="vllm:v0.33.0"),
        image="python:3.12",
        claim_name="claim",
        model_path="/models/m",
    )
    return Verification(name, args)


EACH: list[Make] = [
    bucket,
    bucket_with_roles,
    bucket_with_a_key,
    pool,
    upload,
    volume,
    cache,
    group,
    service,
    access,
    cluster,
    budget,
    http_route,
    ingress,
    observability,
    queue,
    gang,
    cost_guard,
    canary_guard,
    incidents,
    known_good,
    gate,
    verification,
]

ANY_OBJECT = ("ConfigMap", "Secret", "ServiceAccount", "Role", "RoleBinding")
"""Kinds of which some have a name that the provider makes of the resource's."""


@pytest.mark.parametrize("make", EACH, ids=lambda make: make.__name__)
def test_twice_in_one_program(make: Make, deploy: Run) -> None:
    def program() -> None:
        namespace = k8s.core.v1.Namespace("theirs", metadata={"name": "n"}).metadata["name"]
        for name in ("first", "second"):
            make(name, namespace)

    # The recorder refuses two resources of one type and name.
    recorder: Recorder = deploy(program)
    children = [key.split("::")[1] for key in recorder.requests if not key.endswith("::theirs")]
    assert all(name.startswith(("first", "second")) for name in children), children
    named = Counter(
        (body["kind"], body["metadata"].get("namespace"), body["metadata"]["name"])
        for body in recorder.manifests()
        if "name" in body["metadata"]
    )
    assert not [name for name, count in named.items() if count > 1]
    outputs = [found for urn, found in recorder.component_outputs.items() if ":Stack::" not in urn]
    assert outputs
    assert all(outputs), "outputs of every component are registered"


COMPONENTS = {
    name: f"components.{path.stem}"
    for path in (ROOT / "components").glob("*.py")
    for name in re.findall(r"^class (\w+)\(.*ComponentResource\)", path.read_text(), re.MULTILINE)
}
"""Their modules, by name. Those of components/public/ have test_public_components.py."""


def test_no_component_is_left_out() -> None:
    """Two are parts of others."""
    assert COMPONENTS.keys() - globals().keys() == {"Operators", "Preload"}


def test_no_component_may_import_a_section_of_the_settings() -> None:
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    (contract,) = [one for one in tools["importlinter"]["contracts"] if one["name"].startswith("Components know plain")]
    sections = {path.stem for path in (ROOT / "deepseek_acs" / "settings").glob("[a-z]*.py")}
    assert {*COMPONENTS.values()} <= {*contract["source_modules"]}
    # What all sections share: forms of values, paths, and texts of errors.
    assert sections - {name.rpartition(".")[2] for name in contract["forbidden_modules"]} == {
        *("base", "cron", "errors", "paths", "secret_texts")
    }
