"""What was moved and proven: written last, so that who finds it knows the model to be whole."""

import hashlib
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

    @property
    def sha256(self) -> str:
        """Of the bytes that are stored: by it a stack file names the one content that it trusts."""
        return hashlib.sha256(self.to_json()).hexdigest()

    def require(self, sha256: str | None) -> None:
        """Raises DataError if this is not the manifest that is pinned; None pins none."""
        if sha256 is not None and self.sha256 != sha256:
            raise DataError(
                f"the manifest of {self.source} has the SHA-256 {self.sha256}, and {sha256} is pinned "
                "(--manifest-sha256, weights.manifestSha256): find out who changed the weights or their source; pin "
                "the other one if it is meant"
            )

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
