"""What a bucket that exists already may be: it is used as it is, so what it is has to be looked at."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from deepseek_acs.planner.findings import Finding, Severity

BUCKET = "deployment.weights.bucket.name"

PRIVATE = "private"

CONSOLE = "https://www.alibabacloud.com/help/en/oss/user-guide"


def bucket_findings(
    name: str,
    *,
    region: str,
    location: str | None = None,
    acl: str | None = None,
    policy: str | None = None,
    encryption: object = None,
) -> list[Finding]:
    """What is wrong with the bucket ``name`` as the provider has read it; what is None it has not. Errors are what lets
    others read or replace the weights, or takes them away from the pods; the rest are warnings."""
    return [
        Finding(path=BUCKET, problem=f"the bucket {name} {problem}", fix=fix, severity=severity)
        for problem, fix, severity in (
            *_place(region, location),
            *_acl(acl),
            *_policy(policy),
            *_encryption(encryption),
        )
    ]


_Found = Iterator[tuple[str, str, Severity]]


def _place(region: str, location: str | None) -> _Found:
    if location and location.removeprefix("oss-") != region:
        yield (
            f"is in {location.removeprefix('oss-')}, and pods in {region} read buckets of their own region",
            f"choose a bucket in {region}, or change deployment.cloud.region",
            "error",
        )


def _acl(acl: str | None) -> _Found:
    if acl and acl != PRIVATE:
        yield (
            f"has the ACL {acl}: all of the internet may {'replace the weights' if 'write' in acl else 'read it'}",
            f"set it to private ({CONSOLE}/bucket-acl)",
            "error",
        )


def _policy(policy: str | None) -> _Found:
    statements = _statements(policy)
    if any(_allows_any_principal(statement) for statement in statements):
        yield (
            "has a bucket policy that allows something to every account, without a condition",
            f"name principals, or remove the statement ({CONSOLE}/oss-bucket-policy/)",
            "error",
        )
    # None is what a provider gives that has not asked.
    if policy is not None and not any(_denies_plain_http(statement) for statement in statements):
        yield (
            "has no policy that denies plain HTTP, by which keys of others could be used in the open",
            'add a Deny with the condition "acs:SecureTransport": "false"',
            "warning",
        )


def _encryption(encryption: object) -> _Found:
    if isinstance(encryption, Mapping) and not encryption.get("sse_algorithm"):
        yield (
            "does not encrypt what it stores",
            f"switch server-side encryption on ({CONSOLE}/server-side-encryption-8)",
            "warning",
        )


def _statements(policy: str | None) -> Sequence[Mapping[str, Any]]:
    try:
        document = json.loads(policy or "{}")
    except ValueError:
        return ()
    found = document.get("Statement", ()) if isinstance(document, dict) else ()
    return [statement for statement in found if isinstance(statement, dict)] if isinstance(found, list) else ()


def _allows_any_principal(statement: Mapping[str, Any]) -> bool:
    principals = statement.get("Principal")
    public = "*" in principals if isinstance(principals, list | str) else False
    return statement.get("Effect") == "Allow" and public and not statement.get("Condition")


def _denies_plain_http(statement: Mapping[str, Any]) -> bool:
    condition = json.dumps(statement.get("Condition") or {}).lower()
    return statement.get("Effect") == "Deny" and '"acs:securetransport"' in condition and "false" in condition
