"""The local stack on real nodes: kubelets, containers, the weights through the CSI driver. As root, or not at all.

One stack through its life, in the order of the file: each test begins where the one before it ended.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from kubernetes.stream import stream

from deepseek_acs.planner.vllm import RENDEZVOUS_PORTS
from local import tools
from local.cluster import SIMULATION_PROCESSES
from local.real_nodes import bring_up, cgroups
from local.real_nodes.requirements import problem
from tests.e2e.conftest import Project, eventually, make_project, uids

LACKING = problem((Path(__file__).parents[2], tools.cache_directory()))
pytestmark = [pytest.mark.e2e, pytest.mark.skipif(LACKING is not None, reason=str(LACKING))]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    tools.build_all(tools.NODE_TOOLS)
    found = make_project(tmp_path_factory.mktemp("real"), "local")
    found.variables["NODES"] = "real"
    yield found
    found.stop()


def interfaces() -> str:
    """Of this machine's own network namespace."""
    return subprocess.run(["ip", "-oneline", "link"], capture_output=True, text=True, check=True).stdout


def mounts() -> set[str]:
    return {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()}


def group(project: Project) -> str:
    return cgroups.group_of(project.folder / ".state" / "cluster")


def control_groups(project: Project) -> list[Path]:
    return list(cgroups.ROOT.glob(f"*/{group(project)}")) + list(cgroups.ROOT.glob(group(project)))


def process(project: Project, name: str) -> psutil.Process:
    saved = json.loads((project.folder / ".state" / "cluster" / "pids" / f"{name}.json").read_text())
    return psutil.Process(saved["pid"])


def all_ready(project: Project) -> bool:
    pods = list(project.pods().values())
    states = [status for pod in pods for status in pod.status.container_statuses or ()]
    return len(pods) == len(states) == 2 and all(s.ready for s in states) and not any(is_going(pod) for pod in pods)


def is_going(pod: Any) -> bool:
    return pod.metadata.deletion_timestamp is not None


def run_in(project: Project, pod: str, *command: str, namespace: str = "") -> str:
    """With the kubelet's exec."""
    call, words = project.core.connect_get_namespaced_pod_exec, list(command)
    answer: str = stream(call, pod, namespace or project.namespace, command=words, stdout=True)
    return answer


def test_up_and_verify(project: Project) -> None:
    before = interfaces()
    assert "The nodes are real" in project.run("up", previewed=True)
    assert "The endpoint answers." in project.run("verify")
    assert interfaces() == before, "nothing of the nodes' network is in this machine's"


def test_nodes_look_like_those_of_acs(project: Project) -> None:
    nodes = project.core.list_node().items
    assert [node.metadata.name[:16] for node in nodes] == ["virtual-kubelet-"] * 2
    for node in nodes:
        assert node.metadata.labels["alibabacloud.com/gpu-model-series"] == "GU8TF"
        room = node.status.allocatable
        assert (node.status.capacity["cpu"], room["nvidia.com/gpu"], node.status.capacity["memory"]) == (
            "192",
            "8",
            "1900Gi",
        )
        assert node.status.node_info.kubelet_version == "v1.36.3"
    assert {pod.spec.node_name for pod in project.pods().values()} == {node.metadata.name for node in nodes}


def test_the_weights_were_moved_by_a_real_pod(project: Project) -> None:
    (pod,) = project.core.list_namespaced_pod(
        project.namespace, label_selector="app.kubernetes.io/name=modelmover"
    ).items
    assert pod.status.container_statuses[0].container_id.startswith("containerd://")
    assert "is whole: 12 files" in project.core.read_namespaced_pod_log(pod.metadata.name, project.namespace)


def test_the_engines_read_them_and_cannot_write(project: Project) -> None:
    for pod in project.pods():
        assert "model.safetensors.index.json" in run_in(project, pod, "ls", "/models/DeepSeek-R1")
        assert run_in(project, pod, "sh", "-c", "mkdir /models/DeepSeek-R1/x || echo no").strip().endswith("no")


def test_group_has_met_over_its_own_network(project: Project) -> None:
    leader = project.core.read_namespaced_pod_log("deepseek-r1-0", project.namespace)
    assert "All 2 ray workers are active" in leader
    worker = project.core.read_namespaced_pod_log("deepseek-r1-0-1", project.namespace)
    assert "joined deepseek-r1-0." in worker


RENDEZVOUS = (RENDEZVOUS_PORTS["ray"], RENDEZVOUS_PORTS["mp"])
RANDOM_PORT = 40123
"""As NCCL and Gloo choose theirs."""
METADATA = "100.100.100.200"
STRANGER, CLIENT = "strangers", "clients"
LISTEN = (
    "import socket, time; s = [socket.create_server(('', port)) for port in {ports}]; print('up', flush=True); "
    "time.sleep(900)"
)
CONNECT = (
    "import socket; s = socket.socket(); s.settimeout(5); "
    "print('open' if s.connect_ex(({address!r}, {port})) == 0 else 'closed')"
)


def listen(project: Project, pod: str, *ports: int) -> None:
    """In the background of the pod's container, as the engine's own programs would."""
    code = LISTEN.format(ports=list(ports))
    run_in(project, pod, "sh", "-c", f'python3 -c "{code}" > /tmp/listens 2>&1 &')
    eventually(lambda: "up" in run_in(project, pod, "cat", "/tmp/listens"))


def reach(project: Project, pod: str, address: str, port: int, namespace: str = "") -> str:
    """``open`` or ``closed``."""
    code = CONNECT.format(address=address, port=port)
    return run_in(project, pod, "python3", "-c", code, namespace=namespace).strip()


def start_pod(project: Project, namespace: str) -> None:
    """A pod of another namespace, which is as the namespace is called."""
    (mover,) = project.core.list_namespaced_pod(
        project.namespace, label_selector="app.kubernetes.io/name=modelmover"
    ).items
    image = mover.spec.containers[0].image
    container = {"name": "main", "image": image, "command": ["python3", "-c", LISTEN.format(ports=[RANDOM_PORT])]}
    project.core.create_namespace({"metadata": {"name": namespace}})
    eventually(lambda: project.core.list_namespaced_service_account(namespace).items)
    project.core.create_namespaced_pod(
        namespace,
        {"metadata": {"name": namespace}, "spec": {"containers": [container], "terminationGracePeriodSeconds": 0}},
    )
    eventually(lambda: project.core.read_namespaced_pod(namespace, namespace).status.phase == "Running")


@pytest.fixture(scope="module")
def others(project: Project) -> None:
    """A pod that the policies do not admit, and a client; servers at all ports that they are about."""
    start_pod(project, STRANGER)
    start_pod(project, CLIENT)
    # Ray's port and the HTTP port are the engine's own.
    listen(project, "deepseek-r1-0", RENDEZVOUS_PORTS["mp"], RANDOM_PORT)
    network = process(project, "nodes-network")
    within = ["nsenter", f"--net=/proc/{network.pid}/ns/net"]
    subprocess.run([*within, "ip", "address", "add", f"{METADATA}/32", "dev", "nodes0"], check=True)


@pytest.fixture
def metadata(project: Project, others: None) -> Iterator[None]:
    """A server where Alibaba Cloud serves metadata."""
    network = process(project, "nodes-network")
    code = LISTEN.format(ports=[80])
    command = ["nsenter", f"--net=/proc/{network.pid}/ns/net", sys.executable, "-c", code]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    assert server.stdout.readline() == "up\n"
    yield
    server.kill()
    server.wait()


def test_without_policies_all_is_open(project: Project, others: None, metadata: None) -> None:
    """So that what follows is closed by the policies, and by nothing else."""
    leader = project.pods()["deepseek-r1-0"].status.pod_ip
    for port in (8000, *RENDEZVOUS, RANDOM_PORT):
        assert reach(project, STRANGER, leader, port, STRANGER) == "open", port
    assert reach(project, "deepseek-r1-0-1", METADATA, 80) == "open"


def test_policies_admit_the_group_and_its_clients_only(project: Project, others: None) -> None:
    project.change(security={"networkPolicy": {"clients": [{"namespace": CLIENT}]}})
    project.run("up")
    eventually(lambda: all_ready(project))
    # The pods are others: theirs is a service account now.
    listen(project, "deepseek-r1-0", RENDEZVOUS_PORTS["mp"], RANDOM_PORT)
    leader = project.pods()["deepseek-r1-0"].status.pod_ip
    for port in (8000, *RENDEZVOUS, RANDOM_PORT):
        assert reach(project, STRANGER, leader, port, STRANGER) == "closed", port
        assert reach(project, "deepseek-r1-0-1", leader, port) == "open", port
        assert reach(project, CLIENT, leader, port, CLIENT) == ("open" if port == 8000 else "closed"), port
    stranger = project.core.read_namespaced_pod(STRANGER, STRANGER).status.pod_ip
    assert reach(project, "deepseek-r1-0", stranger, RANDOM_PORT) == "open", "pods may be reached"
    assert "The endpoint answers." in project.run("verify")


def test_policies_close_the_metadata_of_the_cloud(project: Project, metadata: None) -> None:
    assert reach(project, STRANGER, METADATA, 80, STRANGER) == "open"
    for pod in project.pods():
        assert reach(project, pod, METADATA, 80) == "closed", pod


def test_a_group_starts_behind_its_policies(project: Project) -> None:
    """Members find each other by DNS, and read the weights."""
    before = uids(project)
    project.core.delete_namespaced_pod("deepseek-r1-0", project.namespace)
    eventually(lambda: all_ready(project) and not before & uids(project))
    assert "The endpoint answers." in project.run("verify")


@pytest.mark.parametrize("killed", ["nodes-network", "node-a", "coredns", "kube-apiserver", "etcd"])
def test_up_heals_what_was_killed(project: Project, killed: str) -> None:
    process(project, killed).kill()
    project.run("up")
    eventually(lambda: all_ready(project))
    assert "The endpoint answers." in project.run("verify")


@pytest.mark.parametrize("program", ["kubelet", "containerd", "kube-proxy"])
def test_a_node_heals_by_itself(project: Project, program: str) -> None:
    (found,) = (p for p in process(project, "node-b").children(recursive=True) if p.name() == program)
    found.kill()
    eventually(
        lambda: any(
            p.name() == program and p.pid != found.pid for p in process(project, "node-b").children(recursive=True)
        )
    )
    assert "The endpoint answers." in project.run("verify")


def test_damaged_image_is_told_and_written_again(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All are: each is looked at, imported or not. The images of all clusters of this machine stay as they are."""
    (tmp_path / "tools").symlink_to(tools.cache_directory() / "tools")
    monkeypatch.setitem(project.variables, "DEEPSEEK_CACHE", str(tmp_path))
    project.run("up")
    (image,) = (tmp_path / "images").glob("engine-*.tar")
    image.write_bytes(b"nonsense")
    assert f"the image {image} is damaged" in project.run("up", fails=True)
    assert not image.exists()
    project.run("up")


def test_full_disk_is_told_and_leaves_a_node_that_heals(project: Project) -> None:
    """A small one, in the place where containerd of one node has its images."""
    project.run("down")
    node = "virtual-kubelet-cn-hangzhou-b"
    disk = project.folder / ".state" / "cluster" / "nodes" / node / "containerd"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", str(disk)], check=True)
    try:
        said = project.run("up", fails=True)
        assert f"error: the disk is full while {node} imports " in said
        assert "MiB are free; make room and run it again" in said
        project.run("down")
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    project.run("up")
    eventually(lambda: all_ready(project))
    assert "The endpoint answers." in project.run("verify")


def test_down_leaves_nothing_that_runs(project: Project) -> None:
    first = process(project, "node-a")
    inside = {p.pid: p for p in first.children(recursive=True)}
    assert {"kubelet", "containerd", "kube-proxy", "ossplugin"} <= {p.name() for p in inside.values()}
    assert control_groups(project)
    project.run("down")
    eventually(lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in inside.values()))
    assert not control_groups(project)
    assert not [path for path in mounts() if path.startswith(str(project.folder))]


def test_the_nodes_come_back(project: Project) -> None:
    project.run("up")
    eventually(lambda: all_ready(project))
    assert "The endpoint answers." in project.run("verify")


def test_down_after_all_was_killed(project: Project) -> None:
    for name in ("node-b", "node-a", "coredns", "nodes-network", "kube-apiserver"):
        os.kill(process(project, name).pid, signal.SIGKILL)
    project.run("down")
    assert not control_groups(project)


def test_simulated_nodes_take_their_place(project: Project) -> None:
    project.variables["NODES"] = "simulated"
    assert "The cluster is real but for its machines" in project.run("up")
    names = {node.metadata.name for node in project.core.list_node().items}
    assert names == {f"virtual-kubelet-cn-hangzhou-{kind}" for kind in ("gpu-0", "gpu-1", "cpu-0")}
    running = {status.name for status in project.cluster.status() if status.running}
    assert set(SIMULATION_PROCESSES) <= running
    assert not running & set(bring_up.NODE_PROCESSES)
    eventually(lambda: all_ready(project))


def test_reset_leaves_no_folder(project: Project) -> None:
    project.run("reset")
    assert not (project.folder / ".state" / "cluster").exists()
    assert not control_groups(project)
