"""Metrics under the names that vLLM gives them, so that dashboards, alerts and autoscalers find theirs.

https://docs.vllm.ai/en/latest/usage/metrics/; gauges of both generations. What was asked is counted, what only an
engine has is 0.
"""

import threading
from collections import Counter
from collections.abc import Iterator, Sequence

GAUGES = (
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "vllm:gpu_cache_usage_perc",
    "vllm:kv_cache_usage_perc",
)
PROMPT, GENERATED, SUCCESS = "vllm:prompt_tokens_total", "vllm:generation_tokens_total", "vllm:request_success_total"


class Metrics:
    """Counts of one server. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tokens: Counter[tuple[str, str]] = Counter()
        self._requests: Counter[tuple[str, str]] = Counter()

    def count(self, model: str, *, prompt_tokens: int, generated_tokens: int, reason: str) -> None:
        """One answered request."""
        with self._lock:
            self._tokens[PROMPT, model] += prompt_tokens
            self._tokens[GENERATED, model] += generated_tokens
            self._requests[model, reason] += 1

    def text(self, models: Sequence[str]) -> str:
        """All of them, in Prometheus' text format."""
        with self._lock:
            return "".join(f"{line}\n" for line in self._lines(models))

    def _lines(self, models: Sequence[str]) -> Iterator[str]:
        for name in GAUGES:
            yield f"# TYPE {name} gauge"
            yield from (f'{name}{{model_name="{model}"}} 0' for model in models)
        for name in (PROMPT, GENERATED):
            yield f"# TYPE {name} counter"
            yield from (f'{name}{{model_name="{model}"}} {self._tokens[name, model]}' for model in models)
        yield f"# TYPE {SUCCESS} counter"
        for (model, reason), number in sorted(self._requests.items()):
            yield f'{SUCCESS}{{finished_reason="{reason}",model_name="{model}"}} {number}'
