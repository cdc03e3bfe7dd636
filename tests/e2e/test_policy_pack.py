"""The policy pack in previews of the real engine. No cluster is started."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import struct_pb2
from pulumi.runtime.proto import analyzer_pb2, analyzer_pb2_grpc

from local import tools
from tests.e2e.conftest import PARTS, ROOT, Project

pytestmark = pytest.mark.e2e


@pytest.fixture
def dev(tmp_path: Path) -> Project:
    """A copy of the project with its dev stack."""
    tools.build_all(["pulumi"])
    for part in (*PARTS, "policy"):
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns(".venv"))
        else:
            shutil.copy(ROOT / part, tmp_path / part)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / "policy" / ".venv").symlink_to(ROOT / "policy" / ".venv")
    (tmp_path / "home").mkdir()
    return Project(tmp_path, "dev")


def test_a_clean_stack_passes(dev: Project) -> None:
    output = dev.run("preview", "--policy-pack", "policy")
    assert "✅ deepseek-on-acs@v1.0.0" in output
    assert "[mandatory]" not in output


def test_a_broken_rule_fails_the_preview(dev: Project) -> None:
    dev.change(service={"kind": "internalLoadBalancer"}, inference={"engine": {"image": "vllm/vllm-openai:latest"}})
    output = dev.run("preview", "--policy-pack", "policy", fails=True)
    assert "[mandatory]  require-api-key  (kubernetes:core/v1:Service: inference-service-leaders)" in output
    assert "the engine of deepseek-r1 requires no API key (VLLM_API_KEY is not set)" in output
    group = "kubernetes:leaderworkerset.x-k8s.io/v1:LeaderWorkerSet: inference-group-group"
    assert f"[mandatory]  disallow-mutable-tags  ({group})" in output
    assert "[advisory]  require-load-balancer-tls" in output


def test_levels_and_options_are_the_companys(dev: Project) -> None:
    levels = dev.folder / "levels.json"
    levels.write_text(
        json.dumps(
            {
                "disallow-mutable-tags": {"enforcementLevel": "advisory", "requireDigest": True},
                "require-network-policy": {"productionStacks": ["dev"]},
            }
        )
    )
    output = dev.run("preview", "--policy-pack", "policy", "--policy-pack-config", str(levels), fails=True)
    assert "[advisory]  disallow-mutable-tags" in output
    assert "can change without a new tag" in output
    assert "[mandatory]  require-network-policy" in output


BUCKET = "alicloud:oss/bucket:Bucket"


@pytest.fixture
def pack() -> Iterator[Any]:
    """The pack as the engine starts it, and a client for it."""
    command = [str(ROOT / "policy" / ".venv" / "bin" / "python"), str(ROOT / "policy"), "127.0.0.1:1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={"PYTHONUNBUFFERED": "1"}) as process:
        assert process.stdout is not None
        with grpc.insecure_channel(f"127.0.0.1:{process.stdout.readline().decode().strip()}") as channel:
            yield analyzer_pb2_grpc.AnalyzerStub(channel)
        process.terminate()


def properties(**values: Any) -> struct_pb2.Struct:
    struct = struct_pb2.Struct()
    struct.update(values)
    return struct


def urn(name: str) -> str:
    return f"urn:pulumi:dev::deepseek::{BUCKET}::{name}"


def test_what_is_only_read_is_not_judged(pack: Any) -> None:
    pack.Analyze(analyzer_pb2.AnalyzeRequest(urn=urn("own"), type=BUCKET, name="own", properties=properties()))
    both = [
        analyzer_pb2.AnalyzerResource(urn=urn(name), type=BUCKET, name=name, properties=properties(bucket=name))
        for name in ("own", "found")
    ]
    answer = pack.AnalyzeStack(analyzer_pb2.AnalyzeStackRequest(resources=both))
    assert {diagnostic.urn for diagnostic in answer.diagnostics} == {urn("own")}


def test_what_is_not_known_does_not_hide_the_rest(pack: Any) -> None:
    unknown = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
    service = properties(
        kind="Service", metadata={"name": unknown}, spec={"type": "NodePort", "externalIPs": [unknown]}
    )
    answer = pack.Analyze(
        analyzer_pb2.AnalyzeRequest(urn=urn("it"), type="kubernetes:core/v1:Service", name="it", properties=service)
    )
    said = [diagnostic.message for diagnostic in answer.diagnostics]
    assert any("spec.type: NodePort opens the Service" in message for message in said)
    assert not any("can't be known" in message for message in said)
