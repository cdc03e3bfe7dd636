"""A rule: a function over the specification, with its statement, its source and its severity."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from deepseek_acs.planner.findings import Field, Finding, Severity
from deepseek_acs.planner.spec import ResolvedSpec

VLLM = "https://github.com/vllm-project/vllm/blob/v0.33.0/vllm"
VLLM_07 = "https://github.com/vllm-project/vllm/blob/v0.7.2/vllm"
ACS_PODS = "https://www.alibabacloud.com/help/en/cs/user-guide/acs-pod-instance-overview"

OTHER_LAYOUTS = "<other layouts>"
"""Placeholder in a fix for layouts, or a shorter context, that satisfy all rules. ``check`` searches for them."""

Problem = tuple[Field, str, str]
"""Field, problem and fix."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule. ``mended_by_layout`` says whether another layout could satisfy it, of this GPU series or another."""

    id: str
    statement: str
    source: str
    severity: Severity
    mended_by_layout: bool
    problems: Callable[[ResolvedSpec], Iterator[Problem]]

    def __call__(self, spec: ResolvedSpec) -> Iterator[Finding]:
        for path, problem, fix in self.problems(spec):
            yield Finding(path=path, problem=problem, fix=fix, severity=self.severity, source=self.source)

    def is_kept(self, spec: ResolvedSpec) -> bool:
        """Whether ``spec`` satisfies the rule."""
        return next(self.problems(spec), None) is None


RULES: list[Rule] = []
"""All rules, in the order in which they are reported; ``planner.rules`` imports the modules that add them."""


def rule(
    source: str, *, severity: Severity = "error", mended_by_layout: bool = False
) -> Callable[[Callable[[ResolvedSpec], Iterator[Problem]]], Rule]:
    """Turns a function into a rule. Its name becomes the rule's name, the first sentence of its docstring the
    statement."""

    def register(function: Callable[[ResolvedSpec], Iterator[Problem]]) -> Rule:
        made = Rule(
            id=function.__name__.replace("_", "-"),
            statement=" ".join((function.__doc__ or "").split()).split(". ")[0].rstrip(".") + ".",
            source=source,
            severity=severity,
            mended_by_layout=mended_by_layout,
            problems=function,
        )
        RULES.append(made)
        return made

    return register


def warning(
    source: str, *, mended_by_layout: bool = False
) -> Callable[[Callable[[ResolvedSpec], Iterator[Problem]]], Rule]:
    """Like ``rule``, for a rule that does not stop a deployment."""
    return rule(source, severity="warning", mended_by_layout=mended_by_layout)
