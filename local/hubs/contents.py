"""The content server (CDN) of both hubs: signed, expiring addresses of large files, as those of an object store are.

``GET http://localhost:PORT/cdn/<hub>/<owner>/<name>/<branch>/<path>?Expires=<Unix time>&Signature=<hex>``, and
``/cdn-internal/...`` for clients within the cloud. Its host is ``localhost`` where the API is called as ``127.0.0.1``,
and the other way round. Answers:

- 200, or 206 for a range, 416 beyond the end; with ``x-oss-hash-crc64ecma`` of the whole object if that is wanted;
- ModelScope's has ``X-Linked-ETag: "<SHA-256>"``; that of Hugging Face has no such header, and an ``ETag`` of 64
  hexadecimal digits that is *not* the SHA-256 (https://github.com/nullata/llamaMan/issues/70);
- 403 ``AccessDenied`` when the time is over or the signature is wrong;
- 400 for a request that carries credentials of the API besides, as object stores refuse two ways of authorisation. The
  path of such a request is kept in ``leaks``.

Errors are in the XML of OSS.
"""

import hashlib
import hmac
import re
import secrets
import time
from http import HTTPStatus
from urllib.parse import quote, urlencode
from xml.sax.saxutils import escape

from local.http_service import Body, Request, Response
from local.hubs.errors import RefusalError
from local.hubs.repositories import Repositories

_PATH = re.compile(
    r"/cdn(?:-internal)?/(?P<hub>\w+)/(?P<repository>[^/]+/[^/]+)/(?P<branch>[^/]+)/(?P<path>.+)", re.DOTALL
)


class Contents:
    """Makes addresses and serves them; they hold for ``link_seconds``."""

    def __init__(self, repositories: Repositories, *, link_seconds: int, with_crc64: bool) -> None:
        self.leaks: list[str] = []
        self._repositories = repositories
        self._link_seconds = link_seconds
        self._with_crc64 = with_crc64
        self._key = secrets.token_bytes(32)

    def link(
        self, request: Request, hub: str, repository: str, branch: str, path: str, *, internal: bool = False
    ) -> str:
        """The address of a file for the client that sent ``request`` to the API of ``hub``."""
        name, _, port = (request.headers.get("Host") or "").partition(":")
        host = "127.0.0.1" if name == "localhost" else "localhost"
        path = f"/{'cdn-internal' if internal else 'cdn'}/{hub}/{repository}/{branch}/{path}"
        expires = str(int(time.time()) + self._link_seconds)
        query = urlencode({"Expires": expires, "Signature": self._signature(path, expires)})
        return f"http://{host}:{port}{quote(path)}?{query}"

    def expire(self) -> None:
        """Makes every address that was given out invalid."""
        self._key = secrets.token_bytes(32)

    def serve(self, request: Request) -> Response:
        """Answers a request for a file. Raises RefusalError."""
        if "Authorization" in request.headers or "Cookie" in request.headers:
            self.leaks.append(request.path)
            raise RefusalError(HTTPStatus.BAD_REQUEST, "InvalidArgument", "Only one auth mechanism is allowed.")
        self._verify(request)
        match = _PATH.fullmatch(request.path)
        found = match and self._repositories.find(match["repository"], match["branch"])
        if not match or not found or match["path"] not in found[1].files:
            raise RefusalError(HTTPStatus.NOT_FOUND, "NoSuchKey", "The specified key does not exist.")
        listed = found[1].files[match["path"]].hashes.sha256
        file, hashes = self._repositories.stored(match["repository"], match["branch"], match["path"])
        if match["hub"] == "modelscope":
            headers = {"X-Linked-ETag": f'"{listed}"'}
        else:
            headers = {"ETag": f'"{hashlib.sha256(listed.encode()).hexdigest()}"'}
        if self._with_crc64:
            headers["x-oss-hash-crc64ecma"] = str(hashes.crc64)
        return Response(headers=headers, body=Body.of_file(file), ranged=True)

    def _verify(self, request: Request) -> None:
        expires, signature = request.query.get("Expires", ""), request.query.get("Signature", "")
        if not hmac.compare_digest(signature.encode(), self._signature(request.path, expires).encode()):
            raise RefusalError(HTTPStatus.FORBIDDEN, "AccessDenied", "The signature does not match.")
        if int(expires) <= time.time():
            raise RefusalError(HTTPStatus.FORBIDDEN, "AccessDenied", "Request has expired.")

    def _signature(self, path: str, expires: str) -> str:
        return hmac.new(self._key, f"{path}\n{expires}".encode(), hashlib.sha256).hexdigest()


def refusal(status: int, code: str, message: str) -> Response:
    """An error of the content server."""
    text = f"<Error><Code>{escape(code)}</Code><Message>{escape(message)}</Message></Error>"
    return Response(status=status, headers={"Content-Type": "application/xml"}, body=Body(text.encode()))
