"""When the new groups lose their clients, by what their metrics say."""

import pytest

from deepseek_acs.canaryguard.decision import Counts, Limits, Names, counts_of, reason, total
from deepseek_acs.planner.metrics import EngineMetrics
from tests.engine_metrics import exported, recorded

METRICS = EngineMetrics(version=(0, 33, 0))
NAMES = Names(
    http_requests=METRICS.http_requests, finished=METRICS.finished, first_token_latency=METRICS.first_token_latency
)
LIMITS = Limits(error_share=0.05, first_token_seconds=4, least_requests=20)

TEXT = """# HELP http_requests_total Total number of requests by method, status and handler.
# TYPE http_requests_total counter
http_requests_total{handler="/v1/chat/completions",method="POST",status="2xx"} 90.0
http_requests_total{handler="/v1/chat/completions",method="POST",status="4xx"} 5.0
http_requests_total{handler="/v1/chat/completions",method="POST",status="5xx"} 5.0
vllm:request_success_total{engine="0",finished_reason="stop",model_name="a \\"b\\" c"} 70.0
vllm:request_success_total{engine="1",finished_reason="stop",model_name="ds"} 10.0
vllm:request_success_total{engine="0",finished_reason="error",model_name="ds"} 3.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="2.5",model_name="ds"} 60.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="5.0",model_name="ds"} 70.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf",model_name="ds"} 80.0
vllm:time_to_first_token_seconds_bucket{engine="1",le="2.5",model_name="ds"} 1.0
vllm:time_to_first_token_seconds_bucket{engine="1",le="5.0",model_name="ds"} 1.0
vllm:time_to_first_token_seconds_bucket{engine="1",le="+Inf",model_name="ds"} 1.0
vllm:time_to_first_token_seconds_count{engine="0",model_name="ds"} 80.0
process_start_time_seconds 1.7e+09
"""


def test_what_the_engine_says() -> None:
    found = counts_of(TEXT, NAMES, LIMITS)
    assert found == Counts(requests=100, refused=5, finished=83, broken=3, first_tokens=81, late=10)


def test_a_limit_counts_from_the_next_bound_of_the_histogram() -> None:
    assert counts_of(TEXT, NAMES, Limits(error_share=1, first_token_seconds=2.5, least_requests=1)).late == 20
    assert counts_of(TEXT, NAMES, Limits(error_share=1, first_token_seconds=None, least_requests=1)).late == 0


def test_a_real_engine_has_these_metrics() -> None:
    assert exported(TEXT).keys() - recorded().keys() == {"process_start_time_seconds"}


@pytest.mark.parametrize(
    ("window", "said"),
    [
        (Counts(), ""),
        (Counts(requests=19, refused=19), ""),
        (Counts(requests=20, refused=1), ""),
        (Counts(requests=20, refused=2), "2 of 20 requests were answered with status 5xx"),
        (Counts(requests=100, finished=100, broken=6), "6 of 100 requests were ended by an error of the engine"),
        (Counts(first_tokens=19, late=19), ""),
        (Counts(first_tokens=100, late=5), ""),
        (Counts(first_tokens=100, late=6), "6 of 100 first tokens took longer than 4 s"),
    ],
)
def test_limits(window: Counts, said: str) -> None:
    assert reason(LIMITS, window) == said


def test_a_window_is_what_came_since() -> None:
    before, now = Counts(10, 1, 9, 0, 9, 0), Counts(30, 2, 28, 1, 28, 3)
    assert now.since(before) == Counts(20, 1, 19, 1, 19, 3)
    assert before.since(now) == before, "the engine has started again"
    assert total([now, before]) == Counts(40, 3, 37, 1, 37, 3)
