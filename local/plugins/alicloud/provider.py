"""The provider: the life of a resource as Pulumi asks for it, by what ``facts.toml`` says of its type."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import json
import os
from collections.abc import Awaitable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pulumi.provider.experimental import provider as api
from pulumi.provider.experimental.property_value import PropertyValue
from pulumi.runtime import rpc

from local.plugins.alicloud.facts import FACTS, ResourceFacts
from local.plugins.alicloud.resources import RESOURCE_TYPES, Account, ResourceType, unique_bucket_name
from local.plugins.alicloud.simulated_cloud import PluginFakeError, RefusedError, SimulatedCloud

VERSION = "4.0.0"
INSTALL_OFFICIAL = f"Install the official plugin: pulumi plugin install resource alicloud v{VERSION}"
ACCOUNT_ID = "1" + 15 * "0"
"""The account of a provider that names none."""
GET_ACCOUNT = "alicloud:index/getAccount:getAccount"
"""https://www.pulumi.com/registry/packages/alicloud/api-docs/getaccount/"""
FORCE = ("forceDestroy", "force")
"""Of a bucket, and of a RAM user: delete it with what it has."""
SDK_ERRORS = {"oss": "[SDK aliyun-oss-go-sdk ERROR]"}
OTHER_SDK_ERROR = "[SDK alibaba-cloud-sdk-go ERROR]"
NAME_TAKEN = (
    "[ERROR] The specified bucket name: {name} is not available. The bucket namespace is shared by all users of the "
    "OSS system. Please select a different name and try again."
)
USER_IN_USE = (
    "The user can not be deleted if he has any access keys, login profile, groups, policies, or MFA device attached. "
    "You can force the deletion of the user by setting force equals true."
)
"""Texts of the provider (resource_alicloud_oss_bucket.go and resource_alicloud_ram_user.go in
https://github.com/aliyun/terraform-provider-alicloud)."""
DEFAULTS = "__defaults"
"""The names of inputs that Check made up, kept among the inputs as Terraform-bridged providers do."""

Properties = dict[str, PropertyValue]
Answer = TypeVar("Answer")


class FakeAlicloud(api.Provider):
    """Alibaba Cloud's provider without the cloud.

    Check, Diff and previews are served for every stack. Whatever says what the cloud holds, or changes it, is
    refused unless the provider's endpoint of the service in question is a loopback address. Buckets, RAM users and
    what belongs to them are made in the simulated cloud that is there; all else is only recorded.
    """

    def __init__(self) -> None:
        self._account = Account(id=ACCOUNT_ID, region="")
        self._endpoints: dict[str, str] = {}

    async def check_config(self, request: api.CheckRequest) -> api.CheckResponse:
        failures = []
        if not _region(request.new_inputs):
            failures.append(api.CheckFailure("region", "required: set it on the provider, or set ALICLOUD_REGION"))
        return api.CheckResponse(inputs=request.new_inputs, failures=failures)

    async def configure(self, request: api.ConfigureRequest) -> api.ConfigureResponse:
        self._account = Account(id=_text(request.args.get("accountId")) or ACCOUNT_ID, region=_region(request.args))
        self._endpoints = _endpoints(_text(request.args.get("endpoints")))
        return api.ConfigureResponse(accept_secrets=True, supports_preview=True)

    async def check(self, request: api.CheckRequest) -> api.CheckResponse:
        token, facts, _ = _served(request.type)
        inputs = {name: value for name, value in request.new_inputs.items() if name != DEFAULTS}
        if facts.auto_named and facts.auto_named not in inputs:
            inputs[facts.auto_named] = _auto_name(facts.auto_named, request)
            inputs[DEFAULTS] = PropertyValue([PropertyValue(facts.auto_named)])
        given = {name: plain(value) for name, value in inputs.items() if name != DEFAULTS}
        problems = FACTS.problems(token, given)
        problems += [
            (name, "deprecated, and not served by this fake of the plugin")
            for name in FACTS.arguments[token].deprecated
            if name in given
        ]
        failures = [
            api.CheckFailure(path, f"{problem}. Examine values at '{request.name}.{path}'.")
            for path, problem in problems
        ]
        return api.CheckResponse(inputs=inputs, failures=failures)

    async def diff(self, request: api.DiffRequest) -> api.DiffResponse:
        _, facts, _ = _served(request.type)
        computed = _computed(facts, request.new_inputs)
        old = {name: value for name, value in request.old_state.items() if name not in computed}
        new = request.new_inputs
        changed = sorted(
            name
            for name in (old.keys() | new.keys()) - {DEFAULTS}
            if _meaning(facts, name, old) != _meaning(facts, name, new)
        )
        replaces = [name for name in changed if name in facts.replaces]
        return api.DiffResponse(
            changes=bool(changed),
            replaces=replaces,
            delete_before_replace=bool(replaces) and _is_taken(facts, changed, new),
            diffs=changed,
            detailed_diff={name: _property_diff(name, old, new, name in replaces) for name in changed},
        )

    async def create(self, request: api.CreateRequest) -> api.CreateResponse:
        _, facts, kind = _served(request.type)
        if request.preview:
            outputs = dict.fromkeys(_computed(facts, request.properties), PropertyValue(rpc.UNKNOWN))
            return api.CreateResponse("", outputs | request.properties)
        cloud = self._simulation(facts, f"create {request.urn}")
        inputs = request.properties
        if (nameless := facts.nameless) and nameless["argument"] not in inputs:
            raise PluginFakeError(_failed(facts, facts.terraform, "create", RefusedError(nameless["code"], "")))
        if (named := facts.named_by_cloud) and named["argument"] not in inputs:
            inputs = inputs | {named["argument"]: PropertyValue(unique_bucket_name(named["prefix"]))}
        resource_id = kind.id_of(_plain_values(inputs))
        state = inputs | self._outputs(facts, kind, resource_id)
        if kind.content is not None and kind.place is not None:
            place, content = f"{kind.place}/{resource_id}", kind.content(_plain_values(state))
            try:
                await asyncio.to_thread(cloud.create, place, content)
            except RefusedError as error:
                if error.code == "BucketAlreadyExists" and await asyncio.to_thread(_is_own, cloud, place):
                    raise PluginFakeError(NAME_TAKEN.format(name=json.dumps(resource_id))) from None
                raise PluginFakeError(_failed(facts, facts.terraform, "create", error)) from None
            state |= await asyncio.to_thread(_versions, cloud, place, facts)
        return api.CreateResponse(resource_id, state)

    async def update(self, request: api.UpdateRequest) -> api.UpdateResponse:
        _, facts, kind = _served(request.type)
        kept = {name: request.olds[name] for name in _computed(facts, request.news) if name in request.olds}
        state = {name: _marked(facts, name, value) for name, value in kept.items()} | request.news
        if not request.preview:
            cloud = self._simulation(facts, f"update {request.urn}")
            if kind.content is not None and kind.place is not None:
                place = f"{kind.place}/{request.resource_id}"
                action = asyncio.to_thread(cloud.replace, place, kind.content(_plain_values(state)))
                await _asked(facts, request.resource_id, "update", action)
                state |= await asyncio.to_thread(_versions, cloud, place, facts)
        return api.UpdateResponse(state)

    async def read(self, request: api.ReadRequest) -> api.ReadResponse:
        _, facts, kind = _served(request.type)
        cloud = self._simulation(facts, f"read {request.urn}")
        if kind.place is not None:
            found = asyncio.to_thread(cloud.find, f"{kind.place}/{request.resource_id}")
            if await _asked(facts, request.resource_id, "read", found) is None:
                return api.ReadResponse()
        if request.properties:
            return api.ReadResponse(request.resource_id, request.properties, request.inputs)
        inputs: Properties = {name: PropertyValue(value) for name, value in kind.inputs_of(request.resource_id).items()}
        return api.ReadResponse(request.resource_id, inputs | self._outputs(facts, kind, request.resource_id), inputs)

    async def delete(self, request: api.DeleteRequest) -> None:
        _, facts, kind = _served(request.type)
        cloud = self._simulation(facts, f"delete {request.urn}")
        if kind.content is not None and kind.place is not None:
            force = any(plain(request.properties.get(name)) is True for name in FORCE)
            place = f"{kind.place}/{request.resource_id}"
            try:
                await asyncio.to_thread(cloud.delete, place, force=force)
            except RefusedError as error:
                if error.code.startswith("DeleteConflict.User"):
                    raise PluginFakeError(USER_IN_USE) from None
                raise PluginFakeError(_failed(facts, request.resource_id, "delete", error)) from None

    async def invoke(self, request: api.InvokeRequest) -> api.InvokeResponse:
        if request.tok == GET_ACCOUNT:
            return api.InvokeResponse({"id": PropertyValue(self._account.id)})
        raise PluginFakeError(
            f"the fake of the alicloud plugin does not serve the function {request.tok}, only {GET_ACCOUNT}. "
            f"{INSTALL_OFFICIAL}"
        )

    def _outputs(self, facts: ResourceFacts, kind: ResourceType, resource_id: str) -> Properties:
        return {
            name: _marked(facts, name, PropertyValue(compute(resource_id, self._account)))
            for name, compute in kind.outputs.items()
        }

    def _simulation(self, facts: ResourceFacts, action: str) -> SimulatedCloud:
        endpoint = self._endpoints.get(facts.service, "")
        if not is_loopback(endpoint):
            found = f"endpoints.{facts.service} is {endpoint!r}" if endpoint else f"no endpoints.{facts.service}"
            raise PluginFakeError(
                f"cannot {action}: this is the fake alicloud plugin: it can preview this stack, not "
                f"deploy it (the provider has {found}, not a simulated cloud on this machine). "
                f"{INSTALL_OFFICIAL}"
            )
        return SimulatedCloud(endpoint)


def is_loopback(endpoint: str) -> bool:
    """Whether `endpoint`, a URL or ``host[:port]``, is on this machine."""
    try:
        host = urlsplit(endpoint if "//" in endpoint else f"//{endpoint}").hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def plain(value: PropertyValue | None) -> object:
    """`value` without secrecy and dependencies, for comparison; a missing value and null are the same."""
    if value is None:
        return None
    if isinstance(value.value, Mapping):
        return {name: plain(item) for name, item in value.value.items()}
    if isinstance(value.value, tuple):
        return [plain(item) for item in value.value]
    return value.value


def _served(token: str) -> tuple[str, ResourceFacts, ResourceType]:
    # The SDK's request.type is the whole path of types in a URN, those of the parents included.
    token = token.rpartition("$")[2]
    if token not in RESOURCE_TYPES:
        raise PluginFakeError(
            f"the fake of the alicloud plugin does not serve the resource type {token}, only "
            f"{', '.join(RESOURCE_TYPES)}. {INSTALL_OFFICIAL}"
        )
    return token, FACTS.resources[token], RESOURCE_TYPES[token]


async def _asked(facts: ResourceFacts, resource_id: str, action: str, answer: Awaitable[Answer]) -> Answer:
    try:
        return await answer
    except RefusedError as error:
        raise PluginFakeError(_failed(facts, resource_id, action, error)) from None


def _failed(facts: ResourceFacts, resource: str, action: str, error: RefusedError) -> str:
    """The provider's own form of what the cloud answers."""
    sdk = SDK_ERRORS.get(facts.service, OTHER_SDK_ERROR)
    called = facts.actions.get(action, action.title())
    return f"Resource {resource} {called} Failed!!! {sdk}: ErrorCode: {error.code} Message: {error}"


def _is_own(cloud: SimulatedCloud, place: str) -> bool:
    try:
        return cloud.find(place) is not None
    except RefusedError:
        return False


def _versions(cloud: SimulatedCloud, place: str, facts: ResourceFacts) -> Properties:
    """The outputs of a policy that change with its document."""
    if "versionId" not in facts.computed:
        return {}
    record = cloud.find(place) or {}
    version = PropertyValue(f"v{record['versions'][-1]}")
    return {"defaultVersion": version, "versionId": version}


def _computed(facts: ResourceFacts, inputs: Mapping[str, PropertyValue]) -> set[str]:
    """Outputs that are not inputs."""
    named = {facts.named_by_cloud["argument"]} if facts.named_by_cloud else set()
    return {*facts.computed, *named} - inputs.keys()


def _meaning(facts: ResourceFacts, name: str, values: Mapping[str, PropertyValue]) -> object:
    """Of a value, for comparison: documents may be written in several ways."""
    value = plain(values.get(name))
    if name in facts.documents and isinstance(value, str) and value != rpc.UNKNOWN:
        return json.loads(value)
    return value


def _text(value: PropertyValue | None) -> str:
    return value.value if value is not None and isinstance(value.value, str) else ""


def _plain_values(values: Mapping[str, PropertyValue]) -> dict[str, Any]:
    return {name: plain(value) for name, value in values.items()}


def _region(config: Mapping[str, PropertyValue]) -> str:
    return _text(config.get("region")) or os.environ.get("ALICLOUD_REGION", "")


def _endpoints(encoded: str) -> dict[str, str]:
    """Merge the provider's ``endpoints``, a JSON text: a list of objects from service to address."""
    listed = json.loads(encoded) if encoded else []
    return {service: address for endpoints in listed for service, address in endpoints.items() if address}


def _auto_name(argument: str, request: api.CheckRequest) -> PropertyValue:
    before = request.old_inputs.get(argument)
    if before is not None and argument in _defaults(request.old_inputs):
        return before
    return PropertyValue(f"{request.name}-{hashlib.sha256(request.random_seed).hexdigest()[:7]}")


def _defaults(inputs: Mapping[str, PropertyValue]) -> list[object]:
    names = plain(inputs.get(DEFAULTS))
    return names if isinstance(names, list) else []


def _is_taken(facts: ResourceFacts, changed: list[str], new: Properties) -> bool:
    """Whether the replacement needs the very name of what it replaces. The bridge knows it only of names that it could
    have made up itself (nameRequiresDeleteBeforeReplace in https://github.com/pulumi/pulumi-terraform-bridge)."""
    return bool(facts.auto_named) and facts.auto_named not in changed and facts.auto_named not in _defaults(new)


def _property_diff(name: str, old: Properties, new: Properties, replaces: bool) -> api.PropertyDiff:
    if name not in old:
        change = "ADD"
    elif name not in new:
        change = "DELETE"
    else:
        change = "UPDATE"
    return api.PropertyDiff(api.PropertyDiffKind[change + ("_REPLACE" if replaces else "")], False)


def _marked(facts: ResourceFacts, name: str, value: PropertyValue) -> PropertyValue:
    return value.with_secret(True) if name in facts.secret else value
