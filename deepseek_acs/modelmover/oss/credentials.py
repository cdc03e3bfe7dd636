"""Who the mover is to OSS: an AccessKey, temporary credentials of STS, or a role of the pod (RRSA).

Environment variables are those of ossutil and of Alibaba Cloud's own credentials library.
"""

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode

from ..errors import PermissionDeniedError, TransientError
from ..http import Connections, require_private, retry_after
from ..retry import Backoff

REFRESH_BEFORE = timedelta(minutes=10)
SESSION_SECONDS = 3600

ANSWER_BYTES = 2**20

RRSA_VARIABLES = ("ALIBABA_CLOUD_ROLE_ARN", "ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "ALIBABA_CLOUD_OIDC_TOKEN_FILE")
"""https://www.alibabacloud.com/help/en/ack/serverless-kubernetes/user-guide/use-rrsa-to-authorize-pods-to-access-different-cloud-services"""


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """One AccessKey. Its parts are never printed."""

    key_id: str
    key_secret: str = field(repr=False)
    token: str | None = field(default=None, repr=False)
    expires: datetime | None = None


CredentialsProvider = Callable[[], Credentials]


def secret_of(environ: Mapping[str, str], name: str) -> str | None:
    """The variable ``name`` as it can be sent in a header, without the line's end that files leave behind; None if it
    is not set. Raises PermissionDeniedError, which does not show it."""
    value = environ.get(name, "").strip()
    if not (value.isascii() and value.isprintable() and " " not in value):
        raise PermissionDeniedError(f"{name} holds characters that no such secret has, such as a space or a line's end")
    return value or None


def from_environment(environ: Mapping[str, str], *, sts_endpoint: str, backoff: Backoff) -> CredentialsProvider:
    """Credentials as the environment gives them. Raises PermissionDeniedError if it gives none."""
    key_id, key_secret = secret_of(environ, "OSS_ACCESS_KEY_ID"), secret_of(environ, "OSS_ACCESS_KEY_SECRET")
    if key_id and key_secret:
        given = Credentials(key_id=key_id, key_secret=key_secret, token=secret_of(environ, "OSS_SESSION_TOKEN"))
        return lambda: given
    if all(environ.get(name) for name in RRSA_VARIABLES):
        require_private(sts_endpoint, "the pod's OIDC token")
        role, provider, token_file = (environ[name] for name in RRSA_VARIABLES)
        return RoleCredentials(
            role_arn=role,
            oidc_provider_arn=provider,
            token_file=Path(token_file),
            sts_endpoint=sts_endpoint,
            backoff=backoff,
        )
    raise PermissionDeniedError(
        "there are no credentials for OSS in the environment; set OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET (and "
        f"OSS_SESSION_TOKEN for temporary ones), or for a role {', '.join(RRSA_VARIABLES)}"
    )


@dataclass
class RoleCredentials:
    """Temporary credentials of a RAM role, from STS by the pod's OIDC token, renewed before they end
    (https://www.alibabacloud.com/help/en/ram/developer-reference/api-sts-2015-04-01-assumerolewithoidc)."""

    role_arn: str
    oidc_provider_arn: str
    token_file: Path
    sts_endpoint: str
    backoff: Backoff
    _current: Credentials | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self) -> Credentials:
        with self._lock:
            if self._current is None or _ends_soon(self._current):
                self._current = self.backoff.call(f"assume the role {self.role_arn}", self._assume)
            return self._current

    def _assume(self) -> Credentials:
        try:
            # Read each time: the kubelet renews it.
            token = self.token_file.read_text(encoding="ascii").strip()
        except OSError as error:
            raise PermissionDeniedError(f"the OIDC token {self.token_file} cannot be read: {error.strerror}") from None
        except UnicodeError:
            raise PermissionDeniedError(f"the OIDC token {self.token_file} is not one: it is not ASCII") from None
        form = {
            "Action": "AssumeRoleWithOIDC",
            "Format": "JSON",
            "Version": "2015-04-01",
            "Timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "RoleArn": self.role_arn,
            "OIDCProviderArn": self.oidc_provider_arn,
            "RoleSessionName": "modelmover",
            "DurationSeconds": str(SESSION_SECONDS),
            "OIDCToken": token,
        }
        response = Connections().request(
            "POST",
            self.sts_endpoint,
            headers={"Content-Type": "application/x-www-form-urlencoded"},
            body=urlencode(form).encode(),
        )
        body = response.read(ANSWER_BYTES)
        if response.status >= 500 or response.status == 429:
            raise TransientError(f"STS answered with status {response.status}", wait=retry_after(response))
        try:
            answer = json.loads(body)
            if response.status != 200:
                raise TransientError(f"STS refuses: {answer['Code']}", final=PermissionDeniedError)
            found = answer["Credentials"]
            return Credentials(
                key_id=_sendable(found["AccessKeyId"]),
                key_secret=_sendable(found["AccessKeySecret"]),
                token=_sendable(found["SecurityToken"]),
                expires=_with_zone(datetime.fromisoformat(found["Expiration"])),
            )
        except (ValueError, KeyError, TypeError, RecursionError):
            raise TransientError(f"STS answered with status {response.status} and no credentials") from None


def _sendable(value: str) -> str:
    """Raises ValueError for what cannot be sent in a header."""
    if not (isinstance(value, str) and value.isascii() and value.isprintable()):
        raise ValueError("not a credential")
    return value


def _with_zone(value: datetime) -> datetime:
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def _ends_soon(credentials: Credentials) -> bool:
    return credentials.expires is not None and credentials.expires - datetime.now(UTC) < REFRESH_BEFORE
