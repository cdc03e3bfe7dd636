"""Where a model comes from."""

import re
from typing import Protocol

from ..errors import UsageError
from ..files import SourceFile


class Stream(Protocol):
    """The bytes of one file from some offset on."""

    def readinto(self, buffer: memoryview) -> int:
        """Reads up to the size of ``buffer``; 0 at the end. Raises TransientError."""

    def close(self) -> None:
        """Gives up what was not read."""


class Source(Protocol):
    """A listing, and streams of what is listed."""

    @property
    def url(self) -> str:
        """Which repository at which commit, for the manifest."""

    def list_files(self) -> list[SourceFile]:
        """Every file, with size and hash. Raises MoveError or TransientError."""

    def open(self, file: SourceFile, offset: int) -> Stream:
        """The bytes of ``file`` from ``offset`` on. Raises MoveError or TransientError."""


SOURCE_URL = re.compile(
    r"(?P<scheme>modelscope|hf)://(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^@\s]+))?", re.ASCII
)
"""The schemes are those of KServe's storage initializer."""


def parse_source(text: str) -> tuple[str, str, str | None]:
    """Scheme, repository or folder, and revision of ``modelscope://owner/name@revision``, ``hf://owner/name@revision``
    or a folder's path. Raises UsageError."""
    if "://" not in text:
        return "folder", text, None
    match = SOURCE_URL.fullmatch(text)
    if match is None:
        raise UsageError(
            f"the source {text!r} is not modelscope://OWNER/NAME[@REVISION], hf://OWNER/NAME[@REVISION] or the "
            "path of a folder"
        )
    return match["scheme"], match["repository"], match["revision"]
