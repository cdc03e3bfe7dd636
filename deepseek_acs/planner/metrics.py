"""Names of the metrics: those of vLLM by its version, and the labels that select one inference group's.

vLLM renames a metric, shows both names for a few versions, then hides the old one. Each row names the first version
from which the new name is sure to be there and before which the old one is:
https://github.com/vllm-project/vllm/blob/v0.7.2/vllm/engine/metrics.py (before 0.8),
https://github.com/vllm-project/vllm/blob/v0.33.0/vllm/v1/metrics/loggers.py (since), and
https://docs.vllm.ai/en/stable/usage/metrics/.
"""

from dataclasses import dataclass

from deepseek_acs.planner.vllm_releases.release import Version, changed_in

LWS_LABEL, GROUP_LABEL = "leaderworkerset", "group"
"""Labels that the PodMonitor adds to everything it scrapes: the name of the LeaderWorkerSet, and the group's index."""


@dataclass(frozen=True, kw_only=True)
class EngineMetrics:
    """Names of one version of vLLM. Counters and histograms have none of Prometheus' endings but ``_total``."""

    version: Version

    running = "vllm:num_requests_running"
    waiting = "vllm:num_requests_waiting"
    preemptions = "vllm:num_preemptions_total"
    prompt_tokens = "vllm:prompt_tokens_total"
    generation_tokens = "vllm:generation_tokens_total"

    finished = "vllm:request_success_total"
    """By ``finished_reason``: stop, length, abort (the client went away), and error since the current generation."""

    first_token_latency = "vllm:time_to_first_token_seconds"  # noqa: S105 - no secret
    request_latency = "vllm:e2e_request_latency_seconds"

    http_requests = "http_requests_total"
    """By ``handler``, ``method`` and ``status`` (2xx, 4xx, 5xx); the probes' and the scraper's are not counted."""

    @property
    def kv_cache_usage(self) -> str:
        """Share of the cache that is in use, 0 to 1."""
        return (
            "vllm:kv_cache_usage_perc"
            if self.version >= changed_in("cache_metrics_renamed")
            else "vllm:gpu_cache_usage_perc"
        )

    @property
    def longest_first_token_seconds(self) -> float:
        """Largest bound of ``first_token_latency``: no quantile is ever more."""
        return 2560 if self.version >= changed_in("long_latencies") else 10

    @property
    def longest_inter_token_seconds(self) -> float:
        """The same of ``inter_token_latency``."""
        return 80 if self.version >= changed_in("long_latencies") else 2.5

    @property
    def inter_token_latency(self) -> str:
        """Time between two tokens of a request."""
        if self.version >= changed_in("inter_token_renamed"):
            return "vllm:inter_token_latency_seconds"
        return "vllm:time_per_output_token_seconds"

    prefix_hit_gauge = "vllm:gpu_prefix_cache_hit_rate"
    """Before 0.8, in place of the counters; -1 while prefix caching is off."""

    @property
    def prefix_counters(self) -> tuple[str, str] | None:
        """Prompt tokens that were in the cache already, and all that were looked up."""
        if self.version < changed_in("v1"):
            return None
        prefix = "vllm:prefix_cache" if self.version >= changed_in("cache_metrics_renamed") else "vllm:gpu_prefix_cache"
        return f"{prefix}_hits_total", f"{prefix}_queries_total"

    def prefix_hit_rate(self, selector: str, window: str) -> str:
        """The share of hits as an expression, by group."""
        if self.prefix_counters is None:
            return f"max by ({GROUP_LABEL}) ({self.prefix_hit_gauge}{{{selector}}} >= 0)"
        hits, queries = (
            f"sum by ({GROUP_LABEL}) (rate({counter}{{{selector}}}[{window}]))" for counter in self.prefix_counters
        )
        return f"{hits} / {queries}"


@dataclass(frozen=True, kw_only=True)
class Target:
    """One LeaderWorkerSet, as the queries select it."""

    namespace: str
    name: str
    metrics: EngineMetrics

    @property
    def engine(self) -> str:
        """What the leaders themselves say; the labels are those of the PodMonitor."""
        return f'namespace="{self.namespace}",{LWS_LABEL}="{self.name}"'

    @property
    def leaders(self) -> str:
        """What kube-state-metrics says of the leaders: they are called NAME-GROUP."""
        return f'namespace="{self.namespace}",pod=~"{self.name}-[0-9]+"'

    @property
    def stateful_set(self) -> str:
        """The same of the StatefulSet of the leaders, which the controller names like the LeaderWorkerSet."""
        return f'namespace="{self.namespace}",statefulset="{self.name}"'

    @property
    def pods(self) -> str:
        """The same of all pods; workers are called NAME-GROUP-WORKER."""
        return f'namespace="{self.namespace}",pod=~"{self.name}-[0-9]+(-[0-9]+)?"'
