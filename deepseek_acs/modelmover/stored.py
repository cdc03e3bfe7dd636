"""What the bucket holds of a model, compared with what it should be."""

from contextlib import closing

from .checksums import hasher
from .files import SourceFile
from .layout import model_key
from .manifest import Entry
from .oss.client import Bucket
from .reader import Reader
from .retry import Backoff
from .sources import Stream

SCRATCH_BYTES = 2**20


def object_digest(bucket: Bucket, prefix: str, file: SourceFile, backoff: Backoff) -> str:
    """The hash of the bytes of ``file``'s object, which has its size, by reading all of them."""
    hashed = hasher(file.algorithm, size=file.size)
    scratch = memoryview(bytearray(SCRATCH_BYTES))

    def opened(file: SourceFile, offset: int) -> Stream:
        return bucket.open(model_key(prefix, file.path), offset)

    with closing(Reader(opened, file, offset=0, hasher=hashed, backoff=backoff)) as reader:
        for start in range(0, file.size, SCRATCH_BYTES):
            reader.fill(scratch[: min(SCRATCH_BYTES, file.size - start)])
    return hashed.digest()


def proven_entry(bucket: Bucket, prefix: str, file: SourceFile, backoff: Backoff) -> Entry | None:
    """``file`` as it is in the bucket, if its bytes have its hash; reads all of them."""
    head = bucket.head(model_key(prefix, file.path))
    if head is None or head.size != file.size or head.crc64 is None:
        return None
    if object_digest(bucket, prefix, file, backoff) != file.digest:
        return None
    return Entry(size=file.size, digest=file.digest, crc64=head.crc64)


def difference(bucket: Bucket, prefix: str, path: str, entry: Entry) -> str | None:
    """What is wrong with the object of ``path``, as far as it can be seen without reading it."""
    head = bucket.head(model_key(prefix, path))
    if head is None:
        return f"{path} is missing"
    if (head.size, head.crc64) != (entry.size, entry.crc64):
        return f"{path} has {head.size} bytes and CRC-64 {head.crc64}, moved were {entry.size} and {entry.crc64}"
    return None
