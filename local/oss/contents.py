"""Where the bytes of objects and parts are: files, or nowhere."""

import hashlib
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from deepseek_acs.modelmover.checksums import crc64
from local.http_service import FilePart
from local.oss.errors import not_implemented

KEPT_BYTES = 2**20
"""Content up to this size is kept where the rest is dropped, for the small objects that a program reads again."""


@dataclass(frozen=True, kw_only=True)
class Received:
    """A body that has arrived."""

    name: str
    size: int
    crc64: int
    md5: bytes | None
    """If it was asked for."""


class Contents(Protocol):
    """A store of immutable byte strings by name."""

    def receive(self, body: Iterable[memoryview], *, md5: bool) -> Received:
        """Stores a body under a new name; nothing of one that breaks off."""

    def open(self, name: str, size: int) -> bytes | FilePart:
        """A content as it can be sent. Raises OssError."""

    def delete(self, names: Iterable[str]) -> None:
        """Deletes contents."""


class _Sums:
    def __init__(self, *, md5: bool) -> None:
        self._name = uuid.uuid4().hex
        self._size = 0
        self._crc64 = 0
        self._md5 = hashlib.md5(usedforsecurity=False) if md5 else None

    def add(self, piece: memoryview) -> None:
        self._size += len(piece)
        self._crc64 = crc64(piece, self._crc64)
        if self._md5 is not None:
            self._md5.update(piece)

    def received(self) -> Received:
        return Received(
            name=self._name,
            size=self._size,
            crc64=self._crc64,
            md5=self._md5.digest() if self._md5 is not None else None,
        )


class FileContents:
    """One file for each."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def receive(self, body: Iterable[memoryview], *, md5: bool) -> Received:
        sums = _Sums(md5=md5)
        path = self._folder / sums.received().name
        try:
            with path.open("xb", buffering=0) as file:
                for piece in body:
                    written = 0
                    while written < len(piece):
                        written += file.write(piece[written:])
                    sums.add(piece)
        except BaseException:
            path.unlink()
            raise
        return sums.received()

    def open(self, name: str, size: int) -> bytes | FilePart:
        return FilePart((self._folder / name).open("rb"), 0, size)

    def delete(self, names: Iterable[str]) -> None:
        for name in names:
            (self._folder / name).unlink(missing_ok=True)


class DroppedContents:
    """Counts and sums only, except for small ones."""

    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}

    def receive(self, body: Iterable[memoryview], *, md5: bool) -> Received:
        sums = _Sums(md5=md5)
        start = bytearray()
        for piece in body:
            sums.add(piece)
            if len(start) <= KEPT_BYTES:
                start += piece
        received = sums.received()
        if received.size <= KEPT_BYTES:
            self._kept[received.name] = bytes(start)
        return received

    def open(self, name: str, size: int) -> bytes | FilePart:
        if name not in self._kept:
            raise not_implemented(f"Reading more than {KEPT_BYTES} bytes without a data folder")
        return self._kept[name]

    def delete(self, names: Iterable[str]) -> None:
        for name in names:
            self._kept.pop(name, None)
