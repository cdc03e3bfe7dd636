"""The server: who asks, for what, may they; and control endpoints for tests and the local stack."""

import re
from dataclasses import asdict, replace
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from types import TracebackType

from pydantic import BaseModel, ConfigDict, ValidationError

from local.http_service import Request, Response, Service, invalid
from local.oss.access import AccessKey, AccessKeys
from local.oss.account import Account
from local.oss.errors import REQUEST_ID, OssError, denied, error_response, new_request_id
from local.oss.operations import Call, operation
from local.oss.policy import ACCOUNT, allows, resource_name
from local.oss.signature import Signature
from local.oss.storage import Storage

_VIRTUAL_HOST = re.compile(r"([a-z0-9-]+)\.(?:localhost|oss-[a-z0-9.-]+)(?::\d+)?")


class BucketOwner(BaseModel):
    """The account that a bucket belongs to."""

    model_config = ConfigDict(extra="forbid")

    owner: str = ACCOUNT


class OssServer(Service):
    """OSS in one region. Buckets are addressed by host name (``bucket.localhost``) or, at an IP address, by path.

    ``data`` is the folder where everything is kept; without one, the bytes of all that is larger than a mebibyte are
    dropped, and only sizes and checksums remain, in memory.

    Control endpoints, in place of the cloud's console:

    - ``PUT`` and ``DELETE /-/access-keys/<id>`` as ``access_keys`` in-process; the body is an ``AccessKey`` in JSON;
    - ``GET``, ``PUT`` and ``DELETE /-/account/<kind>/<id>`` as ``account``; the body is a record of that kind in JSON;
      ``DELETE`` with ``?force`` takes along what a user has;
    - ``GET``, ``PUT`` and ``DELETE /-/buckets/<name>``; the body of ``PUT`` is a ``BucketOwner`` in JSON, or empty for
      one of this account; ``DELETE`` with ``?force`` deletes its objects first, but ends no upload;
    - ``GET /-/buckets``: all buckets, of all accounts.

    For accounts and buckets PUT answers 409 if the thing exists and the request has the header ``If-None-Match: *``.
    """

    def __init__(self, *, data: Path | None, region: str = "cn-hangzhou", port: int = 0) -> None:
        super().__init__(port=port)
        if data is not None:
            data.mkdir(parents=True, exist_ok=True)
        self.region = region
        self.access_keys = AccessKeys(data and data / "access-keys.json")
        self.account = Account(data and data / "account.json", self.access_keys)
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
        try:
            match request.path.removeprefix("/-/").split("/"):
                case ["access-keys", key_id] if request.method in ("PUT", "DELETE"):
                    return self._control_key(request, key_id)
                case ["account", kind, record_id] if request.method in ("GET", "PUT", "DELETE"):
                    return self._control_account(request, kind, record_id)
                case ["buckets"] if request.method == "GET":
                    return Response.json([asdict(bucket) for bucket in self._storage.buckets()])
                case ["buckets", name] if request.method in ("GET", "PUT", "DELETE"):
                    return self._control_bucket(request, name)
        except ValidationError as error:
            raise invalid(error) from None
        except OssError as error:
            return Response.json({"code": error.code, "message": str(error)}, status=error.status)
        return super().control(request)

    def _control_key(self, request: Request, key_id: str) -> Response:
        if request.method == "PUT":
            self.access_keys.put(key_id, AccessKey.model_validate_json(request.body.read()))
        else:
            self.access_keys.delete(key_id)
        return Response(status=HTTPStatus.NO_CONTENT)

    def _control_account(self, request: Request, kind: str, record_id: str) -> Response:
        if request.method == "GET":
            record = self.account.find(kind, record_id)
            return Response.json(record.model_dump(exclude={"secret"})) if record else _nothing()
        if request.method == "PUT":
            self.account.put(kind, record_id, request.body.read(), new=_must_be_new(request))
        else:
            self.account.delete(kind, record_id, force="force" in request.query)
        return Response(status=HTTPStatus.NO_CONTENT)

    def _control_bucket(self, request: Request, name: str) -> Response:
        found = next((bucket for bucket in self._storage.buckets() if bucket.name == name), None)
        if request.method == "PUT":
            owner = BucketOwner.model_validate_json(request.body.read() or "{}").owner
            if found is None or _must_be_new(request):
                self._storage.create_bucket(name, owner)
            return Response(status=HTTPStatus.NO_CONTENT)
        if found is None:
            return _nothing()
        if request.method == "GET":
            if found.owner != ACCOUNT:
                raise denied("You have no right to access this object because of bucket acl.")
            return Response.json(asdict(found))
        if "force" in request.query:
            self._storage.delete_objects(name)
        self._storage.delete_bucket(name)
        return Response(status=HTTPStatus.NO_CONTENT)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._storage.close()

    def _serve(self, request: Request, bucket: str, key: str) -> Response:
        asked = operation(request, bucket, key)
        # Before the signature: OSS tells any client that a bucket does not exist.
        exists = bool(bucket) and asked.action != "oss:PutBucket"
        owner = self._storage.bucket(bucket).owner if exists else ACCOUNT
        access_key = self._authenticate(request, bucket, key)
        if owner != ACCOUNT:
            raise denied("You have no right to access this object because of bucket acl.")
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


def _nothing() -> Response:
    return Response(status=HTTPStatus.NOT_FOUND)


def _must_be_new(request: Request) -> bool:
    return request.headers.get("If-None-Match") == "*"


def _resource(request: Request) -> tuple[str, str]:
    """Bucket and key, empty where there is none."""
    path = request.path.removeprefix("/")
    host = _VIRTUAL_HOST.fullmatch(request.headers.get("Host", ""))
    if host is not None:
        return host[1], path
    bucket, _, key = path.partition("/")
    return bucket, key
