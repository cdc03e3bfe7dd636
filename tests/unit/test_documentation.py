"""What the documents say of themselves: links lead somewhere, and the runbook covers what it promises."""

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from components.monitoring.alerts import alerts
from components.monitoring.metrics import EngineMetrics, Target
from components.settings.observability import AlertSettings
from planner.loading import load_budget
from tests.unit.conftest import ROOT

DOCUMENTS = [ROOT / "README.md", ROOT / "benchmarks" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
MARKS = ("*Prevented", "*Detected", "*Documented")


def anchors(path: Path) -> set[str]:
    """Of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    text = re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"^\[[^\]]+\]: (\S+)$", text, re.MULTILINE)
    for target in targets:
        if "://" in target:
            continue
        name, _, anchor = unquote(target).partition("#")
        path = (document.parent / name).resolve() if name else document
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), target


def test_runbook_has_all_25_symptoms_each_with_a_mark() -> None:
    symptoms = RUNBOOK.split("## Symptoms")[1].split("## Alerts")[0].split("\n### ")[1:]
    assert [symptom.split(".")[0] for symptom in symptoms] == [str(number) for number in range(1, 26)]
    assert not [symptom for symptom in symptoms if not symptom.split("\n\n")[1].startswith(MARKS)]


def test_runbook_has_every_alert() -> None:
    """The alerts link to it by their names."""
    every = AlertSettings(time_to_first_token_seconds=1, inter_token_seconds=1)
    target = Target(namespace="n", name="g", metrics=EngineMetrics(version=(0, 33, 0)))
    names = {alert.name for alert in alerts(every, target, load_budget(weights_gib=641.3, throughput_mib_s=300))}
    headings = set(RUNBOOK.split("## Alerts")[1].split("## Operations")[0].split("\n### ")[1:])
    assert {heading.split("\n")[0] for heading in headings} == names
