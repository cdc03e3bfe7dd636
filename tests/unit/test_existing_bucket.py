"""A bucket that exists already is looked at before it is used."""

import json
from typing import Any

import pulumi
import pytest

from components.existing_bucket import bucket_findings
from components.model_bucket import tls_only_policy
from tests.unit.conftest import Engine, Run

GOOD: dict[str, Any] = {
    "location": "oss-cn-hangzhou",
    "acl": "private",
    "policy": tls_only_policy("mine"),
    "encryption": {"sse_algorithm": "AES256"},
}
EXISTING = {"weights": {"bucket": {"kind": "existing", "name": "mine"}}}


def policy(**statement: Any) -> str:
    return json.dumps({"Version": "1", "Statement": [*json.loads(tls_only_policy("mine"))["Statement"], statement]})


def test_nothing_is_said_of_one_like_ours() -> None:
    assert bucket_findings("mine", region="cn-hangzhou", **GOOD) == []


def test_nothing_is_said_of_what_was_not_read() -> None:
    assert bucket_findings("mine", region="cn-hangzhou") == []


@pytest.mark.parametrize(
    ("changes", "severity", "problem", "fix"),
    [
        (
            {"location": "oss-cn-beijing"},
            "error",
            "the bucket mine is in cn-beijing, and pods in cn-hangzhou read buckets of their own region",
            "choose a bucket in cn-hangzhou, or change deployment.cloud.region",
        ),
        (
            {"acl": "public-read"},
            "error",
            "the bucket mine has the ACL public-read: all of the internet may read it",
            "set it to private",
        ),
        (
            {"acl": "public-read-write"},
            "error",
            "the bucket mine has the ACL public-read-write: all of the internet may replace the weights",
            "set it to private",
        ),
        (
            {"policy": policy(Effect="Allow", Principal=["*"], Action=["oss:GetObject"], Resource=["*"])},
            "error",
            "the bucket mine has a bucket policy that allows something to every account, without a condition",
            "name principals, or remove the statement",
        ),
        (
            {"policy": ""},
            "warning",
            "the bucket mine has no policy that denies plain HTTP",
            'add a Deny with the condition "acs:SecureTransport": "false"',
        ),
        (
            {"encryption": {"sse_algorithm": ""}},
            "warning",
            "the bucket mine does not encrypt what it stores",
            "switch server-side encryption on",
        ),
    ],
)
def test_what_is_wrong_is_said(changes: dict[str, Any], severity: str, problem: str, fix: str) -> None:
    (found,) = bucket_findings("mine", region="cn-hangzhou", **GOOD | changes)
    assert (found.path, found.severity) == ("deployment.weights.bucket.name", severity)
    assert found.problem.startswith(problem)
    assert found.fix.startswith(fix)


@pytest.mark.parametrize(
    "statement",
    [
        {"Effect": "Allow", "Principal": ["1234567890"], "Action": ["oss:GetObject"]},
        {"Effect": "Allow", "Principal": ["*"], "Condition": {"StringEquals": {"acs:SourceVpc": ["vpc-1"]}}},
        "no statement",
    ],
)
def test_what_others_may_is_theirs(statement: Any) -> None:
    text = json.dumps({"Version": "1", "Statement": [*json.loads(tls_only_policy("mine"))["Statement"], statement]})
    assert bucket_findings("mine", region="cn-hangzhou", **GOOD | {"policy": text}) == []


@pytest.mark.parametrize("text", ["{", "[]", '{"Statement": 1}'])
def test_a_policy_that_cannot_be_read_denies_nothing(text: str) -> None:
    (found,) = bucket_findings("mine", region="cn-hangzhou", **GOOD | {"policy": text})
    assert "has no policy that denies plain HTTP" in found.problem


def test_a_public_bucket_stops_the_preview(up: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(self: Engine, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        found, state = original(self, args)
        return found, {**state, "acl": "public-read"} if args.typ.endswith(":Bucket") else state

    original = Engine.new_resource
    monkeypatch.setattr(Engine, "new_resource", read)
    with pytest.raises(pulumi.RunError, match=r"(?s)deployment\.weights\.bucket\.name.*the ACL public-read"):
        up(EXISTING, preview=True, again=True)


def test_weak_spots_are_warned_of(up: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(self: Engine, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        found, state = original(self, args)
        return found, {**state, "policy": ""} if args.typ.endswith(":Bucket") else state

    said: list[str] = []
    original = Engine.new_resource
    monkeypatch.setattr(Engine, "new_resource", read)
    monkeypatch.setattr(pulumi.log, "warn", lambda text, *_, **__: said.append(text))
    up(EXISTING, again=True)
    assert [text for text in said if "has no policy that denies plain HTTP" in text]
