"""Buckets: private, encrypted, protected, by TLS only, and without grants to others."""

from collections.abc import Iterator, Sequence
from typing import Any

from deepseek_acs.planner.findings import Finding
from policy.checks.ram import listed, statements
from policy.resources import UNKNOWN, Resource, Violation, mapping, of_type, text

BUCKET = "alicloud:oss/bucket:Bucket"
BUCKET_ACL = "alicloud:oss/bucketAcl:BucketAcl"
BUCKET_ENCRYPTION = "alicloud:oss/bucketServerSideEncryption:BucketServerSideEncryption"
BUCKET_POLICY = "alicloud:oss/bucketPolicy:BucketPolicy"
PUBLIC_ACCESS_BLOCK = "alicloud:oss/bucketPublicAccessBlock:BucketPublicAccessBlock"


def public_bucket(stack: Sequence[Resource]) -> Iterator[Violation]:
    """A bucket that is public, or that a later policy could make public."""
    for bucket in of_type(stack, BUCKET):
        acls = [acl.properties.get("acl") for acl in _about(bucket, stack, BUCKET_ACL)]
        known = [acl for acl in acls or [bucket.properties.get("acl", "private")] if acl is not UNKNOWN]
        for acl in known:
            if acl != "private":
                yield _violation(bucket, "acl", f"the bucket's access control list is {acl}", "write private")
        blocks = _about(bucket, stack, PUBLIC_ACCESS_BLOCK)
        is_blocked = any(block.properties.get("blockPublicAccess") in (True, UNKNOWN) for block in blocks)
        # Of a bucket that is only read this is not visible.
        if not is_blocked and (blocks or not bucket.read_only):
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
        name = bucket.properties.get("bucket")
        documents = [p.properties.get("policy") for p in (bucket, *_about(bucket, stack, BUCKET_POLICY))]
        if not any(document is UNKNOWN or _denies_plain_http(document or "", name) for document in documents):
            yield _violation(
                bucket,
                "",
                "the bucket accepts requests over plain HTTP",
                "add a BucketPolicy that denies all requests with acs:SecureTransport false",
            )


def deletable_bucket(resource: Resource) -> Iterator[Finding]:
    """A bucket that ``pulumi destroy`` deletes, and with it days of transfer."""
    if resource.type != BUCKET or resource.read_only:
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


def foreign_grants(resource: Resource, *, allowed_principals: Sequence[str]) -> Iterator[Finding]:
    """A bucket policy that grants access; the stack's own identities have RAM policies for that."""
    document = resource.properties.get("policy") if resource.type in (BUCKET, BUCKET_POLICY) else None
    if not document:
        return
    fix = "remove the statement, and give the identity a RAM policy; or add it to the option allowedPrincipals"
    for statement in statements(document):
        if statement is None:
            yield Finding(path="policy", problem="it is not a JSON document with statements", fix="write a policy")
        elif statement.get("Effect") != "Deny":
            principals = listed(statement.get("Principal"))
            is_listed = bool(principals) and all(one in allowed_principals for one in principals)
            if "NotPrincipal" in statement or not is_listed:
                who = ", ".join(principals) or "everyone but those whom it names"
                yield Finding(path="policy", problem=f"it grants {who} access to the bucket", fix=fix)


def _denies_plain_http(document: Any, bucket: Any) -> bool:
    """Whether one statement denies everything in the bucket, to everyone, under no other condition than plain HTTP."""
    for statement in statements(document):
        if statement is None or statement.get("Effect") != "Deny":
            continue
        conditions = mapping(statement.get("Condition"))
        plain = listed(mapping(conditions.get("Bool")).get("acs:SecureTransport"))
        is_only_condition = list(conditions) == ["Bool"] and list(mapping(conditions["Bool"])) == [
            "acs:SecureTransport"
        ]
        is_for_all = "oss:*" in listed(statement.get("Action")) and "*" in listed(statement.get("Principal"))
        if is_only_condition and [one.lower() for one in plain] == ["false"] and is_for_all:
            resources = [one.split(":", 4)[-1] for one in listed(statement.get("Resource"))]
            if bucket is UNKNOWN or "*" in resources or {text(bucket), f"{text(bucket)}/*"} <= set(resources):
                return True
    return False


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
