"""What ACS rejects or changes, beyond what a layout depends on: compute class, storage, ports, drivers.

Rules about a series apply to those in ``gpu_series.toml``. A series that is not listed there is passed on with a
warning, because the cloud adds series faster than this program."""

from collections.abc import Iterable, Iterator

from deepseek_acs.planner.acs import (
    BEST_EFFORT,
    EVICTION_NOTICE_SECONDS,
    FREE_EPHEMERAL_GIB,
    GPU_HPN,
    GPU_HPN_QOS,
    HPN_GPUS_PER_POD,
    PLAIN_CPU,
    PLAIN_MEMORY_GIB,
    RESERVED_PORTS,
)
from deepseek_acs.planner.catalogue import gpu_series, resource_name
from deepseek_acs.planner.findings import Field
from deepseek_acs.planner.rules.rule import ACS_PODS, Problem, rule, warning
from deepseek_acs.planner.shutdown import drain_seconds
from deepseek_acs.planner.spec import ResolvedSpec
from deepseek_acs.planner.vllm_releases.release import changed_in

CUDA_COMPATIBILITY = "https://docs.nvidia.com/deploy/cuda-compatibility/"

CUDA_13_DRIVER = 580
OLDEST_DRIVER = 400
"""Major versions of NVIDIA's driver: the first for CUDA 13, and a lower bound of its version numbers."""


@rule("https://www.alibabacloud.com/help/en/cs/user-guide/pod-gpu-model-and-driver-version")
def series_spelling(spec: ResolvedSpec) -> Iterator[Problem]:
    """A series is spelled as ACS spells it. Names of GPUs are accepted: Alibaba Cloud's templates use H20 as one."""
    series = spec.gpu.series
    meant = {name.upper(): name for name in gpu_series()}.get(series.upper())
    if meant not in (None, series):
        yield Field.SERIES, f"there is no series {series}; names are case-sensitive", f"write {meant}"


@rule(ACS_PODS)
def hpn_qos(spec: ResolvedSpec) -> Iterator[Problem]:
    """Compute class gpu-hpn supports one quality of service only."""
    if spec.gpu.compute_class == GPU_HPN and spec.qos != GPU_HPN_QOS:
        yield (
            Field.QOS,
            f"compute class gpu-hpn supports only quality of service {GPU_HPN_QOS}, not {spec.qos}",
            f"write {GPU_HPN_QOS}, or {Field.COMPUTE_CLASS}: gpu",
        )


@rule("https://www.alibabacloud.com/help/en/cs/user-guide/pod-hpn-type-rdma")
def hpn_gpus_per_pod(spec: ResolvedSpec) -> Iterator[Problem]:
    """Pods of compute class gpu-hpn have a number of GPUs that ACS supports, with RDMA or without."""
    if spec.gpu.compute_class == GPU_HPN and spec.layout.gpus_per_pod not in HPN_GPUS_PER_POD:
        yield (
            Field.GPUS_PER_POD,
            f"compute class gpu-hpn has no pod with {spec.layout.gpus_per_pod} GPUs",
            f"write one of {_listed(HPN_GPUS_PER_POD)}",
        )


@rule("https://www.alibabacloud.com/help/en/cs/user-guide/increase-temporary-storage-size")
def ephemeral_storage(spec: ResolvedSpec) -> Iterator[Problem]:
    """Ephemeral storage beyond the free 30 GiB has a limit per series and number of GPUs."""
    series, gpus_per_pod, extra = gpu_series().get(spec.gpu.series), spec.layout.gpus_per_pod, spec.extra_ephemeral_gib
    most = series.ephemeral_gib.get(gpus_per_pod) if series else None
    if most is not None and FREE_EPHEMERAL_GIB + extra > most:
        yield (
            Field.EXTRA_EPHEMERAL,
            f"{extra} GiB and the free {FREE_EPHEMERAL_GIB} GiB exceed the limit of {most} GiB for a pod with "
            f"{gpus_per_pod} GPUs of series {spec.gpu.series}",
            f"write at most {most - FREE_EPHEMERAL_GIB}Gi",
        )


@rule(ACS_PODS)
def reserved_ports(spec: ResolvedSpec) -> Iterator[Problem]:
    """No container listens on a port that ACS reserves."""
    if spec.engine.port in RESERVED_PORTS:
        yield (
            Field.PORT,
            f"ACS reserves the ports {_listed(RESERVED_PORTS)}",
            "write another port, for example 8000",
        )


@warning("https://www.alibabacloud.com/help/en/cs/user-guide/pod-hpn-type-rdma")
def known_network_card(spec: ResolvedSpec) -> Iterator[Problem]:
    """The RDMA network card of the series is known. A series that has RDMA only by a capacity reservation has none."""
    series = gpu_series().get(spec.gpu.series)
    if spec.network == "rdma" and not (series and series.nic):
        unknown = "the type of the RDMA network card of" if series else "whether ACS has RDMA for"
        yield (
            Field.NETWORK,
            f"{unknown} {spec.gpu.series} is not in deepseek_acs/planner/gpu_series.toml; RDMA is requested without a "
            "check, with the variables for mlx5 network cards",
            f"set {Field.ENV} if the network card needs others",
        )


@warning("https://www.alibabacloud.com/help/en/cs/user-guide/pod-gpu-model-and-driver-version")
def listed_driver(spec: ResolvedSpec) -> Iterator[Problem]:
    """The GPU driver is listed for the series."""
    series, driver = gpu_series().get(spec.gpu.series), spec.gpu.driver_version
    if series and driver and driver not in series.drivers:
        yield (
            Field.DRIVER,
            f"{driver} is not among the drivers known for {spec.gpu.series} ({_listed(series.drivers)}); it is passed "
            "to ACS without a check",
            "write one of these, or remove the setting",
        )


@warning(CUDA_COMPATIBILITY)
def cuda_driver(spec: ResolvedSpec) -> Iterator[Problem]:
    """The GPU driver is new enough for the CUDA version of the image."""
    series, version = gpu_series().get(spec.gpu.series), spec.engine.named_version
    driver = spec.gpu.driver_version or (series.drivers[0] if series and series.drivers else None)
    is_older = driver is not None and OLDEST_DRIVER <= int(driver.partition(".")[0]) < CUDA_13_DRIVER
    is_other = (
        any(build in spec.engine.image for build in ("cu12", "-cpu"))
        or spec.engine.env.get("VLLM_ENABLE_CUDA_COMPATIBILITY") == "1"
    )
    if version is not None and version >= changed_in("cuda_13") and is_older and not is_other:
        yield (
            Field.DRIVER,
            f"{spec.engine.vllm.name} is built with CUDA 13, which needs driver {CUDA_13_DRIVER} or newer, and "
            f"{spec.gpu.series} has {driver}",
            f"set VLLM_ENABLE_CUDA_COMPATIBILITY=1 in {Field.ENV}, which lets vLLM use NVIDIA's compatibility "
            "libraries of the image, or use an image for CUDA 12 (its tag ends in -cu129)",
        )


@warning("https://www.alibabacloud.com/help/en/cs/user-guide/acs-pod-instance-overview")
def usual_resource(spec: ResolvedSpec) -> Iterator[Problem]:
    """The GPUs are requested with the extended resource of the series."""
    series, usual = spec.gpu.series, resource_name(spec.gpu.series)
    if series in gpu_series() and spec.gpu.resource != usual:
        yield (
            Field.RESOURCE,
            f"ACS counts GPUs of series {series} as {usual}, so a pod that requests {spec.gpu.resource} may get none",
            "remove the setting",
        )


@warning(ACS_PODS)
def eviction_notice(spec: ResolvedSpec) -> Iterator[Problem]:
    """Requests finish within the notice period of an eviction."""
    left = drain_seconds(EVICTION_NOTICE_SECONDS)
    if spec.qos == BEST_EFFORT and spec.lifecycle and spec.lifecycle.request_seconds > left:
        yield (
            Field.REQUEST,
            f"ACS evicts {BEST_EFFORT} pods with {EVICTION_NOTICE_SECONDS} s notice, so requests are cut off after "
            f"{left} of {spec.lifecycle.request_seconds} s",
            f"write {Field.QOS}: default, whose pods are not evicted",
        )


@warning(ACS_PODS)
def pods_by_ticket(spec: ResolvedSpec) -> Iterator[Problem]:
    """Pods without GPUs have a size that ACS grants without a ticket."""
    upload = spec.weights.upload
    sizes = [(Field.UPLOAD, upload.cpu, upload.memory_gib)]
    if spec.cache:
        sizes.append((Field.STORAGE, spec.cache.cpu, spec.cache.memory_gib))
    if spec.verification and (benchmark := spec.verification.benchmark):
        sizes.append((Field.BENCHMARK, benchmark.cpu, benchmark.memory_gib))
    if spec.picker:
        sizes.append((Field.PICKER, spec.picker.cpu, spec.picker.memory_gib))
    for field, cpu, memory_gib in sizes:
        if cpu > PLAIN_CPU or memory_gib > PLAIN_MEMORY_GIB:
            yield (
                field,
                f"ACS grants pods without GPUs more than {PLAIN_CPU} vCPU or {PLAIN_MEMORY_GIB} GiB only after a "
                "ticket",
                "open one with Alibaba Cloud, or write a smaller size",
            )


def _listed(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))
