"""Removes secrets and prompts from lines of logs.

Secrets are known by their value, from the files of the Secrets that the engine's pods have, and by the forms that
their issuers document. vLLM writes prompts as Python's ``repr``, on one line, and only with request logging
(https://github.com/vllm-project/vllm/blob/main/vllm/entrypoints/logger.py)."""

import re
from pathlib import Path

REMOVED = "[removed]"

SHORTEST_SECRET = 6
"""Characters of a value that is removed wherever it is found: a shorter one would be found everywhere."""

SHOWN_CHARACTERS = 1000
"""Of a line."""

PROMPT = re.compile(
    r"""(?ix) (?<![\w.-]) ['"]?
    (prompts? | prompt_token_ids | token_ids | messages | (?:message_)?content | inputs? | input_(?:value|text)
     | outputs? | output_text | reasoning(?:_content)? | text | completion | body | arguments | system | instructions
     | thinking | delta | query | queries | documents)
    ['"]? \s* [:=] \s* (?= b?['"\[{(]) .*"""
)
"""What a request or an answer is called, followed by a quoted text, a list or an object; to the end of the line,
because the end of the text cannot be told from a quote in it."""

BODY = re.compile(r"""\{\s*"(?:model|messages|role|prompt|input|system)"\s*:.*""")
"""A request as JSON, which vLLM writes with ``VLLM_LOGGING_LEVEL=DEBUG``; to the end of the line."""

SECRET_NAME = re.compile(
    r"""(?ix) (?<![\w-]) ([\w-]*
    (?:api[_-]?key | secret | passw(?:or)?d | access[_-]?key(?:[_-]?id)? | (?:hf|auth|access)[_-]?token)
    ['"]? \s* [:=] \s* [\['"]*) [^\s'",\]]+"""
)
SECRET_FORMS = re.compile(
    r"\bLTAI[A-Za-z0-9]{12,}|\bSTS\.[A-Za-z0-9]{16,}|\bA[KS]IA[A-Z0-9]{16}|\bhf_[A-Za-z0-9]{20,}|\bsk-[A-Za-z0-9_-]{16,}"
    r"|\bms-[0-9a-f-]{36}|\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]+"
)
BEARER = re.compile(r"(?i)\b(bearer|basic)(\s+)[\w.~+/=-]{8,}")
CONTROL = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")


class Redaction:
    """``folder`` has the files with secrets, at any depth; None if there are none."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._secrets: list[str] = []
        self.reload()

    def reload(self) -> None:
        """Reads the secrets: a Secret may change under the pod."""
        if self._folder is None:
            return
        found = set(self._secrets)
        for path in self._folder.rglob("*"):
            try:
                found.add(path.read_text(encoding="utf-8").strip())
            except (OSError, ValueError):
                continue
        # The longest first: one may be a part of another.
        self._secrets = sorted((one for one in found if len(one) >= SHORTEST_SECRET), key=len, reverse=True)

    def clean(self, line: str) -> str:
        """The line without secrets, prompts and control characters, cut to a bounded length."""
        for secret in self._secrets:
            line = line.replace(secret, REMOVED)
        # Before the patterns, whose time grows with the square of a word's length.
        line = CONTROL.sub("", line if len(line) <= SHOWN_CHARACTERS else f"{line[:SHOWN_CHARACTERS]} …")
        line = BEARER.sub(rf"\1\2{REMOVED}", SECRET_FORMS.sub(REMOVED, line))
        line = BODY.sub(REMOVED, SECRET_NAME.sub(rf"\1{REMOVED}", line))
        return PROMPT.sub(rf"\1: {REMOVED}", line)
