"""What no engine could load is refused before it is moved: a model without configuration or tokenizer, pointers of Git
LFS in place of files, and safetensors that are shorter or longer than their own header says. So is what the plan of a
deployment does not count on: more weights, or weights in another format."""

import re
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from fnmatch import fnmatchcase

from .checksums import hasher
from .errors import DataError
from .files import SECOND_COPY, WEIGHTS, SourceFile, matches
from .progress import size
from .reader import Reader
from .retry import Backoff
from .sources import Source

CONFIGURATIONS = ("config.json", "params.json")
"""The second is Mistral's own."""

TOKENIZERS = ("tokenizer.json", "tokenizer.model*", "tokenizer_config.json", "tekken.json", "*.tiktoken", "vocab.json")
"""One of them has every model that answers text."""

HUB_CACHE = re.compile(r"snapshots/[^/]+/config\.json")
"""Where the cache folder of huggingface_hub has what belongs at the top."""

POINTER = b"version https://git-lfs"
POINTER_BYTES = 200
"""Of a pointer's size, which is about 130 bytes (https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md)."""

LENGTH_BYTES = 8
"""A safetensors file begins with the length of its header (https://huggingface.co/docs/safetensors)."""

MAX_HEADER_BYTES = 16 * 2**20
"""A longer header is not read; DeepSeek-R1's have 0.1 MiB."""

OFFSETS = re.compile(rb'"data_offsets"\s*:\s*\[\s*([0-9]{1,19})\s*,\s*([0-9]{1,19})\s*\]')

QUANT_METHOD = re.compile(rb'"quant_method"\s*:\s*"([^"\\]{1,64})"')
"""In config.json, also where the configuration of the language model is nested."""

GIBIBYTE = 2**30


@dataclass(frozen=True, kw_only=True)
class Planned:
    """What the plan of a deployment counts on: weights of at most ``max_gib`` GiB, and a checkpoint that says one of
    the formats ``quantization``. Empty where it counts on nothing."""

    max_gib: float | None = None
    quantization: Sequence[str] = ()


ANY_MODEL = Planned()


def require_size(files: Sequence[SourceFile], planned: Planned) -> None:
    """Raises DataError if the safetensors that an engine loads, those of the top folder, are larger than planned."""
    weights = [file for file in files if fnmatchcase(file.path, WEIGHTS) and "/" not in file.path]
    first = [file for file in weights if not matches(file.path, SECOND_COPY)]
    found = sum(file.size for file in first or weights)
    if planned.max_gib is not None and found > planned.max_gib * GIBIBYTE:
        raise DataError(
            f"the source has {size(found)} of weights, and the plan counts on "
            f"{size(round(planned.max_gib * GIBIBYTE))} at most, so that they may not fit on its GPUs; "
            "write the repository as model.name, so that it is planned, or correct weights.source.repository"
        )


def require_format(config: bytes | bytearray, planned: Planned) -> None:
    """Raises DataError if ``config``, the content of config.json, says another format than those that are planned. One
    that says none passes: its size tells, and some checkpoints say it in another file."""
    found = sorted({method.decode(errors="replace").lower() for method in QUANT_METHOD.findall(config)})
    if found and planned.quantization and not set(found) & set(planned.quantization):
        raise DataError(
            f"the source has weights in the format {', '.join(found)}, and the plan counts on "
            f"{' or '.join(planned.quantization)}; write the repository as model.name, so that it is planned, or "
            "correct weights.source.repository"
        )


def require_configuration(files: Sequence[SourceFile]) -> None:
    """Raises DataError unless ``files`` have a configuration and a tokenizer."""
    paths = [file.path for file in files]
    cached = next((path for path in paths if HUB_CACHE.fullmatch(path)), None)
    if not any(name in paths for name in CONFIGURATIONS):
        folder = cached.rpartition("/")[0] if cached else ""
        hint = f"; this is the cache of a download tool, whose model is in {folder}" if folder else ""
        raise DataError(
            f"there is no config.json among the files to move, so that no engine knows what they are{hint}; check the "
            "repository and the include and exclude patterns"
        )
    if not any(fnmatchcase(path, pattern) for path in paths for pattern in TOKENIZERS):
        raise DataError(
            "there is no tokenizer (tokenizer.json, tokenizer.model, tokenizer_config.json) among the files to move; "
            "check the repository and the include and exclude patterns"
        )


def require_content(source: Source, file: SourceFile, backoff: Backoff) -> None:
    """Raises DataError if ``file`` is a pointer of Git LFS, or safetensors of another size than its header says. Reads
    its beginning, and nothing of files that can be neither."""
    try:
        _require_content(source, file, backoff)
    except DataError:
        # No hash proves what was read: a proxy may have answered with something else, once.
        _require_content(source, file, backoff)


def _require_content(source: Source, file: SourceFile, backoff: Backoff) -> None:
    is_weights = fnmatchcase(file.path, WEIGHTS)
    if not is_weights and file.size > POINTER_BYTES:
        return
    hashed = hasher(file.algorithm, size=file.size)
    with closing(Reader(source.open, file, offset=0, hasher=hashed, backoff=backoff)) as reader:
        start = _read(reader, min(file.size, LENGTH_BYTES))
        if POINTER.startswith(start) and start + _read(reader, min(file.size, len(POINTER)) - len(start)) == POINTER:
            raise DataError(
                f"{file.path} is a pointer of Git LFS and not the file itself: the repository was cloned without git "
                "lfs; download it again"
            )
        if is_weights:
            _require_size(file, reader, start)


def _require_size(file: SourceFile, reader: Reader, start: bytes) -> None:
    """Raises DataError unless the header that follows ``start`` speaks of all bytes of the file, and of no more."""
    length = int.from_bytes(start, "little")
    rest = file.size - LENGTH_BYTES - length
    if len(start) < LENGTH_BYTES or rest < 0:
        raise DataError(f"{file.path} has {file.size} bytes, fewer than its header; the source has a damaged file")
    if length > MAX_HEADER_BYTES:
        return
    header = _read(reader, length)
    end = max((int(last) for _, last in OFFSETS.findall(header)), default=0)
    if not header.startswith(b"{") or rest != end:
        raise DataError(
            f"{file.path} has {file.size} bytes, and {LENGTH_BYTES + length + end} by its own header; the source has a "
            "damaged file"
        )


def _read(reader: Reader, count: int) -> bytes:
    content = bytearray(count)
    reader.fill(memoryview(content))
    return bytes(content)
