"""The package that ``pip wheel .`` makes, as far as can be seen without building it (tests/e2e/test_library.py)."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.unit.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGED = ("components", "deepseek_acs")
"""Folders of which the wheel is made."""

PINS = ("requirements.txt", "deepseek_acs/planner/requirements.txt", "deepseek_acs/verifier/requirements.txt")


def ranges() -> list[Requirement]:
    optional = PROJECT["project"]["optional-dependencies"]
    return [Requirement(text) for group in (PROJECT["project"]["dependencies"], *optional.values()) for text in group]


def pins() -> dict[str, str]:
    lines = "".join((ROOT / file).read_text() for file in PINS)
    return {name.lower(): version for name, version in re.findall(r"^([\w-]+)==([\w.]+)", lines, re.MULTILINE)}


@pytest.mark.parametrize("requirement", ranges(), ids=lambda requirement: requirement.name)
def test_each_range_has_the_pinned_version_and_ends(requirement: Requirement) -> None:
    assert requirement.specifier.contains(pins()[requirement.name.lower()])
    assert {specifier.operator for specifier in requirement.specifier} == {">=", "<"}


def test_what_is_pinned_is_required() -> None:
    assert pins().keys() == {requirement.name.lower() for requirement in ranges()}


def packages() -> Iterator[str]:
    for folder in PACKAGED:
        for marker in (ROOT / folder).rglob("__init__.py"):
            name = ".".join(marker.parent.relative_to(ROOT).parts)
            yield f"deepseek_acs.{name}" if folder == "components" else name


def test_every_package_is_in_the_wheel() -> None:
    assert PROJECT["tool"]["setuptools"]["packages"] == sorted(packages())


def imported(module: Path) -> list[str]:
    """The absolute names that a module imports."""
    return re.findall(r"^\s*(?:from|import) (\w[\w.]*)", module.read_text(), re.MULTILINE)


def test_nothing_packaged_is_imported_by_its_place_in_the_checkout() -> None:
    """``components`` has another name in the wheel, and the other folders are not in it."""
    ours = {path.name for path in ROOT.iterdir() if path.is_dir()} - {"deepseek_acs"}
    modules = [path for folder in PACKAGED for path in (ROOT / folder).rglob("*.py")]
    assert "components" in ours
    assert not [
        f"{path.relative_to(ROOT)}: {name}" for path in modules for name in imported(path) if name.split(".")[0] in ours
    ]
