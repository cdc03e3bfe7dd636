"""Restoring and saving: one object of the bucket for each key, written once.

An object appears whole or not at all, and the first writer of a key wins, so groups that start at the same time do not
disturb each other. Its SHA-256 is in its metadata."""

import contextlib
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from deepseek_acs.modelmover.errors import MoveError, TransientError
from deepseek_acs.modelmover.http import length_of
from deepseek_acs.modelmover.oss.client import METADATA, Bucket, ObjectExistsError, Part, Upload, UploadLostError
from deepseek_acs.modelmover.retry import Backoff

from .archive import CHUNK, FILES, ArchiveError, Content, Limits, digest, measure, pack, remove, unpack
from .key import Key

PART_BYTES = 16 * 2**20
SHA256 = "sha256"

Outcome = Literal["hit", "miss", "broken", "unknown"]
"""Of a restore: it was restored, there was none, there was one that cannot be used, or the bucket did not say."""


@dataclass(frozen=True)
class Folders:
    """Where the engine has what it compiles (``compiled`` below ``cache``), and where archives are on their way."""

    cache: Path
    work: Path

    @property
    def compiled(self) -> Path:
        """The folder of the engine."""
        return self.cache / FILES

    @property
    def state(self) -> Path:
        """What the restore has to tell the save."""
        return self.work / "state.json"


@dataclass(frozen=True)
class State:
    """What the restore did: its outcome, and how many files and bytes the engine has from it."""

    digest: str
    outcome: Outcome
    files: int = 0
    size: int = 0


class Cache:
    """The archives below ``prefix``, as one pod uses them."""

    def __init__(
        self,
        bucket: Bucket,
        prefix: str,
        key: Key,
        *,
        folders: Folders,
        backoff: Backoff,
        say: Callable[[str], None],
        limits: Limits | None = None,
    ) -> None:
        self._bucket, self._key, self._folders, self._backoff = bucket, key, folders, backoff
        self._say, self._limits = say, limits or Limits()
        self._object = f"{prefix}/{key.digest}.tar.gz"

    def restore(self) -> State:
        """Gives the engine what was compiled for this key, all of it or nothing."""
        if (known := read_state(self._folders)) and known.digest == self._key.digest:
            self._say(f"restore: done before: {known.outcome}")
            return known
        self._say(f"restore: key {self._key}")
        state = self._restored()
        write_state(self._folders, state)
        return state

    def _restored(self) -> State:
        arrived, unpacked = self._folders.work / "arrived.tar.gz", self._folders.cache / "unpacked"
        try:
            for path in (arrived, unpacked):
                remove(path)
            if self._bucket.head(self._object) is None:
                self._say("restore: miss, the engine compiles")
                return State(self._key.digest, "miss")
            self._backoff.call(f"read {self._object}", lambda: self._download(arrived))
            content = unpack(arrived, unpacked, self._key, self._limits)
            (unpacked / FILES).rename(self._folders.compiled)
            self._say(f"restore: hit, {content}")
            return State(self._key.digest, "hit", content.files, content.size)
        except ArchiveError as error:
            self._say(f"restore: {self._object} is ignored: {error}; the engine compiles")
            return State(self._key.digest, "broken")
        except (MoveError, TransientError, OSError) as error:
            self._say(f"restore: nothing restored: {error}; the engine compiles")
            return State(self._key.digest, "unknown")
        finally:
            with contextlib.suppress(OSError):
                for path in (arrived, unpacked):
                    remove(path)

    def _download(self, target: Path) -> None:
        """Raises ArchiveError for other bytes than were written."""
        response = self._bucket.open(self._object, 0)
        try:
            expected, length = response.headers.get(METADATA + SHA256, ""), length_of(response)
            if length is None or length > self._limits.archive:
                raise ArchiveError(f"it is larger than {self._limits.archive / 2**20:.0f} MiB, or does not say")
            found, buffer, left = hashlib.sha256(), bytearray(CHUNK), length
            with target.open("wb") as file:
                while left and (count := response.readinto(memoryview(buffer)[: min(CHUNK, left)])):
                    found.update(memoryview(buffer)[:count])
                    file.write(memoryview(buffer)[:count])
                    left -= count
            if left:
                raise TransientError(f"{self._object} broke off, {left} bytes are missing")
            if found.hexdigest() != expected:
                raise ArchiveError("its SHA-256 is not the one that was noted when it was written")
        finally:
            response.close()

    def save(self) -> bool:
        """Writes what the engine has compiled, unless the bucket has it; whether it was written. Raises ArchiveError,
        MoveError, OSError."""
        state = read_state(self._folders)
        if state is None or state.digest != self._key.digest:
            state = State(self._key.digest, "unknown")
        now = measure(self._folders.compiled) if self._folders.compiled.is_dir() else Content(0, 0)
        if state.outcome == "hit":
            self._say(f"save: nothing to do; the engine added {now.files - state.files} files to those restored")
            return False
        if not now.files:
            self._say("save: the engine has left no compiled files; is compilation switched off?")
            return False
        packed = self._folders.work / "packed.tar.gz"
        try:
            content = pack(self._folders.compiled, packed, self._key, self._limits)
            if packed.stat().st_size > self._limits.archive:
                raise ArchiveError(f"the archive has more than {self._limits.archive / 2**20:.0f} MiB, and is not kept")
            if state.outcome == "broken":
                self._bucket.delete(self._object)
            if self._bucket.head(self._object) is not None or not self._upload(packed):
                self._say("save: another group has saved the same key")
                return False
            self._say(f"save: {content}, {packed.stat().st_size / 2**20:.1f} MiB compressed, as {self._object}")
            return True
        finally:
            remove(packed)

    def _upload(self, packed: Path) -> bool:
        """False if another one was first."""
        begun = self._bucket.initiate(self._object, metadata={SHA256: digest(packed)})
        upload = Upload(key=self._object, id=begun)
        parts, buffer = list[Part](), bytearray(PART_BYTES)
        try:
            with packed.open("rb") as file:
                while count := file.readinto(buffer):
                    parts.append(self._bucket.upload_part(upload, len(parts) + 1, memoryview(buffer)[:count]))
            self._bucket.complete(upload, parts)
        except (ObjectExistsError, UploadLostError):
            # A lost one may be this one, whose answer was lost.
            self._bucket.abort(upload)
            return False
        except BaseException:
            with contextlib.suppress(MoveError, TransientError, OSError):
                self._bucket.abort(upload)
            raise
        return True


def read_state(folders: Folders) -> State | None:
    """What a restore has left; None if there is nothing of use."""
    try:
        return State(**json.loads(folders.state.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def write_state(folders: Folders, state: State) -> None:
    """Raises OSError."""
    folders.state.write_text(json.dumps(state.__dict__), encoding="utf-8")
