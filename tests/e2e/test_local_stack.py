"""The program's main job with the real engine, a real API server and the real LeaderWorkerSet controller.

One stack through its life, in the order of the file: each test begins where the one before it ended.
"""

import base64
import json
import subprocess
from typing import Any

import pytest
import yaml
from kubernetes import client

from deepseek_acs.modelmover.errors import PermissionDeniedError
from deepseek_acs.modelmover.mover import verify
from deepseek_acs.modelmover.oss.client import Bucket
from deepseek_acs.modelmover.oss.credentials import Credentials
from deepseek_acs.modelmover.retry import Backoff
from local.processes import Process
from local.stack import CLUSTER_FOLDER
from tests.e2e.conftest import (
    EVENTUALLY_SECONDS,
    IS_OFFICIAL,
    Project,
    eventually,
    interrupt,
    kill,
    left_in_namespace,
)

pytestmark = pytest.mark.e2e

AT_ONCE = Backoff(attempts=1)


def all_ready(project: Project, count: int) -> bool:
    pods = project.pods().values()
    ready = [p for p in pods if p.status.container_statuses and all(c.ready for c in p.status.container_statuses)]
    return len(ready) == len(pods) == count


def outputs(project: Project) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(project.pulumi("stack", "output", "--json"))
    return found


def test_settings_error_creates_nothing(project: Project) -> None:
    project.change(inference={"replicas": -1})
    output = project.run("up", fails=True)
    assert "deployment.inference.replicas" in output
    assert "nothing was created or changed" in output
    assert "Traceback" not in output
    assert "deepseek" not in [n.metadata.name for n in project.core.list_namespace().items]
    project.change(inference={"replicas": 1})


def test_missing_api_is_said_before_anything_is_created(project: Project) -> None:
    program = project.folder / "components" / "crds.py"
    text = program.read_text()
    program.write_text(text.replace('"leaderworkerset.x-k8s.io/v1"', '"leaderworkerset.x-k8s.io/v7"'))
    output = project.run("up", fails=True)
    assert "deployment.operators.lws" in output
    assert "the cluster has no LeaderWorkerSet API" in output
    assert "Traceback" not in output
    assert "deepseek" not in [n.metadata.name for n in project.core.list_namespace().items]
    program.write_text(text)


def test_preview_of_the_dev_stack_needs_no_account_and_no_cluster(project: Project) -> None:
    output = project.run("preview", stack="dev")
    assert "previewing without a cluster" in output
    assert "LeaderWorkerSet" in output
    refused = project.run("up", stack="dev", fails=True)
    assert "fakes can only preview it" in refused
    assert "make plugins" in refused


def test_damaged_weights_stop_the_deployment_before_a_gpu_is_asked_for(project: Project) -> None:
    """The reason of the Job's failure is what the user reads, and nothing wrong is in the bucket."""
    project.run("preview")  # brings the hub up
    project.control("hub", "POST", "faults", [{"action": "flip-response", "path": "^/cdn", "offset": 9, "times": None}])
    output = project.run("up", fails=True)
    assert "the hash is sha256:" in output
    assert "nothing was put under its name" in output
    assert "was created but failed to initialize" in output
    assert "LeaderWorkerSet" not in output.split("Resources:")[-1]
    with pytest.raises(client.ApiException):
        project.group()
    assert not project.core.list_namespaced_persistent_volume_claim("deepseek").items
    (job,) = project.batch.list_namespaced_job("deepseek").items
    assert job.status.failed == 1, "another pod would have failed in the same way"
    project.control("hub", "DELETE", "faults")


def test_up_makes_an_available_group(project: Project) -> None:
    """Also: the failed Job of the test before is replaced."""
    output = project.run("up", previewed=True)
    assert f"kubernetes {'official v4' if IS_OFFICIAL else 'fake'}" in output.splitlines()[0]
    assert "no token is computed" in output
    (job,) = project.batch.list_namespaced_job("deepseek").items
    assert job.status.succeeded == 1
    pods = project.pods()
    assert sorted(pods) == ["deepseek-r1-0", "deepseek-r1-0-1"]
    assert all_ready(project, 2)
    assert len({pod.spec.node_name for pod in pods.values()}) == 2
    (claim,) = project.core.list_namespaced_persistent_volume_claim("deepseek").items
    assert claim.status.phase == "Bound"
    conditions = {c["type"]: c["status"] for c in project.group()["status"]["conditions"]}
    assert conditions["Available"] == "True"


def bucket_as(project: Project, key_id: str, secret: str) -> Bucket:
    """The stack's bucket, as the owner of an AccessKey sees it."""
    credentials = Credentials(key_id=key_id, key_secret=secret)
    return Bucket(
        str(outputs(project)["bucket"]),
        endpoint=project.addresses["oss"],
        region="cn-hangzhou",
        credentials=lambda: credentials,
        backoff=AT_ONCE,
    )


def test_weights_are_in_the_bucket_as_they_are_at_the_hub(project: Project) -> None:
    """Every file, read back by the account's owner."""
    project.control("oss", "PUT", "access-keys/owner", {"secret": "owner-secret", "policies": None})
    bucket = bucket_as(project, "owner", "owner-secret")
    manifest = verify(bucket, "models/DeepSeek-R1", full=True, backoff=AT_ONCE)
    assert manifest.source.startswith("modelscope://deepseek-local/DeepSeek-R1-tiny@")
    hub = project.folder / CLUSTER_FOLDER / "hub" / "deepseek-local" / "DeepSeek-R1-tiny" / "master"
    for path in manifest.files:
        assert bucket.get(f"models/DeepSeek-R1/{path}") == (hub / path).read_bytes(), path
    assert len([path for path in manifest.files if path.endswith(".safetensors")]) == 4


def test_mover_had_no_more_rights_than_it_needs(project: Project) -> None:
    """Its key, tried on another prefix of the same bucket."""
    secret = next(
        s
        for s in project.core.list_namespaced_secret("deepseek").items
        if s.metadata.name.startswith("model-upload-credentials-")
    )
    values = {name: base64.b64decode(value).decode() for name, value in secret.data.items()}
    bucket = bucket_as(project, values["OSS_ACCESS_KEY_ID"], values["OSS_ACCESS_KEY_SECRET"])
    assert bucket.get("models/DeepSeek-R1/config.json")
    with pytest.raises(PermissionDeniedError, match="AccessDenied"):
        bucket.put("elsewhere/x", b"x")


def test_webhooks_give_the_pods_their_place_in_the_group(project: Project) -> None:
    pod = project.pods()["deepseek-r1-0-1"]
    environment = {entry.name: entry.value for entry in pod.spec.containers[0].env}
    assert environment["LWS_GROUP_SIZE"] == "2"
    assert environment["LWS_LEADER_ADDRESS"].startswith("deepseek-r1-0.")
    assert pod.metadata.labels["leaderworkerset.sigs.k8s.io/worker-index"] == "1"


def test_service_reaches_leaders_only(project: Project) -> None:
    def endpoints() -> list[str]:
        slices = project.discovery.list_namespaced_endpoint_slice(
            "deepseek", label_selector="kubernetes.io/service-name=ds-leader"
        ).items
        return [endpoint.target_ref.name for s in slices for endpoint in s.endpoints or []]

    eventually(lambda: endpoints() == ["deepseek-r1-0"])


def test_outputs_say_how_to_reach_it(project: Project) -> None:
    found = outputs(project)
    assert found["serviceDnsName"] == "ds-leader.deepseek.svc.cluster.local"
    assert found["servicePort"] == 8000
    assert "port-forward svc/ds-leader 8000:8000" in str(found["portForwardCommand"])
    assert '"model": "ds"' in str(found["curlCommand"])
    assert found["plan"]["layout"] == "2 pods × 8 GU8TF (H20, 95.0 GiB), tensor 8 × pipeline 2"
    assert str(found["bucket"]).startswith("deepseek-local-models-")
    assert found["claim"] == project.core.list_namespaced_persistent_volume_claim("deepseek").items[0].metadata.name


def test_secrets_are_encrypted_in_the_state(project: Project) -> None:
    secret = next(s for s in project.core.list_namespaced_secret("deepseek").items if "-oss-secret-" in s.metadata.name)
    (state,) = (project.folder / ".state" / "pulumi" / ".pulumi" / "stacks").rglob("local.json")
    text = state.read_text()
    for value in secret.data.values():
        assert value not in text
    kubeconfig = yaml.safe_load(project.cluster.kubeconfig.read_text())
    assert kubeconfig["users"][0]["user"]["client-key-data"] not in text


def test_verify_answers_through_the_port_forward(project: Project) -> None:
    """API server, kwok's kubelet, a server of ours: every layer but DNS, which only a pod can ask."""
    output = project.run("verify")
    assert "a small server of the embedded cluster (local/openai), not an engine" in output
    for text in (
        "deepseek-r1: 1 of 1 replicas ready, Available",
        "2 pods ready, 1 of them leaders",
        "ds-leader:8000 selects leaders only, ready: 1",
        "deepseek-r1-0: port 8000 is forwarded, as with kubectl port-forward",
        "deepseek-r1-0: ds is listed, owned by deepseek-local",
        "deepseek-r1-0: 16 tokens (length)",
    ):
        assert text in output
    assert output.splitlines()[-1] == "The endpoint answers."


def engine_fails(project: Project, path: str) -> None:
    ports = json.loads((project.cluster.folder / "ports.json").read_text())
    project.addresses["openai"] = f"http://127.0.0.1:{ports['openai']}"
    project.control("openai", "POST", "faults", [{"action": "answer", "path": path, "status": 500, "times": None}])


def test_verify_names_the_layer_at_fault(project: Project) -> None:
    engine_fails(project, "^/v1/chat")
    output = project.run("verify", fails=True)
    assert "At fault: engine (deepseek-r1-0): the chat completion: HTTP 500" in output
    assert "logs deepseek-r1-0 --tail=100" in output
    project.control("openai", "DELETE", "faults")
    project.core.patch_namespaced_service("ds-leader", "deepseek", {"spec": {"selector": {"role": None}}})
    output = project.run("verify", fails=True)
    assert "At fault: Service: ds-leader selects pods that are not leaders" in output
    project.core.patch_namespaced_service("ds-leader", "deepseek", {"spec": {"selector": {"role": "leader"}}})


def smoke_jobs(project: Project) -> list[Any]:
    label = "app.kubernetes.io/name=verifier"
    return list(project.batch.list_namespaced_job("deepseek", label_selector=label).items)


def test_up_ends_well_only_if_the_endpoint_answers(project: Project) -> None:
    engine_fails(project, "^/v1/chat")
    benchmark_settings = {"image": "vllm/vllm-openai:v0.11.0", "inputTokens": 512}
    project.change(verification={"smoke": True, "benchmark": benchmark_settings})
    output = project.run("up", fails=True)
    assert "At fault: engine: the chat completion: HTTP 500" in output
    project.control("openai", "DELETE", "faults")
    project.run("up")
    (job,) = smoke_jobs(project)
    assert job.status.succeeded == 1
    (benchmark,) = project.batch.list_namespaced_job(
        "deepseek", label_selector="app.kubernetes.io/name=vllm-bench"
    ).items
    assert str(outputs(project)["benchmarkCommand"]).endswith(f"logs --follow job/{benchmark.metadata.name}")
    project.run("up", "--expect-no-changes")


def test_endpoint_is_asked_again_when_its_pods_are_recreated(project: Project) -> None:
    (before,) = smoke_jobs(project)
    project.change(inference={"engine": {"maxModelLen": 1024}})
    project.run("up")
    (after,) = smoke_jobs(project)
    assert after.metadata.name != before.metadata.name
    assert after.status.succeeded == 1
    project.change(inference={"engine": {"maxModelLen": 2048}}, verification={"smoke": False, "benchmark": None})
    project.run("up")
    assert smoke_jobs(project) == []


def test_second_up_changes_nothing(project: Project) -> None:
    project.run("up", "--expect-no-changes")
    project.run("preview", "--expect-no-changes")
    project.run("preview", "--refresh", "--expect-no-changes")


def test_another_local_stack_has_to_wait(project: Project) -> None:
    output = project.run("up", stack="local-fluid", fails=True)
    assert "error: the stack local is up in the embedded cluster" in output
    assert "make destroy STACK=local" in output


def test_other_files_are_moved_by_another_job_and_the_group_stays(project: Project) -> None:
    before = {name: pod.metadata.uid for name, pod in project.pods().items()}
    (first,) = project.batch.list_namespaced_job("deepseek").items
    source = project.settings()["weights"]["source"]
    project.change(weights={"source": {**source, "exclude": ["*.jpg", "*.bin"]}})
    project.run("up")
    (second,) = project.batch.list_namespaced_job("deepseek").items
    assert second.metadata.name != first.metadata.name
    assert second.status.succeeded == 1
    assert {name: pod.metadata.uid for name, pod in project.pods().items()} == before


def test_weights_that_are_there_are_only_checked(project: Project) -> None:
    source = project.settings()["weights"]["source"]
    hub = project.addresses["hub"]
    project.change(weights={"source": {"kind": "bucket"}})
    output = project.run("up")
    assert "hub: at" not in output, "nothing is asked of a hub"
    (job,) = project.batch.list_namespaced_job("deepseek").items
    assert job.spec.template.spec.containers[0].args[0] == "verify"
    project.change(weights={"source": {**source, "endpoint": hub}})
    project.run("up")


def test_replicas_are_changed_in_place(project: Project) -> None:
    before = project.group()["metadata"]["uid"]
    project.change(inference={"replicas": 2})
    output = project.run("up", previewed=True)
    assert "~ 2 updated" in output, "with the record of the settings"
    assert "scale     from 1 to 2 groups: adds group 1, ready in" in output
    assert project.group()["metadata"]["uid"] == before
    assert all_ready(project, 4)


def test_parallelism_rolls_the_groups(project: Project) -> None:
    """What LWS really does: the size of a group is part of its template, so groups are recreated one by one."""
    project.change(inference={"replicas": 1, "parallelism": {"tensor": 8, "pipeline": 3}})
    before = project.group()["metadata"]["uid"]
    project.run("up")
    assert project.group()["metadata"]["uid"] == before
    eventually(lambda: all_ready(project, 3))
    commands = {pod.spec.containers[0].command[2] for pod in project.pods().values()}
    assert any("--pipeline-parallel-size 3" in command for command in commands)
    project.change(inference={"parallelism": {"tensor": 8, "pipeline": 2}})
    project.run("up")
    eventually(lambda: all_ready(project, 2))


def test_lost_worker_restarts_the_whole_group(project: Project) -> None:
    before = {name: pod.metadata.uid for name, pod in project.pods().items()}
    project.core.delete_namespaced_pod("deepseek-r1-0-1", "deepseek")

    def all_new() -> bool:
        after = {name: pod.metadata.uid for name, pod in project.pods().items()}
        return after.keys() == before.keys() and not set(after.values()) & set(before.values())

    eventually(all_new)
    eventually(lambda: all_ready(project, 2))


def test_rejection_is_readable_and_the_next_up_repairs(project: Project) -> None:
    """extraArgs are free text, so a wrong one is found by the API server alone: here by a label that it refuses."""
    stack = project.folder / "Pulumi.local.yaml"
    good = stack.read_text()
    main = project.folder / "components" / "inference_group.py"
    program = main.read_text()
    broken = program.replace('"size": args.pods,', '"size": 0,')
    assert broken != program
    main.write_text(broken)
    output = project.run("up", "--skip-preview", fails=True)
    assert '"deepseek/deepseek-r1" failed to fully initialize' in output
    assert "leaderWorkerTemplate.size" in output
    main.write_text(program)
    stack.write_text(good)
    project.run("up")
    project.run("preview", "--expect-no-changes")
    assert all_ready(project, 2)


def waiting_for_nodes(project: Project) -> subprocess.Popen[str]:
    """An update that cannot finish, because its groups find no node, caught while it waits."""
    project.change(inference={"replicas": 2})
    for node in project.core.list_node().items:
        project.core.patch_node(node.metadata.name, {"spec": {"unschedulable": True}})
    process = project.start("up", "--skip-preview")
    eventually(lambda: project.group()["spec"]["replicas"] == 2)
    return process


def free_nodes(project: Project) -> None:
    for node in project.core.list_node().items:
        project.core.patch_node(node.metadata.name, {"spec": {"unschedulable": False}})


def test_interrupted_up_ends_soon_and_the_next_one_continues(project: Project) -> None:
    process = waiting_for_nodes(project)
    interrupt(process)
    output, _ = process.communicate(timeout=EVENTUALLY_SECONDS)
    assert process.returncode != 0
    assert "Traceback" not in output
    free_nodes(project)
    project.run("up")
    assert all_ready(project, 4)
    project.change(inference={"replicas": 1})
    project.run("up")


def test_killed_engine_is_continued_by_the_next_up(project: Project) -> None:
    process = waiting_for_nodes(project)
    kill(process)
    process.communicate()
    free_nodes(project)
    locks = project.folder / ".state" / "pulumi" / ".pulumi" / "locks"
    for lock in locks.rglob("*.json"):
        lock.unlink()  # what pulumi cancel does
    project.run("up")
    assert all_ready(project, 4)
    project.run("preview", "--expect-no-changes")


def test_cluster_survives_the_death_of_a_part(project: Project) -> None:
    apiserver = next(s for s in project.cluster.status() if s.name == "kube-apiserver")
    process = Process(name=apiserver.name, command=(), folder=project.cluster.folder).running()
    assert process is not None
    process.kill()
    process.wait()
    project.run("preview", "--expect-no-changes")
    assert all(status.running for status in project.cluster.status())


def test_destroy_leaves_only_what_is_retained(project: Project) -> None:
    """The namespace stays, because others may have put something into it: empty, but for what Kubernetes has there."""
    project.run("destroy")
    assert left_in_namespace(project) == {"kube-root-ca.crt"}
    assert not project.core.list_persistent_volume().items
    (state,) = (project.folder / ".state" / "pulumi" / ".pulumi" / "stacks").rglob("local.json")
    resources = json.loads(state.read_text())["checkpoint"]["latest"]["resources"]
    kept = {r["type"].rsplit(":", 1)[-1] for r in resources if r["custom"] and not r["type"].startswith("pulumi:")}
    assert kept == {"Bucket", "BucketAcl", "BucketPolicy", "BucketPublicAccessBlock"}
    verify(bucket_as(project, "owner", "owner-secret"), "models/DeepSeek-R1", full=True, backoff=AT_ONCE)
    account = json.loads((project.folder / CLUSTER_FOLDER / "oss" / "account.json").read_text())
    assert account == {"users": {}, "policies": {}, "attachments": {}, "roles": {}, "keys": {}}


def test_down_stops_every_process(project: Project) -> None:
    assert all(status.running for status in project.cluster.status())
    project.run("down")
    assert not any(status.running for status in project.cluster.status())
