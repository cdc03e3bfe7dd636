"""Prices: what is needed to compute a cost."""

from collections.abc import Iterator

from deepseek_acs.planner.findings import Field
from deepseek_acs.planner.rules.rule import Problem, warning
from deepseek_acs.planner.spec import ResolvedSpec


@warning("docs/cost.md")
def priced_tokens(spec: ResolvedSpec) -> Iterator[Problem]:
    """A throughput is set together with the price of a GPU."""
    if spec.prices.tokens_per_second is not None and spec.prices.gpu_hour is None:
        yield (
            Field.TOKENS_PER_SECOND,
            f"the price of a token is not known without the price of a {spec.gpu.series}, and there is no public one",
            f"set {Field.GPU_HOUR}, or remove it",
        )
