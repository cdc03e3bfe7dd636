"""Each rule of the policy pack, kept and broken."""

import copy
import re
from collections.abc import Mapping

import pytest

from deepseek_acs.planner.findings import Finding
from policy.resources import UNKNOWN, UNKNOWN_VALUES, plain
from policy.rules import RULES, StackRule, message
from tests.policy import access_cases, cloud_cases, pod_cases
from tests.policy.stacks import BALANCER, KEY, NO_KEY, Broken, Kept, found, group, service

MODULES = (access_cases, cloud_cases, pod_cases)
BROKEN: Mapping[str, list[Broken]] = {name: cases for module in MODULES for name, cases in module.BROKEN.items()}
KEPT: Mapping[str, list[Kept]] = {name: cases for module in MODULES for name, cases in module.KEPT.items()}
BY_NAME = {rule.name: rule for rule in RULES}


@pytest.mark.parametrize(("name", "case"), [(name, case) for name, cases in BROKEN.items() for case in cases])
def test_broken(name: str, case: Broken) -> None:
    findings = [finding for _, finding in found(case.stack, name, config=case.config)]
    assert any(finding.path == case.path and case.problem in finding.problem for finding in findings), findings
    assert all(finding.fix for finding in findings)
    # A violation is shown in every log.
    assert not any(KEY in message(finding) for finding in findings)


@pytest.mark.parametrize(("name", "stack"), [(name, stack) for name, stacks in KEPT.items() for stack in stacks])
def test_kept(name: str, stack: Kept) -> None:
    assert list(found(stack, name)) == []


def test_every_rule_has_cases() -> None:
    assert set(BROKEN) == set(KEPT) == set(BY_NAME)
    assert len(BY_NAME) == len(RULES)


@pytest.mark.parametrize("name", BY_NAME)
def test_names_are_like_those_of_kyvernos_library(name: str) -> None:
    assert re.fullmatch("(require|restrict|disallow|disable)(-[a-z]+)+", name)


def test_a_stack_rule_names_the_resource() -> None:
    rule = BY_NAME["require-api-key"]
    assert isinstance(rule, StackRule)
    assert [violation.resource for violation in rule.check((group(NO_KEY), BALANCER))] == [BALANCER]


def test_message() -> None:
    [(_, finding)] = found((service("NodePort"),), "disallow-public-services")
    assert message(finding) == (
        "spec.type: NodePort opens the Service on every node; fix: write ClusterIP, or LoadBalancer with a private "
        "address"
    )
    assert message(Finding(path="", problem="it is open", fix="close it")) == "it is open; fix: close it"


def test_plain_data() -> None:
    wire = {"a": [1.0, 1.5, next(iter(UNKNOWN_VALUES))], "b": {"c": True, "d": None}}
    assert plain(copy.deepcopy(wire)) == {"a": [1, 1.5, UNKNOWN], "b": {"c": True, "d": None}}
