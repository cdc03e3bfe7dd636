"""The checks before the engine: how they get into the pods, and that nothing else changes."""

from typing import Any

import pytest

from deepseek_acs.planner.vllm import RENDEZVOUS_PORTS
from deepseek_acs.preflight.program import parser
from tests.unit.conftest import Run, resolved, warnings
from tests.unit.test_policy import resources, violations

ON: dict[str, Any] = {"inference": {"preflight": {}}}
MP = {"backend": "mp", "image": "vllm/vllm-openai:v0.33.0"}


def templates(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    found = manifest["spec"]["leaderWorkerTemplate"]
    return [found["leaderTemplate"], found["workerTemplate"]]


def engine(template: dict[str, Any]) -> dict[str, Any]:
    (container,) = template["spec"]["containers"]
    return dict(container)


def test_off_by_default(up: Run) -> None:
    recorder = up()
    assert "preflight" not in str(recorder.manifest("LeaderWorkerSet"))


@pytest.mark.parametrize("more", [{}, {"engine": MP}, {"lifecycle": {"healthCheck": {}}}])
def test_the_engine_has_the_same_command_after_it(more: dict[str, Any], up: Run) -> None:
    before = templates(up({"inference": more}).manifest("LeaderWorkerSet"))
    after = templates(up({"inference": {**more, **ON["inference"]}}).manifest("LeaderWorkerSet"))
    for old, new in zip(before, after, strict=True):
        command, words = engine(new)["command"], engine(old)["command"]
        cut = command.index("--")
        assert command[cut + 1 :] == words
        assert command[:2] == ["python3", "/opt/preflight/preflight.py"]
        assert parser().parse_args(command[2:cut]).gpus == 8
        kept = {key: value for key, value in engine(new).items() if key not in ("command", "env", "volumeMounts")}
        assert kept.items() <= engine(old).items()
        assert engine(new)["env"][: len(engine(old)["env"])] == engine(old)["env"]
        assert new["metadata"] == old["metadata"]


def test_what_it_is_told(up: Run) -> None:
    recorder = up(ON)
    for template in templates(recorder.manifest("LeaderWorkerSet")):
        container = engine(template)
        options = container["command"][2 : container["command"].index("--")]
        assert options == [
            "--model-path=/models/DeepSeek-R1",
            "--gpus=8",
            "--nvidia",
            "--gpu-name=H20",
            "--gpu-memory-gib=95",
            "--shared-memory-gib=32",
            "--port=6379",
            "--wait-seconds=1800",
        ]
        (rank,) = [one for one in container["env"] if one["name"] == "PREFLIGHT_RANK"]
        path = "metadata.labels['leaderworkerset.sigs.k8s.io/worker-index']"
        assert rank["valueFrom"]["fieldRef"]["fieldPath"] == path
        (name,) = [volume["configMap"]["name"] for volume in template["spec"]["volumes"] if "configMap" in volume]
        (program,) = [manifest for manifest in recorder.manifests() if manifest["metadata"].get("name") == name]
        assert program["immutable"] is True
        compile(program["data"]["preflight.py"], "preflight.py", "exec")


def test_rdma_and_bandwidth(up: Run) -> None:
    given = {"preflight": {"leastGBps": 20}, "network": "rdma", "engine": MP}
    (leader, _) = templates(up({"inference": given}).manifest("LeaderWorkerSet"))
    command = engine(leader)["command"]
    assert command[command.index("--") - 2 : command.index("--")] == ["--rdma", "--least-gb-s=20"]
    assert f"--port={RENDEZVOUS_PORTS['mp']}" in command, "where vLLM's own ranks meet"


def test_other_gpus_are_not_asked(up: Run) -> None:
    settings = {
        "inference": {**ON["inference"], "gpu": {"series": "P16EN", "perPod": 16}, "parallelism": {"tensor": 16}}
    }
    assert any("deployment.inference.preflight: it knows nvidia-smi" in text for text in warnings(resolved(settings)))


def test_the_policies_accept_it(up: Run) -> None:
    recorder = up(ON, stack="prod")
    found = resources(recorder, "prod")
    assert "preflight" in str(recorder.manifest("LeaderWorkerSet"))
    assert violations(found) == {}
