"""What make installs: pinned versions with the hashes of their files."""

import json
import re

import pytest

from tests.unit.conftest import ROOT
from tools.secret_scan import unknown

LOCKS = {
    "requirements.lock": ["requirements.txt", "local/requirements.txt", "deepseek_acs/verifier/requirements.txt"],
    "requirements-dev.lock": ["requirements-dev.txt", "requirements.txt", "deepseek_acs/planner/requirements.txt"],
    "policy/requirements.lock": ["policy/requirements.txt"],
    "tools/audit/requirements.lock": ["tools/audit/requirements.txt"],
    "local/engine/requirements.lock": ["local/engine/requirements.txt"],
    **{
        f"tests/data/engine_servers/{version}.lock": [f"tests/data/engine_servers/{version}.txt"]
        for version in ("0.7.2", "0.11.0", "0.33.0")
    },
}
PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[a-z,]+\])?==([^\s;]+)", re.MULTILINE)
HASH = "--hash=sha256:"


def pins(path: str) -> dict[str, str]:
    """Versions by the names of their packages, as the index spells them."""
    text = (ROOT / path).read_text(encoding="utf-8")
    return {re.sub("[-_.]+", "-", name).lower(): version for name, version in PIN.findall(text)}


@pytest.mark.parametrize("lock", LOCKS)
def test_every_package_has_hashes(lock: str) -> None:
    entries = re.split(r"\n(?=\S)", (ROOT / lock).read_text(encoding="utf-8").strip())
    assert len(entries) == len(pins(lock)) > 5
    assert [entry for entry in entries if HASH not in entry] == []


@pytest.mark.parametrize(("lock", "sources"), LOCKS.items())
def test_what_is_asked_for_is_locked(lock: str, sources: list[str]) -> None:
    wanted = {name: version for source in sources for name, version in pins(source).items()}
    assert wanted.items() <= pins(lock).items(), "run make lock"


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_locks_and_constraints_agree(lock: str) -> None:
    constraints, locked = pins("constraints.txt"), pins(lock)
    assert {name: constraints.get(name) for name in locked if name in constraints} == {
        name: version for name, version in locked.items() if name in constraints
    }, "run make lock"


def test_constraints_are_found_from_every_file_that_names_them() -> None:
    for path in [
        *ROOT.glob("*requirements*.txt"),
        *ROOT.glob("*/requirements.txt"),
        *ROOT.glob("*/*/requirements.txt"),
    ]:
        for named in re.findall(r"^-[cr] (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE):
            assert (path.parent / named).is_file(), f"{path.relative_to(ROOT)}: {named}"


def scan(*secrets: str, line: int = 1) -> dict[str, object]:
    found = [{"type": "Secret Keyword", "hashed_secret": secret, "line_number": line} for secret in secrets]
    return {"results": {"a.py": found}}


def test_a_secret_that_moved_is_not_new() -> None:
    assert unknown(scan("x", line=7), scan("x")) == []
    assert unknown(scan("x", "y"), scan("x")) == ["a.py:1: Secret Keyword"]


def test_the_baseline_can_be_read() -> None:
    baseline = json.loads((ROOT / ".secrets.baseline").read_text(encoding="utf-8"))
    assert unknown(baseline, baseline) == []
    assert unknown(baseline, {"results": {}})
