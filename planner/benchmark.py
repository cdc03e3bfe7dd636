"""Whether vLLM's own benchmark client can run against a deployment."""

from planner.engine import CURRENT, version_of
from planner.findings import Finding

BENCH_SERVE_SINCE = (0, 10, 1)
"""First version whose documentation has all options that are used
(https://docs.vllm.ai/en/v0.10.1.1/cli/bench/serve.html). Before ``vllm bench`` the client was a script in vLLM's
repository, which images need not have."""

PATH = "deployment.verification.benchmark"


def benchmark_findings(*, image: str, tokens: int, max_model_len: int | None) -> list[Finding]:
    """What would make every request or the client itself fail. ``tokens`` are those of prompt and answer together;
    a ``max_model_len`` of None is not known."""
    found = []
    version = version_of(image) or CURRENT
    if version < BENCH_SERVE_SINCE:
        name = ".".join(map(str, version))
        found.append(
            Finding(
                path=f"{PATH}.image",
                problem=f"the image has vLLM {name}, which has no vllm bench serve with the options that are needed",
                fix="write an image with vLLM 0.10.1 or newer here; the engine's can stay as it is",
            )
        )
    if max_model_len is not None and tokens > max_model_len:
        found.append(
            Finding(
                path=PATH,
                problem=f"inputTokens + outputTokens are {tokens:,}, and the engine takes requests of at most "
                f"{max_model_len:,}",
                fix="write fewer, or a larger deployment.inference.engine.maxModelLen",
            )
        )
    return found
