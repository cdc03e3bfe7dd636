"""The repositories of a hub: folders ``root/owner/name/branch/...``, and what git and git-lfs would know of them.

There is no history: a branch is one commit, named by its content. When a file changes, the branch has another commit,
and the former is unknown.
"""

import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from deepseek_acs.modelmover.checksums import crc64

DEFAULT_BRANCH = "master"
"""Folder of the branch that ModelScope calls ``master`` and Hugging Face ``main``."""

LFS_SUFFIXES = (".safetensors", ".bin")
LFS_BYTES = 10 * 2**20
"""Size from which files of any name are kept by git-lfs, as the hubs demand."""

_SETTLED_NS = 100_000_000
"""Age of a change in nanoseconds from which size and time tell it from the next one."""


@dataclass(frozen=True)
class Hashes:
    """Of one file. ``git_oid`` is git's name of the blob: the file itself, or its pointer if git-lfs keeps it."""

    sha256: str
    git_oid: str
    crc64: int


@dataclass(frozen=True)
class RepositoryFile:
    """One file of a commit; ``size`` in bytes."""

    path: str
    size: int
    is_lfs: bool
    hashes: Hashes


@dataclass(frozen=True)
class Commit:
    """What a branch has: ``id`` is 40 hexadecimal digits, ``files`` are by path, in order."""

    id: str
    files: dict[str, RepositoryFile]

    def entries(self, root: str, *, recursive: bool) -> Iterator[tuple[str, RepositoryFile | None]]:
        """Paths below the folder ``root`` ("" is the top), in order; folders come without a file."""
        prefix = f"{root}/" if root else ""
        found: dict[str, RepositoryFile | None] = {}
        for path, file in self.files.items():
            if path.startswith(prefix):
                found[path] = file
                while (path := path.rpartition("/")[0]).startswith(prefix) and path:
                    found[path] = None
        depth = prefix.count("/")
        for path in sorted(found):
            if recursive or path.count("/") == depth:
                yield path, found[path]


class Repositories:
    """Finds commits by branch or name. Hashes are kept next to the branch, in ``<branch>.hashes.json``, and are
    computed again when a file's size or time of change is another."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._frozen: dict[Path, Commit] = {}
        self._hashes: dict[Path, dict[str, tuple[int, int, Hashes]]] = {}
        self._unsaved: set[Path] = set()
        self._lock = threading.Lock()

    def branches(self, repository: str) -> list[str]:
        """Names of the branches; none if there is no such repository."""
        folder = self._root / repository
        return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []

    def find(self, repository: str, revision: str) -> tuple[str, Commit] | None:
        """Branch and commit, by either name."""
        for branch in self.branches(repository):
            commit = self._commit(self._root / repository / branch)
            if revision in (branch, commit.id):
                return branch, commit
        return None

    def stored(self, repository: str, branch: str, path: str) -> tuple[Path, Hashes]:
        """Where a listed file is, and the hashes of what is there now."""
        folder = self._root / repository / branch
        with self._lock:
            return folder / path, self._hashes_of(folder, path)[1]

    def freeze(self) -> None:
        """Keeps every commit as it is now, whatever happens to the files."""
        for folder in self._root.glob("*/*/*"):
            if folder.is_dir():
                self._frozen[folder] = self._commit(folder)

    def _commit(self, folder: Path) -> Commit:
        if folder in self._frozen:
            return self._frozen[folder]
        with self._lock:
            files = {path: self._file(folder, path) for path in sorted(_paths(folder))}
            self._save(folder)
        content = "".join(f"{path} {file.hashes.sha256}\n" for path, file in files.items())
        return Commit(_git_oid("commit", content.encode()), files)

    def _file(self, folder: Path, path: str) -> RepositoryFile:
        size, hashes = self._hashes_of(folder, path)
        return RepositoryFile(path=path, size=size, is_lfs=_is_lfs(path, size), hashes=hashes)

    def _hashes_of(self, folder: Path, path: str) -> tuple[int, Hashes]:
        known = self._known(folder)
        status = os.stat(f"{folder}/{path}")
        size, changed = status.st_size, status.st_mtime_ns
        if path in known and known[path][:2] == (size, changed):
            return size, known[path][2]
        settled = time.time_ns() - changed > _SETTLED_NS
        hashes = _compute(folder / path, is_lfs=_is_lfs(path, size))
        if settled:
            known[path] = (size, changed, hashes)
            self._unsaved.add(folder)
        return size, hashes

    def _known(self, folder: Path) -> dict[str, tuple[int, int, Hashes]]:
        if folder not in self._hashes:
            file = _hashes_file(folder)
            saved = json.loads(file.read_bytes()) if file.exists() else {}
            self._hashes[folder] = {
                path: (size, changed, Hashes(**hashes)) for path, (size, changed, hashes) in saved.items()
            }
        return self._hashes[folder]

    def _save(self, folder: Path) -> None:
        if folder not in self._unsaved:
            return
        known = {path: (size, changed, asdict(hashes)) for path, (size, changed, hashes) in self._known(folder).items()}
        file = _hashes_file(folder)
        draft = file.with_name(f"{file.name}.new")
        draft.write_text(json.dumps(known))
        draft.replace(file)
        self._unsaved.discard(folder)


def lfs_pointer(sha256: str, size: int) -> bytes:
    """What git has in place of a large file (https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md)."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def _paths(folder: Path) -> Iterator[str]:
    for parent, _, names in os.walk(folder):
        prefix = Path(parent).relative_to(folder)
        yield from (str(prefix / name) if prefix.name else name for name in names)


def _hashes_file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.hashes.json")


def _is_lfs(path: str, size: int) -> bool:
    return path.endswith(LFS_SUFFIXES) or size > LFS_BYTES


def _compute(file: Path, *, is_lfs: bool) -> Hashes:
    sha256, crc, size = hashlib.sha256(), 0, 0
    buffer = memoryview(bytearray(2**20))
    with file.open("rb", buffering=0) as content:
        while count := content.readinto(buffer):
            sha256.update(buffer[:count])
            crc = crc64(buffer[:count], crc)
            size += count
    blob = lfs_pointer(sha256.hexdigest(), size) if is_lfs else file.read_bytes()
    return Hashes(sha256=sha256.hexdigest(), git_oid=_git_oid("blob", blob), crc64=crc)


def _git_oid(kind: str, content: bytes) -> str:
    return hashlib.sha1(f"{kind} {len(content)}\0".encode() + content, usedforsecurity=False).hexdigest()
