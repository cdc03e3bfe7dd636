"""The resource types that are served: what each requires, what replaces it, what it computes.

Property names are those of ``pulumi_alicloud`` 4.0.0; which of them replace a resource is stated in the
schema of https://github.com/aliyun/terraform-provider-alicloud (``ForceNew``).
"""

from __future__ import annotations

import json
import re
import secrets
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

BUCKET_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{1,61}[a-z0-9])")
"""https://www.alibabacloud.com/help/en/oss/user-guide/bucket-naming-conventions"""
BUCKET_NAME_RULE = "3 to 63 lower-case letters, digits and hyphens, with no hyphen first or last"


@dataclass(frozen=True, kw_only=True)
class Account:
    """Whose resources they are, and where."""

    id: str
    region: str


@dataclass(frozen=True, kw_only=True)
class ResourceType:
    """One row of the table.

    :param service: the provider endpoint that the resource is served by.
    :param identity: inputs a change of which replaces the resource.
    :param name: the input that is made up from the resource's Pulumi name where the program leaves it out.
    :param superseded: deprecated inputs, each with the one to write instead.
    :param documents: inputs that hold a JSON text.
    :param problem: what is wrong with the value of `name`, if anything.
    :param id_of: the ID of a new resource with these inputs.
    :param inputs_of: the inputs that can be read from such an ID.
    :param outputs: computed properties of a new resource.
    :param secret: those of them that are secret.
    :param place: where the simulated cloud has it, below which its ID follows; None if it is only recorded.
    :param content: what it is told about it; None if what has the ID is another resource, without which this one is
        gone.
    """

    service: str
    required: tuple[str, ...] = ()
    identity: tuple[str, ...] = ()
    name: str | None = None
    superseded: Mapping[str, str] = field(default_factory=dict)
    documents: tuple[str, ...] = ()
    problem: Callable[[str], str | None] = lambda _: None
    id_of: Callable[[Mapping[str, str]], str]
    inputs_of: Callable[[str], dict[str, str]]
    outputs: Mapping[str, Callable[[str, Account], str]] = field(default_factory=dict)
    secret: frozenset[str] = frozenset()
    place: str | None = None
    content: Callable[[Mapping[str, str], Account], dict[str, Any]] | None = None


def _bucket_name_problem(name: str) -> str | None:
    return None if BUCKET_NAME.fullmatch(name) else f"{name!r} is no OSS bucket name: {BUCKET_NAME_RULE}"


def _of_bucket(*required: str, documents: tuple[str, ...] = ()) -> ResourceType:
    return ResourceType(
        service="oss",
        required=("bucket", *required),
        identity=("bucket",),
        documents=documents,
        id_of=lambda inputs: inputs["bucket"],
        inputs_of=lambda id_: {"bucket": id_},
        place="buckets",
    )


def _attachment(kind: str, *, place: str | None = None) -> ResourceType:
    parts = ("policyName", "policyType", f"{kind}Name")
    return ResourceType(
        service="ram",
        required=parts,
        identity=parts,
        id_of=lambda inputs: ":".join([kind, *(inputs[part] for part in parts)]),
        inputs_of=lambda id_: dict(zip(parts, id_.split(":")[1:], strict=False)),
        place=place,
        content=lambda values, _: {kind: values[f"{kind}Name"], "policy": values["policyName"]},
    )


def _digits(_inputs: object = None, _account: object = None) -> str:
    return str(10**17 + secrets.randbelow(9 * 10**17))


def _characters(count: int) -> str:
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(count))


RESOURCE_TYPES: Mapping[str, ResourceType] = {
    "alicloud:oss/bucket:Bucket": ResourceType(
        service="oss",
        identity=("bucket", "redundancyType", "storageClass"),
        name="bucket",
        problem=_bucket_name_problem,
        id_of=lambda inputs: inputs["bucket"],
        inputs_of=lambda id_: {"bucket": id_},
        outputs={
            "extranetEndpoint": lambda _, account: f"oss-{account.region}.aliyuncs.com",
            "intranetEndpoint": lambda _, account: f"oss-{account.region}-internal.aliyuncs.com",
            "location": lambda _, account: f"oss-{account.region}",
            "owner": lambda _, account: account.id,
        },
        place="buckets",
        content=lambda _, account: {"owner": account.id},
    ),
    "alicloud:oss/bucketAcl:BucketAcl": _of_bucket("acl"),
    "alicloud:oss/bucketPublicAccessBlock:BucketPublicAccessBlock": _of_bucket("blockPublicAccess"),
    "alicloud:oss/bucketPolicy:BucketPolicy": _of_bucket("policy", documents=("policy",)),
    "alicloud:ram/user:User": ResourceType(
        service="ram",
        name="name",
        id_of=_digits,
        inputs_of=lambda id_: {"name": f"user-{id_}"},
        place="account/users",
        content=lambda values, _: {"name": values["name"]},
    ),
    "alicloud:ram/policy:Policy": ResourceType(
        service="ram",
        required=("policyDocument",),
        identity=("policyName",),
        name="policyName",
        superseded={"name": "policyName", "document": "policyDocument", "statements": "policyDocument"},
        documents=("policyDocument",),
        id_of=lambda inputs: inputs["policyName"],
        inputs_of=lambda id_: {"policyName": id_},
        outputs={"type": lambda *_: "Custom"},
        place="account/policies",
        content=lambda values, _: {"name": values["policyName"], "document": json.loads(values["policyDocument"])},
    ),
    "alicloud:ram/accessKey:AccessKey": ResourceType(
        service="ram",
        required=("userName",),
        identity=("userName", "pgpKey", "secretFile"),
        id_of=lambda _: "LTAI" + _characters(20),
        inputs_of=lambda id_: {"userName": f"user-of-{id_}"},
        outputs={"secret": lambda *_: _characters(30)},
        secret=frozenset({"secret"}),
        place="account/keys",
        content=lambda values, _: {"user": values["userName"], "secret": values["secret"]},
    ),
    "alicloud:ram/userPolicyAttachment:UserPolicyAttachment": _attachment("user", place="account/attachments"),
    "alicloud:ram/role:Role": ResourceType(
        service="ram",
        required=("assumeRolePolicyDocument",),
        identity=("roleName",),
        name="roleName",
        superseded={
            "name": "roleName",
            "document": "assumeRolePolicyDocument",
            "ramUsers": "assumeRolePolicyDocument",
            "services": "assumeRolePolicyDocument",
        },
        documents=("assumeRolePolicyDocument",),
        id_of=lambda inputs: inputs["roleName"],
        inputs_of=lambda id_: {"roleName": id_},
        outputs={
            "arn": lambda id_, account: f"acs:ram::{account.id}:role/{id_.lower()}",
            "roleId": _digits,
        },
    ),
    "alicloud:ram/rolePolicyAttachment:RolePolicyAttachment": _attachment("role"),
    "alicloud:slb/acl:Acl": ResourceType(
        service="slb",
        identity=("ipVersion",),
        name="name",
        superseded={"entryLists": "an AclEntryAttachment for each"},
        id_of=lambda _: f"acl-{_characters(20).lower()}",
        inputs_of=lambda id_: {"name": id_},
    ),
    "alicloud:slb/aclEntryAttachment:AclEntryAttachment": ResourceType(
        service="slb",
        required=("aclId", "entry"),
        identity=("aclId", "entry", "comment"),
        id_of=lambda inputs: f"{inputs['aclId']}:{inputs['entry']}",
        inputs_of=lambda id_: dict(zip(("aclId", "entry"), id_.split(":"), strict=False)),
    ),
}


def document_problem(text: str) -> str | None:
    """What keeps `text` from being a policy document, if anything."""
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        return f"not JSON: {error}"
    return None if isinstance(document, dict) else "not a JSON object"
