"""OSS signature version 4, in the Authorization header
(https://help.aliyun.com/en/oss/developer-reference/recommend-to-use-signature-version-4).
"""

import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from urllib.parse import quote

ALGORITHM = "OSS4-HMAC-SHA256"
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
"""The body is not signed: it is checked by its CRC-64, and TLS guards it on its way."""

TIME_FORMAT = "%Y%m%dT%H%M%SZ"


def canonical_query(query: Mapping[str, str]) -> str:
    """The query sorted and encoded; a parameter without value has no ``=``."""
    return "&".join(
        f"{quote(name, safe='')}={quote(value, safe='')}" if value else quote(name, safe="")
        for name, value in sorted(query.items())
    )


def canonical_request(
    method: str,
    path: str,
    query: Mapping[str, str],
    headers: Mapping[str, str],
    additional_headers: tuple[str, ...] = (),
) -> str:
    """``path`` is ``/bucket/key``, not encoded; ``headers`` have names in lower case."""
    signed = {
        name: value.strip()
        for name, value in headers.items()
        if name in ("content-type", "content-md5", *additional_headers) or name.startswith("x-oss-")
    }
    return "\n".join(
        [
            method,
            quote(path, safe="/"),
            canonical_query(query),
            "".join(f"{name}:{value}\n" for name, value in sorted(signed.items())),
            ";".join(sorted(additional_headers)),
            headers.get("x-oss-content-sha256", UNSIGNED_PAYLOAD),
        ]
    )


def scope(when: datetime, region: str) -> str:
    """The day, region and product for which a signing key is good."""
    return f"{when:%Y%m%d}/{region}/oss/aliyun_v4_request"


def signature(secret: str, request: str, when: datetime, region: str) -> str:
    """The signature, hexadecimal, of the canonical ``request`` at ``when`` (UTC)."""
    key = f"aliyun_v4{secret}".encode()
    for part in scope(when, region).split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    digest = hashlib.sha256(request.encode()).hexdigest()
    text = "\n".join([ALGORITHM, when.strftime(TIME_FORMAT), scope(when, region), digest])
    return hmac.digest(key, text.encode(), "sha256").hex()
