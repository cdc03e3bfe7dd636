"""What the simulated cloud makes of each resource type of ``facts.toml``: IDs, outputs, and what it keeps."""

from __future__ import annotations

import json
import secrets
import string
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Values = Mapping[str, Any]
"""Properties of a resource, plain; those that were left out are missing."""


@dataclass(frozen=True, kw_only=True)
class Account:
    """Whose resources they are, and where."""

    id: str
    region: str


@dataclass(frozen=True, kw_only=True)
class ResourceType:
    """One row of the table.

    :param id_of: the ID of a new resource with these inputs.
    :param inputs_of: the inputs that can be read from such an ID.
    :param outputs: computed properties of a new resource, besides those of the facts that an update gives.
    :param place: where the simulated cloud has it, below which its ID follows; None if it is only recorded.
    :param content: what it is told about it; None if what has the ID is another resource, without which this one is
        gone.
    """

    id_of: Callable[[Values], str]
    inputs_of: Callable[[str], dict[str, str]]
    outputs: Mapping[str, Callable[[str, Account], str]] = field(default_factory=dict)
    place: str | None = None
    content: Callable[[Values], dict[str, Any]] | None = None


def _of_bucket() -> ResourceType:
    return ResourceType(
        id_of=lambda inputs: str(inputs["bucket"]), inputs_of=lambda id_: {"bucket": id_}, place="buckets"
    )


def _attachment(kind: str, *, place: str | None = None) -> ResourceType:
    parts = ("policyName", "policyType", f"{kind}Name")
    return ResourceType(
        id_of=lambda inputs: ":".join([kind, *(inputs[part] for part in parts)]),
        inputs_of=lambda id_: dict(zip(parts, id_.split(":")[1:], strict=False)),
        place=place,
        content=lambda values: {kind: values[f"{kind}Name"], "policy": values["policyName"]},
    )


def _policy_content(values: Values) -> dict[str, Any]:
    return {
        "name": values["policyName"],
        "document": json.loads(values["policyDocument"]),
        "rotates": values.get("rotateStrategy", "None") != "None",
    }


def _digits(_inputs: object = None, _account: object = None) -> str:
    return str(10**17 + secrets.randbelow(9 * 10**17))


def _characters(count: int) -> str:
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(count))


def unique_bucket_name(prefix: str) -> str:
    """As the provider makes one up: the time to the nanosecond, and a counter of its own."""
    seconds, nanoseconds = divmod(time.time_ns(), 10**9)
    return f"{prefix}{time.strftime('%Y%m%d%H%M%S', time.gmtime(seconds))}{nanoseconds:09}{1:08x}"


RESOURCE_TYPES: Mapping[str, ResourceType] = {
    "alicloud:oss/bucket:Bucket": ResourceType(
        id_of=lambda inputs: str(inputs["bucket"]),
        inputs_of=lambda id_: {"bucket": id_},
        outputs={
            "creationDate": lambda *_: time.strftime("%Y-%m-%d", time.gmtime()),
            "extranetEndpoint": lambda _, account: f"oss-{account.region}.aliyuncs.com",
            "intranetEndpoint": lambda _, account: f"oss-{account.region}-internal.aliyuncs.com",
            "location": lambda _, account: f"oss-{account.region}",
            "owner": lambda _, account: account.id,
        },
        place="buckets",
        content=lambda _: {},
    ),
    "alicloud:oss/bucketAcl:BucketAcl": _of_bucket(),
    "alicloud:oss/bucketPublicAccessBlock:BucketPublicAccessBlock": _of_bucket(),
    "alicloud:oss/bucketPolicy:BucketPolicy": _of_bucket(),
    "alicloud:ram/user:User": ResourceType(
        id_of=_digits,
        inputs_of=lambda id_: {"name": f"user-{id_}"},
        place="account/users",
        content=lambda values: {"name": values["name"]},
    ),
    "alicloud:ram/policy:Policy": ResourceType(
        id_of=lambda inputs: str(inputs["policyName"]),
        inputs_of=lambda id_: {"policyName": id_},
        outputs={"type": lambda *_: "Custom"},
        place="account/policies",
        content=_policy_content,
    ),
    "alicloud:ram/accessKey:AccessKey": ResourceType(
        id_of=lambda _: "LTAI" + _characters(20),
        inputs_of=lambda id_: {"userName": f"user-of-{id_}"},
        outputs={"secret": lambda *_: _characters(30)},
        place="account/keys",
        content=lambda values: {"user": values["userName"], "secret": values["secret"]},
    ),
    "alicloud:ram/userPolicyAttachment:UserPolicyAttachment": _attachment("user", place="account/attachments"),
    "alicloud:ram/role:Role": ResourceType(
        id_of=lambda inputs: str(inputs["roleName"]),
        inputs_of=lambda id_: {"roleName": id_},
        outputs={"arn": lambda id_, account: f"acs:ram::{account.id}:role/{id_.lower()}", "roleId": _digits},
        place="account/roles",
        content=lambda values: {"name": values["roleName"]},
    ),
    "alicloud:ram/rolePolicyAttachment:RolePolicyAttachment": _attachment("role"),
    "alicloud:slb/acl:Acl": ResourceType(
        id_of=lambda _: f"acl-{_characters(20).lower()}", inputs_of=lambda id_: {"name": id_}
    ),
    "alicloud:slb/aclEntryAttachment:AclEntryAttachment": ResourceType(
        id_of=lambda inputs: f"{inputs['aclId']}:{inputs['entry']}",
        inputs_of=lambda id_: dict(zip(("aclId", "entry"), id_.split(":"), strict=False)),
    ),
}
