"""The effect of every setting: one legal other value each, generated, through the whole program.

Mocks stand for the engine here, and the objects of both runs are compared. ``make effects`` compares the same classes
with what the embedded cluster shows.
"""

import pytest
import yaml

from tests.settings_variants import Effects, effects, settings_of, variants
from tests.unit.conftest import ROOT, Recorder, Run

GOLDEN = ROOT / "tests" / "golden" / "effects.yaml"


def test_every_setting_of_the_schema_has_another_value() -> None:
    found = variants()
    assert [variant.path for variant in found] == [path for path, _ in settings_of()]
    assert not [variant.path for variant in found if variant.before == variant.after]
    assert len(found) > 200


@pytest.mark.program
def test_effects(deploy: Run, kubeconfig: object, request: pytest.FixtureRequest) -> None:
    """``make golden`` rewrites them; read the difference."""
    runs: dict[str, Recorder] = {}
    found = {variant.path: said(effects(variant, deploy, runs)) for variant in variants()}
    if request.config.getoption("--update-golden"):
        GOLDEN.write_text(yaml.safe_dump(found, sort_keys=False, width=120))
    assert found == yaml.safe_load(GOLDEN.read_text()), "read the difference; if it is meant: make golden"


def said(found: Effects) -> str:
    return ", ".join(found.classes) or "nothing"
