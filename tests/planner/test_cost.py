"""What a deployment costs: the arithmetic, what has no price, and how it is shown."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepseek_acs.planner.__main__ import main
from deepseek_acs.planner.cost import cost, data
from deepseek_acs.planner.findings import TERMINAL_WIDTH
from deepseek_acs.planner.prices import PodPrice, list_price, storage_list_price
from deepseek_acs.planner.summary import text, with_cost
from tests.planner.specs import guide

PRICES = {"gpuHour": 5, "vcpuHour": 0.01, "memoryGiBHour": 0.005, "trafficGiB": 0.1}
FLUID = {"kind": "fluid"}
QUEUE = {"kind": "queue", "maxReplicas": 3, "prometheus": {"url": "http://p"}}
MOVED = {"source": {"kind": "modelScope", "revision": "v1"}, "manifest_sha256": None}


def shown(**changes: object) -> str:
    return text({k: v for k, v in with_cost(guide(**changes)).items() if k in LABELS})


LABELS = ("cost", "start", "update", "tokens", "bucket", "unpriced")


def test_the_example_in_the_docstring() -> None:
    found = cost(guide(prices=PRICES))
    assert found.group.value == pytest.approx(86.4)
    assert found.unpriced == ()
    assert [round(amount.value, 2) for amount in found.start] == [52.54, 136.42]
    assert found.serving == (found.group, found.group)


def test_without_prices_nothing_is_guessed() -> None:
    assert shown() == (
        "cost      not known: there is no public price of GU8TF; docs/cost.md says how to give yours\n"
        "bucket    USD 11.09 per month, upload at most USD 1.11"
    )
    assert data(cost(guide())) == {
        "currency": "USD",
        "groupPerHour": None,
        "perHour": [None, None],
        "start": [None, None],
        "update": 0.0,
        "storagePerMonth": 11.09,
        "upload": 1.11,
        "perMillionTokens": None,
        "notPriced": ["GPUs", "vCPUs", "memory"],
    }


def test_what_is_shown_with_prices() -> None:
    everything = {
        "prices": {**PRICES, "tokensPerSecond": 1800},
        "scaling": QUEUE,
        "replicas": None,
        "max_surge": 1,
        "storage": FLUID,
        **MOVED,
    }
    assert shown(**everything) == (
        "cost      USD 93.15 to 265.95 per hour for 1 to 3 groups\n"
        "start     USD 26.28 to 97.03 per group until it answers, after 19 to 68 min\n"
        "update    at most USD 194.06 for the groups that it adds\n"
        "tokens    USD 13.33 per million of output\n"
        "bucket    USD 11.09 per month, upload at most USD 65.24"
    )
    assert cost(guide(**everything)).unpriced == ()


def test_what_has_no_price_is_named() -> None:
    lines = shown(prices={"gpuHour": 5}, extra_ephemeral="50Gi", **MOVED)
    assert "cost      USD 80.00 per hour for 1 group\n" in lines
    assert "upload at most USD 1.11 and traffic\n" in lines
    assert lines.endswith(
        "unpriced  vCPUs, memory, ephemeral storage, traffic: their prices are not known, and not in these amounts"
    )
    assert data(cost(guide(prices={"gpuHour": 5})))["groupPerHour"] is None, "a part is not the whole"


def test_another_currency_has_no_list_prices() -> None:
    found = cost(guide(prices={**PRICES, "currency": "EUR"}, storage=FLUID))
    assert found.unpriced == ("cache", "storage", "upload")
    assert storage_list_price("EUR") is None
    yuan = cost(guide(prices={"currency": "CNY"}))
    assert yuan.storage.value == pytest.approx(641.3 * 0.12, rel=1e-3)


def test_list_prices_depend_on_the_region() -> None:
    mainland, elsewhere = (list_price("USD", "performance", region=r) for r in ("cn-hangzhou", "cn-hongkong"))
    assert (mainland, elsewhere) == (
        PodPrice(vcpu_hour=0.01224, memory_gib_hour=0.006),
        PodPrice(vcpu_hour=0.017856, memory_gib_hour=0.008928),
    )
    # Not published on the page that has the others.
    assert list_price("CNY", "performance", region="cn-hongkong").vcpu_hour is None


@given(
    price=st.floats(0, 1000),
    least=st.integers(1, 20),
    more=st.integers(0, 20),
    surge=st.integers(0, 20),
    rate=st.floats(1, 100_000),
)
def test_costs_are_in_proportion(price: float, least: int, more: int, surge: int, rate: float) -> None:
    scaling = {**QUEUE, "minReplicas": least, "maxReplicas": least + more}
    prices = {"gpuHour": price, "vcpuHour": 0, "memoryGiBHour": 0, "tokensPerSecond": rate}
    found = cost(guide(prices=prices, scaling=scaling, replicas=None, max_surge=surge))
    group = 16 * price
    assert found.group.value == pytest.approx(group)
    assert [one.value for one in found.serving] == pytest.approx([group * least, group * (least + more)])
    assert found.start[0].value <= found.start[1].value
    assert found.update.value >= found.start[1].value * min(surge, least + more) - 1e-6
    assert found.million_tokens is not None
    assert found.million_tokens.value * rate * 3600 / 1e6 == pytest.approx(group)


def test_lines_are_short() -> None:
    long = {"gpuHour": 99_999, "currency": "CNY", "tokensPerSecond": 1}
    lines = with_cost(guide(prices=long, scaling={**QUEUE, "maxReplicas": 100}, replicas=None, max_surge=9, **MOVED))
    assert max(map(len, text(lines).splitlines())) <= TERMINAL_WIDTH


def test_prices_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["check", "deepseek-ai/DeepSeek-R1", "--series=GU8TF", "--max-model-len=2048", "--gpu-hour=5"]
    assert main([*words, "--tokens-per-second=1800"]) == 0
    said = capsys.readouterr().out
    assert "cost      USD 80.00 per hour for 1 group" in said
    assert "tokens    USD 12.35 per million of output" in said
    assert main([*words, "--vcpu-hour=0.01", "--memory-gib-hour=0.005", "--currency=CNY", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["cost"]
    assert (found["currency"], found["groupPerHour"]) == ("CNY", 86.4)
    assert main([*words, "--currency=yuan"]) == 1
    assert "--currency" in capsys.readouterr().err
