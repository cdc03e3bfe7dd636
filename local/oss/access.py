"""AccessKeys and what they may do."""

import os
import threading
from datetime import datetime
from http import HTTPStatus
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter
from pydantic.alias_generators import to_camel

from local.oss.errors import OssError
from local.oss.policy import Policy
from local.oss.signature import Signature


class AccessKey(BaseModel):
    """A key, or temporary credentials if there is a token."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)

    secret: str = Field(min_length=1, repr=False)
    security_token: str | None = Field(default=None, repr=False)
    expiration: AwareDatetime | None = None
    policies: list[Policy] | None
    """None is the account itself, which may do everything."""


_FILE = TypeAdapter(dict[str, AccessKey])


class AccessKeys:
    """All keys by id, kept in a file that only its owner can read; in memory without one. Safe for threads."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._keys: dict[str, AccessKey] = {}
        if file is not None and file.exists():
            self._keys = _FILE.validate_json(file.read_bytes())

    def put(self, key_id: str, key: AccessKey) -> None:
        """Adds or replaces a key."""
        with self._lock:
            self._keys[key_id] = key
            self._save()

    def delete(self, key_id: str) -> None:
        """Forgets a key, if it is known."""
        with self._lock:
            self._keys.pop(key_id, None)
            self._save()

    def find(self, signature: Signature, now: datetime) -> AccessKey:
        """The key of a signature. Raises OssError."""
        key = self._keys.get(signature.access_key_id)
        if key is None or (key.security_token and signature.security_token is None):
            raise OssError(
                HTTPStatus.FORBIDDEN, "InvalidAccessKeyId", "The OSS Access Key Id you provided does not exist."
            )
        if key.security_token != signature.security_token:
            raise OssError(
                HTTPStatus.FORBIDDEN, "InvalidSecurityToken", "The security token you provided is not that of the key."
            )
        if key.expiration is not None and key.expiration <= now:
            raise OssError(HTTPStatus.FORBIDDEN, "SecurityTokenExpired", "The security token you provided has expired.")
        return key

    def _save(self) -> None:
        if self._file is None:
            return
        write_private(self._file, _FILE.dump_json(self._keys, by_alias=True, indent=1))


def write_private(file: Path, content: bytes) -> None:
    """Replaces a file that only its owner can read, from the first moment on."""
    new = file.with_suffix(".new")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(content)
    new.replace(file)
