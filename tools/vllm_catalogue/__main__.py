"""Writes deepseek_acs/planner/vllm_releases/catalogue.json from the wheels on PyPI: ``python -m tools.vllm_catalogue``.

Each version is read once, into the cache; so an update reads the new ones, and takes some minutes for all.
"""

import datetime
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.vllm_catalogue.extract import facts
from tools.vllm_catalogue.wheels import Wheel, published, unpacked

CATALOGUE = Path(__file__).parents[2] / "deepseek_acs" / "planner" / "vllm_releases" / "catalogue.json"


def spans(by_version: Sequence[Mapping[str, Any]], versions: Sequence[str]) -> dict[str, Any]:
    """From what each version has to when each thing was as it was: ``{name: [[since, until, facts], ...]}``, with an
    open end as null and without facts that are empty."""
    found: dict[str, list[list[Any]]] = {}
    for name in sorted({name for named in by_version for name in named}):
        rows: list[list[Any]] = []
        before: Any = None
        for version, named in zip(versions, by_version, strict=True):
            now = named.get(name)
            if now == before:
                continue
            if before is not None:
                rows[-1][1] = version
            if now is not None:
                rows.append([version, None, now] if now else [version, None])
            before = now
        found[name] = rows
    return found


def newest_of_each(wheels: Sequence[Wheel]) -> dict[str, Wheel]:
    """The last wheel of each version of three numbers: what came after it (0.8.5.post1) is a repair of it."""
    return {".".join(map(str, wheel.version.release[:3])): wheel for wheel in wheels}


def catalogue(wheels: Mapping[str, Wheel]) -> dict[str, Any]:
    """The whole document."""
    found = []
    for version, wheel in wheels.items():
        print(f"vLLM {version}", file=sys.stderr)
        found.append(facts(unpacked(wheel)))
    versions = list(wheels)
    document: dict[str, Any] = {
        "catalogue": {"read": datetime.datetime.now(datetime.UTC).date().isoformat()},
        "versions": {
            version: {"date": wheel.date, **one["requires"]}
            for (version, wheel), one in zip(wheels.items(), found, strict=True)
        },
    }
    for section in found[0]:
        if section != "requires":
            rows = [
                one[section] if isinstance(one[section], dict) else {name: {} for name in one[section]} for one in found
            ]
            document[section] = spans(rows, versions)
    return document


def text(document: Mapping[str, Any]) -> str:
    """The document with one line for each entry, so that a new version is a readable change."""
    sections = []
    for name, entries in document.items():
        lines = (f"  {json.dumps(key)}: {json.dumps(value, separators=(',', ':'))}" for key, value in entries.items())
        sections.append(f'"{name}": {{\n' + ",\n".join(lines) + "\n}")
    return "{\n" + ",\n".join(sections) + "\n}\n"


if __name__ == "__main__":
    CATALOGUE.write_text(text(catalogue(newest_of_each(published()))), encoding="utf-8")
