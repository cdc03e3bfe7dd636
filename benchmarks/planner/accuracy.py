"""The planner against published start-up logs: ``python -m benchmarks.planner.accuracy``."""

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.planner.reported import Log, logs
from planner.memory import GIB, Band


def main() -> None:
    """One line per log: weights, memory left for the cache, tokens."""
    table = Table(box=box.SIMPLE_HEAD, title="Planner ÷ log", title_justify="left")
    for name in ("log", "weights", "error", "cache", "band", "tokens", "error "):
        table.add_column(name, justify="left" if name == "log" else "right", no_wrap=True)
    for name, log in logs().items():
        table.add_row(name, *weights(log), *cache(log), *tokens(log))
    Console(width=110).print(table)


def weights(log: Log) -> tuple[str, str]:
    """What the log says in GiB, and the planner's error."""
    predicted = log.estimate().stages[0].weights_gib
    return (f"{log.weights:.2f}", f"{predicted / log.weights - 1:+.2%}") if log.weights else ("", "")


def cache(log: Log) -> tuple[str, str]:
    """What the log says in GiB, and the planner's band; ``refused`` where the engine did not start."""
    band: Band = log.estimate().stages[-1].cache
    said = "refused" if log.refused else f"{log.cache:.2f}" if log.cache else ""
    return said, f"{band.low:.1f} {band.nominal:.1f} {band.high:.1f}"


def tokens(log: Log) -> tuple[str, str]:
    """What the log says, and the error of the tokens that follow from its memory."""
    if not log.tokens or not log.cache:
        return "", ""
    return f"{log.tokens:,}", f"{log.estimate().stages[-1].pool.logged_tokens(log.cache * GIB) / log.tokens - 1:+.3%}"


if __name__ == "__main__":
    main()
