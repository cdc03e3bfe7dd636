"""Limits of ACS and of the LeaderWorkerSet on pods that a layout depends on. ``rules/acs.py`` has the other rules of
ACS."""

import difflib
import math
from collections.abc import Iterator, Mapping

from deepseek_acs.planner import catalogue
from deepseek_acs.planner.findings import Field
from deepseek_acs.planner.rules.rule import ACS_PODS, Problem, rule, warning
from deepseek_acs.planner.spec import ResolvedSpec
from deepseek_acs.planner.vllm_releases.release import changed_in, has_argument, text

HOST_GIB_PER_GPU = 16
"""Memory of the pod for one GPU, beyond shared memory, below which loading has been seen to fail: 4.7 GiB were measured
for a worker (https://github.com/HabanaAI/vllm-fork/issues/809), besides the API server, Ray and pinned buffers."""


@warning(ACS_PODS)
def series_known(spec: ResolvedSpec) -> Iterator[Problem]:
    """The GPU series is in the catalogue. This is a warning, because the cloud adds series faster than this program."""
    gpu = spec.gpu
    if gpu.row:
        return
    if gpu.stated_gib is not None:
        sized = f"the plan uses the given {gpu.stated_gib:g} GiB"
    elif gpu.device:
        sized = f"the plan uses the figures of {gpu.device.name}"
    else:
        sized = f"without {Field.GPU_MEMORY_GIB}, the memory of one GPU, nothing is planned"
    near = [name for name, row in catalogue.gpu_series().items() if row.gpu == gpu.series]
    near += difflib.get_close_matches(gpu.series, catalogue.gpu_series(), n=1)
    yield (
        Field.SERIES,
        f"{gpu.series} is not in deepseek_acs/planner/gpu_series.toml; it is passed to ACS without a check; {sized}",
        f"{f'did you mean {near[0]}? Otherwise check' if near else 'check'} the name with your account manager",
    )


@rule(ACS_PODS, mended_by_layout=True)
def gpus_per_pod(spec: ResolvedSpec) -> Iterator[Problem]:
    """ACS offers pods of the series with this number of GPUs."""
    row, count = spec.gpu.row, spec.layout.gpus_per_pod
    if row and count not in row.gpus_per_pod:
        yield (
            Field.GPUS_PER_POD,
            f"ACS rejects a pod with {count} GPUs of series {row.name}",
            f"write one of {', '.join(map(str, row.gpus_per_pod))}",
        )


@rule(ACS_PODS)
def pod_size(spec: ResolvedSpec) -> Iterator[Problem]:
    """ACS offers a pod of the series that is large enough."""
    legal, pod = spec.pods_of_acs, spec.pod
    if legal and not any(cpu >= pod.cpu and max(sizes) >= pod.memory_gib for cpu, sizes in legal.items()):
        yield (
            Field.POD,
            f"ACS offers no pod with {spec.layout.gpus_per_pod} GPUs of series {spec.gpu.series}, {pod.cpu} vCPUs and "
            f"{pod.memory_gib:g} GiB",
            f"choose from: {_sizes(legal)}",
        )


@warning(ACS_PODS)
def pod_rounded(spec: ResolvedSpec) -> Iterator[Problem]:
    """The pod has a size that ACS offers. ACS rounds any other up to the next one, and bills that."""
    pod = spec.pod
    fitting = [
        (cpu, size)
        for cpu, sizes in spec.pods_of_acs.items()
        if cpu >= pod.cpu
        for size in sizes
        if size >= pod.memory_gib
    ]
    if fitting and (pod.cpu, pod.memory_gib) not in fitting:
        cpu, memory = min(fitting)
        yield (
            Field.POD,
            f"{pod.cpu} vCPUs and {pod.memory_gib:g} GiB are not a size that ACS offers; it rounds up to {cpu} vCPUs "
            "and "
            f"{memory} GiB and bills that",
            "write the size that is billed",
        )


def _sizes(legal: Mapping[int, tuple[int, ...]]) -> str:
    return "; ".join(f"{cpu} vCPUs with {', '.join(map(str, sizes))} GiB" for cpu, sizes in legal.items())


@rule("https://kubernetes.io/docs/concepts/storage/volumes/#emptydir")
def shared_memory(spec: ResolvedSpec) -> Iterator[Problem]:
    """Shared memory is part of the pod's memory."""
    pod = spec.pod
    if pod.shared_memory_gib >= pod.memory_gib:
        yield (
            Field.POD,
            f"{pod.shared_memory_gib:g} GiB of shared memory leave nothing of the pod's {pod.memory_gib:g} GiB of "
            "memory, which include them",
            "write less sharedMemory than memory; the guide uses 4 GiB and 64 GiB per GPU",
        )


@rule("https://www.alibabacloud.com/help/en/cs/user-guide/pod-hpn-type-rdma", mended_by_layout=True)
def rdma(spec: ResolvedSpec) -> Iterator[Problem]:
    """Only whole-machine pods of some series support RDMA. Pods on a capacity reservation support it with any number of
    GPUs."""
    row, count = spec.gpu.row, spec.layout.gpus_per_pod
    if spec.network != "rdma" or spec.gpu.compute_class != "gpu" or row is None or count in row.rdma_gpus_per_pod:
        return
    legal = " or ".join(map(str, row.rdma_gpus_per_pod))
    standard = f"{Field.NETWORK}: standard"
    if legal:
        yield (
            Field.NETWORK,
            f"ACS supports RDMA for series {row.name} only with {legal} GPUs per pod, not with {count}",
            f"write {Field.GPUS_PER_POD}: {legal}, or {standard}",
        )
    else:
        series = ", ".join(name for name, other in catalogue.gpu_series().items() if other.rdma_gpus_per_pod)
        yield (
            Field.NETWORK,
            f"ACS does not support RDMA for series {row.name}",
            f"choose one of the series {series}, or write {standard}",
        )


@warning("https://help.aliyun.com/en/cs/user-guide/acs-ai-container-image-version-release-record/")
def image_hardware(spec: ResolvedSpec) -> Iterator[Problem]:
    """The image is built for the series' hardware."""
    image, series = spec.engine.image, spec.gpu.series
    if (series == "P16EN") != ("-xpu-" in image):
        needs = "an inference-xpu image" if series == "P16EN" else "an image for NVIDIA GPUs"
        yield (
            Field.IMAGE,
            f"series {series} needs {needs}, which {image} does not seem to be",
            "choose one from ACS's list of images",
        )


@rule("https://lws.sigs.k8s.io/docs/concepts/rollout-strategy/", mended_by_layout=True)
def available_gpus(spec: ResolvedSpec) -> Iterator[Problem]:
    """All replicas, and those that an update adds, fit on the available GPUs."""
    available, each = spec.gpu.available, spec.layout.pods * spec.layout.gpus_per_pod
    most, surge = spec.replicas.most, spec.rollout.max_surge
    needed = (most + surge) * each
    if available is None or needed <= available:
        return
    lower = "replicas" if spec.replicas.scaler is None else "scaling's maximum"
    yield (
        Field.AVAILABLE,
        f"{most} replicas and {surge} more during an update need {needed} GPUs, and {available} are available",
        f"lower {lower} or maxSurge; each group needs {each} GPUs"
        if each <= available
        else f"a single group needs {each}: choose a smaller layout, or correct the number of available GPUs",
    )


@rule("https://docs.vllm.ai/en/stable/features/kv_offloading_usage/")
def kv_offload(spec: ResolvedSpec) -> Iterator[Problem]:
    """The engine can offload its cache, and the pods have the memory for it."""
    engine, pod, gpus = spec.engine, spec.pod, spec.layout.gpus_per_pod
    size, version = engine.kv_offload_gib, engine.vllm.version
    if not size or not has_argument(version, "--kv-offloading-size"):
        # The rule about features names versions without the argument.
        return
    if version < changed_in("kv_offloading_sized"):
        yield (
            Field.KV_OFFLOAD,
            f"{engine.vllm.name} does not start with it, because it does not pass the size on (num_cpu_blocks must be "
            "specified)",
            f"use an image with vLLM {text(changed_in('kv_offloading_sized'))} or newer, or remove it",
        )
        return
    needed = spec.shared_memory_needed_gib
    if pod.shared_memory_gib < needed:
        yield (
            Field.KV_OFFLOAD,
            f"{engine.vllm.name} has all {size:g} GiB in /dev/shm of each pod, which has {pod.shared_memory_gib:g} GiB "
            f"for them and for {gpus} GPUs",
            f"write {Field.POD}.sharedMemory: {needed:g}Gi, or less here",
        )
        return
    least = pod.shared_memory_gib + spec.private_offload_gib + HOST_GIB_PER_GPU * gpus
    if pod.memory_gib < least:
        yield (
            Field.KV_OFFLOAD,
            f"a pod has {pod.memory_gib:g} GiB of memory, and needs {least:g} GiB: "
            f"{pod.shared_memory_gib + spec.private_offload_gib:g} GiB with the offloaded cache, and "
            f"{HOST_GIB_PER_GPU} GiB for the processes of each of {gpus} GPUs",
            f"write {Field.POD}.memory: {math.ceil(least)}Gi or more, or less here",
        )


@warning("https://docs.vllm.ai/en/stable/features/kv_offloading_usage/")
def kv_offload_prefixes(spec: ResolvedSpec) -> Iterator[Problem]:
    """Offloaded cache can be found again."""
    if spec.engine.kv_offload_gib and "--no-enable-prefix-caching" in spec.engine.arguments:
        yield (
            Field.KV_OFFLOAD,
            "without the cache of prefixes no request finds what was offloaded",
            f"remove it, or {Field.PREFIX_CACHING}: false",
        )


@warning("https://github.com/vllm-project/vllm/issues/12756")
def host_memory(spec: ResolvedSpec) -> Iterator[Problem]:
    """Beyond shared memory, the pod has memory for the processes of its GPUs while they load."""
    pod, gpus = spec.pod, spec.layout.gpus_per_pod
    rest = (pod.memory_gib - pod.shared_memory_gib) / gpus
    if 0 < rest < HOST_GIB_PER_GPU and not spec.engine.kv_offload_gib:
        yield (
            Field.POD,
            f"{pod.memory_gib:g} GiB without shared memory are {rest:.1f} GiB for each of {gpus} GPUs; below "
            f"{HOST_GIB_PER_GPU} GiB, processes may be killed while they load",
            "write more memory; the guide has 64 GiB per GPU",
        )
