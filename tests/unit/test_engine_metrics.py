"""Every metric that the program reads is exported by a real engine, under this name and with these labels."""

import pytest

from deepseek_acs.planner.metrics import EngineMetrics
from tests.engine_metrics import VERSION, as_text, exported, recorded, used


@pytest.mark.parametrize("reader", used())
def test_what_is_read_is_exported(reader: str) -> None:
    assert used()[reader]
    assert used()[reader] <= recorded().keys()


def test_names_of_the_first_versions_are_gone() -> None:
    old = EngineMetrics(version=(0, 7, 2))
    assert not {old.kv_cache_usage, old.prefix_hit_gauge, f"{old.inter_token_latency}_bucket"} & recorded().keys()


def test_labels_that_queries_group_by() -> None:
    metrics = EngineMetrics(version=VERSION)
    assert {"handler", "method", "status"} == recorded()[metrics.http_requests]
    assert "finished_reason" in recorded()[metrics.finished]
    assert "model_name" in recorded()[metrics.running]


def test_reading_the_text_format() -> None:
    text = '# TYPE a gauge\nvllm:a{x="1",y="a b}"} 2.0\nvllm:a{z=""} 1\nhttp_b 3\nprocess_c 4\n'
    assert exported(text) == {"vllm:a": {"x", "y", "z"}, "http_b": set(), "process_c": set()}
    assert as_text(exported(text)) == "http_b\nvllm:a x y z\n"
