"""Every row of the catalogues of ACS, kept and broken."""

import dataclasses
from typing import Any

import pytest

from components import stack_config
from components.settings.deployment import Deployment
from planner.acs_rules import FREE_EPHEMERAL_GIB, PodChoices, oss_gbits, oss_warnings, pod_findings, pod_warnings
from planner.case import Case, Choices
from planner.catalogue import gpu_series
from planner.plan import resolve
from planner.pods import pod_series
from planner.rules import RULES
from tests.unit.conftest import merged, stack_settings

R1 = Choices(model="deepseek-ai/DeepSeek-R1", series="GU8TF", throughput_mib_s=300)
POD = PodChoices(
    series="GU8TF",
    cards=8,
    compute_class="gpu",
    qos="default",
    rdma=False,
    resource=None,
    driver_version=None,
    extra_ephemeral_gib=0,
    port=8000,
    request_seconds=None,
)
EACH_SERIES = pytest.mark.parametrize("name", gpu_series())


def case(series: str, cards: int, **changes: Any) -> Case:
    return resolve(dataclasses.replace(R1, series=series, cards=cards, tensor=cards, pipeline=1, **changes))


def keeps(rule: str, found: Case) -> bool:
    (check,) = (row.check for row in RULES if row.id == rule)
    return check(found) is None


class TestSeries:
    @EACH_SERIES
    def test_cards(self, name: str) -> None:
        legal = [cards for cards in range(1, 18) if keeps("cards", case(name, cards))]
        assert tuple(legal) == gpu_series()[name].cards

    @EACH_SERIES
    def test_rdma(self, name: str) -> None:
        series = gpu_series()[name]
        legal = [cards for cards in series.cards if keeps("rdma", case(name, cards, network="rdma"))]
        assert tuple(legal) == series.rdma_cards
        assert all(keeps("rdma", case(name, cards)) for cards in series.cards)

    @pytest.mark.parametrize(
        ("name", "cards"), [(name, cards) for name, series in gpu_series().items() for cards in series.pods]
    )
    def test_sizes(self, name: str, cards: int) -> None:
        legal = gpu_series()[name].pods[cards]
        for cpu, memories in legal.items():
            for memory in memories:
                exact = case(name, cards, cpu=cpu, memory_gib=memory)
                assert keeps("pod-size", exact), memory
                assert keeps("pod-rounded", exact), memory
                assert not keeps("pod-rounded", case(name, cards, cpu=cpu, memory_gib=memory - 1)), memory
            assert cpu == max(legal) or keeps("pod-size", case(name, cards, cpu=cpu + 1, memory_gib=1))
        largest = max(memory for memories in legal.values() for memory in memories)
        assert not keeps("pod-size", case(name, cards, cpu=1, memory_gib=largest + 1))
        assert not keeps("pod-size", case(name, cards, cpu=max(legal) + 1, memory_gib=1))

    @EACH_SERIES
    def test_drivers(self, name: str) -> None:
        drivers = pod_series()[name].drivers
        assert not [d for d in drivers if pod_warnings(dataclasses.replace(POD, series=name, driver_version=d))]
        assert pod_warnings(dataclasses.replace(POD, series=name, driver_version="999.1"))

    @pytest.mark.parametrize(
        ("name", "cards", "most"),
        [(name, cards, most) for name, row in pod_series().items() for cards, most in row.ephemeral_gib.items()],
    )
    def test_ephemeral_storage(self, name: str, cards: int, most: int) -> None:
        extra = most - FREE_EPHEMERAL_GIB
        fits = dataclasses.replace(POD, series=name, cards=cards, extra_ephemeral_gib=extra)
        assert not pod_findings(fits)
        (finding,) = pod_findings(dataclasses.replace(fits, extra_ephemeral_gib=extra + 1))
        assert finding.fix == f"write at most {extra}Gi"

    def test_unknown_one_passes_with_a_warning(self) -> None:
        found = case("NEW1", 12, cpu=7, memory_gib=3000, network="rdma", gpu_memory_gib=200)
        assert not keeps("series-known", found)
        for rule in ("cards", "rdma", "pod-size", "pod-rounded"):
            assert keeps(rule, found), rule
        new = dataclasses.replace(POD, series="NEW1", cards=12, driver_version="1.0", extra_ephemeral_gib=9000)
        assert not pod_findings(new)
        assert not pod_warnings(new), "what is not known of it is said once"
        own = {"inference": {"gpu": {"series": "NEW1", "gpuMemoryGiB": 200}}}
        (warning,) = stack_config.plan_of(Deployment.model_validate(merged(stack_settings("dev"), own))).warnings
        assert "NEW1 is not in planner/acs.toml; it is passed to ACS unchecked" in warning


class TestBandwidthOfOss:
    @pytest.mark.parametrize(
        ("region", "gbits"),
        [
            ("cn-hangzhou", 100),
            ("ap-southeast-1", 100),
            ("cn-zhangjiakou", 20),
            ("cn-wulanchabu", 10),
            ("cn-hongkong", 5),
            ("us-east-1", 5),
        ],
    )
    def test_of_a_region(self, region: str, gbits: int) -> None:
        assert oss_gbits(region) == gbits

    def test_is_shared_by_all_pods(self) -> None:
        assert not oss_warnings("deployment.x", region="cn-wulanchabu", mib_s=300, clients=3)
        (warning,) = oss_warnings("deployment.x", region="cn-wulanchabu", mib_s=300, clients=4)
        assert warning == (
            "deployment.x: 300 MiB/s is more than OSS gives: an account has 10 Gbit/s in cn-wulanchabu, and 4 pods "
            "that start together get 298; write that, so that loading is given the time that it takes"
        )

    @pytest.mark.parametrize(
        ("storage", "path"),
        [
            ({"kind": "csi", "throughputMiBps": 600}, "throughputMiBps"),
            ({"kind": "fluid", "preloadMiBps": 1200}, "preloadMiBps"),
        ],
    )
    def test_is_compared_with_what_the_stack_reads(self, storage: dict[str, Any], path: str) -> None:
        small = {"cloud": {"region": "cn-wulanchabu"}, "storage": storage}
        (warning,) = planned({**small, "inference": {"replicas": 2}})
        assert warning.startswith(f"deployment.storage.{path}: ")
        assert not planned({"storage": storage, "inference": {"replicas": 2}})
        assert not planned({**small, "storage": {"kind": storage["kind"]}})
        assert not [w for w in planned({**small, "inference": {"replicas": 0}}) if "throughputMiBps" in w]


def planned(changes: dict[str, Any]) -> tuple[str, ...]:
    return stack_config.plan_of(Deployment.model_validate(merged(stack_settings("dev"), changes))).warnings
