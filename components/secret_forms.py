"""Checks of the form of secrets before anything is created. Texts name the problem, never the secret."""

import json
import math
import re
from collections import Counter
from datetime import UTC, datetime

import yaml

API_KEY_MIN = 32
"""Characters; ``openssl rand -hex 32`` gives 64."""

API_KEY_MIN_BITS = 60
"""Of the characters' entropy. 32 random hexadecimal digits have 90 to 128; eight letters again and again at most 24."""

API_KEY_FORM = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""What an HTTP client can send as a bearer token (https://www.rfc-editor.org/rfc/rfc6750#section-2.1)."""


def api_key_problem(key: str) -> str | None:
    """Why the API key cannot be sent as a bearer token, or is too easy to guess; None if it is valid."""
    if not API_KEY_FORM.fullmatch(key):
        return "it contains characters that an HTTP client cannot send, for example white space or a line end"
    if len(key) < API_KEY_MIN:
        return f"it has fewer than {API_KEY_MIN} characters"
    return "it is too easy to guess: few characters again and again" if _bits(key) < API_KEY_MIN_BITS else None


def _bits(text: str) -> float:
    """Shannon's entropy of the characters of ``text``, of one repetition if it repeats itself."""
    period = (text + text).find(text, 1)
    counts = Counter(text[:period]).values()
    return -sum(count * math.log2(count / period) for count in counts)


def word_problem(value: str) -> str | None:
    """Why it cannot be a key or token as its issuer shows it; None if it can."""
    return (
        "it contains white space or other characters that a key cannot contain"
        if not re.fullmatch(r"[!-~]+", value)
        else None
    )


def kubeconfig_problem(text: str) -> str | None:
    """Why it is not a usable kubeconfig; None if it is."""
    try:
        # Some JSON, for example with tabs, is not YAML for this parser.
        config = json.loads(text) if text.lstrip().startswith("{") else yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        return "it is not valid YAML"
    clusters = config.get("clusters") if isinstance(config, dict) else None
    return None if clusters else "it is not a kubeconfig: it contains no clusters"


def header_problem(value: str) -> str | None:
    """Why it cannot be the value of an HTTP header; None if it can."""
    if value.isascii() and value.isprintable() and value == value.strip():
        return None
    return (
        "it contains characters that an HTTP header cannot contain: a line end, surrounding white space, or non-ASCII "
        "letters"
    )


# cryptography is imported where a stack has a certificate: importing it takes time in every preview.


def certificate_problem(pem: str) -> str | None:
    """Why a proxy cannot use these PEM certificates, the server's first; None if it can."""
    from cryptography import x509

    try:
        certificates = x509.load_pem_x509_certificates(pem.encode())
    except (ValueError, x509.InvalidVersion):
        return "it is not a certificate in PEM"
    now = datetime.now(UTC)
    for number, certificate in enumerate(certificates, start=1):
        name = f"certificate {number} of {len(certificates)}" if len(certificates) > 1 else "it"
        if certificate.not_valid_after_utc <= now:
            return f"{name} expired at {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
        if certificate.not_valid_before_utc > now:
            return f"{name} is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
    return None


def private_key_problem(pem: str) -> str | None:
    """Why a proxy cannot use this private key in PEM; None if it can."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        load_pem_private_key(pem.encode(), password=None)
    except TypeError:
        return "it is encrypted, and the proxy does not have the passphrase"
    except (ValueError, UnsupportedAlgorithm):
        return "it is not a private key in PEM"
    return None


def pair_problem(certificate: str, key: str) -> str | None:
    """Why a valid key is not that of the first of these valid certificates; None if it is."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    public = x509.load_pem_x509_certificates(certificate.encode())[0].public_key()
    if load_pem_private_key(key.encode(), password=None).public_key() == public:
        return None
    return "it does not belong to the certificate (to the first one, if there is a chain)"
