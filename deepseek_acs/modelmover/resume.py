"""What is still to do for a file of which a part is in the bucket already.

The bucket itself is the record: ListParts says which parts OSS has acknowledged, and a small object of ours which
upload they belong to and how far the hash had come. Nothing acknowledged is sent again. What the saved hash covers is
not even fetched again.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from .checksums import can_resume, combine
from .files import SourceFile
from .oss.client import Part

HASH_STATE = re.compile(r"[0-9a-f]{64}/(\d+)")
"""Eight words and the number of bytes (``deepseek_acs/modelmover/checksums.py``)."""


@dataclass(frozen=True, kw_only=True)
class UploadState:
    """The saved state of one multipart upload.

    ``hash_state`` covers the first ``hashed_parts`` parts, all of which OSS had acknowledged, and whose CRC-64 together
    is ``crc64``. ``proven_crc64`` is the CRC-64 of the whole file, from when its hash was found to be right. Sizes are
    in bytes.
    """

    upload_id: str
    digest: str
    size: int
    part_size: int
    hashed_parts: int = 0
    hash_state: str | None = None
    crc64: int = 0
    proven_crc64: int | None = None

    def to_json(self) -> bytes:
        """As it is stored."""
        return json.dumps(asdict(self), sort_keys=True).encode()

    @classmethod
    def from_json(cls, content: bytes) -> "UploadState | None":
        """None if ``content`` is not of this form: a state that cannot be used is as good as none."""
        try:
            found = cls(**json.loads(content))
        except (ValueError, TypeError, RecursionError):
            return None
        is_typed = all(isinstance(getattr(found, name), kind) for name, kind in _KINDS.items())
        return found if is_typed and found._hash_is_of_whole_parts() else None

    def _hash_is_of_whole_parts(self) -> bool:
        match = HASH_STATE.fullmatch(self.hash_state or "")
        return self.hash_state is None or bool(match and int(match[1]) == self.hashed_parts * self.part_size)

    def proves(self, file: SourceFile, crc64: int | None) -> bool:
        """Whether an object with this CRC-64 is ``file``: its bytes had the hash before it was made of them."""
        return crc64 is not None and (self.digest, self.size, self.proven_crc64) == (file.digest, file.size, crc64)

    def is_of(self, file: SourceFile, part_size: int) -> bool:
        """Whether it describes ``file`` as it is now, in parts that fit the buffers."""
        return (self.digest, self.size, self.part_size) == (file.digest, file.size, part_size)


_KINDS: Mapping[str, type | tuple[type, ...]] = {
    "upload_id": str,
    "digest": str,
    "size": int,
    "part_size": int,
    "hashed_parts": int,
    "hash_state": (str, type(None)),
    "crc64": int,
    "proven_crc64": (int, type(None)),
}


def part_sizes(size: int, part_size: int) -> list[int]:
    """Sizes of the parts of a file of ``size`` bytes; their numbers begin with 1."""
    whole, rest = divmod(size, part_size)
    return [part_size] * whole + ([rest] if rest else [])


@dataclass(frozen=True, kw_only=True)
class Resume:
    """Fetch and hash from part ``first`` on, with the hash continuing from ``hash_state``; do not send
    ``acknowledged``."""

    first: int
    hash_state: str | None
    acknowledged: Mapping[int, Part]


def plan_resume(state: UploadState, parts: Sequence[Part]) -> Resume:
    """What to do with an upload of which OSS has ``parts``."""
    sizes = part_sizes(state.size, state.part_size)
    acknowledged = {
        part.number: part
        for part in parts
        if 1 <= part.number <= len(sizes) and part.size == sizes[part.number - 1] and part.crc64 is not None
    }
    covered = range(1, state.hashed_parts + 1)
    if (
        state.hash_state is None
        or not can_resume()
        or state.hashed_parts > len(sizes)
        or not acknowledged.keys() >= set(covered)
    ):
        return Resume(first=1, hash_state=None, acknowledged=acknowledged)
    if crc_of([acknowledged[number] for number in covered]) != state.crc64:
        # Other bytes than those that were hashed: the hash has to see them again.
        return Resume(first=1, hash_state=None, acknowledged=acknowledged)
    return Resume(first=state.hashed_parts + 1, hash_state=state.hash_state, acknowledged=acknowledged)


def crc_of(parts: Sequence[Part]) -> int:
    """CRC-64 of the parts one after the other."""
    crc = 0
    for part in parts:
        crc = combine(crc, part.crc64 or 0, part.size)
    return crc
