"""Faults of real pods with the real engine: ``make faults``. Each test breaks a group that answers, and ends when it
answers again. With --update-golden the table in docs/faults.md is printed from the run."""

import contextlib
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import client

from local import tools
from local.real_nodes.bring_up import DNS, NODE_PROCESSES
from local.real_nodes.configuration import CONTAINERD_SOCKET
from tests.e2e.conftest import Project
from tests.e2e.test_real_nodes import all_ready, process
from tests.engine.faults import CONTINUE, KILL, STOP, Patient, until
from tests.engine.test_local_vllm import said_by
from tests.unit.conftest import ROOT

pytestmark = pytest.mark.faults

TABLE = ROOT / "docs" / "faults.md"
BEGIN, END = "<!-- measured: begin -->\n", "<!-- measured: end -->"
CHECKED_SECONDS = 100
"""The checks of both pods have run three times."""
STARTED_SECONDS = 90
"""A group with names answers by then, on idle cores."""
ENGINE_IS_DEAD = re.compile("no answer to a request for one token for|requests and no progress for")


@pytest.fixture(scope="module")
def patient(project: Project, request: pytest.FixtureRequest) -> Iterator[Patient]:
    said_by(project, "up")
    until(lambda: all_ready(project))
    found = Patient(project, request.getfixturevalue("prometheus"))
    yield found
    if request.config.getoption("--update-golden"):
        text = TABLE.read_text()
        before, measured = text.split(BEGIN)
        (*head, _), after = measured.split("\n", 2), measured.split(END)[1]
        TABLE.write_text(before + BEGIN + "\n".join([*head, *found.rows]) + "\n" + END + after)


def uids(project: Project) -> set[str]:
    return {pod.metadata.uid for pod in project.pods().values()}


def is_new(project: Project, before: set[str]) -> bool:
    return not uids(project) & before and all_ready(project)


def test_worker_killed(patient: Patient) -> None:
    before = uids(patient.project)
    with patient.fault("the worker's container is killed") as seen:
        patient.signal("worker", KILL)
        until(lambda: seen.wrong)
        assert "The endpoint answers." not in patient.verify(seen)
        until(lambda: is_new(patient.project, before))


def test_leader_killed(patient: Patient) -> None:
    """Of vLLM alone, the headless worker would stay."""
    before = uids(patient.project)
    with patient.fault("the leader's container is killed") as seen:
        patient.signal("leader", KILL)
        until(lambda: seen.wrong)
        assert "The endpoint answers." not in patient.verify(seen)
        until(lambda: is_new(patient.project, before))


def test_memory_exhausted(patient: Patient) -> None:
    before = uids(patient.project)
    with patient.fault("a process of the leader is out of memory") as seen:
        patient.exhaust_memory()
        until(lambda: seen.wrong)
        assert "The endpoint answers." not in patient.verify(seen)
        until(lambda: is_new(patient.project, before))


def test_wrong_key(patient: Patient) -> None:
    project = patient.project
    with patient.fault("the AccessKey of the volume is wrong") as seen:
        volume = the_volume(project)
        name = volume.spec.csi.node_publish_secret_ref.name
        secret = project.core.read_namespaced_secret(name, project.namespace)
        replace_secret(project, secret, {**secret.data, "akSecret": "d3Jvbmc="})
        try:
            project.core.delete_namespaced_pod("deepseek-r1-0", project.namespace)
            until(lambda: patient.told("MountVolume", seen))
            said = patient.verify(seen)
        finally:
            replace_secret(project, secret, secret.data)
        assert "cannot mount a volume: " in " ".join(said.split())


def test_image_missing(patient: Patient) -> None:
    project = patient.project
    image = project.settings()["inference"]["engine"]["image"]
    with patient.fault("the engine's image is missing") as seen:
        patient.scale(0)
        try:
            until(lambda: not project.pods())
            for node in NODE_PROCESSES:
                remove_image(patient, node, image)
            patient.scale(1)
            until(lambda: seen.wrong)
            until(lambda: patient.told("Failed to pull image", seen))
            said = patient.verify(seen)
        finally:
            patient.scale(1)
            said_by(project, "up")
        assert "its image cannot be pulled" in " ".join(said.split())


def test_worker_stopped(patient: Patient) -> None:
    before = uids(patient.project)
    with patient.fault("the worker is stopped (SIGSTOP)") as seen:
        stopped = patient.engine_processes("worker")
        patient.signal("worker", STOP)
        try:
            until(lambda: seen.wrong)
            said = patient.verify(seen)
            assert "the engine behind the server hangs" in " ".join(said.split())
            until(lambda: any(ENGINE_IS_DEAD.search(event.message or "") for event in patient.events()))
            until(lambda: not before <= uids(patient.project))
        finally:
            for one in stopped:
                with contextlib.suppress(OSError, Exception):
                    one.send_signal(CONTINUE)
        until(lambda: is_new(patient.project, before))


def test_node_lost(patient: Patient) -> None:
    """It does not come back by itself; the next make up starts it again."""
    project = patient.project
    lost = patient.node_of("deepseek-r1-0-1")
    if patient.node_of("deepseek-r1-0") == lost:
        pytest.skip("both pods are on one node, which is the client's, too")
    patient.asking_from = patient.node_of("deepseek-r1-0")
    with patient.fault("the worker's node is lost") as seen:
        process(project, lost).kill()
        try:
            until(lambda: seen.wrong)
            until(lambda: patient.told("Node is not ready", seen))
            said = patient.verify(seen)
        finally:
            said_by(project, "up")
        assert "does not answer" in " ".join(said.split())


def test_engine_that_dies_at_the_first_request(patient: Patient) -> None:
    """vLLM's CPU worker cannot serve a pipeline that was not traced, and is ready all the same."""
    project = patient.project
    right = project.settings()["inference"]["engine"]
    with patient.fault("the engine is ready, and dies at the first request") as seen:
        project.change(inference={"engine": {**right, "enforceEager": True, "extraArgs": []}})
        try:
            patient.is_quiet = True
            said_by(project, "up")
            patient.is_quiet = False
            until(lambda: any(what == "HTTP 500" for _, what in seen.wrong))
            said = patient.verify(seen)
        finally:
            project.change(inference={"engine": right})
            said_by(project, "up")
        assert "The endpoint answers." not in said


def test_dns_gone(patient: Patient) -> None:
    """A group that runs does not notice; one that starts waits."""
    project = patient.project
    before = uids(project)
    with patient.fault("the cluster's DNS is gone: a group that runs, then one that starts") as seen:
        process(project, DNS).kill()
        try:
            until(lambda: seen.since() > CHECKED_SECONDS)
            assert not seen.wrong, "the checks hold nothing against a group that runs"
            assert uids(project) == before
            project.core.delete_namespaced_pod("deepseek-r1-0", project.namespace)
            begun = seen.since()
            until(lambda: seen.wrong and not uids(project) & before and seen.since() > begun + STARTED_SECONDS)
            assert not all_ready(project)
            said = patient.verify(seen)
        finally:
            said_by(project, "up")
        assert "The endpoint answers." not in said


def test_wrong_prefix(patient: Patient) -> None:
    project = patient.project
    with patient.fault("the prefix of the volume is wrong, so that it is empty") as seen:
        volume = the_volume(project)
        replace_volume(patient, volume, "/models/nothing")
        try:
            until(lambda: seen.wrong)
            until(lambda: "Error" in log_of(project))
            said = patient.verify(seen)
        finally:
            replace_volume(patient, the_volume(project), volume.spec.csi.volume_attributes["path"])
        assert "The endpoint answers." not in said


def the_volume(project: Project) -> Any:
    (claim,) = project.core.list_namespaced_persistent_volume_claim(project.namespace).items
    return project.core.read_persistent_volume(claim.spec.volume_name)


def replace_secret(project: Project, secret: Any, data: dict[str, str]) -> None:
    """It may be immutable."""
    name, namespace = secret.metadata.name, secret.metadata.namespace
    project.core.delete_namespaced_secret(name, namespace)
    metadata = {"name": name, "labels": secret.metadata.labels, "annotations": secret.metadata.annotations}
    project.core.create_namespaced_secret(namespace, {"metadata": metadata, "type": secret.type, "data": data})


def replace_volume(patient: Patient, volume: Any, path: str) -> None:
    """Another one of the same name, whose folder is ``path``; a volume cannot be changed."""
    project = patient.project
    serialize = client.ApiClient().sanitize_for_serialization
    (claim,) = project.core.list_namespaced_persistent_volume_claim(project.namespace).items
    bodies = []
    for found in (volume, claim):
        body = serialize(found)
        kept = {key: body["metadata"].get(key) for key in ("name", "labels", "annotations")}
        # Those of the binding would make a claim that has lost its volume.
        kept["annotations"] = {
            k: v for k, v in (kept["annotations"] or {}).items() if not k.startswith("pv.kubernetes.io/")
        }
        bodies.append({"metadata": {k: v for k, v in kept.items() if v}, "spec": body["spec"]})
    new_volume, new_claim = bodies
    new_volume["spec"]["csi"]["volumeAttributes"]["path"] = path
    for key in ("uid", "resourceVersion"):
        new_volume["spec"].get("claimRef", {}).pop(key, None)
    patient.scale(0)
    until(lambda: not project.pods())
    project.core.delete_namespaced_persistent_volume_claim(claim.metadata.name, project.namespace)
    project.core.delete_persistent_volume(volume.metadata.name)
    until(lambda: is_gone(project.core.read_persistent_volume, volume.metadata.name))
    project.core.create_persistent_volume(new_volume)
    project.core.create_namespaced_persistent_volume_claim(project.namespace, new_claim)
    patient.scale(1)


def is_gone(read: Any, name: str) -> bool:
    try:
        read(name)
    except client.ApiException as error:
        return bool(error.status == 404)
    return False


def log_of(project: Project) -> str:
    try:
        return project.core.read_namespaced_pod_log("deepseek-r1-0", project.namespace) or ""
    except client.ApiException:
        return ""


def remove_image(patient: Patient, node: str, image: str) -> None:
    root = f"/proc/{patient.first_process(node).pid}/root"
    containerd = tools.tool("containerd").parent
    command = [containerd / "ctr", "--address", f"{root}{CONTAINERD_SOCKET}", "--namespace", "k8s.io", "images"]
    subprocess.run([*map(str, command), "rm", f"docker.io/{image}"], check=True)
