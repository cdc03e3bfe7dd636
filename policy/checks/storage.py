"""The bucket and its users: private, encrypted, protected, TLS only, and no permissions on other buckets."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from deepseek_acs.planner.findings import Finding
from policy.resources import UNKNOWN, Resource, Violation, items, mapping, of_type, text

WIDE_SYSTEM_POLICIES = ("AdministratorAccess", "AliyunOSSFullAccess", "AliyunOSSReadOnlyAccess")
"""System policies of Alibaba Cloud that apply to all buckets
(https://www.alibabacloud.com/help/doc-detail/100680.htm)."""

BUCKET = "alicloud:oss/bucket:Bucket"
BUCKET_ACL = "alicloud:oss/bucketAcl:BucketAcl"
BUCKET_ENCRYPTION = "alicloud:oss/bucketServerSideEncryption:BucketServerSideEncryption"
BUCKET_POLICY = "alicloud:oss/bucketPolicy:BucketPolicy"
PUBLIC_ACCESS_BLOCK = "alicloud:oss/bucketPublicAccessBlock:BucketPublicAccessBlock"
RAM_POLICY = "alicloud:ram/policy:Policy"


def public_bucket(stack: Sequence[Resource]) -> Iterator[Violation]:
    """A bucket that is public, or that a later policy could make public."""
    for bucket in of_type(stack, BUCKET):
        acls = [acl.properties.get("acl") for acl in _about(bucket, stack, BUCKET_ACL)]
        known = [acl for acl in acls or [bucket.properties.get("acl", "private")] if acl is not UNKNOWN]
        for acl in known:
            if acl != "private":
                yield _violation(bucket, "acl", f"the bucket's access control list is {acl}", "write private")
        blocks = _about(bucket, stack, PUBLIC_ACCESS_BLOCK)
        if not any(block.properties.get("blockPublicAccess") in (True, UNKNOWN) for block in blocks):
            yield _violation(
                bucket,
                "",
                "public access to the bucket is not blocked, so a later policy could make it public",
                "add a BucketPublicAccessBlock with blockPublicAccess: true",
            )


def plain_bucket(stack: Sequence[Resource]) -> Iterator[Violation]:
    """A bucket whose objects are not encrypted at rest."""
    for bucket in of_type(stack, BUCKET):
        if not bucket.properties.get("serverSideEncryptionRule") and not _about(bucket, stack, BUCKET_ENCRYPTION):
            path = "serverSideEncryptionRule"
            yield _violation(bucket, path, "objects are stored unencrypted", "set sseAlgorithm: AES256, or KMS")


def bucket_without_tls_rule(stack: Sequence[Resource]) -> Iterator[Violation]:
    """A bucket that accepts plain HTTP."""
    for bucket in of_type(stack, BUCKET):
        documents = [p.properties.get("policy") for p in _about(bucket, stack, BUCKET_POLICY)]
        if not any(document is UNKNOWN or _denies_plain_http(document) for document in documents):
            yield _violation(
                bucket,
                "",
                "the bucket accepts requests over plain HTTP",
                "add a BucketPolicy that denies all requests with acs:SecureTransport false",
            )


def deletable_bucket(resource: Resource) -> Iterator[Finding]:
    """A bucket that ``pulumi destroy`` deletes, and with it days of transfer."""
    if resource.type != BUCKET:
        return
    if not resource.protected:
        yield Finding(
            path="",
            problem="pulumi destroy deletes the bucket",
            fix="set deployment.weights.bucket.retain: true (resource option protect)",
        )
    if resource.properties.get("forceDestroy") is True:
        yield Finding(
            path="forceDestroy",
            problem="the bucket is deleted with the weights in it",
            fix="set deployment.weights.bucket.retain: true",
        )


def wide_rights(resource: Resource) -> Iterator[Finding]:
    """A RAM policy for all buckets, or for every operation."""
    properties = resource.properties
    if resource.type == RAM_POLICY:
        document = properties.get("policyDocument") or properties.get("document")
        for statement in _statements(document):
            if statement.get("Effect") == "Allow":
                yield from _wide_statement(statement)
    name = properties.get("policyName")
    if resource.type.endswith("PolicyAttachment") and name in WIDE_SYSTEM_POLICIES:
        yield Finding(
            path="policyName",
            problem=f"{name} applies to all buckets of the account",
            fix="attach a custom policy for this bucket only",
        )


def _wide_statement(statement: Any) -> Iterator[Finding]:
    for resource in _listed(statement.get("Resource")):
        if _bucket_of(resource).startswith("*"):
            yield Finding(
                path="policyDocument",
                problem=f"{resource} includes all buckets of the account",
                fix="name the bucket: acs:oss:*:*:BUCKET/PREFIX/*",
            )
    for action in _listed(statement.get("Action")):
        if action in ("*", "oss:*"):
            yield Finding(
                path="policyDocument",
                problem=f"the action {action} allows every operation, including deletion of the bucket",
                fix="list only the operations that are needed",
            )


def _bucket_of(resource: str) -> str:
    """The bucket of ``acs:oss:REGION:ACCOUNT:BUCKET/OBJECT``; all of it for another text."""
    parts = resource.split(":", 4)
    if len(parts) < 5:
        return resource
    return parts[4].partition("/")[0] if parts[1] in ("oss", "*") else ""


def _denies_plain_http(document: Any) -> bool:
    for statement in _statements(document):
        condition = mapping(mapping(statement.get("Condition")).get("Bool")).get("acs:SecureTransport")
        denies = statement.get("Effect") == "Deny" and "false" in [str(value).lower() for value in _listed(condition)]
        if denies and "oss:*" in _listed(statement.get("Action")) and "*" in _listed(statement.get("Principal")):
            return True
    return False


def _statements(document: Any) -> list[Any]:
    try:
        body = mapping(json.loads(text(document) or "{}"))
    except json.JSONDecodeError:
        return []  # the cloud refuses it
    return [mapping(statement) for statement in items(body.get("Statement"))]


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else [text(item) for item in items(value)]


def _about(bucket: Resource, stack: Sequence[Resource], token: str) -> list[Resource]:
    """The resources of a type that refer to this bucket; in a preview its name may not be known yet."""
    name = bucket.properties.get("bucket")
    return [
        resource
        for resource in of_type(stack, token)
        if bucket.urn in resource.references.get("bucket", ())
        or (isinstance(name, str) and resource.properties.get("bucket") == name)
    ]


def _violation(bucket: Resource, path: str, problem: str, fix: str) -> Violation:
    return Violation(resource=bucket, finding=Finding(path=path, problem=problem, fix=fix))
