"""One archive: a compressed tar file of regular files, with the key that it is for.

Nothing in an archive is trusted before its digest is right, and no path of it leaves the folder that it is unpacked
to."""

import gzip
import hashlib
import io
import json
import shutil
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .key import Key

KEY_FILE = "key.json"
FILES = "files"
"""Names at the top of an archive: the parts of the key, first, and the folder of what was compiled."""

LEVEL = 1
"""Of the compression: most of the content are machine code and text that the first level halves already."""

CHUNK = 2**20


class ArchiveError(Exception):
    """An archive that is broken, that is for something else, or that is too large."""


@dataclass(frozen=True)
class Limits:
    """Bytes: of an archive, of all of its files, and of one of them, which is held in memory."""

    archive: int = 2 * 2**30
    content: int = 8 * 2**30
    file: int = 256 * 2**20


@dataclass(frozen=True)
class Content:
    """What was packed or unpacked."""

    files: int
    size: int

    def __str__(self) -> str:
        return f"{self.files} files, {self.size / 2**20:.1f} MiB"


def measure(folder: Path) -> Content:
    """What ``folder`` has now."""
    sizes = [size for _, size in _regular(folder)]
    return Content(len(sizes), sum(sizes))


def pack(folder: Path, target: Path, key: Key, limits: Limits) -> Content:
    """Writes the files of ``folder`` to ``target``. Raises ArchiveError, OSError."""
    count = total = 0
    with (
        target.open("wb") as raw,
        gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=LEVEL, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        _add(tar, KEY_FILE, json.dumps(dict(key.parts), sort_keys=True).encode(), mode=0o600, mtime=0)
        for path, size in _regular(folder):
            count, total = count + 1, total + size
            if size > limits.file or total > limits.content or raw.tell() > limits.archive:
                raise ArchiveError(
                    f"the compiled files are too large to keep: {path.relative_to(folder)} has {size / 2**20:.0f} MiB, "
                    f"all up to it {total / 2**20:.0f} MiB"
                )
            try:
                facts, data = path.stat(), path.read_bytes()
            except FileNotFoundError:
                # A temporary one of the engine.
                continue
            name = f"{FILES}/{path.relative_to(folder).as_posix()}"
            _add(tar, name, data, mode=facts.st_mode & 0o700, mtime=int(facts.st_mtime))
    return Content(count, total)


def unpack(source: Path, folder: Path, key: Key, limits: Limits) -> Content:
    """Unpacks an archive, whose digest is right, to ``folder``, which is new. Raises ArchiveError, OSError."""
    count = total = 0
    try:
        with gzip.open(source) as compressed, tarfile.open(fileobj=compressed, mode="r:") as tar:
            first = tar.next()
            stored = tar.extractfile(first) if first is not None and first.name == KEY_FILE else None
            if stored is None or json.loads(stored.read(CHUNK)) != dict(key.parts):
                raise ArchiveError("it is for another key")
            while (member := tar.next()) is not None:
                if not member.isreg() or not member.name.startswith(f"{FILES}/"):
                    raise ArchiveError("it has something else than files")
                count, total = count + 1, total + member.size
                if total > limits.content:
                    raise ArchiveError(f"it has more than {limits.content / 2**20:.0f} MiB")
                tar.extract(member, folder, filter="data")
            # To its end, where the checksum is.
            while compressed.read(CHUNK):
                pass
    except (tarfile.TarError, EOFError, ValueError, gzip.BadGzipFile) as error:
        raise ArchiveError(f"it cannot be read ({type(error).__name__})") from None
    return Content(count, total)


def digest(file: Path) -> str:
    """SHA-256, hexadecimal."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def remove(path: Path) -> None:
    """Removes a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _add(tar: tarfile.TarFile, name: str, data: bytes, *, mode: int, mtime: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = len(data), mode, mtime
    tar.addfile(entry, io.BytesIO(data))


def _regular(folder: Path) -> Iterator[tuple[Path, int]]:
    """Regular files below ``folder`` and their sizes, in the order of their names. Links are left out."""
    for path in sorted(folder.rglob("*")):
        try:
            facts = path.lstat()
        except FileNotFoundError:
            continue
        if stat.S_ISREG(facts.st_mode):
            yield path, facts.st_size
