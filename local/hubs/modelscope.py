"""ModelScope's API, as far as a download needs it.

Paths, parameters and the fields that its client reads are those of https://pypi.org/project/modelscope-hub/ 0.5.1.
What is marked (P) the client does not tell; several public clients rely on it. All answers are
``{"Code": 200, "Message": "success", "RequestId": "...", "Success": true, "Data": ...}``.

``GET /api/v1/models/{owner}/{name}/repo/files?Revision=master&Recursive=True[&Root=folder]``
    ``Data``: ``{"Files": [...], "IsVisual": 0, "LatestCommitter": {"Id": "", "ShortId": "1a2b3c4d", ...}}``. Names and
    values of the parameters are case-sensitive; without ``Recursive=True`` it is one level (P). Silently cut at 3,000
    entries. An entry is ``{"Path": "figures/benchmark.jpg", "Name": "benchmark.jpg", "Type": "blob", "Size": 151,
    "Sha256": "64 digits", "IsLFS": false, "Mode": "100644", "Revision": "40 digits", "CommittedDate": 1737349200}``;
    folders have the type ``tree`` and no ``Sha256``; small files have one as well (P).

    An unknown revision is *not* an error: status 200, ``"Files": null, "LatestCommitter": null`` (P).

    The commit of a branch: ``LatestCommitter.Id`` is often empty; ``ShortId`` is its first eight digits, and
    ``Revision`` of an entry is the whole name of the commit that last changed that file (P). So it is the ``Revision``
    that begins with ``ShortId``. ``Revision=<commit>`` is accepted wherever a branch is. Here ``.gitattributes`` is of
    an older commit, which this hub has forgotten.

``GET .../revisions``
    ``Data``: ``{"RevisionMap": {"Branches": [{"Revision": "master", "CreatedAt": 1737349200}], "Tags": []}}``.

``GET .../repo?Revision=master&FilePath=config.json``
    Small files: 200, and a Range is ignored. Files of git-lfs: 302 to the content server, to its internal address if
    the header ``x-aliyun-region-id`` names the hub's region. Both with ``X-Linked-ETag: "<SHA-256>"``.

``GET .../`` (the repository itself)
    ``Data``: ``{"Path": "owner", "Name": "name"}``.

``GET /api/v1/repos/internalAccelerationInfo``
    ``Data``: ``{"InternalRegionQueryAddress": "http://127.0.0.1:PORT/-/region"}``, where the caller's region can be
    read as text; or ``{}``.

A private repository takes the token as cookie ``m_session_id`` or as ``Authorization: Bearer``; the client sends both.
Errors are ``{"Code": 10010205001, "Message": "record not found", "RequestId": "...", "Success": false, "Data": null}``.
"""

import re
import uuid
from collections.abc import Mapping
from http import HTTPStatus
from http.cookies import SimpleCookie
from pathlib import PurePosixPath
from typing import Any

from local.http_service import Body, Request, Response
from local.hubs.contents import Contents
from local.hubs.errors import RefusalError
from local.hubs.repositories import DEFAULT_BRANCH, Commit, Repositories, RepositoryFile

LISTING_LIMIT = 3000
REGION_HEADER = "x-aliyun-region-id"

_PATH = re.compile(r"/api/v1/models/(?P<repository>[\w.-]+/[\w.-]+?)(?P<what>/repo/files|/repo|/revisions|)/?")
_COMMITTED = 1737349200
_NO_RECORD, _NO_FILE, _NO_ACCESS = "10010205001", "10990101007", "10010105001"


class ModelScopeApi:
    """Answers below ``/api/v1/``.

    :param private: token by repository; others are public.
    :param region: where the internal addresses are, and where every client of this hub is.
    """

    def __init__(
        self, repositories: Repositories, contents: Contents, *, private: Mapping[str, str], region: str | None
    ) -> None:
        self._repositories = repositories
        self._contents = contents
        self._private = private
        self._region = region

    def serve(self, request: Request) -> Response:
        """Raises RefusalError."""
        if request.path == "/api/v1/repos/internalAccelerationInfo":
            address = f"http://{request.headers['Host']}/-/region"
            return _success({"InternalRegionQueryAddress": address} if self._region else {})
        match = _PATH.fullmatch(request.path)
        if match is None:
            raise RefusalError(HTTPStatus.NOT_FOUND, _NO_RECORD, "no such path")
        repository = match["repository"]
        self._require_access(request, repository)
        match match["what"]:
            case "/repo/files":
                return _success(self._listing(request, repository))
            case "/repo":
                return self._download(request, repository)
            case "/revisions":
                branches = [
                    {"Revision": branch, "CreatedAt": _COMMITTED} for branch in self._repositories.branches(repository)
                ]
                return _success({"RevisionMap": {"Branches": branches, "Tags": []}})
            case _:
                owner, name = repository.split("/")
                return _success({"Path": owner, "Name": name})

    def _require_access(self, request: Request, repository: str) -> None:
        if not self._repositories.branches(repository):
            raise RefusalError(HTTPStatus.NOT_FOUND, _NO_RECORD, "record not found")
        token = self._private.get(repository)
        given = _tokens(request)
        if token is None or token in given:
            return
        if given:
            raise RefusalError(HTTPStatus.FORBIDDEN, _NO_ACCESS, "no access to this repository")
        raise RefusalError(HTTPStatus.NOT_FOUND, _NO_RECORD, "record not found")

    def _listing(self, request: Request, repository: str) -> dict[str, Any]:
        query = request.query
        found = self._repositories.find(repository, query.get("Revision", DEFAULT_BRANCH))
        if found is None:
            return {"Files": None, "IsVisual": 0, "LatestCommitter": None}
        commit, root = found[1], query.get("Root", "")
        entries = list(commit.entries(root, recursive=query.get("Recursive") == "True"))
        if root and not entries:
            raise RefusalError(HTTPStatus.NOT_FOUND, _NO_FILE, "no such folder")
        return {
            "Files": [_entry(path, file, commit, request.size_error) for path, file in entries[:LISTING_LIMIT]],
            "IsVisual": 0,
            "LatestCommitter": {
                "Id": "",
                "ShortId": commit.id[:8],
                "CommittedDate": _COMMITTED,
                "CommitterName": "deepseek-local",
            },
        }

    def _download(self, request: Request, repository: str) -> Response:
        query = request.query
        path = query.get("FilePath", "")
        found = self._repositories.find(repository, query.get("Revision", DEFAULT_BRANCH))
        if found is None or path not in found[1].files:
            raise RefusalError(HTTPStatus.NOT_FOUND, _NO_FILE, "no such file")
        branch, commit = found
        file = commit.files[path]
        headers = {"X-Linked-ETag": f'"{file.hashes.sha256}"'}
        if file.is_lfs:
            internal = self._region is not None and request.headers.get(REGION_HEADER) == self._region
            link = self._contents.link(request, "modelscope", repository, branch, path, internal=internal)
            return Response(status=HTTPStatus.FOUND, headers={**headers, "Location": link})
        return Response(headers=headers, body=Body.of_file(self._repositories.stored(repository, branch, path)[0]))


def _tokens(request: Request) -> set[str]:
    cookie = SimpleCookie(request.headers.get("Cookie", "")).get("m_session_id")
    bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
    return {token for token in (cookie.value if cookie else "", bearer) if token}


def _entry(path: str, file: RepositoryFile | None, commit: Commit, size_error: int) -> dict[str, Any]:
    return {
        "Name": PurePosixPath(path).name,
        "Path": path,
        "Type": "blob" if file else "tree",
        "Size": file.size + size_error if file else 0,
        "Sha256": file.hashes.sha256 if file else "",
        "IsLFS": file is not None and file.is_lfs,
        "Mode": "100644" if file else "040000",
        "Revision": "0" * 40 if path == ".gitattributes" else commit.id,
        "CommittedDate": _COMMITTED,
    }


def _success(data: object) -> Response:
    return Response.json(_answer(HTTPStatus.OK, "success", data))


def _answer(code: int, message: str, data: object) -> dict[str, Any]:
    success = code == HTTPStatus.OK
    return {"Code": code, "Message": message, "RequestId": str(uuid.uuid4()), "Success": success, "Data": data}


def refusal(status: int, code: str, message: str) -> Response:
    """An error of the API; ``status`` is used if ``code`` is not a number."""
    return Response.json(_answer(int(code) if code.isdigit() else status, message, None), status=status)
