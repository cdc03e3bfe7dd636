"""The Fluid cache: what it asks of Fluid, and the Job that sees to it that it is filled."""

import itertools
import json
import re
from functools import partial
from typing import Any

import pytest

from components.fluid_cache import FUSE_PROPERTIES, SIDECAR_TARGET
from tests.unit.conftest import Recorder, Run, is_secret, plain

FLUID = {"storage": {"kind": "fluid"}}
KINDS = ("Dataset", "JindoRuntime", "DataLoad")


def storage(**settings: Any) -> dict[str, Any]:
    return {"storage": {"kind": "fluid", **settings}}


def templates(recorder: Recorder) -> list[dict[str, Any]]:
    template = recorder.manifest("LeaderWorkerSet")["spec"]["leaderWorkerTemplate"]
    return [template["leaderTemplate"], template["workerTemplate"]]


@pytest.fixture
def up(program: Run) -> Run:
    """The program until the claim is there."""
    return partial(program, until="components.wiring.inference_group")


class TestObjects:
    def test_one_name_for_all_and_for_the_claim_that_fluid_makes(self, program: Run) -> None:
        recorder = program(FLUID)
        (name,) = {recorder.manifest(kind)["metadata"]["name"] for kind in KINDS}
        assert name.startswith("llm-cache-")
        assert "PersistentVolumeClaim" not in recorder.kinds(), "the claim is Fluid's own"
        assert "PersistentVolume" not in recorder.kinds()
        for template in templates(recorder):
            (volume,) = (v for v in template["spec"]["volumes"] if v["name"] == "llm-model")
            assert volume["persistentVolumeClaim"] == {"claimName": name, "readOnly": True}

    def test_a_second_cache_may_be_made(self, up: Run) -> None:
        """By default Fluid keeps their workers off each other's nodes: the second would wait for the first to go."""
        assert up(FLUID).manifest("Dataset")["spec"]["placement"] == "Shared"

    def test_root_of_the_claim_is_the_model(self, program: Run) -> None:
        """So the path in the pod is that of the OSS volume, and the preload loads the model and nothing else."""
        recorder = program(FLUID)
        (mount,) = recorder.manifest("Dataset")["spec"]["mounts"]
        assert mount["mountPoint"] == "oss://deepseek-dev-models-dd7231d0/models/DeepSeek-R1"
        assert (mount["path"], mount["readOnly"]) == ("/", True)
        assert recorder.manifest("Dataset")["spec"]["accessModes"] == ["ReadOnlyMany"]
        assert "target" not in recorder.manifest("DataLoad")["spec"], "all of the Dataset"
        for template, csi in zip(templates(recorder), templates(program()), strict=True):
            paths = [t["spec"]["containers"][0]["volumeMounts"] for t in (template, csi)]
            assert paths[0] == paths[1]

    def test_credentials_are_in_a_secret_of_the_datasets_namespace(self, up: Run) -> None:
        recorder = up(FLUID)
        secret = recorder.manifest("Secret", "fluid")
        assert secret["stringData"] == {
            "fs.oss.accessKeyId": "models-reader-key-id",
            "fs.oss.accessKeySecret": "made-by-the-cloud",
        }
        assert secret["metadata"]["namespace"] == recorder.manifest("Dataset")["metadata"]["namespace"] == "deepseek"
        assert is_secret(recorder.raw_inputs("Secret", "fluid")["stringData"])
        (mount,) = recorder.manifest("Dataset")["spec"]["mounts"]
        for reference in mount["encryptOptions"]:
            key = reference["valueFrom"]["secretKeyRef"]
            assert key["name"].startswith("llm-cache-fluid-secret")
            assert key["key"] == reference["name"] in secret["stringData"]
        assert mount["options"] == {"fs.oss.endpoint": "https://oss-cn-hangzhou-internal.aliyuncs.com"}
        assert not is_secret(recorder.raw_inputs("Dataset")["spec"])

    def test_runtime_can_live_on_acs(self, up: Run) -> None:
        spec = up(FLUID).manifest("JindoRuntime")["spec"]
        assert spec["networkmode"] == "ContainerNetwork"
        (level,) = spec["tieredstore"]["levels"]
        assert (level["mediumtype"], level["volumeType"], level["path"]) == ("MEM", "emptyDir", "/dev/shm")
        assert (level["high"], level["low"]) == ("0.99", "0.95")
        assert level["quota"] == "115Gi"
        acs = {"alibabacloud.com/compute-class": "performance", "alibabacloud.com/compute-qos": "default"}
        assert spec["master"]["podMetadata"]["labels"] == spec["worker"]["podMetadata"]["labels"] == acs
        size = {"cpu": 16, "memory": "128Gi"}
        assert spec["worker"]["resources"] == {"requests": size, "limits": size}
        assert spec["fuse"]["properties"] == FUSE_PROPERTIES
        assert spec["replicas"] == 7

    def test_workers_are_given_or_derived(self, up: Run) -> None:
        assert up(storage(workers=16)).manifest("JindoRuntime")["spec"]["replicas"] == 16
        smaller = up({**storage(), "model": {"name": "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B"}})
        assert smaller.manifest("JindoRuntime")["spec"]["replicas"] == 2

    def test_cache_is_in_the_zone_of_the_gpus(self, up: Run) -> None:
        spec = up({**FLUID, "inference": {"zone": "cn-hangzhou-j"}}).manifest("JindoRuntime")["spec"]
        zone = {"topology.kubernetes.io/zone": "cn-hangzhou-j"}
        assert spec["master"]["nodeSelector"] == spec["worker"]["nodeSelector"] == zone
        assert "nodeSelector" not in up(FLUID).manifest("JindoRuntime")["spec"]["worker"]


class TestOrder:
    def test_nothing_waits_for_the_dataset_which_waits_for_its_runtime(self, up: Run) -> None:
        recorder = up(FLUID)
        for kind in KINDS:
            assert "annotations" not in recorder.manifest(kind)["metadata"]
        chain = [recorder.request("Secret", "fluid"), *(recorder.request(kind) for kind in KINDS)]
        for before, after in itertools.pairwise(chain):
            assert any(urn.endswith(f"::{before.name}") for urn in after.dependencies), after.name

    def test_weights_are_there_before_the_cache_and_the_group_comes_after_the_preload(self, program: Run) -> None:
        recorder = program(FLUID)
        assert any("ModelUpload" in urn for urn in recorder.request("FluidCache").dependencies)
        job = recorder.request("Job", "llm-cache")
        assert any("DataLoad" in urn for urn in job.dependencies)
        assert any(urn.endswith(f"Job::{job.name}") for urn in recorder.request("LeaderWorkerSet").dependencies)

    def test_a_second_preload_is_made_after_the_first_is_gone(self, up: Run) -> None:
        assert up(FLUID).request("DataLoad").deleteBeforeReplace is True


class TestName:
    @pytest.mark.parametrize(
        "changes",
        [
            {"weights": {"prefix": "models/DeepSeek-V3"}},
            {"weights": {"source": {"kind": "modelScope", "revision": "v2"}}},
            {"weights": {"bucket": {"kind": "existing", "name": "other"}}},
            {"model": {"name": "deepseek-ai/DeepSeek-V3"}},
            {"cloud": {"region": "cn-beijing"}},
            {"inference": {"zone": "cn-hangzhou-j"}},
            storage(memory="64Gi"),
            storage(cpu=8),
        ],
    )
    def test_other_data_or_another_shape_make_a_second_cache(self, up: Run, changes: dict[str, Any]) -> None:
        before, after = up(FLUID), up({**FLUID, **changes})
        for kind in KINDS:
            assert before.manifest(kind)["metadata"]["name"] != after.manifest(kind)["metadata"]["name"]
            assert before.request(kind).name != after.request(kind).name, "the first stays as it is until the end"

    @pytest.mark.parametrize(
        "changes",
        [storage(throughputMiBps=900), storage(sidecar="none"), {"model": {"servedName": "x"}}],
    )
    def test_what_can_be_changed_in_place_does_not(self, up: Run, changes: dict[str, Any]) -> None:
        before, after = up(FLUID), up({**FLUID, **changes})
        assert before.manifest("Dataset") == after.manifest("Dataset")
        assert before.manifest("DataLoad") == after.manifest("DataLoad")
        assert before.manifest("Job", "llm-cache") == after.manifest("Job", "llm-cache")

    def test_another_number_of_workers_is_checked_again_and_else_changed_in_place(self, up: Run) -> None:
        before, after = up(FLUID), up(storage(workers=20))
        assert before.manifest("Dataset") == after.manifest("Dataset")
        assert before.manifest("DataLoad") == after.manifest("DataLoad")
        old, new = (recorder.manifest("Job", "llm-cache") for recorder in (before, after))
        assert old["metadata"]["name"] != new["metadata"]["name"]
        assert old["spec"]["template"]["spec"] == new["spec"]["template"]["spec"]

    def test_another_pod_is_another_job(self, up: Run) -> None:
        """The API server takes no other template for a Job that exists, not even in a preview."""
        before, after = (up(changes).manifest("Job", "llm-cache") for changes in (FLUID, storage(preloadMiBps=400)))
        assert before["spec"]["template"] != after["spec"]["template"]
        assert before["metadata"]["name"] != after["metadata"]["name"]

    def test_a_cache_waits_for_the_pods_that_leave_it(self, program: Run) -> None:
        """Under an old controller all of the update is still to come when the old cache is deleted."""
        for recorder, kinds in ((program(FLUID), KINDS), (program(), ("PersistentVolume", "PersistentVolumeClaim"))):
            update = minutes(recorder.request("LeaderWorkerSet").customTimeouts.update)
            assert all(minutes(recorder.request(kind).customTimeouts.delete) > update for kind in kinds)


def minutes(timeout: str) -> int:
    return int(timeout.removesuffix("m"))


class TestSidecar:
    def test_label_is_on_both_templates_and_configurable(self, program: Run) -> None:
        for value in ("acs", "eci"):
            found = [t["metadata"]["labels"][SIDECAR_TARGET] for t in templates(program(storage(sidecar=value)))]
            assert found == [value, value]
        for recorder in (program(storage(sidecar="none")), program()):
            assert not [t for t in templates(recorder) if SIDECAR_TARGET in t["metadata"]["labels"]]

    def test_other_labels_that_call_for_a_sidecar_are_not_set_with_it(self, program: Run) -> None:
        """Fluid refuses a pod with both."""
        assert not [t for t in templates(program(FLUID)) if "serverless.fluid.io/inject" in t["metadata"]["labels"]]

    def test_pod_and_sidecar_together_are_what_the_settings_say(self, program: Run) -> None:
        """ACS bills the sum, and 64 vCPU and 512 GiB are a size of it; a little more would be the next one."""
        recorder = program(FLUID)
        fuse = recorder.manifest("JindoRuntime")["spec"]["fuse"]["resources"]["limits"]
        for template in templates(recorder):
            (container,) = template["spec"]["containers"]
            limits = container["resources"]["limits"]
            assert int(limits["cpu"]) + int(fuse["cpu"]) == 64
            gib = int(limits["memory"].removesuffix("Gi")) + int(fuse["memory"].removesuffix("Gi"))
            assert gib == 512


class TestPreload:
    def test_job_gives_up_before_it_is_given_up(self, up: Run) -> None:
        for settings, seconds in ((FLUID, 3527), (storage(preloadMiBps=100), 14034)):
            recorder = up(settings)
            spec = recorder.manifest("Job", "llm-cache")["spec"]
            (container,) = spec["template"]["spec"]["containers"]
            assert f"--seconds={seconds}" in container["args"]
            assert spec["activeDeadlineSeconds"] > seconds, "it says what is wrong, the deadline does not"
            timeouts = recorder.request("Job", "llm-cache").customTimeouts
            assert int(timeouts.create.removesuffix("m")) * 60 > spec["activeDeadlineSeconds"]
            assert timeouts.create == timeouts.update

    def test_next_up_runs_a_failed_one_again_and_a_pod_is_not_repeated(self, up: Run) -> None:
        recorder = up(FLUID)
        job = recorder.manifest("Job", "llm-cache")
        assert job["metadata"]["annotations"] == {"pulumi.com/replaceUnready": "true"}
        assert job["spec"]["backoffLimit"] == 0
        assert recorder.request("Job", "llm-cache").deleteBeforeReplace is True
        assert "ttlSecondsAfterFinished" not in job["spec"], "it would vanish from under the state"

    def test_name_is_bound_to_cache_and_program(self, up: Run) -> None:
        recorder = up(FLUID)
        cache = recorder.manifest("DataLoad")["metadata"]["name"]
        name = recorder.manifest("Job", "llm-cache")["metadata"]["name"]
        assert re.fullmatch(rf"{cache}-preload-[0-9a-f]{{8}}", name)
        assert recorder.request("Job", "llm-cache").name == cache, "that of the first cache stays until the end"

    def test_it_can_make_the_same_dataload_again(self, up: Run) -> None:
        recorder = up(FLUID)
        (container,) = recorder.manifest("Job", "llm-cache")["spec"]["template"]["spec"]["containers"]
        (given,) = (a.removeprefix("--dataload=") for a in container["args"] if a.startswith("--dataload="))
        # With the field manager, which every object has: one that was recreated without it would be drift.
        assert json.loads(given) == plain(recorder.raw_inputs("DataLoad"))

    def test_pod_may_look_after_this_dataload_and_nothing_else(self, up: Run) -> None:
        recorder = up(FLUID)
        name = recorder.manifest("DataLoad")["metadata"]["name"]
        rules = recorder.manifest("Role", "llm-cache")["rules"]
        assert {(r["resources"][0], verb, *r.get("resourceNames", ())) for r in rules for verb in r["verbs"]} == {
            ("dataloads", "get", name),
            ("dataloads", "delete", name),
            ("datasets", "get", name),
            ("dataloads", "create"),
        }
        assert {group for rule in rules for group in rule["apiGroups"]} == {"data.fluid.io"}
        binding = recorder.manifest("RoleBinding", "llm-cache")
        account = recorder.manifest("ServiceAccount", "llm-cache")
        pod = recorder.manifest("Job", "llm-cache")["spec"]["template"]["spec"]
        assert binding["roleRef"]["name"].startswith(name)
        (subject,) = binding["subjects"]
        assert subject["name"] == pod["serviceAccountName"]
        assert (subject["namespace"], account["automountServiceAccountToken"]) == ("deepseek", False)
        assert pod["automountServiceAccountToken"] is True
        urns = recorder.request("Job", "llm-cache").dependencies
        assert any("RoleBinding" in urn for urn in urns), "it may do so when it begins"

    def test_pod_is_restricted_and_tells_why_it_failed(self, up: Run) -> None:
        template = up(FLUID).manifest("Job", "llm-cache")["spec"]["template"]
        (container,) = template["spec"]["containers"]
        (mover,) = up(FLUID).manifest("Job", "model-upload")["spec"]["template"]["spec"]["containers"]
        assert container["image"] == mover["image"]
        assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert template["spec"]["securityContext"]["runAsNonRoot"] is True
        assert template["metadata"]["labels"]["alibabacloud.com/compute-class"] == "general-purpose"
        assert "env" not in container, "no key"


def test_swapping_storage_changes_only_its_own_part(program: Run) -> None:
    csi, fluid = program(), program(FLUID)
    preload = {"Preload", "ServiceAccount", "Role", "RoleBinding"}
    own = {"PersistentVolume", "PersistentVolumeClaim", "OssVolume", "Secret", "FluidCache", *preload, *KINDS}
    assert set(csi.kinds()) - own == set(fluid.kinds()) - own
    # The namespace enforces less, where the cache's client is to run.
    for kind in ("Service", "Job", "ConfigMap", "Bucket", "AccessKey"):
        keys = [key for key in csi.requests if key.split("::")[0].endswith(f":{kind}")]
        for key in keys:
            assert csi.requests[key].object == fluid.requests[key].object, key
