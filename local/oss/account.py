"""RAM, as far as OSS depends on it: users, policies, which user has which, and the users' access keys; and the names of
roles, which no one assumes here.

What is put here decides what the keys may do, in whatever order it comes. As in RAM, names are unique, a user has at
most two keys, and is not deleted while it has keys or policies, but by force, which takes them along. A policy has five
versions at most and is not deleted while a user has it.
"""

import threading
from http import HTTPStatus
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from local.oss.access import AccessKey, AccessKeys, write_private
from local.oss.errors import OssError
from local.oss.policy import Policy


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class User(_Record):
    """A RAM user."""

    name: str


class Role(_Record):
    """A RAM role."""

    name: str


class NamedPolicy(_Record):
    """A policy that may be attached. Another ``document`` is another version: ``rotates`` says whether the oldest one
    makes room for it."""

    name: str
    document: Policy
    rotates: bool = False
    versions: list[int] = [1]


class Attachment(_Record):
    """``user`` may do what ``policy`` says; both are names."""

    user: str
    policy: str


class UserKey(_Record):
    """An access key of the user with that name."""

    user: str
    secret: str = Field(min_length=1, repr=False)


class _Records(BaseModel):
    users: dict[str, User] = {}
    policies: dict[str, NamedPolicy] = {}
    attachments: dict[str, Attachment] = {}
    roles: dict[str, Role] = {}
    keys: dict[str, UserKey] = {}


MOST_KEYS = 2
MOST_VERSIONS = 5
"""Of a user, and of a policy (https://www.alibabacloud.com/help/en/ram/product-overview/limits)."""

_MODELS: dict[str, type[_Record]] = {
    "users": User,
    "policies": NamedPolicy,
    "attachments": Attachment,
    "roles": Role,
    "keys": UserKey,
}


class Account:
    """All records by kind and id, kept in a file that only its owner can read; in memory without one. Safe for threads.

    Kinds are ``users``, ``policies``, ``attachments``, ``roles`` and ``keys``; the id of a key is its AccessKey ID.
    """

    def __init__(self, file: Path | None, access_keys: AccessKeys) -> None:
        self._file = file
        self._access_keys = access_keys
        self._lock = threading.Lock()
        self._records = _Records()
        if file is not None and file.exists():
            self._records = _Records.model_validate_json(file.read_bytes())
            self._derive_keys()

    def find(self, kind: str, record_id: str) -> BaseModel | None:
        """Raises OssError for an unknown kind."""
        return self._of(kind).get(record_id)

    def put(self, kind: str, record_id: str, content: bytes, *, new: bool) -> None:
        """Adds a record, or replaces it unless it has to be ``new``. Raises OssError, ValidationError."""
        records = self._of(kind)
        record = _MODELS[kind].model_validate_json(content)
        with self._lock:
            if new and record_id in records:
                raise OssError(HTTPStatus.CONFLICT, "EntityAlreadyExists", f"{record_id} exists already in {kind}.")
            if isinstance(record, User) and record.name in self._user_names() - {_name(records.get(record_id))}:
                raise OssError(
                    HTTPStatus.CONFLICT, "EntityAlreadyExists.User", f"The user {record.name} already exists."
                )
            self._require_named(record)
            if isinstance(record, NamedPolicy):
                record = _next_version(records.get(record_id), record)
            if isinstance(record, UserKey) and len(self._keys_of(record.user) - {record_id}) == MOST_KEYS:
                raise OssError(
                    HTTPStatus.CONFLICT, "LimitExceeded.User.AccessKey", f"{record.user} has {MOST_KEYS} keys already."
                )
            records[record_id] = record
            self._changed()

    def delete(self, kind: str, record_id: str, *, force: bool = False) -> None:
        """Forgets a record, if it is known; a user who has something only by ``force``. Raises OssError."""
        records = self._of(kind)
        with self._lock:
            record = records.get(record_id)
            if record is None:
                return
            if isinstance(record, User):
                self._strip(record.name, force=force)
            if isinstance(record, NamedPolicy) and any(
                a.policy == record.name for a in self._records.attachments.values()
            ):
                raise OssError(
                    HTTPStatus.CONFLICT, "DeleteConflict.Policy.User", f"{record.name} is attached to a user."
                )
            del records[record_id]
            if kind == "keys":
                self._access_keys.delete(record_id)
            self._changed()

    def _strip(self, user: str, *, force: bool) -> None:
        """Takes keys and policies from a user who is to be deleted."""
        keys = self._keys_of(user)
        attachments = [name for name, attachment in self._records.attachments.items() if attachment.user == user]
        if not force and (keys or attachments):
            what = "AccessKey" if keys else "Policy"
            raise OssError(HTTPStatus.CONFLICT, f"DeleteConflict.User.{what}", f"{user} still has one.")
        for key_id in keys:
            del self._records.keys[key_id]
            self._access_keys.delete(key_id)
        for name in attachments:
            del self._records.attachments[name]

    def _keys_of(self, user: str) -> set[str]:
        return {key_id for key_id, key in self._records.keys.items() if key.user == user}

    def _of(self, kind: str) -> dict[str, _Record]:
        if kind not in _MODELS:
            raise OssError(HTTPStatus.NOT_FOUND, "InvalidApi", f"no kind {kind}, only {', '.join(_MODELS)}")
        found: dict[str, _Record] = getattr(self._records, kind)
        return found

    def _require_named(self, record: _Record) -> None:
        if isinstance(record, Attachment | UserKey) and record.user not in self._user_names():
            raise OssError(HTTPStatus.NOT_FOUND, "EntityNotExist.User", f"There is no user {record.user}.")
        if isinstance(record, Attachment) and record.policy not in {p.name for p in self._records.policies.values()}:
            raise OssError(HTTPStatus.NOT_FOUND, "EntityNotExist.Policy", f"There is no policy {record.policy} here.")

    def _user_names(self) -> set[str]:
        return {user.name for user in self._records.users.values()}

    def _changed(self) -> None:
        if self._file is not None:
            write_private(self._file, self._records.model_dump_json(by_alias=True, indent=1).encode())
        self._derive_keys()

    def _derive_keys(self) -> None:
        for key_id, key in self._records.keys.items():
            self._access_keys.put(key_id, AccessKey(secret=key.secret, policies=self._policies(key.user)))

    def _policies(self, user: str) -> list[Policy]:
        documents = {policy.name: policy.document for policy in self._records.policies.values()}
        attached = [a.policy for a in self._records.attachments.values() if a.user == user]
        # The key of a user who is gone may do nothing.
        return [documents[name] for name in attached if name in documents] if user in self._user_names() else []


def _name(user: _Record | None) -> str | None:
    return user.name if isinstance(user, User) else None


def _next_version(old: _Record | None, new: NamedPolicy) -> NamedPolicy:
    if not isinstance(old, NamedPolicy):
        return new
    versions = old.versions
    if old.document != new.document:
        if len(versions) == MOST_VERSIONS:
            if not new.rotates:
                raise OssError(
                    HTTPStatus.CONFLICT,
                    "LimitExceeded.Policy.Version",
                    f"The number of the policy's version is beyond the limit {MOST_VERSIONS}.",
                )
            # The last one is the default.
            versions = versions[1:]
        versions = [*versions, old.versions[-1] + 1]
    return new.model_copy(update={"versions": versions})
