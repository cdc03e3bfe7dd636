"""How the driver calls the policy pack."""

import json
from pathlib import Path

import pytest

from local.policy_pack import pack_options
from local.stack import StackError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout with the pack installed."""
    (tmp_path / "policy" / ".venv").mkdir(parents=True)
    return tmp_path


def levels_of(options: list[str]) -> object:
    assert options[-2] == "--policy-pack-config"
    return json.loads(Path(options[-1]).read_text())


def test_off(root: Path) -> None:
    assert pack_options(root, "off", on_loopback=False) == []


def test_rules_are_as_they_are_for_a_stack_of_the_cloud(root: Path) -> None:
    assert pack_options(root, "on", on_loopback=False) == ["--policy-pack", str(root / "policy")]


def test_rules_advise_for_a_local_stack(root: Path) -> None:
    options = pack_options(root, "on", on_loopback=True)
    assert options[:2] == ["--policy-pack", str(root / "policy")]
    assert levels_of(options) == {"all": "advisory"}


@pytest.mark.parametrize("on_loopback", [True, False])
def test_file_of_a_company(root: Path, *, on_loopback: bool) -> None:
    given = {"disallow-mutable-tags": {"enforcementLevel": "mandatory", "requireDigest": True}}
    file = root / "levels.json"
    file.write_text(json.dumps(given))
    advised = {"all": "advisory"} if on_loopback else {}
    assert levels_of(pack_options(root, str(file), on_loopback=on_loopback)) == {**advised, **given}
    assert json.loads(file.read_text()) == given


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "the file cannot be read (No such file or directory)"),
        ("{", "the file is not JSON"),
        ("[]", "the file has no rules by name"),
    ],
)
@pytest.mark.parametrize("on_loopback", [True, False])
def test_file_that_cannot_be_used(root: Path, content: str | None, problem: str, *, on_loopback: bool) -> None:
    file = root / "levels.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(StackError) as caught:
        pack_options(root, str(file), on_loopback=on_loopback)
    assert problem in str(caught.value)
    assert "POLICY=off" in str(caught.value)


def test_a_pack_that_is_not_installed(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="the policy pack is not installed: use make up"):
        pack_options(tmp_path, "on", on_loopback=True)
