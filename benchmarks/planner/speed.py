"""Times of the planner in milliseconds: ``python -m benchmarks.planner.speed``."""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable

RUNS = 15

IMPORT = "import time, {first}; start = time.perf_counter(); import planner.plan; print(time.perf_counter() - start)"

FIRST_PLAN = """
import time
from planner.plan import PlanError, make_plan
from tests.planner.test_rules import GUIDE
start = time.perf_counter(); make_plan(GUIDE).summary(); print(time.perf_counter() - start)
"""


def main() -> None:
    """Medians and maxima of several runs, each in a process of its own where something is done only once."""
    show("import, in the program (after pulumi and pydantic)", fresh(IMPORT.format(first="pulumi, pydantic")))
    show("import, alone", fresh(IMPORT.format(first="sys")))
    show("first plan and summary of a process", fresh(FIRST_PLAN))

    from planner.case import Choices
    from planner.plan import PlanError, make_plan

    def open_layout() -> None:
        make_plan(Choices(model="deepseek-ai/DeepSeek-R1", series="GU8TF", throughput_mib_s=300, max_model_len=8192))

    def failing() -> None:
        try:
            make_plan(Choices(model="deepseek-ai/DeepSeek-R1", series="T4", throughput_mib_s=300, max_model_len=8192))
        except PlanError:
            return
        raise AssertionError

    show("a plan whose layout is searched", timed(open_layout))
    show("a plan that fails and suggests other series", timed(failing))


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
