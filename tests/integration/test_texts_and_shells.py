"""What a stack file says reaches programs as it stands: neither Kubernetes nor a shell makes anything of it."""

import dataclasses
import functools
import os
import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from components import wiring
from components.expansion import literal
from components.exports import kubectl
from components.inference_group import command, pod_template
from components.model_mount import ModelMount
from deepseek_acs.planner.resolve import resolve
from deepseek_acs.settings.cloud import ClusterSettings
from deepseek_acs.settings.stack import StackSettings
from tests.unit.conftest import ROOT, merged, stack_settings

pytestmark = pytest.mark.integration

CANARY = "canary"
HOSTILE = [
    f"$(touch {CANARY})",
    f"`touch {CANARY}`",
    f"; touch {CANARY} #",
    f"' ; touch {CANARY} ; '",
    f'" ; touch {CANARY} ; "',
    f"\ntouch {CANARY}\n",
    f"& touch {CANARY} &",
    f"| touch {CANARY}",
    "$(EVIL)",
    "$$(EVIL)",
    "$$$(EVIL)",
    "$EVIL ${EVIL}",
    "$(VLLM_HOST_IP)",
    "\\",
    "$",
    "*",
    "~",
    "\u2019 \u202e é",
]
EVIL = f"' ; touch {CANARY} ; '"
"""Value of a variable that the texts name: filled in by Kubernetes, it would leave the quotes of the shell."""

part = st.sampled_from(HOSTILE) | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
texts = st.lists(part, max_size=4).map("".join)
"""All but surrogates, which no UTF-8 has."""


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """What Kubernetes makes of it (third_party/forked/golang/expansion/expand.go in https://github.com/kubernetes/kubernetes)."""

    def replace(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        return variables.get(found[1], found[0])

    return re.sub(r"\$\$|\$\(([^)]*)\)", replace, text)


def environment_of(container: Mapping[str, Any]) -> dict[str, str]:
    """The variables of a container, each filled in with those before it. The controllers add theirs."""
    variables = {"LWS_LEADER_ADDRESS": "leader.example", "LWS_GROUP_SIZE": "2"}
    for entry in container["env"]:
        variables[entry["name"]] = expanded(entry["value"], variables) if "value" in entry else "10.0.0.1"
    return variables


@functools.cache
def programs() -> Path:
    """A folder with a start script of Ray and a vllm, which write down what they are given."""
    folder = Path(tempfile.mkdtemp(prefix="programs"))
    for name in ("ray_init.sh", "vllm", "kubectl"):
        file = folder / name
        file.write_text(f'#!/bin/sh\nprintf "%s\\0" "$@" > "$OUT/{name}"\nenv -0 > "$OUT/{name}.env"\n')
        file.chmod(0o755)
    return folder


def run(script: list[str], variables: Mapping[str, str], folder: Path) -> dict[str, list[str]]:
    """Runs a command in ``folder``, whose files are then those that the programs have written, and no others."""
    environ = {**variables, "PATH": f"{programs()}:{os.environ['PATH']}", "OUT": str(folder), "HOME": str(folder)}
    subprocess.run(script, cwd=folder, env=environ, check=False, timeout=30, capture_output=True)
    assert not (folder / CANARY).exists(), script
    return {file.name: file.read_bytes().decode().split("\0")[:-1] for file in folder.iterdir()}


def deployment(engine: Mapping[str, Any], lifecycle: bool) -> StackSettings | None:
    """The dev stack with this engine, if the settings take it."""
    changes: dict[str, Any] = {"inference": {"engine": engine, **({"lifecycle": {}} if lifecycle else {})}}
    try:
        return StackSettings.model_validate(merged(stack_settings("dev"), changes))
    except ValidationError:
        return None


@settings(max_examples=60, deadline=None)
@given(
    arguments=st.lists(texts, max_size=3),
    values=st.dictionaries(st.sampled_from(["A", "B", "LD_X"]), texts, max_size=3),
    script=texts,
    lifecycle=st.booleans(),
)
@example(arguments=["--a='$(EVIL)'"], values={"A": "$(EVIL)"}, script=f";touch {CANARY}", lifecycle=False)
@example(arguments=["--a=$(VLLM_HOST_IP)", "$$"], values={"A": "$$(B)", "B": "$"}, script="/$(id)", lifecycle=True)
def test_engine_gets_arguments_and_variables_as_they_stand(
    arguments: list[str], values: dict[str, str], script: str, lifecycle: bool
) -> None:
    start = str(programs() / "ray_init.sh")
    for path in (start, start + script):
        found = deployment({"extraArgs": arguments, "env": {"EVIL": EVIL, **values}, "rayScript": path}, lifecycle)
        if found is None:
            continue
        mount = ModelMount(claim_name=cast(Any, "c"), model_path="/models/m", depends_on=cast(Any, None))
        args = wiring.inference_group(resolve(found, folder=ROOT), mount, None)
        for role in ("leader", "worker"):
            (container,) = pod_template(role, args)["spec"]["containers"]
            variables = environment_of(container)
            words = [expanded(word, variables) for word in container["command"]]
            with tempfile.TemporaryDirectory() as folder:
                written = run(words, variables, Path(folder))
            if path != start:
                continue
            assert written["ray_init.sh"][0] == role
            if role == "leader":
                expected = [expanded(word, {}) for word in _serve_words(args)]
                assert written["vllm"] == expected[1:]
                assert all(argument in written["vllm"] for argument in arguments)
                assert {f"{name}={value}" for name, value in values.items()} <= set(written["vllm.env"])


def _serve_words(args: Any) -> list[str]:
    """The same for a group of one pod, whose command needs no shell; the argument for several pods is the last."""
    single = command("leader", dataclasses.replace(args, pods=1))
    return [*single, "--distributed-executor-backend", "ray"]


@given(texts)
def test_kubernetes_passes_a_literal_on(text: str) -> None:
    assert expanded(literal(text), {"EVIL": EVIL, "VLLM_HOST_IP": "10.0.0.1"}) == text


@settings(max_examples=60, deadline=None)
@given(file=texts, context=texts)
@example(file="~/.kube/a b", context="it's")
@example(file=f"~/$(touch {CANARY})", context=f"; touch {CANARY}")
def test_commands_that_people_copy(file: str, context: str) -> None:
    cluster = ClusterSettings.model_construct(kubeconfig_file=file, context=context, namespace="default")
    if "\0" in file + context:
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        written = run(["sh", "-c", kubectl(cluster)], {}, folder)
        home = f"{folder}/{file[2:]}" if file.startswith("~/") and len(file) > 2 else file
        expected = [*(["--kubeconfig", home] if file else []), *(["--context", context] if context else [])]
        assert written["kubectl"] == (expected or [""])
