"""Fluid on the embedded cluster: what the program writes fits its definitions, and its objects live as Fluid's do."""

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from kubernetes.client import ApiException

from local.cluster import FLUID_DEFINITIONS
from local.fluid.controller import Controller
from tests.unit.conftest import ROOT

NAMESPACE, NAME = "n", "llm-cache-1"


def schemas() -> dict[str, dict[str, Any]]:
    definitions = yaml.safe_load_all(FLUID_DEFINITIONS.read_text())
    return {d["spec"]["names"]["kind"]: d["spec"]["versions"][0]["schema"]["openAPIV3Schema"] for d in definitions}


def undeclared(value: Any, schema: dict[str, Any], path: str = "") -> list[str]:
    """Fields that the API server would refuse."""
    if isinstance(value, list):
        return [text for item in value for text in undeclared(item, schema["items"], f"{path}[]")]
    if not isinstance(value, dict) or "additionalProperties" in schema:
        return []
    known = schema.get("properties", {})
    inside = [text for key in value.keys() & known for text in undeclared(value[key], known[key], f"{path}.{key}")]
    return [*(f"{path}.{key}" for key in value.keys() - known.keys()), *inside]


def test_definitions_know_every_field_that_the_program_writes() -> None:
    emitted = yaml.safe_load_all((ROOT / "tests" / "golden" / "prod.yaml").read_text())
    known = schemas()
    specs = {manifest["kind"]: manifest["spec"] for manifest in emitted if manifest["kind"] in known}
    assert specs.keys() == {"Dataset", "JindoRuntime", "DataLoad"}
    for kind, spec in specs.items():
        assert undeclared(spec, known[kind]["properties"]["spec"]) == [], kind
    assert undeclared({"mount": []}, known["Dataset"]["properties"]["spec"]) == [".mount"]


class Cluster:
    """The few calls of the client's APIs that the controller makes, on objects in memory. Claims are bound at once."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.secrets: dict[str, dict[str, str]] = {"keys": {"id": "", "secret": ""}}
        self.claims: set[str] = set()
        self.sources: list[dict[str, Any]] = []
        self.mounted: set[str] = set()
        self.fault = ""

    def add(self, plural: str, spec: dict[str, Any]) -> None:
        self.objects[plural, NAME] = {"metadata": {"namespace": NAMESPACE, "name": NAME}, "spec": spec}

    def delete(self, plural: str) -> None:
        self.objects[plural, NAME]["metadata"]["deletionTimestamp"] = "now"

    def status(self, plural: str) -> dict[str, Any]:
        status: dict[str, Any] = self.objects[plural, NAME].get("status", {})
        return status

    def list_cluster_custom_object(self, group: str, version: str, plural: str) -> dict[str, Any]:
        return {"items": [copy.deepcopy(item) for (kind, _), item in self.objects.items() if kind == plural]}

    def patch_namespaced_custom_object(self, *place: Any) -> None:
        _, _, _, plural, name, change = place
        item = self.objects[plural, name]
        item["metadata"] |= change["metadata"]
        if "deletionTimestamp" in item["metadata"] and not item["metadata"]["finalizers"]:
            del self.objects[plural, name]

    def patch_namespaced_custom_object_status(self, *place: Any) -> None:
        _, _, _, plural, name, change = place
        item = self.objects[plural, name]
        item["status"] = {**item.get("status", {}), **change["status"]}

    def read_namespaced_config_map(self, name: str, namespace: str) -> Any:
        if not self.fault:
            raise ApiException(status=404)
        return SimpleNamespace(data={"dataload": self.fault})

    def read_namespaced_secret(self, name: str, namespace: str) -> Any:
        if name not in self.secrets:
            raise ApiException(status=404)
        return SimpleNamespace(data=self.secrets[name])

    def read_namespaced_persistent_volume_claim(self, name: str, namespace: str) -> Any:
        if name not in self.claims:
            raise ApiException(status=404)
        return SimpleNamespace(status=SimpleNamespace(phase="Bound"))

    def create_persistent_volume(self, body: dict[str, Any]) -> None:
        assert body["metadata"]["name"] == f"{NAMESPACE}-{NAME}"
        self.sources.append(body["spec"]["csi"])

    def create_namespaced_persistent_volume_claim(self, namespace: str, body: dict[str, Any]) -> None:
        self.claims.add(body["metadata"]["name"])

    def delete_namespaced_persistent_volume_claim(self, name: str, namespace: str) -> None:
        self.claims.discard(name)

    def delete_persistent_volume(self, name: str) -> None:
        raise ApiException(status=404)

    def list_namespaced_pod(self, namespace: str) -> Any:
        def volume(claim: str) -> Any:
            return SimpleNamespace(persistent_volume_claim=SimpleNamespace(claim_name=claim))

        spec = SimpleNamespace(volumes=[volume(claim) for claim in self.mounted])
        return SimpleNamespace(items=[SimpleNamespace(spec=spec)])


def reference(key: str) -> dict[str, Any]:
    return {"name": key, "valueFrom": {"secretKeyRef": {"name": "keys", "key": key}}}


DATASET = {
    "mounts": [
        {
            "mountPoint": "oss://b/p",
            "options": {"fs.oss.endpoint": "http://oss"},
            "encryptOptions": [reference("id"), reference("secret")],
        }
    ]
}
RUNTIME = {"replicas": 7}
LOAD = {"dataset": {"name": NAME, "namespace": NAMESPACE}}


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def settle(cluster: Cluster) -> None:
    """As many looks as it takes; one that hangs is looked at for ever."""
    for _ in range(12):
        Controller(cluster, cluster).reconcile()


def filled(cluster: Cluster) -> Cluster:
    cluster.add("datasets", DATASET)
    cluster.add("jindoruntimes", RUNTIME)
    cluster.add("dataloads", LOAD)
    settle(cluster)
    return cluster


def test_life_without_faults(cluster: Cluster) -> None:
    filled(cluster)
    assert cluster.status("jindoruntimes")["workerNumberReady"] == 7
    assert cluster.status("datasets")["phase"] == "Bound"
    assert cluster.status("datasets")["cacheStates"]["cached"] == "641.30GiB"
    assert cluster.status("dataloads")["phase"] == "Complete"
    assert cluster.status("dataloads")["conditions"] == [{"type": "Complete", "status": "True"}]
    assert cluster.claims == {NAME}


def test_volume_says_what_to_mount(cluster: Cluster) -> None:
    """On real nodes, by the driver of local/tools/ossplugin."""
    (source,) = filled(cluster).sources
    assert source["driver"] == "fuse.csi.fluid.io"
    assert source["nodePublishSecretRef"] == {"namespace": NAMESPACE, "name": "keys"}
    attributes = source["volumeAttributes"]
    assert (attributes["bucket"], attributes["path"], attributes["url"]) == ("b", "/p", "http://oss")


def test_dataset_waits_for_its_runtime_and_the_load_for_both(cluster: Cluster) -> None:
    cluster.add("datasets", DATASET)
    cluster.add("dataloads", LOAD)
    settle(cluster)
    assert cluster.status("datasets")["phase"] == "NotBound"
    assert (cluster.status("dataloads")["phase"], cluster.status("dataloads")["conditions"]) == ("Pending", [])
    assert not cluster.claims
    cluster.add("jindoruntimes", RUNTIME)
    settle(cluster)
    assert cluster.status("dataloads")["phase"] == "Complete"


@pytest.mark.parametrize("secrets", [{}, {"keys": {"id": ""}}])
def test_dataset_needs_its_secret(cluster: Cluster, secrets: dict[str, dict[str, str]]) -> None:
    cluster.secrets = secrets
    assert filled(cluster).status("datasets")["phase"] == "NotBound"


@pytest.mark.parametrize(
    ("fault", "phase", "cached"),
    [("fail", "Failed", "0.00B"), ("hang", "Executing", "0.00B"), ("empty", "Complete", "0.00B")],
)
def test_each_fault(cluster: Cluster, fault: str, phase: str, cached: str) -> None:
    cluster.fault = fault
    filled(cluster)
    assert cluster.status("dataloads")["phase"] == phase
    assert bool(cluster.status("dataloads")["conditions"]) == (fault != "hang")
    assert cluster.status("datasets")["cacheStates"]["cached"] == cached


def test_cache_stays_while_it_is_mounted(cluster: Cluster) -> None:
    filled(cluster)
    cluster.mounted = {NAME}
    cluster.delete("jindoruntimes")
    cluster.delete("datasets")
    settle(cluster)
    assert cluster.claims == {NAME}
    assert {plural for plural, _ in cluster.objects} >= {"jindoruntimes", "datasets"}
    cluster.mounted = {"another"}
    settle(cluster)
    assert not cluster.claims
    assert {plural for plural, _ in cluster.objects} == {"dataloads"}
