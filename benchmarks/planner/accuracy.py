"""The planner against start-up logs, published and our own: ``python -m benchmarks.planner.accuracy``."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from statistics import median

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.planner.reported import Log, logs, measured
from deepseek_acs.planner import catalogue
from deepseek_acs.planner.activation import GIB, Band
from deepseek_acs.planner.memory import estimate
from deepseek_acs.planner.vllm import Engine, Serving
from deepseek_acs.planner.vllm_releases.release import Version, newest, text


def main() -> None:
    """One line per log: weights, memory left for the cache, tokens; of our own also its parts."""
    console = Console(width=151)
    table = _table("Published logs", "log", "weights", "error", "cache", "band", "tokens", "error ")
    for name, log in logs().items():
        table.add_row(name, *weights(log), *cache(log), *tokens_of_cache(log))
    console.print(table)
    console.print(*summary_of_published(logs().values()), sep="\n")
    table = _table(
        "Our own logs", "log", "weights", "error", "activation", "band", "graphs", "band ", "tokens", "range", "error "
    )
    for name, log in measured().items():
        stage = log.stage()
        parts = (*part(log.activation, stage.activation), *part(log.graphs, stage.graphs))
        table.add_row(name, *weights(log), *parts, *tokens(log))
    console.print(table)
    console.print(*summary(measured().values()), sep="\n")
    console.print(*summary_of_widths(tuple(widths())), sep="\n")


def _table(title: str, *columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number else "left", no_wrap=True)
    return table


def weights(log: Log) -> tuple[str, str]:
    """What the log says in GiB, and the planner's error."""
    predicted = log.stage().weights_gib
    return (f"{log.weights:.2f}", f"{predicted / log.weights - 1:+.2%}") if log.weights else ("", "")


def cache(log: Log) -> tuple[str, str]:
    """What the log says in GiB, and the planner's band; ``refused`` where the engine did not start."""
    said = "refused" if log.refused else f"{log.cache:.2f}" if log.cache else ""
    return said, band(log.estimate().stages[-1].cache)


def part(said: float | None, predicted: Band) -> tuple[str, str]:
    """What the log says in GiB, and the planner's band."""
    return ("", "") if said is None else (f"{said:.2f}", band(predicted))


def band(found: Band) -> str:
    """Optimistic, most likely and pessimistic value."""
    return f"{found.low:.1f} {found.nominal:.1f} {found.high:.1f}"


def tokens_of_cache(log: Log) -> tuple[str, str]:
    """What the log says, and the error of the tokens that follow from its memory."""
    if not log.tokens or not log.cache:
        return "", ""
    return f"{log.tokens:,}", f"{log.estimate().stages[-1].pool.logged_tokens(log.cache * GIB) / log.tokens - 1:+.3%}"


def tokens(log: Log) -> tuple[str, str, str]:
    """What the log says, the planner's range, and the error of what it finds most likely."""
    if not log.tokens:
        return "", "", ""
    low, nominal, high = log.estimate().tokens
    return f"{log.tokens:,}", f"{low:,}-{high:,}", f"{nominal / log.tokens - 1:+.1%}"


@dataclass(frozen=True, kw_only=True)
class Width:
    """How far the range of tokens reaches for one layout of which more than 10 GiB per GPU are left."""

    version: Version
    eager: bool
    left: float
    gib: float
    share: float
    """Of the tokens that are most likely."""


def widths() -> Iterator[Width]:
    """FP8 MLA at tensor parallel 8, with one and two pipeline stages, on GPUs of 96 and 141 GB."""
    models = (
        "deepseek-ai/DeepSeek-R1",
        "deepseek-ai/DeepSeek-V3.2",
        "moonshotai/Kimi-K2-Instruct",
        "zai-org/GLM-5.2-FP8",
    )
    versions = ((0, 11, 1), (0, 15, 1), (0, 20, 2), newest())
    layouts = product(models, versions, (95.0, 139.8), (1, 2), (False, True))
    for name, version, memory_gib, pipeline, eager in layouts:
        model = catalogue.model(name)
        assert model is not None
        gpu = replace(catalogue.gpus()["H200"], memory_gib=memory_gib)
        serving = Serving(max_model_len=32_768, eager=eager)
        found = estimate(model, gpu, Engine(version=version), serving, tensor=8, pipeline=pipeline)
        (low, nominal, high), cache = found.tokens, found.tightest.cache
        if cache.nominal > 10:
            share = (high - low) / nominal
            yield Width(version=version, eager=eager, left=cache.nominal, gib=cache.high - cache.low, share=share)


def summary_of_widths(found: Sequence[Width]) -> Iterator[str]:
    """By version the widest range, and how much must be left for 15 %."""
    for version, eager in product(sorted({width.version for width in found}), (False, True)):
        alike = [width for width in found if (width.version, width.eager) == (version, eager)]
        wide = [width for width in alike if width.share > 0.15]
        widest = max(width.gib for width in alike)
        yield (
            f"FP8 MLA at tensor 8 on {text(version)}{', eager' if eager else ''}: {widest:.1f} GiB wide at most, "
            f"15 % or less in {len(alike) - len(wide)} of {len(alike)} layouts"
            + "".join(f"; {width.share:.0%} of {width.left:.0f} GiB" for width in wide)
            + "."
        )


def summary_of_published(found: Iterable[Log]) -> tuple[str, str]:
    """The worst error of the weights, and in how many logs the cache lies inside the band."""
    found = tuple(found)
    worst = max(abs(log.stage().weights_gib / log.weights - 1) for log in found if log.weights)
    bands = [(log.cache, log.estimate().stages[-1].cache) for log in found if log.cache]
    inside = sum(predicted.low <= said <= predicted.high for said, predicted in bands)
    return f"Weights: {worst:.2%} at most.", f"Cache: {inside} of {len(bands)} inside the band."


def summary(found: Iterable[Log]) -> tuple[str, str]:
    """The worst error of the weights; of the tokens how many lie inside, and the median error of the most likely."""
    found = tuple(found)
    worst = max(abs(log.stage().weights_gib / log.weights - 1) for log in found if log.weights)
    counted = [(log.tokens, log.estimate().tokens) for log in found if log.tokens]
    inside = sum(low <= said <= high for said, (low, _, high) in counted)
    middle = median(abs(nominal / said - 1) for said, (_, nominal, _) in counted)
    return (
        f"Weights: {worst:.2%} at most.",
        f"Tokens: {inside} of {len(counted)} inside the range; median error of the most likely {middle:.2%}.",
    )


if __name__ == "__main__":
    main()
