"""Errors and documents in the XML of OSS."""

import base64
import uuid
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from local.http_service import Body, Response

Content = str | int | Sequence["Content"] | Mapping[str, "Content"]
"""Of an element: text, children by name, or a sequence, which repeats the element."""

XML = {"Content-Type": "application/xml"}
REQUEST_ID = "x-oss-request-id"


class OssError(Exception):
    """A request that OSS refuses (https://help.aliyun.com/en/oss/support/error-codes)."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def denied(message: str) -> OssError:
    """The refusal of requests that no policy allows."""
    return OssError(HTTPStatus.FORBIDDEN, "AccessDenied", message)


def invalid_argument(message: str) -> OssError:
    """The refusal of a parameter or header."""
    return OssError(HTTPStatus.BAD_REQUEST, "InvalidArgument", message)


def not_implemented(what: str) -> OssError:
    """The answer to what OSS has and this server lacks."""
    return OssError(HTTPStatus.NOT_IMPLEMENTED, "NotImplemented", f"{what} is not part of this server")


def new_request_id() -> str:
    """The name of one answer."""
    return uuid.uuid4().hex[:24].upper()


def error_response(status: int, code: str, message: str) -> Response:
    """Also carries the document in a header, because the answer to HEAD has no body."""
    request_id = new_request_id()
    text = document("Error", {"Code": code, "Message": message, "RequestId": request_id})
    headers = {**XML, REQUEST_ID: request_id, "x-oss-err": base64.b64encode(text).decode()}
    return Response(status=status, headers=headers, body=Body(text))


def xml_response(root: str, content: Mapping[str, Content], headers: Mapping[str, str] | None = None) -> Response:
    """``content`` as the children of ``root``."""
    return Response(headers={**XML, **(headers or {})}, body=Body(document(root, content)))


def document(root: str, content: Mapping[str, Content]) -> bytes:
    """An XML document."""
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{_element(root, content)}'.encode()


def _element(name: str, content: Content) -> str:
    if isinstance(content, Mapping):
        inner = "".join(_element(child, value) for child, value in content.items())
    elif isinstance(content, str | int):
        inner = escape(str(content))
    else:
        return "".join(_element(name, item) for item in content)
    return f"<{name}>{inner}</{name}>"


def parse_document(body: bytes, root: str) -> ElementTree.Element:
    """The request's XML document. Raises OssError."""
    try:
        element = ElementTree.fromstring(body)  # noqa: S314 - from tests and from programs of this machine
    except ElementTree.ParseError:
        element = None
    if element is None or element.tag != root:
        raise OssError(HTTPStatus.BAD_REQUEST, "MalformedXML", f"The body is not a {root} document.")
    return element
