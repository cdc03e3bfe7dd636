"""Which files of a repository are moved: the filter, and the proof that no shard is missing."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from modelmover.errors import DataError

NEVER = (".git", ".git/*", "*/.git/*", ".gitattributes", ".gitignore", ".cache/*")
"""Book-keeping of git and of download tools."""

NOT_FOR_SERVING = (
    "*.md",
    "*.png",
    "*.jpg",
    "*.jpeg",
    "*.gif",
    "*.svg",
    "*.pdf",
    "*.mp4",
    "*.ipynb",
    "figures/*",
    "assets/*",
)
"""Documentation."""

DUPLICATE_FORMATS = (
    "*.bin",
    "*.pt",
    "*.pth",
    "*.ckpt",
    "*.h5",
    "*.msgpack",
    "*.onnx",
    "*.onnx_data",
    "*.gguf",
    "*.tflite",
    "*.ot",
    "pytorch_model*.index.json",
    "consolidated*",
    "original/*",
)
"""The same weights once more, left out where the repository has ``model*.safetensors``."""

INDEX = "model.safetensors.index.json"

DIGEST = re.compile(r"sha256:[0-9a-f]{64}|git-sha1:[0-9a-f]{40}")

SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d+)-of-(?P<count>\d+)(?P<suffix>\.[a-z]+)")
"""The two numbers need not have the same width: DeepSeek's are ``model-00001-of-000163.safetensors``."""


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """One file of a listing: ``size`` in bytes; ``digest`` as ``sha256:…`` or ``git-sha1:…``, which a listing may lack
    of files that nobody wants to move."""

    path: str
    size: int
    digest: str

    @property
    def algorithm(self) -> str:
        """``sha256``, or ``git-sha1``: what git calls the file, for small files of which a hub has no other hash."""
        return self.digest.partition(":")[0]

    @property
    def metadata(self) -> dict[str, str]:
        """The hash as it is attached to the file's object."""
        algorithm, _, value = self.digest.partition(":")
        return {algorithm: value}

    def __post_init__(self) -> None:
        # A path becomes a key beside those of others, and a hub is not to be trusted with where that is.
        parts = PurePosixPath(self.path).parts
        if not parts or self.path.startswith("/") or ".." in parts or not self.path.isprintable() or "\\" in self.path:
            raise DataError(f"the listing has a file with the unusable path {self.path!r}")

    def require_hash(self) -> None:
        """Raises DataError if there is nothing to prove the file by."""
        if not DIGEST.fullmatch(self.digest):
            raise DataError(f"the listing has no usable hash of {self.path}, but {self.digest!r}")


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Patterns of ``fnmatch`` on the whole path; ``*`` also matches ``/``.

    A file is taken if it matches one of ``include`` and none of ``exclude``. Where neither is given, what serving does
    not need is left out: documentation, and weights in further formats. ``.git`` is never taken.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def select(self, files: Sequence[SourceFile]) -> list[SourceFile]:
        """The files to move, largest first, so that no large one is left for the end. Raises DataError if one of them
        has no hash."""
        exclude = NEVER + (self.exclude if self.include or self.exclude else _not_needed(files))
        taken = [
            file for file in files if matches(file.path, self.include or ("*",)) and not matches(file.path, exclude)
        ]
        for file in taken:
            file.require_hash()
        return sorted(taken, key=lambda file: (-file.size, file.path))


def _not_needed(files: Sequence[SourceFile]) -> tuple[str, ...]:
    has_safetensors = any(fnmatchcase(file.path, "model*.safetensors") for file in files)
    return NOT_FOR_SERVING + (DUPLICATE_FORMATS if has_safetensors else ())


def matches(path: str, patterns: Sequence[str]) -> bool:
    """Whether ``path`` matches one of ``patterns``."""
    return any(fnmatchcase(path, pattern) for pattern in patterns)


def require_every_shard(files: Sequence[SourceFile], index: bytes | None) -> None:
    """Raises DataError if a shard is missing that the names of the others, or ``index``, the content of the index file,
    speak of."""
    paths = {file.path for file in files}
    expected = set(_shards_by_name(paths))
    if index is not None:
        expected |= _shards_by_index(index)
    missing = sorted(expected - paths)
    if missing:
        shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        raise DataError(
            f"the model is not whole: {shown} missing from the files to move; check the repository's revision and the "
            "include and exclude patterns"
        )


def _shards_by_name(paths: set[str]) -> set[str]:
    found = [match for match in map(SHARD.fullmatch, paths) if match]
    return {
        f"{match['stem']}-{number:0{len(match['number'])}}-of-{match['count']}{match['suffix']}"
        for match in found
        for number in range(1, int(match["count"]) + 1)
    }


def _shards_by_index(index: bytes) -> set[str]:
    try:
        return set(json.loads(index)["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DataError(f"{INDEX} is not an index of safetensors files") from None
