"""A folder on this machine. Its files are hashed before they are moved, so changes in between are detected."""

import hashlib
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..errors import DataError, NotFoundError, PermissionDeniedError, TransientError
from ..files import NEVER, SourceFile, matches


class Folder:
    """Every regular file below ``root``, but for the book-keeping of git and of download tools."""

    def __init__(self, root: str) -> None:
        self._root = Path(root).absolute()
        self.url = self._root.as_uri()

    def list_files(self) -> list[SourceFile]:
        """Reads every file once, some at a time. Raises DataError for a link that leads nowhere."""
        if not self._root.is_dir():
            raise NotFoundError(f"there is no folder {self._root}")
        paths = sorted(
            path
            for path in self._root.rglob("*")
            if not self._is_left_out(path) and stat.S_ISREG(_followed(path).st_mode)
        )
        with ThreadPoolExecutor() as pool:
            return list(pool.map(self._file, paths))

    def open(self, file: SourceFile, offset: int) -> "_FileStream":
        """The file from ``offset`` on."""
        try:
            return _FileStream(os.open(self._root / file.path, os.O_RDONLY), offset)
        except OSError as error:
            raise NotFoundError(f"{file.path} in {self._root} cannot be read: {error.strerror}") from None

    def _is_left_out(self, path: Path) -> bool:
        return matches(path.relative_to(self._root).as_posix(), NEVER)

    def _file(self, path: Path) -> SourceFile:
        try:
            with path.open("rb", buffering=0) as content:
                digest = hashlib.file_digest(content, "sha256").hexdigest()
                size = content.tell()
        except OSError as error:
            raise PermissionDeniedError(f"{path} cannot be read: {error.strerror}") from None
        return SourceFile(path=path.relative_to(self._root).as_posix(), size=size, digest=f"sha256:{digest}")


def _followed(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        if not path.is_symlink():
            raise PermissionDeniedError(f"{path} cannot be read: {error.strerror}") from None
        raise DataError(f"{path} is a link that leads nowhere ({error.strerror}); remove it or its folder") from None


class _FileStream:
    def __init__(self, descriptor: int, offset: int) -> None:
        self._descriptor = descriptor
        self._offset = offset

    def readinto(self, buffer: memoryview) -> int:
        try:
            count = os.preadv(self._descriptor, [buffer], self._offset)
        except OSError as error:
            raise TransientError(f"reading failed: {error.strerror}") from None
        self._offset += count
        return count

    def close(self) -> None:
        os.close(self._descriptor)
