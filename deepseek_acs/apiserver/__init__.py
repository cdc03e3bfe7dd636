"""Requests to the API server with the pod's own service account."""

import http.client
import json
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REQUEST_SECONDS = 30

CREDENTIALS = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Folder with the pod's own credentials (https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/)."""

LONGEST_LINE = 2**20
"""Bytes of a line of a stream; a longer one is cut into several."""

DENIED = (401, 403)
"""Statuses for which a retry does not help."""


class ApiError(Exception):
    """The API server did not answer, or the answer was unusable; a retry may succeed."""


class DeniedError(ApiError):
    """The service account is not allowed to do this; retries do not help."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        """None is an answer like any other error."""


def opener(*handlers: urllib.request.BaseHandler) -> urllib.request.OpenerDirector:
    """Uses no proxy and follows no redirect: only the server that is asked may get a token or a key."""
    return urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects(), *handlers)


class ApiServer:
    """``url`` is the server's, ``credentials`` the folder with ``ca.crt`` and ``token``."""

    def __init__(self, url: str, credentials: Path) -> None:
        self._url = url
        self._token = credentials / "token"
        handlers = []
        if url.startswith("https:"):
            context = ssl.create_default_context(cafile=str(credentials / "ca.crt"))
            handlers.append(urllib.request.HTTPSHandler(context=context))
        self._opener = opener(*handlers)

    def get(self, path: str) -> dict[str, Any] | None:
        """The object; None if there is none. Raises ApiError."""
        return self._request("GET", path, missing=404)

    def patch(self, path: str, body: object) -> bool:
        """Merges ``body`` into the object; whether there is one. Raises ApiError, also if ``body`` names a version of
        the object that is not the current one."""
        merge = "application/merge-patch+json"
        return self._request("PATCH", path, body, missing=404, content_type=merge) is not None

    def create(self, path: str, body: object) -> None:
        """Creates the object unless it exists. Raises ApiError."""
        self._request("POST", path, body, missing=409)

    def delete(self, path: str) -> None:
        """Deletes the object if it exists. Raises ApiError."""
        self._request("DELETE", path, missing=404)

    def stream(self, path: str, *, silence_seconds: float) -> Iterator[bytes]:
        """The lines of a watch or of a log that is followed, as they come. Raises ApiError, also after
        ``silence_seconds`` without a byte."""
        try:
            with self._opener.open(self._prepared("GET", path), timeout=silence_seconds) as answer:
                while line := answer.readline(LONGEST_LINE):
                    yield line
        except urllib.error.HTTPError as error:
            with error:
                raise _refusal("GET", path, error) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ApiError(f"GET {path}: {error}") from None

    def _request(
        self, method: str, path: str, body: object = None, *, missing: int, content_type: str = "application/json"
    ) -> dict[str, Any] | None:
        request = self._prepared(method, path, body, content_type)
        try:
            with self._opener.open(request, timeout=REQUEST_SECONDS) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except urllib.error.HTTPError as error:
            with error:
                if error.code == missing:
                    return None
                raise _refusal(method, path, error) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ApiError(f"{method} {path}: {error}") from None

    def _prepared(
        self, method: str, path: str, body: object = None, content_type: str = "application/json"
    ) -> urllib.request.Request:
        # Read each time: the kubelet renews it.
        headers = {
            "Authorization": f"Bearer {self._token.read_text(encoding='utf-8').strip()}",
            "Content-Type": content_type,
        }
        data = None if body is None else json.dumps(body).encode()
        return urllib.request.Request(f"{self._url}{path}", data, headers, method=method)  # noqa: S310


def _refusal(method: str, path: str, error: urllib.error.HTTPError) -> ApiError:
    kind = DeniedError if error.code in DENIED else ApiError
    return kind(f"{method} {path}: {error.code} {error.reason}")


def in_cluster() -> str:
    """Address of the API server, as every pod is told it
    (https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/)."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    return f"https://{f'[{host}]' if ':' in host else host}:{port}"
