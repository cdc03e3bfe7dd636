"""Hugging Face, or a mirror of it (https://huggingface.co/docs/hub/api)."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import quote, urlsplit

from ..errors import DataError
from ..files import SourceFile
from ..http import Response
from .hub import MALFORMED, Hub, commit_of, unique, unknown_type

ENDPOINT = "https://huggingface.co"
DEFAULT_REVISION = "main"

NEXT_PAGE = re.compile(r'<([^>]+)>;\s*rel="next"')


@dataclass
class HuggingFace:
    """One repository at ``revision``: a branch, a tag or a commit."""

    repository: str
    revision: str = DEFAULT_REVISION
    endpoint: str = ENDPOINT
    token: str | None = field(default=None, repr=False)

    @cached_property
    def _hub(self) -> Hub:
        return Hub(self.endpoint, {"Authorization": f"Bearer {self.token}"} if self.token else {})

    @property
    def url(self) -> str:
        return f"hf://{self.repository}@{self.revision}"

    def list_files(self) -> list[SourceFile]:
        """Finds the commit of the revision, keeps to it, and lists its files."""
        name, revision = self.repository, quote(self.revision, safe="")
        self._hub.begin_listing()
        info, _ = self._hub.get_json(f"/api/models/{name}/revision/{revision}")
        try:
            self.revision = commit_of(info["sha"], self.endpoint)
            return unique(self._files(), self.url)
        except MALFORMED:
            raise DataError(f"{self.endpoint} does not answer like Hugging Face") from None

    def open(self, file: SourceFile, offset: int) -> Response:
        return self._hub.open(f"/{self.repository}/resolve/{self.revision}/{quote(file.path)}", file, offset, {})

    def _files(self) -> Iterator[SourceFile]:
        path = f"/api/models/{self.repository}/tree/{self.revision}?recursive=true"
        while path:
            page, headers = self._hub.get_json(path)
            for item in page:
                if item["type"] == "file":
                    yield _file(item)
                elif item["type"] != "directory":
                    raise unknown_type(item["path"], item["type"])
            following = NEXT_PAGE.search(headers.get("link", ""))
            # Only path and query: the token goes to the hub that was named, whatever an answer says.
            parts = urlsplit(following[1]) if following else None
            path = f"{parts.path}?{parts.query}" if parts else ""


def _file(item: dict[str, Any]) -> SourceFile:
    """Large files have their SHA-256; of small ones there is only git's name."""
    lfs = item.get("lfs")
    if lfs:
        return SourceFile(path=item["path"], size=lfs["size"], digest=f"sha256:{lfs.get('oid')}")
    return SourceFile(path=item["path"], size=item["size"], digest=f"git-sha1:{item.get('oid')}")
