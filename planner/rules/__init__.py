"""The rules that a deployment must keep, each a row with its statement, source, texts and check.

Errors stop a deployment, warnings do not. A text may use ``{layouts}``, the nearest layouts that keep all rules.
"""

from planner.rules.engine import ENGINE_RULES
from planner.rules.memory import MEMORY_RULES
from planner.rules.model import MODEL_RULES
from planner.rules.operation import OPERATION_RULES
from planner.rules.parallelism import PARALLELISM_RULES
from planner.rules.pods import POD_RULES
from planner.rules.rule import Rule

# In the order in which they are said; memory takes longest to find out.
RULES: tuple[Rule, ...] = (
    *MODEL_RULES,
    *POD_RULES,
    *PARALLELISM_RULES,
    *ENGINE_RULES,
    *MEMORY_RULES,
    *OPERATION_RULES,
)

LAYOUT_RULES = tuple(rule for rule in RULES if rule.mended_by_layout)
"""What another layout could mend."""
