"""From choices to consequences: what follows from model, GPUs and layout, and what is wrong with them.

Plain values in, plain values out; the stack's settings are checked for shape before, and nothing is created after
a finding.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from planner.cache import CachePlan
from planner.case import Case, Choices, Layout, load_model
from planner.catalogue import gpu_series
from planner.findings import Finding, PlanError
from planner.loading import LoadBudget
from planner.memory import Memory
from planner.rules import RULES
from planner.rules.rule import Rule
from planner.search import cheapest, longest_context, nearest, other_series, with_length, works

__all__ = ["Choices", "Layout", "Plan", "PlanError", "make_plan"]

DEFAULT_CARDS = 8


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What follows from the choices: everything that was left open, and the estimate.

    Sizes per pod in GiB; ``memory`` is None where it cannot be predicted, ``cache`` where the pods read the bucket
    directly; ``warnings`` do not stop a deployment.
    """

    weights_gib: float
    layout: Layout
    max_model_len: int | None
    cpu: int
    memory_gib: float
    shared_memory_gib: float
    budget: LoadBudget
    memory: Memory | None
    warnings: tuple[str, ...]
    case: Case
    cache: CachePlan | None = None

    @property
    def group_size(self) -> int:
        """Pods of one replica."""
        return self.layout.pods

    def summary(self) -> str:
        """One screen of text: the layout, memory of the tightest GPU, tokens, requests and times."""
        return "\n".join(f"{label:<10}{text}" for label, text in self.facts.items())

    @cached_property
    def facts(self) -> Mapping[str, str]:
        """The lines of the summary by what they are about."""
        from planner.summary import lines

        return lines(self)


def make_plan(choices: Choices) -> Plan:
    """The plan for ``choices``; raises PlanError with all findings at once."""
    return plan_case(resolve(choices))


def plan_case(case: Case) -> Plan:
    """The plan for a case; raises PlanError likewise."""
    findings = check(case, severity="error")
    weights_gib, budget = case.weights_gib, case.budget
    if findings or weights_gib is None or budget is None:
        raise PlanError(findings)
    warnings = [f"{f.path}: {f.problem}; {f.fix}" for f in check(case, severity="warning")]
    return Plan(
        weights_gib=weights_gib,
        layout=case.layout,
        max_model_len=case.max_model_len,
        cpu=case.cpu,
        memory_gib=case.memory_gib,
        shared_memory_gib=case.shared_memory_gib,
        budget=budget,
        memory=case.memory,
        warnings=tuple(warnings),
        case=case,
    )


def resolve(choices: Choices) -> Case:
    """The case of ``choices``: the model looked up, and what is open of the layout filled in.

    Where nothing works, the layout is the smallest that agrees with what was given, so that the rules can say why.
    """
    model, config_error = load_model(choices)
    series = gpu_series().get(choices.series)
    cards = choices.cards or (max(series.cards) if series else DEFAULT_CARDS)
    tensor = choices.tensor or max(1, cards // (choices.pipeline or 1))
    case = Case(
        choices=choices, layout=Layout(cards, tensor, choices.pipeline or 1), model=model, config_error=config_error
    )
    if None in (choices.cards, choices.tensor, choices.pipeline) and (found := cheapest(case)):
        return case.with_layout(found)
    return case


def check(case: Case, *, severity: str, suggest: bool = True) -> list[Finding]:
    """The findings of all rules of this severity, with what works instead if ``suggest``, which takes a search."""
    found = []
    for rule in RULES:
        if rule.severity == severity and (values := rule.check(case)) is not None:
            found.append(
                _finding(rule, {**values, "layouts": _layouts(case) if suggest and "{layouts}" in rule.fix else ""})
            )
    return found


def _finding(rule: Rule, values: dict[str, object]) -> Finding:
    return Finding(path=rule.path, problem=rule.problem.format_map(values), fix=rule.fix.format_map(values))


def _layouts(case: Case) -> str:
    """What works instead: other layouts of the series, a shorter context on this one, or another series."""
    layouts = ", or ".join(f"{layout} cards" for layout in nearest(case))
    ways = [f"choose {layouts}"] if layouts else []
    length = longest_context(case)
    if 0 < length < (case.max_model_len or 0) and works(with_length(case, length)):
        ways.append(f"set deployment.inference.engine.maxModelLen to {length}")
    if not ways:
        series = ", or ".join(f"series {name}: {layout} cards" for name, layout in other_series(case))
        ways = [f"choose {series}"] if series else []
    return ", or ".join(ways) or "no series of the catalogue works with these settings"
