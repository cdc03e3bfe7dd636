"""What a rule is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from planner.case import Case

VLLM = "https://github.com/vllm-project/vllm/blob/v0.33.0/vllm"
VLLM_07 = "https://github.com/vllm-project/vllm/blob/v0.7.2/vllm"
ACS_PODS = "https://www.alibabacloud.com/help/en/cs/user-guide/acs-pod-instance-overview"

PARALLELISM = "deployment.inference.parallelism"

Values = Mapping[str, object]
Check = Callable[[Case], Values | None]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule. ``check`` gives the values of ``problem`` and ``fix`` where a case breaks it, otherwise None."""

    id: str
    statement: str
    source: str
    path: str
    problem: str
    fix: str
    check: Check
    severity: Literal["error", "warning"] = "error"
    mended_by_layout: bool = False
    """Whether another layout could keep it."""
