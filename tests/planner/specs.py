"""Specifications for tests: the guide's deployment, with changes by short names."""

import dataclasses
from pathlib import Path
from typing import Any

from deepseek_acs.planner.check import check
from deepseek_acs.planner.findings import Finding, PlanError, spelled
from deepseek_acs.planner.resolve import resolve
from deepseek_acs.planner.rules.acs import CUDA_COMPATIBILITY
from deepseek_acs.planner.rules.advisories import TABLE
from deepseek_acs.planner.spec import ResolvedSpec
from deepseek_acs.settings.paths import STACK_PATHS
from deepseek_acs.settings.stack import StackSettings

PATHS = {
    "region": "cloud.region",
    "model": "model.name",
    "weights_gib": "model.weightsGiB",
    "config_file": "model.configFile",
    "identity": "weights.identity",
    "upload": "weights.upload",
    "source": "weights.source",
    "manifest_sha256": "weights.manifestSha256",
    "trust_remote_code": "inference.engine.trustRemoteCode",
    "storage": "storage",
    "throughput_mib_s": "storage.throughputMiBps",
    "name": "inference.name",
    "replicas": "inference.replicas",
    "scaling": "inference.scaling",
    "series": "inference.gpu.series",
    "gpus_per_pod": "inference.gpu.perPod",
    "gpu_memory_gib": "inference.gpu.gpuMemoryGiB",
    "available_gpus": "inference.gpu.available",
    "compute_class": "inference.gpu.computeClass",
    "driver_version": "inference.gpu.driverVersion",
    "resource": "inference.gpu.resource",
    "cpu": "inference.resources.cpu",
    "memory": "inference.resources.memory",
    "shared_memory": "inference.resources.sharedMemory",
    "extra_ephemeral": "inference.resources.extraEphemeralStorage",
    "tensor": "inference.parallelism.tensor",
    "pipeline": "inference.parallelism.pipeline",
    "qos": "inference.qos",
    "network": "inference.network",
    "zone": "inference.zone",
    "image": "inference.engine.image",
    "version": "inference.engine.version",
    "reasoning_parser": "inference.engine.reasoningParser",
    "tool_calling": "inference.engine.toolCalling",
    "prefix_caching": "inference.engine.prefixCaching",
    "chunked_prefill": "inference.engine.chunkedPrefill",
    "kv_offload_gib": "inference.engine.kvOffloadGiB",
    "speculative_tokens": "inference.engine.speculativeTokens",
    "backend": "inference.engine.backend",
    "port": "inference.engine.port",
    "max_model_len": "inference.engine.maxModelLen",
    "startup_seconds": "inference.engine.startupSeconds",
    "gpu_memory_utilization": "inference.engine.gpuMemoryUtilization",
    "kv_cache_gib": "inference.engine.kvCacheGiB",
    "enforce_eager": "inference.engine.enforceEager",
    "compile_cache": "inference.engine.compileCache",
    "env": "inference.engine.env",
    "ray_token": "inference.engine.rayToken",
    "endpoint": "cloud.endpoint",
    "secret_env": "inference.engine.secretEnv",
    "allow_pickle": "weights.allowPickle",
    "extra_args": "inference.engine.extraArgs",
    "max_unavailable": "inference.rollout.maxUnavailable",
    "max_surge": "inference.rollout.maxSurge",
    "partition": "inference.rollout.partition",
    "lifecycle": "inference.lifecycle",
    "request_seconds": "inference.lifecycle.requestSeconds",
    "grace_seconds": "inference.lifecycle.graceSeconds",
    "evictable_groups": "inference.lifecycle.disruptionBudget.maxUnavailable",
    "preflight": "inference.preflight",
    "gang": "inference.gang",
    "guard": "inference.guard",
    "service": "service",
    "security": "security",
    "operators": "operators",
    "prices": "prices",
    "create_namespace": "cluster.createNamespace",
    "observability": "observability",
    "verification": "verification",
    "update": "update",
}

DIGEST = "0af1" * 16

GUIDE: dict[str, Any] = {
    "series": "GU8TF",
    "gpus_per_pod": 8,
    "tensor": 8,
    "pipeline": 2,
    "max_model_len": 2048,
    "create_namespace": True,
    "source": {"kind": "bucket"},
    "manifest_sha256": DIGEST,
    "security": {"securityGroups": ["sg-1"]},
}
"""The guide's deployment, which a security group walls and a digest pins, as far as it differs from the defaults."""


def settings(model: str = "deepseek-ai/DeepSeek-R1", **values: Any) -> dict[str, Any]:
    """Settings of a stack file; None leaves one out."""
    found: dict[str, Any] = {"cloud": {"region": "cn-hangzhou"}, "weights": {"prefix": "models"}}
    for name, value in {"model": model, **values}.items():
        *sections, last = PATHS[name].split(".")
        section = found
        for part in sections:
            section = section.setdefault(part, {})
        if value is not None:
            section[last] = value
    if found.get("storage", {"kind": "csi"}).keys() == {"throughputMiBps"}:
        found["storage"]["kind"] = "csi"
    return found


def spec(**values: Any) -> ResolvedSpec:
    """The specification with these values and else the defaults."""
    return resolve(StackSettings.model_validate(settings(**values)), folder=Path.cwd())


def guide(**changes: Any) -> ResolvedSpec:
    """The guide's deployment with changes; None leaves a value out. ``starts`` are measured ones."""
    starts = changes.pop("starts", None)
    return dataclasses.replace(spec(**{**GUIDE, **changes}), starts=starts)


def stack_findings(found: ResolvedSpec) -> list[Finding]:
    """What there is to say, with the paths of a stack file."""
    return [spelled(finding, STACK_PATHS) for finding in check(found)]


def errors(found: ResolvedSpec) -> list[Finding]:
    """What stops it."""
    return [finding for finding in stack_findings(found) if finding.severity == "error"]


def warnings(found: ResolvedSpec) -> list[str]:
    """What does not, but for the vulnerabilities of its versions (tests/planner/test_advisories.py), and a driver
    that is older than CUDA 13 (test_engine_versions.py)."""
    said = [finding for finding in stack_findings(found) if finding.severity == "warning"]
    return [str(finding) for finding in said if finding.source not in (TABLE, CUDA_COMPATIBILITY)]


def working(found: ResolvedSpec) -> ResolvedSpec:
    """The same, if nothing stops it; raises PlanError otherwise."""
    if stopping := errors(found):
        raise PlanError(stopping)
    return found
