"""``pulumi-language-python ENGINE_ADDRESS``: serve the language host until the engine has done with it."""

from __future__ import annotations

import argparse
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
from pulumi.runtime.proto import language_pb2_grpc

from local.plugins.language_python.host import LanguageHost
from local.plugins.lifeline import on_engine_gone


def main() -> None:
    """Print the port that is served, as the engine expects, and serve."""
    parser = argparse.ArgumentParser(prog="pulumi-language-python")
    parser.add_argument("--tracing", help="accepted and ignored")
    parser.add_argument("engine_address")
    arguments, _ = parser.parse_known_args()

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    on_engine_gone(stop.set)

    host = LanguageHost(arguments.engine_address)
    server = grpc.server(ThreadPoolExecutor(thread_name_prefix="language-host"))
    language_pb2_grpc.add_LanguageRuntimeServicer_to_server(host, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)

    stop.wait()
    host.terminate()
    server.stop(grace=None).wait()


main()
