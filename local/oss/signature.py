"""Verification of OSS signature version 4, in the Authorization header or in the query
(https://help.aliyun.com/en/oss/developer-reference/recommend-to-use-signature-version-4,
https://help.aliyun.com/en/oss/developer-reference/add-signatures-to-urls).
"""

import hashlib
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Self
from urllib.parse import parse_qsl, quote, urlsplit

from local.http_service import Request
from local.oss.errors import OssError, denied, invalid_argument

ALGORITHM = "OSS4-HMAC-SHA256"
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
MAX_SKEW = timedelta(minutes=15)
MAX_EXPIRES_SECONDS = 7 * 24 * 3600
"""Of a signed URL (https://www.alibabacloud.com/help/en/oss/user-guide/0002-00000232)."""

_TIME_FORMAT = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, kw_only=True)
class Signature:
    """What a request says of who sends it and when, unverified."""

    access_key_id: str
    security_token: str | None
    date: str
    region: str
    product: str
    """``date``, ``region`` and ``product`` are the scope of the signing key."""
    time: datetime
    expires: int | None
    """Seconds after ``time``; None without a signed URL."""
    additional_headers: tuple[str, ...]
    value: str

    @classmethod
    def of(cls, request: Request) -> Self:
        """Reads it from the request. Raises OssError."""
        if request.query.get("x-oss-signature-version") == ALGORITHM:
            return cls._of_query(request.query)
        header = request.headers.get("Authorization")
        if header is None:
            raise denied("Anonymous access is forbidden for this operation.")
        algorithm, _, rest = header.partition(" ")
        if algorithm != ALGORITHM:
            raise invalid_argument(f"This server knows only signatures of version 4, {ALGORITHM}.")
        fields = dict(field.strip().partition("=")[::2] for field in rest.split(","))
        if request.headers.get("x-oss-content-sha256") != UNSIGNED_PAYLOAD:
            raise invalid_argument(f"x-oss-content-sha256 has to be {UNSIGNED_PAYLOAD}.")
        return cls._from(
            credential=fields.get("Credential", ""),
            token=request.headers.get("x-oss-security-token"),
            time=request.headers.get("x-oss-date") or "",
            expires=None,
            additional_headers=fields.get("AdditionalHeaders", ""),
            value=fields.get("Signature", ""),
        )

    @classmethod
    def _of_query(cls, query: dict[str, str]) -> Self:
        expires = query.get("x-oss-expires", "")
        if not expires.isdecimal() or not 1 <= int(expires) <= MAX_EXPIRES_SECONDS:
            raise invalid_argument(f"x-oss-expires has to be between 1 and {MAX_EXPIRES_SECONDS} seconds.")
        return cls._from(
            credential=query.get("x-oss-credential", ""),
            token=query.get("x-oss-security-token"),
            time=query.get("x-oss-date", ""),
            expires=int(expires),
            additional_headers=query.get("x-oss-additional-headers", ""),
            value=query.get("x-oss-signature", ""),
        )

    @classmethod
    def _from(
        cls, *, credential: str, token: str | None, time: str, expires: int | None, additional_headers: str, value: str
    ) -> Self:
        scope = credential.split("/")
        if len(scope) != 5 or scope[4] != "aliyun_v4_request" or not value:
            raise invalid_argument("Credential or Signature is missing or malformed.")
        try:
            signed_at = datetime.strptime(time, _TIME_FORMAT).replace(tzinfo=UTC)
        except ValueError:
            raise invalid_argument("x-oss-date is missing or malformed.") from None
        return cls(
            access_key_id=scope[0],
            security_token=token,
            date=scope[1],
            region=scope[2],
            product=scope[3],
            time=signed_at,
            expires=expires,
            additional_headers=tuple(filter(None, additional_headers.lower().split(";"))),
            value=value,
        )

    def verify(self, request: Request, *, resource: str, secret: str, region: str, now: datetime) -> None:
        """Whether the owner of ``secret`` has signed this request for this server and this time; ``resource`` is
        ``/bucket/key``, decoded. Raises OssError if not."""
        if self.region != region:
            raise invalid_argument("Invalid signing region in Authorization header.")
        if self.product != "oss":
            raise invalid_argument("Invalid signing product in Authorization header.")
        if self.date != f"{self.time:%Y%m%d}":
            raise invalid_argument("Invalid signing date in Authorization header.")
        if self.time - now > MAX_SKEW or (self.expires is None and now - self.time > MAX_SKEW):
            raise OssError(
                HTTPStatus.FORBIDDEN,
                "RequestTimeTooSkewed",
                "The difference between the request time and the current time is too large.",
            )
        if self.expires is not None and now > self.time + timedelta(seconds=self.expires):
            raise denied("Request has expired.")
        if not hmac.compare_digest(self._expected(request, resource, secret).encode(), self.value.encode()):
            raise OssError(
                HTTPStatus.FORBIDDEN,
                "SignatureDoesNotMatch",
                "The request signature we calculated does not match the signature you provided.",
            )

    def _expected(self, request: Request, resource: str, secret: str) -> str:
        key = b"aliyun_v4" + secret.encode()
        for part in (self.date, self.region, self.product, "aliyun_v4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        lines = [
            ALGORITHM,
            self.time.strftime(_TIME_FORMAT),
            f"{self.date}/{self.region}/{self.product}/aliyun_v4_request",
            hashlib.sha256(self._canonical(request, resource)).hexdigest(),
        ]
        return hmac.digest(key, "\n".join(lines).encode(), "sha256").hex()

    def _canonical(self, request: Request, resource: str) -> bytes:
        headers = sorted(
            (name.lower(), value.strip())
            for name, value in request.headers.items()
            if name.lower().startswith("x-oss-")
            or name.lower() in ("content-type", "content-md5", *self.additional_headers)
        )
        lines = [
            request.method,
            quote(resource, safe="/"),
            _canonical_query(request.target),
            "".join(f"{name}:{value}\n" for name, value in headers),
            ";".join(sorted(self.additional_headers)),
            UNSIGNED_PAYLOAD,
        ]
        # Headers were decoded so; that way they are signed as the bytes that were sent.
        return "\n".join(lines).encode("latin-1")


def _canonical_query(target: str) -> str:
    pairs = sorted(
        (quote(name, safe=""), quote(value, safe=""))
        for name, value in parse_qsl(urlsplit(target).query, keep_blank_values=True)
        if name != "x-oss-signature"
    )
    return "&".join(f"{name}={value}" if value else name for name, value in pairs)
