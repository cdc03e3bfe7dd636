"""``python -m tools.vocabulary``: words of CONTRIBUTING.md's glossary are used, and not the ones that they replace."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
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

OTHERS = {"CHANGELOG.md", "tools/vocabulary.py", "tests/unit/test_vocabulary.py"}
"""Files that name what was renamed."""


def sources() -> list[Path]:
    """Tracked text files that we write."""
    command = ["git", "ls-files"]
    tracked = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()  # noqa: S603
    kinds = {".py", ".md", ".toml", ".yaml", ".yml", ".txt"}
    return [ROOT / name for name in tracked if Path(name).suffix in kinds and name not in OTHERS]


# One expression for all, by groups w0, w1, ...: each file is searched once.
_UNWANTED = re.compile("|".join(f"(?P<w{number}>{expression})" for number, expression in enumerate(INSTEAD)))
_WORDS = list(INSTEAD.values())


def unwanted(text: str) -> list[str]:
    """Line, word and replacement for each unwanted word."""
    # Names, too, and a name's words are separated by underscores.
    lower = text.lower().replace("_", " ")
    found = []
    for match in _UNWANTED.finditer(lower):
        number = next(int(name[1:]) for name, value in match.groupdict().items() if value is not None)
        found.append(f"{lower.count(chr(10), 0, match.start()) + 1}: {match[0]!r}: write {_WORDS[number]}")
    return found


def main() -> int:
    """Returns the exit code: 1 if there are such words."""
    found = [
        f"{path.relative_to(ROOT)}:{one}" for path in sources() for one in unwanted(path.read_text(encoding="utf-8"))
    ]
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
