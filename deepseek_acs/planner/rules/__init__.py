"""The rules for a deployment, each a function over the specification. Errors stop the deployment, warnings do not."""

# In the order in which they are reported; memory takes longest to compute.
from deepseek_acs.planner.rules import (  # noqa: I001
    model,  # noqa: F401
    pods,  # noqa: F401
    acs,  # noqa: F401
    parallelism,  # noqa: F401
    engine,  # noqa: F401
    arguments,  # noqa: F401
    dangerous,  # noqa: F401
    security,  # noqa: F401
    trust,  # noqa: F401
    memory,  # noqa: F401
    operation,  # noqa: F401
    controllers,  # noqa: F401
    storage,  # noqa: F401
    access,  # noqa: F401
    inference_pool,  # noqa: F401
    advisories,  # noqa: F401
    options,  # noqa: F401
    compile_cache,  # noqa: F401
    prices,  # noqa: F401
    gang,  # noqa: F401
    gate,  # noqa: F401
    update,  # noqa: F401
)
from deepseek_acs.planner.rules.rule import RULES

LAYOUT_RULES = tuple(rule for rule in RULES if rule.mended_by_layout)
"""Rules that another layout could satisfy, of this GPU series or another."""

__all__ = ["LAYOUT_RULES", "RULES"]
