"""``python -m local.real_nodes.network PLAN``: holds the network namespace of the bridge, and relays."""

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from local.real_nodes.namespaces import NEW_NETWORK, network_of, unshare
from local.real_nodes.plan import GATEWAY, Plan, read_plan
from local.real_nodes.relay import Relay

BRIDGE = "nodes0"
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
"""Of the network namespace of the thread that reads or writes it."""


def commands(plan: Plan) -> Iterator[str]:
    """The bridge, and the routes to the nodes' pods."""
    yield "link set lo up"
    yield f"link add {BRIDGE} type bridge"
    yield f"addr add {GATEWAY}/24 dev {BRIDGE}"
    yield f"link set {BRIDGE} up"
    for node in plan.nodes:
        yield f"route add {node.pods} via {node.address}"


def link(plan: Plan, name: str) -> str:
    """The bridge's end of the node's link."""
    return f"veth{plan.nodes.index(plan.node(name)) + 1}"


def node_commands(plan: Plan, name: str, pid: int) -> Iterator[str]:
    """What joins the namespace of the process ``pid`` to the bridge; to be run in the namespace of the bridge."""
    yield f"link add {link(plan, name)} type veth peer name eth0 netns {pid}"
    yield f"link set {link(plan, name)} master {BRIDGE} up"


def own_commands(plan: Plan, name: str) -> Iterator[str]:
    """The node's side; to be run in its namespace."""
    yield "link set lo up"
    yield f"addr add {plan.node(name).address}/24 dev eth0"
    # The same hardware address at each start: the others remember it.
    yield f"link set eth0 address 02:00:00:00:00:0{plan.nodes.index(plan.node(name)) + 1} up"
    yield f"route add default via {GATEWAY}"
    for node in plan.nodes:
        if node.name != name:
            yield f"route add {node.pods} via {node.address}"


def ip(command: str, *prefix: str) -> None:
    """Raises subprocess.CalledProcessError."""
    subprocess.run([*prefix, "ip", *command.split()], check=True)  # noqa: S603


def main() -> None:
    """Serves until it is terminated."""
    plan = read_plan(Path(sys.argv[1]))
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    host = os.open(network_of(), os.O_RDONLY)
    unshare(NEW_NETWORK)
    for command in commands(plan):
        ip(command)
    FORWARDING.write_text("1", encoding="utf-8")
    relay = Relay(host, api_server_port=plan.api_server_port, relayed_ports=plan.relayed_ports)
    # The path of a socket is 108 bytes at most.
    os.chdir(plan.folder)
    asyncio.run(relay.serve())


if __name__ == "__main__":
    main()
