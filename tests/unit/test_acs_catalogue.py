"""Every row of the catalogues of ACS, kept and broken. The expected figures are written down here, from the source, so
that a wrong one in a catalogue is found."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest

from deepseek_acs.planner.acs import OSS_GBITS, oss_gbits
from deepseek_acs.planner.catalogue import GpuSeries, Nic, gpu_series, rows
from deepseek_acs.planner.rules import RULES, acs, storage
from deepseek_acs.planner.spec import ResolvedSpec
from tests.planner.specs import guide, spec
from tests.unit.conftest import PINNED, resolved, warnings


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One GPU series. ``pods``, by GPUs and vCPUs: ``sizes`` in GiB; ``ephemeral``: GiB by GPUs."""

    memory_gib: int
    drivers: tuple[str, ...]
    gpu: str | None = None
    gpus_per_pod: tuple[int, ...] = (1, 2, 4, 8)
    pods: Mapping[int, Mapping[int, tuple[int, ...]]] = dataclasses.field(default_factory=dict)
    rdma_gpus_per_pod: tuple[int, ...] = ()
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
        rdma_gpus_per_pod=(8,),
        nic="1",
    ),
    "GU8TEF": Row(
        memory_gib=141,
        gpu="H20-3e",
        pods={8: {64: (64, 128, 256, 512), 128: (128, 256, 512, 1024), 184: (256, 512, 1024, 1800)}},
        ephemeral={8: 6144},
        drivers=("570.133.20", "550.127.08"),
        rdma_gpus_per_pod=(8,),
        nic="1",
    ),
    "GX8SF": Row(
        memory_gib=141,
        gpu="H20-3e",
        gpus_per_pod=(8,),
        pods={8: {184: (1800,)}},
        ephemeral={8: 6144},
        drivers=("570.133.20", "550.127.08"),
        rdma_gpus_per_pod=(8,),
        nic="1",
    ),
    "P16EN": Row(
        memory_gib=96,
        gpus_per_pod=(1, 2, 4, 8, 16),
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
        rdma_gpus_per_pod=(16,),
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
    "T4": Row(memory_gib=16, gpu="T4", gpus_per_pod=(1, 2), drivers=("535.161.08", "570.133.20", "525.105.17")),
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
            gpus_per_pod=row.gpus_per_pod,
            gpu=row.gpu,
            rdma_gpus_per_pod=row.rdma_gpus_per_pod,
            pods=row.pods,
            resource=row.resource,
            drivers=row.drivers,
            ephemeral_gib=row.ephemeral,
            nic=NICS[row.nic] if row.nic else None,
        )
        for name, row in SOURCE.items()
    }


def test_catalogues_have_nothing_that_is_not_read() -> None:
    document = rows("gpu_series.toml")
    assert document.keys() == {"series", "nic"}
    assert {kind: Nic(**row) for kind, row in document["nic"].items()} == NICS
    known = {field.name for field in dataclasses.fields(GpuSeries)}
    assert not [(name, key) for name, row in document["series"].items() for key in row.keys() - known]


@pytest.mark.parametrize("name", INFERRED)
def test_inferred_sizes_are_those_of_the_other_series(name: str) -> None:
    others = [sizes for other, row in SOURCE.items() if other not in INFERRED for sizes in row.pods.values()]
    for cpu, (*smaller, largest) in SOURCE[name].pods[8].items():
        # GX8SF has one size only.
        same = [sizes[cpu] for sizes in others if len(sizes.get(cpu, ())) > 1]
        assert {size for sizes in same for size in sizes[:-1] if size < largest} == set(smaller)


def case(series: str, gpus_per_pod: int, **changes: Any) -> ResolvedSpec:
    return spec(series=series, gpus_per_pod=gpus_per_pod, tensor=gpus_per_pod, pipeline=1, **changes)


def keeps(rule: str, found: ResolvedSpec) -> bool:
    (row,) = (row for row in RULES if row.id == rule)
    return row.is_kept(found)


class TestSeries:
    @EACH_SERIES
    def test_gpus_per_pod(self, name: str) -> None:
        legal = [gpus_per_pod for gpus_per_pod in range(1, 17) if keeps("gpus-per-pod", case(name, gpus_per_pod))]
        assert tuple(legal) == SOURCE[name].gpus_per_pod

    @EACH_SERIES
    def test_rdma(self, name: str) -> None:
        series = SOURCE[name]
        legal = [
            gpus_per_pod
            for gpus_per_pod in series.gpus_per_pod
            if keeps("rdma", case(name, gpus_per_pod, network="rdma"))
        ]
        assert tuple(legal) == series.rdma_gpus_per_pod
        assert all(keeps("rdma", case(name, gpus_per_pod)) for gpus_per_pod in series.gpus_per_pod)

    @pytest.mark.parametrize(
        ("name", "gpus_per_pod"), [(name, gpus_per_pod) for name, row in SOURCE.items() for gpus_per_pod in row.pods]
    )
    def test_sizes(self, name: str, gpus_per_pod: int) -> None:
        legal = SOURCE[name].pods[gpus_per_pod]
        for cpu, memories in legal.items():
            for memory in memories:
                exact = case(name, gpus_per_pod, cpu=cpu, memory=f"{memory}Gi")
                assert keeps("pod-size", exact), memory
                assert keeps("pod-rounded", exact), memory
                assert not keeps("pod-rounded", case(name, gpus_per_pod, cpu=cpu, memory=f"{memory - 1}Gi")), memory
            assert cpu == max(legal) or keeps("pod-size", case(name, gpus_per_pod, cpu=cpu + 1, memory=f"{1}Gi"))
        largest = max(memory for memories in legal.values() for memory in memories)
        assert not keeps("pod-size", case(name, gpus_per_pod, cpu=1, memory=f"{largest + 1}Gi"))
        assert not keeps("pod-size", case(name, gpus_per_pod, cpu=max(legal) + 1, memory=f"{1}Gi"))

    @EACH_SERIES
    def test_drivers(self, name: str) -> None:
        for driver in SOURCE[name].drivers:
            assert acs.listed_driver.is_kept(guide(series=name, driver_version=driver))
        assert not acs.listed_driver.is_kept(guide(series=name, driver_version="999.1"))

    @pytest.mark.parametrize(
        ("name", "gpus_per_pod", "most"),
        [(name, gpus_per_pod, most) for name, row in SOURCE.items() for gpus_per_pod, most in row.ephemeral.items()],
    )
    def test_ephemeral_storage(self, name: str, gpus_per_pod: int, most: int) -> None:
        extra = most - 30
        assert acs.ephemeral_storage.is_kept(
            guide(series=name, gpus_per_pod=gpus_per_pod, extra_ephemeral=f"{extra}Gi")
        )
        (finding,) = acs.ephemeral_storage(
            guide(series=name, gpus_per_pod=gpus_per_pod, extra_ephemeral=f"{extra + 1}Gi")
        )
        assert finding.fix == f"write at most {extra}Gi"

    def test_unknown_one_passes_with_a_warning(self) -> None:
        found = case("NEW1", 12, cpu=7, memory="3000Gi", network="rdma", gpu_memory_gib=200)
        assert not keeps("series-known", found)
        for rule in ("gpus-per-pod", "rdma", "pod-size", "pod-rounded"):
            assert keeps(rule, found), rule
        new = guide(series="NEW1", gpus_per_pod=12, driver_version="1.0", extra_ephemeral="9000Gi")
        assert acs.ephemeral_storage.is_kept(new)
        assert acs.listed_driver.is_kept(new), "what is not known of it is said once"
        own = {
            "inference": {"gpu": {"series": "NEW1", "gpuMemoryGiB": 200}},
            "weights": PINNED,
            "security": {"securityGroups": ["sg-1a"]},
        }
        (warning,) = warnings(resolved(own))
        assert "NEW1 is not in deepseek_acs/planner/gpu_series.toml; it is passed to ACS without a check" in warning


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
        assert storage.oss_bandwidth.is_kept(guide(region="cn-wulanchabu", throughput_mib_s=300))
        (found,) = storage.oss_bandwidth(guide(region="cn-wulanchabu", throughput_mib_s=300, replicas=2))
        assert found.problem == (
            "300 MiB/s is more than OSS delivers: an account has 10 Gbit/s in cn-wulanchabu, and 4 pods that start "
            "together get 298"
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


def planned(changes: dict[str, Any]) -> list[str]:
    return warnings(resolved({**changes, "weights": PINNED, "security": {"securityGroups": ["sg-1a"]}}))
