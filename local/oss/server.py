"""The server: who asks, for what, may they; and control endpoints for tests and the local stack."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from types import TracebackType

from pydantic import ValidationError

from local.http_service import Request, Response, Service, invalid
from local.oss.access import AccessKey, AccessKeys
from local.oss.errors import REQUEST_ID, OssError, denied, error_response, new_request_id
from local.oss.operations import Call, operation
from local.oss.policy import allows, resource_name
from local.oss.signature import Signature
from local.oss.storage import Storage

_VIRTUAL_HOST = re.compile(r"([a-z0-9-]+)\.(?:localhost|oss-[a-z0-9.-]+)(?::\d+)?")
_KEY_ENDPOINT = re.compile(r"/-/access-keys/([^/]+)")


class OssServer(Service):
    """OSS in one region. Buckets are addressed by host name (``bucket.localhost``) or, at an IP address, by path.

    ``data`` is the folder where everything is kept; without one, the bytes of all that is larger than a mebibyte are
    dropped, and only sizes and checksums remain, in memory.

    ``PUT`` and ``DELETE /-/access-keys/<id>`` are the control endpoints for keys, as ``access_keys`` is in-process;
    the body is an ``AccessKey`` in JSON.
    """

    def __init__(self, *, data: Path | None, region: str = "cn-hangzhou", port: int = 0) -> None:
        super().__init__(port=port)
        if data is not None:
            data.mkdir(parents=True, exist_ok=True)
        self.region = region
        self.access_keys = AccessKeys(data and data / "access-keys.json")
        self._storage = Storage(data)

    def handle(self, request: Request) -> Response:
        bucket, key = _resource(request)
        try:
            response = self._serve(request, bucket, key)
        except OssError as error:
            response = error_response(error.status, error.code, str(error))
        return replace(response, headers={REQUEST_ID: new_request_id(), **response.headers})

    def refusal(self, request: Request, status: int, code: str, message: str) -> Response:
        return error_response(status, code, message)

    def control(self, request: Request) -> Response:
        match = _KEY_ENDPOINT.fullmatch(request.path)
        if match is None or request.method not in ("PUT", "DELETE"):
            return super().control(request)
        if request.method == "PUT":
            try:
                self.access_keys.put(match[1], AccessKey.model_validate_json(request.body.read()))
            except ValidationError as error:
                raise invalid(error) from None
        else:
            self.access_keys.delete(match[1])
        return Response(status=HTTPStatus.NO_CONTENT)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._storage.close()

    def _serve(self, request: Request, bucket: str, key: str) -> Response:
        access_key = self._authenticate(request, bucket, key)
        asked = operation(request, bucket, key)
        if bucket and asked.action != "oss:PutBucket":
            self._storage.bucket(bucket)
        resource = resource_name(self.region, bucket, key)
        if access_key.policies is not None and not allows(access_key.policies, asked.action, resource):
            raise denied(f"You have no right to access this object because of bucket acl or policy: {asked.action}.")
        if len(key.encode()) > 1023 or key.startswith(("/", "\\")):
            raise OssError(HTTPStatus.BAD_REQUEST, "InvalidObjectName", "The specified object is not valid.")
        return asked.serve(Call(request=request, storage=self._storage, region=self.region, bucket=bucket, key=key))

    def _authenticate(self, request: Request, bucket: str, key: str) -> AccessKey:
        now = datetime.now(UTC)
        signature = Signature.of(request)
        access_key = self.access_keys.find(signature, now)
        resource = f"/{bucket}/{key}" if bucket else "/"
        signature.verify(request, resource=resource, secret=access_key.secret, region=self.region, now=now)
        return access_key


def _resource(request: Request) -> tuple[str, str]:
    """Bucket and key, empty where there is none."""
    path = request.path.removeprefix("/")
    host = _VIRTUAL_HOST.fullmatch(request.headers.get("Host", ""))
    if host is not None:
        return host[1], path
    bucket, _, key = path.partition("/")
    return bucket, key
