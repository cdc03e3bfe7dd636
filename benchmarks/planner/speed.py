"""Times of the planner in milliseconds: ``python -m benchmarks.planner.speed``."""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable

RUNS = 15

IMPORT = """
import time, {first}
start = time.perf_counter()
import deepseek_acs.planner.resolve
print(time.perf_counter() - start)
"""

FIRST_PLAN = """
import time
from deepseek_acs.planner.__main__ import parser, specification
from deepseek_acs.planner.check import check
from deepseek_acs.planner.summary import summary
arguments = parser().parse_args(["check", "deepseek-ai/DeepSeek-R1", "--series=GU8TF", "--max-model-len=2048"])
start = time.perf_counter()
spec = specification(arguments, "GU8TF"); list(check(spec)); summary(spec); print(time.perf_counter() - start)
"""


def main() -> None:
    """Medians and maxima of several runs, each in a process of its own where something is done only once."""
    show("import, in the program (after pulumi and pydantic)", fresh(IMPORT.format(first="pulumi, pydantic")))
    show("import, alone", fresh(IMPORT.format(first="sys")))
    show("first plan and summary of a process", fresh(FIRST_PLAN))

    from deepseek_acs.planner.__main__ import parser, specification
    from deepseek_acs.planner.check import check

    def plan(series: str, *, works: bool) -> None:
        words = ["check", "deepseek-ai/DeepSeek-R1", f"--series={series}", "--max-model-len=8192"]
        found = check(specification(parser().parse_args(words), series))
        if works is any(finding.severity == "error" for finding in found):
            raise AssertionError(series)

    show("a plan whose layout is searched", timed(lambda: plan("GU8TF", works=True)))
    show("a plan that fails and suggests other series", timed(lambda: plan("T4", works=False)))


def fresh(code: str) -> list[float]:
    """Seconds that ``code`` prints, run after run."""
    command = [sys.executable, "-c", code]
    runs = (subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(RUNS))
    return [float(run.stdout) for run in runs]


def timed(work: Callable[[], None]) -> list[float]:
    """Seconds of ``work``, run after run."""
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return times


def show(what: str, seconds: list[float]) -> None:
    """One line: median and maximum."""
    print(f"{what:<52} {statistics.median(seconds) * 1e3:6.1f} ms  (max {max(seconds) * 1e3:.1f})")


if __name__ == "__main__":
    main()
