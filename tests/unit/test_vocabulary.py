"""Words of CONTRIBUTING.md's glossary are used, and not the ones that they replace."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INSTEAD = {
    r"\banew\b|\bmade again\b": "recreated, restarted, again",
    r"\bbegun again\b": "restarted",
    r"\btold to end\b": "sent SIGTERM, terminated",
    r"\btells (a|no|the) version\b": "contains",
    r"\bso many\b": "the number of, up to N",
    r"\bbeside\b": "next to, in addition to",
    r"(?<![\"-])\b(nobody|whoever|somebody|everybody)\b(?![/-])": "no one, any client, another user",
    r"\bstand-?ins?\b": "fake (a plugin), emulator (a server)",
    r"\broads?\b": "variant",
    r"\bjudge[ds]?\b": "evaluate, check",
    r"\b(hangs? on|goes by)\b": "uses, depends on",
    r"(?<!there )\bis no ": "is not a",
    r"\bfor want of\b": "without",
    r"\bhas a say\b": "decides",
    r"\bwalled\b": "restricted",
}
"""Expressions, and what to write instead."""

OTHERS = {"CHANGELOG.md", "tests/unit/test_vocabulary.py"}
"""Files that name what was renamed."""


def sources() -> list[Path]:
    """Tracked text files that we write."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    kinds = {".py", ".md", ".toml", ".yaml", ".yml", ".txt"}
    return [ROOT / name for name in tracked if Path(name).suffix in kinds and name not in OTHERS]


@pytest.mark.parametrize("expression", INSTEAD)
def test_plain_words(expression: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sources()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(expression, line.lower())
    ]
    assert not found, f"write {INSTEAD[expression]} instead:\n" + "\n".join(found)
