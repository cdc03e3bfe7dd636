"""A pool of leaders with the real endpoint picker: whom it sees, and whom it picks.

The embedded cluster has no Gateway, so the test plays it: it accepts the route, and asks the picker by ext-proc. The
picker is a process of this machine with the arguments, the configuration and the rights of the Deployment's pod. The
leaders are small servers on addresses of the loopback interface, each behind the request filter with the files of its
pod. One stack, in the order of the file.
"""

import base64
import contextlib
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import uvicorn
import yaml
from kubernetes import client, config

from deepseek_acs.requestfilter.program import RequestFilter, read_settings
from local import tools
from tests.e2e.conftest import Project, eventually, left_in_namespace, make_project
from tests.e2e.ext_proc import Picker

pytestmark = pytest.mark.e2e

KEY = "0123456789abcdef" * 4
PORT = 18_471
"""Of the leaders, each on an address of its own."""

ADDRESSES = ("127.0.18.1", "127.0.18.2")
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
    "port": PORT,
    "trustRemoteCode": False,
}
GATEWAY_API, POOLS = ("gateway.networking.k8s.io", "v1"), ("inference.networking.k8s.io", "v1")


@dataclass
class Leader:
    """What a leader's ``/metrics`` says, and what it was asked without success."""

    address: str
    waiting: int = 0
    running: int = 0

    @property
    def endpoint(self) -> str:
        return f"{self.address}:{PORT}"

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        text = (
            f'vllm:num_requests_waiting{{model_name="ds"}} {self.waiting}\n'
            f'vllm:num_requests_running{{model_name="ds"}} {self.running}\n'
            'vllm:kv_cache_usage_perc{model_name="ds"} 0\n'
            'vllm:cache_config_info{block_size="16",num_gpu_blocks="10000"} 1\n'
        )
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain; version=0.0.4")]}
        )
        await send({"type": "http.response.body", "body": text.encode()})


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
    process = project.start("up")

    def is_accepted() -> bool:
        with contextlib.suppress(Exception):
            accept_route(project)
            return True
        return process.poll() is not None

    eventually(is_accepted)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


def test_cluster_without_pools_is_told_before_anything_is_made(project: Project) -> None:
    assert "deepseek:apiKey" in project.run("preview", fails=True)
    project.pulumi("config", "set", "--stack", project.stack, "--secret", "deepseek:apiKey", given=KEY)
    output = project.run("preview")
    assert "so /metrics of the leaders needs none" in " ".join(output.split())
    extensions = client.ApiextensionsV1Api(config.new_client_from_config(str(project.cluster.kubeconfig)))
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
        "targetPorts": [{"number": PORT}],
        "appProtocol": "http",
        "endpointPickerRef": {
            "group": "",
            "kind": "Service",
            "name": "deepseek-r1-epp",
            "port": {"number": 9002},
            "failureMode": "FailOpen",
        },
    }


@contextlib.contextmanager
def serving(project: Project, leader: Leader, pod: Any, folder: Path) -> Iterator[None]:
    """The leader, behind the request filter with the files that its pod mounts."""
    volumes = {volume.name: volume for volume in pod.spec.volumes}
    files = project.core.read_namespaced_config_map(volumes["requestfilter"].config_map.name, project.namespace).data
    secret = volumes["requestfilter-keys"].secret.secret_name
    keys = project.core.read_namespaced_secret(secret, project.namespace).data
    (folder / "keys").mkdir(parents=True)
    for name, value in keys.items():
        (folder / "keys" / name).write_bytes(base64.b64decode(value))
    (folder / "settings.json").write_text(files["settings.json"])
    settings = read_settings(folder / "settings.json")._replace(keys=str(folder / "keys"))
    server = uvicorn.Server(
        uvicorn.Config(RequestFilter(leader, settings), lifespan="off", log_level="critical", ws="none")
    )
    listener = socket.create_server((leader.address, PORT))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


def as_service_account(project: Project, folder: Path) -> Path:
    """A kubeconfig with a token of the picker's service account, and so with its rights and no others."""
    request = client.AuthenticationV1TokenRequest(spec=client.V1TokenRequestSpec(audiences=[], expiration_seconds=3600))
    token = project.core.create_namespaced_service_account_token("deepseek-r1-epp", project.namespace, request)
    content = yaml.safe_load(project.cluster.kubeconfig.read_text())
    content["users"] = [{"name": content["users"][0]["name"], "user": {"token": token.status.token}}]
    (folder / "kubeconfig").write_text(yaml.safe_dump(content))
    return folder / "kubeconfig"


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]


@dataclass(frozen=True, kw_only=True)
class Pool:
    """The picker, by ext-proc and by its metrics, and the leaders."""

    picker: Picker
    metrics_port: int
    leaders: tuple[Leader, ...]
    log: Path

    def metric(self, name: str) -> float | None:
        with urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=5) as response:
            lines = response.read().decode().splitlines()
        values = [line.rpartition(" ")[2] for line in lines if line.startswith((f"{name}{{", f"{name} "))]
        return float(values[0]) if values else None


@pytest.fixture(scope="module")
def pool(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    folder = tmp_path_factory.mktemp("picker")
    leaders = tuple(map(Leader, ADDRESSES))
    pods = [project.pods()[f"deepseek-r1-{number}"] for number in range(len(leaders))]
    apps = client.AppsV1Api(config.new_client_from_config(str(project.cluster.kubeconfig)))
    template = apps.read_namespaced_deployment("deepseek-r1-epp", project.namespace).spec.template.spec
    (container,) = template.containers
    (volume,) = template.volumes
    files = project.core.read_namespaced_config_map(volume.config_map.name, project.namespace).data
    for name, content in files.items():
        (folder / name).write_text(content)
    grpc_port, health_port, metrics_port = free_ports(3)
    arguments = [argument.replace("/config/", f"{folder}/") for argument in container.args]
    own = [f"--grpc-port={grpc_port}", f"--grpc-health-port={health_port}", f"--metrics-port={metrics_port}"]
    environment = {"KUBECONFIG": str(as_service_account(project, folder)), "NAMESPACE": project.namespace}
    with contextlib.ExitStack() as stack:
        for leader, pod in zip(leaders, pods, strict=True):
            stack.enter_context(serving(project, leader, pod, folder / leader.address))
            # Replaced, because a patch would add an address to the list.
            pod.status.pod_ip, pod.status.pod_i_ps = leader.address, [client.V1PodIP(ip=leader.address)]
            project.core.replace_namespaced_pod_status(pod.metadata.name, project.namespace, pod)
        log = stack.enter_context((folder / "log").open("w"))
        # Without TLS, whose certificate the picker makes itself and gateways do not verify.
        command = [str(tools.tool("epp")), *arguments, *own, "--secure-serving=false"]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        picker = Picker(grpc_port)
        try:
            found = Pool(picker=picker, metrics_port=metrics_port, leaders=leaders, log=folder / "log")
            eventually(lambda: sees(found, process))
            yield found
        finally:
            picker.close()
            process.kill()
            process.wait()


def sees(pool: Pool, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, pool.log.read_text()[-3000:]
    with contextlib.suppress(OSError):
        return bool(pool.metric("inference_pool_ready_pods"))
    return False


def set_waiting(pool: Pool, *waiting: int) -> None:
    """Requests that wait at each leader; returns when the picker has read it."""
    for leader, count in zip(pool.leaders, waiting, strict=True):
        leader.waiting = count
    eventually(lambda: pool.metric("inference_pool_average_queue_size") == sum(waiting) / len(waiting))


def test_leaders_alone_are_members_and_their_metrics_are_read(project: Project, pool: Pool) -> None:
    """Without a key, through the filter; of four pods, two are leaders."""
    assert len(project.pods()) == 4
    eventually(lambda: pool.metric("inference_pool_ready_pods") == 2)
    set_waiting(pool, 6, 2)


@pytest.mark.parametrize("busy", [0, 1])
def test_short_queues_win(pool: Pool, busy: int) -> None:
    set_waiting(pool, *(50 if number == busy else 0 for number in range(2)))
    assert {pool.picker.pick(f"{number} short") for number in range(8)} == {pool.leaders[1 - busy].endpoint}


def test_prompts_return_to_the_leader_that_has_their_prefix(pool: Pool) -> None:
    prompts = ["Of the ships that came to Ithaca. " * 60, "A table of the elements by their weight. " * 60]
    for number, prompt in enumerate(prompts):
        set_waiting(pool, *(50 if other != number else 0 for other in range(2)))
        assert pool.picker.pick(f"{prompt} First?") == pool.leaders[number].endpoint
    set_waiting(pool, 0, 0)
    for question in ("Second?", "Third?", "Fourth?"):
        for leader, prompt in zip(pool.leaders, prompts, strict=True):
            assert pool.picker.pick(f"{prompt} {question}") == leader.endpoint


def test_leader_that_is_not_ready_gets_nothing(project: Project, pool: Pool) -> None:
    set_waiting(pool, 0, 0)
    pod = project.pods()["deepseek-r1-0"]
    conditions = [{"type": "Ready", "status": "False"}, {"type": "ContainersReady", "status": "False"}]
    project.core.patch_namespaced_pod_status(
        pod.metadata.name, project.namespace, {"status": {"conditions": conditions}}
    )
    eventually(lambda: pool.metric("inference_pool_ready_pods") == 1)
    assert {pool.picker.pick(f"{number} again") for number in range(8)} == {pool.leaders[1].endpoint}


def test_nothing_is_left(project: Project) -> None:
    project.run("destroy")
    assert not project.custom.list_namespaced_custom_object(*POOLS, project.namespace, "inferencepools")["items"]
    assert not left_in_namespace(project)
