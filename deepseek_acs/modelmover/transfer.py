"""Moves files: read in order, hashed, counted, sent in parts; no file is complete before its hash is right.

One thread reads each of ``streams`` files and hashes it; ``uploads`` threads send the parts. Between them are only the
buffers of the pool.
"""

import contextlib
import logging
import threading
from collections.abc import Collection, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace

from .buffers import BufferPool
from .checksums import Hasher, combine, crc64, hasher
from .errors import DataError, MoveError, StoppedError, TransientError, UnavailableError
from .files import SourceFile
from .layout import model_key, state_key
from .manifest import Entry
from .oss.client import Bucket, ObjectExistsError, ObjectInfo, Part, Upload, UploadLostError
from .progress import Progress
from .reader import Reader
from .resume import Resume, UploadState, crc_of, part_sizes, plan_resume
from .retry import Backoff
from .sources import Source
from .stored import proven_entry

MEBIBYTE = 2**20

SAVE_EVERY_BYTES = 256 * MEBIBYTE
"""Maximum that a killed run fetches again per file, in addition to what was in flight. Each save is one small
request."""

HASH_ATTEMPTS = 3
"""How often a file is moved when its hash is wrong in the end, or its upload was lost: the fault may have been on the
way."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Options:
    """How many files are read at once, how many parts sent at once, and ``part_size`` in bytes."""

    streams: int = 16
    uploads: int = 16
    part_size: int = 16 * MEBIBYTE

    @property
    def buffers(self) -> int:
        """Each reader and each sender holds one; the rest evens out their speeds."""
        return self.streams + self.uploads + max(4, self.streams // 2)


class WrongHashError(Exception):
    """The bytes that came are not those that were listed."""


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """Files of ``source`` into ``bucket`` under ``prefix``. Objects are there already of the paths ``replaced`` alone,
    and have other bytes."""

    source: Source
    bucket: Bucket
    prefix: str
    options: Options
    backoff: Backoff
    progress: Progress
    replaced: Collection[str] = ()

    def run(self, files: Sequence[SourceFile]) -> dict[str, Entry]:
        """Moves ``files``, and gives what is in the bucket then. Raises the first MoveError, after all threads have
        ended and what is unfinished was saved."""
        buffers = BufferPool(count=self.options.buffers, size=self.options.part_size, backoff=self.backoff)
        with (
            ThreadPoolExecutor(self.options.uploads, thread_name_prefix="send") as senders,
            ThreadPoolExecutor(self.options.streams, thread_name_prefix="read") as readers,
        ):
            moves = [_Move(self, file, buffers, senders) for file in files]
            try:
                futures = [readers.submit(move.run) for move in moves]
            except RuntimeError:
                # No thread for it; those that run must not go on to the end of the model.
                self.backoff.stop.set()
                raise
            _wait(futures, self.backoff.stop)
        return {file.path: future.result() for file, future in zip(files, futures, strict=True)}


def _wait(futures: "Sequence[Future[Entry]]", stop: threading.Event) -> None:
    done, rest = wait(futures, return_when=FIRST_EXCEPTION)
    first = next((error for future in done if (error := future.exception())), None)
    if first is None:
        return
    stop.set()
    for future in rest:
        future.cancel()
    wait(futures)
    errors = [future.exception() for future in futures if not future.cancelled()]
    # Threads that were stopped say nothing about why.
    raise next((error for error in errors if error and not isinstance(error, StoppedError)), first)


class _Move:
    """One file on its way."""

    def __init__(self, transfer: Transfer, file: SourceFile, buffers: BufferPool, senders: ThreadPoolExecutor) -> None:
        self._transfer = transfer
        self._bucket = transfer.bucket
        self._file = file
        self._buffers = buffers
        self._senders = senders
        self._key = model_key(transfer.prefix, file.path)
        self._state_key = state_key(transfer.prefix, file.path)
        self._replaces = file.path in transfer.replaced
        self._counted = 0

    def run(self) -> Entry:
        last: Exception | None = None
        for attempt in range(1, HASH_ATTEMPTS + 1):
            try:
                crc = self._whole() if self._file.size <= self._buffers.size else self._in_parts()
            except (WrongHashError, UploadLostError) as error:
                log.warning("%s: attempt %d of %d: %s", self._file.path, attempt, HASH_ATTEMPTS, error)
                last = error
                self._transfer.progress.fetched(-self._counted)
                self._counted = 0
                if isinstance(error, UploadLostError) and (found := self._of_another_run()):
                    self._transfer.progress.kept(self._file.size)
                    return self._done(found)
                continue
            except ObjectExistsError:
                raise UnavailableError(
                    f"{self._file.path}: another object was put under its name during this run; run again, and let no "
                    "other program write below the prefix"
                ) from None
            return self._done(Entry(size=self._file.size, digest=self._file.digest, crc64=crc))
        if isinstance(last, UploadLostError):
            raise UnavailableError(f"{self._file.path}: its upload was lost {HASH_ATTEMPTS} times: {last}")
        raise DataError(
            f"{self._file.path}: {last}; nothing was put under its name. Either the source is damaged, or the "
            "repository has changed since it was listed: run again, with the revision of a commit"
        )

    def _done(self, entry: Entry) -> Entry:
        self._transfer.progress.file_done()
        return entry

    def _of_another_run(self) -> Entry | None:
        """What a run of the same model, which has completed the upload, put under the name."""
        return proven_entry(self._bucket, self._transfer.prefix, self._file, self._transfer.backoff)

    def _fetched(self, count: int) -> None:
        self._transfer.progress.fetched(count)
        self._counted += count

    def _whole(self) -> int:
        """A file that fits into one buffer."""
        hashed = hasher(self._file.algorithm, size=self._file.size)
        with self._buffers.lent() as buffer:
            content = buffer[: self._file.size]
            with self._reader(0, hashed) as reader:
                reader.fill(content)
            self._require_hash(hashed)
            crc = self._bucket.put(self._key, content, metadata=self._file.metadata, replaces=self._replaces)
            self._fetched(len(content))
            self._transfer.progress.sent(len(content))
            return crc

    def _in_parts(self) -> int:
        state, resume = self._begin_or_resume()
        upload = Upload(key=self._key, id=state.upload_id)
        checkpoint = _Checkpoint(self._bucket, self._state_key, state, resume)
        hashed = hasher(self._file.algorithm, size=self._file.size, state=resume.hash_state)
        try:
            self._send_parts(upload, resume, checkpoint, hashed)
            self._require_hash(hashed)
            # From here on the object is known to be right by its CRC-64, also to a later run.
            checkpoint.seal()
            return self._complete(upload, checkpoint.parts())
        except (WrongHashError, UploadLostError):
            self._bucket.abort(upload)
            self._bucket.delete(self._state_key)
            raise
        except (MoveError, StoppedError):
            # The first failure is what counts; and a state that is not saved costs time, not correctness.
            with contextlib.suppress(MoveError, StoppedError):
                checkpoint.save()
            raise

    def _begin_or_resume(self) -> tuple[UploadState, Resume]:
        saved = UploadState.from_json(self._bucket.get(self._state_key) or b"")
        if saved is not None and saved.is_of(self._file, self._buffers.size):
            parts = self._bucket.list_parts(Upload(key=self._key, id=saved.upload_id))
            if parts is not None:
                return saved, plan_resume(saved, parts)
        upload_id = self._bucket.initiate(self._key, metadata=self._file.metadata)
        state = UploadState(
            upload_id=upload_id, digest=self._file.digest, size=self._file.size, part_size=self._buffers.size
        )
        # Before the first part, or a part could be acknowledged that no later run knows of.
        self._bucket.put(self._state_key, state.to_json())
        return state, plan_resume(state, [])

    def _send_parts(self, upload: Upload, resume: Resume, checkpoint: "_Checkpoint", hashed: Hasher) -> None:
        sizes = part_sizes(self._file.size, self._buffers.size)
        offset = sum(sizes[: resume.first - 1])
        self._transfer.progress.kept(offset)
        self._counted += offset
        futures: list[Future[None]] = []
        try:
            with self._reader(offset, hashed) as reader:
                for number in range(resume.first, len(sizes) + 1):
                    buffer = self._buffers.take()
                    try:
                        content = buffer[: sizes[number - 1]]
                        reader.fill(content)
                    except BaseException:
                        self._buffers.give_back(buffer)
                        raise
                    checkpoint.hashed(number, hashed.state())
                    self._fetched(len(content))
                    known = resume.acknowledged.get(number)
                    futures.append(self._senders.submit(self._send, upload, number, buffer, content, checkpoint, known))
                    _raise_failures(futures)
        finally:
            wait(futures)
        _raise_failures(futures)

    def _send(
        self,
        upload: Upload,
        number: int,
        buffer: memoryview,
        content: memoryview,
        checkpoint: "_Checkpoint",
        known: Part | None,
    ) -> None:
        try:
            if known is None or known.crc64 != crc64(content):
                if self._transfer.backoff.stop.is_set():
                    raise StoppedError(self._file.path)
                known = self._bucket.upload_part(upload, number, content)
                self._transfer.progress.sent(len(content))
        finally:
            self._buffers.give_back(buffer)
        checkpoint.acknowledged(known)

    def _require_hash(self, hashed: Hasher) -> None:
        found = hashed.digest()
        if found != self._file.digest:
            raise WrongHashError(f"the hash is {found}, the source lists {self._file.digest}")

    def _complete(self, upload: Upload, parts: list[Part]) -> int:
        """Makes the object, and looks at it: an answer may be lost, or be that of something in between."""
        expected = ObjectInfo(size=self._file.size, crc64=crc_of(parts))
        if self._replaces:
            self._bucket.delete(self._key)

        def attempt() -> int:
            refused: UploadLostError | ObjectExistsError | None = None
            try:
                self._bucket.complete(upload, parts)
            except (UploadLostError, ObjectExistsError) as error:
                refused = error
            found = self._bucket.head(self._key)
            if found == expected and expected.crc64 is not None:
                if isinstance(refused, ObjectExistsError):
                    self._bucket.abort(upload)
                return expected.crc64
            if refused is not None and (found is None or found.crc64 is not None):
                raise refused
            raise TransientError(
                f"OSS was sent {expected.size} bytes with CRC-64 {expected.crc64}, and has "
                + (f"{found.size} with CRC-64 {found.crc64}" if found else "no such object"),
                final=DataError if found else UnavailableError,
                refusal=True,
            )

        return self._transfer.backoff.call(f"complete {self._file.path}", attempt)

    def _reader(self, offset: int, hashed: Hasher) -> "contextlib.closing[Reader]":
        reader = Reader(
            self._transfer.source.open, self._file, offset=offset, hasher=hashed, backoff=self._transfer.backoff
        )
        return contextlib.closing(reader)


def _raise_failures(futures: "list[Future[None]]") -> None:
    """Raises what a finished part raised, and forgets the finished ones."""
    for future in [future for future in futures if future.done()]:
        future.result()
        futures.remove(future)


class _Checkpoint:
    """How far one multipart upload is: which parts are acknowledged, and the hash of those at its beginning."""

    def __init__(self, bucket: Bucket, key: str, state: UploadState, resume: Resume) -> None:
        self._bucket = bucket
        self._key = key
        self._lock = threading.Lock()
        self._saving = threading.Lock()
        self._parts = {number: part for number, part in resume.acknowledged.items() if number < resume.first}
        self._hash_states: dict[int, str | None] = {}
        self._next = resume.first
        self._crc = crc_of(self.parts())
        self._saved = self._latest = replace(
            state, hashed_parts=resume.first - 1, hash_state=resume.hash_state, crc64=self._crc
        )

    def hashed(self, number: int, hash_state: str | None) -> None:
        """The hash has seen all parts up to ``number``."""
        with self._lock:
            self._hash_states[number] = hash_state

    def acknowledged(self, part: Part) -> None:
        """OSS has ``part``. Saves the state from time to time."""
        with self._lock:
            self._parts[part.number] = part
            while (following := self._parts.get(self._next)) is not None:
                self._advance(following)
            unsaved = self._latest.hashed_parts - self._saved.hashed_parts
        if unsaved * self._latest.part_size >= SAVE_EVERY_BYTES and self._saving.acquire(blocking=False):
            try:
                self.save()
            finally:
                self._saving.release()

    def _advance(self, part: Part) -> None:
        self._crc = combine(self._crc, part.crc64 or 0, part.size)
        hash_state = self._hash_states.pop(part.number, None)
        if hash_state is not None:
            self._latest = replace(self._latest, hashed_parts=part.number, hash_state=hash_state, crc64=self._crc)
        self._next += 1

    def save(self) -> None:
        """Saves the state if it has advanced."""
        with self._lock:
            state = self._latest
        if state.hashed_parts > self._saved.hashed_parts:
            self._bucket.put(self._key, state.to_json())
            self._saved = state

    def seal(self) -> None:
        """Saves that the hash of the whole was right."""
        self._bucket.put(self._key, replace(self._latest, proven_crc64=crc_of(self.parts())).to_json())

    def parts(self) -> list[Part]:
        """All parts, by number."""
        return [part for _, part in sorted(self._parts.items())]
