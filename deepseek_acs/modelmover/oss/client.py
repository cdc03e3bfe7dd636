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

from ..checksums import Data, crc64
from ..errors import (
    DataError,
    MoveError,
    NoSpaceError,
    NotFoundError,
    PermissionDeniedError,
    TransientError,
    UnavailableError,
)
from ..http import Connections, Response, date, length_of, number, require_private, retry_after
from ..retry import Backoff
from .credentials import Credentials, CredentialsProvider
from .signature import (
    ALGORITHM,
    TIME_FORMAT,
    UNSIGNED_PAYLOAD,
    canonical_query,
    canonical_request,
    scope,
    signature,
)

CRC64 = "x-oss-hash-crc64ecma"
METADATA = "x-oss-meta-"
PAGE = "1000"

NO_SPACE = ("QuotaExceeded", "BucketQuotaExceeded", "UserDisable")
"""The last one is the code of an account with overdue payment
(https://help.aliyun.com/en/oss/user-guide/0003-00000801)."""

MAY_PASS = (403, 404, 408, 409, 425, 429)
"""Refusals that another attempt may not meet: a key and a policy that were made a moment ago are not known everywhere
yet."""

TIMED_OUT = "RequestTimeout"
"""Comes with status 400, and is temporary (https://help.aliyun.com/en/oss/user-guide/0002-00000243)."""

FORBID_OVERWRITE = {"x-oss-forbid-overwrite": "true"}
"""Not heeded by buckets with versioning, which keep what is replaced
(https://help.aliyun.com/en/oss/developer-reference/putobject)."""

PAGES = 10_000
"""Maximum number of objects, uploads or parts in one page of a listing."""

ANSWER_BYTES = 16 * 2**20
"""Limit of one answer in XML: 1,000 objects with the longest keys, encoded, have 4 MiB."""

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class ObjectInfo:
    """What HEAD says of an object."""

    size: int
    crc64: int | None


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


class UploadLostError(Exception):
    """OSS does not have the multipart upload, or not its parts: it was completed or aborted elsewhere, or the record of
    it is wrong."""


class ObjectExistsError(Exception):
    """There is an object of this name, which was not to be replaced."""


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
        self._has_answered = False
        require_private(endpoint, "what is signed")
        parts = urlsplit(endpoint)
        if _is_address(parts.hostname or ""):
            self._base, self._root = f"{parts.scheme}://{parts.netloc}", f"/{name}/"
        else:
            self._base, self._root = f"{parts.scheme}://{name}.{parts.netloc}", "/"

    def head(self, key: str) -> ObjectInfo | None:
        """The object ``key``, or None if there is none."""

        def attempt() -> ObjectInfo | None:
            response = self._head_or_absent(key)
            if response.status == 404:
                return None
            length = length_of(response)
            if length is None:
                raise TransientError(f"OSS gives no size of {key}")
            return ObjectInfo(size=length, crc64=_crc(response.headers))

        return self._retried("read", key, attempt)

    def age(self, key: str) -> float:
        """Seconds since the object ``key`` was written, by the clock of OSS; 0 if that is not known."""
        response = self._retried("read", key, lambda: self._head_or_absent(key))
        written, now = date(response.headers.get("last-modified", "")), date(response.headers.get("date", ""))
        return (now - written).total_seconds() if written and now else 0.0

    def _head_or_absent(self, key: str) -> Response:
        response = self._send("HEAD", key)
        response.read()
        if response.status != 404:
            self._require_success(response, b"")
        return response

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

    def put(self, key: str, data: Data, *, metadata: Mapping[str, str] | None = None, replaces: bool = True) -> int:
        """Writes a whole object, and gives its CRC-64. Without ``replaces`` raises ObjectExistsError if there is
        another one of this name."""
        headers = {f"{METADATA}{name}": value for name, value in (metadata or {}).items()}
        headers |= {} if replaces else FORBID_OVERWRITE
        # OSS refuses what does not have this MD5. Its CRC-64 comes too late: the object is visible then.
        headers["content-md5"] = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
        expected = crc64(data)

        def attempt() -> int:
            try:
                response, _ = self._ask("PUT", key, headers=headers, body=data)
            except ObjectExistsError:
                # Perhaps by an earlier attempt, whose answer was lost.
                if self.head(key) == ObjectInfo(size=len(data), crc64=expected):
                    return expected
                raise
            _require_crc(key, response, expected)
            return expected

        return self._retried("write", key, attempt)

    def delete(self, key: str) -> None:
        """Deletes an object; it is not an error if it does not exist."""

        self._retried("delete", key, lambda: self._ask("DELETE", key))

    def list_sizes(self, prefix: str) -> dict[str, int]:
        """Sizes of the objects whose keys begin with ``prefix``, by key."""
        query = {"list-type": "2", "prefix": prefix, "max-keys": PAGE, "encoding-type": "url"}
        found: dict[str, int] = {}

        def read(page: ElementTree.Element) -> dict[str, int]:
            return {unquote(_needed(item, "Key")): _count(item, "Size") for item in page.iterfind("Contents")}

        markers = {"continuation-token": "NextContinuationToken"}
        for items in self._pages("list", prefix, "", "ListBucketResult", query, markers, read):
            found |= items
        return found

    def list_uploads(self, prefix: str) -> Iterator[Upload]:
        """Unfinished multipart uploads whose keys begin with ``prefix``."""
        query = {"uploads": "", "prefix": prefix, "max-uploads": PAGE, "encoding-type": "url"}

        def read(page: ElementTree.Element) -> list[Upload]:
            return [
                Upload(key=unquote(_needed(item, "Key")), id=_needed(item, "UploadId"))
                for item in page.iterfind("Upload")
            ]

        markers = {"key-marker": "NextKeyMarker", "upload-id-marker": "NextUploadIdMarker"}
        for uploads in self._pages(
            "list the uploads of", prefix, "", "ListMultipartUploadsResult", query, markers, read
        ):
            yield from uploads

    def initiate(self, key: str, *, metadata: Mapping[str, str]) -> str:
        """Begins a multipart upload; its id."""
        headers = {f"{METADATA}{name}": value for name, value in metadata.items()}

        def attempt() -> str:
            _, body = self._ask("POST", key, {"uploads": ""}, headers=headers)
            return _needed(_parse(body, "InitiateMultipartUploadResult"), "UploadId")

        return self._retried("begin the upload of", key, attempt)

    def list_parts(self, upload: Upload) -> list[Part] | None:
        """The parts that OSS has acknowledged, by number; None if there is no such upload."""
        query = {"uploadId": upload.id, "max-parts": PAGE}

        def read(page: ElementTree.Element) -> list[Part]:
            return [
                Part(
                    number=_count(item, "PartNumber"),
                    size=_count(item, "Size"),
                    crc64=number(item.findtext("HashCrc64ecma")),
                    etag=_needed(item, "ETag"),
                )
                for item in page.iterfind("Part")
            ]

        markers = {"part-number-marker": "NextPartNumberMarker"}
        pages = self._pages("list the parts of", upload.key, upload.key, "ListPartsResult", query, markers, read)
        try:
            return [part for parts in pages for part in parts]
        except UploadLostError:
            return None

    def upload_part(self, upload: Upload, part: int, data: memoryview) -> Part:
        """Sends the part with this number and makes sure that it arrived as it was sent. Raises UploadLostError."""
        expected = crc64(data)

        def attempt() -> Part:
            response, _ = self._ask("PUT", upload.key, {"partNumber": str(part), "uploadId": upload.id}, body=data)
            _require_crc(f"part {part} of {upload.key}", response, expected)
            etag = response.headers.get("etag")
            if not etag:
                raise TransientError(f"OSS gives no ETag of part {part} of {upload.key}")
            return Part(number=part, size=len(data), crc64=expected, etag=etag)

        return self._retried(f"send part {part} of", upload.key, attempt)

    def complete(self, upload: Upload, parts: list[Part]) -> None:
        """Creates the object from its parts. The answer does not prove that: use ``head``. Raises UploadLostError, and
        ObjectExistsError if there is an object of this name."""
        root = ElementTree.Element("CompleteMultipartUpload")
        for part in parts:
            item = ElementTree.SubElement(root, "Part")
            ElementTree.SubElement(item, "PartNumber").text = str(part.number)
            ElementTree.SubElement(item, "ETag").text = part.etag
        document = ElementTree.tostring(root)

        def attempt() -> None:
            _, body = self._ask("POST", upload.key, {"uploadId": upload.id}, headers=FORBID_OVERWRITE, body=document)
            # Creating an object may take long, and a failure on the way comes with status 200.
            _parse(body, "CompleteMultipartUploadResult")

        self._retried("complete", upload.key, attempt)

    def abort(self, upload: Upload) -> None:
        """Deletes an unfinished upload and its parts; it is not an error if it does not exist."""
        with contextlib.suppress(UploadLostError):
            self._retried(
                "abort the upload of",
                upload.key,
                lambda: self._ask("DELETE", upload.key, {"uploadId": upload.id}),
            )

    def _pages(
        self,
        what: str,
        name: str,
        key: str,
        root: str,
        query: Mapping[str, str],
        markers: Mapping[str, str],
        read: Callable[[ElementTree.Element], Result],
    ) -> Iterator[Result]:
        """What ``read`` finds in each page; ``markers`` are the parameters that ask for the next one, and where a page
        has them."""

        def attempt(query: Mapping[str, str]) -> tuple[Result, dict[str, str]]:
            page = _parse(self._ask("GET", key, query)[1], root)
            if _text(page, "IsTruncated") != "true":
                return read(page), {}
            following = {**query, **{name: unquote(_text(page, tag)) for name, tag in markers.items()}}
            if following == query:
                raise TransientError("OSS gives the same page again")
            return read(page), following

        following = dict(query)
        for _ in range(PAGES):
            found, following = self._retried(what, name, lambda query=following: attempt(query))  # type: ignore[misc]
            yield found
            if not following:
                return
        raise DataError(f"{what} oss://{self.name}/{name}: more than {PAGES} pages")

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
        answer = response.read(ANSWER_BYTES)
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
            self._has_answered = True
            return
        # HEAD has no body.
        code = _error_text(body, "Code") or f"status {response.status}"
        message = _error_text(body, "Message")
        text = f"OSS answers {code} (request {response.headers.get('x-oss-request-id', 'without id')})"
        text += f": {message}" if message else ""
        match code:
            case "NoSuchUpload" | "InvalidPart" | "InvalidPartOrder":
                raise UploadLostError(text)
            case "FileAlreadyExists":
                raise ObjectExistsError(text)
            case "NoSuchBucket":
                raise self._refusal(NotFoundError, f"there is no bucket {self.name} at {self._base}")
            case "InvalidDigest":
                raise TransientError(f"what was sent was damaged on its way: {text}")
            case "RequestTimeTooSkewed":
                raise self._refusal(
                    PermissionDeniedError, f"{text}: the clock of this machine is wrong by more than 15 minutes"
                )
            case "SignatureDoesNotMatch":
                raise self._refusal(
                    PermissionDeniedError, f"OSS answers {code}: the AccessKey's secret is not that of its id"
                )
        if code in NO_SPACE:
            raise NoSpaceError(f"bucket {self.name}: {text}: raise the quota, or settle the account's bill")
        if response.status < 500 and response.status not in MAY_PASS and code != TIMED_OUT:
            raise TransientError(text, final=DataError, refusal=True)
        final = PermissionDeniedError if response.status == 403 else UnavailableError
        raise TransientError(text, wait=retry_after(response), final=final)

    def _refusal(self, kind: type[MoveError], text: str) -> MoveError | TransientError:
        """What a person has to change; but one answer of a run that was served before may be that of one server."""
        return TransientError(text, final=kind, refusal=True) if self._has_answered else kind(text)


def _is_address(host: str) -> bool:
    """IP addresses have no room for a bucket's name in front."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return True


def _crc(headers: Mapping[str, str]) -> int | None:
    return number(headers.get(CRC64))


def _require_crc(what: str, response: Response, expected: int) -> None:
    found = _crc(response.headers)
    if found != expected:
        raise TransientError(f"{what} was damaged on its way: its CRC-64 is {expected}, OSS has {found}")


def _parse(body: bytes, root: str | None = None) -> ElementTree.Element:
    """The document, of which ``root`` has to be the outermost element. Raises TransientError."""
    try:
        found = ElementTree.fromstring(body)  # noqa: S314
    except (ElementTree.ParseError, ValueError, RecursionError):
        raise TransientError("the answer of OSS is not XML") from None
    for element in found.iter():
        element.tag = element.tag.rpartition("}")[2]
    if root is not None and found.tag != root:
        code = _text(found, "Code")
        raise TransientError(f"OSS answers {found.tag} {code}, expected was {root}")
    return found


def _text(element: ElementTree.Element, name: str) -> str:
    return element.findtext(name) or ""


def _needed(element: ElementTree.Element, name: str) -> str:
    text = _text(element, name)
    if not text:
        raise TransientError(f"the answer of OSS has no {name}")
    return text


def _count(element: ElementTree.Element, name: str) -> int:
    found = number(_text(element, name))
    if found is None:
        raise TransientError(f"the answer of OSS has no usable {name}")
    return found


def _error_text(body: bytes, name: str) -> str:
    try:
        return _text(_parse(body), name) if body else ""
    except TransientError:
        return ""
