"""The three commands: what would be moved, move it, and is it still there."""

import json
import logging
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TypeVar

from .checksums import hasher
from .claim import Claim, holder
from .errors import (
    DataError,
    MoveError,
    NotFoundError,
    TransientError,
    UnavailableError,
    UnfinishedError,
    UsageError,
)
from .files import CONFIG, INDEX, MAX_INDEX_BYTES, Filter, SourceFile, require_every_shard
from .layout import manifest_key, model_key, state_key, states_prefix
from .loadable import ANY_MODEL, Planned, require_configuration, require_content, require_format, require_size
from .manifest import Entry, Manifest
from .oss.client import Bucket, ObjectExistsError, Upload
from .progress import Progress, size
from .reader import Reader
from .resume import UploadState
from .retry import Backoff
from .sources import Source
from .stored import difference, object_digest, proven_entry
from .transfer import HASH_ATTEMPTS, MEBIBYTE, Options, Transfer

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


def make_plan(source: Source, chosen: Filter, backoff: Backoff, *, planned: Planned = ANY_MODEL) -> Plan:
    """Lists ``source``, and makes sure that what is chosen is a whole model, and the one that is ``planned``. Raises
    MoveError."""
    listed = backoff.call("list the files of the source", source.list_files)
    files = chosen.select(listed)
    if not files:
        raise DataError(f"{source.url}: none of its {len(listed)} files is selected; check include and exclude")
    index = next((file for file in files if file.path == INDEX), None)
    require_every_shard(files, _content(source, index, backoff) if index else None)
    require_configuration(files)
    require_size(files, planned)
    config = next((file for file in files if file.path == CONFIG), None)
    if config is not None and planned.quantization:
        require_format(_content(source, config, backoff), planned)
    taken = {file.path for file in files}
    return Plan(source=source.url, files=files, left_out=[file for file in listed if file.path not in taken])


def _content(source: Source, file: SourceFile, backoff: Backoff) -> bytearray:
    if file.size > MAX_INDEX_BYTES:
        raise DataError(f"{file.path} has {file.size} bytes; more than {MAX_INDEX_BYTES} are not read")
    for _ in range(HASH_ATTEMPTS):
        content = bytearray(file.size)
        hashed = hasher(file.algorithm, size=file.size)
        with closing(Reader(source.open, file, offset=0, hasher=hashed, backoff=backoff)) as reader:
            reader.fill(memoryview(content))
        if hashed.digest() == file.digest:
            return content
    raise DataError(f"{file.path}: the hash is {hashed.digest()}, the source lists {file.digest}")


@dataclass(frozen=True, kw_only=True)
class Result:
    """``sent`` bytes went to the bucket in this run, the rest of ``manifest`` was there."""

    manifest: Manifest
    sent: int


def copy(
    source: Source,
    bucket: Bucket,
    prefix: str,
    *,
    chosen: Filter,
    options: Options,
    backoff: Backoff,
    planned: Planned = ANY_MODEL,
    full: bool = False,
    pinned: str | None = None,
) -> Result:
    """Moves what is missing or wrong, and writes the manifest once everything is there and proven, if it has the
    SHA-256 that is ``pinned``. With ``full``, what is there is proven by its bytes and not by its CRC-64. Raises
    MoveError."""
    plan = make_plan(source, chosen, backoff, planned=planned)
    _require_possible_parts(plan.files, options)
    run = _Run(source, bucket, prefix, plan, options, backoff, pinned)
    found = run.survey(full=full)
    if found.manifest == found.before and not found.missing and not run.leftovers():
        found.before.require(pinned)
        _warn_of_strangers(bucket, prefix, found.before)
        return Result(manifest=found.before, sent=0)
    with Claim(bucket, prefix, plan.source) as claim:
        if _read_manifest(bucket, prefix) != found.before:
            # Another run has finished in between.
            found = run.survey(full=full)
        return run.fill(found, claim)


@dataclass(frozen=True, kw_only=True)
class _Survey:
    """What the bucket holds: the manifest ``before`` this run, and the objects that are proven; there are objects with
    other bytes of the files ``wrong``."""

    source: str
    before: Manifest
    present: Mapping[str, Entry]
    missing: Sequence[SourceFile]
    wrong: Collection[str]

    @property
    def manifest(self) -> Manifest:
        """Of what is proven."""
        return Manifest(source=self.source, files=dict(sorted(self.present.items())))


@dataclass(frozen=True)
class _Run:
    """One run of ``copy``."""

    source: Source
    bucket: Bucket
    prefix: str
    plan: Plan
    options: Options
    backoff: Backoff
    pinned: str | None

    def survey(self, *, full: bool) -> _Survey:
        """Looks at all that is there. Raises DataError if it is another model."""
        before = _read_manifest(self.bucket, self.prefix)
        _require_unchanged(self.bucket, self.prefix, self.plan, before, self.backoff)
        sizes = self.bucket.list_sizes(f"{self.prefix}/")
        states = self._states()

        def check(file: SourceFile) -> Entry | None:
            if sizes.get(model_key(self.prefix, file.path)) != file.size:
                return None
            head = self.bucket.head(model_key(self.prefix, file.path))
            if head is None or head.size != file.size or head.crc64 is None:
                return None
            entry = Entry(size=file.size, digest=file.digest, crc64=head.crc64)
            if not full and (before.files.get(file.path) == entry or self._was_proven(file, head.crc64, states)):
                return entry
            log.info("%s: is there, but not as this program knows it; reading it", file.path)
            return proven_entry(self.bucket, self.prefix, file, self.backoff)

        checked = zip(self.plan.files, _for_each(self.plan.files, check), strict=True)
        present = {file.path: entry for file, entry in checked if entry is not None}
        missing = [file for file in self.plan.files if file.path not in present]
        return _Survey(
            source=self.plan.source,
            before=before,
            present=present,
            missing=missing,
            wrong={file.path for file in missing if model_key(self.prefix, file.path) in sizes},
        )

    def _was_proven(self, file: SourceFile, crc64: int, states: Collection[str]) -> bool:
        """By an earlier run that did not come to its manifest."""
        key = state_key(self.prefix, file.path)
        state = UploadState.from_json(self.bucket.get(key) or b"") if key in states else None
        return state is not None and state.proves(file, crc64)

    def leftovers(self) -> bool:
        """Whether earlier runs have left unfinished uploads, whose parts are billed, states, or their claim."""
        return bool(self._strays() or self._states()) or holder(self.bucket, self.prefix) == self.plan.source

    def fill(self, found: _Survey, claim: Claim) -> Result:
        """Moves what is missing, if an engine can load it, and certifies all of it."""
        if not found.present and not self._states():
            # A run that put something there before has looked already.
            _for_each(found.missing, lambda file: require_content(self.source, file, self.backoff))
        present = dict(found.present)
        log.info(
            "%s: %d files, %s, of which %d files, %s are in oss://%s/%s already",
            self.plan.source,
            len(self.plan.files),
            size(self.plan.size),
            len(present),
            size(_size(present.values())),
            self.bucket.name,
            self.prefix,
        )
        progress = Progress(
            total_bytes=self.plan.size,
            total_files=len(self.plan.files),
            kept_bytes=_size(present.values()),
            kept_files=len(present),
        )
        if found.missing:
            present |= self._transfer(found, progress)
        for upload in self._strays():
            self.bucket.abort(upload)
        manifest = replace(found, present=present).manifest
        manifest.require(self.pinned)
        if found.missing or manifest != found.before:
            self._certify(manifest, found.before, claim)
        _for_each(self._states(), self.bucket.delete)
        _warn_of_strangers(self.bucket, self.prefix, manifest)
        return Result(manifest=manifest, sent=progress.sent_bytes)

    def _transfer(self, found: _Survey, progress: Progress) -> dict[str, Entry]:
        transfer = Transfer(
            source=self.source,
            bucket=self.bucket,
            prefix=self.prefix,
            options=self.options,
            backoff=self.backoff,
            progress=progress,
            replaced=found.wrong,
        )
        try:
            with progress:
                moved = transfer.run(found.missing)
        except UnavailableError as error:
            raise UnfinishedError(str(error)) if progress.sent_bytes else error from None
        log.info(progress.line())
        return moved

    def _strays(self) -> list[Upload]:
        """Unfinished uploads of files of the model."""
        keys = {model_key(self.prefix, file.path) for file in self.plan.files}
        return [upload for upload in self.bucket.list_uploads(f"{self.prefix}/") if upload.key in keys]

    def _states(self) -> set[str]:
        """Keys of the states of files of the model."""
        return self.bucket.list_sizes(states_prefix(self.prefix)).keys() & {
            state_key(self.prefix, file.path) for file in self.plan.files
        }

    def _certify(self, manifest: Manifest, before: Manifest, claim: Claim) -> None:
        """Writes the manifest, with a look at everything before and after: other programs may be at work."""
        self._require_there(manifest)
        claim.require()
        key = manifest_key(self.prefix)
        stored = self.bucket.get(key)
        if (current := _parse_manifest(stored)) not in (before, manifest):
            raise UnfinishedError(
                f"oss://{self.bucket.name}/{key} was written by another run, for {current.source}; run again"
            )
        try:
            self.bucket.put(key, manifest.to_json(), replaces=stored is not None)
        except ObjectExistsError:
            raise UnfinishedError(f"oss://{self.bucket.name}/{key} was written by another run; run again") from None
        try:
            self._require_there(manifest)
        except MoveError:
            self.bucket.delete(key)
            raise

    def _require_there(self, manifest: Manifest) -> None:
        """Raises UnfinishedError if an object is not what ``manifest`` says, also at another look."""

        def look(item: tuple[str, Entry]) -> None:
            if found := difference(self.bucket, self.prefix, *item):
                raise TransientError(
                    f"{found}; another program writes below the prefix", refusal=True, final=UnfinishedError
                )

        _for_each(manifest.files.items(), lambda item: self.backoff.call(f"look at {item[0]}", lambda: look(item)))


def verify(bucket: Bucket, prefix: str, *, full: bool, backoff: Backoff, pinned: str | None = None) -> Manifest:
    """Compares the bucket with its manifest: size and CRC-64 of each object, and with ``full`` the hash of its bytes,
    which reads all of them. Raises NotFoundError without a manifest, DataError with every difference, or if the
    manifest is not the one that is ``pinned`` by its SHA-256."""
    content = bucket.get(manifest_key(prefix))
    if content is None:
        raise NotFoundError(
            f"oss://{bucket.name}/{prefix} has no manifest, so nothing is known of what should be there; run copy: it "
            "reads and compares files that are there already instead of moving them again"
        )
    manifest = Manifest.from_json(content)
    manifest.require(pinned)

    def found(item: tuple[str, Entry]) -> tuple[str, bool] | None:
        path, entry = item
        if wrong := difference(bucket, prefix, path, entry):
            return wrong, False
        file = SourceFile(path=path, size=entry.size, digest=entry.digest)
        if full and (digest := object_digest(bucket, prefix, file, backoff)) != entry.digest:
            return f"{path} has the hash {digest}, moved was {entry.digest}", True
        return None

    differences = sorted(d for d in _for_each(manifest.files.items(), found) if d)
    if differences:
        # Only the bytes themselves tell that they are wrong, so copy has to read them, too.
        command = "copy --full" if any(by_bytes for _, by_bytes in differences) else "copy"
        shown = "; ".join(text for text, _ in differences[:5])
        raise DataError(
            f"oss://{bucket.name}/{prefix} is not what was moved there: {shown}"
            + (f"; and {len(differences) - 5} more" if len(differences) > 5 else "")
            + f". Run {command} again, which moves what is missing or wrong"
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
    return _parse_manifest(bucket.get(manifest_key(prefix)))


def _parse_manifest(content: bytes | None) -> Manifest:
    """An empty one if there is none, or none that can be read."""
    nothing = Manifest(source="", files={})
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
        return object_digest(bucket, prefix, file, backoff) != file.digest

    common = [file for file in plan.files if file.path in before.files]
    changed = [file.path for file, other in zip(common, _for_each(common, is_other), strict=True) if other]
    if changed:
        raise DataError(
            f"{prefix} holds {before.source}, in which {changed[0]}"
            + (f" and {len(changed) - 1} more files differ" if len(changed) > 1 else " differs")
            + f" from {plan.source}; weights never change in place, because pods may be reading them: choose another "
            "prefix"
        )


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


def _size(entries: Iterable[Entry]) -> int:
    return sum(entry.size for entry in entries)
