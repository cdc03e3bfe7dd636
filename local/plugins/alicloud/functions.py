"""The functions that are served, with the answers of the official plugin (data_source_alicloud_account.go and
data_source_alicloud_oss_buckets.go in https://github.com/aliyun/terraform-provider-alicloud).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pulumi.provider.experimental.property_value import PropertyValue

GET_ACCOUNT = "alicloud:index/getAccount:getAccount"
GET_BUCKETS = "alicloud:oss/getBuckets:getBuckets"

_FURTHER = ("corsRules", "lifecycleRules")
"""Lists of a bucket that this cloud does not keep."""


def buckets(found: Sequence[Mapping[str, Any]], pattern: str, *, account: str, region: str) -> dict[str, PropertyValue]:
    """The answer of getBuckets: the buckets of `account` whose names `pattern` matches anywhere; all if it is empty.

    :param found: the buckets of all accounts, as ``SimulatedCloud.buckets`` gives them.
    """
    own = [bucket for bucket in found if bucket["owner"] == account and re.search(pattern, bucket["name"])]
    names = [bucket["name"] for bucket in own]
    answer: dict[str, Any] = {
        "id": hashlib.sha256("\n".join(names).encode()).hexdigest()[:10],
        "names": [PropertyValue(name) for name in names],
        "buckets": [PropertyValue(_bucket(bucket, region)) for bucket in own],
    }
    if pattern:
        answer["nameRegex"] = pattern
    return {name: PropertyValue(value) for name, value in answer.items()}


def _bucket(bucket: Mapping[str, Any], region: str) -> dict[str, PropertyValue]:
    texts = {
        "name": bucket["name"],
        "acl": "private",
        "creationDate": f"{datetime.fromtimestamp(bucket['created'], UTC):%Y-%m-%d}",
        "extranetEndpoint": f"oss-{region}.aliyuncs.com",
        "intranetEndpoint": f"oss-{region}-internal.aliyuncs.com",
        "location": f"oss-{region}",
        "owner": bucket["owner"],
        "policy": "",
        "redundancyType": "LRS",
        "storageClass": "Standard",
    }
    lists = {name: PropertyValue(()) for name in _FURTHER}
    return {name: PropertyValue(text) for name, text in texts.items()} | lists | {"tags": PropertyValue({})}
