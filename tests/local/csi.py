"""A client of the CSI's node service, with the messages as far as the tests need them
(https://github.com/container-storage-interface/spec/blob/v1.13.0/csi.proto)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

Kind = descriptor_pb2.FieldDescriptorProto
READER_ONLY_MANY, WRITER_ONE = 3, 1
"""Access modes MULTI_NODE_READER_ONLY and SINGLE_NODE_WRITER."""


def _message(name: str, *fields: tuple[str, int, Any, str | None, bool]) -> descriptor_pb2.DescriptorProto:
    return descriptor_pb2.DescriptorProto(
        name=name,
        field=[
            Kind(
                name=field,
                number=number,
                type=kind,
                type_name=f".csi.v1.{of}" if of else None,
                label=Kind.LABEL_REPEATED if repeated else Kind.LABEL_OPTIONAL,
            )
            for field, number, kind, of, repeated in fields
        ],
    )


def _classes() -> Mapping[str, Any]:
    text, message = Kind.TYPE_STRING, Kind.TYPE_MESSAGE
    # On the wire, a map is a repeated message of key and value.
    file = descriptor_pb2.FileDescriptorProto(
        name="csi.proto",
        package="csi.v1",
        syntax="proto3",
        message_type=[
            _message("Entry", ("key", 1, text, None, False), ("value", 2, text, None, False)),
            _message("Mount", ("fs_type", 1, text, None, False), ("mount_flags", 2, text, None, True)),
            _message("AccessMode", ("mode", 1, Kind.TYPE_INT32, None, False)),
            _message(
                "Capability", ("mount", 2, message, "Mount", False), ("access_mode", 3, message, "AccessMode", False)
            ),
            _message(
                "Publish",
                ("volume_id", 1, text, None, False),
                ("target_path", 4, text, None, False),
                ("volume_capability", 5, message, "Capability", False),
                ("readonly", 6, Kind.TYPE_BOOL, None, False),
                ("secrets", 7, message, "Entry", True),
                ("volume_context", 8, message, "Entry", True),
            ),
            _message("Unpublish", ("volume_id", 1, text, None, False), ("target_path", 2, text, None, False)),
            _message("Nothing"),
            _message("Node", ("node_id", 1, text, None, False)),
            _message(
                "Plugin",
                ("type", 1, text, None, False),
                ("name", 2, text, None, False),
                ("endpoint", 3, text, None, False),
                ("supported_versions", 4, text, None, True),
            ),
        ],
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    names = ("Entry", "Mount", "AccessMode", "Capability", "Publish", "Unpublish", "Nothing", "Node", "Plugin")
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"csi.v1.{name}")) for name in names}


CLASSES = _classes()


def _entries(given: Mapping[str, str]) -> list[Any]:
    return [CLASSES["Entry"](key=key, value=value) for key, value in given.items()]


class Node:
    """Calls the driver at a socket. All methods raise grpc.RpcError."""

    def __init__(self, socket: Path) -> None:
        self._target = f"unix://{socket}"

    def publish(
        self,
        target: Path,
        attributes: Mapping[str, str],
        secrets: Mapping[str, str],
        *,
        volume: str = "volume",
        mode: int = READER_ONLY_MANY,
    ) -> None:
        """NodePublishVolume."""
        capability = CLASSES["Capability"](mount=CLASSES["Mount"](), access_mode=CLASSES["AccessMode"](mode=mode))
        self.call(
            "/csi.v1.Node/NodePublishVolume",
            CLASSES["Publish"](
                volume_id=volume,
                target_path=str(target),
                volume_capability=capability,
                secrets=_entries(secrets),
                volume_context=_entries(attributes),
            ),
        )

    def unpublish(self, target: Path, *, volume: str = "volume") -> None:
        """NodeUnpublishVolume."""
        self.call("/csi.v1.Node/NodeUnpublishVolume", CLASSES["Unpublish"](volume_id=volume, target_path=str(target)))

    def name(self) -> str:
        """NodeGetInfo."""
        return str(self.call("/csi.v1.Node/NodeGetInfo", CLASSES["Nothing"](), "Node").node_id)

    def call(self, method: str, request: Any, answer: str = "Nothing") -> Any:
        """The answer as a message of the given name."""
        with grpc.insecure_channel(self._target) as channel:
            ask = channel.unary_unary(
                method,
                request_serializer=type(request).SerializeToString,
                response_deserializer=CLASSES[answer].FromString,
            )
            return ask(request, timeout=60, wait_for_ready=True)
