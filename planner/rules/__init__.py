"""The rules that a deployment must keep, each a function over the specification. Errors stop it, warnings do not."""

# In the order in which they are reported; memory takes longest to find out.
from planner.rules import model, pods, acs, parallelism, engine, memory, operation, controllers, storage, options  # noqa: F401, I001
from planner.rules.rule import RULES

LAYOUT_RULES = tuple(rule for rule in RULES if rule.mended_by_layout)
"""What another layout could mend."""

__all__ = ["LAYOUT_RULES", "RULES"]
