"""The real endpoint picker: which pods it sees, what it reads of them, and whom it picks.

It is built from the Go module of the Gateway API Inference Extension and runs on this machine with the arguments, the
configuration and the rights that the stack gives it, against a real API server. The test is the Gateway, and asks it by
ext-proc. The leaders are servers on addresses of the loopback interface, each behind the real request filter.
"""

import contextlib
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
import uvicorn
import yaml
from kubernetes import client, config

from components.inference_pool import (
    API_GROUP,
    CONFIG_FILE,
    CONFIG_PATH,
    EndpointPickerArgs,
    InferencePoolArgs,
    picker_arguments,
    picker_config,
    picker_name,
    pool_spec,
    rules,
)
from deepseek_acs.requestfilter.program import RequestFilter, Settings
from local import tools
from local.cluster import Cluster
from tests.integration.ext_proc import Picker
from tests.integration.filter_cases import limits, write_keys

pytestmark = pytest.mark.integration

GROUP, NAMESPACE = "r1", "models"
PORT = 18_471
"""Of the leaders, each on an address of its own."""

GRPC_PORT, HEALTH_PORT, METRICS_PORT = 18_472, 18_473, 18_474
"""Of the picker, on all addresses; below those that the kernel gives to connections."""

ADDRESSES = ("127.0.18.1", "127.0.18.2")
LEADERS = {"leaderworkerset.sigs.k8s.io/name": GROUP, "role": "leader"}
SECONDS = 30


@dataclass
class Leader:
    """What a leader's ``/metrics`` says."""

    address: str
    waiting: int = 0

    @property
    def endpoint(self) -> str:
        return f"{self.address}:{PORT}"

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        gauges = {
            'num_requests_waiting{model_name="ds"}': self.waiting,
            'num_requests_running{model_name="ds"}': 0,
            'kv_cache_usage_perc{model_name="ds"}': 0,
            'cache_config_info{block_size="16",num_gpu_blocks="10000"}': 1,
        }
        text = "".join(
            f"# TYPE vllm:{name.partition('{')[0]} gauge\nvllm:{name} {value}\n" for name, value in gauges.items()
        )
        headers = [(b"content-type", b"text/plain; version=0.0.4")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": text.encode()})


@dataclass(frozen=True, kw_only=True)
class Pool:
    """The picker, by ext-proc and by its metrics, and the leaders."""

    picker: Picker
    process: subprocess.Popen[bytes]
    leaders: tuple[Leader, ...]
    log: Path

    def metrics(self, name: str) -> list[float]:
        """Values of a metric in the order of their labels."""
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        with contextlib.suppress(OSError), urlopen(f"http://127.0.0.1:{METRICS_PORT}/metrics", timeout=5) as said:
            lines = sorted(line for line in said.read().decode().splitlines() if line.startswith(f"{name}{{"))
            return [float(line.rpartition(" ")[2]) for line in lines]
        return []

    def wait_for_leaders(self, count: int) -> None:
        """Those whose metrics are fresh, which the picker counts every five seconds."""
        eventually(lambda: self.metrics("inference_pool_ready_pods") == [count], self.log)

    def set_waiting(self, *waiting: int) -> None:
        """Requests that wait at each leader; returns when the picker has read it."""
        for leader, count in zip(self.leaders, waiting, strict=True):
            leader.waiting = count
        eventually(lambda: self.metrics("inference_pool_per_pod_queue_size") == [*waiting], self.log)


def eventually(condition: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.1)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    found = Cluster(tmp_path_factory.mktemp("cluster"))
    found.start_api_server()
    yield found
    found.stop(delete=True)


@pytest.fixture(scope="module")
def core(cluster: Cluster) -> Any:
    return client.CoreV1Api(config.new_client_from_config(str(cluster.kubeconfig)))


def define_pools(api: Any) -> None:
    extensions = client.ApiextensionsV1Api(api)
    folder = tools.assets("inference-extension")
    (path,) = folder.rglob("inference.networking.k8s.io_inferencepools.yaml")
    definition = yaml.safe_load(path.read_text())
    extensions.create_custom_resource_definition(definition)
    deadline = time.monotonic() + SECONDS
    while True:
        status = extensions.read_custom_resource_definition(definition["metadata"]["name"]).status
        if any(one.type == "Established" and one.status == "True" for one in status.conditions or []):
            return
        assert time.monotonic() < deadline
        time.sleep(0.1)


def make_objects(core: Any) -> None:
    """Namespace, pool, service account and rights of the picker, and two groups of two pods."""
    api, own = core.api_client, {"name": picker_name(GROUP), "namespace": NAMESPACE}
    core.create_namespace({"metadata": {"name": NAMESPACE}})
    core.create_namespaced_service_account(NAMESPACE, {"metadata": own})
    rights = client.RbacAuthorizationV1Api(api)
    named = [client.V1PolicyRule(**rule) for rule in rules(GROUP)]
    rights.create_namespaced_role(NAMESPACE, client.V1Role(metadata=client.V1ObjectMeta(**own), rules=named))
    binding = {
        "metadata": own,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": own["name"]},
        "subjects": [{"kind": "ServiceAccount", **own}],
    }
    rights.create_namespaced_role_binding(NAMESPACE, binding)
    args = InferencePoolArgs(namespace=NAMESPACE, group=GROUP, selector=LEADERS, port=PORT)
    pool = {
        "apiVersion": f"{API_GROUP}/v1",
        "kind": "InferencePool",
        "metadata": {"name": GROUP, "namespace": NAMESPACE},
        "spec": pool_spec(args, picker_name(GROUP)),
    }
    client.CustomObjectsApi(api).create_namespaced_custom_object(API_GROUP, "v1", NAMESPACE, "inferencepools", pool)
    for number, address in enumerate(ADDRESSES):
        make_pod(core, f"{GROUP}-{number}", address, LEADERS)
        worker = {"leaderworkerset.sigs.k8s.io/name": GROUP}
        make_pod(core, f"{GROUP}-{number}-1", f"127.0.18.{9 - number}", worker)


def make_pod(core: Any, name: str, address: str, labels: dict[str, str]) -> None:
    spec = {
        "serviceAccountName": picker_name(GROUP),
        "automountServiceAccountToken": False,
        "containers": [{"name": "vllm", "image": "vllm:v0.33.0"}],
    }
    core.create_namespaced_pod(NAMESPACE, {"metadata": {"name": name, "labels": labels}, "spec": spec})
    set_ready(core, name, ready=True, phase="Running", podIP=address, podIPs=[{"ip": address}])


def set_ready(core: Any, name: str, *, ready: bool, **status: Any) -> None:
    """As the kubelet does it."""
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    core.patch_namespaced_pod_status(name, NAMESPACE, {"status": {"conditions": conditions, **status}})


def as_service_account(core: Any, cluster: Cluster, folder: Path) -> Path:
    """A kubeconfig with a token of the picker's service account, and so with its rights and no others."""
    request = {"spec": {"audiences": [], "expirationSeconds": 3600}}
    token = core.create_namespaced_service_account_token(picker_name(GROUP), NAMESPACE, request)
    content = yaml.safe_load(cluster.kubeconfig.read_text())
    content["users"] = [{"name": content["users"][0]["name"], "user": {"token": token.status.token}}]
    (folder / "kubeconfig").write_text(yaml.safe_dump(content))
    return folder / "kubeconfig"


@contextlib.contextmanager
def serving(leader: Leader, keys: Path) -> Iterator[None]:
    """The leader behind the request filter, as a pool has it."""
    filtered = RequestFilter(leader, Settings(**limits(), keys=str(keys), open_metrics=True))
    server = uvicorn.Server(uvicorn.Config(filtered, lifespan="off", log_level="critical", ws="none"))
    listener = socket.create_server((leader.address, PORT))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


@pytest.fixture(scope="module")
def pool(cluster: Cluster, core: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    folder = tmp_path_factory.mktemp("picker")
    epp = tools.tool("epp")
    define_pools(core.api_client)
    make_objects(core)
    picker = EndpointPickerArgs(image="epp", cpu=1, memory="1Gi", engine_version=(0, 33, 0))
    (folder / CONFIG_FILE).write_text(picker_config(picker))
    arguments = [argument.replace(CONFIG_PATH, str(folder)) for argument in picker_arguments(GROUP)]
    own = [f"--grpc-port={GRPC_PORT}", f"--grpc-health-port={HEALTH_PORT}", f"--metrics-port={METRICS_PORT}"]
    environment = {"KUBECONFIG": str(as_service_account(core, cluster, folder)), "NAMESPACE": NAMESPACE}
    leaders = tuple(map(Leader, ADDRESSES))
    (folder / "keys").mkdir()
    write_keys(folder / "keys")
    with contextlib.ExitStack() as stack:
        for leader in leaders:
            stack.enter_context(serving(leader, folder / "keys"))
        log = stack.enter_context((folder / "log").open("w"))
        # Without TLS, whose certificate the picker makes itself and gateways do not verify.
        command = [str(epp), *arguments, *own, "--secure-serving=false"]
        process = subprocess.Popen(command, env={**environment, "PATH": os.defpath}, stdout=log, stderr=log)
        asked = Picker(GRPC_PORT)
        found = Pool(picker=asked, process=process, leaders=leaders, log=folder / "log")
        try:
            found.wait_for_leaders(len(leaders))
            yield found
        finally:
            asked.close()
            process.kill()
            process.wait()


def test_leaders_alone_are_members(core: Any, pool: Pool) -> None:
    assert len(core.list_namespaced_pod(NAMESPACE).items) == 4
    assert pool.metrics("inference_pool_ready_pods") == [2]
    log = pool.log.read_text()
    assert "forbidden" not in log, "its rights suffice"
    assert "extract failed" not in log, "the metrics are those of the configuration"


def test_metrics_are_read_through_the_filter_and_nothing_else_is_open(pool: Pool) -> None:
    pool.set_waiting(6, 2)
    with pytest.raises(HTTPError, match="401"):
        urlopen(f"http://{pool.leaders[0].endpoint}/v1/models", timeout=5)


@pytest.mark.parametrize("busy", [0, 1])
def test_short_queues_win(pool: Pool, busy: int) -> None:
    pool.set_waiting(*(50 if number == busy else 0 for number in range(2)))
    assert {pool.picker.pick(f"{number} short") for number in range(8)} == {pool.leaders[1 - busy].endpoint}


def test_prompts_return_to_the_leader_that_has_their_prefix(pool: Pool) -> None:
    prompts = ["Of the ships that came to Ithaca. " * 60, "A table of the elements by their weight. " * 60]
    for number, prompt in enumerate(prompts):
        pool.set_waiting(*(50 if other != number else 0 for other in range(2)))
        assert pool.picker.pick(f"{prompt} First?") == pool.leaders[number].endpoint
    pool.set_waiting(0, 0)
    for question in ("Second?", "Third?", "Fourth?"):
        for leader, prompt in zip(pool.leaders, prompts, strict=True):
            assert pool.picker.pick(f"{prompt} {question}") == leader.endpoint


def test_leader_that_is_not_ready_gets_nothing(core: Any, pool: Pool) -> None:
    pool.set_waiting(0, 0)
    set_ready(core, f"{GROUP}-0", ready=False)
    pool.wait_for_leaders(1)
    assert {pool.picker.pick(f"{number} again") for number in range(8)} == {pool.leaders[1].endpoint}
