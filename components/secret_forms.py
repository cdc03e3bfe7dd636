"""What a secret must look like, said before anything is created: what is wrong with one, and never the secret."""

import json
import re

import yaml

API_KEY_MIN = 32
"""Characters; ``openssl rand -hex 32`` gives 64."""

API_KEY_FORM = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""What an HTTP client can send as a bearer token (https://www.rfc-editor.org/rfc/rfc6750#section-2.1)."""


def api_key_problem(key: str) -> str | None:
    """What keeps clients from sending the key, or others from not guessing it, if anything."""
    if not API_KEY_FORM.fullmatch(key):
        return "it has characters that an HTTP client cannot send, white space or the end of a line for example"
    return f"it has fewer than {API_KEY_MIN} characters" if len(key) < API_KEY_MIN else None


def word_problem(value: str) -> str | None:
    """What keeps it from being a key or token as its issuer shows it, if anything."""
    return "it has white space or other characters that no key has" if not re.fullmatch(r"[!-~]+", value) else None


def kubeconfig_problem(text: str) -> str | None:
    """Why no cluster can be reached with it, if none can."""
    try:
        # Some of JSON, tabs for example, is no YAML for this parser.
        config = json.loads(text) if text.lstrip().startswith("{") else yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        return "it is no YAML file"
    clusters = config.get("clusters") if isinstance(config, dict) else None
    return None if clusters else "it is no kubeconfig: it names no clusters"


def header_problem(value: str) -> str | None:
    """What keeps it from being the value of an HTTP header, if anything."""
    if value.isascii() and value.isprintable() and value == value.strip():
        return None
    return "it has characters that no HTTP header can have: a line end, white space around it, or letters beyond ASCII"


def certificate_problem(pem: str) -> str | None:
    """Why this is no certificate in PEM, if it is none."""
    return None if _title(pem) == "CERTIFICATE" else "it is no PEM file that begins with a certificate"


def private_key_problem(pem: str) -> str | None:
    """Why this is no private key in PEM that a proxy can use, if it is none."""
    title = _title(pem)
    if title.endswith("PRIVATE KEY") and "ENCRYPTED" not in title:
        return None
    return "it is no PEM file with a private key that needs no passphrase"


def _title(pem: str) -> str:
    """``CERTIFICATE`` of ``-----BEGIN CERTIFICATE-----``, if that is the first line."""
    found = re.match(r"\s*-----BEGIN ([A-Z0-9 ]+)-----\s*\n", pem)
    return found[1] if found else ""
