"""Which URLs may carry a secret. Without pydantic, which the planner's rules do not need."""

import ipaddress
from urllib.parse import urlsplit


def is_loopback(url: str) -> bool:
    """Whether a URL leads to this machine itself."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_unencrypted(url: str) -> bool:
    """Whether others can read what is sent to ``url``, a secret for example."""
    return not url.startswith("https://") and not is_loopback(url)
