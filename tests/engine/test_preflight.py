"""The checks before the engine, with the engine's own Python and PyTorch: two pods add up by Gloo."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deepseek_acs.preflight import program
from local.hubs.small_model import make_small_model
from local.ports import held_port


@pytest.fixture
def port() -> Iterator[int]:
    with held_port() as found:
        yield found


def test_two_pods_add_up(installed: Path, tmp_path: Path, port: int) -> None:
    model = make_small_model(tmp_path / "model")
    running = [
        subprocess.Popen(
            [
                str(installed / "bin" / "python"),
                program.__file__,
                f"--model-path={model}",
                "--gpus=1",
                "--shared-memory-gib=0.001",
                f"--port={port}",
                "--wait-seconds=120",
                f"--termination-log={tmp_path}/termination-{rank}",
                "--hold-seconds=0",
                "--",
                "echo",
                f"engine {rank}",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={
                "PATH": "/usr/bin:/bin",
                "PREFLIGHT_RANK": str(rank),
                "LWS_GROUP_SIZE": "2",
                "LWS_LEADER_ADDRESS": "127.0.0.1",
                "VLLM_HOST_IP": "127.0.0.1",
            },
        )
        for rank in (0, 1)
    ]
    for rank, process in enumerate(running):
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
        assert "network: reaches all 1 other pods" in output
        assert "all-reduce over 2 processes: " in output
        assert output.endswith(f"engine {rank}\n")
