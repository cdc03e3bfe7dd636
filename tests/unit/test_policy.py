"""The policy pack and the program: every resource of each stack goes through every rule."""

from typing import Any

import pytest
from google.protobuf import json_format

from components import acs_pods, group_access, inference_service, labels, providers
from deepseek_acs.planner.rules import options
from policy import pods
from policy.checks import acs, exposure, networks, routes
from policy.resources import CLOUD_SERVICES, Resource
from policy.resources import plain as known
from policy.rules import RULES, ResourceRule, message
from tests.unit.conftest import API_KEY, PROJECT, ROOT, RRSA, Recorder, Run, plain, stack_file
from tools.generate import documents

SECURITY = {stack: {"security": stack_file(stack)["security"]} for stack in ("dev", "prod")}
STACKS = ("dev", "prod", "local", "local-fluid", "local-prod", "local-vllm")


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
    changes = {"cluster": {"kubeconfigFile": "~/.kube/config"}} if stack.startswith("local") else SECURITY[stack]
    found = violations(resources(up(changes, stack=stack), stack))
    assert not found


ALB = {"kind": "ingress", "className": "alb", "host": "llm.example.com", "tls": {"kind": "controller"}}

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "RRSA": ("dev", {"weights": {"identity": RRSA}}),
    "a bucket that exists": ("dev", {"weights": {"bucket": {"kind": "existing", "name": "weights"}}}),
    "mp": ("prod", {"inference": {"engine": {"backend": "mp", "image": "vllm/vllm-openai:v0.33.0"}}}),
    "operators": ("prod", {"operators": {"lws": {"kind": "install"}, "fluid": {"kind": "install"}}}),
    "an HPA": ("prod", {"inference": {"scaling": {"kind": "hpa", "maxReplicas": 2}}}),
    "ALB": ("prod", {"service": {"kind": "clusterIP", "apiKey": True, "route": ALB}}),
    "MSE": ("prod", {"service": {"kind": "clusterIP", "apiKey": True, "route": {**ALB, "className": "mse"}}}),
    "an EIP for the mover": ("dev", {"weights": {"upload": {"eipBandwidthMbps": 100}}}),
    "csi and RDMA": ("prod", {"storage": {"kind": "csi"}}),
}
"""Settings of the example stacks that make other resources."""


@pytest.mark.parametrize(("stack", "changes"), VARIANTS.values(), ids=VARIANTS)
def test_other_settings_keep_the_rules(up: Run, stack: str, changes: dict[str, Any]) -> None:
    found = violations(resources(up({**SECURITY[stack], **changes}, stack=stack), stack))
    assert not found


def test_header_of_the_autoscalers_secret_does_not_leak(up: Run) -> None:
    """Authorization is also a word in the programs that the stack brings along."""
    changes = {"inference": {"scaling": {"prometheus": {"url": "https://prometheus.example", "authorization": True}}}}
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
    assert pods.WORKER_INDEX_LABEL == labels.WORKER_INDEX_LABEL
    assert routes.RETIRED_CLASSES == options.RETIRED_CLASSES
    assert set(CLOUD_SERVICES) == set(providers.EMULATED_SERVICES)
    assert exposure.API_KEY_VARIABLE == group_access.API_KEY_VARIABLE
    assert networks.SECURITY_GROUPS == acs_pods.SECURITY_GROUPS
    names = ("COMPUTE_CLASS", "COMPUTE_QOS", "GPU_SERIES", "HPN_TYPE")
    assert [getattr(acs, name) for name in names] == [getattr(acs_pods, name) for name in names]


def test_the_packs_pulumi_is_the_programs() -> None:
    pinned = (ROOT / "requirements.txt").read_text().splitlines()
    needed = (ROOT / "policy" / "requirements.txt").read_text().splitlines()
    assert [line for line in pinned if line.startswith("pulumi==")] == [x for x in needed if x.startswith("pulumi==")]


def test_documentation_is_current() -> None:
    for path, text in documents().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run make schema"
