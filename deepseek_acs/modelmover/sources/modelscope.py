"""ModelScope (https://modelscope.cn). Paths and fields are those that its own client uses
(https://pypi.org/project/modelscope-hub/); files are stored in OSS, and reached by redirect.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import quote, urlencode

from ..errors import DataError, NotFoundError
from ..files import SourceFile
from ..http import Response
from .hub import MALFORMED, AddressError, Hub, commit_of, unique, unknown_type

ENDPOINT = "https://modelscope.cn"
DEFAULT_REVISION = "master"

LISTING_LIMIT = 3000
"""Length at which a listing is silently truncated."""

REGION_HEADER = "x-aliyun-region-id"
"""Who names their region is redirected to the internal address of OSS there, whose bytes pass no NAT gateway."""


FRUITLESS = 8
"""How often a file is asked for at one offset by its internal address without a byte; then it comes the public way.
Less than the attempts of one action, and more than a busy server takes to recover."""


@dataclass
class ModelScope:
    """One repository at ``revision``: a branch, a tag or a commit. ``region`` is the Alibaba Cloud region of this
    machine, None outside of Alibaba Cloud."""

    repository: str
    revision: str = DEFAULT_REVISION
    endpoint: str = ENDPOINT
    token: str | None = field(default=None, repr=False)
    region: str | None = None
    _public: set[str] = field(default_factory=set, init=False, repr=False)
    _opened: Counter[tuple[str, int]] = field(default_factory=Counter, init=False, repr=False)

    @cached_property
    def _hub(self) -> Hub:
        headers = {}
        if self.token:
            # The client sends both.
            headers = {"Cookie": f"m_session_id={self.token}", "Authorization": f"Bearer {self.token}"}
        return Hub(self.endpoint, headers)

    @property
    def url(self) -> str:
        return f"modelscope://{self.repository}@{self.revision}"

    def list_files(self) -> list[SourceFile]:
        """Lists the files, and keeps to the commit that they are of."""
        self._hub.begin_listing()
        try:
            listing = self._listing("")
            commit = _commit(listing)
            if commit is not None and commit != self.revision:
                # The branch may have moved between two requests: only the listing of the commit counts.
                self.revision = commit_of(commit, self.endpoint)
                listing = self._listing("")
            return unique(self._walk(listing["Files"], ""), self.url)
        except MALFORMED:
            raise DataError(f"{self.endpoint} does not answer like ModelScope") from None

    def open(self, file: SourceFile, offset: int) -> Response:
        query = urlencode({"Revision": self.revision, "FilePath": file.path}, quote_via=quote)
        if self.region and file.path not in self._public:
            self._opened[file.path, offset] += 1
            if self._opened[file.path, offset] > FRUITLESS:
                self._public.add(file.path)
                self._hub.forget(file)
        headers = {REGION_HEADER: self.region} if self.region and file.path not in self._public else {}
        try:
            return self._hub.open(f"/api/v1/models/{self.repository}/repo?{query}", file, offset, headers)
        except AddressError:
            # The internal one, if a region was named: from now on this file comes the public way.
            self._public.add(file.path)
            self._hub.forget(file)
            raise

    def _walk(self, items: list[dict[str, Any]], root: str) -> Iterator[SourceFile]:
        if len(items) < LISTING_LIMIT:
            for item in items:
                if item["Type"] == "blob":
                    digest = f"sha256:{str(item.get('Sha256')).lower()}"
                    yield SourceFile(path=item["Path"], size=item["Size"], digest=digest)
                elif item["Type"] != "tree":
                    raise unknown_type(item["Path"], item["Type"])
            return
        level = self._listing(root, recursive=False)["Files"]
        if len(level) >= LISTING_LIMIT:
            raise DataError(
                f"{self.url}: ModelScope does not list all of a folder with {LISTING_LIMIT} entries or more"
            )
        for item in level:
            if item["Type"] == "tree":
                yield from self._walk(self._listing(item["Path"])["Files"], item["Path"])
            else:
                yield from self._walk([item], root)

    def _listing(self, root: str, *, recursive: bool = True) -> dict[str, Any]:
        query = {"Revision": self.revision, "Recursive": str(recursive)} | ({"Root": root} if root else {})
        answer, _ = self._hub.get_json(f"/api/v1/models/{self.repository}/repo/files?{urlencode(query)}")
        if not answer["Success"]:
            raise DataError(f"ModelScope refuses to list {self.repository}: {answer.get('Message', 'no reason given')}")
        data: dict[str, Any] = answer["Data"]
        if data["Files"] is None:
            raise NotFoundError(f"ModelScope has no revision {self.revision} of {self.repository}")
        return data


def _commit(listing: dict[str, Any]) -> str | None:
    """The commit of a listing. Its full name is often left out; the files have theirs, and one of them is the last."""
    latest = listing.get("LatestCommitter") or {}
    if latest.get("Id"):
        return str(latest["Id"])
    short = latest.get("ShortId")
    commits = {item["Revision"] for item in listing["Files"] if short and item.get("Revision", "").startswith(short)}
    return str(commits.pop()) if len(commits) == 1 else None
