"""Plans one hostile repository after the other in one process, and prints what came of each: a child of the fuzz, whose
peak of memory is that of the program alone."""

import contextlib
import io
import json
import re
import sys
from pathlib import Path

from deepseek_acs.modelmover import __main__ as program
from tests.chaos.conftest import QuickBackoff


def peak_bytes() -> int:
    """Most memory that this program has had. What getrusage tells begins with that of the process that started it."""
    (kib,) = re.findall(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(kib) * 1024


def main(url: str, count: int) -> None:
    setattr(program, "Backoff", QuickBackoff)  # noqa: B010 - the module does not export it
    for number in range(count):
        scheme = "modelscope" if number % 2 else "hf"
        with contextlib.redirect_stderr(io.StringIO()) as log, contextlib.redirect_stdout(io.StringIO()):
            # What main does not catch ends this process, and with it the test.
            code = program.main(["--attempts=2", "plan", f"{scheme}://fuzz/{number}", f"--hub-endpoint={url}"])
        peak = peak_bytes()
        print(json.dumps({"number": number, "code": code, "log": log.getvalue(), "peak": peak}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
