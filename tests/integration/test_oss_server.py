"""The OSS server, proven with clients that were not written for it: the official SDK and its predecessor.

What those would hide or retry (faults, malformed requests) is asked for with a plain client that signs by the SDK.
"""

import base64
import contextlib
import hashlib
import http.client
import io
import json
import random
import re
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import alibabacloud_oss_v2 as oss
import oss2
import pytest
from alibabacloud_oss_v2.signer.v4 import SignerV4
from alibabacloud_oss_v2.types import HttpRequest, SigningContext

from local.faults import Fault
from local.http_service import Body, FilePart, Request, Response, Service
from local.oss.access import AccessKey
from local.oss.policy import Policy, allows, resource_name
from local.oss.server import OssServer

pytestmark = pytest.mark.integration

REGION = "cn-hangzhou"
OWNER = ("owner-id", "owner-secret")
BUCKET = "weights"
PART = 100 * 1024
ROOT = Path(__file__).parents[2]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OssServer]:
    with OssServer(data=tmp_path / "oss", region=REGION) as server:
        server.access_keys.put(OWNER[0], AccessKey(secret=OWNER[1], policies=None))
        yield server


@pytest.fixture
def client(server: OssServer) -> oss.Client:
    client = official(server)
    client.put_bucket(oss.PutBucketRequest(bucket=BUCKET))
    return client


def official(server: OssServer, key: tuple[str, ...] = OWNER, *, region: str = REGION, attempts: int = 1) -> oss.Client:
    """The official SDK, with checksums; ``key`` is id, secret and token."""
    config = oss.config.load_default()
    config.credentials_provider = oss.credentials.StaticCredentialsProvider(*key)
    config.region = region
    config.endpoint = server.url
    config.retry_max_attempts = attempts
    return oss.Client(config)


def predecessor(server: OssServer) -> oss2.Bucket:
    auth = oss2.ProviderAuthV4(oss2.StaticCredentialsProvider(*OWNER))
    return oss2.Bucket(auth, server.url, BUCKET, region=REGION, is_path_style=True)


def refused(call: Any, *arguments: Any, **options: Any) -> tuple[int, str]:
    """Status and code of the official SDK's error."""
    with pytest.raises(oss.exceptions.OperationError) as caught:
        call(*arguments, **options)
    error = caught.value.unwrap()
    assert isinstance(error, oss.exceptions.ServiceError), error
    return error.status_code, error.code


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def code(self) -> str:
        found = re.search(b"<Code>(.*)</Code>", self.body)
        return found[1].decode() if found else ""


def plain(
    server: Service,
    method: str,
    resource: str,
    query: str = "",
    *,
    headers: Mapping[str, str] | None = None,
    body: Any = None,
    host: str | None = None,
    signed_at: datetime | None = None,
    product: str = "oss",
) -> Answer:
    """A request that is signed by the SDK's signer and sent as it is; ``resource`` is ``bucket/key``."""
    bucket, _, key = resource.partition("/")
    path = quote(key if host else resource)
    address = urlsplit(server.url).netloc
    request = HttpRequest(method, f"{server.url}/{path}" + (f"?{query}" if query else ""), headers=dict(headers or {}))
    context = SigningContext(
        product=product,
        region=REGION,
        bucket=bucket or None,
        key=key or None,
        request=request,
        credentials=oss.credentials.Credentials(*OWNER),
        signing_time=signed_at,
    )
    SignerV4().sign(context)
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        target = request.url.removeprefix(server.url)
        connection.request(method, target, body=body, headers={**request.headers, "Host": host or address})
        return Answer(connection.getresponse())
    finally:
        connection.close()


def put(client: oss.Client, key: str, body: bytes = b"content", **options: Any) -> Any:
    return client.put_object(oss.PutObjectRequest(bucket=BUCKET, key=key, body=body, **options))


def get(client: oss.Client, key: str, **options: Any) -> bytes:
    body = client.get_object(oss.GetObjectRequest(bucket=BUCKET, key=key, **options)).body
    assert body is not None
    return bytes(body.content)


def begin(client: oss.Client, key: str = "object") -> str:
    result = client.initiate_multipart_upload(oss.InitiateMultipartUploadRequest(bucket=BUCKET, key=key))
    return str(result.upload_id)


def send(client: oss.Client, upload: str, number: int, body: bytes, key: str = "object") -> oss.UploadPart:
    result = client.upload_part(
        oss.UploadPartRequest(bucket=BUCKET, key=key, upload_id=upload, part_number=number, body=body)
    )
    return oss.UploadPart(part_number=number, etag=result.etag)


def complete(
    client: oss.Client, upload: str, parts: list[oss.UploadPart] | None, key: str = "object", **options: Any
) -> Any:
    document = None if parts is None else oss.CompleteMultipartUpload(parts=parts)
    return client.complete_multipart_upload(
        oss.CompleteMultipartUploadRequest(
            bucket=BUCKET, key=key, upload_id=upload, complete_multipart_upload=document, **options
        )
    )


def some_bytes(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


class TestBuckets:
    def test_life(self, server: OssServer, client: oss.Client) -> None:
        info = client.get_bucket_info(oss.GetBucketInfoRequest(bucket=BUCKET)).bucket_info
        assert info is not None
        assert (info.name, info.location, info.acl) == (BUCKET, f"oss-{REGION}", "private")
        assert [bucket.name for bucket in client.list_buckets(oss.ListBucketsRequest()).buckets or []] == [BUCKET]
        assert client.is_bucket_exist(BUCKET)
        client.delete_bucket(oss.DeleteBucketRequest(bucket=BUCKET))
        assert not client.is_bucket_exist(BUCKET)

    def test_errors(self, client: oss.Client) -> None:
        assert refused(client.put_bucket, oss.PutBucketRequest(bucket=BUCKET)) == (409, "BucketAlreadyExists")
        assert refused(client.get_bucket_info, oss.GetBucketInfoRequest(bucket="other")) == (404, "NoSuchBucket")
        request = oss.PutObjectRequest(bucket="other", key="key", body=b"")
        assert refused(client.put_object, request) == (404, "NoSuchBucket")

    @pytest.mark.parametrize("name", ["ab", "Upper", "-dash", "dash-", "x" * 64])
    def test_invalid_name(self, server: OssServer, name: str) -> None:
        answer = plain(server, "PUT", f"{name}/")
        assert (answer.status, answer.code) == (400, "InvalidBucketName")

    @pytest.mark.parametrize("content", ["object", "upload"])
    def test_not_deleted_while_something_is_in_it(self, client: oss.Client, content: str) -> None:
        upload = begin(client) if content == "upload" else put(client, "object") and ""
        assert refused(client.delete_bucket, oss.DeleteBucketRequest(bucket=BUCKET)) == (409, "BucketNotEmpty")
        if upload:
            client.abort_multipart_upload(
                oss.AbortMultipartUploadRequest(bucket=BUCKET, key="object", upload_id=upload)
            )
        else:
            client.delete_object(oss.DeleteObjectRequest(bucket=BUCKET, key="object"))
        client.delete_bucket(oss.DeleteBucketRequest(bucket=BUCKET))

    @pytest.mark.parametrize("host", [f"{BUCKET}.localhost:80", f"{BUCKET}.oss-cn-hangzhou-internal.aliyuncs.com"])
    def test_addressed_by_host_name(self, server: OssServer, client: oss.Client, host: str) -> None:
        put(client, "folder/key", b"by host")
        assert plain(server, "GET", f"{BUCKET}/folder/key", host=host).body == b"by host"
        assert b"<Key>folder/key</Key>" in plain(server, "GET", f"{BUCKET}/", host=host).body

    def test_bucket_of_another_account_has_its_name_and_shows_nothing(
        self, server: OssServer, client: oss.Client
    ) -> None:
        body = json.dumps({"owner": "2000000000000000"}).encode()
        assert raw(server, "PUT", "/-/buckets/theirs", body=body).status == 204
        assert refused(client.put_bucket, oss.PutBucketRequest(bucket="theirs")) == (409, "BucketAlreadyExists")
        assert refused(client.get_bucket_info, oss.GetBucketInfoRequest(bucket="theirs")) == (403, "AccessDenied")
        listed = client.list_buckets(oss.ListBucketsRequest()).buckets or []
        assert [bucket.name for bucket in listed] == [BUCKET]

    def test_that_there_is_no_such_bucket_is_told_without_a_signature(self, server: OssServer) -> None:
        answer = raw(server, "GET", "/nowhere/")
        assert (answer.status, answer.code) == (404, "NoSuchBucket")


class TestObjects:
    def test_life(self, client: oss.Client) -> None:
        stored = put(
            client, "a b+c/ü%.txt", b"hello", metadata={"sha256": "abc"}, content_type="text/plain", cache_control="no"
        )
        assert stored.etag == f'"{hashlib.md5(b"hello", usedforsecurity=False).hexdigest().upper()}"'
        head = client.head_object(oss.HeadObjectRequest(bucket=BUCKET, key="a b+c/ü%.txt"))
        assert (head.content_length, head.etag, head.hash_crc64) == (5, stored.etag, stored.hash_crc64)
        assert (head.metadata, head.content_type, head.cache_control) == ({"sha256": "abc"}, "text/plain", "no")
        assert head.object_type == "Normal"
        assert abs(head.last_modified.timestamp() - time.time()) < 60
        assert get(client, "a b+c/ü%.txt") == b"hello"
        put(client, "a b+c/ü%.txt", b"again")
        assert get(client, "a b+c/ü%.txt") == b"again"
        assert client.is_object_exist(BUCKET, "a b+c/ü%.txt")
        for _ in range(2):
            client.delete_object(oss.DeleteObjectRequest(bucket=BUCKET, key="a b+c/ü%.txt"))
        assert not client.is_object_exist(BUCKET, "a b+c/ü%.txt")

    def test_crc64_is_that_of_the_sdk(self, client: oss.Client) -> None:
        data = some_bytes(3 * 2**20 + 1)
        crc = oss.crc.Crc64(0)
        crc.update(data)
        assert put(client, "object", data).hash_crc64 == str(crc.sum64())
        assert get(client, "object") == data

    def test_empty(self, client: oss.Client) -> None:
        put(client, "empty", b"")
        assert get(client, "empty") == b""

    def test_body_of_unknown_length(self, server: OssServer, client: oss.Client) -> None:
        pieces = [some_bytes(size) for size in (1, 2**20 + 3, 100)]
        assert plain(server, "PUT", f"{BUCKET}/chunked", body=iter(pieces)).status == 200
        assert get(client, "chunked") == b"".join(pieces)

    @pytest.mark.parametrize("sent", [b"", b"5", b"5\r\n", b"5\r\nabc", b"5\r\nabcde", b"5\r\nabcde\r\n"])
    def test_body_of_unknown_length_that_breaks_off(
        self, server: OssServer, client: oss.Client, sent: bytes, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The client is gone, and the server is fine."""
        host, port = urlsplit(server.url).netloc.split(":")
        with socket.create_connection((host, int(port))) as connection:
            head = f"PUT /{BUCKET}/broken HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n"
            connection.sendall(head.encode() + sent)
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(100) == b""
        assert not client.is_object_exist(BUCKET, "broken")
        assert capsys.readouterr().err == ""

    def test_errors(self, server: OssServer, client: oss.Client) -> None:
        put(client, "object")
        request = oss.GetObjectRequest(bucket=BUCKET, key="missing")
        assert refused(client.get_object, request) == (404, "NoSuchKey")
        head = oss.HeadObjectRequest(bucket=BUCKET, key="missing")
        assert refused(client.head_object, head) == (404, "NoSuchKey")
        assert refused(put, client, "object", forbid_overwrite=True) == (409, "FileAlreadyExists")
        assert refused(put, client, "k" * 1024) == (400, "InvalidObjectName")
        unsupported = plain(server, "PUT", f"{BUCKET}/object", "acl")
        assert (unsupported.status, unsupported.code) == (501, "NotImplemented")

    def test_content_md5(self, client: oss.Client) -> None:
        md5 = base64.b64encode(hashlib.md5(b"content", usedforsecurity=False).digest()).decode()
        put(client, "object", b"content", content_md5=md5)
        assert refused(put, client, "object", b"kontent", content_md5=md5) == (400, "InvalidDigest")
        assert refused(put, client, "object", b"kontent", content_md5="no base64") == (400, "InvalidDigest")
        assert get(client, "object") == b"content"

    def test_too_large(self, client: oss.Client, monkeypatch: pytest.MonkeyPatch) -> None:
        upload = begin(client)
        monkeypatch.setattr("local.oss.operations.MAX_BODY_BYTES", 3)
        assert refused(put, client, "object", b"1234") == (400, "EntityTooLarge")
        assert refused(send, client, upload, 1, b"1234") == (400, "EntityTooLarge")
        put(client, "object", b"123")


class TestRanges:
    DATA = some_bytes(1000)

    @pytest.mark.parametrize(
        ("header", "start", "stop"),
        [("bytes=0-499", 0, 500), ("bytes=500-999", 500, 1000), ("bytes=-10", 990, 1000), ("bytes=300-", 300, 1000)],
    )
    def test_valid(self, client: oss.Client, header: str, start: int, stop: int) -> None:
        whole = put(client, "object", self.DATA)
        result = client.get_object(oss.GetObjectRequest(bucket=BUCKET, key="object", range_header=header))
        assert result.status_code == 206
        assert result.content_range == f"bytes {start}-{stop - 1}/1000"
        assert result.hash_crc64 == whole.hash_crc64
        assert result.body is not None
        assert result.body.content == self.DATA[start:stop]

    @pytest.mark.parametrize("header", ["bytes=0-1000", "bytes=1000-", "bytes=-2000", "bytes=0-1,3-4", "byte=0-1"])
    def test_not_within_the_object(self, server: OssServer, client: oss.Client, header: str) -> None:
        put(client, "object", self.DATA)
        answer = plain(server, "GET", f"{BUCKET}/object", headers={"Range": header})
        assert (answer.status, answer.body) == (200, self.DATA)

    def test_standard_behaviour(self, client: oss.Client) -> None:
        put(client, "object", self.DATA)
        assert get(client, "object", range_header="bytes=990-2000", range_behavior="standard") == self.DATA[990:]
        request = oss.GetObjectRequest(
            bucket=BUCKET, key="object", range_header="bytes=1000-", range_behavior="standard"
        )
        assert refused(client.get_object, request) == (416, "InvalidRange")


class TestListing:
    KEYS = ("a/1", "a/2", "a/b/3", "a0", "b", "c/1", "ä &<>", "Z")
    SORTED = ("Z", "a/1", "a/2", "a/b/3", "a0", "b", "c/1", "ä &<>")

    @pytest.fixture(autouse=True)
    def _objects(self, client: oss.Client) -> None:
        for key in self.KEYS:
            put(client, key, key.encode())

    @pytest.mark.parametrize("page", [1, 2, 3, 1000])
    def test_pages(self, client: oss.Client, page: int) -> None:
        pages = list(client.list_objects_v2_paginator(limit=page).iter_page(oss.ListObjectsV2Request(bucket=BUCKET)))
        found = [item for result in pages for item in result.contents or []]
        assert [item.key for item in found] == list(self.SORTED)
        assert [item.size for item in found] == [len(key.encode()) for key in self.SORTED]
        assert len(pages) == -(-len(self.SORTED) // page)
        first_version = client.list_objects_paginator(limit=page).iter_page(oss.ListObjectsRequest(bucket=BUCKET))
        assert [item.key for result in first_version for item in result.contents or []] == list(self.SORTED)

    @pytest.mark.parametrize("page", [1, 2, 1000])
    @pytest.mark.parametrize(
        ("prefix", "keys", "prefixes"),
        [("", ["Z", "a0", "b", "ä &<>"], ["a/", "c/"]), ("a/", ["a/1", "a/2"], ["a/b/"]), ("a_", [], [])],
    )
    def test_folders(
        self, server: OssServer, client: oss.Client, page: int, prefix: str, keys: list[str], prefixes: list[str]
    ) -> None:
        request = oss.ListObjectsV2Request(bucket=BUCKET, prefix=prefix, delimiter="/")
        pages = list(client.list_objects_v2_paginator(limit=page).iter_page(request))
        assert [item.key for result in pages for item in result.contents or []] == keys
        assert [item.prefix for result in pages for item in result.common_prefixes or []] == prefixes
        found = list(oss2.ObjectIterator(predecessor(server), prefix=prefix, delimiter="/", max_keys=page))
        assert sorted(item.key for item in found) == sorted(keys + prefixes)

    def test_start_after(self, client: oss.Client) -> None:
        result = client.list_objects_v2(oss.ListObjectsV2Request(bucket=BUCKET, start_after="a/b/3", max_keys=2))
        assert [item.key for item in result.contents or []] == ["a0", "b"]
        assert (result.key_count, result.is_truncated) == (2, True)

    @pytest.mark.parametrize(
        "query", ["max-keys=0", "max-keys=1001", "max-keys=x", "encoding-type=hex", "list-type=2&continuation-token=_"]
    )
    def test_errors(self, server: OssServer, query: str) -> None:
        answer = plain(server, "GET", f"{BUCKET}/", query)
        assert (answer.status, answer.code) == (400, "InvalidArgument")


class TestMultipart:
    def test_uploader_and_downloader(self, client: oss.Client, tmp_path: Path) -> None:
        data = some_bytes(5 * PART + 7)
        request = oss.PutObjectRequest(bucket=BUCKET, key="object", metadata={"sha256": "abc"})
        result = client.uploader(part_size=PART, parallel_num=3).upload_from(request, io.BytesIO(data))
        head = client.head_object(oss.HeadObjectRequest(bucket=BUCKET, key="object"))
        crc = oss.crc.Crc64(0)
        crc.update(data)
        assert result.hash_crc64 == head.hash_crc64 == str(crc.sum64())
        assert (head.content_length, head.object_type, head.metadata) == (len(data), "Multipart", {"sha256": "abc"})
        assert str(head.etag).strip('"').endswith("-6")
        copy = tmp_path / "copy"
        client.downloader(part_size=2 * PART, parallel_num=2).download_file(
            oss.GetObjectRequest(bucket=BUCKET, key="object"), str(copy)
        )
        assert copy.read_bytes() == data

    def test_predecessors_resumable_upload(self, server: OssServer, client: oss.Client, tmp_path: Path) -> None:
        data = some_bytes(3 * PART + 7)
        (tmp_path / "file").write_bytes(data)
        bucket = predecessor(server)
        store = oss2.ResumableStore(root=str(tmp_path))
        server.faults.add(Fault(action="answer", path="partNumber=3", times=None))
        options: dict[str, Any] = {"multipart_threshold": PART, "part_size": PART, "num_threads": 1, "store": store}
        with pytest.raises(oss2.exceptions.ServerError):
            oss2.resumable_upload(bucket, "object", str(tmp_path / "file"), **options)
        server.faults.clear()
        server.forget_requests()
        oss2.resumable_upload(bucket, "object", str(tmp_path / "file"), **options)
        assert [request.query["partNumber"] for request in server.requests if "partNumber" in request.query] == [
            "3",
            "4",
        ]
        assert bucket.get_object("object").read() == get(client, "object") == data

    @pytest.mark.parametrize("page", [1, 2, 1000])
    def test_list_parts(self, client: oss.Client, page: int) -> None:
        upload = begin(client)
        sizes = {1: 3, 7: PART, 10_000: 5}
        sent = {number: send(client, upload, number, some_bytes(size)) for number, size in sizes.items()}
        sent[7] = send(client, upload, 7, some_bytes(8))
        pages = client.list_parts_paginator(limit=page).iter_page(
            oss.ListPartsRequest(bucket=BUCKET, key="object", upload_id=upload)
        )
        parts = [part for result in pages for part in result.parts or []]
        assert [(part.part_number, part.size) for part in parts] == [(1, 3), (7, 8), (10_000, 5)]
        assert [part.etag for part in parts] == [sent[number].etag for number in sizes]
        crc = oss.crc.Crc64(0)
        crc.update(some_bytes(8))
        assert parts[1].hash_crc64 == str(crc.sum64())

    @pytest.mark.parametrize("page", [1, 2, 1000])
    def test_list_uploads(self, client: oss.Client, page: int) -> None:
        uploads = sorted((key, begin(client, key)) for key in ("b/2", "a/1", "b/1", "b/1", "b/1", "c"))
        pages = client.list_multipart_uploads_paginator(limit=page).iter_page(
            oss.ListMultipartUploadsRequest(bucket=BUCKET, prefix="b/")
        )
        found = [(item.key, item.upload_id) for result in pages for item in result.uploads or []]
        assert found == [upload for upload in uploads if upload[0].startswith("b/")]

    def test_object_appears_at_completion_only(self, client: oss.Client) -> None:
        put(client, "object", b"before")
        upload = begin(client)
        parts = [send(client, upload, number, some_bytes(PART, number)) for number in (2, 5)]
        assert get(client, "object") == b"before"
        complete(client, upload, parts)
        assert get(client, "object") == some_bytes(PART, 2) + some_bytes(PART, 5)
        assert refused(complete, client, upload, parts) == (404, "NoSuchUpload")

    def test_all_parts(self, client: oss.Client) -> None:
        upload = begin(client)
        for number in (1, 2):
            send(client, upload, number, some_bytes(PART, number))
        complete(client, upload, None, complete_all="yes")
        assert get(client, "object") == some_bytes(PART, 1) + some_bytes(PART, 2)

    def test_completion_errors(self, server: OssServer, client: oss.Client) -> None:
        upload = begin(client)
        small, large, last = (send(client, upload, n, some_bytes(s)) for n, s in ((1, PART - 1), (2, PART), (3, 1)))
        wrong = oss.UploadPart(part_number=2, etag=last.etag)
        missing = oss.UploadPart(part_number=4, etag=last.etag)
        assert refused(complete, client, upload, [small, last]) == (400, "EntityTooSmall")
        assert refused(complete, client, upload, [last, large]) == (400, "InvalidPartOrder")
        assert refused(complete, client, upload, [large, large]) == (400, "InvalidPartOrder")
        assert refused(complete, client, upload, [wrong]) == (400, "InvalidPart")
        assert refused(complete, client, upload, [missing]) == (400, "InvalidPart")
        assert refused(complete, client, "0" * 32, [large]) == (404, "NoSuchUpload")
        assert refused(complete, client, upload, [large], "other") == (404, "NoSuchUpload")
        put(client, "object")
        assert refused(complete, client, upload, [large], forbid_overwrite=True) == (409, "FileAlreadyExists")
        for body in (b"", b"<Other/>", b"<CompleteMultipartUpload/>"):
            answer = plain(server, "POST", f"{BUCKET}/object", f"uploadId={upload}", body=body)
            assert (answer.status, answer.code) == (400, "MalformedXML")
        assert not client.is_object_exist(BUCKET, "other")
        assert get(client, "object") == b"content"
        complete(client, upload, [large, last])

    def test_part_errors(self, client: oss.Client) -> None:
        upload = begin(client)
        assert refused(send, client, upload, 0, b"x") == (400, "InvalidArgument")
        assert refused(send, client, upload, 10_001, b"x") == (400, "InvalidArgument")
        assert refused(send, client, "0" * 32, 1, b"x") == (404, "NoSuchUpload")
        request = oss.UploadPartRequest(
            bucket=BUCKET, key="object", upload_id=upload, part_number=1, body=b"x", content_md5="AAAA"
        )
        assert refused(client.upload_part, request) == (400, "InvalidDigest")

    def test_abort(self, server: OssServer, client: oss.Client, tmp_path: Path) -> None:
        upload = begin(client)
        send(client, upload, 1, some_bytes(PART))
        request = oss.AbortMultipartUploadRequest(bucket=BUCKET, key="object", upload_id=upload)
        client.abort_multipart_upload(request)
        assert refused(client.abort_multipart_upload, request) == (404, "NoSuchUpload")
        assert list((tmp_path / "oss" / "contents").iterdir()) == []


class TestSignatures:
    def test_wrong_secret_and_unknown_key(self, server: OssServer, client: oss.Client) -> None:
        assert refused(put, official(server, (OWNER[0], "wrong")), "key") == (403, "SignatureDoesNotMatch")
        assert refused(put, official(server, ("unknown", "wrong")), "key") == (403, "InvalidAccessKeyId")
        assert not client.is_object_exist(BUCKET, "key")

    def test_wrong_region_and_product(self, server: OssServer, client: oss.Client) -> None:
        assert refused(put, official(server, region="cn-beijing"), "key") == (400, "InvalidArgument")
        answer = plain(server, "GET", f"{BUCKET}/", product="oss-cloudbox")
        assert (answer.status, answer.code) == (400, "InvalidArgument")
        assert b"Invalid signing product" in answer.body

    @pytest.mark.parametrize("minutes", [-16, 16])
    def test_wrong_clock(self, server: OssServer, client: oss.Client, minutes: int) -> None:
        answer = plain(server, "GET", f"{BUCKET}/", signed_at=datetime.now(UTC) + timedelta(minutes=minutes))
        assert (answer.status, answer.code) == (403, "RequestTimeTooSkewed")

    @pytest.mark.parametrize("minutes", [-14, 14])
    def test_tolerable_clock(self, server: OssServer, client: oss.Client, minutes: int) -> None:
        signed_at = datetime.now(UTC) + timedelta(minutes=minutes)
        assert plain(server, "GET", f"{BUCKET}/", signed_at=signed_at).status == 200

    @pytest.mark.parametrize(
        ("authorization", "status", "code", "message"),
        [
            (None, 403, "AccessDenied", "Anonymous access is forbidden"),
            ("OSS id:signature", 400, "InvalidArgument", "only signatures of version 4"),
            ("OSS4-HMAC-SHA256 Signature=1", 400, "InvalidArgument", "Credential or Signature is missing"),
            (
                "OSS4-HMAC-SHA256 Credential=owner-id/20200101/cn-hangzhou/oss/aliyun_v4_request,Signature=1",
                *(400, "InvalidArgument", "x-oss-date is missing"),
            ),
        ],
    )
    def test_malformed(
        self, server: OssServer, client: oss.Client, authorization: str | None, status: int, code: str, message: str
    ) -> None:
        headers = {"x-oss-content-sha256": "UNSIGNED-PAYLOAD"}
        answer = raw(
            server, "GET", f"/{BUCKET}/", headers | ({"Authorization": authorization} if authorization else {})
        )
        assert (answer.status, answer.code) == (status, code)
        assert message in answer.body.decode()

    def test_signed_payload_and_foreign_date(self, server: OssServer, client: oss.Client) -> None:
        fields = "Credential=owner-id/20200101/cn-hangzhou/oss/aliyun_v4_request,Signature=1"
        headers = {"Authorization": f"OSS4-HMAC-SHA256 {fields}", "x-oss-date": "20200102T000000Z"}
        answer = raw(server, "GET", f"/{BUCKET}/", headers)
        assert (answer.code, b"UNSIGNED-PAYLOAD" in answer.body) == ("InvalidArgument", True)
        answer = raw(server, "GET", f"/{BUCKET}/", headers | {"x-oss-content-sha256": "UNSIGNED-PAYLOAD"})
        assert (answer.code, b"Invalid signing date" in answer.body) == ("InvalidArgument", True)

    def test_presigned(self, server: OssServer, client: oss.Client) -> None:
        put(client, "a b", b"signed for you")
        url = str(client.presign(oss.GetObjectRequest(bucket=BUCKET, key="a b")).url)
        older = predecessor(server).sign_url("GET", "a b", 60, slash_safe=True, headers={"x-extra": "1"})
        for signed in (url, older):
            answer = raw(server, "GET", signed.removeprefix(server.url), {"x-extra": "1"})
            assert (answer.status, answer.body) == (200, b"signed for you")
        target = url.removeprefix(server.url)
        assert raw(server, "GET", target + "&prefix=x").code == "SignatureDoesNotMatch"
        assert raw(server, "GET", target.replace("a%20b", "other")).code == "SignatureDoesNotMatch"
        assert raw(server, "PUT", target).code == "SignatureDoesNotMatch"
        assert "signature" in " ".join(server.requests[-1].query)
        assert url.partition("x-oss-signature=")[2] not in str(server.requests)

    def test_presigned_for_a_while(self, server: OssServer, client: oss.Client) -> None:
        put(client, "key")
        url = str(client.presign(oss.GetObjectRequest(bucket=BUCKET, key="key")).url).removeprefix(server.url)
        assert raw(server, "GET", re.sub("x-oss-expires=[0-9]*", "x-oss-expires=0", url)).code == "InvalidArgument"
        earlier = datetime.now(UTC) - timedelta(hours=2)
        request = HttpRequest("GET", f"{server.url}/{BUCKET}/key")
        context = SigningContext(
            product="oss",
            region=REGION,
            bucket=BUCKET,
            key="key",
            request=request,
            credentials=oss.credentials.Credentials(*OWNER),
            signing_time=earlier,
        )
        context.auth_method_query = True
        context.expiration_time = earlier + timedelta(hours=1)
        SignerV4().sign(context)
        answer = raw(server, "GET", request.url.removeprefix(server.url))
        assert (answer.code, b"Request has expired" in answer.body) == ("AccessDenied", True)

    def test_temporary_credentials(self, server: OssServer, client: oss.Client) -> None:
        later, earlier = (datetime.now(UTC) + timedelta(minutes=minutes) for minutes in (5, -5))
        server.access_keys.put("sts", AccessKey(secret="s", security_token="t", expiration=later, policies=None))
        put(official(server, ("sts", "s", "t")), "key")
        assert refused(put, official(server, ("sts", "s", "other")), "key") == (403, "InvalidSecurityToken")
        assert refused(put, official(server, ("sts", "s")), "key") == (403, "InvalidAccessKeyId")
        assert refused(put, official(server, (*OWNER, "t")), "key") == (403, "InvalidSecurityToken")
        server.access_keys.put("sts", AccessKey(secret="s", security_token="t", expiration=earlier, policies=None))
        assert refused(put, official(server, ("sts", "s", "t")), "key") == (403, "SecurityTokenExpired")


def raw(
    server: Service, method: str, target: str, headers: Mapping[str, str] | None = None, body: Any = None
) -> Answer:
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=10)
    try:
        connection.request(method, target, body=body, headers=dict(headers or {}))
        return Answer(connection.getresponse())
    finally:
        connection.close()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline


def policy(*statements: tuple[str, str | list[str], str | list[str]]) -> dict[str, Any]:
    return {
        "Version": "1",
        "Statement": [{"Effect": e, "Action": a, "Resource": r} for e, a, r in statements],
    }


class TestPermissions:
    WRITER = policy(
        ("Allow", ["oss:ListObjects", "oss:ListMultipartUploads"], f"acs:oss:*:*:{BUCKET}"),
        (
            "Allow",
            ["oss:PutObject", "oss:GetObject", "oss:ListParts", "oss:AbortMultipartUpload"],
            f"acs:oss:*:*:{BUCKET}/r1/*",
        ),
    )
    READER = policy(("Allow", "oss:Get*", f"acs:oss:*:*:{BUCKET}/r1/*"))

    def restricted(self, server: OssServer, *documents: dict[str, Any]) -> oss.Client:
        body = json.dumps({"secret": "s", "policies": documents})
        assert raw(server, "PUT", "/-/access-keys/ram", body=body).status == 204
        return official(server, ("ram", "s"))

    def test_writer(self, server: OssServer, client: oss.Client) -> None:
        writer = self.restricted(server, self.WRITER)
        put(writer, "r1/small")
        upload = begin(writer, "r1/large")
        complete(writer, upload, [send(writer, upload, 1, b"part", "r1/large")], "r1/large")
        assert get(writer, "r1/large") == b"part"
        upload = begin(writer, "r1/other")
        writer.list_parts(oss.ListPartsRequest(bucket=BUCKET, key="r1/other", upload_id=upload))
        writer.list_multipart_uploads(oss.ListMultipartUploadsRequest(bucket=BUCKET))
        writer.abort_multipart_upload(oss.AbortMultipartUploadRequest(bucket=BUCKET, key="r1/other", upload_id=upload))
        writer.list_objects_v2(oss.ListObjectsV2Request(bucket=BUCKET))
        denied = (403, "AccessDenied")
        assert refused(put, writer, "r2/small") == denied
        assert refused(begin, writer, "r2/large") == denied
        assert refused(writer.delete_object, oss.DeleteObjectRequest(bucket=BUCKET, key="r1/small")) == denied
        assert refused(writer.get_bucket_info, oss.GetBucketInfoRequest(bucket=BUCKET)) == denied
        assert refused(writer.put_bucket, oss.PutBucketRequest(bucket="another")) == denied
        assert refused(writer.delete_bucket, oss.DeleteBucketRequest(bucket=BUCKET)) == denied
        assert refused(writer.list_buckets, oss.ListBucketsRequest()) == denied

    def test_reader(self, server: OssServer, client: oss.Client) -> None:
        put(client, "r1/key", b"weights")
        upload = begin(client, "r1/key")
        reader = self.restricted(server, self.READER)
        assert get(reader, "r1/key") == b"weights"
        assert reader.head_object(oss.HeadObjectRequest(bucket=BUCKET, key="r1/key")).content_length == 7
        denied = (403, "AccessDenied")
        assert refused(put, reader, "r1/key") == denied
        assert refused(send, reader, upload, 1, b"x", "r1/key") == denied
        assert refused(complete, reader, upload, [], "r1/key") == denied
        assert refused(reader.list_objects_v2, oss.ListObjectsV2Request(bucket=BUCKET)) == denied
        assert refused(reader.list_objects, oss.ListObjectsRequest(bucket=BUCKET)) == denied
        assert refused(reader.list_multipart_uploads, oss.ListMultipartUploadsRequest(bucket=BUCKET)) == denied
        listing = oss.ListPartsRequest(bucket=BUCKET, key="r1/key", upload_id=upload)
        assert refused(reader.list_parts, listing) == denied

    def test_deny_wins_and_keys_can_change(self, server: OssServer, client: oss.Client) -> None:
        put(client, "r1/key", b"weights")
        user = self.restricted(server, self.READER)
        assert get(user, "r1/key") == b"weights"
        self.restricted(server, self.READER, policy(("Deny", "*", "*")))
        request = oss.GetObjectRequest(bucket=BUCKET, key="r1/key")
        assert refused(user.get_object, request) == (403, "AccessDenied")
        assert raw(server, "DELETE", "/-/access-keys/ram").status == 204
        assert refused(user.get_object, request) == (403, "InvalidAccessKeyId")

    @pytest.mark.parametrize(
        ("action", "resource", "allowed"),
        [
            ("oss:*", "*", True),
            ("oss:GetObject", "acs:oss:*:*:b/k", True),
            ("oss:GetObject", "acs:oss:oss-cn-hangzhou:*:b/*", True),
            ("oss:GetObject", "acs:oss:oss-cn-beijing:*:b/*", False),
            ("oss:Get???ect", "acs:oss:*:*:?/?", True),
            ("oss:GetObject", "acs:oss:*:*:b", False),
            ("oss:GetObject", "acs:oss:*:*:b/", False),
            ("oss:GetObjec", "*", False),
            ("oss:PutObject", "*", False),
            ("oss.GetObject", "*", False),
        ],
    )
    def test_patterns(self, action: str, resource: str, allowed: bool) -> None:
        document = Policy.model_validate(policy(("Allow", action, resource)))
        assert allows([document], "oss:GetObject", resource_name(REGION, "b", "k")) is allowed

    @pytest.mark.parametrize(
        ("key", "problem"),
        [
            ({"policies": []}, "secret: Field required"),
            ({"secret": "", "policies": []}, "secret: String should have at least 1 character"),
            ({"secret": "hush"}, "policies: Field required"),
            ({"secret": "hush", "policies": None, "x": 1}, "x: Extra inputs are not permitted"),
            ({"secret": "hush", "policies": None, "expiration": "2026-01-01T00:00:00"}, "expiration: "),
            (
                {
                    "secret": "hush",
                    "policies": [{"Version": "1", "Statement": [{"Effect": "Allow", "Condition": {"IpAddress": {}}}]}],
                },
                "policies.0.Statement.0.Condition.IpAddress: Extra inputs are not permitted",
            ),
        ],
    )
    def test_bad_keys_are_refused_without_repeating_them(
        self, server: OssServer, key: dict[str, Any], problem: str
    ) -> None:
        answer = raw(server, "PUT", "/-/access-keys/ram", body=json.dumps(key))
        assert answer.status == 400
        assert problem in json.loads(answer.body)["message"]
        assert "hush" not in answer.body.decode()

    def test_secrets_are_not_shown(self) -> None:
        key = AccessKey(secret="hush", security_token="psst", policies=None)
        assert "hush" not in repr(key)
        assert "psst" not in repr(key)


class TestPersistence:
    def test_restart(self, tmp_path: Path) -> None:
        folder = tmp_path / "oss"
        with OssServer(data=folder) as server:
            server.access_keys.put(OWNER[0], AccessKey(secret=OWNER[1], policies=None))
            client = official(server)
            client.put_bucket(oss.PutBucketRequest(bucket=BUCKET))
            put(client, "small", b"small", metadata={"a": "b"})
            finished, unfinished = begin(client, "large"), begin(client, "other")
            parts = [send(client, finished, n, some_bytes(PART, n), "large") for n in (1, 2)]
            complete(client, finished, parts, "large")
            part = send(client, unfinished, 1, b"half", "other")
        assert stat.S_IMODE((folder / "access-keys.json").stat().st_mode) == 0o600
        with OssServer(data=folder) as server:
            client = official(server)
            assert get(client, "small") == b"small"
            assert get(client, "large") == some_bytes(PART, 1) + some_bytes(PART, 2)
            complete(client, unfinished, [part], "other")
            assert get(client, "other") == b"half"
            assert client.head_object(oss.HeadObjectRequest(bucket=BUCKET, key="small")).metadata == {"a": "b"}
        assert len(list((folder / "contents").iterdir())) == 4

    def test_kill(self, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "local.oss", "--data", str(tmp_path / "oss"), "--region", "cn-beijing"]
        contents: dict[str, bytes] = {}
        for round_ in range(2):
            with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
                assert process.stdout is not None
                server = Remote(process.stdout.readline().strip())
                if round_ == 0:
                    key = json.dumps({"secret": OWNER[1], "policies": None})
                    assert raw(server, "PUT", f"/-/access-keys/{OWNER[0]}", body=key).status == 204
                client = official(server, region="cn-beijing")
                if round_ == 0:
                    client.put_bucket(oss.PutBucketRequest(bucket=BUCKET))
                assert raw(server, "GET", "/-/health").status == 200
                assert {key: get(client, key) for key in contents} == contents
                contents[f"key-{round_}"] = some_bytes(1000, round_)
                put(client, f"key-{round_}", contents[f"key-{round_}"])
                process.kill() if round_ == 0 else process.terminate()
            assert process.returncode == (-9 if round_ == 0 else 0)

    def test_taken_port(self, server: OssServer) -> None:
        port = urlsplit(server.url).port
        result = subprocess.run(
            [sys.executable, "-m", "local.oss", "--port", str(port)], cwd=ROOT, capture_output=True, text=True
        )
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr == f"error: cannot serve at 127.0.0.1:{port}: Address already in use\n"

    def test_replaced_and_deleted_contents_are_not_kept(self, client: oss.Client, tmp_path: Path) -> None:
        for size in (1, 2, 3):
            put(client, "object", some_bytes(size))
        upload = begin(client)
        for size in (1, 2):
            part = send(client, upload, 1, some_bytes(size))
        send(client, upload, 2, b"unused")
        complete(client, upload, [part])
        assert [file.stat().st_size for file in (tmp_path / "oss" / "contents").iterdir()] == [2]
        client.delete_object(oss.DeleteObjectRequest(bucket=BUCKET, key="object"))
        assert list((tmp_path / "oss" / "contents").iterdir()) == []

    def test_an_open_download_outlives_its_object(self, client: oss.Client, server: OssServer) -> None:
        data = some_bytes(32 * 2**20)
        put(client, "object", data)
        body = client.get_object(oss.GetObjectRequest(bucket=BUCKET, key="object")).body
        assert body is not None
        put(client, "object", b"new")
        assert body.read() == data

    def test_without_a_folder(self) -> None:
        with OssServer(data=None) as server:
            server.access_keys.put(OWNER[0], AccessKey(secret=OWNER[1], policies=None))
            client = official(server)
            client.put_bucket(oss.PutBucketRequest(bucket=BUCKET))
            data = some_bytes(2**20 + PART)
            put(client, "small", data[: 2**20])
            assert get(client, "small") == data[: 2**20]
            upload = begin(client)
            parts = [send(client, upload, 1, data[:PART]), send(client, upload, 2, data[PART:])]
            stored = complete(client, upload, parts)
            crc = oss.crc.Crc64(0)
            crc.update(data)
            assert stored.hash_crc64 == str(crc.sum64())
            put(client, "large", data)
            head = client.head_object(oss.HeadObjectRequest(bucket=BUCKET, key="large"))
            assert (head.content_length, head.hash_crc64) == (len(data), str(crc.sum64()))
            request = oss.GetObjectRequest(bucket=BUCKET, key="large")
            assert refused(client.get_object, request) == (501, "NotImplemented")


class Remote(OssServer):
    """A server in another process, as far as the clients here need it."""

    def __init__(self, url: str) -> None:
        self._url = url

    @property
    def url(self) -> str:
        return self._url


CONTENT = some_bytes(3 * 2**20)


class Files(Service):
    """Answers GET with ``CONTENT`` from a file, and remembers what it is sent."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.path.write_bytes(CONTENT)
        self.received: list[bytes] = []

    def handle(self, request: Request) -> Response:
        if request.method == "PUT":
            self.received.append(request.body.read())
            return Response()
        if request.path == "/broken":
            raise ZeroDivisionError
        return Response(body=Body.of_file(self.path), ranged=True)


class TestFaults:
    @pytest.fixture
    def files(self, tmp_path: Path) -> Iterator[Files]:
        with Files(tmp_path / "file") as files:
            yield files

    def test_none(self, files: Files) -> None:
        answer = raw(files, "GET", "/file?a=b")
        assert (answer.status, answer.body) == (200, CONTENT)
        assert raw(files, "PUT", "/file", body=CONTENT).status == 200
        assert files.received == [CONTENT]
        log = [(entry.method, entry.path, dict(entry.query), entry.status) for entry in files.requests]
        assert log == [("GET", "/file", {"a": "b"}, 200), ("PUT", "/file", {}, 200)]
        assert [(entry.bytes_in, entry.bytes_out) for entry in files.requests] == [
            (0, len(CONTENT)),
            (len(CONTENT), 0),
        ]

    def test_which_requests(self, files: Files) -> None:
        files.faults.add(
            Fault(action="answer", method="HEAD", path=r"^/file\?part=2$", after=1, times=2, status=500),
            Fault(action="answer", path="other", times=None, status=404),
        )
        statuses = [raw(files, "HEAD", "/file?part=2").status for _ in range(5)]
        assert statuses == [200, 500, 500, 200, 200]
        assert raw(files, "HEAD", "/file?part=1").status == 200
        assert raw(files, "GET", "/file?part=2").status == 200
        assert {raw(files, "GET", "/other").status for _ in range(3)} == {404}
        assert files.faults.used_up()
        files.faults.clear()
        assert raw(files, "GET", "/other").status == 200

    def test_control_endpoint(self, files: Files) -> None:
        rules = json.dumps([{"action": "answer", "status": 429, "retry_after": 7, "times": None}])
        assert raw(files, "POST", "/-/faults", body=rules).status == 204
        answer = raw(files, "GET", "/file")
        assert (answer.status, answer.headers["Retry-After"]) == (429, "7")
        assert raw(files, "DELETE", "/-/faults").status == 204
        assert raw(files, "GET", "/file").status == 200
        assert raw(files, "GET", "/-/health").status == 200
        assert raw(files, "GET", "/-/unknown").status == 404
        assert [entry.path for entry in files.requests] == ["/file", "/file"]

    def test_hold(self, files: Files) -> None:
        """The first request waits until the rules are cleared; others do not. Then it is served."""
        files.faults.add(Fault(action="hold", method="PUT"))
        with ThreadPoolExecutor() as pool:
            held = pool.submit(raw, files, "PUT", "/file", body=CONTENT)
            until(lambda: json.loads(raw(files, "GET", "/-/faults").body) == [1])
            assert raw(files, "PUT", "/file", body=CONTENT).status == 200
            assert (len(files.received), held.done()) == (1, False)
            assert raw(files, "DELETE", "/-/faults").status == 204
            assert held.result().status == 200
        assert len(files.received) == 2

    def test_held_request_is_served_though_its_client_is_gone(self, server: OssServer) -> None:
        server.faults.add(Fault(action="hold", path="^/-/buckets/later"))
        with socket.create_connection(("127.0.0.1", urlsplit(server.url).port or 0)) as client:
            client.sendall(b"PUT /-/buckets/later HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
            until(lambda: server.faults.matched() == [1])
        assert raw(server, "GET", "/-/buckets/later").status == 404
        server.faults.clear()
        until(lambda: raw(server, "GET", "/-/buckets/later").status == 200)

    def test_control_endpoints_are_matched_by_their_own_rules_only(self, files: Files) -> None:
        files.faults.add(Fault(action="answer", times=None), Fault(action="answer", path="^/-/health", status=500))
        assert [raw(files, "GET", "/-/health").status for _ in range(2)] == [500, 200]
        assert raw(files, "GET", "/file").status == 503

    @pytest.mark.parametrize(
        ("rule", "problem"),
        [
            ({"action": "explode"}, "0.action: Input should be 'answer'"),
            ({"action": "answer", "status": 200}, "0.status: Input should be greater than or equal to 400"),
            ({"action": "answer", "path": "("}, "0.path: Value error, not a regular expression: "),
            ({"action": "answer", "code_": "x"}, "0.code_: Extra inputs are not permitted"),
            ({"action": "stale-size"}, "0: Value error, stale-size needs an offset other than 0"),
            ({"action": "flip-request", "offset": -1}, "the offset of flip-request is a place in the body"),
        ],
    )
    def test_bad_rules(self, files: Files, rule: dict[str, Any], problem: str) -> None:
        answer = raw(files, "POST", "/-/faults", body=json.dumps([rule]))
        assert answer.status == 400
        assert problem in json.loads(answer.body)["message"]

    def test_answer_in_the_format_of_oss(self, server: OssServer, client: oss.Client) -> None:
        server.faults.add(Fault(action="answer", status=503, code="UploadTrafficRateLimitExceeded", times=None))
        assert refused(put, client, "key") == (503, "UploadTrafficRateLimitExceeded")
        assert refused(client.head_object, oss.HeadObjectRequest(bucket=BUCKET, key="key"))[0] == 503
        server.faults.clear()
        assert not client.is_object_exist(BUCKET, "key")

    @pytest.mark.parametrize("offset", [0, 5, 2 * 2**20 + 5])
    def test_reset_request(self, files: Files, offset: int) -> None:
        files.faults.add(Fault(action="reset-request", offset=offset))
        with pytest.raises(ConnectionError):
            raw(files, "PUT", "/file", body=CONTENT)
        assert files.received == []
        assert files.requests[0].bytes_in == offset
        assert raw(files, "PUT", "/file", body=CONTENT).status == 200

    def test_reset_before_a_request_without_body(self, files: Files) -> None:
        files.faults.add(Fault(action="reset-request"))
        with pytest.raises(ConnectionResetError):
            raw(files, "GET", "/file")
        assert files.requests[0].status is None

    @pytest.mark.parametrize("offset", [0, 5, 2 * 2**20 + 5])
    def test_reset_response(self, files: Files, offset: int) -> None:
        files.faults.add(Fault(action="reset-response", offset=offset))
        status, received, error = self.partial(files)
        assert status == 200
        assert error is ConnectionResetError
        # What the client has not taken from its queue may be lost with a reset.
        assert received == CONTENT[: len(received)]
        assert len(received) <= offset
        assert files.requests[0].bytes_out == offset

    @pytest.mark.parametrize("offset", [0, 5, 2 * 2**20 + 5])
    def test_truncate_response(self, files: Files, offset: int) -> None:
        files.faults.add(Fault(action="truncate-response", offset=offset))
        assert self.partial(files) == (200, CONTENT[:offset], None)

    @staticmethod
    def partial(files: Files) -> tuple[int, bytes, type[Exception] | None]:
        connection = http.client.HTTPConnection(urlsplit(files.url).netloc, timeout=10)
        connection.request("GET", "/file")
        response = connection.getresponse()
        assert response.headers["Content-Length"] == str(len(CONTENT))
        received = bytearray()
        try:
            while piece := response.read1(2**16):
                received += piece
        except ConnectionError as error:
            return response.status, bytes(received), type(error)
        finally:
            connection.close()
        return response.status, bytes(received), None

    @pytest.mark.parametrize("offset", [0, 5, len(CONTENT) - 1])
    def test_flip(self, files: Files, offset: int) -> None:
        files.faults.add(Fault(action="flip-response", offset=offset), Fault(action="flip-request", offset=offset))
        changed = bytearray(CONTENT)
        changed[offset] ^= 1
        assert raw(files, "GET", "/file").body == changed
        assert raw(files, "PUT", "/file", body=CONTENT).status == 200
        assert files.received == [changed]
        assert raw(files, "GET", "/file").body == CONTENT

    def test_flip_makes_checksums_differ(self, server: OssServer, client: oss.Client) -> None:
        server.faults.add(Fault(action="flip-request", method="PUT", offset=3))
        with pytest.raises(oss.exceptions.OperationError) as caught:
            put(client, "key")
        assert isinstance(caught.value.unwrap(), oss.exceptions.InconsistentError)
        assert server.faults.used_up()

    def test_wrong_content_range(self, files: Files) -> None:
        files.faults.add(Fault(action="wrong-content-range", offset=3))
        answer = raw(files, "GET", "/file", headers={"Range": "bytes=10-19"})
        assert (answer.status, answer.headers["Content-Range"]) == (206, f"bytes 13-22/{len(CONTENT)}")
        assert answer.body == CONTENT[10:20]

    def test_ignore_range(self, files: Files) -> None:
        files.faults.add(Fault(action="ignore-range"))
        answer = raw(files, "GET", "/file", headers={"Range": "bytes=10-19"})
        assert (answer.status, answer.body, answer.headers["Content-Range"]) == (200, CONTENT, None)
        assert raw(files, "GET", "/file", headers={"Range": "bytes=10-19"}).body == CONTENT[10:20]

    def test_stale_size(self, files: Files, server: OssServer, client: oss.Client) -> None:
        files.faults.add(Fault(action="stale-size", offset=-3, times=2))
        assert raw(files, "HEAD", "/file").headers["Content-Length"] == str(len(CONTENT) - 3)
        answer = raw(files, "GET", "/file", headers={"Range": "bytes=10-19"})
        assert answer.headers["Content-Range"] == f"bytes 10-19/{len(CONTENT) - 3}"
        put(client, "key", b"content")
        upload = begin(client)
        send(client, upload, 1, b"part")
        server.faults.add(Fault(action="stale-size", offset=1, times=3))
        assert client.head_object(oss.HeadObjectRequest(bucket=BUCKET, key="key")).content_length == 8
        listed = client.list_objects_v2(oss.ListObjectsV2Request(bucket=BUCKET)).contents or []
        assert [item.size for item in listed] == [8]
        parts = client.list_parts(oss.ListPartsRequest(bucket=BUCKET, key="object", upload_id=upload)).parts or []
        assert [part.size for part in parts] == [5]

    def test_lose_answer(self, server: OssServer, client: oss.Client) -> None:
        server.faults.add(Fault(action="lose-answer", method="PUT"))
        with pytest.raises(ConnectionResetError):
            plain(server, "PUT", f"{BUCKET}/key", body=b"arrived")
        assert get(client, "key") == b"arrived"

    def test_slow_response(self, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
        pauses: list[float] = []
        monkeypatch.setattr(files.stopping, "wait", pauses.append)
        files.faults.add(Fault(action="slow-response", bytes_per_second=2**20))
        assert raw(files, "GET", "/file").body == CONTENT
        assert sum(pauses) == pytest.approx(len(CONTENT) / 2**20, rel=0.05)
        assert len(pauses) > 50

    def test_delay(self, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
        pauses: list[float] = []
        monkeypatch.setattr(files.stopping, "wait", pauses.append)
        files.faults.add(Fault(action="delay", seconds=90))
        assert raw(files, "GET", "/file").body == CONTENT
        assert pauses == [90]

    def test_stopping_ends_pauses_and_idle_connections(self, tmp_path: Path) -> None:
        with Files(tmp_path / "file") as files:
            files.faults.add(Fault(action="delay", path="slow", seconds=3600))
            idle = socket.create_connection(("127.0.0.1", urlsplit(files.url).port or 0))
            waiting = threading.Thread(target=self.ask, args=(files,))
            waiting.start()
            while not files.requests:
                time.sleep(0.001)
        waiting.join()
        assert idle.recv(1) == b""
        idle.close()

    @staticmethod
    def ask(files: Files) -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            raw(files, "GET", "/slow")


class TestHttp:
    @pytest.fixture
    def files(self, tmp_path: Path) -> Iterator[Files]:
        with Files(tmp_path / "file") as files:
            yield files

    @pytest.mark.parametrize(
        ("host", "status"),
        [("rebound.example.com:80", 403), ("", 403), ("127.0.0.1", 200), ("[::1]:9000", 200), ("localhost:1", 200)],
    )
    def test_control_endpoints_are_for_addresses(self, server: OssServer, host: str, status: int) -> None:
        """A web page can have its name lead here, and then reads what keys there are, or makes one."""
        assert raw(server, "GET", "/-/health", headers={"Host": host}).status == status

    def test_connection_is_kept_also_after_errors(self, files: Files) -> None:
        files.faults.add(Fault(action="answer", status=503))
        connection = http.client.HTTPConnection(urlsplit(files.url).netloc, timeout=10)
        connection.connect()
        first = connection.sock
        for status in (503, 200):
            connection.request("PUT", "/file", body=CONTENT)
            response = connection.getresponse()
            response.read()
            assert (response.status, connection.sock) == (status, first)
        connection.close()

    def test_own_failure_is_a_500(self, files: Files, capsys: pytest.CaptureFixture[str]) -> None:
        assert raw(files, "GET", "/broken").status == 500
        assert "ZeroDivisionError" in capsys.readouterr().err

    def test_unsatisfiable_range(self, files: Files) -> None:
        answer = raw(files, "GET", "/file", headers={"Range": f"bytes={len(CONTENT)}-"})
        assert (answer.status, answer.headers["Content-Range"]) == (416, f"bytes */{len(CONTENT)}")

    def test_body_that_breaks_off_is_not_stored(self, server: OssServer, client: oss.Client, tmp_path: Path) -> None:
        address = urlsplit(server.url)
        url = str(client.presign(oss.PutObjectRequest(bucket=BUCKET, key="key")).url)
        with socket.create_connection((address.hostname, address.port)) as connection:
            head = (
                f"PUT {url.removeprefix(server.url)} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: 10\r\n\r\n"
            )
            connection.sendall(head.encode() + b"half")
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(1) == b""
        assert not client.is_object_exist(BUCKET, "key")
        assert list((tmp_path / "oss" / "contents").iterdir()) == []

    def test_cut_of_a_body(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"34567")
        with (tmp_path / "file").open("rb") as file:
            body = Body(b"012", FilePart(file, 0, 5), b"89")
            assert body.size == 10
            for start in range(10):
                for stop in range(start, 11):
                    assert body.cut(start, stop).read() == b"0123456789"[start:stop]
