"""The operations of OSS (https://help.aliyun.com/en/oss/developer-reference/list-of-operations-by-function)."""

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import formatdate
from http import HTTPStatus
from typing import TypeVar
from urllib.parse import quote

from local.http_service import Request, Response
from local.oss.errors import Content, OssError, invalid_argument, not_implemented, parse_document, xml_response
from local.oss.policy import ACCOUNT
from local.oss.storage import MAX_PART_NUMBER, Bucket, Storage, StoredObject

MAX_BODY_BYTES = 5 * 2**30
"""Of one PutObject or UploadPart."""

MAX_PAGE = 1000
DEFAULT_KEYS = 100
"""Of ListObjects (https://help.aliyun.com/en/oss/developer-reference/listobjectsv2)."""

STORED_HEADERS = ("cache-control", "content-disposition", "content-encoding", "content-language", "expires")
METADATA = "x-oss-meta-"
CRC64 = "x-oss-hash-crc64ecma"
STORAGE_CLASS = "Standard"

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class Call:
    """A request to one resource: the service, a bucket if ``key`` is empty, or an object."""

    request: Request
    storage: Storage
    region: str
    bucket: str
    key: str

    @property
    def query(self) -> dict[str, str]:
        """Decoded."""
        return self.request.query

    def number(self, name: str, default: int, *, least: int = 1, most: int = MAX_PAGE) -> int:
        """A number of the query. Raises OssError."""
        text = self.query.get(name, str(default))
        if not text.isdecimal() or not least <= int(text) <= most:
            raise invalid_argument(f"{name} has to be between {least} and {most}.")
        return int(text)

    @property
    def forbids_overwriting(self) -> bool:
        """Whether an existing object is to be left alone."""
        return self.request.headers.get("x-oss-forbid-overwrite", "").lower() == "true"

    def encoded(self, text: str) -> str:
        """A key as the client wants to read it."""
        match self.query.get("encoding-type"):
            case None | "":
                return text
            case "url":
                return quote(text, safe="")
        raise invalid_argument("encoding-type can only be url.")

    @property
    def encoding(self) -> Mapping[str, Content]:
        """The answer's statement of how keys are encoded."""
        return {"EncodingType": "url"} if self.query.get("encoding-type") else {}


@dataclass(frozen=True)
class Operation:
    """``action`` is its name in policies."""

    action: str
    serve: Callable[[Call], Response]


def list_buckets(call: Call) -> Response:
    buckets = [_bucket_content(call, bucket) for bucket in call.storage.buckets() if bucket.owner == ACCOUNT]
    return xml_response("ListAllMyBucketsResult", {"Owner": _OWNER, "Buckets": {"Bucket": buckets}})


def put_bucket(call: Call) -> Response:
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", call.bucket):
        raise OssError(HTTPStatus.BAD_REQUEST, "InvalidBucketName", "The specified bucket is not valid.")
    call.storage.create_bucket(call.bucket)
    return Response(headers={"Location": f"/{call.bucket}"})


def delete_bucket(call: Call) -> Response:
    call.storage.delete_bucket(call.bucket)
    return Response(status=HTTPStatus.NO_CONTENT)


def get_bucket_info(call: Call) -> Response:
    content = _bucket_content(call, call.storage.bucket(call.bucket))
    return xml_response("BucketInfo", {"Bucket": {**content, "Owner": _OWNER, "AccessControlList": _PRIVATE}})


def get_bucket_acl(call: Call) -> Response:
    return xml_response("AccessControlPolicy", {"Owner": _OWNER, "AccessControlList": _PRIVATE})


def list_objects(call: Call) -> Response:
    page = _list(call, call.query.get("marker", ""))
    next_page = {"NextMarker": call.encoded(page.last)} if page.truncated else {}
    marker = {"Marker": call.encoded(call.query.get("marker", ""))}
    return xml_response("ListBucketResult", {**page.content, **marker, **next_page})


def list_objects_v2(call: Call) -> Response:
    token = call.query.get("continuation-token", "")
    start_after = call.query.get("start-after", "")
    page = _list(call, max(_after(token), start_after))
    parameters = {"StartAfter": call.encoded(start_after)} if start_after else {}
    parameters |= {"ContinuationToken": token} if token else {}
    next_page = {"NextContinuationToken": _token(page.last)} if page.truncated else {}
    return xml_response("ListBucketResult", {**page.content, **parameters, "KeyCount": page.count, **next_page})


def list_multipart_uploads(call: Call) -> Response:
    if call.query.get("delimiter"):
        raise not_implemented("ListMultipartUploads with a delimiter")
    limit = call.number("max-uploads", MAX_PAGE)
    prefix, after_key = call.query.get("prefix", ""), call.query.get("key-marker", "")
    after_id = call.query.get("upload-id-marker", "")
    found, truncated = _page(
        call.storage.uploads(call.bucket, prefix=prefix, after_key=after_key, after_id=after_id), limit
    )
    return xml_response(
        "ListMultipartUploadsResult",
        {
            **call.encoding,
            "Bucket": call.bucket,
            "KeyMarker": call.encoded(after_key),
            "UploadIdMarker": after_id,
            "NextKeyMarker": call.encoded(found[-1].key) if found else "",
            "NextUploadIdMarker": found[-1].id if found else "",
            "Prefix": call.encoded(prefix),
            "MaxUploads": limit,
            "IsTruncated": _boolean(truncated),
            "Upload": [
                {"Key": call.encoded(upload.key), "UploadId": upload.id, "Initiated": _iso(upload.initiated)}
                for upload in found
            ],
        },
    )


def put_object(call: Call) -> Response:
    _require_size(call)
    stored = call.storage.put_object(
        call.bucket,
        call.key,
        call.request.body,
        _headers_to_store(call),
        md5=_content_md5(call),
        forbid=call.forbids_overwriting,
    )
    return Response(headers={"ETag": f'"{stored.etag}"', CRC64: str(stored.crc64)})


def get_object(call: Call) -> Response:
    stored, body = call.storage.read(call.bucket, call.key)
    return Response(headers=_object_headers(stored), body=body, ranged=_heeds_range(call.request, stored.size))


def head_object(call: Call) -> Response:
    stored = call.storage.find(call.bucket, call.key)
    return Response(headers={**_object_headers(stored), "Content-Length": str(stored.size)})


def delete_object(call: Call) -> Response:
    call.storage.delete_object(call.bucket, call.key)
    return Response(status=HTTPStatus.NO_CONTENT)


def initiate_multipart_upload(call: Call) -> Response:
    upload_id = call.storage.initiate(call.bucket, call.key, _headers_to_store(call), forbid=call.forbids_overwriting)
    return xml_response(
        "InitiateMultipartUploadResult",
        {**call.encoding, "Bucket": call.bucket, "Key": call.encoded(call.key), "UploadId": upload_id},
    )


def upload_part(call: Call) -> Response:
    _require_size(call)
    number = call.number("partNumber", 0, most=MAX_PART_NUMBER)
    part = call.storage.upload_part(
        call.bucket, call.key, call.query["uploadId"], number, call.request.body, md5=_content_md5(call)
    )
    return Response(headers={"ETag": f'"{part.etag}"', CRC64: str(part.crc64)})


def list_parts(call: Call) -> Response:
    limit = call.number("max-parts", MAX_PAGE)
    after = call.number("part-number-marker", 0, least=0, most=MAX_PART_NUMBER)
    upload_id = call.query["uploadId"]
    found, truncated = _page(call.storage.parts(call.bucket, call.key, upload_id, after=after), limit)
    return xml_response(
        "ListPartsResult",
        {
            **call.encoding,
            "Bucket": call.bucket,
            "Key": call.encoded(call.key),
            "UploadId": upload_id,
            "StorageClass": STORAGE_CLASS,
            "PartNumberMarker": after,
            "NextPartNumberMarker": found[-1].number if found else after,
            "MaxParts": limit,
            "IsTruncated": _boolean(truncated),
            "Part": [
                {
                    "PartNumber": part.number,
                    "LastModified": _iso(part.modified),
                    "ETag": f'"{part.etag}"',
                    "HashCrc64ecma": part.crc64,
                    "Size": part.size + call.request.size_error,
                }
                for part in found
            ],
        },
    )


def complete_multipart_upload(call: Call) -> Response:
    body = call.request.body.read()
    if call.request.headers.get("x-oss-complete-all", "").lower() == "yes":
        if body:
            raise invalid_argument("x-oss-complete-all comes without a list of parts.")
        chosen = None
    else:
        chosen = [
            (int(part.findtext("PartNumber") or 0), part.findtext("ETag") or "")
            for part in parse_document(body, "CompleteMultipartUpload").iterfind("Part")
        ]
    stored = call.storage.complete(
        call.bucket, call.key, call.query["uploadId"], chosen, forbid=call.forbids_overwriting
    )
    return xml_response(
        "CompleteMultipartUploadResult",
        {
            **call.encoding,
            "Location": f"http://{call.request.headers.get('Host', '')}{call.request.target.partition('?')[0]}",
            "Bucket": call.bucket,
            "Key": call.encoded(call.key),
            "ETag": f'"{stored.etag}"',
        },
        headers={"ETag": f'"{stored.etag}"', CRC64: str(stored.crc64)},
    )


def abort_multipart_upload(call: Call) -> Response:
    call.storage.abort(call.bucket, call.key, call.query["uploadId"])
    return Response(status=HTTPStatus.NO_CONTENT)


SERVICE = {("GET", ""): Operation("oss:ListBuckets", list_buckets)}

BUCKET = {
    ("PUT", ""): Operation("oss:PutBucket", put_bucket),
    ("DELETE", ""): Operation("oss:DeleteBucket", delete_bucket),
    ("GET", "bucketInfo"): Operation("oss:GetBucketInfo", get_bucket_info),
    ("GET", "acl"): Operation("oss:GetBucketAcl", get_bucket_acl),
    ("GET", ""): Operation("oss:ListObjects", list_objects),
    ("GET", "list-type"): Operation("oss:ListObjects", list_objects_v2),
    ("GET", "uploads"): Operation("oss:ListMultipartUploads", list_multipart_uploads),
}

OBJECT = {
    ("PUT", ""): Operation("oss:PutObject", put_object),
    ("GET", ""): Operation("oss:GetObject", get_object),
    ("HEAD", ""): Operation("oss:GetObject", head_object),
    ("HEAD", "objectMeta"): Operation("oss:GetObject", head_object),
    ("DELETE", ""): Operation("oss:DeleteObject", delete_object),
    ("POST", "uploads"): Operation("oss:PutObject", initiate_multipart_upload),
    ("PUT", "partNumber+uploadId"): Operation("oss:PutObject", upload_part),
    ("GET", "uploadId"): Operation("oss:ListParts", list_parts),
    ("POST", "uploadId"): Operation("oss:PutObject", complete_multipart_upload),
    ("DELETE", "uploadId"): Operation("oss:AbortMultipartUpload", abort_multipart_upload),
}
"""Actions by operation: https://www.alibabacloud.com/help/en/oss/user-guide/ram-policy-overview."""

PARAMETERS = {
    *("encoding-type", "prefix", "delimiter", "max-keys", "marker", "start-after", "continuation-token", "fetch-owner"),
    *("max-uploads", "key-marker", "upload-id-marker", "max-parts", "part-number-marker"),
    *("x-oss-signature-version", "x-oss-credential", "x-oss-date", "x-oss-expires", "x-oss-additional-headers"),
    *("x-oss-signature", "x-oss-security-token"),
}
"""Of the query: what does not tell which operation is meant."""


def operation(request: Request, bucket: str, key: str) -> Operation:
    """Which one is asked for. Raises OssError."""
    table = OBJECT if key else BUCKET if bucket else SERVICE
    subresource = "+".join(sorted(set(request.query) - PARAMETERS))
    found = table.get((request.method, subresource))
    if found is None:
        raise not_implemented(f"{request.method} with {subresource or 'no subresource'}")
    return found


_OWNER = {"ID": ACCOUNT, "DisplayName": ACCOUNT}
_PRIVATE = {"Grant": "private"}


def _bucket_content(call: Call, bucket: Bucket) -> dict[str, Content]:
    return {
        "Name": bucket.name,
        "CreationDate": _iso(bucket.created),
        "Location": f"oss-{call.region}",
        "Region": call.region,
        "StorageClass": STORAGE_CLASS,
        "ExtranetEndpoint": f"oss-{call.region}.aliyuncs.com",
        "IntranetEndpoint": f"oss-{call.region}-internal.aliyuncs.com",
    }


@dataclass(frozen=True, kw_only=True)
class _Listing:
    content: Mapping[str, Content]
    count: int
    truncated: bool
    last: str


def _list(call: Call, after: str) -> _Listing:
    limit = call.number("max-keys", DEFAULT_KEYS)
    prefix, delimiter = call.query.get("prefix", ""), call.query.get("delimiter", "")
    # A common prefix stands for all keys that begin with it, so each entry is one or the other.
    entries: dict[str, StoredObject | None] = {}
    for stored in call.storage.objects(call.bucket, prefix=prefix, after=after):
        head, found, _ = stored.key[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
        if not found:
            entries[stored.key] = stored
        elif (common := prefix + head + delimiter) > after:
            entries[common] = None
        if len(entries) > limit:
            break
    shown, truncated = _page(entries.items(), limit)
    content: dict[str, Content] = {
        **call.encoding,
        "Name": call.bucket,
        "Prefix": call.encoded(prefix),
        "Delimiter": call.encoded(delimiter),
        "MaxKeys": limit,
        "IsTruncated": _boolean(truncated),
        "Contents": [
            {
                "Key": call.encoded(key),
                "LastModified": _iso(stored.modified),
                "ETag": f'"{stored.etag}"',
                "Type": stored.type,
                "Size": stored.size + call.request.size_error,
                "StorageClass": STORAGE_CLASS,
                "Owner": _OWNER,
            }
            for key, stored in shown
            if stored is not None
        ],
        "CommonPrefixes": [{"Prefix": call.encoded(key)} for key, stored in shown if stored is None],
    }
    return _Listing(content=content, count=len(shown), truncated=truncated, last=shown[-1][0] if shown else "")


def _page(items: Iterable[Item], limit: int) -> tuple[list[Item], bool]:
    found = list(items)
    return found[:limit], len(found) > limit


def _token(after: str) -> str:
    return base64.urlsafe_b64encode(after.encode()).decode().rstrip("=")


def _after(token: str) -> str:
    try:
        return base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
    except ValueError:
        raise invalid_argument("The continuation-token is not from this server.") from None


def _headers_to_store(call: Call) -> dict[str, str]:
    headers = {name.lower(): value for name, value in call.request.headers.items()}
    stored = {name: value for name, value in headers.items() if name in STORED_HEADERS or name.startswith(METADATA)}
    return {"Content-Type": headers.get("content-type", "application/octet-stream"), **stored}


def _object_headers(stored: StoredObject) -> dict[str, str]:
    return {
        **stored.headers,
        "ETag": f'"{stored.etag}"',
        "Last-Modified": formatdate(stored.modified, usegmt=True),
        "Accept-Ranges": "bytes",
        "x-oss-object-type": stored.type,
        "x-oss-storage-class": STORAGE_CLASS,
        CRC64: str(stored.crc64),
    }


def _heeds_range(request: Request, size: int) -> bool:
    """By default OSS sends the whole object for a range that is not entirely within it
    (https://www.alibabacloud.com/help/en/oss/how-to-obtain-oss-resources-by-segmenting-http-range-requests)."""
    if request.headers.get("x-oss-range-behavior") == "standard":
        return True
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("Range", ""))
    if match is None:
        return False
    first, last = match.groups()
    return int(first or 0) < size and int(last or 0) < size + (not first)


def _content_md5(call: Call) -> bytes | None:
    text = call.request.headers.get("Content-MD5")
    if text is None:
        return None
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise OssError(HTTPStatus.BAD_REQUEST, "InvalidDigest", "The Content-MD5 you specified was invalid.") from None


def _require_size(call: Call) -> None:
    if int(call.request.headers.get("Content-Length") or 0) > MAX_BODY_BYTES:
        raise OssError(
            HTTPStatus.BAD_REQUEST, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed size."
        )


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _boolean(value: bool) -> str:
    return "true" if value else "false"
