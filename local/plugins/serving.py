"""Serves a provider plugin until the engine has done with it: what the fakes have in common."""

import argparse
import asyncio
import signal
from typing import Any

import grpc
from google.protobuf import empty_pb2
from pulumi.provider.experimental.server import ProviderServicer
from pulumi.runtime.proto import provider_pb2_grpc

from local.plugins.lifeline import on_engine_gone

MESSAGE_BYTES = 400 * 1024 * 1024
"""Limit of one message, the engine's own."""


class FakeServicer(ProviderServicer):
    """Acknowledges ``Cancel``, without which the engine reports that the plugin has crashed when it ends.

    ``cancelled`` is set from then on: what waits should end, and an interrupt now means the end of the plugin. Before,
    it does not: Ctrl-C reaches the whole process group, and the engine then cancels in its own order.
    """

    cancelled = False

    async def Cancel(self, request: Any, context: Any) -> Any:  # noqa: N802 - the name of the RPC
        self.cancelled = True
        return empty_pb2.Empty()


def engine_address(program: str) -> str:
    """The engine's address, from the command line."""
    parser = argparse.ArgumentParser(prog=program)
    parser.add_argument("--tracing", help="accepted and ignored")
    parser.add_argument("engine_address")
    arguments, _ = parser.parse_known_args()
    return str(arguments.engine_address)


async def serve(servicer: FakeServicer, *interceptors: grpc.aio.ServerInterceptor) -> None:
    """Print the port that is served, as the engine expects, and serve."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def interrupted() -> None:
        if servicer.cancelled:
            stop.set()

    loop.add_signal_handler(signal.SIGINT, interrupted)
    loop.add_signal_handler(signal.SIGTERM, stop.set)

    def engine_is_gone() -> None:
        loop.call_soon_threadsafe(stop.set)

    on_engine_gone(engine_is_gone)
    options = [("grpc.max_receive_message_length", MESSAGE_BYTES), ("grpc.max_send_message_length", MESSAGE_BYTES)]
    server = grpc.aio.server(options=options, interceptors=interceptors)
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await stop.wait()
    # What still waits ends as soon as it can.
    await servicer.Cancel(None, None)
    await server.stop(grace=None)
