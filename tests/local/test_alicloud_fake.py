"""The fake alicloud plugin: it previews any stack, and can never be taken for the cloud. What it makes in the simulated
cloud is used here by the official OSS SDK."""

import asyncio
import json
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import alibabacloud_oss_v2 as oss
import pytest
from pulumi.provider.experimental import provider as api
from pulumi.provider.experimental.property_value import PropertyValue

from local.oss.account import MOST_KEYS, MOST_VERSIONS
from local.oss.server import OssServer
from local.plugins.alicloud.extract import arguments
from local.plugins.alicloud.facts import FACTS
from local.plugins.alicloud.provider import FakeAlicloud, is_loopback, plain
from local.plugins.alicloud.resources import RESOURCE_TYPES
from local.plugins.alicloud.simulated_cloud import PluginFakeError
from local.ports import held_port

PARENT = "urn:pulumi:dev::deepseek::deepseek:storage:ModelBucket$"
BUCKET = f"{PARENT}alicloud:oss/bucket:Bucket::deepseek-dev-models"
ACL = f"{PARENT}alicloud:oss/bucketAcl:BucketAcl::acl"
KEY = f"{PARENT}alicloud:ram/accessKey:AccessKey::reader-key"
USER = f"{PARENT}alicloud:ram/user:User::reader"
POLICY = f"{PARENT}alicloud:ram/policy:Policy::reader"
ROLE = f"{PARENT}alicloud:ram/role:Role::reader"
CLIENTS = f"{PARENT}alicloud:slb/acl:Acl::clients"
ATTACHMENT = f"{PARENT}alicloud:ram/userPolicyAttachment:UserPolicyAttachment::reader"


def values(**given: Any) -> dict[str, PropertyValue]:
    return {name: PropertyValue(value) for name, value in given.items()}


def fake(endpoints: str | None = None) -> FakeAlicloud:
    found = FakeAlicloud()
    config = values(region="cn-hangzhou", **({"endpoints": endpoints} if endpoints else {}))
    asyncio.run(found.configure(api.ConfigureRequest({}, config, True, True)))
    return found


def property_of(value: Any) -> PropertyValue:
    if isinstance(value, dict):
        return PropertyValue({name: property_of(item) for name, item in value.items()})
    return PropertyValue([property_of(item) for item in value] if isinstance(value, list) else value)


def check(urn: str, old: dict[str, PropertyValue] | None = None, **given: Any) -> api.CheckResponse:
    inputs = {name: property_of(value) for name, value in given.items()}
    return asyncio.run(fake().check(api.CheckRequest(urn, old or {}, inputs, b"seed")))


def refusals(urn: str, **given: Any) -> list[tuple[str, str]]:
    """Path and reason, without the path at its end."""
    failures = check(urn, **given).failures or []
    assert all(f"Examine values at '{urn.rsplit('::', 1)[1]}.{f.property}'." in f.reason for f in failures)
    return [(f.property, f.reason.partition(". Examine")[0]) for f in failures]


def endpoints_of(url: str) -> str:
    return json.dumps([{"oss": url, "ram": url}])


def create(urn: str, *, endpoints: str | None, preview: bool = False, **given: Any) -> api.CreateResponse:
    return asyncio.run(fake(endpoints).create(api.CreateRequest(urn, values(**given), 0, preview)))


def invoke(provider: FakeAlicloud, token: str, **given: Any) -> dict[str, Any]:
    answer = asyncio.run(provider.invoke(api.InvokeRequest(token, values(**given)))).return_value
    assert answer is not None
    return {name: plain(value) for name, value in answer.items()}


@pytest.mark.parametrize("urn", [USER, CLIENTS])
def test_users_and_access_control_lists_get_a_name_once(urn: str) -> None:
    first = check(urn).inputs
    assert first is not None
    name = plain(first["name"])
    assert re.fullmatch(r"(reader|clients)-[0-9a-f]{7}", str(name))
    again = check(urn, first).inputs
    assert again is not None
    assert plain(again["name"]) == name


@pytest.mark.parametrize("urn", [BUCKET, POLICY, ROLE])
def test_nothing_else_gets_a_name_in_the_plugin(urn: str) -> None:
    assert not {"name", "bucket", "policyName", "roleName"} & (check(urn).inputs or {}).keys()


@pytest.mark.parametrize(
    ("urn", "given", "refused"),
    [
        (BUCKET, {"bucket": "My_Bucket"}, ("bucket", "'My_Bucket' does not match [a-z0-9][a-z0-9-]+[a-z0-9]")),
        (BUCKET, {"bucket": 64 * "b"}, ("bucket", "longer than 63 characters")),
        (BUCKET, {"colour": "blue"}, ("colour", "there is no argument 'colour', only accessMonitor, acl, bucket")),
        (BUCKET, {"forceDestroy": "yes"}, ("forceDestroy", "expected boolean, got str")),
        (BUCKET, {"tags": {"a": 1.0}}, ("tags.a", "expected string, got float")),
        (BUCKET, {"lifecycleRules": [{"prefix": ""}]}, ("lifecycleRules[0].enabled", "missing required argument")),
        (
            BUCKET,
            {"lifecycleRules": [{"enabled": True, "abortMultipartUploads": [{"days": 1.5}]}]},
            ("lifecycleRules[0].abortMultipartUploads[0].days", "expected integer, got float"),
        ),
        (BUCKET, {"lifecycleRules": {"enabled": True}}, ("lifecycleRules", "expected [BucketLifecycleRule], got dict")),
        (BUCKET, {"acl": "private"}, ("acl", "deprecated, and not served")),
        (BUCKET, {"storageClass": "Cold"}, ("storageClass", "expected one of Standard, IA, Archive")),
        (ACL, {"acl": "private"}, ("bucket", "missing required argument 'bucket'")),
        (POLICY, {"policyName": "a", "name": "b"}, ("name", "conflicts with policyName")),
        (POLICY, {"policyName": "a_b"}, ("policyName", "'a_b' does not match [A-Za-z0-9-]+")),
        (POLICY, {"policyDocument": "{"}, ("policyDocument", "contains an invalid JSON: ")),
        (POLICY, {"rotateStrategy": "Oldest"}, ("rotateStrategy", "expected one of None, DeleteOldest")),
        (USER, {"name": "-a"}, ("name", "'-a' does not match ")),
        (USER, {"name": 65 * "a"}, ("name", "longer than 64 characters")),
    ],
)
def test_what_the_plugin_refuses(urn: str, given: dict[str, Any], refused: tuple[str, str]) -> None:
    path, reason = refusals(urn, **given)[0]
    assert path == refused[0]
    assert reason.startswith(refused[1])


def test_facts_have_the_arguments_of_the_sdk() -> None:
    """Which is generated from the provider's schema; ``python -m local.plugins.alicloud.extract`` prints the tables."""
    assert FACTS.arguments == arguments(FACTS.resources)
    assert FACTS.resources.keys() == RESOURCE_TYPES.keys()
    assert FACTS.limits == {"policy_versions": MOST_VERSIONS, "access_keys": MOST_KEYS}
    for token, facts in FACTS.resources.items():
        known = FACTS.arguments[token].types.keys()
        assert {*facts.replaces, *facts.values, *facts.longest, *facts.pattern, *facts.documents} <= known, token
        assert {name for group in facts.conflicts for name in group} <= known, token
        assert facts.name is None or facts.name in known, token


@pytest.mark.parametrize(
    ("endpoints", "found"), [(None, "no endpoints.oss"), ('[{"oss": "https://oss.example"}]', "is 'h")]
)
def test_nothing_is_created_but_on_this_machine(endpoints: str | None, found: str) -> None:
    with pytest.raises(PluginFakeError, match="it can preview this stack, not deploy it") as caught:
        create(BUCKET, endpoints=endpoints, bucket="b-1")
    assert found in str(caught.value)
    assert "pulumi plugin install resource alicloud v4.0.0" in str(caught.value)


def test_any_stack_can_be_previewed() -> None:
    assert create(BUCKET, endpoints=None, preview=True, bucket="b-1").resource_id == ""


def test_access_control_list_is_only_recorded() -> None:
    parent = "urn:pulumi:dev::deepseek::deepseek:access:Access$"
    here = json.dumps([{"slb": "http://127.0.0.1:9"}])
    made = str(create(f"{parent}alicloud:slb/acl:Acl::clients", endpoints=here, name="clients").resource_id)
    assert made.startswith("acl-")
    entry = f"{parent}alicloud:slb/aclEntryAttachment:AclEntryAttachment::client"
    assert create(entry, endpoints=here, aclId=made, entry="10.0.0.0/8").resource_id == f"{made}:10.0.0.0/8"
    before, after = values(aclId=made, entry="10.0.0.0/8"), values(aclId=made, entry="10.1.0.0/16")
    changed = api.DiffRequest(entry, "x", before, after, [])
    assert asyncio.run(fake().diff(changed)).replaces == ["entry"]


def test_another_bucket_name_replaces_the_bucket() -> None:
    request = api.DiffRequest(BUCKET, "a-1", values(bucket="a-1"), values(bucket="b-1"), [])
    diff = asyncio.run(fake().diff(request))
    assert diff.replaces == ["bucket"]
    assert not diff.delete_before_replace
    same = api.DiffRequest(BUCKET, "a-1", values(bucket="a-1"), values(bucket="a-1"), [])
    assert not asyncio.run(fake().diff(same)).changes


def test_documents_that_mean_the_same_are_no_change() -> None:
    before, after = values(policyDocument='{"a": 1, "b": 2}'), values(policyDocument='{"b":2,"a":1}')
    state = before | values(policyName="p", type="Custom", versionId="v1", defaultVersion="v1")
    diff = asyncio.run(fake().diff(api.DiffRequest(POLICY, "p", state, after | values(policyName="p"), [])))
    assert not diff.changes


@pytest.mark.parametrize(("name", "first"), [("b-1", False), ("reader", True)])
def test_only_names_that_the_plugin_could_make_up_are_given_back_before_a_replacement(name: str, first: bool) -> None:
    urn, kept, changed = (CLIENTS, "name", "ipVersion") if first else (BUCKET, "bucket", "storageClass")
    old, new = values(**{kept: name, changed: "a"}), values(**{kept: name, changed: "b"})
    diff = asyncio.run(fake().diff(api.DiffRequest(urn, name, old, new, [])))
    assert (diff.replaces, diff.delete_before_replace) == ([changed], first)


def test_what_is_not_served() -> None:
    with pytest.raises(PluginFakeError, match="does not serve the resource type alicloud:ecs/instance:Instance, only"):
        check(f"{PARENT}alicloud:ecs/instance:Instance::x")
    with pytest.raises(PluginFakeError, match="does not serve the function alicloud:ram/getUsers:getUsers, only"):
        invoke(fake(), "alicloud:ram/getUsers:getUsers")


def test_account_is_the_providers() -> None:
    assert invoke(fake(), "alicloud:index/getAccount:getAccount") == {"id": "1000000000000000"}


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


class Account:
    """A provider whose cloud is ``server``, and clients with the keys that it makes."""

    def __init__(self, server: OssServer) -> None:
        self.server = server
        self.endpoints = endpoints_of(server.url)
        self.provider = fake(self.endpoints)

    def create(self, urn: str, **given: Any) -> api.CreateResponse:
        return create(urn, endpoints=self.endpoints, **given)

    def update(self, urn: str, resource: api.CreateResponse, **changes: Any) -> dict[str, PropertyValue]:
        new = {
            name: value for name, value in resource.properties.items() if name not in ("defaultVersion", "versionId")
        }
        new |= values(**changes)
        request = api.UpdateRequest(urn, resource.resource_id or "", resource.properties, new, 0, [], False)
        return asyncio.run(self.provider.update(request)).properties or {}

    def delete(self, urn: str, resource: api.CreateResponse, **changes: Any) -> None:
        request = api.DeleteRequest(urn, resource.resource_id or "", resource.properties | values(**changes), 0)
        asyncio.run(self.provider.delete(request))

    def exists(self, urn: str, resource: api.CreateResponse) -> bool:
        found = asyncio.run(
            self.provider.read(api.ReadRequest(urn, resource.resource_id or "", resource.properties, {}))
        )
        return bool(found.resource_id)

    def user(self, name: str, *actions: str) -> tuple[oss.Client, dict[str, api.CreateResponse]]:
        made = {
            USER: self.create(USER, name=name),
            POLICY: self.create(POLICY, policyName=f"{name}-policy", policyDocument=document(*actions)),
        }
        attachment = {"userName": name, "policyName": f"{name}-policy", "policyType": "Custom"}
        made[ATTACHMENT] = self.create(ATTACHMENT, **attachment)
        made[KEY] = self.create(KEY, userName=name)
        return self.client(made[KEY]), made

    def client(self, key: api.CreateResponse) -> oss.Client:
        settings = oss.config.load_default()
        secret = str(plain(key.properties["secret"]))
        settings.credentials_provider = oss.credentials.StaticCredentialsProvider(key.resource_id, secret)
        settings.region, settings.endpoint, settings.retry_max_attempts = "cn-hangzhou", self.server.url, 1
        return oss.Client(settings)


def document(*actions: str) -> str:
    resources = ["acs:oss:*:*:b-1", "acs:oss:*:*:b-1/models/*"]
    return json.dumps({"Version": "1", "Statement": [{"Effect": "Allow", "Action": actions, "Resource": resources}]})


def put(client: oss.Client, key: str = "models/x") -> str:
    """OK, or the error's code."""
    try:
        client.put_object(oss.PutObjectRequest(bucket="b-1", key=key, body=b"x"))
    except oss.exceptions.OperationError as error:
        return str(error.unwrap().code)
    return "OK"


def put_bucket(server: OssServer, name: str, *, owner: str) -> None:
    content = json.dumps({"owner": owner}).encode()
    with urlopen(Request(f"{server.url}/-/buckets/{name}", method="PUT", data=content)):
        pass


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Account]:
    with OssServer(data=tmp_path / "oss") as server:
        yield Account(server)


@pytest.mark.integration
class TestSimulatedCloud:
    def test_bucket_and_its_parts(self, account: Account) -> None:
        bucket = account.create(BUCKET, bucket="b-1")
        assert bucket.resource_id == "b-1"
        assert plain(bucket.properties["intranetEndpoint"]) == "oss-cn-hangzhou-internal.aliyuncs.com"
        acl = account.create(ACL, bucket="b-1", acl="private")
        assert account.exists(BUCKET, bucket)
        assert account.exists(ACL, acl)
        account.update(BUCKET, bucket, lifecycleRuleAllowSameActionOverlap=True)
        account.delete(ACL, acl)
        assert account.exists(BUCKET, bucket), "an ACL has no bucket to delete"
        account.delete(BUCKET, bucket)
        assert not account.exists(BUCKET, bucket)
        assert not account.exists(ACL, acl)
        account.delete(BUCKET, bucket)

    def test_bucket_of_another_account_is_not_taken_over(self, account: Account) -> None:
        account.create(BUCKET, bucket="b-1")
        with pytest.raises(PluginFakeError, match=r"\[ERROR\] The specified bucket name: \"b-1\" is not available"):
            account.create(BUCKET, bucket="b-1")

    def test_bucket_without_a_name_gets_one_of_the_time(self, account: Account) -> None:
        bucket = account.create(BUCKET)
        assert re.fullmatch(r"tf-oss-bucket-\d{23}[0-9a-f]{8}", bucket.resource_id or "")
        assert plain(bucket.properties["bucket"]) == bucket.resource_id
        diff = api.DiffRequest(BUCKET, bucket.resource_id or "", bucket.properties, {}, [])
        assert not asyncio.run(account.provider.diff(diff)).changes

    @pytest.mark.parametrize(
        ("urn", "text"),
        [
            (
                POLICY,
                "alicloud_ram_policy CreatePolicy Failed!!! [SDK alibaba-cloud-sdk-go ERROR]: ErrorCode: MissingPo",
            ),
            (ROLE, "CreateRole Failed!!! [SDK alibaba-cloud-sdk-go ERROR]: ErrorCode: MissingRoleName"),
        ],
    )
    def test_what_has_no_name_is_refused_by_the_cloud(self, account: Account, urn: str, text: str) -> None:
        assert account.create(urn, preview=True).resource_id == "", "a preview does not ask the cloud"
        with pytest.raises(PluginFakeError, match=re.escape(text)):
            account.create(urn)

    def test_sixth_version_of_a_policy_needs_rotation(self, account: Account) -> None:
        _, made = account.user("writer", "oss:*")
        policy = made[POLICY]
        assert plain(policy.properties["versionId"]) == "v1"
        for number in range(2, 6):
            account.update(POLICY, policy, policyDocument=document(f"oss:Get{number}"))
        account.update(POLICY, policy, description="no document", policyDocument=document("oss:Get5"))
        with pytest.raises(
            PluginFakeError,
            match=r"writer-policy CreatePolicyVersion Failed!!! .*LimitExceeded\.Policy\.Version .*beyond the limit 5",
        ):
            account.update(POLICY, policy, policyDocument=document("oss:Get6"))
        rotate = "DeleteOldestNonDefaultVersionWhenLimitExceeded"
        for number in range(6, 12):
            state = account.update(POLICY, policy, policyDocument=document(f"oss:Get{number}"), rotateStrategy=rotate)
            assert plain(state["versionId"]) == f"v{number}"

    def test_names_of_users_policies_and_roles_are_unique(self, account: Account) -> None:
        account.user("writer", "oss:*")
        for urn, given, code in (
            (USER, {"name": "writer"}, "EntityAlreadyExists.User"),
            (POLICY, {"policyName": "writer-policy", "policyDocument": document("oss:*")}, "EntityAlreadyExists"),
        ):
            with pytest.raises(PluginFakeError, match=rf"Failed!!! .*ErrorCode: {code}"):
                account.create(urn, **given)
        account.create(ROLE, roleName="r", assumeRolePolicyDocument="{}")
        with pytest.raises(PluginFakeError, match=r"alicloud_ram_role CreateRole Failed!!! .*EntityAlreadyExists"):
            account.create(ROLE, roleName="r", assumeRolePolicyDocument="{}")

    def test_attached_policy_is_not_deleted(self, account: Account) -> None:
        _, made = account.user("writer", "oss:*")
        with pytest.raises(PluginFakeError, match=r"DeletePolicy Failed!!! .*DeleteConflict\.Policy\.User"):
            account.delete(POLICY, made[POLICY])
        account.delete(ATTACHMENT, made[ATTACHMENT])
        account.delete(POLICY, made[POLICY])

    def test_bucket_of_another_account_has_its_name_and_is_not_to_be_seen(self, account: Account) -> None:
        put_bucket(account.server, "b-1", owner="2000000000000000")
        with pytest.raises(PluginFakeError, match=r"alicloud_oss_bucket CreateBucket Failed!!! .*BucketAlreadyExists"):
            account.create(BUCKET, bucket="b-1")
        with pytest.raises(PluginFakeError, match=r"b-1 Read Failed!!! .*AccessDenied"):
            account.exists(BUCKET, api.CreateResponse("b-1", {}))

    def test_bucket_with_objects_is_deleted_only_by_force(self, account: Account) -> None:
        bucket = account.create(BUCKET, bucket="b-1")
        client, _ = account.user("writer", "oss:*")
        assert put(client) == "OK"
        with pytest.raises(PluginFakeError, match=r"b-1 DeleteBucket Failed!!! .*BucketNotEmpty"):
            account.delete(BUCKET, bucket)
        assert account.exists(BUCKET, bucket)
        begun = client.initiate_multipart_upload(oss.InitiateMultipartUploadRequest(bucket="b-1", key="models/y"))
        with pytest.raises(PluginFakeError, match="BucketNotEmpty"):
            account.delete(BUCKET, bucket, forceDestroy=True)  # the provider ends no uploads
        abort = oss.AbortMultipartUploadRequest(bucket="b-1", key="models/y", upload_id=begun.upload_id)
        client.abort_multipart_upload(abort)
        account.delete(BUCKET, bucket, forceDestroy=True)
        assert not account.exists(BUCKET, bucket)

    def test_key_may_do_what_its_users_policies_say(self, account: Account) -> None:
        account.create(BUCKET, bucket="b-1")
        client, made = account.user("writer", "oss:PutObject")
        assert made[KEY].properties["secret"].is_secret
        assert put(client) == "OK"
        assert put(client, "elsewhere/x") == "AccessDenied"
        account.update(POLICY, made[POLICY], policyDocument=document("oss:GetObject"))
        assert put(client) == "AccessDenied"
        account.update(POLICY, made[POLICY], policyDocument=document("oss:*"))
        account.delete(ATTACHMENT, made[ATTACHMENT])
        assert put(client) == "AccessDenied"
        account.delete(KEY, made[KEY])
        assert put(client) == "InvalidAccessKeyId"

    def test_users_do_not_share_rights(self, account: Account) -> None:
        account.create(BUCKET, bucket="b-1")
        writer, _ = account.user("writer", "oss:PutObject")
        reader, _ = account.user("reader", "oss:GetObject")
        assert put(reader) == "AccessDenied"
        assert put(writer) == "OK"

    def test_user_with_keys_is_deleted_only_by_force_and_they_go_too(self, account: Account) -> None:
        account.create(BUCKET, bucket="b-1")
        client, made = account.user("writer", "oss:PutObject")
        second = account.create(KEY, userName="writer")
        with pytest.raises(PluginFakeError, match="You can force the deletion of the user"):
            account.delete(USER, made[USER])
        assert put(client) == "OK"
        account.delete(USER, made[USER], force=True)
        assert [account.exists(KEY, key) for key in (made[KEY], second)] == [False, False]
        assert not account.exists(ATTACHMENT, made[ATTACHMENT])
        assert put(client) == "InvalidAccessKeyId"

    def test_user_with_a_policy_is_deleted_only_by_force(self, account: Account) -> None:
        _, made = account.user("writer", "oss:PutObject")
        account.delete(KEY, made[KEY])
        with pytest.raises(PluginFakeError, match="You can force the deletion of the user"):
            account.delete(USER, made[USER])
        account.delete(ATTACHMENT, made[ATTACHMENT])
        account.delete(USER, made[USER])

    def test_user_has_two_keys_at_most(self, account: Account) -> None:
        _, made = account.user("writer", "oss:PutObject")
        account.create(KEY, userName="writer")
        with pytest.raises(PluginFakeError, match=r"LimitExceeded\.User\.AccessKey .*writer has 2 keys"):
            account.create(KEY, userName="writer")
        account.delete(KEY, made[KEY])
        account.create(KEY, userName="writer")

    def test_policies_may_come_after_the_key(self, account: Account) -> None:
        account.create(BUCKET, bucket="b-1")
        account.create(USER, name="late")
        client = account.client(account.create(KEY, userName="late"))
        assert put(client) == "AccessDenied"
        account.create(POLICY, policyName="late-policy", policyDocument=document("oss:PutObject"))
        account.create(ATTACHMENT, userName="late", policyName="late-policy", policyType="Custom")
        assert put(client) == "OK"

    def test_what_was_deleted_behind_its_back_is_gone(self, account: Account) -> None:
        _, made = account.user("writer", "oss:PutObject")
        assert all(account.exists(urn, resource) for urn, resource in made.items())
        with OssServer(data=None) as empty:
            other = Account(empty)
            assert not any(other.exists(urn, resource) for urn, resource in made.items())

    def test_all_of_it_survives_a_restart(self, tmp_path: Path) -> None:
        with OssServer(data=tmp_path) as server:
            account = Account(server)
            account.create(BUCKET, bucket="b-1")
            _, made = account.user("writer", "oss:PutObject")
        assert stat.S_IMODE((tmp_path / "account.json").stat().st_mode) == 0o600
        with OssServer(data=tmp_path) as server:
            after = Account(server)
            client = after.client(made[KEY])
            assert put(client) == "OK"
            after.delete(ATTACHMENT, made[ATTACHMENT])
            assert put(client) == "AccessDenied"

    @pytest.mark.parametrize(
        ("urn", "given", "message"),
        [
            (KEY, {"userName": "ghost"}, "EntityNotExist.User Message: There is no user ghost"),
            (
                ATTACHMENT,
                {"userName": "u", "policyName": "AliyunOSSFullAccess", "policyType": "System"},
                "EntityNotExist.Policy Message: There is no policy AliyunOSSFullAccess here",
            ),
            (POLICY, {"policyName": "p", "policyDocument": document("oss:*")}, "EntityAlreadyExists Message: p exists"),
            (
                POLICY,
                {
                    "policyName": "q",
                    "policyDocument": '{"Version": "1", "Statement": [{"Condition": {"IpAddress": {}}}]}',
                },
                "Condition.IpAddress: Extra inputs are not permitted",
            ),
        ],
    )
    def test_refusals(self, account: Account, urn: str, given: dict[str, str], message: str) -> None:
        account.create(USER, name="u")
        account.create(POLICY, policyName="p", policyDocument=document("oss:*"))
        with pytest.raises(PluginFakeError) as caught:
            account.create(urn, **given)
        assert message in str(caught.value)

    def test_roles_are_only_recorded(self, account: Account) -> None:
        role = f"{PARENT}alicloud:ram/role:Role::r"
        made = account.create(role, roleName="r", assumeRolePolicyDocument="{}")
        account.update(role, made, description="changed")
        assert account.exists(role, made)
        account.delete(role, made)


def test_missing_server_is_explained() -> None:
    with held_port() as port:
        address = f"127.0.0.1:{port}"
        with pytest.raises(PluginFakeError) as caught:
            create(BUCKET, endpoints=endpoints_of(address), bucket="b-1")
        assert str(caught.value) == f"the simulated cloud at http://{address} does not answer; make up starts it"
        assert create(BUCKET, endpoints=endpoints_of(address), preview=True, bucket="b-1").resource_id == ""
