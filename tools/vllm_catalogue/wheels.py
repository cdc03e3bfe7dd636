"""The Python files of vLLM's published wheels, without their hundreds of megabytes of kernels.

A wheel is a zip archive, and PyPI's file host answers ranges: the archive's directory is read first, then the members
that are needed, neighbours in one request.
"""

import contextlib
import hashlib
import io
import json
import os
import re
import tempfile
import urllib.request
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.version import Version

INDEX = "https://pypi.org/simple/vllm/"
FIRST = Version("0.6.6")

CACHE = Path(os.environ.get("DEEPSEEK_CACHE", Path.home() / ".cache" / "deepseek")) / "vllm"

DIRECTORY_BYTES = 512 * 1024
"""The end of a wheel that holds its directory; if it is longer, more is read."""

GAP_BYTES = 256 * 1024
"""Members that are closer than this are read in one request."""

TIMEOUT_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """One published wheel."""

    version: Version
    url: str
    size: int
    date: str
    """When it was published, as in 2025-02-06."""


def published() -> list[Wheel]:
    """The last wheel for x86-64 of every version from ``FIRST`` on, oldest first."""
    request = urllib.request.Request(INDEX, headers={"Accept": "application/vnd.pypi.simple.v1+json"})
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
        files: list[dict[str, Any]] = json.load(answer)["files"]
    found = {}
    # With a build number (0.20.1-1) a wheel replaces the one without.
    for file in sorted(files, key=lambda file: parse_build(file["filename"])):
        name = file["filename"]
        if not name.endswith("x86_64.whl") or file["yanked"]:
            continue
        version = Version(name.split("-")[1])
        if version >= FIRST and not version.is_prerelease:
            found[version] = Wheel(version=version, url=file["url"], size=file["size"], date=file["upload-time"][:10])
    return [found[version] for version in sorted(found)]


def parse_build(name: str) -> int:
    """The build number in a wheel's name; 0 if it has none."""
    parts = name.split("-")
    return int(parts[2]) if len(parts) == 6 and parts[2].isdigit() else 0


class _Remote(io.RawIOBase):
    """A file behind HTTP ranges. What was read last is kept, so that ``zipfile``'s small steps cost no request."""

    def __init__(self, wheel: Wheel) -> None:
        self._wheel = wheel
        self._at = 0
        self._start, self._held = 0, b""

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._wheel.size}[whence]
        return self._at

    def hold(self, start: int, end: int) -> None:
        """Read the bytes from ``start`` to before ``end`` in one request."""
        request = urllib.request.Request(  # noqa: S310
            self._wheel.url, headers={"Range": f"bytes={start}-{end - 1}"}
        )
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
            if answer.status != 206:
                raise OSError(f"{self._wheel.url} answers no ranges (status {answer.status})")
            self._start, self._held = start, answer.read()

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), self._wheel.size - self._at)
        if not (self._start <= self._at and self._at + wanted <= self._start + len(self._held)):
            end = min(self._wheel.size, max(self._at + wanted, self._at + DIRECTORY_BYTES))
            self.hold(min(self._at, max(0, end - DIRECTORY_BYTES)), end)
        offset = self._at - self._start
        buffer[:wanted] = self._held[offset : offset + wanted]
        self._at += wanted
        return wanted


def _runs(members: Sequence[zipfile.ZipInfo]) -> Iterator[list[zipfile.ZipInfo]]:
    """Members that lie close together."""
    run: list[zipfile.ZipInfo] = []
    for member in sorted(members, key=lambda member: member.header_offset):
        if run and member.header_offset - _end(run[-1]) > GAP_BYTES:
            yield run
            run = []
        run.append(member)
    if run:
        yield run


def _end(member: zipfile.ZipInfo) -> int:
    # The local header is 30 bytes, the name, and extra fields of unknown length.
    return member.header_offset + 30 + len(member.filename.encode()) + 1024 + member.compress_size


def unpacked(wheel: Wheel) -> Path:
    """A folder with the Python files and the metadata of ``wheel``, from the cache if they are there."""
    folder = CACHE / str(wheel.version)
    if folder.exists():
        return folder
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as unfinished:
        _unpack(wheel, Path(unfinished) / "files")
        # Another process may have been quicker.
        with contextlib.suppress(FileExistsError):
            Path(unfinished, "files").rename(folder)
    return folder


def _unpack(wheel: Wheel, folder: Path) -> None:
    remote = _Remote(wheel)
    # The least that is read at the end of the archive is its directory.
    remote.hold(max(0, wheel.size - DIRECTORY_BYTES), wheel.size)
    with zipfile.ZipFile(remote) as archive:
        members = [member for member in archive.infolist() if _is_needed(member.filename)]
        for run in _runs(members):
            remote.hold(run[0].header_offset, min(wheel.size, _end(run[-1])))
            for member in run:
                path = folder / member.filename
                if not path.resolve().is_relative_to(folder.resolve()):
                    raise OSError(f"{wheel.url} has a member outside its folder: {member.filename}")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(archive.read(member))


def digest(folder: Path) -> str:
    """SHA-256 over names and contents of the Python files in ``folder``."""
    found = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        found.update(
            f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(folder).as_posix()}\n".encode()
        )
    return found.hexdigest()


def _is_needed(name: str) -> bool:
    return bool(re.fullmatch(r"vllm/.*\.py|vllm-[^/]*\.dist-info/METADATA", name))
