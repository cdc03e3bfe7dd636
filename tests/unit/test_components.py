"""Every property of the components that matters, on what the program asks the engine for."""

import json
import re
from functools import partial
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st
from pulumi import ResourceHook, ResourceHookArgs

from components import wiring
from components.inference_group import group_spec, probes, ready_conditions
from components.inference_service import ADDRESS_TYPE
from components.model_bucket import ModelBucket, read_policy, tls_only_policy
from components.model_mount import model_path
from deepseek_acs.planner.findings import TERMINAL_WIDTH
from deepseek_acs.planner.loading import load_budget
from deepseek_acs.settings.base import mebibytes
from tests.unit.conftest import (
    ACCEPTED,
    NO_SECRETS,
    REVIEWED,
    RRSA,
    Recorder,
    Run,
    errors,
    group_args,
    is_secret,
    merged,
    plain,
    resolved,
    stack_settings,
)


class TestModelBucket:
    @pytest.fixture
    def up(self, program: Run) -> Run:
        """The program until the weights are there."""
        return partial(program, until="components.wiring.storage")

    def test_bucket_is_private_encrypted_protected_and_cleans_up(self, up: Run) -> None:
        recorder = up()
        bucket = recorder.inputs("Bucket")
        assert bucket["serverSideEncryptionRule"] == {"sseAlgorithm": "AES256"}
        (rule,) = bucket["lifecycleRules"]
        assert rule["abortMultipartUploads"] == [{"days": 7}]
        assert rule["enabled"] is True
        assert "expirations" not in rule, "weights must never expire"
        assert bucket["forceDestroy"] is False
        assert recorder.inputs("BucketAcl")["acl"] == "private"
        assert recorder.inputs("BucketPublicAccessBlock")["blockPublicAccess"] is True
        assert list(recorder.request("Bucket").ignoreChanges) == ["acl", "policy"]

    def test_bucket_and_what_guards_it_outlive_the_stack(self, up: Run) -> None:
        recorder = up()
        for kind in ("Bucket", "BucketAcl", "BucketPublicAccessBlock", "BucketPolicy"):
            request = recorder.request(kind)
            assert (request.protect, request.retainOnDelete) == (True, True), kind

    def test_bucket_can_be_given_up(self, up: Run) -> None:
        recorder = up({"weights": {"bucket": {"kind": "create", "retain": False}}})
        assert recorder.inputs("Bucket")["forceDestroy"] is True
        assert recorder.request("Bucket").protect is False
        assert recorder.request("Bucket").retainOnDelete is False

    def test_bucket_is_named_by_the_stack_or_by_the_settings(self, up: Run) -> None:
        assert re.fullmatch("deepseek-dev-models-[0-9a-f]{8}", up().inputs("Bucket")["bucket"])
        named = up({"weights": {"bucket": {"kind": "create", "name": "my-models"}}})
        assert named.inputs("Bucket")["bucket"] == "my-models"

    def test_policies_keep_making_room_for_another_version(self, up: Run) -> None:
        for who in ("reader", "mover"):
            strategy = up().inputs("Policy", who)["rotateStrategy"]
            assert strategy == "DeleteOldestNonDefaultVersionWhenLimitExceeded"

    @pytest.mark.parametrize("identity", [{"kind": "ramUser"}, RRSA])
    def test_old_groups_keep_their_right_until_the_new_weights_are_served(
        self, program: Run, identity: dict[str, Any]
    ) -> None:
        """Another folder adds a policy; Pulumi deletes the first one at the end, when the groups have moved."""
        names: dict[str, set[str]] = {}
        for prefix in ("models/DeepSeek-R1", "models/DeepSeek-R1-0528"):
            recorder = program({"weights": {"identity": identity, "prefix": prefix}})
            for key in recorder.requests:
                kind, name = key.split("::")
                if kind.startswith("alicloud:ram/"):
                    names.setdefault(kind.rpartition(":")[2], set()).add(name)
            policy = recorder.inputs("Policy", "reader")
            assert f"/{prefix}/*" in policy["policyDocument"]
        subject = "Role" if identity == RRSA else "User"
        assert {kind: len(found) for kind, found in names.items() if kind != "AccessKey"} == {
            "Policy": 3,
            f"{subject}PolicyAttachment": 3,
            subject: 2,
        }

    @pytest.mark.parametrize("identity", [{"kind": "ramUser"}, RRSA])
    def test_two_of_them_in_one_program_have_nothing_in_common(self, deploy: Run, identity: dict[str, Any]) -> None:
        args = wiring.model_bucket(resolved({"weights": {"identity": identity}}), NO_SECRETS)

        def both() -> None:
            for name in ("models", "more-models"):
                ModelBucket(name, args)

        recorder = deploy(both)
        named = [
            (key.split("::")[0], value)
            for key, request in recorder.requests.items()
            for field, value in plain(json_format.MessageToDict(request.object)).items()
            if field
            == {"Bucket": "bucket", "Policy": "policyName", "User": "name", "Role": "roleName"}.get(
                key.split("::")[0].rpartition(":")[2]
            )
        ]
        assert len(named) == len(set(named)) == 2 * 5

    def test_existing_bucket_is_only_read(self, program: Run) -> None:
        recorder = program({"weights": {"bucket": {"kind": "existing", "name": "my-models"}}})
        assert not {"Bucket", "BucketAcl", "BucketPolicy", "BucketPublicAccessBlock"} & set(recorder.kinds())
        (read,) = (r for key, r in recorder.reads.items() if ":Bucket::" in key)
        assert read.id == "my-models"
        volume = recorder.manifest("PersistentVolume")
        assert volume["spec"]["csi"]["volumeAttributes"]["bucket"] == "my-models"

    def test_plain_http_is_denied_to_all(self) -> None:
        (statement,) = json.loads(tls_only_policy("b"))["Statement"]
        assert statement["Effect"] == "Deny"
        assert statement["Principal"] == ["*"]
        assert statement["Condition"] == {"Bool": {"acs:SecureTransport": ["false"]}}
        assert statement["Resource"] == ["acs:oss:*:*:b", "acs:oss:*:*:b/*"]

    def test_reader_may_read_the_prefix_and_nothing_else(self) -> None:
        statements = json.loads(read_policy("b", "models/R1"))["Statement"]
        assert all(statement["Effect"] == "Allow" for statement in statements)
        actions = {action: tuple(s["Resource"]) for s in statements for action in s["Action"]}
        assert actions == {
            "oss:GetBucketInfo": ("acs:oss:*:*:b",),
            "oss:ListObjects": ("acs:oss:*:*:b",),
            "oss:GetObject": ("acs:oss:*:*:b/models/R1", "acs:oss:*:*:b/models/R1/*"),
        }

    def test_ram_user_has_its_policy_before_its_key(self, up: Run) -> None:
        recorder = up()
        for who in ("reader", "mover"):
            key = recorder.request("AccessKey", who)
            assert any(f"UserPolicyAttachment::models-{who}" in urn for urn in key.dependencies)
            assert recorder.inputs("UserPolicyAttachment", who)["policyType"] == "Custom"

    def test_old_key_outlives_its_rotation_and_not_its_user(self, up: Run) -> None:
        recorder = up()
        for who in ("reader", "mover"):
            assert recorder.request("AccessKey", who).retainOnDelete is True
            assert recorder.inputs("User", who)["force"] is True

    def test_access_key_of_the_user(self, program: Run) -> None:
        recorder = program(
            {"weights": {"identity": {"kind": "accessKey"}}},
            secrets={"ossAccessKeyId": "LTAI-mine", "ossAccessKeySecret": "hidden"},
        )
        assert not {"User", "AccessKey", "Policy"} & set(recorder.kinds())
        assert recorder.manifest("Secret", "oss")["stringData"] == {"akId": "LTAI-mine", "akSecret": "hidden"}

    def test_role_for_the_volume_plugin_of_this_cluster_only(self, program: Run) -> None:
        recorder = program({"weights": {"identity": RRSA}})
        assert not {"User", "AccessKey", "Secret"} & set(recorder.kinds())
        (statement,) = json.loads(recorder.inputs("Role", "reader")["assumeRolePolicyDocument"])["Statement"]
        assert statement["Principal"] == {"Federated": [RRSA["oidcProviderArn"]]}
        assert statement["Condition"]["StringEquals"] == {
            "oidc:aud": "sts.aliyuncs.com",
            "oidc:iss": RRSA["oidcIssuer"],
            "oidc:sub": "system:serviceaccount:ack-csi-fuse:csi-fuse-ossfs",
        }
        csi = recorder.manifest("PersistentVolume")["spec"]["csi"]
        assert "nodePublishSecretRef" not in csi
        attributes = csi["volumeAttributes"]
        assert attributes["authType"] == "rrsa"
        assert attributes["roleArn"] == "acs:ram::1:role/reader"
        assert attributes["oidcProviderArn"] == RRSA["oidcProviderArn"]


class TestOssVolume:
    def test_volume_and_claim_are_bound_to_each_other(self, up: Run) -> None:
        recorder = up()
        volume, claim = recorder.manifest("PersistentVolume"), recorder.manifest("PersistentVolumeClaim")
        assert claim["spec"]["volumeName"] == volume["metadata"]["name"]
        assert claim["spec"]["storageClassName"] == volume["spec"]["storageClassName"] == ""
        assert volume["spec"]["claimRef"] == {k: claim["metadata"][k] for k in ("name", "namespace")}
        assert claim["spec"]["accessModes"] == volume["spec"]["accessModes"] == ["ReadOnlyMany"]
        assert claim["spec"]["resources"]["requests"] == volume["spec"]["capacity"] == {"storage": "30Gi"}
        assert volume["spec"]["csi"]["volumeHandle"] == volume["metadata"]["name"]

    def test_plugin_reads_by_tls_from_within_the_region(self, up: Run) -> None:
        """The bucket denies plain HTTP, and that is what the plugin takes for an internal endpoint without scheme."""
        csi = up().manifest("PersistentVolume")["spec"]["csi"]
        assert csi["driver"] == "ossplugin.csi.alibabacloud.com"
        assert csi["volumeAttributes"]["url"] == "https://oss-cn-hangzhou-internal.aliyuncs.com"
        assert csi["volumeAttributes"]["path"] == "/models/DeepSeek-R1/"
        assert csi["volumeAttributes"]["otherOpts"] == "-o umask=022 -o allow_other"

    def test_secret_is_where_the_volume_looks_for_it(self, up: Run) -> None:
        recorder = up()
        reference = recorder.manifest("PersistentVolume")["spec"]["csi"]["nodePublishSecretRef"]
        secret = recorder.manifest("Secret", "oss")["metadata"]
        assert reference["namespace"] == secret["namespace"] == "deepseek"
        assert reference["name"].startswith("llm-model-oss-secret")

    @pytest.mark.parametrize(
        "changes",
        [
            {"weights": {"prefix": "models/DeepSeek-V3"}},
            {"weights": {"bucket": {"kind": "existing", "name": "other"}}},
            {"weights": {"identity": RRSA}},
            {"storage": {"mountOptions": ["umask=022"]}},
            {"cloud": {"region": "cn-beijing"}},
        ],
    )
    def test_what_is_mounted_names_the_volume(self, up: Run, changes: dict[str, Any]) -> None:
        """Another name is a second volume: one in use can be neither changed nor deleted."""
        before, after = up(), up(changes)
        for kind in ("PersistentVolume", "PersistentVolumeClaim"):
            assert before.manifest(kind)["metadata"]["name"] != after.manifest(kind)["metadata"]["name"]
            assert before.request(kind).name != after.request(kind).name, "the first stays as it is until the end"

    def test_what_is_not_mounted_does_not(self, up: Run) -> None:
        before, after = up(), up({"inference": {"replicas": 3}, "storage": {"throughputMiBps": 900}})
        for kind in ("PersistentVolume", "PersistentVolumeClaim"):
            assert before.manifest(kind) == after.manifest(kind)

    def test_another_size_of_the_model_keeps_the_volume(self, up: Run) -> None:
        """And no other size of the claim, which the API server would refuse."""
        before, after = up(), up({"model": {"weightsGiB": 650}})
        for kind in ("PersistentVolume", "PersistentVolumeClaim"):
            assert before.manifest(kind) == after.manifest(kind)


def group(recorder: Recorder) -> dict[str, Any]:
    spec = recorder.manifest("LeaderWorkerSet")["spec"]
    assert isinstance(spec, dict)
    return spec


def containers(recorder: Recorder) -> tuple[dict[str, Any], dict[str, Any]]:
    template = group(recorder)["leaderWorkerTemplate"]
    (leader,) = template["leaderTemplate"]["spec"]["containers"]
    (worker,) = template["workerTemplate"]["spec"]["containers"]
    return leader, worker


MP = {"inference": {"engine": {"backend": "mp", "image": "vllm/vllm-openai:v0.33.0"}}}


class TestInferenceGroup:
    def test_group_restarts_as_a_whole_and_rolls_group_by_group(self, up: Run) -> None:
        spec = group(up())
        assert spec["leaderWorkerTemplate"]["size"] == 2
        assert spec["leaderWorkerTemplate"]["restartPolicy"] == "RecreateGroupOnPodRestart"
        assert spec["startupPolicy"] == "LeaderCreated"
        assert spec["rolloutStrategy"]["rollingUpdateConfiguration"] == {"maxUnavailable": 1, "maxSurge": 0}

    def test_engine_waits_for_the_group_far_longer_than_ten_minutes(self, up: Run) -> None:
        request = up({"inference": {"replicas": 3}}).request("LeaderWorkerSet")
        minutes = {k: int(getattr(request.customTimeouts, k).removesuffix("m")) for k in ("create", "update", "delete")}
        assert minutes == {"create": 95, "update": 285, "delete": 15}
        annotations = up({"inference": {"replicas": 3}}).manifest("LeaderWorkerSet")["metadata"]["annotations"]
        assert json.loads(annotations["pulumi.com/waitFor"]) == [
            "condition=Available",
            "jsonpath={.status.readyReplicas}=3",
        ]

    def test_wait_begins_with_how_long_it_is_and_where_to_look(
        self, program: Run, hooks: dict[str, ResourceHook], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        said: list[str] = []
        monkeypatch.setattr("pulumi.log.info", lambda text, *_: said.append(text))
        request = program({"inference": {"replicas": 3}}, again=True).request("LeaderWorkerSet")
        (name,) = (set(request.hooks.before_create) & set(request.hooks.before_update)) - {"changes"}
        for old, longest in ((None, "95m"), ({}, "285m")):
            said.clear()
            inputs = {"metadata": {"namespace": "deepseek"}}
            hooks[name](ResourceHookArgs(urn="", id="", name="", type="", old_inputs=old, new_inputs=inputs))
            assert said == [
                f"waiting up to {longest} for the pods of deepseek/deepseek-r1; to follow it, in another shell: "
                "make verify STACK=dev, or kubectl -n deepseek get pods,events"
            ]

    def test_no_group_is_not_waited_for_by_count(self) -> None:
        assert ready_conditions(0) == ["condition=Available"]

    def test_group_comes_after_the_claim(self, up: Run) -> None:
        request = up().request("LeaderWorkerSet")
        assert any("PersistentVolumeClaim" in urn for urn in request.dependencies)

    def test_secrets_stay_out_of_the_group(self, up: Run) -> None:
        """A secret leaf would mark the whole spec."""
        inputs = up().raw_inputs("LeaderWorkerSet")
        assert not is_secret(inputs["spec"])

    def test_labels_tell_acs_what_to_give(self, up: Run) -> None:
        template = group(up({"inference": {"qos": "best-effort"}}))["leaderWorkerTemplate"]
        acs = {
            "alibabacloud.com/compute-class": "gpu",
            "alibabacloud.com/compute-qos": "best-effort",
            "alibabacloud.com/gpu-model-series": "GU8TF",
        }
        assert template["leaderTemplate"]["metadata"]["labels"] == {"role": "leader", **acs}
        assert template["workerTemplate"]["metadata"]["labels"] == acs

    def test_templates_differ_only_where_they_must(self, up: Run) -> None:
        leader, worker = containers(up())
        different = {key for key in leader.keys() | worker.keys() if leader.get(key) != worker.get(key)}
        assert different == {"command", "ports", "startupProbe", "readinessProbe", "livenessProbe"}
        template = group(up())["leaderWorkerTemplate"]
        leader_spec, worker_spec = template["leaderTemplate"]["spec"], template["workerTemplate"]["spec"]
        assert {k: v for k, v in leader_spec.items() if k != "containers"} == {
            k: v for k, v in worker_spec.items() if k != "containers"
        }
        assert leader_spec["enableServiceLinks"] is False

    def test_resources_are_what_acs_bills(self, up: Run) -> None:
        leader, _ = containers(up({"inference": {"gpu": {"resource": "alibabacloud.com/ppu"}}}))
        assert leader["resources"]["limits"] == leader["resources"]["requests"]
        assert leader["resources"]["limits"] == {"alibabacloud.com/ppu": "8", "cpu": "64", "memory": "512Gi"}

    def test_shared_memory_and_model_are_mounted(self, up: Run) -> None:
        recorder = up()
        pod = group(recorder)["leaderWorkerTemplate"]["workerTemplate"]["spec"]
        volumes = {volume.pop("name"): volume for volume in pod["volumes"]}
        assert volumes["shm"] == {"emptyDir": {"medium": "Memory", "sizeLimit": "32Gi"}}
        claim = recorder.manifest("PersistentVolumeClaim")["metadata"]["name"]
        assert volumes["llm-model"] == {"persistentVolumeClaim": {"claimName": claim, "readOnly": True}}
        (container,) = pod["containers"]
        assert container["volumeMounts"] == [
            {"name": "llm-model", "mountPath": "/models/DeepSeek-R1", "readOnly": True},
            {"name": "shm", "mountPath": "/dev/shm"},
        ]

    def test_ray_backend_does_not_hide_a_failed_start(self, up: Run) -> None:
        leader, worker = containers(up())
        assert leader["command"][:2] == worker["command"][:2] == ["sh", "-c"]
        start, serve = leader["command"][2].split(" && ")
        assert start == (
            "/vllm-workspace/ray_init.sh leader --ray_cluster_size=$(LWS_GROUP_SIZE) --ray_init_timeout=1800"
        )
        assert serve == (
            "exec vllm serve /models/DeepSeek-R1/ --port 8000 --trust-remote-code --served-model-name ds "
            "--max-model-len 2048 --gpu-memory-utilization 0.95 --tensor-parallel-size 8 --pipeline-parallel-size 2 "
            "--enforce-eager --distributed-executor-backend ray"
        )
        assert worker["command"][2] == (
            "exec /vllm-workspace/ray_init.sh worker --ray_address=$(LWS_LEADER_ADDRESS) --ray_init_timeout=1800"
        )

    def test_mp_backend_needs_neither_shell_nor_ray(self, up: Run) -> None:
        leader, worker = containers(up(MP))
        rendezvous = ["--nnodes=$(LWS_GROUP_SIZE)", "--node-rank=$(NODE_RANK)", "--master-addr=$(LWS_LEADER_ADDRESS)"]
        assert leader["command"][:3] == ["vllm", "serve", "/models/DeepSeek-R1/"]
        assert leader["command"][-3:] == rendezvous
        assert worker["command"] == [*leader["command"], "--headless"]
        assert leader["command"][-5:-3] == ["--distributed-executor-backend", "mp"]
        (rank,) = (entry for entry in worker["env"] if entry["name"] == "NODE_RANK")
        field = rank["valueFrom"]["fieldRef"]["fieldPath"]
        assert field == "metadata.labels['leaderworkerset.sigs.k8s.io/worker-index']"

    @pytest.mark.parametrize("backend", ["ray", "mp"])
    def test_group_of_one_pod_just_serves(self, up: Run, backend: str) -> None:
        model = {"name": "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B"}
        small = {"model": model, "inference": {"engine": {"backend": backend}}}
        leader, _ = containers(up(merged(small, {"inference": {"parallelism": {"pipeline": 1}}})))
        assert leader["command"][0] == "vllm"
        assert not [part for part in leader["command"] if "nnodes" in part or "distributed-executor" in part]

    def test_extra_arguments_are_quoted_for_the_shell(self, up: Run) -> None:
        leader, _ = containers(
            up({"inference": {"engine": {"extraArgs": ['--hf-overrides={"a": 1}', "--chat-template=; rm -rf /"]}}})
        )
        assert "'--hf-overrides={\"a\": 1}' '--chat-template=; rm -rf /'" in leader["command"][2]

    def test_variables_from_a_secret(self, up: Run) -> None:
        secret_env = {"RAY_AUTH_TOKEN": {"secret": "ray", "key": "token"}}
        pair = containers(up({"inference": {"engine": {"secretEnv": secret_env}}}))
        for container in pair:
            variables = {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container["env"]}
            assert variables["RAY_AUTH_TOKEN"] == {"secretKeyRef": {"name": "ray", "key": "token"}}

    def test_network_interface_is_named_for_nccl_gloo_and_vllm(self, up: Run) -> None:
        leader, worker = containers(up())
        environment = {entry["name"]: entry.get("value") for entry in leader["env"]}
        assert environment == {"NCCL_SOCKET_IFNAME": "eth0", "GLOO_SOCKET_IFNAME": "eth0", "VLLM_HOST_IP": None}
        assert worker["env"] == leader["env"]

    def test_probes_grant_the_load_time(self, up: Run) -> None:
        leader, _ = containers(up({"storage": {"throughputMiBps": 100}}))
        startup = leader["startupProbe"]
        expected = load_budget(weights_gib=641.30, throughput_mib_s=100).startup_seconds
        assert startup["periodSeconds"] * startup["failureThreshold"] >= expected
        assert startup["httpGet"] == {"path": "/health", "port": "http"}
        assert leader["ports"] == [{"name": "http", "containerPort": 8000}]

    def test_liveness_is_slower_than_readiness(self) -> None:
        """A liveness failure rebuilds the whole group, a readiness failure only pauses the traffic."""
        found = probes(600)
        seconds = {k: v["periodSeconds"] * v["failureThreshold"] for k, v in found.items()}
        assert seconds["readinessProbe"] == 30
        assert seconds["livenessProbe"] == 180

    @settings(max_examples=40, deadline=None)
    @given(
        tensor=st.sampled_from([None, 1, 2, 8]),
        pipeline=st.sampled_from([None, 1, 2, 3]),
        gpus_per_pod=st.sampled_from([None, 1, 4, 8]),
        cpu=st.sampled_from([None, 64, 128]),
        memory=st.sampled_from([None, "512Gi", "131072Mi", "1Ti"]),
        shared_memory=st.sampled_from([None, "16Gi", "1536Mi"]),
        max_model_len=st.sampled_from([None, 2048]),
        replicas=st.integers(0, 50),
        backend=st.sampled_from(["ray", "mp"]),
        enforce_eager=st.booleans(),
    )
    def test_plan_and_manifests_agree(self, *, tensor: int | None, pipeline: int | None, **given: Any) -> None:
        """What is given is in the manifests as it is, what is left out as it was planned."""
        changes = {
            "model": {"name": "Qwen/Qwen3-32B"},
            "inference": {
                "replicas": given["replicas"],
                "gpu": {"perPod": given["gpus_per_pod"]},
                "parallelism": {"tensor": tensor, "pipeline": pipeline},
                "resources": merged(
                    {}, {"cpu": given["cpu"], "memory": given["memory"], "sharedMemory": given["shared_memory"]}
                ),
                "engine": {
                    "backend": given["backend"],
                    "maxModelLen": given["max_model_len"],
                    "enforceEager": given["enforce_eager"],
                },
            },
        }
        plan = resolved(changes)
        if errors(plan):
            return
        layout = plan.layout
        for asked, planned in (
            (tensor, layout.tensor),
            (pipeline, layout.pipeline),
            (given["gpus_per_pod"], layout.gpus_per_pod),
            (given["cpu"], plan.pod.cpu),
            (given["max_model_len"], plan.engine.max_model_len),
            (given["memory"] and mebibytes(given["memory"]), plan.pod.memory_gib * 1024),
            (given["shared_memory"] and mebibytes(given["shared_memory"]), plan.pod.shared_memory_gib * 1024),
        ):
            assert asked in (None, planned)
        spec = group_spec(group_args(changes))
        group = spec["leaderWorkerTemplate"]
        assert spec["replicas"] == given["replicas"]
        assert group["size"] == plan.layout.pods
        for template in (group["leaderTemplate"]["spec"], group["workerTemplate"]["spec"]):
            (container,) = template["containers"]
            limits = container["resources"]["limits"]
            assert limits == container["resources"]["requests"]
            assert int(limits["nvidia.com/gpu"]) * group["size"] == layout.tensor * layout.pipeline
            assert int(limits["cpu"]) == plan.pod.cpu
            assert mebibytes(limits["memory"]) == plan.pod.memory_gib * 1024
            shm = next(volume["emptyDir"] for volume in template["volumes"] if volume["name"] == "shm")
            assert mebibytes(shm["sizeLimit"]) == plan.pod.shared_memory_gib * 1024
        text = " ".join(group["leaderTemplate"]["spec"]["containers"][0]["command"])
        assert f"--max-model-len {plan.engine.max_model_len} " in text
        assert f"--tensor-parallel-size {layout.tensor} --pipeline-parallel-size {layout.pipeline}" in text
        assert ("--enforce-eager" in text) is given["enforce_eager"]
        assert ("$(LWS_GROUP_SIZE)" in text) is (plan.layout.pods > 1)

    def test_unknown_length_is_left_to_the_engine(self, up: Run) -> None:
        unknown = {"model": {"name": "me/mine", "weightsGiB": 600}, "inference": {"engine": {"maxModelLen": None}}}
        leader, _ = containers(up(unknown))
        assert "--max-model-len" not in leader["command"][2]

    def test_startup_time_of_the_user(self, up: Run) -> None:
        leader, _ = containers(up({"inference": {"engine": {"startupSeconds": 7200}}}))
        assert leader["startupProbe"]["failureThreshold"] == 720


class TestPlan:
    def test_summary_is_shown_and_exported(self, up: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        shown: list[str] = []
        monkeypatch.setattr("pulumi.log.info", shown.append)
        recorder = up(preview=True, again=True)
        text, effect = shown
        assert "effect    nothing" in effect, "mocks have no state to compare with"
        assert "layout    2 pods × 8 GU8TF (H20, 95.0 GiB), tensor 8 × pipeline 2" in text
        assert "2,048 per request is a choice: 20,480 (of 163,840) fits too" in text
        assert max(map(len, text.splitlines())) <= TERMINAL_WIDTH
        (outputs,) = (found for urn, found in recorder.component_outputs.items() if "pulumi:pulumi:Stack" in urn)
        assert outputs["plan"]["verdict"] == "fits"
        assert all(line in text for line in outputs["plan"].values())
        assert outputs["cost"]["storagePerMonth"] == 11.09
        assert "GPUs" in outputs["cost"]["notPriced"]


class TestInferenceService:
    def test_only_leaders_and_only_inside(self, up: Run) -> None:
        service = up().manifest("Service")
        assert service["metadata"]["name"] == "ds-leader"
        assert service["spec"]["type"] == "ClusterIP"
        assert service["spec"]["selector"] == {
            "leaderworkerset.sigs.k8s.io/name": "deepseek-r1",
            "role": "leader",
        }
        assert service["spec"]["ports"] == [{"name": "http", "port": 8000, "protocol": "TCP", "targetPort": 8000}]
        assert service["metadata"]["annotations"] == {"pulumi.com/skipAwait": "true"}

    def test_load_balancer_is_internal_and_has_no_node_ports(self, up: Run) -> None:
        service = up(
            {
                "service": {"kind": "internalLoadBalancer", "port": 80},
                "security": {"securityGroups": ["sg-1a"], "acceptedAdvisories": ACCEPTED},
                "weights": REVIEWED,
            }
        ).manifest("Service")
        assert service["spec"]["type"] == "LoadBalancer"
        assert service["metadata"]["annotations"] == {ADDRESS_TYPE: "intranet"}
        assert service["spec"]["allocateLoadBalancerNodePorts"] is False
        assert service["spec"]["ports"][0] == {"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8000}


class TestCluster:
    def test_namespace_is_expected_or_created(self, up: Run) -> None:
        assert up().manifest("Namespace")["metadata"]["name"] == "deepseek"
        recorder = up({"cluster": {"namespace": "given", "createNamespace": False}})
        assert "Namespace" not in recorder.kinds()
        assert recorder.manifest("LeaderWorkerSet")["metadata"]["namespace"] == "given"


def test_two_stacks_may_share_a_namespace(program: Run) -> None:
    """With other names for what has one in the settings."""
    same = merged(stack_settings("prod"), {"cloud": {"endpoint": None}, "cluster": {"createNamespace": False}})
    other = merged(same, {"inference": {"name": "other"}, "service": {"name": "other-leader"}})
    names = [
        {(m["kind"], m["metadata"]["name"]) for m in recorder.manifests() if "name" in m["metadata"]}
        for recorder in (program(same, stack="prod"), program(other, stack="local-prod"))
    ]
    assert len(names[0]) > 10
    assert not names[0] & names[1]


class TestProviders:
    def test_kubernetes_provider_keeps_objects_when_credentials_change(self, up: Run) -> None:
        provider = up(
            {"cluster": {"kubeconfigFile": None, "context": "acs"}}, secrets={"kubeconfig": "clusters: [{name: acs}]"}
        ).raw_inputs("kubernetes")
        assert is_secret(provider["kubeconfig"])
        assert provider["clusterIdentifier"] == "deepseek", "a stack that is renamed replaces nothing"
        assert provider["enableSecretMutable"] == provider["enableServerSideApply"] == "true"
        assert provider["context"] == "acs"

    def test_every_resource_has_an_explicit_provider(self, up: Run) -> None:
        recorder = up()
        for key, request in {**recorder.requests, **recorder.reads}.items():
            package = key.split(":")[0]
            if package in ("kubernetes", "alicloud"):
                assert f"pulumi:providers:{package}::{package}" in request.provider, key

    def test_local_stack_never_calls_the_cloud(self, up: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        recorder = up({"cluster": {"kubeconfigFile": "~/.kube/config"}}, stack="local")
        (endpoints,) = json.loads(recorder.inputs("alicloud")["endpoints"])
        assert endpoints == dict.fromkeys(("oss", "ram", "sts", "slb"), "http://127.0.0.1:19000")
        assert "endpoints" not in up().inputs("alicloud")


@given(st.from_regex(r"[a-z]{1,8}(/[a-zA-Z0-9_-]{1,12}){0,3}", fullmatch=True))
def test_model_path_is_one_folder_under_models(prefix: str) -> None:
    path = model_path(prefix)
    assert path.startswith("/models/")
    assert path.count("/") == 2
    assert prefix.endswith(path.removeprefix("/models/"))
