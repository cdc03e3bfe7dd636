"""The Job that moves the weights: what it runs, who it is, when it runs again, and who waits for it."""

import ast
import base64
import io
import json
import subprocess
import sys
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from components.model_bucket import mover_policy
from components.zipapps import archive, archive_digest, without_comments
from deepseek_acs.modelmover.errors import CONTINUE_EXIT_CODES
from deepseek_acs.settings.stack import StackSettings
from tests.unit.conftest import ROOT, RRSA, Recorder, Run, is_secret, merged, resolved, stack_settings

BUCKET = {"weights": {"source": {"kind": "bucket"}}}
CONFIG_MAP_BYTES = 2**20
"""Limit of a ConfigMap."""


def job(recorder: Recorder) -> dict[str, Any]:
    return recorder.manifest("Job")


def container(recorder: Recorder) -> dict[str, Any]:
    (found,) = job(recorder)["spec"]["template"]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


def name(recorder: Recorder) -> str:
    return str(job(recorder)["metadata"]["name"])


@pytest.fixture
def up(program: Run) -> Run:
    """The program until the weights are there."""
    return partial(program, until="components.wiring.storage")


def code(source: bytes) -> str:
    """The syntax tree of a module with the lines of its statements, but not what its docstrings say."""
    tree, lines = ast.parse(source), []
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt):
            lines.append(node.lineno)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            node.value.value = ""
    return f"{ast.dump(tree)} {lines}"


class TestProgram:
    @pytest.mark.integration
    def test_zip_file_in_the_config_map_runs_without_any_package(self, up: Run, tmp_path: Path) -> None:
        content = base64.b64decode(up().manifest("ConfigMap")["binaryData"]["modelmover.pyz"])
        path = tmp_path / "modelmover.pyz"
        path.write_bytes(content)
        done = subprocess.run(
            [sys.executable, "-I", "-S", str(path), "--version"], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == "1.0.0"

    def test_zip_file_fits_into_a_config_map_and_depends_on_the_sources_alone(self) -> None:
        assert len(base64.b64encode(archive("modelmover"))) < CONFIG_MAP_BYTES / 2
        with zipfile.ZipFile(io.BytesIO(archive("modelmover"))) as zipped:
            assert {item.date_time for item in zipped.infolist()} == {(1980, 1, 1, 0, 0, 0)}
            assert zipped.namelist() == ["__main__.py", "modules.zip"]
            with zipfile.ZipFile(zipped.open("modules.zip")) as modules:
                assert {item.date_time for item in modules.infolist()} == {(1980, 1, 1, 0, 0, 0)}
                assert modules.namelist() == sorted(modules.namelist())

    @pytest.mark.parametrize("package", ["preload", "costguard", "canaryguard", "gate"])
    def test_what_programs_share_is_in_the_zip_file(self, package: str) -> None:
        with (
            zipfile.ZipFile(io.BytesIO(archive(package))) as zipped,
            zipfile.ZipFile(zipped.open("modules.zip")) as modules,
        ):
            names = modules.namelist()
        assert {"deepseek_acs/__init__.py", "deepseek_acs/apiserver/__init__.py", f"{package}/__main__.py"} <= {*names}
        assert {name.partition("/")[0] for name in names} == {"deepseek_acs", package}

    def test_zip_file_is_the_same_from_any_system(self, monkeypatch: pytest.MonkeyPatch) -> None:
        here = archive("preload")
        monkeypatch.setattr(sys, "platform", "win32")
        assert archive.__wrapped__("preload") == here

    @pytest.mark.parametrize(
        "package",
        [
            *("modelmover", "preload", "verifier", "costguard", "canaryguard", "apiserver"),
            *("gate", "chatclient"),
        ],
    )
    def test_modules_without_comments_are_the_same_code_on_the_same_lines(self, package: str) -> None:
        sources = [path.read_bytes() for path in (ROOT / "deepseek_acs" / package).rglob("*.py")]
        assert sources
        for source in sources:
            shorter = without_comments(source)
            assert code(shorter) == code(source)

    def test_digest_is_that_of_the_sources_whatever_compresses_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        here, digest = archive("preload"), archive_digest("preload")
        monkeypatch.setattr("components.zipapps.zipfile.ZIP_DEFLATED", zipfile.ZIP_STORED)
        assert archive.__wrapped__("preload") != here
        assert archive_digest.__wrapped__("preload") == digest

    def test_another_compressor_changes_nothing_and_other_content_is_another_config_map(
        self, up: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = up().request("ConfigMap")
        assert list(before.ignoreChanges) == ["binaryData"]
        monkeypatch.setattr("components.python_job.archive_digest", lambda package: "0" * 64)
        assert up(again=True).request("ConfigMap").name != before.name

    def test_config_map_is_immutable_and_named_by_its_content(self, up: Run) -> None:
        program = up().manifest("ConfigMap")
        assert program["immutable"] is True
        (volume,) = job(up())["spec"]["template"]["spec"]["volumes"]
        assert volume["configMap"]["name"] == program["metadata"]["name"]
        assert container(up())["command"] == ["python3", "/opt/modelmover/modelmover.pyz"]


class TestCommandLine:
    def test_moves_from_modelscope_by_way_of_the_region(self, up: Run) -> None:
        arguments = container(up({"weights": {"bucket": {"kind": "existing", "name": "mine"}}}))["args"]
        assert arguments == [
            "copy",
            "modelscope://deepseek-ai/DeepSeek-R1@master",
            "oss://mine/models/DeepSeek-R1",
            "--region=cn-hangzhou",
            "--endpoint=https://oss-cn-hangzhou-internal.aliyuncs.com",
            "--max-weights-gib=673.4",
            "--quantization=compressed-tensors",
            "--quantization=fp8",
            "--code",
            "--hub-region=cn-hangzhou",
        ]

    def test_moves_from_hugging_face_or_a_mirror(self, up: Run) -> None:
        source = {
            "kind": "huggingFace",
            "repository": "me/R1",
            "revision": "0a0fb4d",
            "endpoint": "https://hf-mirror.com",
            "include": ["*.safetensors", "*.json"],
            "exclude": ["*.bin", "x*"],
        }
        arguments = container(up({"weights": {"source": source}}))["args"]
        assert arguments[1] == "hf://me/R1@0a0fb4d"
        assert arguments[-6:] == [
            "--include=*.safetensors",
            "--include=*.json",
            "--exclude=*.bin",
            "--exclude=x*",
            "--code",
            "--hub-endpoint=https://hf-mirror.com",
        ]

    def test_what_the_plan_counts_on_is_handed_to_the_mover(self) -> None:
        """With the tolerance of the rules that compare sizes; nothing where nothing is known."""
        published = {"model": {"name": "deepseek-ai/DeepSeek-R1-Distill-Llama-70B"}}
        assert resolved(published).largest_gib == pytest.approx(131.4 * 1.05, rel=0.01)
        assert resolved(published).quant_methods == ()
        given = resolved({"model": {"name": "me/unknown", "weightsGiB": 100}})
        assert given.largest_gib == pytest.approx(105)
        assert given.quant_methods == ()
        assert resolved({"model": {"name": "me/unknown"}}).largest_gib is None
        tiny = ROOT / "local" / "hubs" / "deepseek_tiny" / "config.json"
        shapes = resolved({"model": {"name": "me/tiny", "configFile": str(tiny)}})
        assert shapes.largest_gib == pytest.approx(0.0473 * 1.1, rel=0.01)

    def test_code_and_pickles_are_moved_only_where_the_engine_may_run_them(self, up: Run) -> None:
        assert "--code" in container(up())["args"]
        assert "--allow-pickle" not in container(up())["args"]
        changes = {"inference": {"engine": {"trustRemoteCode": False}}, "weights": {"allowPickle": True}}
        arguments = container(up(changes))["args"]
        assert "--code" not in arguments
        assert "--allow-pickle" in arguments

    def test_digest_of_the_manifest_is_pinned(self, up: Run) -> None:
        """Those that are there by all of their bytes; those that are moved are proven anyway."""
        digest = "0af1" * 16
        moving = container(up({"weights": {"manifestSha256": digest}}))["args"]
        assert f"--manifest-sha256={digest}" in moving
        assert "--full" not in moving
        checking = container(up(merged(BUCKET, {"weights": {"manifestSha256": digest}})))["args"]
        assert checking[-2:] == [f"--manifest-sha256={digest}", "--full"]

    def test_reading_all_bytes_has_the_time_of_moving_them(self) -> None:
        moving, checking = resolved({}), resolved(BUCKET)
        full = resolved(merged(BUCKET, {"weights": {"manifestSha256": "0af1" * 16}}))
        assert checking.upload_seconds < full.upload_seconds == moving.upload_seconds

    def test_weights_that_are_there_are_only_checked(self, up: Run) -> None:
        arguments = container(up(BUCKET))["args"]
        assert arguments[0] == "verify"
        assert not [argument for argument in arguments if "hub" in argument]


class TestIdentity:
    def test_credentials_come_from_a_secret_and_are_nowhere_else(self, up: Run) -> None:
        recorder = up()
        secret = recorder.request("Secret", "model-upload")
        assert is_secret(recorder.raw_inputs("Secret", "model-upload")["stringData"])
        values = recorder.manifest("Secret", "model-upload")["stringData"]
        assert values == {"OSS_ACCESS_KEY_ID": "models-mover-key-id", "OSS_ACCESS_KEY_SECRET": "made-by-the-cloud"}
        (source,) = container(recorder)["envFrom"]
        assert source["secretRef"]["name"].startswith(secret.name)
        assert "made-by-the-cloud" not in json.dumps(job(recorder))

    def test_own_access_key_is_used_for_both(self, up: Run) -> None:
        keys = {"ossAccessKeyId": "LTAI-mine", "ossAccessKeySecret": "hidden"}
        recorder = up({"weights": {"identity": {"kind": "accessKey"}}}, secrets=keys)
        values = recorder.manifest("Secret", "model-upload")["stringData"]
        assert values == {"OSS_ACCESS_KEY_ID": "LTAI-mine", "OSS_ACCESS_KEY_SECRET": "hidden"}

    @pytest.mark.parametrize(
        ("kind", "variable"), [("modelScope", "MODELSCOPE_API_TOKEN"), ("huggingFace", "HF_TOKEN"), ("bucket", None)]
    )
    def test_hub_token_goes_to_the_hub_that_is_used(self, up: Run, kind: str, variable: str | None) -> None:
        recorder = up({"weights": {"source": {"kind": kind}}}, secrets={"hubToken": "hf_hidden"})
        values = recorder.manifest("Secret", "model-upload")["stringData"]
        assert [key for key, value in values.items() if value == "hf_hidden"] == ([variable] if variable else [])
        assert "hf_hidden" not in json.dumps(job(recorder))

    def test_role_of_this_service_account_of_this_cluster_only(self, program: Run) -> None:
        recorder = program({"weights": {"identity": RRSA}})
        assert "Secret" not in recorder.kinds()
        (statement,) = json.loads(recorder.inputs("Role", "mover")["assumeRolePolicyDocument"])["Statement"]
        subject = statement["Condition"]["StringEquals"]["oidc:sub"]
        pod = job(recorder)["spec"]["template"]["spec"]
        account = recorder.manifest("ServiceAccount", "model-upload")
        assert subject == f"system:serviceaccount:deepseek:{pod['serviceAccountName']}"
        assert account["metadata"]["name"] == pod["serviceAccountName"]
        assert account["automountServiceAccountToken"] is pod["automountServiceAccountToken"] is False
        environment = {entry["name"]: entry["value"] for entry in container(recorder)["env"]}
        assert environment["ALIBABA_CLOUD_ROLE_ARN"] == "acs:ram::1:role/reader"
        assert environment["ALIBABA_CLOUD_OIDC_PROVIDER_ARN"] == RRSA["oidcProviderArn"]
        (token,) = (volume for volume in pod["volumes"] if "projected" in volume)
        (projection,) = token["projected"]["sources"]
        assert projection["serviceAccountToken"]["audience"] == "sts.aliyuncs.com"
        (mount,) = (m for m in container(recorder)["volumeMounts"] if m["name"] == token["name"])
        assert environment["ALIBABA_CLOUD_OIDC_TOKEN_FILE"] == f"{mount['mountPath']}/token"

    def test_rights_that_hold_in_one_vpc_only(self, program: Run) -> None:
        recorder = program({"cloud": {"vpcId": "vpc-1a2b"}})
        for who in ("mover", "reader"):
            statements = json.loads(recorder.inputs("Policy", f"models-{who}")["policyDocument"])["Statement"]
            assert {json.dumps(statement["Condition"]) for statement in statements} == {
                json.dumps({"StringEquals": {"acs:SourceVpc": ["vpc-1a2b"]}})
            }

    def test_rights_of_the_mover_that_end(self, program: Run) -> None:
        changes = {"cloud": {"vpcId": "vpc-1a2b"}, "weights": {"upload": {"rightsEnd": "2030-12-31"}}}
        recorder = program(changes)
        vpc = {"StringEquals": {"acs:SourceVpc": ["vpc-1a2b"]}}
        day = {"DateLessThan": {"acs:CurrentTime": "2030-12-31T00:00:00+00:00"}}
        for who, condition in (("mover", {**vpc, **day}), ("reader", vpc)):
            document = json.loads(recorder.inputs("Policy", f"models-{who}")["policyDocument"])
            assert [statement["Condition"] for statement in document["Statement"]] == [condition] * 2
        # The day changes the policy alone: nothing is moved or mounted again.
        without = program({"cloud": {"vpcId": "vpc-1a2b"}})
        assert [m for m in recorder.manifests() if m["kind"] != "Secret"] == [
            m for m in without.manifests() if m["kind"] != "Secret"
        ]

    def test_another_rotation_makes_other_keys_and_keeps_the_old(self, program: Run) -> None:
        """Until they are deleted by hand: volumes that are mounted use them. Nothing else changes its name."""
        first, second = program(), program({"weights": {"identity": {"kind": "ramUser", "rotation": 2}}})
        assert first.request("AccessKey", "reader").retainOnDelete is True
        assert second.request("AccessKey", "reader").name == "models-reader-key-2"
        assert second.request("AccessKey", "mover").name == "models-mover-key-2"
        assert first.requests.keys() - second.requests.keys() == {
            key for key in first.requests if ":AccessKey::" in key
        }

    def test_mover_may_touch_the_prefix_and_its_own_folder_and_nothing_else(self) -> None:
        bucket, objects = json.loads(mover_policy("b", "models/R1", writes=True))["Statement"]
        assert bucket["Resource"] == ["acs:oss:*:*:b"]
        assert bucket["Action"] == ["oss:ListObjects", "oss:ListMultipartUploads"]
        assert objects["Resource"] == ["acs:oss:*:*:b/models/R1/*", "acs:oss:*:*:b/.modelmover/models/R1/*"]
        assert "oss:PutObject" in objects["Action"]
        assert not [action for action in bucket["Action"] + objects["Action"] if "*" in action]

    def test_check_alone_may_not_write(self, up: Run) -> None:
        bucket, objects = json.loads(mover_policy("b", "models/R1", writes=False))["Statement"]
        assert (bucket["Action"], objects["Action"]) == (["oss:ListObjects"], ["oss:GetObject"])
        document = json.loads(up(BUCKET).inputs("Policy", "mover")["policyDocument"])
        assert document["Statement"][1]["Action"] == ["oss:GetObject"]


class TestJob:
    def test_pod_is_a_small_one_without_privileges(self, up: Run) -> None:
        template = job(up())["spec"]["template"]
        assert template["metadata"]["labels"]["alibabacloud.com/compute-class"] == "general-purpose"
        pod, main = template["spec"], container(up())
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is pod["enableServiceLinks"] is False
        assert main["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert main["resources"]["limits"] == main["resources"]["requests"] == {"cpu": "8", "memory": "16Gi"}

    def test_failure_that_would_come_again_ends_the_job_in_a_way_that_pulumi_understands(self, up: Run) -> None:
        """Its awaiter ends at BackoffLimitExceeded and DeadlineExceeded, and does not support PodFailurePolicy."""
        spec = job(up())["spec"]
        assert spec["backoffLimit"] == 0
        evicted, unfinished = spec["podFailurePolicy"]["rules"]
        assert evicted["action"] == unfinished["action"] == "Ignore"
        assert evicted["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
        assert unfinished["onExitCodes"]["values"] == list(CONTINUE_EXIT_CODES) == [75, 143]
        assert unfinished["onExitCodes"]["containerName"] == container(up())["name"]
        # What Kubernetes demands of a pod failure policy.
        assert spec["template"]["spec"]["restartPolicy"] == "Never"

    def test_reason_of_a_failure_reaches_the_pods_status(self, up: Run) -> None:
        assert container(up())["terminationMessagePolicy"] == "FallbackToLogsOnError"

    def test_two_movers_never_work_on_one_prefix(self, up: Run) -> None:
        """A changed task has another name, so that the old Job would otherwise be deleted last."""
        assert up().request("Job").deleteBeforeReplace is True

    def test_failed_job_is_replaced_by_the_next_up(self, up: Run) -> None:
        assert job(up())["metadata"]["annotations"] == {"pulumi.com/replaceUnready": "true"}
        assert "ttlSecondsAfterFinished" not in job(up())["spec"], "it would vanish from under the state"

    def test_pulumi_waits_longer_than_the_job_may_take(self, up: Run) -> None:
        recorder = up()
        deadline = job(recorder)["spec"]["activeDeadlineSeconds"]
        timeouts = recorder.request("Job").customTimeouts
        assert int(timeouts.create.removesuffix("m")) * 60 > deadline
        assert timeouts.create == timeouts.update

    @pytest.mark.parametrize(
        ("upload", "seconds"),
        [
            ({}, 600 + 26268),
            ({"throughputMiBps": 500}, 600 + 2627),
            # 200 Mbit/s are 23.8 MiB/s, of which nine tenths count.
            ({"eipBandwidthMbps": 200}, 600 + 61209),
        ],
    )
    def test_deadline_follows_from_the_size_and_the_slowest_link(self, upload: dict[str, Any], seconds: int) -> None:
        assert resolved({"weights": {"upload": upload}}).upload_seconds == seconds

    def test_check_has_a_deadline_of_its_own(self, up: Run) -> None:
        assert job(up(BUCKET))["spec"]["activeDeadlineSeconds"] == 1200

    def test_address_of_its_own_on_request(self, up: Run) -> None:
        annotations = job(up({"weights": {"upload": {"eipBandwidthMbps": 200}}}))["spec"]["template"]["metadata"]
        assert annotations["annotations"] == {
            "network.alibabacloud.com/pod-with-eip": "true",
            "network.alibabacloud.com/eip-bandwidth": "200",
        }
        assert not job(up())["spec"]["template"]["metadata"].get("annotations")


class TestWhenItRunsAgain:
    @pytest.mark.parametrize(
        "changes",
        [
            {"weights": {"source": {"kind": "huggingFace"}}},
            {"weights": {"source": {"kind": "modelScope", "revision": "v2"}}},
            {"weights": {"source": {"kind": "modelScope", "exclude": ["*.bin"]}}},
            {"weights": {"source": {"kind": "modelScope", "repository": "me/R1"}}},
            {"weights": {"prefix": "models/other"}},
            {"model": {"name": "deepseek-ai/DeepSeek-V3"}},
            {"cloud": {"region": "cn-beijing"}},
            {"weights": {"upload": {"cpu": 4}}},
            BUCKET,
        ],
    )
    def test_other_work_or_another_pod_is_another_job(self, up: Run, changes: dict[str, Any]) -> None:
        """The API server takes no other template for a Job that exists, not even in a preview."""
        assert name(up()) != name(up(changes))

    def test_other_program_is_another_job(self, up: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        before = name(up())
        monkeypatch.setattr("components.python_job.archive_digest", lambda package: "0" * 64)
        assert name(up(again=True)) != before

    def test_other_rules_of_failure_are_another_job(self, up: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        """A Job's podFailurePolicy cannot be changed."""
        before = name(up())
        monkeypatch.setattr("components.model_upload.CONTINUE_EXIT_CODES", (75,))
        assert name(up(again=True)) != before

    @pytest.mark.parametrize(
        "changes",
        [{"inference": {"replicas": 3}}, {"storage": {"throughputMiBps": 900}}],
    )
    def test_anything_else_is_not(self, up: Run, changes: dict[str, Any]) -> None:
        assert name(up()) == name(up(changes))

    def test_pods_that_serve_do_not_care_how_the_weights_came(self, program: Run) -> None:
        changes = {"weights": {"source": {"kind": "huggingFace"}, "upload": {"cpu": 4}}}
        claims = [program(c).manifest("PersistentVolumeClaim")["metadata"]["name"] for c in ({}, changes)]
        assert claims[0] == claims[1]


def test_volume_and_group_wait_for_the_weights(program: Run) -> None:
    recorder = program()
    upload = recorder.request("Job")
    volume = recorder.request("OssVolume")
    assert any(urn.endswith(f"::{upload.name}") and ":Job::" in urn for urn in volume.dependencies)
    group = recorder.request("LeaderWorkerSet")
    assert any("PersistentVolumeClaim" in urn for urn in group.dependencies)


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ({"kind": "modelScope", "repository": "no-owner"}, "repository"),
        ({"kind": "modelScope", "revision": "a b"}, "revision"),
        ({"kind": "huggingFace", "endpoint": "https://user:secret@mirror"}, "endpoint"),
        ({"kind": "bucket", "revision": "master"}, "revision"),
    ],
)
def test_wrong_source_is_refused(source: dict[str, Any], path: str) -> None:
    with pytest.raises(ValueError, match=rf"(?s)weights\.source\.\w+\.{path}") as caught:
        StackSettings.model_validate(merged(stack_settings("dev"), {"weights": {"source": source}}))
    assert "secret@" not in str(caught.value)
