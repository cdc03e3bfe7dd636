"""``pulumi-resource-alicloud ENGINE_ADDRESS``: serve the provider until the engine has done with it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from local.plugins.alicloud.provider import VERSION, FakeAlicloud
from local.plugins.alicloud.simulated_cloud import PluginFakeError
from local.plugins.serving import FakeServicer, engine_address, serve

Handler = Callable[[Any, grpc.aio.ServicerContext], Awaitable[Any]]


class _ReportPluginFakeErrors(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Shows the user the text of a `PluginFakeError`; gRPC's own report puts the class's name before it."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        handler = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler
        return grpc.unary_unary_rpc_method_handler(
            _reporting(handler.unary_unary), handler.request_deserializer, handler.response_serializer
        )


def _reporting(handle: Handler) -> Handler:
    async def reporting(request: Any, context: grpc.aio.ServicerContext) -> Any:
        try:
            return await handle(request, context)
        except PluginFakeError as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))

    return reporting


def main() -> None:
    """Read the engine's address from the command line and serve."""
    servicer = FakeServicer([], VERSION, FakeAlicloud(), engine_address("pulumi-resource-alicloud"))
    asyncio.run(serve(servicer, _ReportPluginFakeErrors()))


main()
