"""``make verify`` and ``make back`` around programs that only show what they were given."""

import json
from pathlib import Path
from typing import Any

import pytest

from local.pulumi_environment import EngineEnvironment
from local.stack import LocalNeeds, StackError
from local.verification import NO_ENGINE, StackPrograms

pytestmark = pytest.mark.integration

KEY = "key-that-nobody-may-see"
PULUMI = """#!/bin/sh
case "$1 $2 $3" in
  "stack output --json") {outputs} ;;
  "config get deepseek:apiKey") {key} ;;
  "config get deepseek:kubeconfig") echo "apiVersion: v1" ;;
  *) exit 9 ;;
esac
"""
VERIFIER = """
import json, os, pathlib, stat, sys
file = pathlib.Path(sys.argv[2].removeprefix("--kubeconfig="))
exists = file.exists()
print(json.dumps({
    "arguments": sys.argv[1:],
    "outputs": json.loads(sys.stdin.read()),
    "key": os.environ.get("VLLM_API_KEY"),
    "kubeconfig": file.read_text() if exists else None,
    "mode": stat.S_IMODE(file.stat().st_mode) if exists else None,
}), file=open("shown.json", "w"))
sys.exit(17)
"""


class Made:
    """A project of two fakes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for program in ("verifier", "goback"):
            (folder / "deepseek_acs" / program).mkdir(parents=True)
            (folder / "deepseek_acs" / program / "__main__.py").write_text(VERIFIER)
        self.said: list[str] = []

    def verify(self, *, key: str = f"echo {KEY}", outputs: str = 'echo \'{"model": "ds"}\'', **needs: Any) -> int:
        return self.programs(key=key, outputs=outputs, **needs).verify(["--json"], self.said.append)

    def programs(
        self, *, key: str = f"echo {KEY}", outputs: str = 'echo \'{"model": "ds"}\'', **needs: Any
    ) -> StackPrograms:
        pulumi = self.folder / "pulumi"
        pulumi.write_text(PULUMI.format(key=key, outputs=outputs))
        pulumi.chmod(0o755)
        defaults: dict[str, Any] = {
            "embedded_cluster": False,
            "emulated_cloud": False,
            "services": (),
            "kubeconfig": "~/k.yaml",
            "context": "",
            "api_key": True,
            "nodes": None,
            "images": None,
            "gated": False,
            "ray_on_cpu": False,
        }
        return StackPrograms(
            root=self.folder,
            stack="prod",
            pulumi=pulumi,
            environment=EngineEnvironment(variables={}, path_entries=(), plugins=()),
            needs=LocalNeeds(**{**defaults, **needs}),
        )

    def shown(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "shown.json").read_text())
        return found


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path)


def test_outputs_key_and_kubeconfig_are_handed_over(made: Made) -> None:
    assert made.verify(context="acs") == 17, "the verifier's own code"
    shown = made.shown()
    assert shown["outputs"] == {"model": "ds"}
    assert shown["key"] == KEY
    assert shown["arguments"] == ["--outputs=-", "--kubeconfig=~/k.yaml", "--context=acs", "--json"]
    assert made.said == []


def test_stack_without_a_key(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    made.verify(key="exit 1")
    assert made.shown()["key"] is None


def test_key_that_is_not_asked_for_any_more(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    made.verify(api_key=False)
    assert made.shown()["key"] is None


def test_secret_kubeconfig_is_a_private_file_for_the_time_of_it(made: Made) -> None:
    made.verify(kubeconfig="")
    shown = made.shown()
    assert shown["kubeconfig"] == "apiVersion: v1"
    assert shown["mode"] == 0o600
    assert not Path(shown["arguments"][1].removeprefix("--kubeconfig=")).exists()


def test_embedded_cluster_says_that_no_engine_answers(made: Made) -> None:
    made.verify(embedded_cluster=True)
    assert made.said == [NO_ENGINE]


def test_stack_that_does_not_exist(made: Made) -> None:
    with pytest.raises(StackError, match="no outputs of the stack prod: no stack named prod"):
        made.verify(outputs="echo no stack named prod >&2; exit 1")


def test_to_go_back_needs_no_key(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    assert made.programs(context="acs").back([]) == 17
    shown = made.shown()
    assert (shown["outputs"], shown["key"]) == ({"model": "ds"}, None)
    assert shown["arguments"] == ["--outputs=-", "--kubeconfig=~/k.yaml", "--context=acs"]
