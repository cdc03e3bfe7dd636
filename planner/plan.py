"""From choices to consequences: what follows from model, GPUs and layout, and what is wrong with them.

Plain values in, plain values out; the stack's settings are checked for shape before, and nothing is created after
a finding.
"""

import difflib
from dataclasses import dataclass

from planner.catalogue import gpu_series, models
from planner.findings import Finding
from planner.loading import LoadBudget, load_budget


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What the user chose, as far as it has consequences; sizes in GiB, throughput in MiB/s per pod."""

    model: str
    weights_gib: float | None
    series: str
    cards: int
    tensor: int
    pipeline: int
    throughput_mib_s: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What follows from the choices. ``group_size`` is pods per group, ``warnings`` do not stop a deployment."""

    weights_gib: float
    group_size: int
    budget: LoadBudget
    warnings: tuple[str, ...]


class PlanError(Exception):
    """The choices cannot work; ``findings`` says all of why."""

    def __init__(self, findings: list[Finding]) -> None:
        super().__init__("; ".join(f"{f.path}: {f.problem}" for f in findings))
        self.findings = findings


def make_plan(choices: Choices) -> Plan:
    """The plan for ``choices``; raises PlanError with all findings at once."""
    weights_gib = choices.weights_gib or _catalogue_weights_gib(choices.model)
    findings = [*_model_findings(choices, weights_gib), *_gpu_findings(choices), *_layout_findings(choices)]
    if findings or weights_gib is None:
        raise PlanError(findings)
    return Plan(
        weights_gib=weights_gib,
        group_size=choices.tensor * choices.pipeline // choices.cards,
        budget=load_budget(weights_gib=weights_gib, throughput_mib_s=choices.throughput_mib_s),
        warnings=tuple(_warnings(choices)),
    )


def _catalogue_weights_gib(name: str) -> float | None:
    model = models().get(name)
    return model.weights_gib if model else None


def _model_findings(choices: Choices, weights_gib: float | None) -> list[Finding]:
    if weights_gib is not None:
        return []
    near = difflib.get_close_matches(choices.model, models(), n=1)
    meant = f"did you mean {near[0]}? Otherwise set" if near else "set"
    return [
        Finding(
            path="deployment.model.name",
            problem=f"{choices.model} is not in planner/models.toml, so its size is unknown",
            fix=f"{meant} deployment.model.weightsGiB to the size of its safetensors files in GiB",
        )
    ]


def _gpu_findings(choices: Choices) -> list[Finding]:
    series = gpu_series().get(choices.series)
    if series is None or choices.cards in series.cards:
        return []
    legal = ", ".join(map(str, series.cards))
    return [
        Finding(
            path="deployment.inference.gpu.cards",
            problem=f"ACS has no pod with {choices.cards} cards of series {choices.series} and would reject it",
            fix=f"write one of {legal}",
        )
    ]


def _layout_findings(choices: Choices) -> list[Finding]:
    gpus = choices.tensor * choices.pipeline
    if gpus % choices.cards == 0:
        return []
    below, above = gpus // choices.cards, gpus // choices.cards + 1
    counts = " or ".join(f"{n * choices.cards} ({n} pods)" for n in (below, above) if n)
    return [
        Finding(
            path="deployment.inference.parallelism",
            problem=(
                f"tensor {choices.tensor} × pipeline {choices.pipeline} = {gpus} GPUs do not fill whole pods of "
                f"{choices.cards} cards"
            ),
            fix=f"choose tensor × pipeline = {counts}, or change deployment.inference.gpu.cards",
        )
    ]


def _warnings(choices: Choices) -> list[str]:
    warnings = []
    if choices.series not in gpu_series():
        warnings.append(
            f"deployment.inference.gpu.series: {choices.series} is not in planner/gpus.toml; it is passed to ACS "
            "unchecked"
        )
    if choices.tensor > choices.cards:
        warnings.append(
            f"deployment.inference.parallelism.tensor: {choices.tensor} is more than the {choices.cards} cards of a "
            "pod, so each layer waits for the network; prefer pipeline parallelism between pods"
        )
    return warnings
