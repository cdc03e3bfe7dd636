"""The table of vulnerabilities: its comparison with the records of a database, and what the stack files have of it."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from components.stack_config import checked
from deepseek_acs.planner.rules.advisories import TABLE
from tests.unit.conftest import resolved
from tools.advisories import differences, main, records


def record(
    name: str = "GHSA-94f4-hr76-p5j6",
    *,
    package: str = "vllm",
    introduced: str = "0.3.0",
    fixed: str | None = "0.22.0",
    **changes: Any,
) -> dict[str, Any]:
    """As GitHub's database has that of the bent Host."""
    events = [{"introduced": introduced}, *([{"fixed": fixed}] if fixed else [])]
    return {
        "id": name,
        "aliases": ["CVE-2026-48746"] if name == "GHSA-94f4-hr76-p5j6" else [],
        "summary": "vLLM: OpenAI auth bypass",
        "published": "2026-06-16T14:00:00Z",
        "affected": [
            {
                "package": {"ecosystem": "PyPI", "name": package},
                "ranges": [{"type": "ECOSYSTEM", "events": events}],
            }
        ],
        **changes,
    }


def said(folder: Path, *found: dict[str, Any]) -> list[str]:
    for number, data in enumerate(found):
        (folder / f"{number}.json").write_text(json.dumps(data))
    return list(differences(records(folder)))


def test_what_agrees_is_not_said(tmp_path: Path) -> None:
    assert said(tmp_path, record(), record("GHSA-xxxx-xxxx-xxxx", package="numpy")) == []


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (record(fixed="0.22.1"), "CVE-2026-48746: fixed is (0, 22, 0) here and (0, 22, 1) there"),
        (record(fixed=None), "CVE-2026-48746: fixed is (0, 22, 0) here and None there"),
        (record(introduced="0"), "CVE-2026-48746: introduced is (0, 3, 0) here and () there"),
        (record(published="2026-06-17T00:00:00Z"), "published is 2026-06-16 here and 2026-06-17 there"),
        (record("GHSA-xxxx-xxxx-xxxx"), "GHSA-xxxx-xxxx-xxxx is missing: vllm, vLLM: OpenAI auth bypass"),
        (record("GHSA-wpww-v874-ph2p"), "CVE-2026-100647 has a record now: take it over"),
    ],
)
def test_what_differs(tmp_path: Path, found: dict[str, Any], text: str) -> None:
    (line,) = said(tmp_path, found)
    assert text in line


@pytest.mark.parametrize(
    "found",
    [
        record("GHSA-xxxx-xxxx-xxxx", fixed="0.7.2"),
        record("GHSA-xxxx-xxxx-xxxx", withdrawn="2026-06-17T00:00:00Z"),
        record("GHSA-xxxx-xxxx-xxxx", aliases=["CVE-2026-34753"]),
        record("GHSA-98f3-hwg4-4rf7", introduced="0", fixed=None, aliases=["CVE-2026-9540"]),
    ],
)
def test_what_needs_no_row_or_has_another_on_purpose(tmp_path: Path, found: dict[str, Any]) -> None:
    assert said(tmp_path, found) == []


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["advisories", str(tmp_path)])
    assert main() == 0
    assert capsys.readouterr().out == "the table is what the records say\n"
    said(tmp_path, record(fixed="0.23.0"))
    assert main() == 1


def named(stack: str) -> set[str]:
    """The vulnerabilities that the preview of a stack file names."""
    findings = [finding for finding in checked(resolved({}, stack=stack)) if finding.source == TABLE]
    assert {finding.severity for finding in findings} <= {"warning"}
    return set(re.findall(r"((?:CVE|GHSA)-[0-9a-z-]+)\?? \(", " ".join(map(str, findings))))


def test_preview_of_dev_names_what_it_has_and_nothing_else() -> None:
    """No key, so nothing about it; one pod per layer, no cache of prefixes, no pickles, no KV transfer, texts only."""
    assert named("dev") == {
        "CVE-2026-34756",
        "CVE-2025-48956",
        "CVE-2025-62426",
        "CVE-2025-61620",
        "CVE-2025-29770",
        "GHSA-hf3c-wxg2-49q9",
        "CVE-2026-55574",
        "CVE-2025-34351",
    }


def test_preview_of_prod_names_none() -> None:
    assert named("prod") == named("local-prod") == set()
