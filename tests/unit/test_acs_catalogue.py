"""Every row of the catalogues of ACS, kept and broken. The expected figures are written down here, from the source, so
that a wrong one in a catalogue is found."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest

from components import stack_config
from components.settings.deployment import Deployment
from planner.acs_rules import OSS_GBITS, PodChoices, oss_gbits, oss_warnings, pod_findings, pod_warnings
from planner.case import Case, Choices
from planner.catalogue import GpuSeries, gpu_series, rows
from planner.plan import resolve
from planner.pods import Nic, PodSeries, pod_series
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One GPU series. ``pods``, by cards and vCPUs: ``sizes`` in GiB; ``ephemeral``: GiB by cards."""

    memory_gib: int
    drivers: tuple[str, ...]
    gpu: str | None = None
    cards: tuple[int, ...] = (1, 2, 4, 8)
    pods: Mapping[int, Mapping[int, tuple[int, ...]]] = dataclasses.field(default_factory=dict)
    rdma_cards: tuple[int, ...] = ()
    resource: str = "nvidia.com/gpu"
    ephemeral: Mapping[int, int] = dataclasses.field(default_factory=dict)
    nic: str | None = None


SOURCE = {
    "GU8TF": Row(
        memory_gib=96,
        gpu="H20",
        pods={8: {64: (64, 128, 256, 512), 128: (128, 256, 512, 920), 184: (256, 512, 920)}},
        ephemeral={8: 2048},
        drivers=("550.90.07",),
        rdma_cards=(8,),
        nic="1",
    ),
    "GU8TEF": Row(
        memory_gib=141,
        gpu="H20-3e",
        pods={8: {64: (64, 128, 256, 512), 128: (128, 256, 512, 1024), 184: (256, 512, 1024, 1800)}},
        ephemeral={8: 6144},
        drivers=("570.133.20", "550.127.08"),
        rdma_cards=(8,),
        nic="1",
    ),
    "GX8SF": Row(
        memory_gib=141,
        gpu="H20-3e",
        cards=(8,),
        pods={8: {184: (1800,)}},
        ephemeral={8: 6144},
        drivers=("570.133.20", "550.127.08"),
        rdma_cards=(8,),
        nic="1",
    ),
    "P16EN": Row(
        memory_gib=96,
        cards=(1, 2, 4, 8, 16),
        pods={
            8: {16: (16, 32, 64, 128), 32: (32, 64, 128, 256), 64: (64, 128, 256, 512), 92: (128, 256, 512, 900)},
            16: {
                32: (32, 64, 128, 256),
                64: (64, 128, 256, 512),
                128: (128, 256, 512, 1024),
                184: (256, 512, 1024, 1800),
            },
        },
        ephemeral={8: 3072, 16: 6144},
        drivers=("1.4.1", "1.5.1", "1.5.0"),
        resource="alibabacloud.com/ppu",
        rdma_cards=(16,),
        nic="2",
    ),
    "GN8IS": Row(
        memory_gib=48,
        gpu="L20",
        pods={8: {64: (64, 128, 256, 512), 128: (128, 256, 512, 920)}},
        drivers=("550.90.07", "570.133.20", "535.161.08"),
    ),
    "G49E": Row(
        memory_gib=48,
        pods={8: {64: (64, 128, 256, 512), 128: (128, 256, 512, 920)}},
        drivers=("570.124.06",),
    ),
    "G59": Row(
        memory_gib=32,
        gpu="RTX 5090",
        pods={8: {64: (64, 128, 256, 512), 128: (128, 256, 512, 1024), 184: (256, 512, 1024, 1440)}},
        drivers=("575.64.05",),
    ),
    "A10": Row(memory_gib=24, gpu="A10", drivers=("550.90.07", "570.133.20")),
    "T4": Row(memory_gib=16, gpu="T4", cards=(1, 2), drivers=("535.161.08", "570.133.20", "525.105.17")),
}
"""Sizes and storage: https://www.alibabacloud.com/help/en/cs/user-guide/acs-pod-instance-overview
Drivers, the default one first: https://alibabacloud.com/help/doc-detail/2833016.html
RDMA: https://www.alibabacloud.com/help/en/cs/user-guide/pod-hpn-type-rdma
Resource of P16EN: https://github.com/aliyun-computenest/quickstart-vllm-ack
The GPU of a series is not published; it is what the planner takes it for."""

INFERRED = ("GN8IS", "G49E", "G59")
"""Of their sizes the vCPUs and the largest memory are from the source, the smaller ones from the other series."""

NICS = {
    "1": Nic(
        environment={"NCCL_SOCKET_IFNAME": "eth0", "NCCL_IB_HCA": "mlx5", "NCCL_DEBUG": "INFO"},
        open_source_environment={
            "NCCL_IB_TC": "136",
            "NCCL_IB_SL": "5",
            "NCCL_IB_GID_INDEX": "3",
            "NCCL_NET_PLUGIN": "none",
        },
    ),
    "2": Nic(
        environment={
            "NCCL_SOCKET_IFNAME": "eth0",
            "NCCL_IB_DISABLE": "1",
            "NCCL_IB_HCA": "",
            "NCCL_DEBUG": "INFO",
        },
        open_source_environment={},
    ),
}
"""https://www.alibabacloud.com/help/en/cs/user-guide/pod-hpn-type-rdma, and for images that are not of ACS
https://www.alibabacloud.com/help/en/cs/user-guide/using-acs-gpu-computing-power-to-build-a-distributed-deepseek-full-blood-version-reasoning-service"""

EACH_SERIES = pytest.mark.parametrize("name", SOURCE)


def test_figures_are_those_of_the_source() -> None:
    """As a whole: one that is changed, missing or additional is found."""
    assert gpu_series() == {
        name: GpuSeries(
            name=name,
            memory_gib=row.memory_gib,
            cards=row.cards,
            gpu=row.gpu,
            rdma_cards=row.rdma_cards,
            pods=row.pods,
        )
        for name, row in SOURCE.items()
    }
    assert pod_series() == {
        name: PodSeries(
            resource=row.resource,
            drivers=row.drivers,
            ephemeral_gib=row.ephemeral,
            nic=NICS[row.nic] if row.nic else None,
        )
        for name, row in SOURCE.items()
    }


def test_catalogues_have_nothing_that_is_not_read() -> None:
    pods = rows("pods.toml")
    assert pods.keys() == {"series", "nic"}
    assert {kind: Nic(**row) for kind, row in pods["nic"].items()} == NICS
    for found, kind in ((rows("acs.toml"), GpuSeries), (pods["series"], PodSeries)):
        known = {field.name for field in dataclasses.fields(kind)}
        assert not [(name, key) for name, row in found.items() for key in row.keys() - known]


@pytest.mark.parametrize("name", INFERRED)
def test_inferred_sizes_are_those_of_the_other_series(name: str) -> None:
    others = [sizes for other, row in SOURCE.items() if other not in INFERRED for sizes in row.pods.values()]
    for cpu, (*smaller, largest) in SOURCE[name].pods[8].items():
        # GX8SF has one size only.
        same = [sizes[cpu] for sizes in others if len(sizes.get(cpu, ())) > 1]
        assert {size for sizes in same for size in sizes[:-1] if size < largest} == set(smaller)


def case(series: str, cards: int, **changes: Any) -> Case:
    return resolve(dataclasses.replace(R1, series=series, cards=cards, tensor=cards, pipeline=1, **changes))


def keeps(rule: str, found: Case) -> bool:
    (check,) = (row.check for row in RULES if row.id == rule)
    return check(found) is None


class TestSeries:
    @EACH_SERIES
    def test_cards(self, name: str) -> None:
        legal = [cards for cards in range(1, 18) if keeps("cards", case(name, cards))]
        assert tuple(legal) == SOURCE[name].cards

    @EACH_SERIES
    def test_rdma(self, name: str) -> None:
        series = SOURCE[name]
        legal = [cards for cards in series.cards if keeps("rdma", case(name, cards, network="rdma"))]
        assert tuple(legal) == series.rdma_cards
        assert all(keeps("rdma", case(name, cards)) for cards in series.cards)

    @pytest.mark.parametrize(("name", "cards"), [(name, cards) for name, row in SOURCE.items() for cards in row.pods])
    def test_sizes(self, name: str, cards: int) -> None:
        legal = SOURCE[name].pods[cards]
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
        drivers = SOURCE[name].drivers
        assert not [d for d in drivers if pod_warnings(dataclasses.replace(POD, series=name, driver_version=d))]
        assert pod_warnings(dataclasses.replace(POD, series=name, driver_version="999.1"))

    @pytest.mark.parametrize(
        ("name", "cards", "most"),
        [(name, cards, most) for name, row in SOURCE.items() for cards, most in row.ephemeral.items()],
    )
    def test_ephemeral_storage(self, name: str, cards: int, most: int) -> None:
        extra = most - 30
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
            ("cn-shanghai", 100),
            ("cn-shenzhen", 100),
            ("cn-beijing", 100),
            ("ap-southeast-1", 100),
            ("cn-zhangjiakou", 20),
            ("cn-wulanchabu", 10),
            ("cn-hongkong", 5),
            ("us-east-1", 5),
        ],
    )
    def test_of_a_region(self, region: str, gbits: int) -> None:
        assert oss_gbits(region) == gbits

    def test_no_other_region_has_more(self) -> None:
        large = {"cn-hangzhou", "cn-shanghai", "cn-shenzhen", "cn-beijing", "ap-southeast-1", "cn-zhangjiakou"}
        assert OSS_GBITS.keys() == large

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
