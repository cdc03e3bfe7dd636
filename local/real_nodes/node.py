"""``python -m local.real_nodes.node PLAN NAME NETWORK_PID``: one node, with its programs and its pods.

This process only waits, and so does its child. The child's child is the first process of the node's pid namespace, so
that the kernel ends all of the node when any of the three ends.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from local.real_nodes import cgroups, configuration
from local.real_nodes.machine import make_private, resize, share_within
from local.real_nodes.namespaces import (
    NEW_IPC,
    NEW_MOUNT,
    NEW_NETWORK,
    NEW_PID,
    NEW_UTS,
    end_with_parent,
    network_of,
    unshare,
)
from local.real_nodes.network import FORWARDING, ip, link, node_commands, own_commands
from local.real_nodes.plan import SERVICE_NETWORK, WITHOUT_PROXY, NodePlan, Plan, read_plan
from local.real_nodes.relay_client import order

CONTAINERD_SECONDS = 60
RESTART_SECONDS = 1
READY = b"r"

VOLUME_DRIVERS = {"ossplugin": "ossplugin.csi.alibabacloud.com", "fluid": "fuse.csi.fluid.io"}
"""Names of drivers by that of their program here."""


@dataclass(frozen=True)
class Program:
    """One program of a node."""

    name: str
    command: Sequence[str]


def main() -> int:
    """Returns the exit code."""
    plan = read_plan(Path(sys.argv[1]))
    node, network = plan.node(sys.argv[2]), int(sys.argv[3])
    is_ready, ready = os.pipe()
    is_joined, joined = os.pipe()
    number, numbered = os.pipe()
    between = os.fork()
    if between == 0:
        end_with_parent()
        unshare(NEW_PID)
        first = os.fork()
        if first == 0:
            end_with_parent()
            _first(plan, node, ready, is_joined)
        os.write(numbered, str(first).encode())
        os._exit(os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]) & 0xFF)
    # Only this process, which has left no namespace, has children of whom all know the same process IDs.
    first = int(os.read(number, 32))
    os.read(is_ready, 1)
    _join(plan, node, network, first)
    os.write(joined, READY)
    return os.waitstatus_to_exitcode(os.waitpid(between, 0)[1])


def _join(plan: Plan, node: NodePlan, network: int, first: int) -> None:
    """Links the namespace of the process ``first`` to the bridge."""
    within = ("nsenter", f"--net={network_of(network)}")
    # That of a node before, which goes with its namespace, sooner or later.
    subprocess.run([*within, "ip", "link", "delete", link(plan, node.name)], stderr=subprocess.DEVNULL, check=False)  # noqa: S603
    for command in node_commands(plan, node.name, first):
        ip(command, *within)


def _first(plan: Plan, node: NodePlan, ready: int, is_joined: int) -> None:
    """The first process of the node's pid namespace. Never returns."""
    unshare(NEW_NETWORK | NEW_MOUNT | NEW_UTS | NEW_IPC)
    os.write(ready, READY)
    os.read(is_joined, 1)
    try:
        _run(plan, node)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"error: the node {node.name} cannot start: {error}", file=sys.stderr, flush=True)
    os._exit(1)


def _run(plan: Plan, node: NodePlan) -> None:
    """The first process of the node, which never returns."""
    folder = Path(plan.folder) / node.name
    socket.sethostname(node.name)
    for command in own_commands(plan, node.name):
        ip(command)
    FORWARDING.write_text("1", encoding="utf-8")
    make_private(folder)
    order(Path(plan.folder), node.name)
    order(Path(plan.folder), f"{node.name}/node", network_of())
    cgroups.create(f"{plan.cgroup}/{node.name}")
    resize(folder, cpus=plan.cpus, memory=plan.memory)
    share_within()
    containerd, *others = programs(plan, node)
    os.environ.update(WITHOUT_PROXY)
    os.environ["PATH"] = f"{Path(plan.binaries['containerd']).parent}:{os.environ['PATH']}:/usr/sbin:/sbin"
    running = {_start(containerd, folder): containerd}
    _await(Path(configuration.CONTAINERD_SOCKET), running, folder)
    running |= {_start(program, folder): program for program in others}
    while True:
        # All orphans of the node come here, too.
        _start_again(*os.waitpid(-1, 0), running, folder)


def write_configuration(plan: Plan, node: NodePlan, kubeconfigs: Path) -> None:
    """All files that the node's programs read."""
    folder = Path(plan.folder) / node.name
    (folder / "cni").mkdir(parents=True, exist_ok=True)
    (folder / "kubelet.yaml").write_text(yaml.safe_dump(configuration.kubelet(plan, node)), encoding="utf-8")
    proxy = configuration.kube_proxy(node, kubeconfigs / "kube-proxy.kubeconfig")
    (folder / "kube-proxy.yaml").write_text(yaml.safe_dump(proxy), encoding="utf-8")
    (folder / "containerd.toml").write_text(configuration.containerd(plan, node), encoding="utf-8")
    (folder / "cni" / "10-pods.conflist").write_text(json.dumps(configuration.cni(plan, node)), encoding="utf-8")


def programs(plan: Plan, node: NodePlan) -> list[Program]:
    """In the order of start; the first is what the others need."""
    folder = Path(plan.folder)
    own, binaries = folder / node.name, plan.binaries
    found = [
        Program("containerd", [binaries["containerd"], "--config", str(own / "containerd.toml")]),
        Program(
            "kubelet",
            [
                binaries["kubelet"],
                f"--config={own / 'kubelet.yaml'}",
                f"--kubeconfig={folder / 'kubelet.kubeconfig'}",
                f"--hostname-override={node.name}",
                f"--node-ip={node.address}",
                f"--root-dir={configuration.KUBELET_FOLDER}",
                f"--node-labels={configuration.node_labels(plan.labels)}",
                "--v=2",
            ],
        ),
        Program("kube-proxy", [binaries["kube-proxy"], f"--config={own / 'kube-proxy.yaml'}"]),
        Program(
            "netpol",
            [
                binaries["netpol"],
                f"--kubeconfig={folder / 'netpol.kubeconfig'}",
                f"--node={node.name}",
                f"--services={SERVICE_NETWORK}",
            ],
        ),
    ]
    if plan.gpus:
        module = "local.real_nodes.device_plugin"
        found.append(Program("gpus", [sys.executable, "-m", module, plan.gpu_resource, str(plan.gpus), plan.engine]))
    if "ossplugin" in binaries:
        command = [binaries["ossplugin"], f"--kubelet-dir={configuration.KUBELET_FOLDER}", f"--node={node.name}"]
        for name, driver in VOLUME_DRIVERS.items():
            found.append(Program(name, [*command, f"--region={plan.region}", f"--driver={driver}"]))
    return found


def _start(program: Program, folder: Path) -> int:
    with (folder / "log" / f"{program.name}.log").open("ab") as log:
        return os.posix_spawn(
            program.command[0],
            list(program.command),
            os.environ,
            setsid=True,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, log.fileno(), 1),
                (os.POSIX_SPAWN_DUP2, log.fileno(), 2),
            ],
        )


def _start_again(pid: int, status: int, running: dict[int, Program], folder: Path) -> None:
    """The process ``pid`` has ended. If it was a program of the node, it is started again."""
    program = running.pop(pid, None)
    if program is not None:
        print(f"{program.name} ended ({os.waitstatus_to_exitcode(status)}), and is started again", flush=True)
        time.sleep(RESTART_SECONDS)
        running[_start(program, folder)] = program


def _await(path: Path, running: dict[int, Program], folder: Path) -> None:
    deadline = time.monotonic() + CONTAINERD_SECONDS
    while not path.exists():
        if time.monotonic() > deadline:
            raise OSError(f"containerd did not make {path} in {CONTAINERD_SECONDS} s")
        _start_again(*os.waitpid(-1, os.WNOHANG), running, folder)
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
