"""What ACS refuses, said before it does: compute class, storage, ports, drivers; and what OSS gives. Cards, sizes and
RDMA, on which the layout depends, are in ``rules/``. All of them by source: docs/acs.md.

Each rule is one function with its source. Rules about a series hold for those of ``pods.toml``; what is not listed
there is passed on with a warning, because the cloud adds models faster than this program.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from planner.catalogue import gpu_series
from planner.findings import Finding
from planner.pods import pod_series, resource_name
from planner.shutdown import drain_seconds

GPU, GPU_HPN = "gpu", "gpu-hpn"
"""Compute classes with GPUs: on demand, and on a GPU-HPN capacity reservation bound to the cluster
(https://www.alibabacloud.com/help/en/cs/user-guide/gpu-hpn-capacity-reservation)."""

GPU_HPN_QOS = "default"
"""https://www.alibabacloud.com/help/en/cs/user-guide/acs-pod-instance-overview"""

GPU_HPN_CARDS = (1, 2, 4, 8, 16)
"""Numbers of cards of a GPU-HPN pod, with RDMA or without
(https://www.alibabacloud.com/help/en/cs/user-guide/pod-hpn-type-rdma)."""

FREE_EPHEMERAL_GIB = 30
"""Ephemeral storage of every pod, unpacked image included, before extra is paid for
(https://www.alibabacloud.com/help/en/cs/user-guide/increase-temporary-storage-size)."""

RESERVED_PORTS = (111, 10250, 10255)
"""Ports that no container may listen on (https://www.alibabacloud.com/help/en/cs/user-guide/acs-pod-instance-overview)."""

BEST_EFFORT = "best-effort"
EVICTION_NOTICE_SECONDS = 300
"""Notice before a best-effort pod is evicted by force
(https://www.alibabacloud.com/help/en/cs/user-guide/acs-pod-instance-overview)."""

PLAIN_CPU, PLAIN_MEMORY_GIB = 16, 128
"""Largest pod without GPUs that needs no ticket
(https://www.alibabacloud.com/help/en/cs/user-guide/acs-pod-instance-overview)."""


OSS_GBITS = {
    "cn-hangzhou": 100,
    "cn-shanghai": 100,
    "cn-shenzhen": 100,
    "cn-beijing": 100,
    "ap-southeast-1": 100,
    "cn-zhangjiakou": 20,
}
"""What all clients of an account read from OSS within a region, in Gbit/s
(https://help.aliyun.com/zh/oss/user-guide/limits)."""

OSS_GBITS_MAINLAND, OSS_GBITS_ELSEWHERE = 10, 5
"""The same in regions of mainland China that are not listed, and in all others."""


@dataclass(frozen=True, kw_only=True)
class PodChoices:
    """What the user chose for the GPU pods, as far as ACS has rules for it. ``resource`` and ``driver_version`` are
    None for the series' own; ``extra_ephemeral_gib`` is in GiB, on top of the free storage; ``request_seconds`` is the
    longest request that a pod is to finish before it ends, None if there is no such promise."""

    series: str
    cards: int
    compute_class: str
    qos: str
    rdma: bool
    resource: str | None
    driver_version: str | None
    extra_ephemeral_gib: int
    port: int
    request_seconds: int | None


def pod_findings(choices: PodChoices) -> list[Finding]:
    """What ACS would refuse."""
    return [
        *_series(choices),
        *_qos(choices),
        *_hpn_cards(choices),
        *_ephemeral_storage(choices),
        *_port(choices),
    ]


def pod_warnings(choices: PodChoices) -> list[str]:
    """What could not be checked, or is unusual."""
    return [
        *_unchecked_rdma(choices),
        *_unlisted_driver(choices),
        *_unusual_resource(choices),
        *_short_notice(choices),
    ]


def ticket_warnings(path: str, *, cpu: int, memory_gib: float) -> list[str]:
    """About a pod without GPUs, set at ``path``, with so many vCPUs and so much memory in GiB."""
    if cpu <= PLAIN_CPU and memory_gib <= PLAIN_MEMORY_GIB:
        return []
    return [f"{path}: pods without GPUs and with more than {PLAIN_CPU} vCPU or {PLAIN_MEMORY_GIB} GiB need a ticket"]


def oss_gbits(region: str) -> int:
    """What an account reads from OSS within ``region``, in Gbit/s."""
    mainland = region.startswith("cn-") and region != "cn-hongkong"
    return OSS_GBITS.get(region, OSS_GBITS_MAINLAND if mainland else OSS_GBITS_ELSEWHERE)


def oss_warnings(path: str, *, region: str, mib_s: int, clients: int = 1) -> list[str]:
    """About ``clients`` that each are to read ``mib_s`` MiB/s from OSS at once, set at ``path``."""
    limit = oss_gbits(region)
    possible = int(limit * 1e9 / 8 / 2**20 / max(clients, 1))
    if mib_s <= possible:
        return []
    each = f"{clients} pods that start together get {possible}" if clients > 1 else f"that is {possible} at most"
    return [
        f"{path}: {mib_s} MiB/s is more than OSS gives: an account has {limit} Gbit/s in {region}, and {each}; write "
        "that, so that loading is given the time that it takes"
    ]


def _series(choices: PodChoices) -> Iterator[Finding]:
    """One that is certainly misspelt. Names of cards are not: Alibaba Cloud's own templates have H20 for a series."""
    meant = {name.upper(): name for name in gpu_series()}.get(choices.series.upper())
    if meant not in (None, choices.series):
        yield Finding(
            path="deployment.inference.gpu.series",
            problem=f"there is no series {choices.series}; case counts",
            fix=f"write {meant}",
        )


def _qos(choices: PodChoices) -> Iterator[Finding]:
    if choices.compute_class == GPU_HPN and choices.qos != GPU_HPN_QOS:
        yield Finding(
            path="deployment.inference.qos",
            problem=f"compute class gpu-hpn knows only the quality of service {GPU_HPN_QOS}, not {choices.qos}",
            fix=f"write {GPU_HPN_QOS}, or deployment.inference.gpu.computeClass: gpu",
        )


def _hpn_cards(choices: PodChoices) -> Iterator[Finding]:
    if choices.compute_class == GPU_HPN and choices.cards not in GPU_HPN_CARDS:
        yield Finding(
            path="deployment.inference.gpu.cards",
            problem=f"compute class gpu-hpn has no pod with {choices.cards} cards",
            fix=f"write one of {_listed(GPU_HPN_CARDS)}",
        )


def _ephemeral_storage(choices: PodChoices) -> Iterator[Finding]:
    series = pod_series().get(choices.series)
    most = series.ephemeral_gib.get(choices.cards) if series else None
    if most is not None and FREE_EPHEMERAL_GIB + choices.extra_ephemeral_gib > most:
        yield Finding(
            path="deployment.inference.resources.extraEphemeralStorage",
            problem=(
                f"{choices.extra_ephemeral_gib} GiB and the free {FREE_EPHEMERAL_GIB} GiB are more than the {most} GiB "
                f"that a pod with {choices.cards} cards of series {choices.series} may have"
            ),
            fix=f"write at most {most - FREE_EPHEMERAL_GIB}Gi",
        )


def _port(choices: PodChoices) -> Iterator[Finding]:
    if choices.port in RESERVED_PORTS:
        yield Finding(
            path="deployment.inference.engine.port",
            problem=f"ACS keeps the ports {_listed(RESERVED_PORTS)} for itself",
            fix="write another port, for example 8000",
        )


def _unchecked_rdma(choices: PodChoices) -> Iterator[str]:
    """Where no network card is known: of a series that is not listed, or that has RDMA by a capacity reservation only,
    whose card follows from the model (https://www.alibabacloud.com/help/en/cs/user-guide/pod-hpn-type-rdma)."""
    series = pod_series().get(choices.series)
    if not choices.rdma or (series and series.nic):
        return
    unknown = "the type of the RDMA network card of" if series else "whether ACS has RDMA for"
    yield (
        f"deployment.inference.network: {unknown} {choices.series} is not in planner/pods.toml; it is asked for "
        "unchecked, with the variables for mlx5 cards (deployment.inference.engine.env changes them)"
    )


def _unlisted_driver(choices: PodChoices) -> Iterator[str]:
    series = pod_series().get(choices.series)
    if series and choices.driver_version and choices.driver_version not in series.drivers:
        yield (
            f"deployment.inference.gpu.driverVersion: {choices.driver_version} is not among the drivers known for "
            f"{choices.series} ({_listed(series.drivers)}); it is passed to ACS unchecked"
        )


def _unusual_resource(choices: PodChoices) -> Iterator[str]:
    usual = resource_name(choices.series)
    if choices.series in pod_series() and choices.resource not in (None, usual):
        yield (
            f"deployment.inference.gpu.resource: cards of series {choices.series} are counted as {usual}, so a pod "
            f"that asks for {choices.resource} may find none"
        )


def _short_notice(choices: PodChoices) -> Iterator[str]:
    left = drain_seconds(EVICTION_NOTICE_SECONDS)
    if choices.qos == BEST_EFFORT and choices.request_seconds is not None and choices.request_seconds > left:
        yield (
            f"deployment.inference.lifecycle.requestSeconds: ACS evicts {BEST_EFFORT} pods with "
            f"{EVICTION_NOTICE_SECONDS} s notice, so requests are cut off after {left} of {choices.request_seconds} s "
            "then; qos: default is not evicted"
        )


def _listed(values: object) -> str:
    return ", ".join(map(str, values))  # type: ignore[call-overload]
