"""Metrics under the names that vLLM gives them, so that dashboards, alerts and autoscalers find theirs.

https://docs.vllm.ai/en/latest/usage/metrics/; gauges of both generations. Requests and tokens are counted; what only an
engine has is 0.
"""

from collections.abc import Sequence

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, Counter, Gauge, generate_latest

RUNNING = "vllm:num_requests_running"
GAUGES = (
    "vllm:num_requests_waiting",
    "vllm:gpu_cache_usage_perc",
    "vllm:kv_cache_usage_perc",
)
CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


class Metrics:
    """Counts of one server. Safe for threads."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._running = Gauge(RUNNING, RUNNING, ["model_name"], registry=self._registry)
        self._gauges = [Gauge(name, name, ["model_name"], registry=self._registry) for name in GAUGES]
        self._prompt, self._generated = (
            Counter(f"vllm:{kind}_tokens", f"{kind} tokens", ["model_name"], registry=self._registry)
            for kind in ("prompt", "generation")
        )
        self._requests = Counter(
            "vllm:request_success", "answers", ["finished_reason", "model_name"], registry=self._registry
        )
        self._http = Counter("http_requests", "requests", ["handler", "method", "status"], registry=self._registry)

    def begin(self, model: str) -> None:
        """A request whose answer is on its way, until ``end``."""
        self._running.labels(model).inc()

    def end(self, model: str) -> None:
        """Its answer was sent, or cannot be."""
        self._running.labels(model).dec()

    def answer(self, handler: str, method: str, status: int) -> None:
        """One answered HTTP request."""
        self._http.labels(handler, method, f"{status // 100}xx").inc()

    def count(self, model: str, *, prompt_tokens: int, generated_tokens: int, reason: str) -> None:
        """One answered request."""
        self._prompt.labels(model).inc(prompt_tokens)
        self._generated.labels(model).inc(generated_tokens)
        self._requests.labels(reason, model).inc()

    def text(self, models: Sequence[str]) -> bytes:
        """All of them, in Prometheus' text format; those without a request are 0."""
        for metric in (self._running, *self._gauges, self._prompt, self._generated):
            for model in models:
                metric.labels(model)
        return generate_latest(self._registry)
