"""The three commands: what would be moved, move it, and is it still there."""

import json
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

from modelmover.checksums import hasher
from modelmover.errors import DataError, NotFoundError, UnavailableError, UnfinishedError, UsageError
from modelmover.files import INDEX, Filter, SourceFile, require_every_shard
from modelmover.layout import manifest_key, model_key
from modelmover.manifest import Entry, Manifest
from modelmover.oss.client import Bucket, ObjectInfo
from modelmover.progress import Progress, size
from modelmover.reader import Reader
from modelmover.retry import Backoff
from modelmover.sources import Source, Stream
from modelmover.transfer import MEBIBYTE, Options, Transfer

MAX_PARTS = 10_000
"""Parts of one multipart upload (https://www.alibabacloud.com/help/en/oss/user-guide/limits)."""

CHECKS_AT_ONCE = 16

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to move; ``left_out`` was listed and not selected."""

    source: str
    files: Sequence[SourceFile]
    left_out: Sequence[SourceFile]

    @property
    def size(self) -> int:
        """Bytes of all files to move."""
        return sum(file.size for file in self.files)

    def to_json(self) -> str:
        """For programs."""
        files = [{"path": file.path, "size": file.size, "digest": file.digest} for file in self.files]
        return json.dumps({"source": self.source, "size": self.size, "files": files}, indent=1)


def make_plan(source: Source, chosen: Filter, backoff: Backoff) -> Plan:
    """Lists ``source``, and makes sure that what is chosen is a whole model. Raises MoveError."""
    listed = backoff.call("list the files of the source", source.list_files)
    files = chosen.select(listed)
    if not files:
        raise DataError(f"{source.url}: none of its {len(listed)} files is selected; check include and exclude")
    index = next((file for file in files if file.path == INDEX), None)
    require_every_shard(files, _content(source, index, backoff) if index else None)
    taken = {file.path for file in files}
    return Plan(source=source.url, files=files, left_out=[file for file in listed if file.path not in taken])


def _content(source: Source, file: SourceFile, backoff: Backoff) -> bytes:
    content = bytearray(file.size)
    hashed = hasher(file.algorithm, size=file.size)
    with closing(Reader(source.open, file, offset=0, hasher=hashed, backoff=backoff)) as reader:
        reader.fill(memoryview(content))
    if hashed.digest() != file.digest:
        raise DataError(f"{file.path}: the hash is {hashed.digest()}, the source lists {file.digest}")
    return bytes(content)


@dataclass(frozen=True, kw_only=True)
class Result:
    """``sent`` bytes went to the bucket in this run, the rest of ``manifest`` was there."""

    manifest: Manifest
    sent: int


def copy(source: Source, bucket: Bucket, prefix: str, *, chosen: Filter, options: Options, backoff: Backoff) -> Result:
    """Moves what is missing, and writes the manifest once everything is there and proven. Raises MoveError."""
    plan = make_plan(source, chosen, backoff)
    _require_possible_parts(plan.files, options)
    before = _read_manifest(bucket, prefix)
    _require_unchanged(bucket, prefix, plan, before, backoff)
    present = _present(bucket, prefix, plan.files, before.files, backoff)
    missing = [file for file in plan.files if file.path not in present]
    log.info(
        "%s: %d files, %s, of which %d files, %s are in oss://%s/%s already",
        plan.source,
        len(plan.files),
        size(plan.size),
        len(present),
        size(_size(present.values())),
        bucket.name,
        prefix,
    )
    progress = Progress(
        total_bytes=plan.size,
        total_files=len(plan.files),
        kept_bytes=_size(present.values()),
        kept_files=len(present),
    )
    if missing:
        transfer = Transfer(
            source=source, bucket=bucket, prefix=prefix, options=options, backoff=backoff, progress=progress
        )
        try:
            with progress:
                present |= transfer.run(missing)
        except UnavailableError as error:
            raise UnfinishedError(str(error)) if progress.sent_bytes else error from None
        log.info(progress.line())
        _require_there(bucket, prefix, {file.path: present[file.path] for file in missing})
        _abort_strays(bucket, prefix, plan.files)
    manifest = Manifest(source=plan.source, files=dict(sorted(present.items())))
    if manifest != before:
        bucket.put(manifest_key(prefix), manifest.to_json())
    _warn_of_strangers(bucket, prefix, manifest)
    return Result(manifest=manifest, sent=progress.sent_bytes)


def verify(bucket: Bucket, prefix: str, *, full: bool, backoff: Backoff) -> Manifest:
    """Compares the bucket with its manifest: size and CRC-64 of each object, and with ``full`` the hash of its bytes,
    which reads all of them. Raises NotFoundError without a manifest, DataError with every difference."""
    content = bucket.get(manifest_key(prefix))
    if content is None:
        raise NotFoundError(
            f"oss://{bucket.name}/{prefix} has no manifest, so nothing is known of what should be there; run copy: it "
            "reads and compares files that are there already instead of moving them again"
        )
    manifest = Manifest.from_json(content)

    def difference(path: str, entry: Entry) -> str | None:
        if found := _difference(bucket, prefix, path, entry):
            return found
        if full and (found := _object_digest(bucket, prefix, path, entry, backoff)) != entry.digest:
            return f"{path} has the hash {found}, moved was {entry.digest}"
        return None

    differences = [d for d in _for_each(manifest.files.items(), lambda item: difference(*item)) if d]
    if differences:
        raise DataError(
            f"oss://{bucket.name}/{prefix} is not what was moved there: {'; '.join(sorted(differences)[:5])}"
            + (f"; and {len(differences) - 5} more" if len(differences) > 5 else "")
            + ". Run copy again, which moves what is missing or wrong"
        )
    _warn_of_strangers(bucket, prefix, manifest)
    return manifest


def _require_possible_parts(files: Sequence[SourceFile], options: Options) -> None:
    largest = max(files, key=lambda file: file.size)
    if largest.size > options.part_size * MAX_PARTS:
        needed = math.ceil(largest.size / MAX_PARTS / MEBIBYTE)
        raise UsageError(
            f"{largest.path} has {largest.size} bytes, more than {MAX_PARTS} parts of {options.part_size}; "
            f"use --part-size {needed} or more"
        )


def _read_manifest(bucket: Bucket, prefix: str) -> Manifest:
    nothing = Manifest(source="", files={})
    content = bucket.get(manifest_key(prefix))
    try:
        return Manifest.from_json(content) if content is not None else nothing
    except DataError as error:
        log.warning("%s", error)
        return nothing


def _require_unchanged(bucket: Bucket, prefix: str, plan: Plan, before: Manifest, backoff: Backoff) -> None:
    """Pods may be reading what is there: a file that was proven is never replaced by another one."""

    def is_other(file: SourceFile) -> bool:
        proven = before.files[file.path]
        if proven.size != file.size or proven.digest == file.digest:
            return proven.size != file.size
        if proven.digest.partition(":")[0] == file.algorithm:
            return True
        # Another hub lists another kind of hash: the bytes decide, if they are still those that were proven.
        head = bucket.head(model_key(prefix, file.path))
        if head is None or head.crc64 != proven.crc64:
            return False
        entry = Entry(size=file.size, digest=file.digest, crc64=proven.crc64)
        return _object_digest(bucket, prefix, file.path, entry, backoff) != file.digest

    common = [file for file in plan.files if file.path in before.files]
    changed = [file.path for file, other in zip(common, _for_each(common, is_other), strict=True) if other]
    if changed:
        raise DataError(
            f"{prefix} holds {before.source}, in which {changed[0]}"
            + (f" and {len(changed) - 1} more files differ" if len(changed) > 1 else " differs")
            + f" from {plan.source}; weights never change in place, because pods may be reading them: choose another "
            "prefix"
        )


def _present(
    bucket: Bucket, prefix: str, files: Sequence[SourceFile], before: Mapping[str, Entry], backoff: Backoff
) -> dict[str, Entry]:
    """The files that are in the bucket already, each proven."""
    sizes = bucket.list_sizes(f"{prefix}/")
    candidates = [file for file in files if sizes.get(model_key(prefix, file.path)) == file.size]

    def check(file: SourceFile) -> Entry | None:
        head = bucket.head(model_key(prefix, file.path))
        if head is None or head.size != file.size or head.crc64 is None:
            return None
        entry = Entry(size=file.size, digest=file.digest, crc64=head.crc64)
        if before.get(file.path) == entry or _was_proven(head, file):
            return entry
        log.info("%s: is there, but not by this program; reading it", file.path)
        return entry if _object_digest(bucket, prefix, file.path, entry, backoff) == file.digest else None

    found = zip(candidates, _for_each(candidates, check), strict=True)
    return {file.path: entry for file, entry in found if entry is not None}


def _was_proven(head: ObjectInfo, file: SourceFile) -> bool:
    """The hash is attached to an upload when it begins, and an upload ends only with that hash."""
    return head.metadata.items() >= file.metadata.items()


def _object_digest(bucket: Bucket, prefix: str, path: str, entry: Entry, backoff: Backoff) -> str:
    """The hash of an object's bytes, by reading all of them."""
    file = SourceFile(path=path, size=entry.size, digest=entry.digest)
    hashed = hasher(file.algorithm, size=file.size)
    scratch = memoryview(bytearray(MEBIBYTE))

    def opened(file: SourceFile, offset: int) -> Stream:
        return bucket.open(model_key(prefix, file.path), offset)

    with closing(Reader(opened, file, offset=0, hasher=hashed, backoff=backoff)) as reader:
        for start in range(0, file.size, MEBIBYTE):
            reader.fill(scratch[: min(MEBIBYTE, file.size - start)])
    return hashed.digest()


def _abort_strays(bucket: Bucket, prefix: str, files: Iterable[SourceFile]) -> None:
    """Uploads of files that are there now: a run was killed, or an answer lost. Their parts are billed all the same."""
    keys = {model_key(prefix, file.path) for file in files}
    for upload in list(bucket.list_uploads(f"{prefix}/")):
        if upload.key in keys:
            bucket.abort(upload)


def _warn_of_strangers(bucket: Bucket, prefix: str, manifest: Manifest) -> None:
    known = {model_key(prefix, path) for path in manifest.files}
    strangers = {key: size for key, size in bucket.list_sizes(f"{prefix}/").items() if key not in known}
    if strangers:
        log.warning(
            "oss://%s/%s also has %d objects (%s) that are not of the model, such as %s; a cache would load them",
            bucket.name,
            prefix,
            len(strangers),
            size(sum(strangers.values())),
            min(strangers),
        )


def _for_each(items: Iterable[Item], check: Callable[[Item], Outcome]) -> list[Outcome]:
    """``check`` of each item, in order, some at a time."""
    with ThreadPoolExecutor(CHECKS_AT_ONCE) as pool:
        return list(pool.map(check, items))


def _difference(bucket: Bucket, prefix: str, path: str, entry: Entry) -> str | None:
    """What is wrong with the object of ``path``, as far as it can be seen without reading it."""
    head = bucket.head(model_key(prefix, path))
    if head is None:
        return f"{path} is missing"
    if (head.size, head.crc64) != (entry.size, entry.crc64):
        return f"{path} has {head.size} bytes and CRC-64 {head.crc64}, moved were {entry.size} and {entry.crc64}"
    return None


def _require_there(bucket: Bucket, prefix: str, moved: Mapping[str, Entry]) -> None:
    """Once more before the manifest: another mover of another revision may have been at work."""
    differences = _for_each(moved.items(), lambda item: _difference(bucket, prefix, *item))
    others = [path for path, different in zip(moved, differences, strict=True) if different]
    if others:
        raise UnfinishedError(f"{others[0]} was replaced by somebody else; two movers must not work on one prefix")


def _size(entries: Iterable[Entry]) -> int:
    return sum(entry.size for entry in entries)
