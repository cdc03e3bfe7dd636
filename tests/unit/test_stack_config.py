"""The stack's configuration: every mistake is named with its place and its fix, all at once, and no value is shown."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pulumi
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from components import stack_config
from deepseek_acs.planner.findings import TERMINAL_WIDTH, Field, Finding, report
from deepseek_acs.planner.spec import EngineSpec, Layout, LifecycleSpec, PodSize, RolloutSpec
from deepseek_acs.settings.base import BINARY_QUANTITY, mebibytes, quantity
from deepseek_acs.settings.errors import findings
from deepseek_acs.settings.paths import STACK_PATHS
from deepseek_acs.settings.secret_texts import misplaced_secrets, names_a_secret, secret_in
from deepseek_acs.settings.stack import StackSettings
from tests.unit.conftest import PINNED, ROOT, errors, merged, resolved, stack_file, stack_settings, warnings

DEV = stack_settings("dev")

WINDOW = {"start": "0 8 * * *", "end": "0 20 * * *", "replicas": 1}


def scaling(**values: Any) -> dict[str, Any]:
    return {"inference": {"replicas": None, "scaling": values}}


def problems(changes: dict[str, Any]) -> list[Finding]:
    try:
        StackSettings.model_validate(merged(DEV, changes))
    except ValidationError as error:
        return findings(error)
    return []


def test_stack_files_are_valid() -> None:
    stacks = [path.stem.removeprefix("Pulumi.") for path in ROOT.glob("Pulumi.*.yaml")]
    assert "dev" in stacks
    for stack in stacks:
        StackSettings.model_validate(stack_file(stack))


@pytest.mark.parametrize(
    ("changes", "path", "problem", "fix"),
    [
        ({"weights": {"prefix": None}}, "weights.prefix", "this setting is required", "add it: folder of the model"),
        ({"inference": {"gpu": None}}, "inference.gpu", "this setting is required", "add it: GPU series"),
        ({"inferense": {}}, "inferense", "there is no such setting", "did you mean inference?"),
        ({"model": {"xyz": 1}}, "model.xyz", "there is no such setting", "remove it; valid here: name, servedName"),
        (
            {"inference": {"engine": {"backend": "Ray"}}},
            "inference.engine.backend",
            "this value is not one of the choices",
            "write 'ray' or 'mp'",
        ),
        (
            {"weights": {"bucket": {"kind": "exists"}}},
            "weights.bucket.kind",
            "this value is not one of the choices",
            "write 'create' or 'existing'",
        ),
        (
            {"weights": {"identity": {}}},
            "weights.identity.kind",
            "this setting is required",
            "write 'ramUser' or 'accessKey' or 'rrsa'",
        ),
        (
            {"weights": {"bucket": {"kind": "existing"}}},
            "weights.bucket.name",
            "this setting is required",
            "add it: name of the bucket. Example: my-models",
        ),
        (
            {"weights": {"prefix": "/models/"}},
            "weights.prefix",
            "the value does not have the expected form",
            "without leading or trailing slash",
        ),
        (
            {"weights": {"bucket": {"kind": "create", "name": "My_Bucket"}}},
            "weights.bucket.name",
            "the value does not have the expected form",
            "name of the bucket",
        ),
        (
            {"inference": {"resources": {"memory": "512G"}}},
            "inference.resources.memory",
            "the value does not have the expected form",
            "Example: 512Gi",
        ),
        (
            {"storage": {"mountOptions": ["umask=022", "-o ro"]}},
            "storage.mountOptions[1]",
            "the value does not have the expected form",
            "each without the leading -o",
        ),
        (
            {"inference": {"replicas": "two"}},
            "inference.replicas",
            "input should be a valid integer, unable to parse string as an integer",
            "groups, each a complete copy of the model",
        ),
        (
            {"service": ["clusterIP"]},
            "service",
            "expected a section (mapping), got a single value",
            "write its settings below it, one per line: name, kind, port, ",
        ),
        (
            {"storage": "fluid"},
            "storage",
            "expected a section (mapping), got a single value",
            "write its settings below it, one per line: kind: 'csi' or 'fluid'",
        ),
        (
            {"inference": {"engine": {"extraArgs": "--seed=1"}}},
            "inference.engine.extraArgs",
            "expected a list",
            "write each item on its own line, after a dash: additional arguments of vllm serve",
        ),
        (
            {"inference": {"engine": {"env": {"VLLM_USE_V1": 0}}}},
            "inference.engine.env.VLLM_USE_V1",
            "expected a string",
            "write a string, in quotes if it looks like a number or a boolean",
        ),
        (
            {"inference": {"engine": {"env": "VLLM_USE_V1=0"}}},
            "inference.engine.env",
            "expected a section (mapping), got a single value",
            "write its settings below it, one per line",
        ),
        (
            {"inference": {"engine": {"image": "https://registry/vllm:v0.7.2"}}},
            "inference.engine.image",
            "the value does not have the expected form",
            "container image with a tag or digest, without https://",
        ),
        (
            {"service": {"port": 99999}},
            "service.port",
            "input should be less than or equal to 65535",
            "port of the Service",
        ),
        (
            {"inference": {"name": "x" * 52}},
            "inference.name",
            "string should have at most 51 characters",
            "name of the LeaderWorkerSet",
        ),
        (
            {"inference": {"rollout": {"maxUnavailable": 0}}},
            "inference.rollout",
            "maxUnavailable and maxSurge are both 0, so an update could never proceed",
            "set maxUnavailable to 1, or maxSurge to 1 if you have GPUs for one more group",
        ),
        (
            {"inference": {"rollout": {"restarts": {"allow": "window"}}}},
            "inference.rollout.restarts",
            "allow is window, and there is none",
            "write windows, or allow: confirmed",
        ),
        (
            {"inference": {"rollout": {"restarts": {"windows": [{"start": "0 1 * * *", "end": "0 6 * * *"}]}}}},
            "inference.rollout.restarts",
            "there are windows, and allow is always",
            "write allow: window, or remove windows",
        ),
        (
            {"inference": {"rollout": {"restarts": {"confirm": "7f3a9c12"}}}},
            "inference.rollout.restarts",
            "there is a digest, and allow is always",
            "write allow: confirmed, or remove confirm",
        ),
        (
            {"inference": {"rollout": {"restarts": {"allow": "confirmed", "timezone": "Moon"}}}},
            "inference.rollout.restarts",
            "timezone is not a valid IANA time zone",
            "write a name such as Asia/Shanghai",
        ),
        (
            {"inference": {"rollout": {"restarts": {"windows": [{"start": "1 o'clock", "end": "0 6 * * *"}]}}}},
            "inference.rollout.restarts.windows[0]",
            "start has 2 fields, not 5",
            "write five fields of cron, for example start: 0 8 * * 1-5",
        ),
        (
            {"inference": {"rollout": {"maxSurge": 1, "partition": 1}}},
            "inference.rollout",
            "with partition and maxSurge both set, the additional groups stay, and are billed, until partition is 0",
            "write maxSurge: 0 and maxUnavailable: 1 while partition is set",
        ),
        (
            {"inference": {"lifecycle": {"healthCheck": {"stallSeconds": 10}}}},
            "inference.lifecycle.healthCheck.stallSeconds",
            "input should be greater than or equal to 60",
            "seconds that an engine with requests may make no progress",
        ),
        (
            {"inference": {"engine": {"env": {"1ST": "x"}}}},
            "inference.engine",
            "env has '1ST', and ACS does not start a GPU pod with a variable of this name",
            "no leading digit",
        ),
        (
            {"inference": {"engine": {"env": {f"V{n}": "" for n in range(1901)}}}},
            "inference.engine.env",
            "dictionary should have at most 1900 items after validation, not more",
            "additional environment variables of the containers",
        ),
        (
            {"service": {"kind": "nodePort"}},
            "service.kind",
            "this value is not one of the choices",
            "write 'clusterIP' or 'internalLoadBalancer'",
        ),
        (
            {"inference": {"engine": {"env": {"LWS_GROUP_SIZE": "3"}}}},
            "inference.engine",
            "env has LWS_GROUP_SIZE, which the program sets itself",
            "remove LWS_GROUP_SIZE",
        ),
        (
            {"inference": {"engine": {"env": {"hf_token": "hunter2"}}}},
            "inference.engine",
            "env has hf_token, whose value would be readable in the pod and in the state",
            "remove hf_token, and name a Secret that has it in secretEnv",
        ),
        (
            {"inference": {"engine": {"secretEnv": {"VLLM_API_KEY": {"secret": "s", "key": "k"}}}}},
            "inference.engine",
            "secretEnv has VLLM_API_KEY, which the program sets itself",
            "remove VLLM_API_KEY",
        ),
        (
            {"inference": {"engine": {"env": {"A": "1"}, "secretEnv": {"A": {"secret": "s", "key": "k"}}}}},
            "inference.engine",
            "env and secretEnv both have A",
            "remove one of the two",
        ),
        (
            {"inference": {"engine": {"rayScript": "/x;id>f"}}},
            "inference.engine.rayScript",
            "the value does not have the expected form",
            "script in the image that starts Ray",
        ),
        (
            {"inference": {"engine": {"extraArgs": ["--a=\0"]}}},
            "inference.engine.extraArgs[0]",
            "the value does not have the expected form",
            "additional arguments of vllm serve",
        ),
        (
            {"cloud": {"endpoint": "http://oss.example.com"}},
            "cloud.endpoint",
            "all calls go there over plain HTTP, and the answers contain the AccessKeys that RAM creates",
            "write https://, or an address of this machine",
        ),
        (
            {"cloud": {"endpoint": "https://me:secret@oss.example.com"}},
            "cloud.endpoint",
            "the value does not have the expected form",
            "URL of an emulated cloud",
        ),
        (
            {"inference": {"network": "infiniband"}},
            "inference.network",
            "this value is not one of the choices",
            "write 'standard' or 'rdma'",
        ),
        (
            {"storage": {"kind": "nas"}},
            "storage.kind",
            "this value is not one of the choices",
            "write 'csi' or 'fluid'",
        ),
        (
            {"storage": {"kind": "fluid", "memory": "1Gi"}},
            "storage.memory",
            "the value does not have the expected form",
            "Example: 128Gi",
        ),
        (
            {"inference": {"scaling": {"kind": "hpa", "maxReplicas": 2}}},
            "inference",
            "replicas is set, but with scaling.kind hpa the autoscaler sets the number",
            "remove replicas; scaling.hold fixes the number of groups temporarily",
        ),
        (
            scaling(kind="keda"),
            "inference.scaling.kind",
            "this value is not one of the choices",
            "write 'manual' or 'schedule' or 'queue' or 'hpa'",
        ),
        (
            scaling(kind="hpa", minReplicas=3, maxReplicas=2),
            "inference.scaling",
            "minReplicas 3 is more than maxReplicas 2",
            "write maxReplicas: 3 or a larger number",
        ),
        (
            scaling(kind="hpa", minReplicas=0, maxReplicas=2),
            "inference.scaling.minReplicas",
            "input should be greater than or equal to 1",
            "minimum number of groups",
        ),
        (
            scaling(kind="queue", minReplicas=0, maxReplicas=2, prometheus={"url": "http://p"}),
            "inference.scaling",
            "minReplicas is 0, and with no group running there is no engine with metrics: scaling would never start "
            "again",
            "set activationQuery to a query on the metrics of a gateway",
        ),
        (
            scaling(kind="queue", maxReplicas=2, prometheus={"url": "http://p"}, activationQuery="up"),
            "inference.scaling",
            "activationQuery starts the first group, and minReplicas 1 keeps one at all times",
            "remove activationQuery, or set minReplicas: 0",
        ),
        (
            scaling(kind="queue", maxReplicas=2, prometheus={"url": "http://user:hunter2@p"}),
            "inference.scaling.prometheus.url",
            "the value does not have the expected form",
            "URL of its HTTP API",
        ),
        (
            scaling(kind="schedule", minReplicas=0, windows=[{**WINDOW, "start": "8:00"}]),
            "inference.scaling.windows[0]",
            "start has 1 fields, not 5",
            "write five fields of cron",
        ),
        (
            scaling(kind="schedule", minReplicas=0, windows=[{**WINDOW, "end": WINDOW["start"]}]),
            "inference.scaling.windows[0]",
            "start and end are the same time",
            "write another end; for a whole day use two windows",
        ),
        (
            scaling(kind="schedule", minReplicas=0, windows=[]),
            "inference.scaling",
            "windows is empty",
            "write at least one window, or scaling.kind: manual",
        ),
        (
            scaling(kind="schedule", minReplicas=1, windows=[WINDOW]),
            "inference.scaling",
            "a window has 1 replicas, which is not more than minReplicas 1",
            "write more replicas, or a smaller minReplicas",
        ),
        (
            scaling(kind="schedule", minReplicas=0, windows=[WINDOW], timezone="Shanghai"),
            "inference.scaling",
            "timezone is not a valid IANA time zone",
            "write a name such as Asia/Shanghai",
        ),
        (
            {"operators": {"lws": {"kind": "install", "version": "0.7.0"}}},
            "operators.lws",
            "chart 0.7.0 has the LeaderWorkerSet definition among its templates, so the upgrade to 0.8.0 deletes the "
            "definition and every group with it (https://github.com/kubernetes-sigs/lws/issues/880)",
            "write 0.8.0 or newer; an older controller in the cluster can stay, with kind: expect",
        ),
    ],
)
def test_each_problem_has_path_and_fix(changes: dict[str, Any], path: str, problem: str, fix: str) -> None:
    (found,) = problems(changes)
    assert found.path == f"deployment.{path}".rstrip(".")
    assert found.problem == problem
    assert fix in found.fix


@pytest.mark.parametrize("name", ["TOKENIZERS_PARALLELISM", "VLLM_USE_V1", "nccl.debug"])
def test_variables_that_are_no_secrets(name: str) -> None:
    assert not problems({"inference": {"engine": {"env": {name: "false"}}}})


def test_all_problems_come_at_once() -> None:
    found = problems({"model": {"name": ""}, "service": {"port": 0}, "extra": 1})
    assert {f.path for f in found} == {"deployment.model.name", "deployment.service.port", "deployment.extra"}


def test_deployment_that_is_not_an_object() -> None:
    with pytest.raises(ValidationError) as caught:
        StackSettings.model_validate("text")
    (found,) = findings(caught.value)
    assert found.path == "deployment"
    assert found.problem == "expected a section (mapping), got a single value"
    assert found.fix.startswith("write its settings below it, one per line: cloud, cluster, model, weights, storage, ")


def test_settings_in_one_text(deploy: Any) -> None:
    """Pulumi's own error has the text in it, and with it secrets that were put into the wrong place."""
    with pytest.raises(pulumi.RunError, match="expected a mapping, got a string") as caught:
        deploy(stack_config.load, config={"deepseek:deployment": "hubToken: hf_SECRET"})
    assert "SECRET" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_encrypted_value_among_the_settings(deploy: Any) -> None:
    """Pulumi decrypts ``secure:`` within a key, and the record of the last update has all settings."""
    config = {"deepseek:deployment": json.dumps(merged(DEV, {"inference": {"engine": {"env": {"A": "hidden"}}}}))}
    with pytest.raises(pulumi.RunError) as raised:
        deploy(stack_config.load, config=config, secret_keys=["deepseek:deployment"])
    assert "a value below it is encrypted (secure:)" in str(raised.value)
    assert "hidden" not in str(raised.value)


def test_null_is_a_choice_only_where_it_is_not_the_default() -> None:
    empty = {
        "cloud": None,
        "storage": None,
        "security": {"pods": None},
        "inference": {**DEV["inference"], "lifecycle": None},
        "observability": {"alerts": None},
    }
    with pytest.raises(ValidationError) as caught:
        StackSettings.model_validate({**DEV, **empty})
    found = {finding.path: finding for finding in findings(caught.value)}
    assert set(found) == {"deployment.cloud", "deployment.storage", "deployment.inference.lifecycle"}
    assert found["deployment.inference.lifecycle"].problem == "it is empty"
    assert (
        found["deployment.inference.lifecycle"].fix
        == "write a value, or {} for a section's defaults, or remove the line"
    )
    assert found["deployment.cloud"].fix == "write its settings below it, one per line: region, endpoint, vpcId"
    assert found["deployment.storage"].fix == "write its settings below it, one per line: kind: 'csi' or 'fluid'"


def test_spelling_of_the_program_is_not_that_of_the_file(up: Any) -> None:
    with pytest.raises(
        pulumi.RunError, match=r"deployment\.cluster\.kubeconfig_file(?s:.)*did you mean kubeconfigFile"
    ):
        up({"cluster": {"kubeconfig_file": "~/.kube/config"}})


@given(st.text(min_size=1).filter(lambda text: text not in str(problems({"ossAccessKeySecret": "x"}))))
def test_values_are_never_shown(value: str) -> None:
    """A secret that was put into the wrong place must not reach a log."""
    marked = f"SECRET-{value}-SECRET"
    for changes in (
        {"ossAccessKeySecret": marked},
        {"model": {"weightsGiB": marked}},
        {"inference": {"engine": {"backend": marked}}},
        {"weights": {"bucket": {"kind": marked}}},
        {"weights": {"prefix": f" {marked}"}},
    ):
        found = problems(changes)
        assert found
        assert marked not in report(found, where="Pulumi.dev.yaml")


def test_report_fits_a_terminal_and_keeps_commands_whole() -> None:
    command = "pulumi config set -s prod --secret deepseek:kubeconfig"
    finding = Finding(path="deployment.x", problem="word " * 60, fix=command)
    text = report([finding, finding], where="Pulumi.dev.yaml")
    assert text.startswith("Pulumi.dev.yaml: 2 problems, nothing was created or changed\n")
    assert max(len(line) for line in text.splitlines()) <= TERMINAL_WIDTH
    assert command in text


@given(st.integers(1, 4096), st.sampled_from(["Mi", "Gi", "Ti"]))
def test_mebibytes(count: int, suffix: str) -> None:
    assert mebibytes(f"{count}{suffix}") == count * 1024 ** ["Mi", "Gi", "Ti"].index(suffix)


@settings(max_examples=30)
@given(st.integers(1, 4096 * 1024))
def test_a_quantity_is_the_same_size(size: int) -> None:
    assert mebibytes(quantity(size / 1024)) == size
    assert re.fullmatch(BINARY_QUANTITY, quantity(size / 1024))


def test_missing_deployment(deploy: Any) -> None:
    with pytest.raises(pulumi.RunError, match=r"Pulumi\.test\.yaml: 1 problem") as caught:
        deploy(stack_config.load)
    assert "problem: the stack has no deployment settings" in str(caught.value)
    assert "fix:     copy the deepseek:deployment section" in str(caught.value)


def test_missing_secrets_are_all_named(up: Any) -> None:
    changes = {"cluster": {"kubeconfigFile": None}, "weights": {"identity": {"kind": "accessKey"}}}
    with pytest.raises(pulumi.RunError) as caught:
        up(changes)
    text = str(caught.value)
    assert "3 problems" in text
    assert "pulumi config set -s dev --secret deepseek:kubeconfig < KUBECONFIG-FILE" in " ".join(text.split())
    for key in ("kubeconfig", "ossAccessKeyId", "ossAccessKeySecret"):
        assert f"deepseek:{key}\n    problem: this secret is not set" in text


def test_a_settings_error_stops_before_any_resource(up: Any) -> None:
    with pytest.raises(pulumi.RunError, match=r"deployment\.inference\.replicas") as caught:
        up({"inference": {"replicas": -1}})
    assert caught.value.__suppress_context__, "pydantic's own text would be printed with the traceback"


def test_a_planning_error_names_the_file(up: Any) -> None:
    with pytest.raises(pulumi.RunError, match=r"Pulumi\.dev\.yaml: 1 problem(?s:.)*deployment\.inference\.parallelism"):
        up({"inference": {"parallelism": {"tensor": 4, "pipeline": 3}}})


def test_a_plan_that_fails_says_all_of_why_and_what_works(up: Any) -> None:
    changes = {
        "gpu": {"series": "GN8IS", "available": 16},
        "resources": {"memory": "32Gi", "sharedMemory": "32Gi"},
        "engine": {"startupSeconds": 600},
    }
    with pytest.raises(pulumi.RunError) as caught:
        up({"inference": changes})
    text = " ".join(str(caught.value).split())
    assert "Pulumi.dev.yaml: 3 problems" in text
    assert "deployment.inference problem: deepseek-ai/DeepSeek-R1 does not fit: of 42.1 GiB on the tightest GPU" in text
    assert "fix: choose series GU8TEF: tensor 8 × pipeline 1 on 1 pod of 8 GPUs, or series" in text
    assert "deployment.inference.resources problem: 32 GiB of shared memory leave nothing" in text
    assert "deployment.inference.engine.startupSeconds problem: the startup probe would kill the pod after 600" in text


def test_a_model_by_its_config_json(tmp_path: Path) -> None:
    """The path is relative to the project, whatever the working directory is."""
    own = {"model": {"name": "me/Llama", "configFile": "nowhere/config.json"}}
    (finding,) = errors(resolved(own))
    assert finding.path == "deployment.model.configFile"
    assert f"{ROOT}/nowhere/config.json cannot be read" in finding.problem
    config = {
        "model_type": "llama",
        "num_hidden_layers": 16,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "max_position_embeddings": 8192,
    }
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    open_layout = {"gpu": {"perPod": None}, "parallelism": None}
    found = resolved({"model": {"name": "me/Llama", "configFile": str(path)}, "inference": open_layout})
    assert (found.layout.gpus, round(found.model.weights_gib, 1)) == (1, 2.8)
    assert errors(found) == []


GIVEN = {
    "model": {"weightsGiB": 641.0, "configFile": "~/config.json"},
    "storage": {"throughputMiBps": 200},
    "inference": {
        "name": "group",
        "replicas": None,
        "scaling": {"kind": "hpa", "maxReplicas": 3},
        "network": "rdma",
        "gpu": {"series": "H2000", "perPod": 4, "gpuMemoryGiB": 200.5, "available": 32},
        "parallelism": {"tensor": 4, "pipeline": 3},
        "resources": {"cpu": 40, "memory": "300Gi", "sharedMemory": "512Mi"},
        "rollout": {"maxSurge": 1, "maxUnavailable": 2},
        "lifecycle": {"requestSeconds": 900, "graceSeconds": 1000, "disruptionBudget": {"maxUnavailable": 3}},
        "engine": {
            "image": "vllm/vllm-openai:v0.33.0",
            "backend": "mp",
            "port": 8001,
            "maxModelLen": 4096,
            "startupSeconds": 7200,
            "gpuMemoryUtilization": 0.8,
            "kvCacheGiB": 35.5,
            "enforceEager": False,
            "extraArgs": ["--max-num-seqs=64"],
        },
    },
}


def test_the_specification_has_what_was_given(kubeconfig: Path) -> None:
    found = resolved(GIVEN)
    assert found.model.config_error == f"{kubeconfig.parents[1]}/config.json cannot be read: No such file or directory"
    assert (found.model.name, found.model.weights_gib) == ("deepseek-ai/DeepSeek-R1", 641.0)
    assert (found.name, found.network, found.layout) == ("group", "rdma", Layout(4, 4, 3))
    assert (found.gpu.series, found.gpu.stated_gib, found.gpu.available) == ("H2000", 200.5, 32)
    assert found.pod == PodSize(cpu=40, memory_gib=300, shared_memory_gib=0.5)
    assert (found.replicas.first, found.replicas.least, found.replicas.most) == (1, 1, 3)
    assert found.rollout == RolloutSpec(max_unavailable=2, max_surge=1, partition=0)
    assert found.lifecycle == LifecycleSpec(
        request_seconds=900,
        grace_seconds=1000,
        evictable_groups=3,
        health_check=None,
        lost_node_seconds=None,
        group_restart="onPodRestart",
    )
    assert found.engine == EngineSpec(
        image="vllm/vllm-openai:v0.33.0",
        backend="mp",
        ray_token=False,
        ray_script="/vllm-workspace/ray_init.sh",
        port=8001,
        max_model_len=4096,
        gpu_memory_utilization=0.8,
        enforce_eager=False,
        compile_cache=False,
        trust_remote_code=False,
        env={},
        secret_env={},
        features={},
        kv_offload_gib=0,
        extra_args=("--max-num-seqs=64",),
        stated_version=None,
        measured_kv_cache_gib=35.5,
        stated_startup_seconds=7200,
    )
    assert found.budget.startup_seconds == 7200
    assert found.storage.throughput_mi_bps == 200


def settings_paths(model: type[BaseModel] = StackSettings, prefix: str = "deployment") -> Iterator[str]:
    yield prefix
    for field in model.model_fields.values():
        path = f"{prefix}.{field.alias}"
        nested = [t for t in (field.annotation, *get_args(field.annotation)) if isinstance(t, type)]
        models = [t for t in nested if issubclass(t, BaseModel)]
        yield from [path] if not models else (p for found in models for p in settings_paths(found, path))


def test_every_field_is_a_setting() -> None:
    assert STACK_PATHS.keys() == set(Field)
    assert set(STACK_PATHS.values()) <= {*settings_paths(), "deployment.storage.kind"}


def test_rdma_on_a_capacity_reservation_is_for_any_number_of_gpus() -> None:
    own = {
        "network": "rdma",
        "gpu": {"perPod": 4, "computeClass": "gpu-hpn"},
        "parallelism": {"tensor": 4, "pipeline": 4},
    }
    assert errors(resolved({"inference": own})) == []
    own["gpu"] = {"perPod": 4}
    (finding,) = errors(resolved({"inference": own}))
    assert finding.problem.startswith("ACS supports RDMA for series GU8TF only with 8 GPUs per pod, not with")


def test_layout_acs_and_cache_are_checked_together(up: Any) -> None:
    changes = {
        "storage": {"kind": "fluid", "workers": 2, "sidecarMemory": "240Gi"},
        "inference": {"network": "rdma", "gpu": {"perPod": 4}, "parallelism": {"tensor": 4}, "engine": {"port": 111}},
    }
    with pytest.raises(pulumi.RunError) as caught:
        up(changes)
    text = str(caught.value)
    assert "4 problems" in text
    assert "a pod with 32 vCPU and 256 GiB, 16 GiB of it shared" in " ".join(text.split())
    for path in ("storage", "storage.workers", "inference.network", "inference.engine.port"):
        assert f"deployment.{path}\n" in text


def test_layout_error_does_not_hide_what_acs_refuses(up: Any) -> None:
    changes = {"gpu": {"perPod": 3}, "parallelism": {"tensor": 4, "pipeline": 3}, "engine": {"port": 111}}
    with pytest.raises(pulumi.RunError, match="2 problems") as caught:
        up({"inference": changes})
    assert "deployment.inference.gpu.perPod" in str(caught.value)
    assert "deployment.inference.engine.port" in str(caught.value)


def test_warnings_of_all_checks_come_together() -> None:
    changes = {
        "storage": {"kind": "fluid", "cpu": 24},
        "inference": {"network": "rdma", "gpu": {"series": "NEW1"}},
        "weights": {"upload": {"memory": "256Gi"}, **PINNED},
        "security": {"securityGroups": ["sg-1a"]},
    }
    said = warnings(resolved(changes))
    assert len(said) == 4
    assert all(warning.startswith("deployment.") for warning in said)


def test_plan_has_the_cache_where_there_is_one() -> None:
    assert resolved({}).cache is None
    cache = resolved({"storage": {"kind": "fluid"}}).cache
    assert cache is not None
    assert (cache.workers, cache.quota_gib) == (7, 115)


def test_missing_kubeconfig_file_stops_an_update_and_not_a_preview(up: Any, capsys: Any) -> None:
    changes = {"cluster": {"kubeconfigFile": "~/none"}}
    with pytest.raises(pulumi.RunError, match=r"there is no file\s(?s:.)*/none"):
        up(changes)
    recorder = up(changes, preview=True)
    assert not recorder.reads, "without a cluster the API cannot be queried"
    assert "LeaderWorkerSet" in recorder.kinds()


@pytest.mark.parametrize(
    ("changes", "path", "problem"),
    [
        (
            {"inference": {"engine": {"env": {"HTTPS_PROXY": "http://me:hunter2@proxy:3128"}}}},
            "inference.engine.env.HTTPS_PROXY",
            "it looks like a password in a URL",
        ),
        (
            {"inference": {"engine": {"extraArgs": ["--seed=1", "--x=LTAI5tHunter2Hunter2Hunt"]}}},
            "inference.engine.extraArgs[1]",
            "it looks like an AccessKey ID of Alibaba Cloud",
        ),
        (
            {"inference": {"engine": {"env": {"hf_hunter2hunter2hunter2hunter2hunter2": "1"}}}},
            "inference.engine.env",
            "a name in it looks like a token of Hugging Face",
        ),
        (
            {"observability": {"labels": {"a": "sk-hunter2hunter2hunter2hunter2"}}},
            "observability.labels.a",
            "it looks like an API key",
        ),
    ],
)
def test_secrets_are_known_by_what_they_look_like(up: Any, changes: Any, path: str, problem: str) -> None:
    with pytest.raises(pulumi.RunError) as caught:
        up(changes)
    text = " ".join(str(caught.value).split())
    assert f"deployment.{path} problem: {problem}, and it is readable" in text
    assert "fix: remove it, and revoke it if the file was shared" in text
    assert "hunter2" not in text.lower()


@pytest.mark.parametrize(
    "text",
    [
        "STS.NTabcdefghijklmnop1234",
        "AKIAIOSFODNN7EXAMPLE",
        "ms-01234567-89ab-cdef-0123-456789abcdef",
        "ghp_0123456789abcdefghijABCDEFGHIJ012345",
        "glpat-0123456789abcdefghij",
        "xoxb-0123456789-abc",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2ln",
        "-----BEGIN RSA PRIVATE KEY-----",
        "Authorization: Bearer 0123456789abcdef0123",
        "https://0123456789abcdef0123@example.com",
    ],
)
def test_forms_of_secrets(text: str) -> None:
    assert secret_in(f"a {text} b")


@pytest.mark.parametrize("stack", ["dev", "prod", "local", "local-fluid", "local-prod", "local-vllm"])
def test_stack_files_look_like_no_secrets(stack: str) -> None:
    assert not list(misplaced_secrets(stack_file(stack), "deployment"))


@pytest.mark.parametrize(
    "text", ["a" * 64, "sha256:" + "0af1" * 16, "http://prometheus.monitoring:9090", "git@github.com:a/b", "mailto:a@b"]
)
def test_what_looks_like_no_secret(text: str) -> None:
    assert secret_in(text) is None


@pytest.mark.parametrize(
    ("names", "secret"),
    [
        ("OPENAI_APIKEY HF_PAT DB_PASSWD OSS_CREDENTIALS my.auth-token DB_PWD", True),
        ("NCCL_IB_PKEY TOKENIZERS_PARALLELISM PWD VLLM_KEYS PATH MAX_TOKENS", False),
    ],
)
def test_names_of_secrets(names: str, secret: bool) -> None:
    assert {names_a_secret(name) for name in names.split()} == {secret}


def test_hub_token_is_not_sent_by_plain_http(deploy: Any) -> None:
    settings = merged(DEV, {"weights": {"source": {"kind": "huggingFace", "endpoint": "http://hub.example.com"}}})
    config = {"deepseek:deployment": json.dumps(settings), "deepseek:hubToken": "hf_hidden"}
    with pytest.raises(pulumi.RunError) as caught:
        deploy(stack_config.load, config=config, secret_keys=["deepseek:hubToken"])
    text = " ".join(str(caught.value).split())
    assert (
        "deployment.weights.source.endpoint problem: the secret deepseek:hubToken would be sent there by plain" in text
    )
    assert "fix: write https://, or remove the secret" in text
    assert "hf_hidden" not in text
