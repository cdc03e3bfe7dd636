"""The policy pack and the program: every resource of each stack goes through every rule."""

import pytest
from google.protobuf import json_format

from components import acs_pods, group_access, inference_group, inference_service, labels
from policy import pods
from policy.checks import acs, exposure
from policy.resources import Resource
from policy.resources import plain as known
from policy.rules import RULES, ResourceRule, message
from tests.unit.conftest import API_KEY, PROJECT, ROOT, Recorder, Run, plain
from tools.generate import documents

STACKS = ("dev", "prod", "local", "local-fluid", "local-prod")


def resources(recorder: Recorder, stack: str) -> list[Resource]:
    """What the engine would show to the pack."""

    def urn(own: str) -> str:
        return "::".join([f"urn:pulumi:{stack}", PROJECT, *own.split("::")[2:]])

    return [
        Resource(
            type=request.type,
            name=request.name,
            urn=urn(recorder.make_urn(request.parent, request.type, request.name)),
            properties=known(plain(json_format.MessageToDict(request.object))),
            protected=request.protect,
            references={
                name: tuple(urn(one) for one in dependency.urns)
                for name, dependency in request.propertyDependencies.items()
            },
        )
        for request in recorder.requests.values()
    ]


def violations(found: list[Resource]) -> dict[str, list[str]]:
    """Texts by the names of mandatory rules."""
    result: dict[str, list[str]] = {}
    for rule in RULES:
        if isinstance(rule, ResourceRule):
            texts = [message(finding) for one in found for finding in rule.check(one, **rule.arguments({}))]
        else:
            texts = [message(violation.finding) for violation in rule.check(found, **rule.arguments({}))]
        if texts and rule.level == "mandatory":
            result[rule.name] = texts
    return result


@pytest.mark.parametrize("stack", STACKS)
def test_stacks_keep_the_rules(up: Run, stack: str) -> None:
    # The embedded cluster of the local stacks is not up here.
    changes = {"cluster": {"kubeconfigFile": "~/.kube/config"}} if stack.startswith("local") else None
    found = violations(resources(up(changes, stack=stack), stack))
    assert not found


def test_header_of_the_autoscalers_secret_is_no_leak(up: Run) -> None:
    """Authorization is also a word in the programs that the stack brings along."""
    changes = {"inference": {"scaling": {"prometheus": {"authorization": True}}}}
    found = resources(up(changes, stack="prod", secrets={**API_KEY, "prometheusToken": "Bearer 0123456789"}), "prod")
    assert not violations(found)


def test_a_weak_stack_breaks_them(up: Run) -> None:
    changes = {
        "weights": {"bucket": {"kind": "create", "retain": False}},
        "inference": {"qos": "best-effort", "engine": {"image": "vllm/vllm-openai:latest"}},
        "service": {"kind": "internalLoadBalancer"},
        "security": {"securityGroups": ["sg-1a"]},
    }
    weak = violations(resources(up(changes), "prod"))
    assert {"require-bucket-protection", "disallow-best-effort", "disallow-mutable-tags", "require-api-key"} <= set(
        weak
    )


def test_the_pack_knows_the_programs_names() -> None:
    """The pack checks what is deployed, not the program, so it has the names itself."""
    assert exposure.ADDRESS_TYPE == inference_service.ADDRESS_TYPE
    assert labels.CONTAINER == pods.ENGINE
    assert pods.WORKER_INDEX_LABEL == inference_group.WORKER_INDEX_LABEL
    assert exposure.API_KEY_VARIABLE == group_access.API_KEY_VARIABLE
    assert exposure.SECURITY_GROUPS == acs_pods.SECURITY_GROUPS
    names = ("COMPUTE_CLASS", "COMPUTE_QOS", "GPU_SERIES", "HPN_TYPE")
    assert [getattr(acs, name) for name in names] == [getattr(acs_pods, name) for name in names]


def test_the_packs_pulumi_is_the_programs() -> None:
    pinned = (ROOT / "requirements.txt").read_text().splitlines()
    needed = (ROOT / "policy" / "requirements.txt").read_text().splitlines()
    assert [line for line in pinned if line.startswith("pulumi==")] == [x for x in needed if x.startswith("pulumi==")]


def test_documentation_is_current() -> None:
    for path, text in documents().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run make schema"
