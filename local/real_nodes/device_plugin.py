"""``python -m local.real_nodes.device_plugin RESOURCE COUNT``: GPUs that are not there, offered to the kubelet as a
vendor's device plugin offers its own (https://kubernetes.io/docs/concepts/extend-kubernetes/compute-storage-net/device-plugins/)."""

import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

log = logging.getLogger(__name__)

FOLDER = Path("/var/lib/kubelet/device-plugins")
KUBELET = FOLDER / "kubelet.sock"
SOCKET = FOLDER / "deepseek-gpu.sock"
VERSION = "v1beta1"
PACKAGE = "v1beta1"
POLL_SECONDS = 1
RPC_SECONDS = 10

TEXT, BOOL, MESSAGE = 9, 8, 11
"""Numbers of types in descriptor.proto."""

MESSAGES: Mapping[str, tuple[tuple[str, int, int, str, bool], ...]] = {
    "Empty": (),
    "DevicePluginOptions": (),
    "RegisterRequest": (
        ("version", 1, TEXT, "", False),
        ("endpoint", 2, TEXT, "", False),
        ("resource_name", 3, TEXT, "", False),
        ("options", 4, MESSAGE, "DevicePluginOptions", False),
    ),
    "Device": (("ID", 1, TEXT, "", False), ("health", 2, TEXT, "", False)),
    "ListAndWatchResponse": (("devices", 1, MESSAGE, "Device", True),),
    "ContainerAllocateRequest": (("devicesIDs", 1, TEXT, "", True),),
    "AllocateRequest": (("container_requests", 1, MESSAGE, "ContainerAllocateRequest", True),),
    "Mount": (
        ("container_path", 1, TEXT, "", False),
        ("host_path", 2, TEXT, "", False),
        ("read_only", 3, BOOL, "", False),
    ),
    "ContainerAllocateResponse": (("mounts", 2, MESSAGE, "Mount", True),),
    "AllocateResponse": (("container_responses", 1, MESSAGE, "ContainerAllocateResponse", True),),
}
"""The part of https://github.com/kubernetes/kubernetes/blob/v1.36.3/staging/src/k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1/api.proto
that is needed: fields by name, number, type, type of message, and whether they are repeated. Others are ignored."""


def messages() -> dict[str, Any]:
    """The classes by name."""
    file = descriptor_pb2.FileDescriptorProto(name="deviceplugin.proto", package=PACKAGE, syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind, of, repeated in fields:
            made = message.field.add(name=field, number=number, type=kind, label=3 if repeated else 1)
            if of:
                made.type_name = f".{PACKAGE}.{of}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in MESSAGES}


class DevicePlugin:
    """Serves ``count`` devices of ``resource``, all of them healthy. A container that gets one finds ``folder``, if
    there is one, read-only at its own path, as it finds the driver's libraries on a real node."""

    def __init__(self, resource: str, count: int, folder: str = "") -> None:
        self._resource = resource
        self._count = count
        self._folder = folder
        self._types = messages()

    def serve(self, socket: Path) -> grpc.Server:
        """Starts to serve."""
        socket.unlink(missing_ok=True)
        server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
        handlers = {
            "GetDevicePluginOptions": self._unary(lambda _: self._types["DevicePluginOptions"]()),
            "ListAndWatch": grpc.unary_stream_rpc_method_handler(
                self._list,
                request_deserializer=self._types["Empty"].FromString,
                response_serializer=self._types["ListAndWatchResponse"].SerializeToString,
            ),
            "Allocate": self._unary(self._allocate, request="AllocateRequest"),
        }
        generic = grpc.method_handlers_generic_handler(f"{PACKAGE}.DevicePlugin", handlers)
        server.add_generic_rpc_handlers((generic,))
        server.add_insecure_port(f"unix://{socket}")
        server.start()
        return server

    def register(self, kubelet: Path, socket: Path) -> None:
        """Raises grpc.RpcError."""
        with grpc.insecure_channel(f"unix://{kubelet}") as channel:
            call = channel.unary_unary(
                f"/{PACKAGE}.Registration/Register",
                request_serializer=self._types["RegisterRequest"].SerializeToString,
                response_deserializer=self._types["Empty"].FromString,
            )
            request = self._types["RegisterRequest"](
                version=VERSION, endpoint=socket.name, resource_name=self._resource
            )
            call(request, timeout=RPC_SECONDS, wait_for_ready=True)

    def _unary(self, answer: Callable[[Any], Any], request: str = "Empty") -> Any:
        return grpc.unary_unary_rpc_method_handler(
            lambda asked, _: answer(asked),
            request_deserializer=self._types[request].FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )

    def _list(self, _: object, context: Any) -> Iterator[Any]:
        device = self._types["Device"]
        devices = [device(ID=f"gpu-{number}", health="Healthy") for number in range(self._count)]
        yield self._types["ListAndWatchResponse"](devices=devices)
        while context.is_active():
            time.sleep(POLL_SECONDS)

    def _allocate(self, request: Any) -> Any:
        mount = self._types["Mount"](container_path=self._folder, host_path=self._folder, read_only=True)
        response = self._types["ContainerAllocateResponse"](mounts=[mount] if self._folder else [])
        return self._types["AllocateResponse"](container_responses=[response for _ in request.container_requests])


def main() -> None:
    """Serves and registers, and again whenever a new kubelet has removed the socket."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    plugin = DevicePlugin(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
    while True:
        while not KUBELET.exists():
            time.sleep(POLL_SECONDS)
        server = plugin.serve(SOCKET)
        try:
            plugin.register(KUBELET, SOCKET)
            log.info("registered %s", sys.argv[1])
            while SOCKET.exists():
                time.sleep(POLL_SECONDS)
        except grpc.RpcError as error:
            log.warning("the kubelet does not take it: %s", error)
            time.sleep(POLL_SECONDS)
        server.stop(grace=None).wait()


if __name__ == "__main__":
    main()
