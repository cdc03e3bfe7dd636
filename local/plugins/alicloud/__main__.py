"""``pulumi-resource-alicloud ENGINE_ADDRESS``: serve the provider until the engine has done with it."""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from pulumi.provider.experimental.server import ProviderServicer
from pulumi.runtime.proto import provider_pb2_grpc

from local.plugins.alicloud.provider import VERSION, AlicloudStandIn, StandInError
from local.plugins.lifeline import on_engine_gone

Handler = Callable[[Any, grpc.aio.ServicerContext], Awaitable[Any]]


class _ReportStandInErrors(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Shows the user the text of a `StandInError`; gRPC's own report puts the class's name before it."""

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
        except StandInError as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))

    return reporting


async def serve(engine_address: str) -> None:
    """Print the port that is served, as the engine expects, and serve."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)

    def stop_from_thread() -> None:
        loop.call_soon_threadsafe(stop.set)

    on_engine_gone(stop_from_thread)

    server = grpc.aio.server(interceptors=[_ReportStandInErrors()])
    servicer = ProviderServicer([], VERSION, AlicloudStandIn(), engine_address)
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)

    await stop.wait()
    await server.stop(grace=None)


def main() -> None:
    """Read the engine's address from the command line and serve."""
    parser = argparse.ArgumentParser(prog="pulumi-resource-alicloud")
    parser.add_argument("--tracing", help="accepted and ignored")
    parser.add_argument("engine_address")
    arguments, _ = parser.parse_known_args()
    asyncio.run(serve(arguments.engine_address))


main()
