"""Secrets in readable places, recognised by the name of a variable and by the form of a value.

The stack file, Pulumi's state and the pods show all settings in plain text. A name is checked by its words and a value
by its form, never by its randomness: digests and IDs are random as well."""

import re
from collections.abc import Iterator, Mapping

from deepseek_acs.planner.findings import Finding

_SECRET_WORD = re.compile(
    r"[A-Z0-9]*(TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|KEY|CREDENTIALS?)|PAT|PWD|PASS|AUTHORIZATION"
)
_NO_SECRET_WORD = frozenset({"PKEY"})
"""A partition key of InfiniBand (``NCCL_IB_PKEY``) is not a secret."""

_NO_SECRET = frozenset({"PWD", "OLDPWD"})
"""The shell's working directories."""

FORMS: Mapping[str, re.Pattern[str]] = {
    "an AccessKey ID of Alibaba Cloud": re.compile(r"\bLTAI[A-Za-z0-9]{12,30}\b"),
    "an STS token of Alibaba Cloud": re.compile(r"\bSTS\.[A-Za-z0-9]{16,}\b"),
    "an access key ID of AWS": re.compile(r"\b(AKIA|ASIA)[A-Z0-9]{16}\b"),
    "a token of Hugging Face": re.compile(r"\bhf_[A-Za-z0-9]{30,}\b"),
    "a token of ModelScope": re.compile(r"\bms-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"),
    "an API key": re.compile(r"\bsk-[A-Za-z0-9_-]{20,}"),
    "a token of GitHub": re.compile(r"\b(gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,})"),
    "a token of GitLab": re.compile(r"\bglpat-[A-Za-z0-9_-]{20,}"),
    "a token of Slack": re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{10,}"),
    "a JSON Web Token": re.compile(r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]+"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "the value of a header Authorization": re.compile(r"\b([Bb]earer|[Bb]asic) +[A-Za-z0-9._~+/-]{16,}"),
    "a password in a URL": re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s/?#@:]*:[^\s/?#@]+@|://[^\s/?#@:]{16,}@"),
}
"""Forms that their issuers document (https://docs.gitguardian.com/secrets-detection/secrets-detection-engine/detectors/
supported_credentials), and the user information of a URL."""


def names_a_secret(variable: str) -> bool:
    """Whether the name of an environment variable suggests that it holds a secret."""
    name = variable.upper()
    words = set(re.split("[_.-]", name)) - _NO_SECRET_WORD
    return name not in _NO_SECRET and any(_SECRET_WORD.fullmatch(word) for word in words)


def secret_in(text: str) -> str | None:
    """What a part of ``text`` looks like, if it looks like a secret."""
    return next((kind for kind, form in FORMS.items() if form.search(text)), None)


def misplaced_secrets(value: object, path: str) -> Iterator[Finding]:
    """Findings about all strings below ``value``, the raw settings at ``path``. They never quote a string."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if kind := secret_in(str(key)):
                yield _finding(path, f"a name in it looks like {kind}")
            else:
                yield from misplaced_secrets(item, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from misplaced_secrets(item, f"{path}[{index}]")
    elif isinstance(value, str) and (kind := secret_in(value)):
        yield _finding(path, f"it looks like {kind}")


def _finding(path: str, what: str) -> Finding:
    return Finding(
        path=path,
        problem=f"{what}, and it is readable in the stack file, the state and the pods",
        fix="remove it, and revoke it if the file was shared; secrets have their own configuration keys "
        "(docs/configuration.md), and inference.engine.secretEnv sets variables of the engine from a Secret",
    )
