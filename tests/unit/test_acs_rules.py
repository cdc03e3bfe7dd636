"""Rules of ACS for GPU pods: each refuses what it must, lets pass what it may, and warns about what it cannot know."""

import dataclasses
from typing import Any

import pytest

from planner.acs_rules import (
    FREE_EPHEMERAL_GIB,
    PodChoices,
    pod_findings,
    pod_warnings,
    ticket_warnings,
)
from planner.catalogue import gpu_series
from planner.pods import NVIDIA, pod_series, rdma_environment, resource_name

GUIDE = PodChoices(
    series="GU8TF",
    cards=8,
    compute_class="gpu",
    qos="default",
    rdma=True,
    resource=None,
    driver_version=None,
    extra_ephemeral_gib=0,
    port=8000,
    request_seconds=None,
)


def changed(**changes: Any) -> PodChoices:
    return dataclasses.replace(GUIDE, **changes)


@pytest.mark.parametrize(
    ("changes", "path", "problem", "fix"),
    [
        (
            {"series": "gu8tf"},
            "inference.gpu.series",
            "there is no series gu8tf; case counts",
            "write GU8TF",
        ),
        (
            {"compute_class": "gpu-hpn", "qos": "best-effort"},
            "inference.qos",
            "compute class gpu-hpn knows only the quality of service default, not best-effort",
            "write default, or deployment.inference.gpu.computeClass: gpu",
        ),
        (
            {"compute_class": "gpu-hpn", "cards": 3},
            "inference.gpu.cards",
            "compute class gpu-hpn has no pod with 3 cards",
            "write one of 1, 2, 4, 8, 16",
        ),
        (
            {"extra_ephemeral_gib": 2019},
            "inference.resources.extraEphemeralStorage",
            "2019 GiB and the free 30 GiB are more than the 2048 GiB that a pod with 8 cards of series GU8TF may have",
            "write at most 2018Gi",
        ),
        (
            {"port": 10250},
            "inference.engine.port",
            "ACS keeps the ports 111, 10250, 10255 for itself",
            "write another port",
        ),
    ],
)
def test_each_finding(changes: dict[str, Any], path: str, problem: str, fix: str) -> None:
    (finding,) = pod_findings(changed(**changes))
    assert finding.path == f"deployment.{path}"
    assert finding.problem == problem
    assert finding.fix.startswith(fix)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"qos": "best-effort"},
        {"extra_ephemeral_gib": 2018},
        {"extra_ephemeral_gib": 5000, "cards": 4, "rdma": False},
        *({"compute_class": "gpu-hpn", "cards": cards} for cards in (1, 2, 4, 8, 16)),
        {"series": "NEW1", "cards": 12, "rdma": True},
        {"series": "H20"},
    ],
)
def test_what_may_pass(changes: dict[str, Any]) -> None:
    assert pod_findings(changed(**changes)) == []


@pytest.mark.parametrize("port", [111, 10250, 10255])
def test_reserved_ports(port: int) -> None:
    assert pod_findings(changed(port=port))
    assert not pod_findings(changed(port=port + 1))


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        (
            {"series": "NEW1"},
            "deployment.inference.network: whether ACS has RDMA for NEW1 is not in planner/pods.toml; it is asked for "
            "unchecked, with the variables for mlx5 cards (deployment.inference.engine.env changes them)",
        ),
        *(
            (
                {"series": series, "compute_class": "gpu-hpn"},
                f"deployment.inference.network: the type of the RDMA network card of {series} is not in "
                "planner/pods.toml; it is asked for unchecked, with the variables for mlx5 cards "
                "(deployment.inference.engine.env changes them)",
            )
            for series in ("GN8IS", "G49E", "G59", "A10", "T4")
        ),
        (
            {"driver_version": "999.1"},
            "deployment.inference.gpu.driverVersion: 999.1 is not among the drivers known for GU8TF (550.90.07)",
        ),
        (
            {"qos": "best-effort", "request_seconds": 256},
            "deployment.inference.lifecycle.requestSeconds: ACS evicts best-effort pods with 300 s notice, so requests "
            "are cut off after 255 of 256 s then",
        ),
        (
            {"series": "P16EN", "cards": 16, "resource": NVIDIA},
            "deployment.inference.gpu.resource: cards of series P16EN are counted as alibabacloud.com/ppu, so a pod",
        ),
    ],
)
def test_each_warning(changes: dict[str, Any], warning: str) -> None:
    (found,) = pod_warnings(changed(**changes))
    assert found.startswith(warning)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        *({"series": series, "compute_class": "gpu-hpn"} for series in ("GU8TF", "GU8TEF", "GX8SF", "P16EN")),
        {"series": "GN8IS", "compute_class": "gpu-hpn", "rdma": False},
        {"request_seconds": 9000},
        {"qos": "best-effort", "request_seconds": 255},
        {"driver_version": "550.90.07"},
        {"resource": NVIDIA},
        {"series": "NEW1", "rdma": False, "resource": "a.b/c"},
    ],
)
def test_no_warning(changes: dict[str, Any]) -> None:
    assert pod_warnings(changed(**changes)) == []


def test_large_pods_without_gpus_need_a_ticket() -> None:
    (warning,) = ticket_warnings("deployment.x", cpu=17, memory_gib=1)
    assert warning == "deployment.x: pods without GPUs and with more than 16 vCPU or 128 GiB need a ticket"
    assert ticket_warnings("deployment.x", cpu=1, memory_gib=128.5)
    assert not ticket_warnings("deployment.x", cpu=16, memory_gib=128)


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


def test_rows_agree_with_the_catalogue_of_series() -> None:
    assert pod_series().keys() == gpu_series().keys()
    for name, row in pod_series().items():
        series = gpu_series()[name]
        assert set(series.rdma_cards) | row.ephemeral_gib.keys() <= set(series.cards)
        assert bool(series.rdma_cards) == (row.nic is not None)
        assert row.drivers
        assert all(gib > FREE_EPHEMERAL_GIB for gib in row.ephemeral_gib.values())
