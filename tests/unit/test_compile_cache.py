"""Compiled code that is kept: the two containers, their rights, and what the key counts."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import pytest

from components.compile_cache import RESTORE, SAVE, CompileCacheArgs
from components.inference_group import pod_template
from components.lifecycle import Role
from components.zipapps import archive
from deepseek_acs.compilecache import __main__ as program
from deepseek_acs.planner.summary import summary
from tests.unit.conftest import RRSA, Run, group_args, is_secret, merged, resolved
from tests.unit.test_policy import SECURITY, resources, violations

ENGINE = {"image": "vllm/vllm-openai:v0.33.0", "backend": "mp", "enforceEager": False}
OFF: dict[str, Any] = {"inference": {"engine": ENGINE}}
ON = merged(OFF, {"inference": {"engine": {"compileCache": "bucket"}}})
PREFIX = ".compilecache/deepseek/deepseek-r1"

ROLES: tuple[Role, ...] = ("leader", "worker")
CACHE = CompileCacheArgs(
    place=f"oss://models/{PREFIX}",
    region="cn-hangzhou",
    endpoint="https://oss",
    model="R1@a",
    series="GU8TF",
    **dict.fromkeys(("access_key_id", "access_key_secret"), "a"),
)


def template(
    role: Role = "leader", changes: Mapping[str, Any] | None = None, cache: CompileCacheArgs = CACHE
) -> dict[str, Any]:
    """The pod template with the cache, made from settings with these changes."""
    return pod_template(role, dataclasses.replace(group_args(merged(OFF, changes or {})), compile_cache=cache))


def containers(found: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Restore, engine, save."""
    (restore,) = found["spec"]["initContainers"]
    engine, save = found["spec"]["containers"]
    return restore, engine, save


def words(container: dict[str, Any]) -> list[str]:
    """What the program gets."""
    assert container["command"][:2] == ["sh", "-c"]
    assert container["command"][3] == container["name"], "$0 of the script"
    return list(container["command"][4:])


def parts(found: dict[str, Any]) -> dict[str, str]:
    """What the key counts."""
    given = program.parser().parse_args(["restore", *words(containers(found)[0])]).part
    return dict(part.partition("=")[::2] for part in given)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("more", [{}, {"preflight": {}}, {"lifecycle": {"requestSeconds": 60, "healthCheck": {}}}])
def test_the_engine_differs_by_its_folders(role: Role, more: dict[str, Any]) -> None:
    old = pod_template(role, group_args(merged(OFF, {"inference": more})))
    new = template(role, {"inference": more})
    (before,) = old["spec"]["containers"]
    restore, engine, save = containers(new)
    assert engine == {
        **before,
        "env": [
            *before["env"],
            {"name": "VLLM_CACHE_ROOT", "value": "/var/cache/compile/files/vllm"},
            {"name": "TORCHINDUCTOR_CACHE_DIR", "value": "/var/cache/compile/files/inductor"},
            {"name": "TRITON_CACHE_DIR", "value": "/var/cache/compile/files/triton"},
            {"name": "DG_JIT_CACHE_DIR", "value": "/var/cache/compile/files/deepgemm"},
        ],
        "volumeMounts": [*before["volumeMounts"], {"name": "compile-cache", "mountPath": "/var/cache/compile"}],
    }
    assert [restore["name"], save["name"]] == [RESTORE, SAVE]
    assert new["metadata"] == old["metadata"]
    others = new["spec"].keys() - {"initContainers", "containers", "volumes"}
    assert {name: new["spec"][name] for name in others} == {name: old["spec"][name] for name in others}


@pytest.mark.parametrize("role", ROLES)
def test_the_helpers_may_little(role: Role) -> None:
    found = template(role)
    restore, engine, save = containers(found)
    for helper in (restore, save):
        assert helper["image"] == engine["image"]
        assert helper["resources"]["limits"] == helper["resources"]["requests"] == {"cpu": "1", "memory": "1Gi"}
        context = helper["securityContext"]
        assert (context["readOnlyRootFilesystem"], context["allowPrivilegeEscalation"]) == (True, False)
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert helper["env"][0]["valueFrom"]["fieldRef"]["fieldPath"].endswith("/worker-index']")
        assert [one["valueFrom"]["secretKeyRef"]["name"] for one in helper["env"][1:]] == [
            "deepseek-r1-compilecache"
        ] * 2
    mounted = {mount["name"]: mount for mount in save["volumeMounts"]}
    assert mounted["compile-cache"]["readOnly"] is True
    assert "OSS_ACCESS_KEY" not in json.dumps(engine), "the engine itself may write nothing"
    volumes = {volume["name"]: volume for volume in found["spec"]["volumes"]}
    assert volumes["compile-cache"] == {"name": "compile-cache", "emptyDir": {"sizeLimit": "10Gi"}}
    assert volumes["compile-cache-work"] == {"name": "compile-cache-work", "emptyDir": {"sizeLimit": "3Gi"}}


def test_neither_stops_the_engine() -> None:
    """An init container that fails would, and LeaderWorkerSet recreates a group with a container that ends."""
    restore, _, save = containers(template())
    assert restore["command"][2] == (
        "trap 'exit 143' TERM; python3 /opt/compilecache/compilecache.pyz restore \"$@\" & wait $! || "
        "echo 'compilecache restore: nothing restored; the engine compiles'"
    )
    assert save["command"][2] == (
        "trap 'exit 143' TERM; { python3 /opt/compilecache/compilecache.pyz save \"$@\"; "
        "while :; do sleep 3600; done; } & wait $!"
    )


def test_what_the_program_is_told() -> None:
    restore, _, save = containers(template(changes={"inference": {"engine": {"port": 8001}}}))
    assert words(save) == words(restore)
    options = program.parser().parse_args(["save", *words(save)])
    assert (options.place, options.endpoint, options.region) == (CACHE.place, CACHE.endpoint, CACHE.region)
    assert (str(options.cache), str(options.work)) == ("/var/cache/compile", "/var/lib/compilecache")
    assert (options.port, options.seconds) == (8001, 180)


def test_dollars_reach_the_program_as_they_are() -> None:
    assert "--part=model=a$$(B)" in words(containers(template(cache=dataclasses.replace(CACHE, model="a$(B)")))[0])


def test_another_user_of_the_engine() -> None:
    changes = {"security": {"pods": {"runAsUser": 1000, "readOnlyRoot": True}}}
    users = [one["securityContext"]["runAsUser"] for one in containers(template(changes=changes))]
    assert users == [1000, 1000, 1000]


@pytest.mark.parametrize("role", ROLES)
def test_a_role_instead_of_a_key(role: Role) -> None:
    assumed = {"role_arn": "acs:ram::1:role/cache", "oidc_provider_arn": "acs:ram::1:oidc-provider/a"}
    cache = dataclasses.replace(CACHE, access_key_id=None, access_key_secret=None, **assumed)
    found = template(role, cache=cache)
    restore, engine, save = containers(found)
    for helper in (restore, save):
        assert [one["name"] for one in helper["env"][1:]] == [
            "ALIBABA_CLOUD_ROLE_ARN",
            "ALIBABA_CLOUD_OIDC_PROVIDER_ARN",
            "ALIBABA_CLOUD_OIDC_TOKEN_FILE",
        ]
        assert helper["volumeMounts"][-1]["name"] == "rrsa-oidc-token"
    assert "rrsa" not in json.dumps(engine)
    token = found["spec"]["volumes"][-1]["projected"]["sources"][0]["serviceAccountToken"]
    assert token["audience"] == "sts.aliyuncs.com"


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"engine": {"image": "vllm/vllm-openai:v0.32.0"}}, "image"),
        ({"engine": {"image": f"vllm/vllm-openai:v0.33.0@sha256:{'a' * 64}"}}, "image"),
        ({"engine": {"extraArgs": ["--max-num-seqs=64"]}}, "arguments"),
        ({"engine": {"maxModelLen": 16384}}, "arguments"),
        ({"engine": {"env": {"A": "b"}}}, "environment"),
        ({"engine": {"secretEnv": {"A": {"secret": "b", "key": "c"}}}}, "environment"),
        ({"parallelism": {"tensor": 8, "pipeline": 3}}, "layout"),
    ],
)
def test_what_makes_another_key(changes: dict[str, Any], part: str) -> None:
    before, after = parts(template()), parts(template(changes={"inference": changes}))
    assert before[part] != after[part]


def test_another_model_or_card_makes_another_key() -> None:
    found = template(cache=dataclasses.replace(CACHE, model="other", series="GX8SF"))
    assert parts(found) == {**parts(template()), "model": "other", "series": "GX8SF"}


@pytest.mark.parametrize(
    "changes",
    [
        {"inference": {"preflight": {}}},
        {"inference": {"replicas": 3}},
        {"inference": {"rollout": {"maxSurge": 1}}},
        {"storage": {"throughputMiBps": 500}},
        {"service": {"name": "other"}},
    ],
)
@pytest.mark.parametrize("role", ROLES)
def test_what_does_not(role: Role, changes: dict[str, Any]) -> None:
    assert parts(template(role)) == parts(template(role, changes))


def test_leader_and_worker_do_not_share_a_key() -> None:
    assert parts(template("leader"))["arguments"] != parts(template("worker"))["arguments"]


def test_the_preview_says_what_it_takes() -> None:
    line = "code kept in the bucket; 1 vCPU and 1 GiB of each pod for that"
    assert summary(resolved(ON))["compiled"] == line
    assert "compiled" not in summary(resolved(OFF))


def test_the_program_is_small() -> None:
    assert len(archive("compilecache")) < 64 * 2**10, "Pulumi's state has it three times"


def test_off_by_default(up: Run) -> None:
    recorder = up(OFF)
    assert "compile" not in json.dumps(recorder.manifests())
    assert not [key for key in recorder.requests if "cache" in key]
    assert "compiled" not in str(recorder.inputs("Bucket")["lifecycleRules"])


def test_objects_and_rights(up: Run) -> None:
    recorder = up(ON)
    bucket = recorder.inputs("Bucket")["bucket"]
    group = recorder.manifest("LeaderWorkerSet")["spec"]["leaderWorkerTemplate"]
    for found in (group["leaderTemplate"], group["workerTemplate"]):
        restore, engine, _ = containers(found)
        assert program.parser().parse_args(["save", *words(restore)]).place == f"oss://{bucket}/{PREFIX}"
        limits = engine["resources"]["limits"]
        assert (limits["cpu"], limits["memory"]) == ("63", "511Gi"), "with its helper a legal size of ACS"
        (name,) = [v["configMap"]["name"] for v in found["spec"]["volumes"] if v["name"] == "compilecache"]
        stored = recorder.manifest("ConfigMap", "compilecache")
        assert (stored["metadata"]["name"], stored["immutable"]) == (name, True)
    assert is_secret(recorder.raw_inputs("Secret", "compilecache")["stringData"])
    others = [body for body in recorder.manifests() if body["kind"] != "Secret"]
    assert "made-by-the-cloud" not in json.dumps(others)
    listing, objects = json.loads(recorder.inputs("Policy", "models-cache")["policyDocument"])["Statement"]
    assert listing["Action"] == ["oss:ListObjects"]
    assert objects["Resource"] == [f"acs:oss:*:*:{bucket}/{PREFIX}/*"]
    for other in ("models-mover", "models-reader"):
        assert ".compilecache" not in recorder.inputs("Policy", other)["policyDocument"]
    stale = {"id": "expire-compiled-code", "enabled": True, "prefix": f"{PREFIX}/", "expirations": [{"days": 30}]}
    assert recorder.inputs("Bucket")["lifecycleRules"][1:] == [stale]


def test_a_role_for_the_account_of_the_pods(up: Run) -> None:
    recorder = up(merged(ON, {"weights": {"identity": RRSA}}))
    trust = json.loads(recorder.inputs("Role", "models-cache")["assumeRolePolicyDocument"])
    account = trust["Statement"][0]["Condition"]["StringEquals"]["oidc:sub"]
    group = recorder.manifest("LeaderWorkerSet")["spec"]["leaderWorkerTemplate"]
    own = group["workerTemplate"]["spec"].get("serviceAccountName", "default")
    assert account == f"system:serviceaccount:deepseek:{own}"
    assert not [key for key in recorder.requests if "Secret" in key and "compilecache" in key]


@pytest.mark.parametrize("stack", ["dev", "prod"])
def test_the_policies_accept_it(stack: str, up: Run) -> None:
    recorder = up({**SECURITY[stack], **ON}, stack=stack)
    assert "compile-cache" in str(recorder.manifest("LeaderWorkerSet"))
    assert violations(resources(recorder, stack)) == {}
