"""One bucket of OSS (https://help.aliyun.com/en/oss/developer-reference/list-of-operations-by-function).

Every call is tried again after failures that may pass, so each method is safe to repeat. What was sent is compared by
CRC-64 with what OSS says it has received.
"""

import base64
import contextlib
import hashlib
import ipaddress
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar
from urllib.parse import quote, unquote, urlsplit

from modelmover.checksums import Data, crc64
from modelmover.errors import (
    MoveError,
    NoSpaceError,
    NotFoundError,
    PermissionDeniedError,
    TransientError,
    UnavailableError,
)
from modelmover.http import Connections, Response
from modelmover.oss.credentials import Credentials, CredentialsProvider
from modelmover.oss.signature import (
    ALGORITHM,
    TIME_FORMAT,
    UNSIGNED_PAYLOAD,
    canonical_query,
    canonical_request,
    scope,
    signature,
)
from modelmover.retry import Backoff

CRC64 = "x-oss-hash-crc64ecma"
METADATA = "x-oss-meta-"
PAGE = "1000"

NO_SPACE = ("QuotaExceeded", "BucketQuotaExceeded", "UserDisable")
"""The last one is the code of an account with overdue payment
(https://help.aliyun.com/en/oss/user-guide/0003-00000801)."""

MAY_PASS = (403, 404, 408, 409, 425, 429)
"""Refusals that another attempt may not meet: a key and a policy that were made a moment ago are not known everywhere
yet."""

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class ObjectInfo:
    """What HEAD says of an object; ``metadata`` is the user's, without its prefix."""

    size: int
    crc64: int | None
    metadata: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of a multipart upload that OSS has acknowledged."""

    number: int
    size: int
    crc64: int | None
    etag: str


@dataclass(frozen=True, kw_only=True)
class Upload:
    """A multipart upload that was begun and neither completed nor aborted."""

    key: str
    id: str


class NoSuchUploadError(MoveError):
    """The multipart upload was completed or aborted by somebody else."""


class Bucket:
    """The bucket ``name`` at ``endpoint``, a URL; ``region`` as in cn-hangzhou."""

    def __init__(
        self, name: str, *, endpoint: str, region: str, credentials: CredentialsProvider, backoff: Backoff
    ) -> None:
        self.name = name
        self._region = region
        self._credentials = credentials
        self._backoff = backoff
        self._connections = Connections()
        parts = urlsplit(endpoint)
        if _is_address(parts.hostname or ""):
            self._base, self._root = f"{parts.scheme}://{parts.netloc}", f"/{name}/"
        else:
            self._base, self._root = f"{parts.scheme}://{name}.{parts.netloc}", "/"

    def head(self, key: str) -> ObjectInfo | None:
        """The object ``key``, or None if there is none."""

        def attempt() -> ObjectInfo | None:
            response = self._send("HEAD", key)
            response.read()
            if response.status == 404:
                return None
            self._require_success(response, b"")
            headers = response.headers
            metadata = {k.removeprefix(METADATA): v for k, v in headers.items() if k.startswith(METADATA)}
            return ObjectInfo(size=int(headers["content-length"]), crc64=_crc(headers), metadata=metadata)

        return self._retried("read", key, attempt)

    def get(self, key: str) -> bytes | None:
        """The content of a small object, or None if there is none."""

        def attempt() -> bytes | None:
            response = self._send("GET", key)
            body = response.read()
            if response.status == 404 and _error_text(body, "Code") == "NoSuchKey":
                return None
            self._require_success(response, body)
            if (expected := _crc(response.headers)) not in (None, crc64(body)):
                raise TransientError(f"the CRC-64 of {key} is {crc64(body)}, OSS says {expected}")
            return body

        return self._retried("read", key, attempt)

    def open(self, key: str, offset: int) -> Response:
        """The bytes of an object from ``offset`` on. Raises MoveError or TransientError; not tried again by itself."""
        response = self._send("GET", key, headers={"Range": f"bytes={offset}-"} if offset else {})
        if response.status not in (200, 206):
            self._require_success(response, response.read())
        return response

    def put(self, key: str, data: Data, *, metadata: Mapping[str, str] | None = None) -> int:
        """Writes a whole object, and gives its CRC-64."""
        headers = {f"{METADATA}{name}": value for name, value in (metadata or {}).items()}
        # OSS refuses what does not have this MD5. Its CRC-64 comes too late: the object is visible then.
        headers["content-md5"] = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
        expected = crc64(data)

        def attempt() -> int:
            response, _ = self._ask("PUT", key, headers=headers, body=data)
            _require_crc(key, response, expected)
            return expected

        return self._retried("write", key, attempt)

    def delete(self, key: str) -> None:
        """Deletes an object; one that does not exist is no error."""

        self._retried("delete", key, lambda: self._ask("DELETE", key))

    def list_sizes(self, prefix: str) -> dict[str, int]:
        """Sizes of the objects whose keys begin with ``prefix``, by key."""
        query = {"list-type": "2", "prefix": prefix, "max-keys": PAGE, "encoding-type": "url"}
        found: dict[str, int] = {}
        while True:
            answer = self._get_xml("list", prefix, "", query)
            for item in answer.iterfind("Contents"):
                found[unquote(_text(item, "Key"))] = int(_text(item, "Size"))
            if _text(answer, "IsTruncated") != "true":
                return found
            query["continuation-token"] = unquote(_text(answer, "NextContinuationToken"))

    def list_uploads(self, prefix: str) -> Iterator[Upload]:
        """Unfinished multipart uploads whose keys begin with ``prefix``."""
        query = {"uploads": "", "prefix": prefix, "max-uploads": PAGE, "encoding-type": "url"}
        while True:
            answer = self._get_xml("list the uploads of", prefix, "", query)
            for item in answer.iterfind("Upload"):
                yield Upload(key=unquote(_text(item, "Key")), id=_text(item, "UploadId"))
            if _text(answer, "IsTruncated") != "true":
                return
            query["key-marker"] = unquote(_text(answer, "NextKeyMarker"))
            query["upload-id-marker"] = _text(answer, "NextUploadIdMarker")

    def initiate(self, key: str, *, metadata: Mapping[str, str]) -> str:
        """Begins a multipart upload; its id."""
        headers = {f"{METADATA}{name}": value for name, value in metadata.items()}

        def attempt() -> str:
            _, body = self._ask("POST", key, {"uploads": ""}, headers=headers)
            return _text(_parse(body), "UploadId")

        return self._retried("begin the upload of", key, attempt)

    def list_parts(self, upload: Upload) -> list[Part] | None:
        """The parts that OSS has acknowledged, by number; None if there is no such upload."""
        query = {"uploadId": upload.id, "max-parts": PAGE}
        found: list[Part] = []
        while True:
            try:
                answer = self._get_xml("list the parts of", upload.key, upload.key, query)
            except NoSuchUploadError:
                return None
            for item in answer.iterfind("Part"):
                crc = item.findtext("HashCrc64ecma")
                found.append(
                    Part(
                        number=int(_text(item, "PartNumber")),
                        size=int(_text(item, "Size")),
                        crc64=int(crc) if crc else None,
                        etag=_text(item, "ETag"),
                    )
                )
            if _text(answer, "IsTruncated") != "true":
                return found
            query["part-number-marker"] = _text(answer, "NextPartNumberMarker")

    def upload_part(self, upload: Upload, number: int, data: memoryview) -> Part:
        """Sends one part and makes sure that it arrived as it was sent."""
        expected = crc64(data)

        def attempt() -> Part:
            response, _ = self._ask("PUT", upload.key, {"partNumber": str(number), "uploadId": upload.id}, body=data)
            _require_crc(f"part {number} of {upload.key}", response, expected)
            return Part(number=number, size=len(data), crc64=expected, etag=response.headers["etag"])

        return self._retried(f"send part {number} of", upload.key, attempt)

    def complete(self, upload: Upload, parts: list[Part]) -> int | None:
        """Makes the object of its parts, and gives its CRC-64 as OSS has it. Raises NoSuchUploadError."""
        root = ElementTree.Element("CompleteMultipartUpload")
        for part in parts:
            item = ElementTree.SubElement(root, "Part")
            ElementTree.SubElement(item, "PartNumber").text = str(part.number)
            ElementTree.SubElement(item, "ETag").text = part.etag
        document = ElementTree.tostring(root)

        def attempt() -> int | None:
            response, _ = self._ask("POST", upload.key, {"uploadId": upload.id}, body=document)
            return _crc(response.headers)

        return self._retried("complete", upload.key, attempt)

    def abort(self, upload: Upload) -> None:
        """Deletes an unfinished upload and its parts; one that does not exist is no error."""
        with contextlib.suppress(NoSuchUploadError):
            self._retried(
                "abort the upload of",
                upload.key,
                lambda: self._ask("DELETE", upload.key, {"uploadId": upload.id}),
            )

    def _get_xml(self, what: str, name: str, key: str, query: Mapping[str, str]) -> ElementTree.Element:
        def attempt() -> ElementTree.Element:
            return _parse(self._ask("GET", key, query)[1])

        return self._retried(what, name, attempt)

    def _retried(self, what: str, key: str, attempt: Callable[[], Result]) -> Result:
        return self._backoff.call(f"{what} oss://{self.name}/{key}", attempt)

    def _ask(
        self,
        method: str,
        key: str,
        query: Mapping[str, str] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        body: Data = b"",
    ) -> tuple[Response, bytes]:
        """A good answer and its body. Raises MoveError or TransientError."""
        response = self._send(method, key, query, headers=headers, body=body)
        answer = response.read()
        self._require_success(response, answer)
        return response, answer

    def _send(
        self,
        method: str,
        key: str,
        query: Mapping[str, str] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        body: Data = b"",
    ) -> Response:
        query = query or {}
        signed = self._signed(method, key, query, headers or {}, self._credentials())
        suffix = f"?{canonical_query(query)}" if query else ""
        url = f"{self._base}{quote(self._root + key, safe='/')}{suffix}"
        return self._connections.request(method, url, headers=signed, body=body)

    def _signed(
        self, method: str, key: str, query: Mapping[str, str], headers: Mapping[str, str], credentials: Credentials
    ) -> dict[str, str]:
        now = datetime.now(UTC)
        signed = {
            **headers,
            "content-type": "application/octet-stream",
            "x-oss-date": now.strftime(TIME_FORMAT),
            "x-oss-content-sha256": UNSIGNED_PAYLOAD,
        }
        if credentials.token:
            signed["x-oss-security-token"] = credentials.token
        request = canonical_request(method, f"/{self.name}/{key}", query, signed)
        proof = signature(credentials.key_secret, request, now, self._region)
        signed["Authorization"] = (
            f"{ALGORITHM} Credential={credentials.key_id}/{scope(now, self._region)},Signature={proof}"
        )
        return signed

    def _require_success(self, response: Response, body: bytes) -> None:
        if response.status < 300:
            return
        # HEAD has no body.
        code = _error_text(body, "Code") or f"status {response.status}"
        message = _error_text(body, "Message")
        text = f"OSS answers {code} (request {response.headers.get('x-oss-request-id', 'without id')})"
        text += f": {message}" if message else ""
        if code == "NoSuchUpload":
            raise NoSuchUploadError(text)
        if code == "NoSuchBucket":
            raise NotFoundError(f"there is no bucket {self.name} at {self._base}")
        if code == "InvalidDigest":
            raise TransientError(f"what was sent was damaged on its way: {text}")
        if code in NO_SPACE:
            raise NoSpaceError(f"bucket {self.name}: {text}: raise the quota, or settle the account's bill")
        if code == "RequestTimeTooSkewed":
            raise PermissionDeniedError(f"{text}: the clock of this machine is wrong by more than 15 minutes")
        if code == "SignatureDoesNotMatch":
            raise PermissionDeniedError(f"OSS answers {code}: the AccessKey's secret is not that of its id")
        if response.status < 500 and response.status not in MAY_PASS:
            raise MoveError(f"bucket {self.name}: {text}")
        raise TransientError(text, final=PermissionDeniedError if response.status == 403 else UnavailableError)


def _is_address(host: str) -> bool:
    """IP addresses have no room for a bucket's name in front."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return True


def _crc(headers: Mapping[str, str]) -> int | None:
    value = headers.get(CRC64)
    return int(value) if value else None


def _require_crc(what: str, response: Response, expected: int) -> None:
    found = _crc(response.headers)
    if found != expected:
        raise TransientError(f"{what} was damaged on its way: its CRC-64 is {expected}, OSS has {found}")


def _parse(body: bytes) -> ElementTree.Element:
    try:
        root = ElementTree.fromstring(body)  # noqa: S314
    except ElementTree.ParseError:
        raise TransientError("the answer of OSS is not XML") from None
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def _text(element: ElementTree.Element, name: str) -> str:
    return element.findtext(name) or ""


def _error_text(body: bytes, name: str) -> str:
    try:
        return _text(_parse(body), name) if body else ""
    except TransientError:
        return ""
