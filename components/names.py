"""Names of objects that are never changed in place: what they hold is in the name."""

import hashlib
import json

import pulumi


def name_of(kind: str, *content: object) -> str:
    """``kind`` and eight hexadecimal digits that change with ``content``, and with the stack: two stacks may share a
    namespace."""
    text = json.dumps([pulumi.get_stack(), *content])
    return f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
