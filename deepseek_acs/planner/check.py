"""Checks a specification: the findings of all rules, with what works instead."""

import dataclasses
from collections.abc import Iterator

from deepseek_acs.planner.findings import Field, Finding
from deepseek_acs.planner.rules import RULES
from deepseek_acs.planner.rules.rule import OTHER_LAYOUTS
from deepseek_acs.planner.search import longest_context, nearest, other_series, works
from deepseek_acs.planner.spec import ResolvedSpec


def check(spec: ResolvedSpec, *, suggest: bool = True) -> Iterator[Finding]:
    """The findings of all rules; with what works instead if ``suggest``, which takes a search."""
    for rule in RULES:
        for finding in rule(spec):
            if OTHER_LAYOUTS in finding.fix:
                ways = _ways(spec) if suggest else ""
                finding = dataclasses.replace(finding, fix=finding.fix.replace(OTHER_LAYOUTS, ways))
            yield finding


def _ways(spec: ResolvedSpec) -> str:
    """What works instead: other layouts of the series, a shorter context on this one, or another series."""
    layouts = ", or ".join(f"{layout} GPUs" for layout in nearest(spec))
    ways = [f"choose {layouts}"] if layouts else []
    length = longest_context(spec)
    if 0 < length < (spec.engine.max_model_len or 0) and works(spec.with_length(length)):
        ways.append(f"set {Field.MAX_MODEL_LEN} to {length}")
    if not ways:
        series = ", or ".join(f"series {name}: {layout} GPUs" for name, layout in other_series(spec))
        ways = [f"choose {series}"] if series else []
    return ", or ".join(ways) or "no series of the catalogue works with these settings"
