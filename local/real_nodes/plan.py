"""What the nodes are told: their addresses, size and programs. One file, written by ``make up``."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

NODES = 2

GATEWAY = "172.30.0.1"
"""Of the bridge: there, nodes and pods reach the API server and the cluster's DNS. Known in our namespaces only."""
NODE_ADDRESSES = tuple(f"172.30.0.{11 + index}" for index in range(NODES))
NODE_NETWORK = "172.30.0.0/24"
POD_NETWORK = "10.244.0.0/16"
SERVICE_NETWORK = "10.96.0.0/16"
DNS_PORT = 53
HOST_LOOPBACK = "127.0.0.1"

WITHOUT_PROXY = {"NO_PROXY": "*", "no_proxy": "*"}
"""For programs that talk to one another only: no proxy of this machine's network reaches them."""


@dataclass(frozen=True, kw_only=True)
class NodePlan:
    """One node.

    :param address: its own, on the bridge. :param pods: the network of its pods, as CIDR.
    """

    name: str
    address: str
    pods: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All nodes, which are alike.

    :param folder: where the nodes keep their state, one folder each. :param cgroup: of all nodes, below the root.
    :param cpus: number of CPUs that a node seems to have. :param memory: in bytes, likewise. :param gpus: devices of
    ``gpu_resource``. :param labels: of the nodes. :param api_server_port: of the host's loopback. :param relayed_ports:
    ports of the host's loopback that nodes and pods find on their own. :param binaries: paths by name.
    :param certificates: the folder of the cluster's certificates. :param region: of the emulated cloud.
    :param engine: folder of the host that containers with GPUs find at the same path; empty for none.
    """

    folder: str
    cgroup: str
    nodes: tuple[NodePlan, ...]
    cpus: int
    memory: int
    gpus: int
    gpu_resource: str
    labels: dict[str, str]
    api_server_port: int
    relayed_ports: tuple[int, ...]
    binaries: dict[str, str]
    certificates: str
    region: str
    engine: str = ""

    def write(self, path: Path) -> None:
        """As JSON."""
        path.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")

    def node(self, name: str) -> NodePlan:
        """The node of that name."""
        return next(node for node in self.nodes if node.name == name)


def read_plan(path: Path) -> Plan:
    """What ``Plan.write`` wrote."""
    raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    nodes = tuple(NodePlan(**node) for node in raw.pop("nodes"))
    return Plan(nodes=nodes, relayed_ports=tuple(raw.pop("relayed_ports")), **raw)


def node_plans(region: str) -> tuple[NodePlan, ...]:
    """Names as ACS has them, one virtual node for each zone."""
    return tuple(
        NodePlan(name=f"virtual-kubelet-{region}-{zone}", address=address, pods=f"10.244.{number}.0/24")
        for number, (zone, address) in enumerate(zip("ab", NODE_ADDRESSES, strict=True), start=1)
    )
