"""What was moved and proven: written last, so that who finds it knows the model to be whole."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from .errors import DataError

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One object: ``size`` in bytes, ``digest`` as the hub listed it and the moved bytes had it, and OSS's CRC-64."""

    size: int
    digest: str
    crc64: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """``source`` is the repository at its commit; ``files`` are by path below the prefix."""

    source: str
    files: Mapping[str, Entry]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.files.values())

    def to_json(self) -> bytes:
        """As it is stored: the same bytes for the same content."""
        files = {path: asdict(entry) for path, entry in self.files.items()}
        document = {"format": FORMAT, "source": self.source, "files": files}
        return json.dumps(document, indent=1, sort_keys=True).encode()

    @classmethod
    def from_json(cls, content: bytes) -> "Manifest":
        """Raises DataError."""
        try:
            document = json.loads(content)
            if document["format"] != FORMAT:
                raise DataError(f"the manifest has format {document['format']}, this program reads format {FORMAT}")
            files = {path: _entry(**entry) for path, entry in document["files"].items()}
            return cls(source=str(document["source"]), files=files)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise DataError("the manifest is damaged; run copy again, which writes another") from None


def _entry(*, size: int, digest: str, crc64: int) -> Entry:
    if not (type(size) is int and type(digest) is str and type(crc64) is int):
        raise TypeError("an entry of the manifest has another form")
    return Entry(size=size, digest=digest, crc64=crc64)
