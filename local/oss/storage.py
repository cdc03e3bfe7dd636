"""Buckets, objects and multipart uploads: records in SQLite, contents in files.

A record changes in one transaction, and content is there before the record that names it, so a server that is killed
leaves at most files that no record names. An object made of parts goes on using their files.
"""

import hashlib
import json
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from http import HTTPStatus
from pathlib import Path
from typing import Any

from deepseek_acs.modelmover.checksums import combine
from local.http_service import Body, FilePart, RequestBody
from local.oss.contents import DroppedContents, FileContents, Received
from local.oss.errors import OssError
from local.oss.policy import ACCOUNT

MIN_PART_BYTES = 100 * 1024
"""Of every part but the last (https://www.alibabacloud.com/help/en/oss/developer-reference/completemultipartupload)."""

MAX_PART_NUMBER = 10_000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS buckets (name TEXT PRIMARY KEY, created REAL);
CREATE TABLE IF NOT EXISTS other_owners (bucket TEXT PRIMARY KEY, owner TEXT);
CREATE TABLE IF NOT EXISTS objects (
  bucket TEXT, key TEXT, size INTEGER, etag TEXT, crc64 TEXT, type TEXT, modified REAL, headers TEXT, contents TEXT,
  PRIMARY KEY (bucket, key)
);
CREATE TABLE IF NOT EXISTS uploads (id TEXT PRIMARY KEY, bucket TEXT, key TEXT, initiated REAL, headers TEXT);
CREATE INDEX IF NOT EXISTS uploads_by_key ON uploads (bucket, key, id);
CREATE TABLE IF NOT EXISTS parts (
  upload TEXT, number INTEGER, size INTEGER, etag TEXT, crc64 TEXT, modified REAL, content TEXT,
  PRIMARY KEY (upload, number)
);
"""

_BUCKETS = "SELECT name, created, owner FROM buckets LEFT JOIN other_owners ON bucket = name"


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """``created`` in seconds since the epoch, as all times here; ``owner`` is the ID of an account."""

    name: str
    created: float
    owner: str


@dataclass(frozen=True, kw_only=True)
class StoredObject:
    """An object without its bytes; ``headers`` are those that it was written with and is read with."""

    key: str
    size: int
    etag: str
    crc64: int
    type: str
    """Normal or Multipart."""
    modified: float
    headers: Mapping[str, str]
    contents: Sequence[tuple[str, int]]
    """Names and sizes."""


@dataclass(frozen=True, kw_only=True)
class Upload:
    """A multipart upload that is neither completed nor aborted."""

    id: str
    key: str
    initiated: float


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of an upload."""

    number: int
    size: int
    etag: str
    crc64: int
    modified: float
    content: str


class Storage:
    """Everything below ``folder``; in memory, and without the bytes of what is large, if that is None."""

    def __init__(self, folder: Path | None) -> None:
        self._contents = DroppedContents() if folder is None else FileContents(folder / "contents")
        self._database = sqlite3.connect(
            ":memory:" if folder is None else folder / "records.sqlite", check_same_thread=False
        )
        self._lock = threading.RLock()
        # What is written survives the end of this process, if not that of the machine.
        self._database.execute("PRAGMA synchronous=OFF")
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.executescript(_SCHEMA)

    def close(self) -> None:
        """Closes the database."""
        self._database.close()

    def buckets(self) -> list[Bucket]:
        """All, by name."""
        return [_bucket(row) for row in self._rows(f"{_BUCKETS} ORDER BY name")]

    def bucket(self, name: str) -> Bucket:
        """Raises OssError if there is none."""
        for row in self._rows(f"{_BUCKETS} WHERE name = ?", name):
            return _bucket(row)
        raise OssError(HTTPStatus.NOT_FOUND, "NoSuchBucket", "The specified bucket does not exist.")

    def create_bucket(self, name: str, owner: str = ACCOUNT) -> None:
        """Raises OssError if there is one, of whatever account: names are global."""
        try:
            with self._lock:
                self._change("INSERT INTO buckets VALUES (?, ?)", name, time.time())
                if owner != ACCOUNT:
                    self._change("INSERT INTO other_owners VALUES (?, ?)", name, owner)
        except sqlite3.IntegrityError:
            raise OssError(
                HTTPStatus.CONFLICT, "BucketAlreadyExists", "The requested bucket name is not available."
            ) from None

    def delete_bucket(self, name: str) -> None:
        """Raises OssError if it has objects or unfinished uploads."""
        with self._lock:
            for table in ("objects", "uploads"):
                if self._rows(f"SELECT 1 FROM {table} WHERE bucket = ? LIMIT 1", name):  # noqa: S608
                    raise OssError(
                        HTTPStatus.CONFLICT, "BucketNotEmpty", "The bucket you tried to delete is not empty."
                    )
            self._change("DELETE FROM buckets WHERE name = ?", name)
            self._change("DELETE FROM other_owners WHERE bucket = ?", name)

    def delete_objects(self, bucket: str) -> None:
        """Deletes all objects."""
        for found in self.objects(bucket, prefix="", after=""):
            self.delete_object(bucket, found.key)

    def find(self, bucket: str, key: str) -> StoredObject:
        """Raises OssError if there is none."""
        for row in self._rows("SELECT * FROM objects WHERE bucket = ? AND key = ?", bucket, key):
            return _object(row)
        raise OssError(HTTPStatus.NOT_FOUND, "NoSuchKey", "The specified key does not exist.")

    def read(self, bucket: str, key: str) -> tuple[StoredObject, Body]:
        """An object and its bytes. They stay readable when it is replaced or deleted. Raises OssError."""
        with self._lock:
            found = self.find(bucket, key)
            return found, Body(*self._open(found))

    def objects(self, bucket: str, *, prefix: str, after: str) -> list[StoredObject]:
        """Those whose keys begin with ``prefix`` and come after ``after``, in the order of their keys' bytes."""
        query = (
            "SELECT * FROM objects WHERE bucket = ?1 AND key >= ?2 AND substr(key, 1, length(?2)) = ?2 AND key > ?3 "
            "ORDER BY key"
        )
        return [_object(row) for row in self._rows(query, bucket, prefix, after)]

    def put_object(
        self, bucket: str, key: str, body: RequestBody, headers: Mapping[str, str], *, md5: bytes | None, forbid: bool
    ) -> StoredObject:
        """Stores an object, in the place of another unless ``forbid``; ``md5`` is what the body has to have.
        Raises OssError."""
        received = self._receive(body, md5=True, expected_md5=md5)
        assert received.md5 is not None  # noqa: S101 - asked for
        new = StoredObject(
            key=key,
            size=received.size,
            etag=received.md5.hex().upper(),
            crc64=received.crc64,
            type="Normal",
            modified=time.time(),
            headers=headers,
            contents=[(received.name, received.size)],
        )
        try:
            with self._lock:
                self._replace(bucket, new, forbid=forbid)
        except OssError:
            self._contents.delete([received.name])
            raise
        return new

    def delete_object(self, bucket: str, key: str) -> None:
        """Deletes an object, if there is one."""
        with self._lock:
            old = self._contents_of(bucket, key)
            self._change("DELETE FROM objects WHERE bucket = ? AND key = ?", bucket, key)
            self._contents.delete(old)

    def initiate(self, bucket: str, key: str, headers: Mapping[str, str], *, forbid: bool) -> str:
        """Begins a multipart upload, and gives its id. Raises OssError if the object exists and ``forbid``."""
        self._require_absence(bucket, key, forbid=forbid)
        upload_id = uuid.uuid4().hex.upper()
        self._change(
            "INSERT INTO uploads VALUES (?, ?, ?, ?, ?)", upload_id, bucket, key, time.time(), json.dumps(headers)
        )
        return upload_id

    def uploads(self, bucket: str, *, prefix: str, after_key: str, after_id: str) -> list[Upload]:
        """Those whose keys begin with ``prefix``, by key and id; without ``after_id``, all of ``after_key`` are left
        out, else those of that key up to it."""
        query = (
            "SELECT id, key, initiated FROM uploads WHERE bucket = ?1 AND substr(key, 1, length(?2)) = ?2 "
            "AND (key > ?3 OR (key = ?3 AND ?4 <> '' AND id > ?4)) ORDER BY key, id"
        )
        return [
            Upload(id=upload_id, key=key, initiated=initiated)
            for upload_id, key, initiated in self._rows(query, bucket, prefix, after_key, after_id)
        ]

    def upload_part(
        self, bucket: str, key: str, upload_id: str, number: int, body: RequestBody, *, md5: bytes | None
    ) -> Part:
        """Stores a part, in the place of another with its number. Raises OssError."""
        self._upload_headers(bucket, key, upload_id)
        received = self._receive(body, md5=md5 is not None, expected_md5=md5)
        part = Part(
            number=number,
            size=received.size,
            etag=f"{received.crc64:016X}{received.size:016X}",
            crc64=received.crc64,
            modified=time.time(),
            content=received.name,
        )
        with self._lock:
            try:
                self._upload_headers(bucket, key, upload_id)
            except OssError:
                self._contents.delete([received.name])
                raise
            old = self._rows("SELECT content FROM parts WHERE upload = ? AND number = ?", upload_id, number)
            self._change(
                "INSERT OR REPLACE INTO parts VALUES (?, ?, ?, ?, ?, ?, ?)",
                *(upload_id, number, part.size, part.etag, str(part.crc64), part.modified, part.content),
            )
            self._contents.delete(name for (name,) in old)
        return part

    def parts(self, bucket: str, key: str, upload_id: str, *, after: int = 0) -> list[Part]:
        """The parts with numbers above ``after``, in order. Raises OssError if there is no such upload."""
        with self._lock:
            self._upload_headers(bucket, key, upload_id)
            rows = self._rows("SELECT * FROM parts WHERE upload = ? AND number > ? ORDER BY number", upload_id, after)
        return [
            Part(number=number, size=size, etag=etag, crc64=int(crc), modified=modified, content=content)
            for _, number, size, etag, crc, modified, content in rows
        ]

    def complete(
        self, bucket: str, key: str, upload_id: str, chosen: Sequence[tuple[int, str]] | None, *, forbid: bool
    ) -> StoredObject:
        """Makes an object of the ``chosen`` parts, numbers with ETags, or of all. Raises OssError."""
        with self._lock:
            headers = self._upload_headers(bucket, key, upload_id)
            uploaded = self.parts(bucket, key, upload_id)
            parts = uploaded if chosen is None else _choose(uploaded, chosen)
            if not parts:
                raise OssError(HTTPStatus.BAD_REQUEST, "MalformedXML", "An object needs at least one part.")
            if any(part.size < MIN_PART_BYTES for part in parts[:-1]):
                raise OssError(
                    HTTPStatus.BAD_REQUEST,
                    "EntityTooSmall",
                    "Your proposed upload smaller than the minimum allowed size.",
                )
            etags = hashlib.md5("".join(part.etag for part in parts).encode(), usedforsecurity=False)
            new = StoredObject(
                key=key,
                size=sum(part.size for part in parts),
                etag=f"{etags.hexdigest().upper()}-{len(parts)}",
                crc64=reduce(lambda crc, part: combine(crc, part.crc64, part.size), parts, 0),
                type="Multipart",
                modified=time.time(),
                headers=headers,
                contents=[(part.content, part.size) for part in parts],
            )
            self._replace(bucket, new, forbid=forbid, upload_id=upload_id)
            self._contents.delete({part.content for part in uploaded} - {part.content for part in parts})
        return new

    def abort(self, bucket: str, key: str, upload_id: str) -> None:
        """Deletes an upload and its parts. Raises OssError if there is no such upload."""
        with self._lock:
            parts = self.parts(bucket, key, upload_id)
            with self._database:
                self._delete_upload(upload_id)
            self._contents.delete(part.content for part in parts)

    def _receive(self, body: RequestBody, *, md5: bool, expected_md5: bytes | None) -> Received:
        received = self._contents.receive(body, md5=md5)
        if expected_md5 not in (None, received.md5):
            self._contents.delete([received.name])
            raise OssError(HTTPStatus.BAD_REQUEST, "InvalidDigest", "The Content-MD5 you specified was invalid.")
        return received

    def _open(self, found: StoredObject) -> Iterator[bytes | FilePart]:
        for name, size in found.contents:
            yield self._contents.open(name, size)

    def _replace(self, bucket: str, new: StoredObject, *, forbid: bool, upload_id: str | None = None) -> None:
        """Writes an object's record, and ends the upload that it was made by, in one transaction."""
        self._require_absence(bucket, new.key, forbid=forbid)
        old = self._contents_of(bucket, new.key)
        with self._database:
            self._database.execute(
                "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(bucket, new.key, new.size, new.etag, str(new.crc64), new.type, new.modified),
                    *(json.dumps(new.headers), json.dumps(new.contents)),
                ),
            )
            if upload_id is not None:
                self._delete_upload(upload_id)
        self._contents.delete(old)

    def _delete_upload(self, upload_id: str) -> None:
        self._database.execute("DELETE FROM uploads WHERE id = ?", (upload_id,))
        self._database.execute("DELETE FROM parts WHERE upload = ?", (upload_id,))

    def _require_absence(self, bucket: str, key: str, *, forbid: bool) -> None:
        if forbid and self._contents_of(bucket, key):
            raise OssError(
                HTTPStatus.CONFLICT,
                "FileAlreadyExists",
                "The object you specified already exists and can not be overwritten.",
            )

    def _contents_of(self, bucket: str, key: str) -> list[str]:
        rows = self._rows("SELECT contents FROM objects WHERE bucket = ? AND key = ?", bucket, key)
        return [name for (contents,) in rows for name, _ in json.loads(contents)]

    def _upload_headers(self, bucket: str, key: str, upload_id: str) -> Mapping[str, str]:
        query = "SELECT headers FROM uploads WHERE id = ? AND bucket = ? AND key = ?"
        for (headers,) in self._rows(query, upload_id, bucket, key):
            return dict(json.loads(headers))
        raise OssError(HTTPStatus.NOT_FOUND, "NoSuchUpload", "The specified upload does not exist.")

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._database.execute(query, values).fetchall()

    def _change(self, query: str, *values: object) -> None:
        with self._lock, self._database:
            self._database.execute(query, values)


def _bucket(row: tuple[Any, ...]) -> Bucket:
    name, created, other_owner = row
    return Bucket(name=name, created=created, owner=other_owner or ACCOUNT)


def _object(row: tuple[Any, ...]) -> StoredObject:
    _, key, size, etag, crc, kind, modified, headers, contents = row
    return StoredObject(
        key=key,
        size=size,
        etag=etag,
        crc64=int(crc),
        type=kind,
        modified=modified,
        headers=json.loads(headers),
        contents=[(name, length) for name, length in json.loads(contents)],
    )


def _choose(uploaded: Sequence[Part], chosen: Sequence[tuple[int, str]]) -> list[Part]:
    numbers = [number for number, _ in chosen]
    if numbers != sorted(set(numbers)):
        raise OssError(
            HTTPStatus.BAD_REQUEST, "InvalidPartOrder", "The list of parts was not in ascending order by part number."
        )
    by_number = {part.number: part for part in uploaded}
    parts = []
    for number, etag in chosen:
        part = by_number.get(number)
        if part is None or part.etag != etag.strip('"').upper():
            raise OssError(
                HTTPStatus.BAD_REQUEST,
                "InvalidPart",
                f"Part {number} was not uploaded, or its ETag is not that of the part.",
            )
        parts.append(part)
    return parts
