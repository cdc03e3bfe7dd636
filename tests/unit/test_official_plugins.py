"""What the program asks of the plugins, held against what the official ones accept (``local/plugins/*/facts.toml``).

The fakes refuse the same; this is for all stacks at once, with the parts that no stack file switches on.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf import json_format

from local.plugins.alicloud.facts import FACTS
from local.plugins.kubernetes.facts import FACTS as KUBERNETES
from tests.unit.conftest import ACCEPTED, REVIEWED, RRSA, Recorder, Run, plain

RESTRICTED = {"securityGroups": ["sg-1a"], "acceptedAdvisories": ACCEPTED}
BALANCED = {"kind": "internalLoadBalancer", "allowedCidrs": ["10.0.0.0/8"]}
STACKS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("dev", {}),
    ("dev", {"weights": {**REVIEWED, "identity": RRSA}, "service": BALANCED, "security": RESTRICTED}),
    ("prod", {}),
    ("local", {}),
    ("local-fluid", {}),
    ("local-prod", {}),
)


@pytest.fixture(params=STACKS, ids=["dev", "dev with a role and a list", *(stack for stack, _ in STACKS[2:])])
def recorder(request: pytest.FixtureRequest, program: Run) -> Recorder:
    stack, changes = request.param
    # A preview: the local stacks have no cluster here.
    return program(changes, stack=stack, preview=True)


def resources(recorder: Recorder, provider: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Type, name in the program and inputs of each."""
    for key, request in recorder.requests.items():
        token, _, name = key.partition("::")
        if token.startswith(f"{provider}:"):
            yield token, name, plain(json_format.MessageToDict(request.object))


def test_every_argument_is_one_of_the_plugin_and_of_its_type(recorder: Recorder) -> None:
    for token, name, inputs in resources(recorder, "alicloud"):
        assert token in FACTS.resources, f"no facts about {token}"
        assert FACTS.problems(token, inputs) == [], (token, name)
        assert not inputs.keys() & set(FACTS.arguments[token].deprecated), (token, name)


def test_every_name_in_the_cloud_is_the_programs(recorder: Recorder) -> None:
    """Also where the plugin would make one up: docs/names.md has them all."""
    for token, name, inputs in resources(recorder, "alicloud"):
        argument = FACTS.resources[token].name
        assert argument is None or inputs.get(argument), (token, name, argument)


def test_a_policy_may_have_many_versions(recorder: Recorder) -> None:
    """Each change of the prefix is one."""
    for token, name, inputs in resources(recorder, "alicloud"):
        if token == "alicloud:ram/policy:Policy":
            assert inputs["rotateStrategy"] == "DeleteOldestNonDefaultVersionWhenLimitExceeded", name


def test_every_object_in_the_cluster_has_the_field_manager_of_the_stack(recorder: Recorder) -> None:
    annotation = KUBERNETES["field_managers"]["annotation"]
    found = {
        inputs.get("metadata", {}).get("annotations", {}).get(annotation)
        for token, _, inputs in resources(recorder, "kubernetes")
    }
    assert len(found) == 1
    assert found != {None}


def test_state_of_dev_stays_small(program: Run) -> None:
    """300 KB, of which what the API server adds and Pulumi's own are left out here. The state has each resource twice,
    as it was asked for and as it is, and the engine reads and writes all of it in each preview."""
    inputs = program(stack="dev").requests.values()
    assert 2 * sum(len(json_format.MessageToJson(request.object)) for request in inputs) < 220_000
