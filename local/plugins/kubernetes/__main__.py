"""``pulumi-resource-kubernetes ENGINE_ADDRESS``: serve the provider until the engine has done with it."""

import asyncio
from typing import Any, NoReturn

import grpc
from google.protobuf import empty_pb2, json_format, struct_pb2
from pulumi.provider.experimental.provider import Provider
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc, provider_pb2, status_pb2

from local.plugins.kubernetes.diff import REPLACE_UNREADY, changes, delete_first, normalized, pruned
from local.plugins.kubernetes.provider import (
    VERSION,
    FakeKubernetes,
    InitializationError,
    ProviderError,
    Status,
    provider_is_replaced,
)
from local.plugins.serving import FakeServicer, engine_address, serve

SECRET_KEY, SECRET = "4dabf18193072939515e22adb298388d", "1b47061264138c4ac30d75fd1eb44270"  # mark secrets on the wire

Context = Any
Properties = dict[str, Any]


class Servicer(FakeServicer):
    """The engine's protocol. Requests run in threads, because objects are waited for at the same time."""

    def __init__(self, engine_address: str) -> None:
        super().__init__([], VERSION, Provider(), engine_address)
        self._fake = FakeKubernetes()
        self._engine = engine_pb2_grpc.EngineStub(grpc.insecure_channel(engine_address))

    async def CheckConfig(self, request: Any, context: Context) -> Any:
        return provider_pb2.CheckResponse(inputs=request.news)

    async def DiffConfig(self, request: Any, context: Context) -> Any:
        old, new = _opened(_plain(request.olds)), _opened(_plain(request.news))
        changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
        replaces = changed if changed and provider_is_replaced(old, new) else []
        return _diff_response(bool(changed), diffs=changed, replaces=replaces)

    async def Configure(self, request: Any, context: Context) -> Any:
        variables = {key.removeprefix("kubernetes:config:"): value for key, value in request.variables.items()}
        await asyncio.to_thread(self._fake.configure, {**variables, **_opened(_plain(request.args))})
        configuration = self._fake.configuration
        if configuration.api is None:
            message = f"{configuration.unreachable}; previewing without a cluster"
            self._engine.Log(engine_pb2.LogRequest(severity=engine_pb2.WARNING, message=message))
        return provider_pb2.ConfigureResponse(acceptSecrets=False, supportsPreview=True, acceptResources=False)

    async def Check(self, request: Any, context: Context) -> Any:
        try:
            inputs = self._fake.check(
                _plain(request.olds),
                _plain(request.news),
                token=_type(request.urn),
                name=request.urn.rsplit("::", 1)[-1],
                seed=request.randomSeed,
            )
        except ProviderError as error:
            return provider_pb2.CheckResponse(
                inputs=request.news, failures=[provider_pb2.CheckFailure(reason=str(error))]
            )
        return provider_pb2.CheckResponse(inputs=_struct(inputs))

    async def Diff(self, request: Any, context: Context) -> Any:
        new = normalized(_plain(request.news))
        # What the server had at the last update or refresh, not what was asked of it then.
        old = pruned(_plain(request.olds), normalized(_plain(request.old_inputs)))
        ignored = tuple(request.ignoreChanges)
        found = [
            change
            for change in changes(old, new, mutable=self._fake.configuration.mutable)
            if change.path not in ignored and not change.path.startswith(tuple(f"{path}." for path in ignored))
        ]
        replaces = [change.path for change in found if change.replaces]
        if await asyncio.to_thread(self._fake.replaces_unready, new):
            replaces.append(REPLACE_UNREADY)
        kinds = provider_pb2.PropertyDiff.Kind
        detailed = {
            change.path: provider_pb2.PropertyDiff(
                kind=kinds.Value(change.how + ("_REPLACE" if change.replaces else "")), inputDiff=True
            )
            for change in found
        }
        return _diff_response(
            bool(found or replaces),
            diffs=sorted({change.path.split(".")[0] for change in found}),
            replaces=replaces,
            delete_before_replace=bool(replaces) and delete_first(old, new),
            detailed=detailed,
        )

    async def Create(self, request: Any, context: Context) -> Any:
        inputs = _plain(request.properties)
        try:
            if request.preview:
                state = await asyncio.to_thread(self._fake.preview_create, inputs, urn=request.urn)
                return provider_pb2.CreateResponse(id="", properties=_struct(state))
            resource_id, state = await asyncio.to_thread(
                self._fake.create, inputs, urn=request.urn, seconds=request.timeout, status=self._status(request)
            )
        except ProviderError as error:
            await _abort(context, error)
        return provider_pb2.CreateResponse(id=resource_id, properties=_struct(state))

    async def Update(self, request: Any, context: Context) -> Any:
        inputs = _plain(request.news)
        try:
            state = await asyncio.to_thread(
                self._fake.update,
                _plain(request.olds),
                inputs,
                urn=request.urn,
                ignore=request.ignoreChanges,
                seconds=request.timeout,
                status=self._status(request),
                preview=request.preview,
            )
        except ProviderError as error:
            await _abort(context, error)
        return provider_pb2.UpdateResponse(properties=_struct(state))

    async def Read(self, request: Any, context: Context) -> Any:
        try:
            resource_id, state, inputs = await asyncio.to_thread(
                self._fake.read,
                request.id,
                token=_type(request.urn),
                inputs=_plain(request.inputs),
                state=_plain(request.properties),
            )
        except ProviderError as error:
            await _abort(context, error)
        if not resource_id:
            # Without the field properties: that tells the engine that the object does not exist.
            return provider_pb2.ReadResponse()
        if state["kind"] == "Secret":
            # The engine marks what was secret under the same name; a refresh finds stringData as data.
            state, inputs = _with_secret_data(state), _with_secret_data(inputs)
        return provider_pb2.ReadResponse(id=resource_id, properties=_struct(state), inputs=_struct(inputs))

    async def Delete(self, request: Any, context: Context) -> Any:
        state = {**_plain(request.properties)}
        try:
            await asyncio.to_thread(
                self._fake.delete,
                request.id,
                state=state,
                seconds=request.timeout,
                warn=self._status(request, engine_pb2.WARNING),
            )
        except ProviderError as error:
            await _abort(context, error)
        return empty_pb2.Empty()

    async def Invoke(self, request: Any, context: Context) -> Any:
        await _abort(
            context,
            ProviderError(
                f"the fake kubernetes plugin does not serve the function {request.tok}; install the "
                f"official plugin: pulumi plugin install resource kubernetes v{VERSION}"
            ),
        )

    async def Cancel(self, request: Any, context: Context) -> Any:
        self._fake.cancelled.set()
        return await super().Cancel(request, context)

    def _status(self, request: Any, severity: Any = engine_pb2.INFO) -> Status:
        def show(text: str) -> None:
            # Ephemeral: shown next to the resource while it lasts, and not in the log. Warnings stay.
            ephemeral = severity == engine_pb2.INFO
            message = engine_pb2.LogRequest(severity=severity, message=text, urn=request.urn, ephemeral=ephemeral)
            self._engine.Log(message)

        return show


def _diff_response(
    changed: bool,
    *,
    diffs: list[str],
    replaces: list[str],
    delete_before_replace: bool = False,
    detailed: dict[str, Any] | None = None,
) -> Any:
    response = provider_pb2.DiffResponse
    return response(
        changes=response.DIFF_SOME if changed else response.DIFF_NONE,
        diffs=diffs,
        replaces=replaces,
        deleteBeforeReplace=delete_before_replace,
        detailedDiff=detailed,
        hasDetailedDiff=detailed is not None,
    )


async def _abort(context: Context, error: ProviderError) -> NoReturn:
    metadata: tuple[tuple[str, bytes], ...] = ()
    if isinstance(error, InitializationError):
        detail = provider_pb2.ErrorResourceInitFailed(
            id=error.id, properties=_struct(error.live), reasons=error.reasons
        )
        status = status_pb2.Status(code=grpc.StatusCode.UNKNOWN.value[0], message=str(error))
        status.details.add().Pack(detail)
        metadata = (("grpc-status-details-bin", status.SerializeToString()),)
    await context.abort(grpc.StatusCode.UNKNOWN, str(error), metadata)
    raise AssertionError("abort always raises")


def _plain(struct: Any) -> Properties:
    found: Properties = _whole(json_format.MessageToDict(struct))
    return found


def _whole(value: Any) -> Any:
    """Numbers are floats on the wire, and a port of 8000.0 is refused."""
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _opened(inputs: Properties) -> Properties:
    """Provider inputs, which alone arrive with their secrets marked."""
    opened = {}
    for key, value in inputs.items():
        opened[key] = value["value"] if isinstance(value, dict) and SECRET_KEY in value else value
    return opened


def _with_secret_data(manifest: Properties) -> Properties:
    return {key: {SECRET_KEY: SECRET, "value": value} if key == "data" else value for key, value in manifest.items()}


def _struct(value: Properties) -> struct_pb2.Struct:
    struct = struct_pb2.Struct()
    struct.update(value)
    return struct


def _type(urn: str) -> str:
    return urn.split("::")[2].rsplit("$", 1)[-1]


def main() -> None:
    """Read the engine's address from the command line and serve."""
    address = engine_address("pulumi-resource-kubernetes")

    async def run() -> None:
        await serve(Servicer(address))

    asyncio.run(run())


main()
