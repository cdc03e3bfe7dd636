"""A client of Envoy's external processing: what a Gateway asks an endpoint picker, and no more of the protocol.

https://github.com/envoyproxy/envoy/blob/v1.37.0/api/envoy/service/ext_proc/v3/external_processor.proto
"""

import json
from collections.abc import Iterator
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "envoy.service.ext_proc.v3"
ENDPOINT = "x-gateway-destination-endpoint"
"""The header by which the picker names the leader
(https://github.com/kubernetes-sigs/gateway-api-inference-extension/blob/v1.5.0/docs/proposals/004-endpoint-picker-protocol/README.md)."""

SECONDS = 10

_Type = descriptor_pb2.FieldDescriptorProto
_MESSAGES: dict[str, dict[str, tuple[int, Any, bool]]] = {
    "HeaderValue": {"key": (1, _Type.TYPE_STRING, False), "raw_value": (3, _Type.TYPE_BYTES, False)},
    "HeaderMap": {"headers": (1, "HeaderValue", True)},
    "HttpHeaders": {"headers": (1, "HeaderMap", False), "end_of_stream": (3, _Type.TYPE_BOOL, False)},
    "HttpBody": {"body": (1, _Type.TYPE_BYTES, False), "end_of_stream": (2, _Type.TYPE_BOOL, False)},
    "ProcessingRequest": {"request_headers": (2, "HttpHeaders", False), "request_body": (4, "HttpBody", False)},
    "HeaderValueOption": {"header": (1, "HeaderValue", False)},
    "HeaderMutation": {"set_headers": (1, "HeaderValueOption", True)},
    "CommonResponse": {"header_mutation": (2, "HeaderMutation", False)},
    "HeadersResponse": {"response": (1, "CommonResponse", False)},
    "HttpStatus": {"code": (1, _Type.TYPE_INT32, False)},
    "ImmediateResponse": {"status": (1, "HttpStatus", False), "body": (3, _Type.TYPE_BYTES, False)},
    "ProcessingResponse": {
        "request_headers": (1, "HeadersResponse", False),
        "immediate_response": (7, "ImmediateResponse", False),
    },
}
"""Fields by message: number, type, and whether it is repeated. Others are skipped, as Protobuf has it."""


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="ext_proc_of_tests.proto", package="tests", syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind, repeated) in fields.items():
            label = _Type.LABEL_REPEATED if repeated else _Type.LABEL_OPTIONAL
            added = message.field.add(name=field, number=number, label=label)
            if isinstance(kind, str):
                added.type, added.type_name = _Type.TYPE_MESSAGE, f".tests.{kind}"
            else:
                added.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"tests.{name}")) for name in _MESSAGES}


_CLASSES = _classes()


class RefusedError(Exception):
    """The picker answered in place of a leader: status and body."""


class Picker:
    """The endpoint picker at ``port`` of this machine, without TLS."""

    def __init__(self, port: int) -> None:
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self._process = self._channel.stream_stream(
            f"/{PACKAGE}.ExternalProcessor/Process",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=_CLASSES["ProcessingResponse"].FromString,
        )

    def pick(self, prompt: str, *, path: str = "/v1/completions") -> str:
        """The endpoint for a request, ADDRESS:PORT. Raises RefusedError, grpc.RpcError."""
        body = json.dumps({"model": "ds", "prompt": prompt, "max_tokens": 1}).encode()
        for response in self._process(_requests(path, body), timeout=SECONDS, wait_for_ready=True):
            if response.HasField("immediate_response"):
                given = response.immediate_response
                raise RefusedError(f"{given.status.code} {given.body.decode()}")
            for option in response.request_headers.response.header_mutation.set_headers:
                if option.header.key == ENDPOINT:
                    return str(option.header.raw_value.decode())
        raise RefusedError("no endpoint")

    def close(self) -> None:
        self._channel.close()


def _requests(path: str, body: bytes) -> Iterator[Any]:
    headers = {":method": "POST", ":path": path, "content-type": "application/json", "x-request-id": "1"}
    first = _CLASSES["ProcessingRequest"]()
    for name, value in headers.items():
        first.request_headers.headers.headers.add(key=name, raw_value=value.encode())
    yield first
    second = _CLASSES["ProcessingRequest"]()
    second.request_body.body, second.request_body.end_of_stream = body, True
    yield second
