"""Compares ``deepseek_acs/planner/advisories.toml`` with a database of advisories, and says what differs.

    python -m tools.advisories FOLDER

FOLDER holds records in the format of OSV (https://ossf.github.io/osv-schema/), at any depth: a checkout of
https://github.com/github/advisory-database, or an export of https://osv.dev. What a record
does not tell stays ours: conditions, reach and effect. Exit code 1 where something differs.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from deepseek_acs.planner.advisories import Advisory, Release, advisories, release

PACKAGES = ("vllm", "torch", "ray")

OLDEST = {"vllm": (0, 7, 2), "torch": (2, 5, 1), "ray": (2, 9)}
"""The oldest versions that matter here: what was fixed before has no row."""

ELSEWHERE = frozenset(
    {
        # Ray Data and Ray's dashboard in a browser.
        *("CVE-2026-41486", "CVE-2026-57516", "CVE-2026-27482", "CVE-2025-62593"),
        # Models of a hub that vLLM loads itself, its batch runner, audio, and other routers than OpenAI's.
        *("CVE-2026-47155", "CVE-2026-34753", "CVE-2026-34760", "CVE-2026-54233", "CVE-2026-55646", "CVE-2026-54236"),
        *("CVE-2026-12491", "CVE-2026-22773"),
        # Functions of torch that vLLM does not call with a client's data.
        "CVE-2025-2999",
    }
)
"""Records about parts that no deployment here has."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a record says of one package."""

    names: frozenset[str]
    package: str
    introduced: Release
    fixed: Release | None
    published: date
    summary: str


def records(folder: Path) -> Iterator[Record]:
    """Those of our packages that are not withdrawn. Raises OSError, ValueError, KeyError."""
    for path in sorted(folder.rglob("*.json")):
        data = json.loads(path.read_text(encoding="utf-8"))
        if data.get("withdrawn"):
            continue
        for affected in data.get("affected", ()):
            package = affected.get("package", {})
            if package.get("ecosystem") == "PyPI" and package.get("name") in PACKAGES:
                for bounds in affected.get("ranges", ()):
                    yield _record(data, package["name"], bounds)


def _record(data: Mapping[str, Any], package: str, bounds: Mapping[str, Any]) -> Record:
    events = {name: value for event in bounds["events"] for name, value in event.items()}
    introduced = events.get("introduced", "0")
    return Record(
        names=frozenset({data["id"], *data.get("aliases", ())}),
        package=package,
        introduced=() if introduced == "0" else release(introduced),
        fixed=release(events["fixed"]) if "fixed" in events else None,
        published=date.fromisoformat(data["published"][:10]),
        summary=data.get("summary", ""),
    )


def differences(found: Iterator[Record]) -> Iterator[str]:
    """Lines that say what of the table is not what the records say, and which records the table has not."""
    table = {name: advisory for advisory in advisories() for name in advisory.names}
    for record in found:
        rows = {table[name].id: table[name] for name in record.names if name in table}
        for row in rows.values():
            yield from _different(row, record)
        is_old = record.fixed is not None and record.fixed <= OLDEST[record.package]
        if not rows and not is_old and not record.names & ELSEWHERE:
            yield f"{min(record.names)} is missing: {record.package}, {record.summary}"


def _different(row: Advisory, record: Record) -> Iterator[str]:
    # A row may be narrower on purpose, and then says why.
    if not row.note:
        for field in ("package", "introduced", "fixed", "published"):
            ours, theirs = getattr(row, field), getattr(record, field)
            if ours != theirs:
                yield f"{row.id}: {field} is {ours} here and {theirs} there"
    elif not row.confirmed:
        yield f"{row.id} has a record now: take it over, and remove confirmed and note"


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.advisories", description=__doc__)
    parser.add_argument("folder", type=Path)
    lines = list(differences(records(parser.parse_args().folder)))
    print("\n".join(lines) or "the table is what the records say")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
