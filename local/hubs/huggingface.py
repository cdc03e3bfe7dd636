"""Hugging Face's API, as far as a download needs it.

Paths, headers and the fields that its client reads are those of https://pypi.org/project/huggingface-hub/ 2.4.0. The
branch ``main`` is the folder ``master``.

``GET /api/models/{owner}/{name}[/revision/{revision}]``
    ``{"id": "owner/name", "modelId": "owner/name", "sha": "40 digits", "private": false, "siblings": [{"rfilename":
    "config.json"}]}``. ``sha`` is accepted wherever a revision is.

``GET /api/models/{owner}/{name}/tree/{revision}?recursive=true``
    A list; 1,000 entries at a time, then ``Link: <URL of the next page>; rel="next"``. Entries:
    ``{"type": "directory", "oid": "40 digits", "size": 0, "path": "figures"}``,
    ``{"type": "file", "oid": "git's name of the blob", "size": 1729, "path": "config.json"}``, and for files of git-lfs
    ``{"type": "file", "oid": "git's name of the pointer", "size": 12686388, "path":
    "model-00001-of-000004.safetensors", "lfs": {"oid": "SHA-256", "size": 12686388, "pointerSize": 133}}``.

``GET`` and ``HEAD /{owner}/{name}/resolve/{revision}/{path}``
    Always with ``X-Repo-Commit``. Files of git-lfs: 302 to the content server, with ``X-Linked-Etag: "<SHA-256>"`` and
    ``X-Linked-Size``. Small files: 307 to ``/api/resolve-cache/models/{owner}/{name}/{commit}/{path}``, a path on the
    same host (https://github.com/huggingface/swift-transformers/pull/209), where they are served: 200 with git's name
    as ``ETag``, and a Range is ignored.

A private repository takes ``Authorization: Bearer <token>``; without, it does not exist. Errors have ``X-Error-Code``
(``RepoNotFound`` with status 401; ``RevisionNotFound``, ``EntryNotFound`` with 404) and ``X-Error-Message``, and
``{"error": "..."}`` as body.
"""

import hashlib
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

from local.http_service import Body, Request, Response
from local.hubs.contents import Contents
from local.hubs.errors import RefusalError
from local.hubs.repositories import DEFAULT_BRANCH, Commit, Repositories, RepositoryFile, lfs_pointer

PAGE_ENTRIES = 1000

_REPOSITORY = r"(?P<repository>[\w.-]+/[\w.-]+)"
_INFO = re.compile(rf"/api/models/{_REPOSITORY}(?:/revision/(?P<revision>[^/]+))?")
_TREE = re.compile(rf"/api/models/{_REPOSITORY}/tree/(?P<revision>[^/]+)(?:/(?P<root>.+))?")
_CACHE = re.compile(rf"/api/resolve-cache/models/{_REPOSITORY}/(?P<revision>[^/]+)/(?P<path>.+)")
_RESOLVE = re.compile(rf"/{_REPOSITORY}/resolve/(?P<revision>[^/]+)/(?P<path>.+)")


class HuggingFaceApi:
    """Answers below ``/api/`` and at ``/{owner}/{name}/resolve/``.

    :param private: token by repository; others are public.
    """

    def __init__(self, repositories: Repositories, contents: Contents, *, private: Mapping[str, str]) -> None:
        self._repositories = repositories
        self._contents = contents
        self._private = private

    def serve(self, request: Request) -> Response:
        """Raises RefusalError."""
        if match := _TREE.fullmatch(request.path):
            _, commit = self._find(request, match)
            return _tree(request, commit, match["root"] or "")
        if match := _INFO.fullmatch(request.path):
            return self._info(match["repository"], self._find(request, match)[1])
        if match := _CACHE.fullmatch(request.path):
            return self._small_file(request, match)
        if match := _RESOLVE.fullmatch(request.path):
            return self._resolve(request, match)
        raise RefusalError(HTTPStatus.NOT_FOUND, "NotFound", "Sorry, we can't find the page you are looking for.")

    def _find(self, request: Request, match: re.Match[str]) -> tuple[str, Commit]:
        repository, revision = match["repository"], match["revision"] or "main"
        token = self._private.get(repository)
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token is not None and given and given != token:
            raise RefusalError(HTTPStatus.UNAUTHORIZED, "Unauthorized", "Invalid credentials in Authorization header")
        if not self._repositories.branches(repository) or (token is not None and not given):
            raise RefusalError(HTTPStatus.UNAUTHORIZED, "RepoNotFound", "Repository not found")
        found = self._repositories.find(repository, DEFAULT_BRANCH if revision == "main" else revision)
        if found is None:
            raise RefusalError(HTTPStatus.NOT_FOUND, "RevisionNotFound", f"Invalid rev id: {revision}")
        return found

    def _info(self, repository: str, commit: Commit) -> Response:
        return Response.json(
            {
                "id": repository,
                "modelId": repository,
                "sha": commit.id,
                "private": repository in self._private,
                "siblings": [{"rfilename": path} for path in commit.files],
            }
        )

    def _resolve(self, request: Request, match: re.Match[str]) -> Response:
        branch, commit = self._find(request, match)
        repository, path = match["repository"], match["path"]
        file = _file(commit, path)
        headers = {"X-Repo-Commit": commit.id}
        if not file.is_lfs:
            cached = quote(f"/api/resolve-cache/models/{repository}/{commit.id}/{path}")
            headers |= {"Location": cached}
            return Response(status=HTTPStatus.TEMPORARY_REDIRECT, headers=headers)
        headers |= {
            "Location": self._contents.link(request, "huggingface", repository, branch, path),
            "X-Linked-Etag": f'"{file.hashes.sha256}"',
            "X-Linked-Size": str(file.size),
        }
        return Response(status=HTTPStatus.FOUND, headers=headers)

    def _small_file(self, request: Request, match: re.Match[str]) -> Response:
        branch, commit = self._find(request, match)
        file = _file(commit, match["path"])
        stored, _ = self._repositories.stored(match["repository"], branch, match["path"])
        headers = {"X-Repo-Commit": commit.id, "ETag": f'"{file.hashes.git_oid}"'}
        return Response(headers=headers, body=Body.of_file(stored))


def _file(commit: Commit, path: str) -> RepositoryFile:
    if path not in commit.files:
        raise RefusalError(HTTPStatus.NOT_FOUND, "EntryNotFound", "Entry not found")
    return commit.files[path]


def _tree(request: Request, commit: Commit, root: str) -> Response:
    entries = list(commit.entries(root, recursive=request.query.get("recursive", "").lower() == "true"))
    if root and not entries:
        raise RefusalError(HTTPStatus.NOT_FOUND, "EntryNotFound", f"{root} does not exist")
    start = int(request.query.get("cursor", 0))
    end = start + PAGE_ENTRIES
    page = [_entry(path, file, request.size_error) for path, file in entries[start:end]]
    headers = {}
    if end < len(entries):
        query = urlencode({**request.query, "cursor": end})
        headers["Link"] = f'<http://{request.headers["Host"]}{quote(request.path)}?{query}>; rel="next"'
    return Response.json(page, headers=headers)


def _entry(path: str, file: RepositoryFile | None, size_error: int) -> dict[str, Any]:
    if file is None:
        # Not git's name of the folder, which no client reads.
        oid = hashlib.sha1(path.encode(), usedforsecurity=False).hexdigest()
        return {"type": "directory", "oid": oid, "size": 0, "path": path}
    size = file.size + size_error
    entry: dict[str, Any] = {"type": "file", "oid": file.hashes.git_oid, "size": size, "path": path}
    if file.is_lfs:
        pointer = lfs_pointer(file.hashes.sha256, file.size)
        entry["lfs"] = {"oid": file.hashes.sha256, "size": size, "pointerSize": len(pointer)}
    return entry


def refusal(status: int, code: str, message: str) -> Response:
    """An error of the API."""
    return Response.json({"error": message}, status=status, headers={"X-Error-Code": code, "X-Error-Message": message})
