"""Checks in the group's own pods before they read the weights: one pure function over their templates, and a ConfigMap.

The program is ``preflight``. It runs as the container's command, and then replaces itself with the engine's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from .labels import WORKER_INDEX_LABEL
from .names import name_of

PROGRAM = "preflight.py"
MOUNT_PATH = "/opt/preflight"
LABELS = {"app.kubernetes.io/name": "preflight", "app.kubernetes.io/component": "inference"}

RANK_VARIABLE = "PREFLIGHT_RANK"


@dataclass(frozen=True, kw_only=True)
class PreflightArgs:
    """What the plan counts on, for one pod: ``gpus`` of ``gpu_name`` with ``gpu_memory_gib`` each, and
    ``shared_memory_gib``; with ``nvidia``, nvidia-smi and NCCL are asked. The pods meet at ``port`` of the leader, and
    wait ``wait_seconds`` for each other. With ``rdma``, NCCL must use it; ``least_gb_s`` is the least bus bandwidth of
    an all-reduce, in GB/s."""

    gpus: int
    nvidia: bool
    gpu_name: str
    gpu_memory_gib: float
    shared_memory_gib: float
    port: int
    wait_seconds: int
    rdma: bool
    least_gb_s: float | None = None


def with_preflight(template: Mapping[str, Any], args: PreflightArgs, *, group: str, model_path: str) -> dict[str, Any]:
    """The pod template of the LeaderWorkerSet ``group`` with the checks before the engine."""
    spec = template["spec"]
    (engine,) = spec["containers"]
    rank = {"fieldRef": {"fieldPath": f"metadata.labels['{WORKER_INDEX_LABEL}']"}}
    container = {
        **engine,
        "command": ["python3", f"{MOUNT_PATH}/{PROGRAM}", *_options(args, model_path), "--", *engine["command"]],
        "env": [*engine["env"], {"name": RANK_VARIABLE, "valueFrom": rank}],
        "volumeMounts": [
            *engine["volumeMounts"],
            {"name": "preflight", "mountPath": MOUNT_PATH, "readOnly": True},
        ],
    }
    volumes = [*spec["volumes"], {"name": "preflight", "configMap": {"name": preflight_name(group)}}]
    return {**template, "spec": {**spec, "volumes": volumes, "containers": [container]}}


def _options(args: PreflightArgs, model_path: str) -> list[str]:
    return [
        f"--model-path={model_path}",
        f"--gpus={args.gpus}",
        *(["--nvidia"] if args.nvidia else []),
        *([f"--gpu-name={args.gpu_name}"] if args.gpu_name else []),
        f"--gpu-memory-gib={args.gpu_memory_gib:g}",
        f"--shared-memory-gib={args.shared_memory_gib:g}",
        f"--port={args.port}",
        f"--wait-seconds={args.wait_seconds}",
        *(["--rdma"] if args.rdma else []),
        *([f"--least-gb-s={args.least_gb_s:g}"] if args.least_gb_s is not None else []),
    ]


def preflight_config_map(
    name: str, *, group: str, namespace: pulumi.Input[str], opts: pulumi.ResourceOptions
) -> k8s.core.v1.ConfigMap:
    """The program, named by its content, so that the pods never see it change."""
    return k8s.core.v1.ConfigMap(
        name,
        metadata={"name": preflight_name(group), "namespace": namespace, "labels": LABELS},
        data={PROGRAM: _source()},
        immutable=True,
        opts=opts,
    )


def preflight_name(group: str) -> str:
    """Name of the ConfigMap for the LeaderWorkerSet ``group``."""
    return name_of("preflight", group, _source())


@cache
def _source() -> str:
    return files("deepseek_acs.preflight").joinpath("program.py").read_text(encoding="utf-8")
