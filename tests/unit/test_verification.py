"""The Jobs that ask the endpoint: what they run, when they run again, and what is refused before."""

import base64
import subprocess
import sys
from pathlib import Path
from typing import Any

import pulumi
import pytest

from components.verification import BenchmarkArgs, Verification, VerificationArgs
from tests.unit.conftest import Recorder, Run, errors, resolved, warnings

VLLM = "vllm/vllm-openai:v0.11.0"
SMOKE = {"verification": {"smoke": True}}
BOTH = {"verification": {"smoke": True, "benchmark": {"image": VLLM, "requestRate": 2.5, "maxConcurrency": 8}}}


def job(recorder: Recorder, name: str) -> dict[str, Any]:
    return recorder.manifest("Job", name)


def pod(recorder: Recorder, name: str) -> dict[str, Any]:
    found = job(recorder, name)["spec"]["template"]["spec"]
    assert isinstance(found, dict)
    return found


def container(recorder: Recorder, name: str) -> dict[str, Any]:
    (found,) = pod(recorder, name)["containers"]
    assert isinstance(found, dict)
    return found


def job_name(recorder: Recorder, name: str) -> str:
    return str(job(recorder, name)["metadata"]["name"])


class TestSmoke:
    def test_asks_the_service_by_its_name(self, up: Run) -> None:
        found = container(up(BOTH), "smoke")
        assert found["command"] == ["python3", "/opt/verifier/verifier.pyz"]
        assert found["args"] == [
            "--url=http://ds-leader.deepseek.svc.cluster.local:8000",
            "--model=ds",
            "--timeout=180",
        ]
        assert found["image"] == "ac2-registry.cn-hangzhou.cr.aliyuncs.com/ac2/base:alinux3.2104-py312"
        assert found["terminationMessagePolicy"] == "FallbackToLogsOnError"
        assert found["resources"]["limits"] == found["resources"]["requests"]

    def test_waits_for_the_first_group_where_an_autoscaler_brings_it(self, up: Run) -> None:
        """The end of a hold at 0 changes nothing of the group that an update would wait for."""
        recorder = up(stack="prod")
        seconds = int(container(recorder, "smoke")["args"][-1].removeprefix("--patience="))
        group = recorder.request("LeaderWorkerSet").customTimeouts.create
        assert f"{-(-seconds // 60)}m" == group
        assert job(recorder, "smoke")["spec"]["activeDeadlineSeconds"] == seconds + 900

    def test_has_no_rights(self, up: Run) -> None:
        spec = pod(up(BOTH), "smoke")
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        security = container(up(BOTH), "smoke")["securityContext"]
        assert security["readOnlyRootFilesystem"] is True
        assert security["capabilities"] == {"drop": ["ALL"]}

    def test_comes_after_group_and_service_and_decides_over_the_update(self, up: Run) -> None:
        recorder = up(BOTH)
        request = recorder.request("Job", "smoke")
        # Its children are registered after it.
        after = {urn.rsplit("::", 1)[-1] for urn in recorder.request("Verification").dependencies}
        assert {"inference-group-group", "inference-service-leaders"} <= after
        assert job(recorder, "smoke")["metadata"]["annotations"] == {"pulumi.com/replaceUnready": "true"}
        assert request.deleteBeforeReplace is True
        assert job(recorder, "smoke")["spec"]["backoffLimit"] == 0
        seconds = int(request.customTimeouts.create.removesuffix("m")) * 60
        assert seconds > job(recorder, "smoke")["spec"]["activeDeadlineSeconds"], (
            "the Job gives up first, with a reason"
        )

    @pytest.mark.integration
    def test_program_runs_without_any_package(self, up: Run, tmp_path: Path) -> None:
        program = up(BOTH).manifest("ConfigMap", "verifier")
        assert program["immutable"] is True
        assert pod(up(BOTH), "smoke")["volumes"][0]["configMap"]["name"] == program["metadata"]["name"]
        path = tmp_path / "verifier.pyz"
        path.write_bytes(base64.b64decode(program["binaryData"]["verifier.pyz"]))
        done = subprocess.run(
            [sys.executable, "-I", "-S", str(path), "--url=http://127.0.0.1:1", "--model=ds", "--patience=0"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 14
        assert "At fault: Service: 127.0.0.1:1 does not accept a connection" in done.stdout

    @pytest.mark.parametrize(
        "changes",
        [
            {"inference": {"engine": {"maxModelLen": 1024}}},
            {"model": {"servedName": "other"}},
            {"service": {"name": "other"}},
        ],
    )
    def test_runs_again_when_there_is_something_new(self, up: Run, changes: dict[str, Any]) -> None:
        assert job_name(up({**changes, **SMOKE}), "smoke") != job_name(up(BOTH), "smoke")

    def test_does_not_run_again_for_another_number_of_replicas(self, up: Run) -> None:
        more = up({"inference": {"replicas": 2}, **BOTH})
        for name in ("smoke", "benchmark"):
            assert job_name(more, name) == job_name(up(BOTH), name)

    def test_nothing_is_asked_of_no_replica(self, up: Run) -> None:
        assert "Verification" not in up({"inference": {"replicas": 0}, **BOTH}).kinds()

    @pytest.mark.parametrize(("smoke", "replicas", "warned"), [(True, 0, True), (True, 1, False), (False, 0, False)])
    def test_that_nothing_is_asked_is_said(self, smoke: bool, replicas: int, warned: bool) -> None:
        changes = {"verification": {"smoke": smoke}, "inference": {"replicas": replicas}}
        said = warnings(resolved(changes))
        assert any("so nothing is verified" in warning for warning in said) is warned

    def test_off_by_default(self, up: Run) -> None:
        assert "Verification" not in up().kinds()


class TestBenchmark:
    def test_runs_the_engines_own_client(self, up: Run) -> None:
        found = container(up(BOTH), "benchmark")
        assert found["image"] == VLLM
        shell, option, script = found["command"]
        assert (shell, option) == ("sh", "-c")
        assert script == (
            "vllm bench serve --model ds --tokenizer /models/DeepSeek-R1/ --trust-remote-code "
            "--base-url '$(BASE_URL)' --dataset-name random --random-input-len 1024 --random-output-len 128 "
            "--num-prompts 100 --request-rate 2.5 --max-concurrency 8 --ignore-eos --save-result --result-dir /tmp "
            "--result-filename result.json && cat /tmp/result.json"
        )
        address, *home = found["env"]
        assert {entry["name"]: entry["value"] for entry in home} == {"HOME": "/tmp", "USER": "bench"}
        assert address == {"name": "BASE_URL", "value": "http://ds-leader.deepseek.svc.cluster.local:8000"}
        assert set(found["resources"]["limits"]) == {"cpu", "memory"}, "no GPU"

    def test_keeps_the_strictest_standard(self, up: Run) -> None:
        """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted; it writes to one folder."""
        recorder = up(BOTH)
        spec, found = pod(recorder, "benchmark"), container(recorder, "benchmark")
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert found["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"name": "scratch", "mountPath": "/tmp"} in found["volumeMounts"]
        assert {"name": "scratch", "emptyDir": {}} in spec["volumes"]

    def test_reads_the_tokenizer_from_the_model(self, up: Run) -> None:
        recorder = up(BOTH)
        mount, _ = container(recorder, "benchmark")["volumeMounts"]
        volume, _ = pod(recorder, "benchmark")["volumes"]
        assert mount == {"name": "llm-model", "mountPath": "/models/DeepSeek-R1", "readOnly": True}
        assert volume["persistentVolumeClaim"]["readOnly"] is True

    def test_is_not_waited_for_and_says_how_to_read_it(self, up: Run) -> None:
        recorder = up(BOTH)
        assert job(recorder, "benchmark")["metadata"]["annotations"] == {"pulumi.com/skipAwait": "true"}
        (outputs,) = (found for urn, found in recorder.component_outputs.items() if "pulumi:pulumi:Stack" in urn)
        name = job_name(recorder, "benchmark")
        assert outputs["benchmarkCommand"] == (
            f"kubectl --kubeconfig ~/.kube/config --namespace deepseek logs --follow job/{name}"
        )

    def test_comes_after_the_smoke_test(self, up: Run) -> None:
        after = {urn.rsplit("::", 1)[-1] for urn in up(BOTH).request("Job", "benchmark").dependencies}
        assert "verification-smoke" in after


class TestKeyAndCache:
    @pytest.fixture
    def recorder(self, deploy: Run) -> Recorder:
        def program() -> None:
            Verification(
                "verification",
                VerificationArgs(
                    namespace="n",
                    smoke=True,
                    benchmark=BenchmarkArgs(image=VLLM, run=2),
                    model="ds",
                    url=pulumi.Output.from_input("http://s.n.svc.cluster.local:80"),
                    subject=pulumi.Output.from_input("0123abcd"),
                    image="python:3.12",
                    claim_name="claim",
                    model_path="/models/m",
                    labels={"alibabacloud.com/fluid-sidecar-target": "acs"},
                    api_key_secret="key-1",
                    service_account="engine",
                ),
            )

        return deploy(program)

    def test_key_comes_from_the_secret_alone(self, recorder: Recorder) -> None:
        reference = {"valueFrom": {"secretKeyRef": {"name": "key-1", "key": "VLLM_API_KEY"}}}
        assert container(recorder, "smoke")["env"] == [{"name": "VLLM_API_KEY", **reference}]
        assert {"name": "OPENAI_API_KEY", **reference} in container(recorder, "benchmark")["env"]

    def test_engines_image_is_the_default_and_the_cache_mounts(self, recorder: Recorder) -> None:
        assert container(recorder, "benchmark")["image"] == VLLM
        assert pod(recorder, "benchmark")["serviceAccountName"] == "engine", "whose Secrets pull that image"
        labels = job(recorder, "benchmark")["spec"]["template"]["metadata"]["labels"]
        assert labels["alibabacloud.com/fluid-sidecar-target"] == "acs"
        assert "--trust-remote-code" not in container(recorder, "benchmark")["command"][2]


class TestFindings:
    @pytest.mark.parametrize(("size", "warned"), [({"cpu": 17}, True), ({"memory": "129Gi"}, True), ({}, False)])
    def test_pod_that_acs_makes_by_ticket_only(self, size: dict[str, Any], warned: bool) -> None:
        changes = {"verification": {"benchmark": {"image": VLLM, **size}}}
        said = warnings(resolved(changes))
        assert any("deployment.verification.benchmark" in warning for warning in said) is warned

    def test_image_without_the_client_and_too_long_requests(self, up: Run) -> None:
        with pytest.raises(pulumi.RunError) as raised:
            up({"verification": {"benchmark": {"inputTokens": 2000, "outputTokens": 49}}})
        text = " ".join(str(raised.value).split())
        assert "deployment.verification.benchmark.image" in text
        assert "the image has vLLM 0.7.2, whose vllm bench serve does not" in text
        assert "write an image with vLLM 0.10.1 or newer here; the engine's image can stay" in text
        assert "inputTokens + outputTokens are 2,049, and the engine accepts requests of at most 2,048 tokens" in text

    @pytest.mark.parametrize("image", ["vllm/vllm-openai:v0.10.1", "mine:latest"])
    def test_others_pass(self, image: str) -> None:
        longest = {"image": image, "inputTokens": 2000, "outputTokens": 48}
        assert errors(resolved({"verification": {"benchmark": longest}})) == []
