"""The second variant on the embedded cluster: cache and RDMA, every combination of storage and network on one live
stack.

One stack through its life, in the order of the file: each test begins where the one before it ended.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from kubernetes.client import ApiException

from local.fluid.controller import FAULTS_CONFIG_MAP, FAULTS_KEY, FAULTS_NAMESPACE
from tests.e2e.conftest import Project, left_in_namespace, make_project

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    found = make_project(tmp_path_factory.mktemp("fluid"), "local-fluid")
    # The Fluid of this machine reports at once.
    program = found.folder / "deepseek_acs" / "preload" / "loading.py"
    program.write_text(program.read_text().replace("SETTLE_SECONDS = 120", "SETTLE_SECONDS = 5"))
    yield found
    found.stop()


def objects(project: Project, plural: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = project.custom.list_namespaced_custom_object(
        "data.fluid.io", "v1alpha1", project.namespace, plural
    )["items"]
    return items


def mounted(project: Project) -> set[str]:
    """The claims that the pods mount."""
    volumes = [volume for pod in project.pods().values() for volume in pod.spec.volumes]
    return {v.persistent_volume_claim.claim_name for v in volumes if v.persistent_volume_claim}


def labelled_for_rdma(project: Project) -> bool:
    (value,) = {pod.metadata.labels.get("alibabacloud.com/hpn-type") for pod in project.pods().values()}
    return bool(value == "rdma")


def all_ready(project: Project) -> bool:
    pods = project.pods().values()
    return len(pods) == 2 and all(c.ready for pod in pods for c in pod.status.container_statuses or ())


def claims(project: Project) -> dict[str, str]:
    found = project.core.list_namespaced_persistent_volume_claim(project.namespace).items
    return {claim.metadata.name: claim.status.phase for claim in found}


@contextmanager
def fault(project: Project, kind: str) -> Iterator[None]:
    body = {"metadata": {"name": FAULTS_CONFIG_MAP}, "data": {FAULTS_KEY: kind}}
    project.core.create_namespaced_config_map(FAULTS_NAMESPACE, body)
    try:
        yield
    finally:
        project.core.delete_namespaced_config_map(FAULTS_CONFIG_MAP, FAULTS_NAMESPACE)


@contextmanager
def group_always_has_a_claim(project: Project) -> Iterator[None]:
    """Looks again and again at what the group's pods are to mount: it must be there and bound at every moment."""
    ended, missing, looks = threading.Event(), set(), []

    def look() -> None:
        templates = project.group()["spec"]["leaderWorkerTemplate"]
        for template in (templates["leaderTemplate"], templates["workerTemplate"]):
            (volume,) = (v for v in template["spec"]["volumes"] if v["name"] == "llm-model")
            name = volume["persistentVolumeClaim"]["claimName"]
            looks.append(name)
            if claims(project).get(name) != "Bound":
                missing.add(name)

    def keep_looking() -> None:
        while not ended.wait(0.1):
            look()

    thread = threading.Thread(target=keep_looking)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    # The update may end sooner than the next look would have come.
    look()
    assert len(set(looks)) == 2, "the group has moved"
    assert not missing


def bucket(project: Project) -> Any:
    """The resources of the bucket and the Job that filled it, with the times at which they were touched."""
    (state,) = (project.folder / ".state" / "pulumi" / ".pulumi" / "stacks").rglob("local-fluid.json")
    resources = json.loads(state.read_text())["checkpoint"]["latest"]["resources"]
    return sorted(
        (r["urn"], r["id"], r["created"], r["modified"])
        for r in resources
        if ":oss/" in r["type"] or (r["urn"].endswith("::model-upload-job") and r["custom"])
    )


def test_up_runs_with_cache_and_rdma(project: Project) -> None:
    project.run("up")
    ((dataset,), (runtime,), (load,)) = (objects(project, p) for p in ("datasets", "jindoruntimes", "dataloads"))
    assert dataset["status"]["phase"] == "Bound"
    assert dataset["spec"]["mounts"][0]["mountPoint"].endswith("/models/DeepSeek-R1")
    assert runtime["status"]["workerNumberReady"] == 7
    assert load["status"]["phase"] == "Complete"
    name = dataset["metadata"]["name"]
    assert claims(project) == {name: "Bound"}
    assert mounted(project) == {name}
    assert labelled_for_rdma(project)
    assert all_ready(project)
    labels = {pod.metadata.labels["alibabacloud.com/fluid-sidecar-target"] for pod in project.pods().values()}
    assert labels == {"acs"}


def test_second_up_changes_nothing(project: Project) -> None:
    project.run("up", "--expect-no-changes")
    project.run("preview", "--refresh", "--expect-no-changes")


def test_workers_are_changed_in_place(project: Project) -> None:
    ((before,), pods) = objects(project, "datasets"), project.pods()
    project.change(storage={"workers": 9})
    output = project.run("up")
    assert "~ 2 updated" in output, "with the record of the settings"
    assert "+-1 replaced" in output, "the Job that evaluates the cache"
    (runtime,) = objects(project, "jindoruntimes")
    assert runtime["spec"]["replicas"] == 9
    assert objects(project, "datasets")[0]["metadata"]["uid"] == before["metadata"]["uid"]
    assert {p.metadata.uid for p in project.pods().values()} == {p.metadata.uid for p in pods.values()}


def test_other_pods_of_the_jobs_are_other_jobs(project: Project) -> None:
    """The API server takes no other template for a Job that exists, not even in the preview."""
    pods = project.pods()
    project.change(storage={"preloadMiBps": 400}, weights={"upload": {"cpu": 3}})
    assert "+-2 replaced" in project.run("up")
    assert {p.metadata.uid for p in project.pods().values()} == {p.metadata.uid for p in pods.values()}


def failed_up(project: Project, kind: str, **storage: Any) -> str:
    """Output of an up that the fault stops, while the group stays on its old cache."""
    before = {name: pod.metadata.uid for name, pod in project.pods().items()}
    claim = mounted(project)
    project.change(storage=storage)
    with fault(project, kind):
        output = " ".join(project.run("up", fails=True).split())
    assert {name: pod.metadata.uid for name, pod in project.pods().items()} == before
    assert mounted(project) == claim
    new = next(o["metadata"]["name"] for o in objects(project, "dataloads") if o["metadata"]["name"] not in claim)
    assert f"Fluid cache {project.namespace}/{new}: its DataLoad" in output
    assert f"describe dataload,dataset,jindoruntime {new}" in output
    assert "Traceback" not in output
    assert "then: pulumi up (the preload continues, or is repeated if it has finished)" in output
    return output


def continues(project: Project) -> None:
    """The next plain up finishes: the group is on the new cache and the old one is gone; and one more does nothing."""
    before = mounted(project)
    project.run("up")
    (load,) = objects(project, "dataloads")
    assert load["status"]["phase"] == "Complete"
    assert mounted(project) == {load["metadata"]["name"]} != before
    assert claims(project).keys() == mounted(project)
    assert all_ready(project)
    project.run("preview", "--refresh", "--expect-no-changes")


def test_way_back_from_a_failed_preload_changes_nothing(project: Project) -> None:
    before, (load,) = mounted(project), objects(project, "dataloads")
    failed_up(project, "fail", memory="120Gi")
    project.change(storage={"memory": "128Gi"})
    project.run("up")
    assert mounted(project) == before
    assert [o["metadata"]["uid"] for o in objects(project, "dataloads")] == [load["metadata"]["uid"]]


def test_failed_preload_stops_and_the_next_up_repeats_it(project: Project) -> None:
    output = failed_up(project, "fail", memory="96Gi")
    assert "its DataLoad ended as Failed (BackoffLimitExceeded: a fault was asked for)" in output
    continues(project)


def test_preload_that_caches_nothing_stops_and_the_next_up_repeats_it(project: Project) -> None:
    output = failed_up(project, "empty", memory="100Gi")
    assert "its DataLoad is complete, but the Dataset reports 0.00B as cached" in output
    continues(project)


def test_preload_that_hangs_is_given_up_and_the_next_up_continues(project: Project) -> None:
    program = project.folder / "deepseek_acs" / "planner" / "fluid.py"
    text = program.read_text()
    program.write_text(text.replace("START_SECONDS = 900", "START_SECONDS = 1"))
    output = failed_up(project, "hang", memory="104Gi", preloadMiBps=100_000)
    assert "its DataLoad was not finished after 15 s" in output
    continues(project)
    program.write_text(text)


def test_fluid_to_csi_on_the_live_stack(project: Project) -> None:
    before = bucket(project)
    project.change(storage={"kind": "csi"})
    with group_always_has_a_claim(project):
        project.run("up")
    (claim,) = mounted(project)
    assert claim.startswith("llm-model-")
    assert claims(project) == {claim: "Bound"}
    assert not any(objects(project, plural) for plural in ("datasets", "jindoruntimes", "dataloads"))
    assert len(project.core.list_persistent_volume().items) == 1
    assert bucket(project) == before
    assert labelled_for_rdma(project), "csi × rdma"
    assert all_ready(project)


def test_standard_network_changes_the_pods_alone(project: Project) -> None:
    project.change(inference={"network": "standard"})
    output = project.run("up")
    # And the namespace's labels: pods without RDMA keep a stricter standard; and the record of the settings.
    assert "~ 3 updated" in output
    assert not labelled_for_rdma(project), "csi × standard"
    assert all_ready(project)


def test_csi_to_fluid_on_the_live_stack(project: Project) -> None:
    before = bucket(project)
    project.change(storage={"kind": "fluid"})
    with group_always_has_a_claim(project):
        project.run("up")
    (claim,) = mounted(project)
    assert claim.startswith("llm-cache-")
    assert claims(project) == {claim: "Bound"}
    assert bucket(project) == before
    assert not labelled_for_rdma(project), "fluid × standard"
    assert all_ready(project)


def test_destroy_takes_the_cache_after_the_pods(project: Project) -> None:
    project.run("destroy")
    assert left_in_namespace(project) == {"kube-root-ca.crt"}
    assert not project.core.list_persistent_volume().items
    with pytest.raises(ApiException):
        project.group()
