"""docs/acs.md says where each rule of ACS is kept and proven: this holds it to that."""

import re
from pathlib import Path

import pytest

from planner.rules import RULES
from tests.unit.conftest import ROOT

TEXT = (ROOT / "docs" / "acs.md").read_text(encoding="utf-8")
LINKS = dict(re.findall(r"^\[([\w-]+)\]: (https://\S+)$", TEXT, re.MULTILINE))
KEPT, UNCHECKED = (
    [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")][1:]
    for section in TEXT.split("\n## ")[1:]
)

CATALOGUES = ("planner/acs_rules.py", "planner/acs.toml", "planner/pods.toml", "components/acs_pods.py")
"""Where rules of ACS are, and nothing else."""


def named(cell: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = re.findall(r"`([\w/.]+): ([\w-]+)`", cell)
    assert len(found) == cell.count("`") // 2 > 0, cell
    return found


def has(path: Path, name: str) -> bool:
    return path.is_file() and re.search(rf"(?<![\w-]){name}(?![\w-])", path.read_text(encoding="utf-8")) is not None


@pytest.mark.parametrize("row", KEPT, ids=lambda row: row[0][:40])
def test_place_and_proof_of_a_rule_exist(row: list[str]) -> None:
    _, kept, proven, _ = row
    assert not [place for place in named(kept) if not has(ROOT / place[0], place[1])]
    assert not [proof for proof in named(proven) if not has(ROOT / "tests" / proof[0], f"def {proof[1]}")]


def test_every_row_has_a_source() -> None:
    for row in (*KEPT, *UNCHECKED):
        sources = re.findall(r"\[([\w-]+)\]", row[-1])
        assert sources, row
        assert set(sources) <= LINKS.keys(), row
    assert set(re.findall(r"\[([\w-]+)\](?!:)", TEXT)) >= LINKS.keys(), "links that no row uses"


def test_every_rule_of_acs_has_a_row() -> None:
    places = {place for row in KEPT for place in named(row[1])}
    of_acs = [rule for rule in RULES if re.search(r"aliyun|alibabacloud", rule.source)]
    rules = {(f"{rule.check.__module__.replace('.', '/')}.py", rule.id) for rule in of_acs}
    constants = {
        (path, name)
        for path in CATALOGUES
        if path.endswith(".py")
        for line in re.findall(r"^([A-Z][A-Z_, ]*) = ", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)
        for name in line.split(", ")
    }
    assert rules | constants <= places


def test_every_source_of_the_catalogues_is_here() -> None:
    texts = [(ROOT / path).read_text(encoding="utf-8") for path in CATALOGUES]
    found = {url for text in texts for url in re.findall(r"https://[^\s)\"]+", text)}
    assert found <= set(LINKS.values())
