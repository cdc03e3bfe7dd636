"""A route of kind inferencePool from the stack file to the API server, which has the definitions of the projects.

The embedded cluster has no Gateway, so the test accepts the route as its controller does. The endpoint picker itself is
in tests/integration/test_endpoint_picker.py. One stack, in the order of the file.
"""

import contextlib
import threading
from collections.abc import Iterator

import pytest
from kubernetes import client

from tests.e2e.conftest import Project, eventually, left_in_namespace, make_project

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

KEY = "0123456789abcdef" * 4
ROUTE = {
    "kind": "inferencePool",
    "name": "shared",
    "namespace": "gateways",
    "sectionName": "https",
    "host": "llm.example.com",
}
ENGINE = {
    "image": "vllm/vllm-openai:v0.33.0",
    "backend": "mp",
    "maxModelLen": 2048,
    "trustRemoteCode": False,
}
GATEWAY_API, POOLS = ("gateway.networking.k8s.io", "v1"), ("inference.networking.k8s.io", "v1")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    found = make_project(tmp_path_factory.mktemp("pool"), "local")
    found.change(
        inference={"replicas": 2, "engine": ENGINE},
        service={"kind": "clusterIP", "apiKey": True, "route": ROUTE},
    )
    try:
        yield found
    finally:
        found.stop()


def accept_route(project: Project) -> None:
    """As the controller of a Gateway does it."""
    parent = {"name": "shared", "namespace": "gateways", "sectionName": "https"}
    condition = {
        "type": "Accepted",
        "status": "True",
        "reason": "Accepted",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    status = {
        "status": {"parents": [{"parentRef": parent, "controllerName": "example.com/test", "conditions": [condition]}]}
    }
    (route,) = project.custom.list_namespaced_custom_object(*GATEWAY_API, project.namespace, "httproutes")["items"]
    project.custom.patch_namespaced_custom_object_status(
        *GATEWAY_API, project.namespace, "httproutes", route["metadata"]["name"], status
    )


def up_with_gateway(project: Project) -> str:
    """The update waits for the route until it is accepted."""
    over = threading.Event()

    def accept() -> None:
        while not over.wait(0.5):
            with contextlib.suppress(Exception):
                accept_route(project)

    gateway = threading.Thread(target=accept)
    gateway.start()
    try:
        return project.run("up")
    finally:
        over.set()
        gateway.join()


def test_cluster_without_pools_is_told_before_anything_is_made(project: Project) -> None:
    assert "deepseek:apiKey" in project.run("preview", fails=True)
    project.pulumi("config", "set", "--stack", project.stack, "--secret", "deepseek:apiKey", given=KEY)
    output = project.run("preview")
    assert "so /metrics of the leaders needs none" in " ".join(output.split())
    extensions = client.ApiextensionsV1Api(project.api)
    name = "inferencepools.inference.networking.k8s.io"
    definition = extensions.read_custom_resource_definition(name)
    extensions.delete_custom_resource_definition(name)
    eventually(lambda: name not in {d.metadata.name for d in extensions.list_custom_resource_definition().items})
    output = project.run("preview", fails=True)
    assert "deployment.service.route" in output
    assert "the cluster has no InferencePools (inference.networking.k8s.io/v1)" in " ".join(output.split())
    definition.metadata = client.V1ObjectMeta(name=name, annotations=definition.metadata.annotations)
    definition.status = None
    extensions.create_custom_resource_definition(definition)


def test_route_pool_and_picker_are_made(project: Project) -> None:
    """The API server validates the pool with the definition of the project that owns it."""
    up_with_gateway(project)
    (route,) = project.custom.list_namespaced_custom_object(*GATEWAY_API, project.namespace, "httproutes")["items"]
    (rule,) = route["spec"]["rules"]
    (backend,) = rule["backendRefs"]
    assert backend == {"group": POOLS[0], "kind": "InferencePool", "name": "deepseek-r1", "weight": 1}
    pool = project.custom.get_namespaced_custom_object(*POOLS, project.namespace, "inferencepools", "deepseek-r1")
    assert pool["spec"] == {
        "selector": {"matchLabels": {"leaderworkerset.sigs.k8s.io/name": "deepseek-r1", "role": "leader"}},
        "targetPorts": [{"number": 8000}],
        "appProtocol": "http",
        "endpointPickerRef": {
            "group": "",
            "kind": "Service",
            "name": "deepseek-r1-epp",
            "port": {"number": 9002},
            "failureMode": "FailOpen",
        },
    }


def test_picker_is_admitted_and_ready(project: Project) -> None:
    """The namespace enforces a Pod Security Standard, and nothing of its pod is unknown to the API server."""
    apps = client.AppsV1Api(project.api)

    def is_available() -> bool:
        status = apps.read_namespaced_deployment("deepseek-r1-epp", project.namespace).status
        return bool(status.available_replicas == 1)

    eventually(is_available)
    (endpoint,) = project.core.read_namespaced_service("deepseek-r1-epp", project.namespace).spec.ports
    assert (endpoint.port, endpoint.target_port) == (9002, 9002)
    assert len(project.pods()) == 4, "two groups of two pods"


def test_nothing_is_left(project: Project) -> None:
    project.run("destroy")
    assert not project.custom.list_namespaced_custom_object(*POOLS, project.namespace, "inferencepools")["items"]
    assert left_in_namespace(project) == {"kube-root-ca.crt"}
