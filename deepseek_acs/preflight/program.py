"""Checks that a group of pods can work, then replaces itself with the engine's command.

    program.py [options] -- COMMAND...         in each pod of a group
    program.py --collective ...                one process for each GPU, started by the former

A failed check ends the container: its log and its termination message name the pod, the layer and the fix.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import glob
import json
import os
import re
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

FAILED = 78
"""Exit code of a pod whose checks failed (EX_CONFIG of sysexits.h)."""

HOLD_SECONDS = 60
"""Time that a pod stays after a failed check. LeaderWorkerSet deletes the group's pods, and their logs with them, as
soon as one ends."""

TERMINATION_LOG = "/dev/termination-log"
"""https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/"""

SHARED_MEMORY = "/dev/shm"  # noqa: S108 - in the pod

MEMORY_SHARE = 0.97
"""Of the planned memory of a GPU that nvidia-smi must report: drivers reserve different amounts."""

MESSAGE_SECONDS = 30
CONNECT_SECONDS = 10
RETRY_SECONDS = 1
COLLECTIVE_SECONDS = 300
"""Longest collective test: PyTorch is imported from a cold image, and NCCL looks for its networks."""

CLOCK_SECONDS = 30
"""Largest difference between the clocks of two pods. Signatures for OSS and TLS certificates allow minutes, logs of a
group are read by their times."""

GPU_BYTES, CPU_BYTES = 256 * 2**20, 4 * 2**20
"""Size of the tensor that is reduced."""

WARM_UPS, REPEATS = 2, 5

COLLECTIVE = "--collective"

READERS = 16
"""Files of the weights that are looked at at once."""

LARGEST_HEADER = 100 * 10**6
"""https://github.com/huggingface/safetensors#format"""


class PreflightError(Exception):
    """A failed check: its layer, what is wrong, and what to do about it."""

    def __init__(self, layer: str, problem: str, fix: str) -> None:
        super().__init__(f"{layer}: {problem}; fix: {fix}")


class Gpu(NamedTuple):
    """One GPU as nvidia-smi reports it."""

    name: str
    memory_gib: float
    driver: str


def say(text: str) -> None:
    print(f"preflight: {text}", flush=True)


# --- this pod


def check_gpus(found: Sequence[Gpu], *, count: int, name: str, memory_gib: float) -> str:
    """All planned GPUs are visible, with the planned memory."""
    if len(found) < count:
        raise PreflightError(
            "gpu",
            f"{len(found)} of {count} GPUs are visible",
            "look for NVIDIA_VISIBLE_DEVICES and CUDA_VISIBLE_DEVICES in inference.engine.env; otherwise the node is "
            "broken: delete the pod, and report the node to the cloud",
        )
    for index, gpu in enumerate(found):
        if gpu.memory_gib < MEMORY_SHARE * memory_gib:
            raise PreflightError(
                "gpu",
                f"GPU {index} ({gpu.name}) has {gpu.memory_gib:.1f} GiB, and the plan counts on {memory_gib:.1f}",
                "correct inference.gpu.series or gpuMemoryGiB, and plan again",
            )
    other = "" if not name or name.lower() in found[0].name.lower() else f", planned as {name}"
    return f"{len(found)} × {found[0].name}, {found[0].memory_gib:.1f} GiB{other}, driver {found[0].driver}"


def read_gpus() -> list[Gpu]:
    """By nvidia-smi, which the driver brings into each container."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PreflightError("gpu", f"nvidia-smi does not answer ({error})", "report the node to the cloud") from None
    if done.returncode:
        said = (done.stdout + done.stderr).strip()
        raise PreflightError("gpu", f"nvidia-smi fails: {said[:300]}", "report the node to the cloud")
    rows = [[part.strip() for part in line.split(",")] for line in done.stdout.splitlines() if line.strip()]
    return [Gpu(name=name, memory_gib=float(mib) / 1024, driver=driver) for name, mib, driver in rows]


def check_cuda(built_for: str | None, supported: str | None) -> str:
    """The driver supports the CUDA version that the image's PyTorch was built for. Within a major version, newer CUDA
    runs on older drivers (https://docs.nvidia.com/deploy/cuda-compatibility/)."""
    if built_for is None or supported is None:
        return "CUDA version not known"
    if int(built_for.split(".")[0]) > int(supported.split(".")[0]):
        raise PreflightError(
            "driver",
            f"the image is built for CUDA {built_for}, and the driver supports up to {supported}",
            "set inference.gpu.driverVersion to a newer one, or use an image for an older CUDA",
        )
    return f"CUDA {built_for} of the image, the driver supports {supported}"


def cuda_of_driver(output: str) -> str | None:
    """From the table that nvidia-smi prints."""
    found = re.search(r"CUDA Version:\s*([0-9]+\.[0-9]+)", output)
    return found[1] if found else None


def cuda_of_image() -> str | None:
    """Of PyTorch, without importing it, which takes seconds."""
    for folder in sys.path:
        with contextlib.suppress(OSError):
            text = Path(folder, "torch", "version.py").read_text(encoding="utf-8")
            found = re.search(r"^cuda\b.*?=\s*'([0-9.]+)'", text, re.MULTILINE)
            return found[1] if found else None
    return None


def check_shared_memory(gib: float, folder: str = SHARED_MEMORY) -> str:
    """Shared memory has the planned size."""
    usage = shutil.disk_usage(folder)
    found = usage.total / 2**30
    if found < 0.99 * gib:
        raise PreflightError(
            "pod", f"{folder} has {found:.1f} GiB, and {gib:g} are planned", "look for another volume there"
        )
    return f"{folder}: {found:.1f} GiB"


def check_weights(folder: str) -> str:
    """Every safetensors file that the index names is there, and as long as its own header says. Reads the headers."""
    files = _named_files(folder)
    with concurrent.futures.ThreadPoolExecutor(READERS) as pool:
        sizes = list(pool.map(_checked_size, files))
    if not files:
        return "weights: no safetensors files, not checked"
    return f"weights: {len(files)} files, {sum(sizes) / 2**30:.1f} GiB"


def _named_files(folder: str) -> list[str]:
    index = Path(folder, "model.safetensors.index.json")
    try:
        if index.is_file():
            names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
            return [f"{folder}/{name}" for name in sorted(set(names))]
    except (OSError, ValueError, KeyError) as error:
        raise PreflightError("storage", f"{index} cannot be read ({error})", MOVE_AGAIN) from None
    return sorted(glob.glob(f"{glob.escape(folder)}/*.safetensors"))


MOVE_AGAIN = (
    "change a setting of weights.upload, so that pulumi up checks the weights again (docs/weights.md); if they are "
    "whole in the bucket, look at the volume or the cache"
)


def _checked_size(path: str) -> int:
    """https://github.com/huggingface/safetensors#format"""
    try:
        size = os.stat(path).st_size
        with open(path, "rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > LARGEST_HEADER:
                raise ValueError("no safetensors file")
            header = json.loads(stream.read(length))
        ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
        expected = 8 + int(length) + max(ends, default=0)
    except (OSError, ValueError, KeyError, struct.error) as error:
        raise PreflightError("storage", f"{path} cannot be read ({error})", MOVE_AGAIN) from None
    if size != expected:
        raise PreflightError("storage", f"{path} has {size:,} bytes instead of {expected:,}", MOVE_AGAIN)
    return size


# --- the pods of a group


class Member(NamedTuple):
    """A pod of the group: the address that the engine uses, and the port at which it answers the others."""

    rank: int
    name: str
    address: str
    port: int


class Connection:
    """Carries JSON, a line each."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._file = connection.makefile("rw", encoding="utf-8", newline="\n")

    def send(self, message: object) -> None:
        self._file.write(json.dumps(message) + "\n")
        self._file.flush()

    def receive(self, seconds: float) -> Any:
        """Raises OSError or ValueError."""
        self._socket.settimeout(seconds)
        line = self._file.readline(2**20)
        if not line:
            raise ConnectionError("the other pod has closed the connection")
        return json.loads(line)


class Group:
    """All pods of the group, as ``meet`` has found them. The leader has a connection to each worker, by rank, and a
    worker one to its leader."""

    def __init__(
        self, own: Member, members: Sequence[Member], connections: Mapping[int, Connection], port: int
    ) -> None:
        self.own, self.members = own, members
        self.collective_port = port
        """At the leader, for the collective test."""
        self._connections = connections

    def agree(self, problem: PreflightError | None, seconds: float) -> None:
        """Waits until all pods have come here. Raises the first problem of any pod, with its name."""
        found = f"pod {self.own.name}: {problem}" if problem else None
        try:
            if self.own.rank == 0:
                answers = [found, *(one.receive(seconds) for one in self._connections.values())]
                found = next(filter(None, answers), None)
                for one in self._connections.values():
                    one.send(found)
            else:
                self._connections[0].send(found)
                found = self._connections[0].receive(seconds)
        except (OSError, ValueError) as error:
            found = found or f"pod {self.own.name}: network: lost another pod of the group ({error}); fix: see its log"
        if found:
            raise GroupError(found)


class GroupError(Exception):
    """A failed check of any pod of the group."""


def meet(own: Member, *, leader: str, port: int, size: int, seconds: float) -> Group:
    """Waits until all pods of the group are there, at the address and the port by which the engine's ranks meet."""
    deadline = time.monotonic() + seconds
    return _lead(own, port, size, deadline) if own.rank == 0 else _join(own, leader, port, deadline)


def _lead(own: Member, port: int, size: int, deadline: float) -> Group:
    members, connections = {0: own}, dict[int, Connection]()
    with _server(port) as server:
        while len(members) < size:
            server.settimeout(max(0.1, deadline - time.monotonic()))
            try:
                connection = Connection(server.accept()[0])
                hello = connection.receive(MESSAGE_SECONDS)
                member = Member(*hello["member"])
            except TimeoutError:
                missing = sorted(set(range(size)) - set(members))
                raise PreflightError(
                    "pods", f"pods with index {missing} did not come", "look at their events (kubectl describe pod)"
                ) from None
            except (OSError, ValueError, TypeError, KeyError):
                continue  # not a pod of the group
            _check_clock(member, hello["time"] - time.time())
            members[member.rank], connections[member.rank] = member, connection
    found = [members[rank] for rank in sorted(members)]
    collective = _free_port()
    for connection in connections.values():
        connection.send({"members": found, "port": collective})
    return Group(own, found, connections, collective)


def _server(port: int) -> socket.socket:
    try:
        return socket.create_server(("", port))
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise PreflightError(
            "network",
            f"the leader cannot listen at port {port}, at which the engine's ranks meet: {why}",
            "look in the pod for another program at this port, a sidecar for instance",
        ) from None


def _join(own: Member, leader: str, port: int, deadline: float) -> Group:
    while True:
        try:
            connection = Connection(socket.create_connection((leader, port), CONNECT_SECONDS))
            connection.send({"member": own, "time": time.time()})
            answer = connection.receive(max(1.0, deadline - time.monotonic()))
            members = [Member(*one) for one in answer["members"]]
            return Group(own, members, {0: connection}, answer["port"])
        except (OSError, ValueError) as error:
            if time.monotonic() > deadline:
                raise PreflightError(
                    "network",
                    f"the leader cannot be reached at {leader}:{port} ({error})",
                    "look at the leader's log; then at DNS, NetworkPolicies and security groups",
                ) from None
            time.sleep(RETRY_SECONDS)


def _check_clock(member: Member, difference: float) -> None:
    if abs(difference) > CLOCK_SECONDS:
        raise PreflightError(
            "clock",
            f"that of pod {member.name} is {difference:+.0f} s off the leader's",
            "report the node to the cloud",
        )


def _free_port() -> int:
    with socket.create_server(("", 0)) as server:
        return int(server.getsockname()[1])


def answer_others(server: socket.socket, name: str) -> None:
    """Tells everyone who connects which pod this is, until the socket is closed."""
    while True:
        try:
            connection = server.accept()[0]
        except OSError:
            return
        with connection, contextlib.suppress(OSError):
            connection.sendall(name.encode())


def check_reach(group: Group) -> str:
    """This pod reaches every other one at the address that the engine will use."""
    for other in group.members:
        if other.rank == group.own.rank:
            continue
        place = f"{other.name} at {other.address}:{other.port}"
        fix = "let the pods of the group reach each other on all ports: NetworkPolicies and security groups"
        try:
            with socket.create_connection((other.address, other.port), CONNECT_SECONDS) as connection:
                connection.settimeout(CONNECT_SECONDS)
                found = connection.makefile("rb").read(300).decode(errors="replace")
        except OSError as error:
            raise PreflightError("network", f"it cannot reach {place} ({error})", fix) from None
        if found != other.name:
            raise PreflightError(
                "network", f"another pod ({found[:100]}) answers for {place}", "check the pods' addresses"
            )
    return f"network: reaches all {len(group.members) - 1} other pods"


# --- the collective test


class Asked(NamedTuple):
    """The collective test of a group: ``gpus`` of each pod (0: one process on the CPU), whether RDMA must be used, and
    the least bus bandwidth in GB/s, if any."""

    gpus: int
    rdma: bool
    least_gb_s: float | None


def check_collective(group: Group, asked: Asked) -> str:
    """All GPUs of the group add up a tensor, by the network that NCCL chooses."""
    each = max(1, asked.gpus)
    world = each * len(group.members)
    if world == 1:
        return "all-reduce: one GPU, nothing to test"
    logs = f"{SHARED_MEMORY}/preflight-{secrets.token_hex(4)}"
    place = {"address": group.members[0].address, "port": group.collective_port, "world": world, "gpus": asked.gpus}
    running = [
        _collective({**place, "local": local, "rank": group.own.rank * each + local}, f"{logs}-{local}")
        for local in range(each)
    ]
    try:
        bandwidth = min([_result(process) for process in running])
        said = "".join(Path(log).read_text(encoding="utf-8", errors="replace") for log in glob.glob(f"{logs}-*"))
    finally:
        for process in running:
            process.kill()
            process.wait()
        for log in glob.glob(f"{logs}-*"):
            os.unlink(log)
    over = f"all-reduce over {world} {'GPUs' if asked.gpus else 'processes'}"
    transports = transports_of(said)
    by = f" by {', '.join(transports)}" if transports else ""
    if asked.rdma and len(group.members) > 1 and "NET/Socket" in transports:
        raise PreflightError(
            "rdma",
            "NCCL uses TCP (Socket), and inference.network is rdma",
            "read its log with observability.logs.ncclDebug: INFO; look for NCCL_ variables in inference.engine.env, "
            "and at the pod's label alibabacloud.com/hpn-type",
        )
    if asked.least_gb_s is not None and bandwidth < asked.least_gb_s:
        raise PreflightError(
            "network",
            f"the {over} has {bandwidth:.2f} GB/s{by}, and leastGBps is {asked.least_gb_s:g}",
            "delete the group's pods, so that they get other nodes, or lower the setting to a measured figure",
        )
    return f"{over}: {bandwidth:.2f} GB/s{by}"


def _collective(options: Mapping[str, Any], log: str) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, COLLECTIVE, json.dumps(options)]
    debug = {"NCCL_DEBUG": "INFO", "NCCL_DEBUG_SUBSYS": "INIT,NET", "NCCL_DEBUG_FILE": log}
    return subprocess.Popen(  # noqa: S603
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **debug}
    )


def _result(process: subprocess.Popen[str]) -> float:
    fix = "the lines above it in the log, and docs/preflight.md"
    try:
        output, errors = process.communicate(timeout=COLLECTIVE_SECONDS)
    except subprocess.TimeoutExpired:
        raise PreflightError("network", f"the all-reduce does not end in {COLLECTIVE_SECONDS} s", fix) from None
    if process.returncode:
        print(errors[-4000:], file=sys.stderr, flush=True)
        last = next((line for line in reversed(errors.splitlines()) if line.strip()), "no output")
        raise PreflightError("network", f"the all-reduce fails: {last.strip()[:300]}", fix)
    return float(output.split()[-1])


def transports_of(log: str) -> list[str]:
    """How NCCL connects the GPUs: by a network (``NET/IB``), within a machine by ``P2P`` or ``SHM``. If it names no
    connection, the network that it has found
    (https://github.com/NVIDIA/nccl/blob/v2.27.3-1/src/transport/net.cc, p2p.cc, shm.cc and init.cc)."""
    connections = set(re.findall(r" via (NET/\w+|P2P|SHM)", log))
    return sorted(connections or {f"NET/{name}" for name in re.findall(r"Using network (\S+)", log)})


def collective(options: Mapping[str, Any]) -> None:
    """One process of the all-reduce. Prints the bus bandwidth in GB/s
    (https://github.com/NVIDIA/nccl-tests/blob/master/doc/PERFORMANCE.md)."""
    import torch
    import torch.distributed as dist

    on_gpu = options["gpus"] > 0
    if on_gpu:
        torch.cuda.set_device(options["local"])
    dist.init_process_group(
        "nccl" if on_gpu else "gloo",
        init_method=f"tcp://{options['address']}:{options['port']}",
        rank=options["rank"],
        world_size=options["world"],
    )
    size, world = GPU_BYTES if on_gpu else CPU_BYTES, options["world"]
    device = torch.device("cuda" if on_gpu else "cpu")

    def add_up() -> Any:
        tensor = torch.ones(size // 4, dtype=torch.float32, device=device)
        dist.all_reduce(tensor)
        if on_gpu:
            torch.cuda.synchronize()
        return tensor

    for _ in range(WARM_UPS):
        tensor = add_up()
    begin = time.monotonic()
    for _ in range(REPEATS):
        tensor = add_up()
    seconds = (time.monotonic() - begin) / REPEATS
    if float(tensor[-1]) != world:
        sys.exit(f"the sum of {world} ones is {float(tensor[-1])}")
    print(size / seconds / 1e9 * 2 * (world - 1) / world)
    dist.destroy_process_group()


# --- the command line


def check_pod(options: argparse.Namespace) -> None:
    """What a pod can check alone."""
    if options.nvidia:
        found = read_gpus()
        say(check_gpus(found, count=options.gpus, name=options.gpu_name, memory_gib=options.gpu_memory_gib))
        table = subprocess.run(["nvidia-smi"], capture_output=True, text=True, check=False)  # noqa: S607
        say(check_cuda(cuda_of_image(), cuda_of_driver(table.stdout)))
    say(check_shared_memory(options.shared_memory_gib))
    say(check_weights(options.model_path))


def check_group(options: argparse.Namespace, rank: int, size: int) -> None:
    """What all pods of the group check together. Raises PreflightError, GroupError."""
    name, address = socket.gethostname(), os.environ["VLLM_HOST_IP"]
    asked = Asked(gpus=options.gpus if options.nvidia else 0, rdma=options.rdma, least_gb_s=options.least_gb_s)
    with socket.create_server(("", 0)) as server:
        own = Member(rank, name, address, server.getsockname()[1])
        threading.Thread(target=answer_others, args=(server, name), daemon=True).start()
        leader = os.environ.get("LWS_LEADER_ADDRESS", address)
        group = meet(own, leader=leader, port=options.port, size=size, seconds=options.wait_seconds)
        for check in (check_reach, lambda all_: check_collective(all_, asked)):
            problem = None
            try:
                say(check(group))
            except PreflightError as error:
                problem = error
            group.agree(problem, COLLECTIVE_SECONDS + MESSAGE_SECONDS)


def main(words: Sequence[str]) -> int:
    """Returns the exit code if a check fails; otherwise it becomes the engine."""
    if words[:1] == [COLLECTIVE]:
        collective(json.loads(words[1]))
        return 0
    cut = list(words).index("--")
    options, command = parser().parse_args(words[:cut]), list(words[cut + 1 :])
    # The first process of a container ignores a signal without a handler.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    begin = time.monotonic()
    try:
        check_pod(options)
        size = int(os.environ.get("LWS_GROUP_SIZE", "1"))
        check_group(options, int(os.environ["PREFLIGHT_RANK"]), size)
    except (PreflightError, GroupError) as error:
        text = f"pod {socket.gethostname()}: {error}" if isinstance(error, PreflightError) else str(error)
        with contextlib.suppress(OSError):
            Path(options.termination_log).write_text(f"preflight failed: {text}", encoding="utf-8")
        say(f"failed: {text}")
        time.sleep(options.hold_seconds)
        return FAILED
    say(f"passed in {time.monotonic() - begin:.0f} s")
    os.execvp(command[0], command)  # noqa: S606


def parser() -> argparse.ArgumentParser:
    """The options before ``--``."""
    found = argparse.ArgumentParser(prog="preflight")
    found.add_argument("--model-path", required=True)
    found.add_argument("--gpus", type=int, required=True, help="of this pod")
    found.add_argument("--nvidia", action="store_true", help="the GPUs are NVIDIA's: ask nvidia-smi, use NCCL")
    found.add_argument("--gpu-name", default="")
    found.add_argument("--gpu-memory-gib", type=float, default=0)
    found.add_argument("--shared-memory-gib", type=float, required=True)
    found.add_argument("--port", type=int, required=True, help="at which the engine's ranks meet")
    found.add_argument("--wait-seconds", type=float, required=True, help="for the other pods")
    found.add_argument("--rdma", action="store_true", help="NCCL must use RDMA")
    found.add_argument("--least-gb-s", type=float, help="least bus bandwidth of an all-reduce")
    found.add_argument("--termination-log", default=TERMINATION_LOG)
    found.add_argument("--hold-seconds", type=float, default=HOLD_SECONDS, help="before a pod with a failed check ends")
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
