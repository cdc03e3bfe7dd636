"""Which files of a repository are moved: the filter, and the proof that no shard is missing."""

import itertools
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from .errors import DataError

NEVER = (
    *(".git", ".git/*", "*/.git/*", ".gitattributes", ".gitignore", ".cache/*"),
    *("._____temp/*", "*.incomplete", "*.aria2"),
    *("*.so", "*.so.*", "*.pyd", "*.pyc", "*.dll", "*.dylib", "*.exe", "*.whl", "*.jar"),
    *("*.sh", "*.bash", "*.bat", "*.cmd", "*.ps1"),
)
"""Book-keeping of git and of download tools; and what a machine or a shell runs, of which no engine loads anything."""

PICKLES = (
    *("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle", "*.joblib", "*.dill", "*.ot"),
    *("*.npy", "*.npz", "*.h5", "*.keras", "*.nemo", "*.mar"),
)
"""Formats that may hold pickles, or other code that runs when they are loaded
(https://huggingface.co/docs/hub/security-pickle)."""

FOR_SERVING = (
    *("*.json", "*.jsonl", "*.txt", "*.model", "*.tiktoken", "*.jinja", "*.bpe", "*.vocab", "*.yaml", "*.yml"),
    *("LICENSE*", "NOTICE*", "USE_POLICY*"),
)
"""Configuration, tokenizer and licence."""

WEIGHTS = "*.safetensors"
CODE = "*.py"

SECOND_COPY = ("consolidated*", "original/*")
"""The same weights once more, in the format of their makers."""

DOCUMENTATION = ("figures/*", "assets/*", "images/*")

OTHER_INDEXES = ("pytorch_model*.index.json", "tf_model*", "flax_model*")

MAX_FILES = 100_000
"""Limit of a listing; DeepSeek-R1 has 180 files."""

MAX_PATH_BYTES = 1023
"""Length of a key of OSS (https://www.alibabacloud.com/help/en/oss/user-guide/object-naming-conventions)."""

MAX_FILE_BYTES = 10_000 * 5 * 2**30
"""Largest object of OSS: 10,000 parts of 5 GiB (https://www.alibabacloud.com/help/en/oss/user-guide/limits)."""

MAX_INDEX_BYTES = 64 * 2**20
"""DeepSeek-R1's has 9 MiB; the file is read into memory."""

INDEX = "model.safetensors.index.json"
CONFIG = "config.json"

DIGEST = re.compile(r"sha256:[0-9a-f]{64}|git-sha1:[0-9a-f]{40}")

WEIGHT_MAP = re.compile(rb'"weight_map"\s*:\s*\{\s*')
INDEX_ENTRY = re.compile(rb'"(?:[^"\\]|\\.)*"\s*:\s*("(?:[^"\\]|\\.)*")\s*,?\s*')
INDEX_END = re.compile(rb"\}")

SHOWN = 3
"""Missing shards that an error names."""

SHARD = re.compile(r"(?P<stem>.+)-(?P<number>[0-9]+)-of-(?P<count>[0-9]+)(?P<suffix>\.[a-z]+)")
"""The two numbers need not have the same width: DeepSeek's are ``model-00001-of-000163.safetensors``."""


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """One file of a listing: ``size`` in bytes; ``digest`` as ``sha256:…`` or ``git-sha1:…``, which a listing may lack
    of unwanted files."""

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
        # A path becomes part of a key, and a hub must not be trusted to choose where that is.
        if not isinstance(self.path, str) or not _is_usable(self.path):
            raise DataError(f"the listing has a file with the unusable path {str(self.path)[:200]!r}")
        # bool is an int, too.
        if type(self.size) is not int or not 0 <= self.size <= MAX_FILE_BYTES:
            raise DataError(f"the listing gives {self.path} the impossible size {str(self.size)[:50]!r}")

    def require_hash(self) -> None:
        """Raises DataError if there is nothing to prove the file by."""
        if not DIGEST.fullmatch(self.digest):
            raise DataError(f"the listing has no usable hash of {self.path}, but {self.digest[:100]!r}")


def _is_usable(path: str) -> bool:
    return (
        path.isprintable()
        and "\\" not in path
        and len(path.encode()) <= MAX_PATH_BYTES
        and not any(part in ("", ".", "..") for part in path.split("/"))
    )


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Patterns of ``fnmatch`` on the whole path; ``*`` also matches ``/``.

    A file is taken if it matches one of ``include`` and none of ``exclude``. Without ``include``, what serving needs is
    taken: safetensors, configuration, tokenizer and licence, with ``code`` the repository's Python files, too. Pickles
    run code where they are loaded, so they are taken only with ``pickles``: those that ``include`` names, or without it
    if there are no safetensors. ``.git``, libraries and scripts are never moved."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    code: bool = False
    pickles: bool = False

    def select(self, files: Sequence[SourceFile]) -> list[SourceFile]:
        """The files to move, largest first, so that no large one is left for the end. Raises DataError if one of them
        has no hash or may not be taken, or if there are no weights."""
        taken = [
            file
            for file in files
            if not matches(file.path.lower(), NEVER) and not matches(file.path, (*NEVER, *self.exclude))
        ]
        taken = self._included(taken) if self.include else self._for_serving(taken)
        for file in taken:
            file.require_hash()
        return sorted(taken, key=lambda file: (-file.size, file.path))

    def _included(self, files: Sequence[SourceFile]) -> list[SourceFile]:
        taken = [file for file in files if matches(file.path, self.include)]
        refused = next((file for file in taken if _is_pickle(file)), None)
        if refused is not None and not self.pickles:
            raise DataError(
                f"{refused.path} may be a pickle, which runs code where it is loaded; exclude it, or allow such files "
                "by --allow-pickle (weights.allowPickle)"
            )
        return taken

    def _for_serving(self, files: Sequence[SourceFile]) -> list[SourceFile]:
        weights = [file for file in files if fnmatchcase(file.path, WEIGHTS)]
        first = [file for file in weights if not matches(file.path, SECOND_COPY)]
        pickles = [file for file in files if _is_pickle(file)]
        if not weights and pickles and not self.pickles:
            raise DataError(
                f"the repository has no safetensors, but {pickles[0].path}, which may be a pickle and runs code where "
                "it is loaded; choose a repository with safetensors, or allow such files by --allow-pickle "
                "(weights.allowPickle)"
            )
        if not weights and not pickles:
            raise DataError(
                f"none of the {len(files)} files is in the safetensors format; name the files to move by --include"
            )
        patterns = (*FOR_SERVING, CODE) if self.code else FOR_SERVING
        others = [
            file
            for file in files
            if matches(file.path, patterns)
            and not _is_pickle(file)
            and not matches(file.path, (*DOCUMENTATION, *SECOND_COPY, *(OTHER_INDEXES if weights else ())))
        ]
        return [*(first or weights or pickles), *others]


def _is_pickle(file: SourceFile) -> bool:
    return matches(file.path.lower(), PICKLES)


def matches(path: str, patterns: Sequence[str]) -> bool:
    """Whether ``path`` matches one of ``patterns``."""
    return any(fnmatchcase(path, pattern) for pattern in patterns)


def require_every_shard(files: Sequence[SourceFile], index: bytes | bytearray | None) -> None:
    """Raises DataError if a shard is missing that the names of the others, or ``index``, the content of the index file,
    speak of."""
    paths = {file.path for file in files}
    shown, count = _missing_by_name(paths)
    if index is not None:
        missing = sorted(_shards_by_index(index) - paths - set(shown))
        shown, count = sorted([*shown, *missing[:SHOWN]]), count + len(missing)
    if count:
        more = f" and {count - SHOWN} more" if count > SHOWN else ""
        raise DataError(
            f"the model is not whole: {', '.join(shown[:SHOWN])}{more} missing from the files to move; check the "
            "repository's revision and the include and exclude patterns"
        )


def _missing_by_name(paths: Iterable[str]) -> tuple[list[str], int]:
    """The first shards that are missing, and how many there are: a name may speak of more than memory holds."""
    found: dict[tuple[str, int, str, str], set[int]] = {}
    for match in filter(None, map(SHARD.fullmatch, paths)):
        group = match["stem"], len(match["number"]), match["count"], match["suffix"]
        found.setdefault(group, set()).add(int(match["number"]))
    shown: list[str] = []
    missing = 0
    for (stem, width, count, suffix), numbers in sorted(found.items()):
        lacking = int(count) - sum(1 <= number <= int(count) for number in numbers)
        missing += lacking
        absent = (number for number in itertools.count(1) if number not in numbers)
        shown += [f"{stem}-{next(absent):0{width}}-of-{count}{suffix}" for _ in range(min(lacking, SHOWN))]
    return shown[:SHOWN], missing


def _shards_by_index(index: bytes | bytearray) -> set[str]:
    """The values of ``weight_map``. Read without ``json``, which takes many times the size of a document in memory."""
    begin = WEIGHT_MAP.search(index)
    position = begin.end() if begin else 0
    raw: set[bytes] = set()
    while begin and (entry := INDEX_ENTRY.match(index, position)):
        raw.add(bytes(entry[1]))
        position = entry.end()
        if len(raw) > MAX_FILES:
            break
    if not begin or not raw or not INDEX_END.match(index, position):
        raise DataError(f"{INDEX} is not an index of safetensors files")
    try:
        return {str(json.loads(name)) for name in raw}
    except ValueError:
        raise DataError(f"{INDEX} is not an index of safetensors files") from None
