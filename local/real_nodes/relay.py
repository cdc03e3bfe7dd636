"""Relays TCP connections between network namespaces, which share no network."""

import asyncio
import contextlib
import json
import logging
import os
import socket
from collections.abc import Callable, Sequence
from ipaddress import ip_address, ip_network
from typing import Any

from local.real_nodes.namespaces import in_network
from local.real_nodes.plan import GATEWAY, HOST_LOOPBACK, NODE_NETWORK
from local.real_nodes.relay_client import CONTROL_SECONDS, CONTROL_SOCKET

log = logging.getLogger(__name__)

EGRESS_SOCKET = "egress.sock"
CHUNK_BYTES = 256 * 1024
IP_FREEBIND = 15
"""<linux/in.h>: a pod's loopback interface may not be up yet."""

Connect = Callable[[], socket.socket]


class Relay:
    """Runs in the network namespace of the bridge; ``host`` refers to that of the machine."""

    def __init__(self, host: int, *, api_server_port: int, relayed_ports: Sequence[int]) -> None:
        self._host = host
        self._api_server_port = api_server_port
        self._relayed_ports = relayed_ports
        self._servers: dict[str, list[asyncio.Server]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Until it is cancelled, with its sockets in the current folder."""
        api_server = _listening(GATEWAY, self._api_server_port)
        await self._serve(api_server, self._api_server_port)
        egress = await asyncio.start_unix_server(self._egress, EGRESS_SOCKET)
        control = socket.socket(socket.AF_UNIX)
        control.bind(CONTROL_SOCKET)
        control.listen()
        control.setblocking(False)
        asyncio.get_running_loop().add_reader(control, self._control, control)
        async with egress:
            await egress.serve_forever()

    async def _serve(self, listener: socket.socket, port: int) -> asyncio.Server:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._to_host(port, reader, writer)

        return await asyncio.start_server(connected, sock=listener)

    async def _to_host(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            made = in_network(self._host, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            made.setblocking(False)
            try:
                await asyncio.get_running_loop().sock_connect(made, (HOST_LOOPBACK, port))
            except OSError:
                made.close()  # nothing listens: the connection is closed, as a proxy would
                return
            await _pump_both((reader, writer), await asyncio.open_connection(sock=made))

    async def _egress(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """HTTP CONNECT to a kubelet, as the API server's egress selector asks
        (https://kubernetes.io/docs/tasks/extend-kubernetes/setup-konnectivity/)."""
        with contextlib.closing(writer), contextlib.suppress(OSError, asyncio.IncompleteReadError, ValueError):
            request = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n", 1)[0].decode()
            host, port = request.split(" ")[1].rsplit(":", 1)
            if ip_address(host) not in ip_network(NODE_NETWORK):
                writer.write(b"HTTP/1.1 403 Forbidden\r\n\r\n")
                return
            try:
                other = await asyncio.open_connection(host, int(port))
            except OSError:
                writer.write(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
                return
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await _pump_both((reader, writer), other)

    def _control(self, control: socket.socket) -> None:
        connection, _ = control.accept()
        with connection:
            connection.settimeout(CONTROL_SECONDS)
            try:
                message, descriptors, _, _ = socket.recv_fds(connection, 4096, 1)
                answer = self._order(json.loads(message), descriptors)
            except (OSError, ValueError) as error:
                answer = f"{type(error).__name__}: {error}"
            with contextlib.suppress(OSError):
                connection.sendall(answer.encode())

    def _order(self, message: dict[str, Any], descriptors: Sequence[int]) -> str:
        name = message["name"]
        for known in [key for key in self._servers if key == name or key.startswith(f"{name}/")]:
            for server in self._servers.pop(known):
                server.close()
        if descriptors:
            namespace = descriptors[0]
            try:
                listeners = [
                    (in_network(namespace, lambda port=port: _listening(HOST_LOOPBACK, port)), port)  # type: ignore[misc]
                    for port in self._relayed_ports
                ]
            finally:
                os.close(namespace)
            task = asyncio.get_running_loop().create_task(self._start(name, listeners))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return "ok"

    async def _start(self, name: str, listeners: Sequence[tuple[socket.socket, int]]) -> None:
        self._servers[name] = [await self._serve(listener, port) for listener, port in listeners]


def _listening(address: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
    listener.bind((address, port))
    listener.listen(128)
    listener.setblocking(False)
    return listener


Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _pump_both(one: Pair, other: Pair) -> None:
    with contextlib.closing(one[1]), contextlib.closing(other[1]):
        await asyncio.gather(_pump(one[0], other[1]), _pump(other[0], one[1]))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()
