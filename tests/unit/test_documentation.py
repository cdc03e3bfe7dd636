"""What the documents say of themselves: links lead somewhere, and the runbook covers what it promises."""

import math
import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from components.monitoring.alerts import AlertThresholds, alerts
from deepseek_acs.planner.loading import load_budget
from deepseek_acs.planner.metrics import EngineMetrics, Target
from tests.unit.conftest import ROOT, Run
from tools.storage_figures import figures

DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    ROOT / "benchmarks" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").glob("*/README.md")),
]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
MARKS = ("*Prevented", "*Detected", "*Documented")


def anchors(path: Path) -> set[str]:
    """Of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(path: Path) -> str:
    """What stands in code: blocks, and between backticks."""
    text = path.read_text()
    blocks = re.findall(r"```.*?```", text, re.DOTALL)
    return "\n".join([*blocks, *re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))])


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


def test_symptoms_of_the_runbook_are_numbered_and_marked() -> None:
    symptoms = RUNBOOK.split("## Symptoms")[1].split("## Alerts")[0].split("\n### ")[1:]
    assert [symptom.split(".")[0] for symptom in symptoms] == [str(number) for number in range(1, len(symptoms) + 1)]
    assert not [symptom for symptom in symptoms if not symptom.split("\n\n")[1].startswith(MARKS)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_secrets_are_set_for_a_stack(document: Path) -> None:
    """Without its name it is the one that was selected last, or none."""
    assert not re.findall(r"pulumi config set --(?!stack ).*", commands(document))


def test_runbook_names_stack_and_namespace() -> None:
    text = commands(ROOT / "docs" / "runbook.md")
    assert not re.findall(r"make (?:up|preview|verify|destroy|env)(?! STACK=).*", text)
    assert not re.findall(r"pulumi (?:config|stack|up)\b(?= .)(?!.*--stack \$STACK).*", text)
    assert not re.findall(r"kubectl (?!-n \$NS |(?:get|delete) pv ).*", text)


def test_runbook_rotates_the_keys_that_the_program_makes(program: Run) -> None:
    recorder = program(until="components.wiring.storage")
    (key,) = re.findall(r'^KEY="urn:pulumi:\$\{STACK\}::deepseek::(.+)"$', RUNBOOK, re.MULTILINE)
    names = re.findall(r'--replace "\$\{KEY\}::([a-z-]+)"', RUNBOOK)
    assert len(names) == recorder.kinds().count("AccessKey")
    for name in names:
        request = recorder.request("AccessKey", name)
        parent = request.parent.split("::")[2].removeprefix("pulumi:pulumi:Stack$")
        assert key.replace("\\$", "$") == f"{parent}${request.type}"


def test_rights_are_told_for_every_resource_of_the_cloud() -> None:
    code = "".join(path.read_text() for path in (ROOT / "components").rglob("*.py"))
    made = re.findall(r"alicloud\.([a-z]+\.[A-Z]\w+)(?:\.get)?\(", code)
    (table,) = re.findall(
        r"^## Your rights$(.*?)^## ", (ROOT / "docs" / "cloud.md").read_text(), re.MULTILINE | re.DOTALL
    )
    assert set(re.findall(r"`([a-z]+\.[A-Z]\w+)`", table)) == set(made)


def test_runbook_has_every_alert() -> None:
    """The alerts link to it by their names."""
    every = AlertThresholds(
        time_to_first_token_seconds=1, inter_token_seconds=1, least_groups=1, gated_seconds=1, picker="r1-epp"
    )
    target = Target(namespace="n", name="g", metrics=EngineMetrics(version=(0, 33, 0)))
    names = {alert.name for alert in alerts(every, target, load_budget(weights_gib=641.3, throughput_mib_s=300))}
    headings = set(RUNBOOK.split("## Alerts")[1].split("## Operations")[0].split("\n### ")[1:])
    assert {heading.split("\n")[0] for heading in headings} == names


def test_storage_figures_are_the_planners() -> None:
    formulas = re.findall(r"([\d.]+) × 1024 ÷ (\d+) MiB/s = (\d+) min", figures())
    assert len(formulas) == 3
    for weights_gib, throughput, minutes in formulas:
        budget = load_budget(weights_gib=float(weights_gib), throughput_mib_s=int(throughput))
        assert math.ceil(budget.read_seconds / 60) == int(minutes)
