"""Rules of ACS for GPU pods: what each lets pass. Each is broken in ``tests/planner/test_rules.py``."""

from typing import Any

import pytest

from deepseek_acs.planner.acs import FREE_EPHEMERAL_GIB
from deepseek_acs.planner.catalogue import NVIDIA, gpu_series, rdma_environment, resource_name
from deepseek_acs.planner.findings import Field
from deepseek_acs.planner.rules import acs
from tests.planner.specs import guide

ERRORS = (acs.series_spelling, acs.hpn_qos, acs.hpn_gpus_per_pod, acs.ephemeral_storage, acs.reserved_ports)
WARNINGS = (acs.known_network_card, acs.listed_driver, acs.usual_resource, acs.eviction_notice)
RDMA = {"network": "rdma"}
HPN = {"compute_class": "gpu-hpn"}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"qos": "best-effort"},
        {"extra_ephemeral": "2018Gi"},
        {"extra_ephemeral": "5000Gi", "gpus_per_pod": 4},
        *({**HPN, "gpus_per_pod": gpus_per_pod} for gpus_per_pod in (1, 2, 4, 8, 16)),
        {"series": "NEW1", "gpus_per_pod": 12, **RDMA},
        {"series": "H20"},
    ],
)
def test_what_may_pass(changes: dict[str, Any]) -> None:
    assert all(rule.is_kept(guide(**changes)) for rule in ERRORS)


@pytest.mark.parametrize("port", [111, 10250, 10255])
def test_reserved_ports(port: int) -> None:
    assert not acs.reserved_ports.is_kept(guide(port=port))
    assert acs.reserved_ports.is_kept(guide(port=port + 1))


@pytest.mark.parametrize("series", ["GN8IS", "G49E", "G59", "A10", "T4"])
def test_a_series_with_rdma_by_reservation_only_has_no_known_card(series: str) -> None:
    (found,) = acs.known_network_card(guide(series=series, **HPN, **RDMA))
    assert found.problem.startswith(
        f"the type of the RDMA network card of {series} is not in deepseek_acs/planner/gpu_series.toml"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        *({"series": series, **HPN, **RDMA} for series in ("GU8TF", "GU8TEF", "GX8SF", "P16EN")),
        {"series": "GN8IS", **HPN},
        {"request_seconds": 9000},
        {"qos": "best-effort", "request_seconds": 255},
        {"driver_version": "550.90.07"},
        {"resource": NVIDIA},
        {"series": "NEW1", "resource": "a.b/c"},
    ],
)
def test_no_warning(changes: dict[str, Any]) -> None:
    assert all(rule.is_kept(guide(**changes)) for rule in WARNINGS)


def test_large_pods_without_gpus_need_a_ticket() -> None:
    for size in ({"cpu": 17}, {"memory": "131073Mi"}):
        (found,) = acs.pods_by_ticket(guide(upload=size))
        assert found.path == Field.UPLOAD
    (found,) = acs.pods_by_ticket(guide(storage={"kind": "fluid", "memory": "256Gi"}))
    assert found.path == Field.STORAGE
    (found,) = acs.pods_by_ticket(guide(verification={"benchmark": {"cpu": 17}}))
    assert found.path == Field.BENCHMARK
    assert acs.pods_by_ticket.is_kept(guide(upload={"cpu": 16, "memory": "128Gi"}))


def test_resource_names() -> None:
    assert resource_name("P16EN") == "alibabacloud.com/ppu"
    assert resource_name("GU8TF") == resource_name("NEW1") == NVIDIA


def test_environment_by_network_card_and_image() -> None:
    documented = {"NCCL_SOCKET_IFNAME": "eth0", "NCCL_IB_HCA": "mlx5", "NCCL_DEBUG": "INFO"}
    open_source = {"NCCL_IB_TC": "136", "NCCL_IB_SL": "5", "NCCL_IB_GID_INDEX": "3", "NCCL_NET_PLUGIN": "none"}
    for series in ("GU8TF", "GU8TEF", "GX8SF", "NEW1"):
        assert rdma_environment(series, open_source_image=False) == documented
        assert rdma_environment(series, open_source_image=True) == documented | open_source
    for image in (True, False):
        assert rdma_environment("P16EN", open_source_image=image) == {
            "NCCL_SOCKET_IFNAME": "eth0",
            "NCCL_IB_DISABLE": "1",
            "NCCL_IB_HCA": "",
            "NCCL_DEBUG": "INFO",
        }


def test_rows_agree_with_themselves() -> None:
    for row in gpu_series().values():
        assert set(row.rdma_gpus_per_pod) | row.ephemeral_gib.keys() <= set(row.gpus_per_pod)
        assert bool(row.rdma_gpus_per_pod) == (row.nic is not None)
        assert row.drivers
        assert all(gib > FREE_EPHEMERAL_GIB for gib in row.ephemeral_gib.values())
