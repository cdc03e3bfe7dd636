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
from local.policy_pack import pack_options
from tests.e2e.conftest import PARTS, ROOT, Project, install_policy_pack

pytestmark = pytest.mark.e2e


@pytest.fixture
def dev(tmp_path: Path) -> Project:
    """A copy of the project with its dev stack."""
    return with_policy_pack(Project(tmp_path, "dev"))


@pytest.fixture
def local(tmp_path: Path) -> Project:
    """The same with the local stack."""
    return with_policy_pack(Project(tmp_path, "local"))


def with_policy_pack(project: Project) -> Project:
    tools.build_all(["pulumi"])
    for part in PARTS:
        copy: Any = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, project.folder / part)
    install_policy_pack(project.folder)
    (project.folder / ".venv").symlink_to(sys.prefix)
    (project.folder / "home").mkdir()
    return project


def preview(project: Project, policy: str = "on", *, fails: bool = False) -> str:
    """As ``make preview POLICY=...`` calls it."""
    return project.run("preview", policy=policy, fails=fails)


def test_a_clean_stack_passes(dev: Project) -> None:
    output = preview(dev)
    assert "✅ deepseek-on-acs@v1.0.0" in output
    assert "[mandatory]" not in output


WEAK: dict[str, Any] = {
    "weights": {"bucket": {"kind": "create", "retain": False}},
    "inference": {"engine": {"image": "vllm/vllm-openai:latest", "backend": "mp"}},
}
GROUP = "kubernetes:leaderworkerset.x-k8s.io/v1:LeaderWorkerSet: inference-group-group"


def test_a_broken_rule_fails_the_preview(dev: Project) -> None:
    dev.change(**WEAK, security=None)
    output = preview(dev, fails=True)
    assert f"[mandatory]  disallow-mutable-tags  ({GROUP})" in output
    assert "the tag of vllm/vllm-openai:latest contains no version: it is what was pushed last" in output
    assert "[mandatory]  require-bucket-protection  (alicloud:oss:Bucket: models-bucket)" in output
    assert f"[mandatory]  require-network-policy  ({GROUP})" in output


def test_off_nothing_is_checked(dev: Project) -> None:
    dev.change(**WEAK)
    assert "Policies:" not in preview(dev, "off")


def test_levels_and_options_are_the_companys(dev: Project) -> None:
    levels = dev.folder / "levels.json"
    levels.write_text(
        json.dumps(
            {
                "disallow-mutable-tags": {"enforcementLevel": "advisory", "requireDigest": True},
                "restrict-image-registries": {"allowedRegistries": ["registry.example.com"]},
            }
        )
    )
    output = preview(dev, str(levels), fails=True)
    assert "[advisory]  disallow-mutable-tags" in output
    assert "another image can be pushed with the tag of" in output
    assert f"[mandatory]  restrict-image-registries  ({GROUP})" in output


def test_a_local_stack_is_advised(local: Project) -> None:
    # By plain pulumi, without the embedded cluster: a preview needs nothing of it.
    local.change(**WEAK)
    local.pulumi("stack", "select", "--create", "local")
    output = local.pulumi("preview", "--stack", "local", *pack_options(local.folder, "on", on_loopback=True), given="")
    assert f"[advisory]  disallow-mutable-tags  ({GROUP})" in output
    assert "[mandatory]" not in output
    assert "require-network-policy" not in output


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


def test_what_is_only_read_is_checked_at_the_end(pack: Any) -> None:
    """By the rules about single resources, too, which the engine does not ask about it."""
    pack.Analyze(analyzer_pb2.AnalyzeRequest(urn=urn("own"), type=BUCKET, name="own", properties=properties()))
    grant = json.dumps({"Statement": [{"Effect": "Allow", "Principal": ["*"], "Action": ["oss:GetObject"]}]})
    both = [
        analyzer_pb2.AnalyzerResource(
            urn=urn(name), type=BUCKET, name=name, properties=properties(bucket=name, acl="public-read", policy=grant)
        )
        for name in ("own", "found")
    ]
    answer = pack.AnalyzeStack(analyzer_pb2.AnalyzeStackRequest(resources=both))
    said = {(diagnostic.policyName, diagnostic.urn) for diagnostic in answer.diagnostics}
    assert ("disallow-public-buckets", urn("own")) in said
    assert ("disallow-public-buckets", urn("found")) in said
    assert [urn for name, urn in said if name == "restrict-bucket-policies"] == [urn("found")]
    # Destroying the stack does not touch it, and whether public access is blocked is not known.
    assert "require-bucket-protection" not in {name for name, _ in said}
    assert not [one for one in answer.diagnostics if one.urn == urn("found") and "not blocked" in one.message]


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
