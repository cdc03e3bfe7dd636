"""The provider: the life of a resource as Pulumi asks for it, for every row of the table alike."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import json
import os
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from pulumi.provider.experimental import provider as api
from pulumi.provider.experimental.property_value import PropertyValue
from pulumi.runtime import rpc

from local.plugins.alicloud import functions
from local.plugins.alicloud.resources import RESOURCE_TYPES, Account, ResourceType, document_problem
from local.plugins.alicloud.simulated_cloud import SimulatedCloud, StandInError

VERSION = "4.0.0"
INSTALL_OFFICIAL = f"Install the official plugin: pulumi plugin install resource alicloud v{VERSION}"
ACCOUNT_ID = "1" + 15 * "0"
"""The account of a provider that names none."""
FORCE = ("forceDestroy", "force")
"""Of a bucket, and of a RAM user: delete it with what it has."""
DEFAULTS = "__defaults"
"""The names of inputs that Check made up, kept among the inputs as Terraform-bridged providers do."""

Properties = dict[str, PropertyValue]


class AlicloudStandIn(api.Provider):
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
        kind = _resource_type(request.type)
        inputs = {name: value for name, value in request.new_inputs.items() if name != DEFAULTS}
        failures = [
            api.CheckFailure(old, f"deprecated, and not served by this stand-in; write {new} instead")
            for old, new in kind.superseded.items()
            if old in inputs
        ]
        given = inputs.keys() | {new for old, new in kind.superseded.items() if old in inputs}
        failures += [
            api.CheckFailure(name, f"missing required property {name!r}") for name in kind.required if name not in given
        ]
        if kind.name is not None and kind.name not in inputs:
            inputs[kind.name] = _made_up_name(kind, request)
            inputs[DEFAULTS] = PropertyValue([PropertyValue(kind.name)])
        failures += _value_failures(kind, inputs)
        return api.CheckResponse(inputs=inputs, failures=failures)

    async def diff(self, request: api.DiffRequest) -> api.DiffResponse:
        kind = _resource_type(request.type)
        old = {name: value for name, value in request.old_state.items() if name not in kind.outputs}
        new = request.new_inputs
        changed = sorted(
            name for name in (old.keys() | new.keys()) - {DEFAULTS} if plain(old.get(name)) != plain(new.get(name))
        )
        replaces = [name for name in changed if name in kind.identity]
        return api.DiffResponse(
            changes=bool(changed),
            replaces=replaces,
            delete_before_replace=bool(replaces) and _is_taken(kind, changed, new),
            diffs=changed,
            detailed_diff={name: _property_diff(name, old, new, name in replaces) for name in changed},
        )

    async def create(self, request: api.CreateRequest) -> api.CreateResponse:
        kind = _resource_type(request.type)
        if request.preview:
            unknown = PropertyValue(rpc.UNKNOWN)
            return api.CreateResponse("", request.properties | dict.fromkeys(kind.outputs, unknown))
        cloud = self._simulation(kind, f"create {request.urn}")
        resource_id = kind.id_of(_texts(request.properties))
        state = request.properties | self._outputs(kind, resource_id)
        if kind.content is not None and kind.place is not None:
            await asyncio.to_thread(
                cloud.create, f"{kind.place}/{resource_id}", kind.content(_texts(state), self._account)
            )
        return api.CreateResponse(resource_id, state)

    async def update(self, request: api.UpdateRequest) -> api.UpdateResponse:
        kind = _resource_type(request.type)
        kept = {name: request.olds[name] for name in kind.outputs if name in request.olds}
        state = request.news | {name: _marked(kind, name, value) for name, value in kept.items()}
        if not request.preview:
            cloud = self._simulation(kind, f"update {request.urn}")
            if kind.content is not None and kind.place is not None:
                place = f"{kind.place}/{request.resource_id}"
                await asyncio.to_thread(cloud.replace, place, kind.content(_texts(state), self._account))
        return api.UpdateResponse(state)

    async def read(self, request: api.ReadRequest) -> api.ReadResponse:
        kind = _resource_type(request.type)
        cloud = self._simulation(kind, f"read {request.urn}")
        if kind.place is not None and not await asyncio.to_thread(cloud.has, f"{kind.place}/{request.resource_id}"):
            return api.ReadResponse()
        if request.properties:
            return api.ReadResponse(request.resource_id, request.properties, request.inputs)
        inputs: Properties = {name: PropertyValue(value) for name, value in kind.inputs_of(request.resource_id).items()}
        return api.ReadResponse(request.resource_id, inputs | self._outputs(kind, request.resource_id), inputs)

    async def delete(self, request: api.DeleteRequest) -> None:
        kind = _resource_type(request.type)
        cloud = self._simulation(kind, f"delete {request.urn}")
        if kind.content is not None and kind.place is not None:
            force = any(plain(request.properties.get(name)) is True for name in FORCE)
            await asyncio.to_thread(cloud.delete, f"{kind.place}/{request.resource_id}", force=force)

    async def invoke(self, request: api.InvokeRequest) -> api.InvokeResponse:
        if request.tok == functions.GET_ACCOUNT:
            return api.InvokeResponse({"id": PropertyValue(self._account.id)})
        if request.tok == functions.GET_BUCKETS:
            pattern = _text(request.args.get("nameRegex"))
            endpoint = self._endpoints.get("oss", "")
            # Without a simulated cloud a preview is all that there can be: no bucket exists.
            found = await asyncio.to_thread(SimulatedCloud(endpoint).buckets) if is_loopback(endpoint) else []
            account, region = self._account.id, self._account.region
            return api.InvokeResponse(functions.buckets(found, pattern, account=account, region=region))
        raise StandInError(
            f"the stand-in for the alicloud plugin does not serve the function {request.tok}, only "
            f"{functions.GET_ACCOUNT} and {functions.GET_BUCKETS}. {INSTALL_OFFICIAL}"
        )

    def _outputs(self, kind: ResourceType, resource_id: str) -> Properties:
        return {
            name: _marked(kind, name, PropertyValue(compute(resource_id, self._account)))
            for name, compute in kind.outputs.items()
        }

    def _simulation(self, kind: ResourceType, action: str) -> SimulatedCloud:
        endpoint = self._endpoints.get(kind.service, "")
        if not is_loopback(endpoint):
            found = f"endpoints.{kind.service} is {endpoint!r}" if endpoint else f"no endpoints.{kind.service}"
            raise StandInError(
                f"cannot {action}: this is the stand-in for the alicloud plugin: it can preview this stack, not "
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


def _resource_type(token: str) -> ResourceType:
    # The SDK's request.type is the whole path of types in a URN, those of the parents included.
    token = token.rpartition("$")[2]
    kind = RESOURCE_TYPES.get(token)
    if kind is None:
        raise StandInError(
            f"the stand-in for the alicloud plugin does not serve the resource type {token}, only "
            f"{', '.join(RESOURCE_TYPES)}. {INSTALL_OFFICIAL}"
        )
    return kind


def _text(value: PropertyValue | None) -> str:
    return value.value if value is not None and isinstance(value.value, str) else ""


def _texts(values: Properties) -> dict[str, str]:
    return {name: _text(value) for name, value in values.items()}


def _region(config: Mapping[str, PropertyValue]) -> str:
    return _text(config.get("region")) or os.environ.get("ALICLOUD_REGION", "")


def _endpoints(encoded: str) -> dict[str, str]:
    """Merge the provider's ``endpoints``, a JSON text: a list of objects from service to address."""
    listed = json.loads(encoded) if encoded else []
    return {service: address for endpoints in listed for service, address in endpoints.items() if address}


def _made_up_name(kind: ResourceType, request: api.CheckRequest) -> PropertyValue:
    before = request.old_inputs.get(kind.name or "")
    if before is not None and kind.name in _made_up(request.old_inputs):
        return before
    name = f"{request.name}-{hashlib.sha256(request.random_seed).hexdigest()[:7]}"
    return PropertyValue(name.lower() if kind.name == "bucket" else name)


def _made_up(inputs: Mapping[str, PropertyValue]) -> list[object]:
    names = plain(inputs.get(DEFAULTS))
    return names if isinstance(names, list) else []


def _value_failures(kind: ResourceType, inputs: Mapping[str, PropertyValue]) -> list[api.CheckFailure]:
    checks: list[tuple[str, Callable[[str], str | None]]]
    checks = [(name, document_problem) for name in kind.documents]
    if kind.name is not None:
        checks.append((kind.name, kind.problem))
    failures = []
    for name, problem_of in checks:
        text = _text(inputs.get(name))
        if text and text != rpc.UNKNOWN and (problem := problem_of(text)):
            failures.append(api.CheckFailure(name, problem))
    return failures


def _is_taken(kind: ResourceType, changed: list[str], new: Properties) -> bool:
    """Whether the replacement needs the very name of what it replaces, so that this has to go first."""
    return kind.name is not None and kind.name not in changed and kind.name not in _made_up(new)


def _property_diff(name: str, old: Properties, new: Properties, replaces: bool) -> api.PropertyDiff:
    if name not in old:
        change = "ADD"
    elif name not in new:
        change = "DELETE"
    else:
        change = "UPDATE"
    return api.PropertyDiff(api.PropertyDiffKind[change + ("_REPLACE" if replaces else "")], False)


def _marked(kind: ResourceType, name: str, value: PropertyValue) -> PropertyValue:
    return value.with_secret(True) if name in kind.secret else value
