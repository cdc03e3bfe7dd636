"""The alicloud stand-in: it previews any stack, and can never be taken for the cloud."""

import asyncio
import json
from typing import Any

import pytest
from pulumi.provider.experimental import provider as api
from pulumi.provider.experimental.property_value import PropertyValue

from local.plugins.alicloud.provider import AlicloudStandIn, StandInError, is_loopback, plain

PARENT = "urn:pulumi:dev::deepseek::deepseek:storage:ModelBucket$"
BUCKET = f"{PARENT}alicloud:oss/bucket:Bucket::deepseek-dev-models"
ACL = f"{PARENT}alicloud:oss/bucketAcl:BucketAcl::acl"
KEY = f"{PARENT}alicloud:ram/accessKey:AccessKey::reader-key"
LOCAL = json.dumps([{"oss": "http://127.0.0.1:9000", "ram": "http://127.0.0.1:9000"}])


def values(**given: Any) -> dict[str, PropertyValue]:
    return {name: PropertyValue(value) for name, value in given.items()}


def stand_in(endpoints: str | None = None) -> AlicloudStandIn:
    found = AlicloudStandIn()
    config = values(region="cn-hangzhou", **({"endpoints": endpoints} if endpoints else {}))
    asyncio.run(found.configure(api.ConfigureRequest({}, config, True, True)))
    return found


def check(urn: str, old: dict[str, PropertyValue] | None = None, **given: Any) -> api.CheckResponse:
    return asyncio.run(stand_in().check(api.CheckRequest(urn, old or {}, values(**given), b"seed")))


def create(urn: str, *, endpoints: str | None, preview: bool = False, **given: Any) -> api.CreateResponse:
    return asyncio.run(stand_in(endpoints).create(api.CreateRequest(urn, values(**given), 0, preview)))


def test_bucket_name_is_made_up_once() -> None:
    first = check(BUCKET).inputs
    assert first is not None
    name = plain(first["bucket"])
    assert isinstance(name, str)
    assert name.startswith("deepseek-dev-models-")
    again = check(BUCKET, first).inputs
    assert again is not None
    assert plain(again["bucket"]) == name


def test_bucket_names_follow_the_rule_of_oss() -> None:
    (failure,) = check(BUCKET, bucket="My_Bucket").failures or []
    assert failure.property == "bucket"
    assert "3 to 63 lower-case letters" in failure.reason


def test_missing_properties_are_named() -> None:
    failures = check(ACL, acl="private").failures or []
    assert [(f.property, f.reason) for f in failures] == [("bucket", "missing required property 'bucket'")]


@pytest.mark.parametrize(
    ("endpoints", "found"), [(None, "no endpoints.oss"), ('[{"oss": "https://oss.example"}]', "is 'h")]
)
def test_nothing_is_created_but_on_this_machine(endpoints: str | None, found: str) -> None:
    with pytest.raises(StandInError, match="it can preview this stack, not deploy it") as caught:
        create(BUCKET, endpoints=endpoints, bucket="b-1")
    assert found in str(caught.value)
    assert "pulumi plugin install resource alicloud v4.0.0" in str(caught.value)


def test_any_stack_can_be_previewed() -> None:
    assert create(BUCKET, endpoints=None, preview=True, bucket="b-1").resource_id == ""


def test_simulated_bucket_and_key() -> None:
    bucket = create(BUCKET, endpoints=LOCAL, bucket="b-1")
    assert bucket.resource_id == "b-1"
    assert plain(bucket.properties["intranetEndpoint"]) == "oss-cn-hangzhou-internal.aliyuncs.com"
    key = create(KEY, endpoints=LOCAL, userName="reader")
    assert key.properties["secret"].is_secret
    assert key.resource_id != create(KEY, endpoints=LOCAL, userName="reader").resource_id


def test_another_bucket_name_replaces_the_bucket() -> None:
    request = api.DiffRequest(BUCKET, "a-1", values(bucket="a-1"), values(bucket="b-1"), [])
    diff = asyncio.run(stand_in().diff(request))
    assert diff.replaces == ["bucket"]
    assert not diff.delete_before_replace
    same = api.DiffRequest(BUCKET, "a-1", values(bucket="a-1"), values(bucket="a-1"), [])
    assert not asyncio.run(stand_in().diff(same)).changes


def test_what_is_not_served() -> None:
    with pytest.raises(StandInError, match="does not serve the resource type alicloud:ecs/instance:Instance, only"):
        check(f"{PARENT}alicloud:ecs/instance:Instance::x")
    with pytest.raises(StandInError, match="does not serve the function alicloud:oss/getBuckets:getBuckets"):
        asyncio.run(stand_in().invoke(api.InvokeRequest("alicloud:oss/getBuckets:getBuckets", {})))


@pytest.mark.parametrize(
    ("endpoint", "loopback"),
    [
        ("http://127.0.0.1:1", True),
        ("localhost:9", True),
        ("http://[::1]:1", True),
        ("oss.example", False),
        ("", False),
    ],
)
def test_loopback(endpoint: str, loopback: bool) -> None:
    assert is_loopback(endpoint) is loopback
