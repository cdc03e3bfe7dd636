"""The checks before the engine starts: each one kept and broken, and groups of real processes on this machine."""

import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepseek_acs.preflight import program
from deepseek_acs.preflight.program import (
    FAILED,
    Gpu,
    Group,
    GroupError,
    Member,
    PreflightError,
    answer_others,
    check_cuda,
    check_gpus,
    check_reach,
    check_shared_memory,
    check_weights,
    cuda_of_driver,
    meet,
    transports_of,
)
from local.ports import held_port

PROGRAM = Path(program.__file__)
H20 = Gpu(name="NVIDIA H20", memory_gib=95.58, driver="550.90.07")
TABLE = "| NVIDIA-SMI 550.90.07      Driver Version: 550.90.07      CUDA Version: 12.4     |"
NCCL = """pod:1:7 [0] NCCL INFO NET/IB : Using [0]mlx5_0:1/RoCE [RO]; OOB eth0:10.0.0.1<0>
pod:1:7 [0] NCCL INFO Using network IB
"""


def safetensors(path: Path, *, values: int = 100, cut: int = 0) -> None:
    header = json.dumps({"__metadata__": {"format": "pt"}, "w": {"data_offsets": [0, 4 * values]}}).encode()
    whole = struct.pack("<Q", len(header)) + header + bytes(4 * values)
    path.write_bytes(whole[: len(whole) - cut])


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Two files and their index."""
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    for name in names:
        safetensors(tmp_path / name)
    index = {"weight_map": {"a": names[0], "b": names[0], "c": names[1]}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    return tmp_path


class TestHardware:
    def test_as_planned(self) -> None:
        said = check_gpus([H20] * 8, count=8, name="H20", memory_gib=95.0)
        assert said == "8 × NVIDIA H20, 95.6 GiB, driver 550.90.07"

    def test_a_missing_gpu(self) -> None:
        with pytest.raises(PreflightError, match="gpu: 7 of 8 GPUs are visible; fix: look for NVIDIA_VISIBLE_DEVICES"):
            check_gpus([H20] * 7, count=8, name="H20", memory_gib=95.0)

    def test_less_memory(self) -> None:
        small = H20._replace(name="NVIDIA L20", memory_gib=44.5)
        with pytest.raises(PreflightError, match=r"GPU 1 \(NVIDIA L20\) has 44.5 GiB, and the plan counts on 95.0"):
            check_gpus([H20, small], count=2, name="H20", memory_gib=95.0)

    def test_another_name_is_said_and_does_not_fail(self) -> None:
        """What counts is the memory; names differ between drivers."""
        assert ", planned as H20-3e, driver" in check_gpus([H20], count=1, name="H20-3e", memory_gib=95.0)

    def test_what_nvidia_smi_prints(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        tool = tmp_path / "nvidia-smi"
        tool.write_text("#!/bin/sh\necho 'NVIDIA H20, 97871, 550.90.07'\necho 'NVIDIA H20, 97871, 550.90.07'\n")
        tool.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
        found = program.read_gpus()
        assert [gpu._replace(memory_gib=round(gpu.memory_gib, 2)) for gpu in found] == [H20, H20]
        tool.write_text("#!/bin/sh\necho 'Failed to initialize NVML: Driver/library version mismatch'\nexit 18\n")
        with pytest.raises(PreflightError, match="nvidia-smi fails: Failed to initialize NVML"):
            program.read_gpus()
        tool.unlink()
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(PreflightError, match="nvidia-smi does not answer"):
            program.read_gpus()

    @pytest.mark.parametrize(("built_for", "supported"), [("12.8", "12.4"), ("11.8", "12.4"), (None, "12.4")])
    def test_driver(self, built_for: str | None, supported: str) -> None:
        assert "CUDA" in check_cuda(built_for, supported)

    def test_an_old_driver(self) -> None:
        with pytest.raises(PreflightError, match=r"for CUDA 13\.0, and the driver supports up to 12\.4; fix: set"):
            check_cuda("13.0", cuda_of_driver(TABLE))

    def test_cuda_of_the_image(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "torch").mkdir()
        (tmp_path / "torch" / "version.py").write_text(
            "__version__ = '2.13.0'\ncuda: Optional[str] = '13.0'\nhip = None\n"
        )
        monkeypatch.setattr(sys, "path", ["/nowhere", str(tmp_path)])
        assert program.cuda_of_image() == "13.0"
        monkeypatch.setattr(sys, "path", ["/nowhere"])
        assert program.cuda_of_image() is None

    def test_shared_memory(self, tmp_path: Path) -> None:
        assert check_shared_memory(0.001, str(tmp_path)).startswith(f"{tmp_path}: ")
        with pytest.raises(PreflightError, match=r"and 1e\+09 are planned"):
            check_shared_memory(1e9, str(tmp_path))


class TestWeights:
    def test_whole(self, weights: Path) -> None:
        assert check_weights(str(weights)) == "weights: 2 files, 0.0 GiB"

    def test_a_missing_file(self, weights: Path) -> None:
        (weights / "model-00002-of-00002.safetensors").unlink()
        with pytest.raises(PreflightError, match=r"model-00002-of-00002\.safetensors cannot be read"):
            check_weights(str(weights))

    def test_a_short_file(self, weights: Path) -> None:
        safetensors(weights / "model-00001-of-00002.safetensors", cut=1)
        with pytest.raises(PreflightError, match=r"bytes instead of .* fix: change a setting of weights\.upload"):
            check_weights(str(weights))

    @pytest.mark.parametrize("content", [b"", b"\x01", b"\xff" * 8, struct.pack("<Q", 4) + b"nope"])
    def test_something_else(self, weights: Path, content: bytes) -> None:
        (weights / "model-00001-of-00002.safetensors").write_bytes(content)
        with pytest.raises(PreflightError, match=r"storage: .* cannot be read"):
            check_weights(str(weights))

    @pytest.mark.parametrize("content", ["{", "{}"])
    def test_a_damaged_index(self, weights: Path, content: str) -> None:
        (weights / "model.safetensors.index.json").write_text(content)
        with pytest.raises(PreflightError, match=r"index\.json cannot be read"):
            check_weights(str(weights))

    def test_without_an_index(self, weights: Path, tmp_path: Path) -> None:
        (weights / "model.safetensors.index.json").unlink()
        assert "2 files" in check_weights(str(weights))
        (tmp_path / "empty").mkdir()
        assert check_weights(str(tmp_path / "empty")) == "weights: no safetensors files, not checked"

    @given(cut=st.integers(1, 500))
    def test_any_cut_is_found(self, cut: int, tmp_path_factory: pytest.TempPathFactory) -> None:
        folder = tmp_path_factory.mktemp("cut")
        safetensors(folder / "model.safetensors", cut=cut)
        with pytest.raises(PreflightError):
            check_weights(str(folder))


def test_transports_of_nccl() -> None:
    assert transports_of(NCCL * 2) == ["NET/IB"]
    assert transports_of("") == []


def test_connections_of_nccl_and_not_the_network_that_it_could_use() -> None:
    """In one machine no network is used, whichever it has found."""
    start = "pod:1:7 [0] NCCL INFO "
    found = NCCL.replace("IB", "Socket")
    within = start + "Channel 00/0 : 0[0] -> 1[1] via P2P/CUMEM\n"
    assert transports_of(found + within) == ["P2P"]
    assert transports_of(found + start + "Channel 00 : 0[0] -> 1[1] via SHM/direct/direct\n") == ["SHM"]
    between = start + "Channel 01/0 : 7[7] -> 8[0] [send] via NET/IB/0/GDRDMA\n"
    assert transports_of(NCCL + within + between) == ["NET/IB", "P2P"]


class Pods:
    """Pods as threads of this process, at loopback addresses of their own."""

    def __init__(self, size: int, port: int) -> None:
        self.size, self.port = size, port
        self.servers = [socket.create_server((f"127.0.0.{rank + 1}", 0)) for rank in range(size)]
        self.names = [f"r1-0-{rank}" for rank in range(size)]
        self.outcomes: dict[int, object] = {}
        for server, name in zip(self.servers, self.names, strict=True):
            threading.Thread(target=answer_others, args=(server, name), daemon=True).start()

    def member(self, rank: int) -> Member:
        address, port = self.servers[rank].getsockname()
        return Member(rank, self.names[rank], address, port)

    def run(self, problems: Mapping[int, PreflightError] | None = None, *, ranks: range | None = None) -> None:
        """All pods meet, reach each other and agree."""
        threads = [
            threading.Thread(target=self._pod, args=(rank, (problems or {}).get(rank)))
            for rank in ranks or range(self.size)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)

    def _pod(self, rank: int, problem: PreflightError | None) -> None:
        try:
            group = meet(self.member(rank), leader="127.0.0.1", port=self.port, size=self.size, seconds=20)
            self.outcomes[rank] = self._checked(group, problem)
        except (PreflightError, GroupError) as error:
            self.outcomes[rank] = str(error)

    def _checked(self, group: Group, problem: PreflightError | None) -> str:
        try:
            said = check_reach(group)
        except PreflightError as error:
            problem = error
        group.agree(problem, 20)
        return said

    def close(self) -> None:
        for server in self.servers:
            server.close()


@pytest.fixture
def pods() -> Iterator[Pods]:
    with held_port() as port:
        found = Pods(3, port)
        yield found
        found.close()


@pytest.mark.integration
class TestGroup:
    def test_all_reach_each_other(self, pods: Pods) -> None:
        pods.run()
        assert pods.outcomes == dict.fromkeys(range(3), "network: reaches all 2 other pods")

    def test_every_pod_names_the_one_that_failed(self, pods: Pods) -> None:
        pods.run({2: PreflightError("gpu", "broken", "fix it")})
        assert pods.outcomes == dict.fromkeys(range(3), "pod r1-0-2: gpu: broken; fix: fix it")

    def test_a_pod_that_cannot_be_reached(self, pods: Pods, monkeypatch: pytest.MonkeyPatch) -> None:
        member = pods.member
        with held_port() as port:
            closed = pods.member(1)._replace(port=port)
            monkeypatch.setattr(pods, "member", lambda rank: closed if rank == 1 else member(rank))
            pods.run()
        (said,) = set(pods.outcomes.values())
        assert isinstance(said, str)
        assert said.startswith(f"pod r1-0-0: network: it cannot reach r1-0-1 at 127.0.0.2:{closed.port} (")
        assert said.endswith(
            "fix: let the pods of the group reach each other on all ports: NetworkPolicies and security groups"
        )

    def test_a_port_that_is_taken(self, pods: Pods) -> None:
        with socket.create_server(("", pods.port)):
            pods.run(ranks=range(1))
        assert pods.outcomes == {
            0: f"network: the leader cannot listen at port {pods.port}, at which the engine's ranks meet: Address "
            "already in use; fix: look in the pod for another program at this port, a sidecar for instance"
        }

    def test_another_pod_at_an_address(self, pods: Pods, monkeypatch: pytest.MonkeyPatch) -> None:
        other = pods.member(1)._replace(name="r1-0-9")
        member = pods.member
        monkeypatch.setattr(pods, "member", lambda rank: other if rank == 1 else member(rank))
        pods.run()
        assert "another pod (r1-0-1) answers for r1-0-9" in str(pods.outcomes[0])

    def test_a_connection_of_a_stranger_is_ignored(self, pods: Pods) -> None:
        def knock() -> None:
            for _ in range(50):
                try:
                    with socket.create_connection(("127.0.0.1", pods.port), 1) as connection:
                        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
                        return
                except OSError:
                    time.sleep(0.05)

        thread = threading.Thread(target=knock)
        thread.start()
        pods.run()
        thread.join()
        assert pods.outcomes == dict.fromkeys(range(3), "network: reaches all 2 other pods")

    def test_a_pod_that_never_comes(self, pods: Pods) -> None:
        with pytest.raises(PreflightError, match=r"pods: pods with index \[1, 2\] did not come"):
            meet(pods.member(0), leader="127.0.0.1", port=pods.port, size=3, seconds=0.2)

    def test_a_leader_that_never_comes(self, pods: Pods, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(program, "RETRY_SECONDS", 0.01)
        with pytest.raises(PreflightError, match=f"network: the leader cannot be reached at 127.0.0.1:{pods.port}"):
            meet(pods.member(1), leader="127.0.0.1", port=pods.port, size=3, seconds=0.1)

    def test_a_wrong_clock(self) -> None:
        program._check_clock(Member(1, "r1-0-1", "10.0.0.2", 1), 29)
        with pytest.raises(PreflightError, match=r"clock: that of pod r1-0-1 is -31 s off the leader's"):
            program._check_clock(Member(1, "r1-0-1", "10.0.0.2", 1), -31)


TORCH = """
float32 = "float32"


def device(name):
    return name


def ones(count, dtype, device):
    return [1.0, 1.0]
"""
DISTRIBUTED = """
import os

world = 0


def init_process_group(backend, init_method, rank, world_size):
    global world
    world = world_size
    if os.environ.get("FAIL") == str(rank):
        raise RuntimeError("NCCL error: unhandled system error")
    with open(os.environ["NCCL_DEBUG_FILE"], "w") as log:
        log.write(f"NCCL INFO Using network {os.environ.get('NETWORK', 'Socket')}\\n")


def all_reduce(tensor):
    tensor[:] = [world * one for one in tensor]


def destroy_process_group():
    pass
"""


@pytest.mark.integration
class TestProcesses:
    """Two pods as processes, with a PyTorch that only counts."""

    @pytest.fixture
    def start(self, weights: Path, tmp_path: Path) -> Iterator[Any]:
        fake = tmp_path / "site" / "torch"
        fake.mkdir(parents=True)
        (fake / "__init__.py").write_text(TORCH)
        (fake / "distributed.py").write_text(DISTRIBUTED)

        def started(rank: int, *options: str, size: int = 2, **environment: str) -> subprocess.Popen[str]:
            own = {"PREFLIGHT_RANK": str(rank), "LWS_GROUP_SIZE": str(size), "VLLM_HOST_IP": "127.0.0.1"}
            command = [
                sys.executable,
                str(PROGRAM),
                f"--model-path={weights}",
                "--gpus=1",
                "--shared-memory-gib=0.001",
                f"--port={port}",
                "--wait-seconds=60",
                f"--termination-log={tmp_path}/termination-{rank}",
                "--hold-seconds=0",
                *options,
                "--",
                sys.executable,
                "-c",
                "import sys; print('engine', sys.argv[1:])",
                f"--rank={rank}",
            ]
            return subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env={
                    **os.environ,
                    "PYTHONPATH": str(fake.parent),
                    "LWS_LEADER_ADDRESS": "127.0.0.1",
                    **own,
                    **environment,
                },
            )

        with held_port() as port:
            yield started

    def both(self, start: Any, *options: str, **environment: str) -> list[tuple[int, str]]:
        running = [start(rank, *options, **environment) for rank in (0, 1)]
        outputs = [process.communicate(timeout=60)[0] for process in running]
        return [(process.returncode, output) for process, output in zip(running, outputs, strict=True)]

    def test_the_engine_takes_its_place(self, start: Any) -> None:
        for rank, (code, output) in enumerate(self.both(start)):
            assert code == 0, output
            assert "all-reduce over 2 processes: " in output
            assert output.endswith(f"engine ['--rank={rank}']\n")

    def test_a_group_of_one_pod(self, start: Any) -> None:
        output, _ = start(0, size=1).communicate(timeout=60)
        assert "all-reduce: one GPU, nothing to test" in output
        assert "engine" in output

    def test_rdma_that_falls_back_to_tcp(self, start: Any, tmp_path: Path) -> None:
        for rank, (code, output) in enumerate(self.both(start, "--rdma")):
            assert code == FAILED
            assert "engine [" not in output
            said = (tmp_path / f"termination-{rank}").read_text()
            assert said.startswith("preflight failed: pod ")
            assert "rdma: NCCL uses TCP (Socket), and inference.network is rdma; fix: " in said

    def test_rdma_that_is_used(self, start: Any) -> None:
        for code, output in self.both(start, "--rdma", NETWORK="IB"):
            assert code == 0
            assert " GB/s by NET/IB\n" in output

    def test_a_slow_network(self, start: Any) -> None:
        for code, output in self.both(start, "--least-gb-s=1e9"):
            assert code == FAILED
            assert "network: the all-reduce over 2 processes has " in output, "there are no GPUs"
            assert "leastGBps is 1e+09; fix: delete the group's pods" in output

    def test_a_pod_stays_after_a_failed_check(self, start: Any, weights: Path, tmp_path: Path) -> None:
        """So that its log can be read; it ends at once if it is asked to."""
        safetensors(weights / "model-00001-of-00002.safetensors", cut=4)
        process = start(1, "--hold-seconds=600")
        while "failed: pod " not in (line := process.stdout.readline()):
            assert line
        process.terminate()
        process.communicate(timeout=30)
        assert process.returncode == 143
        assert "storage: " in (tmp_path / "termination-1").read_text()

    def test_an_all_reduce_that_fails_in_one_pod(self, start: Any) -> None:
        for code, output in self.both(start, FAIL="1"):
            assert code == FAILED
            assert "the all-reduce fails: RuntimeError: NCCL error: unhandled system error" in output

    def test_a_pod_that_fails_alone_does_not_wait_for_the_others(
        self, start: Any, weights: Path, tmp_path: Path
    ) -> None:
        safetensors(weights / "model-00001-of-00002.safetensors", cut=4)
        process = start(1)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == FAILED
        assert "storage: " in output
        assert "bytes instead of" in (tmp_path / "termination-1").read_text()

    def test_it_ends_when_it_is_told_to(self, start: Any) -> None:
        process = start(1)
        assert process.stdout.readline().startswith("preflight: ")
        process.terminate()
        process.communicate(timeout=30)
        assert process.returncode == 143
