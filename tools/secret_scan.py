"""``python -m tools.secret_scan DETECT-SECRETS [--update]``: secrets in the files that git tracks, by detect-secrets.

What was looked at and is none is in ``.secrets.baseline``, by file and hash, as ``detect-secrets scan`` writes it. Line
numbers do not count: the hook that comes with detect-secrets fails when a line above has moved.
"""

import fnmatch
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BASELINE = ROOT / ".secrets.baseline"

LEFT_OUT = ("*.lock", "*go.sum", "*.png", "*.json", "*.toml", "tests/golden/*", BASELINE.name)
"""Hashes of packages and modules, and tables of facts: random texts that are public."""

Found = dict[tuple[str, str, str], int]
"""Lines by file, kind and hash."""


def found_in(document: dict[str, Any]) -> Found:
    """What a scan has found."""
    return {
        (path, secret["type"], secret["hashed_secret"]): secret["line_number"]
        for path, secrets in document["results"].items()
        for secret in secrets
    }


def unknown(scan: dict[str, Any], baseline: dict[str, Any]) -> list[str]:
    """What is not in the baseline, as lines for people."""
    known = found_in(baseline)
    return sorted(f"{key[0]}:{line}: {key[1]}" for key, line in found_in(scan).items() if key not in known)


def main(words: Sequence[str]) -> int:
    """0 if nothing is new, 1 otherwise."""
    program, *options = words
    listing = ["git", "ls-files"]
    tracked = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()  # noqa: S603
    files = [path for path in tracked if not any(fnmatch.fnmatchcase(path, other) for other in LEFT_OUT)]
    done = subprocess.run([program, "scan", *files], cwd=ROOT, check=True, capture_output=True, text=True)  # noqa: S603
    scan = json.loads(done.stdout)
    if options == ["--update"]:
        scan.pop("generated_at")
        BASELINE.write_text(json.dumps(scan, indent=1) + "\n", encoding="utf-8")
        return 0
    new = unknown(scan, json.loads(BASELINE.read_text(encoding="utf-8")))
    for line in new:
        print(line)
    if new:
        print(
            "These look like secrets. Remove them, and revoke them if they were pushed; if they are none: "
            f"make secrets OPTIONS=--update, and commit {BASELINE.name}"
        )
    return 1 if new else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
