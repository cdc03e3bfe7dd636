"""Capacity and bandwidth of bucket and cache."""

from collections.abc import Iterator
from fnmatch import fnmatchcase

from deepseek_acs.planner.acs import oss_gbits
from deepseek_acs.planner.findings import Field
from deepseek_acs.planner.fluid import HIGH_WATERMARK, needed_workers
from deepseek_acs.planner.rules.rule import Problem, rule, warning
from deepseek_acs.planner.spec import ResolvedSpec

OSS_LIMITS = "https://help.aliyun.com/zh/oss/user-guide/limits"
RUNTIME = "https://www.alibabacloud.com/help/en/cs/user-guide/acs-pod-instance-overview"

USUAL_CPU, USUAL_GIB = 16, 128
"""vCPUs and memory of a worker, from the guide."""

NEEDED_FILES = {
    "configuration": ("config.json", "params.json"),
    "tokenizer": ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "tekken.json", "vocab.json"),
}
"""Of which one each is needed; the mover looks for the same."""

OSSFS_2 = frozenset(
    {
        "close_to_open",
        "log_dir",
        "log_level",
        "oss_bucket_prefix",
        "oss_endpoint",
        "oss_region",
        "readdirplus",
        "total_mem_limit",
        "upload_buffer_size",
        "upload_concurrency",
    }
)
"""Options that ossfs 2 has and ossfs 1, which the volume is mounted with, does not."""

READ_BY_OTHERS = 0o4

MANY = 2
"""Multiple of the usual number of workers from which on their size is probably a mistake."""


@rule("docs/access.md")
def cache_identity(spec: ResolvedSpec) -> Iterator[Problem]:
    """Fluid reads the bucket with an AccessKey."""
    if spec.cache and spec.weights.identity.kind == "rrsa":
        yield (
            Field.IDENTITY,
            "storage of kind fluid reads the bucket with an AccessKey, but the identity is rrsa",
            f"write ramUser or accessKey, or {Field.STORAGE_KIND}: csi",
        )


@rule(RUNTIME)
def sidecar_size(spec: ResolvedSpec) -> Iterator[Problem]:
    """The client of the cache runs in the GPU pod and leaves resources for the engine."""
    storage, pod = spec.storage, spec.pod
    if storage.kind != "fluid":
        return
    free_gib = pod.memory_gib - pod.shared_memory_gib
    if storage.sidecar_cpu >= pod.cpu or storage.sidecar_memory_mib / 1024 >= free_gib:
        yield (
            Field.STORAGE,
            f"the client of the cache takes {storage.sidecar_cpu} vCPU and {storage.sidecar_memory_mib / 1024:g} GiB "
            f"of a pod with {pod.cpu} vCPU and {pod.memory_gib:g} GiB, {pod.shared_memory_gib:g} GiB of it shared",
            f"write smaller {Field.SIDECAR_CPU} and {Field.SIDECAR_MEMORY}, or larger {Field.POD}",
        )


@rule("https://github.com/fluid-cloudnative/fluid/blob/master/docs/en/samples/tieredstore_config.md")
def cache_size(spec: ResolvedSpec) -> Iterator[Problem]:
    """The cache holds the model."""
    cache = spec.cache
    if cache is None:
        return
    total = cache.workers * cache.quota_gib
    if total * HIGH_WATERMARK < spec.model.weights_gib:
        yield (
            Field.CACHE_WORKERS,
            f"{cache.workers} workers cache {total} GiB (90% of their memory), which is less than the "
            f"{spec.model.weights_gib:.0f} GiB of the model: the preload would evict what it has just loaded",
            f"remove it, or write at least {cache.needed_workers}, or give each worker more memory",
        )


@warning("deepseek_acs/planner/fluid.py")
def cache_workers(spec: ResolvedSpec) -> Iterator[Problem]:
    """The cache has spare space, bandwidth for all pods, and workers of a sensible size."""
    cache, storage = spec.cache, spec.storage
    if cache is None or storage.kind != "fluid":
        return
    if cache.workers < cache.needed_workers:
        share = spec.model.weights_gib / (cache.workers * cache.quota_gib)
        yield (
            Field.CACHE_WORKERS,
            f"the model fills {share:.0%} of {cache.workers} workers",
            f"write {cache.needed_workers}, which have enough space and bandwidth",
        )
    mib_s = spec.replicas.most * spec.layout.pods * storage.throughput_mi_bps
    usual = needed_workers(weights_gib=spec.model.weights_gib, cpu=USUAL_CPU, memory_gib=USUAL_GIB, mib_s=mib_s)
    if storage.workers is None and cache.workers > MANY * usual:
        yield (
            Field.STORAGE,
            f"cpu and memory lead to {cache.workers} workers of {cache.cpu} vCPU and {cache.memory_gib} GiB",
            f"use {usual} workers of {USUAL_CPU} vCPU and {USUAL_GIB} GiB",
        )


@warning(OSS_LIMITS)
def oss_bandwidth(spec: ResolvedSpec) -> Iterator[Problem]:
    """OSS delivers what all pods, or all workers of a cache, read together."""
    storage, region = spec.storage, spec.cloud.region
    if storage.kind == "fluid":
        field, mib_s, clients = Field.PRELOAD, storage.preload_mi_bps, 1
    else:
        field, mib_s, clients = Field.THROUGHPUT, storage.throughput_mi_bps, spec.replicas.most * spec.layout.pods
    gbits = oss_gbits(region)
    possible = int(gbits * 1e9 / 8 / 2**20 / max(clients, 1))
    if mib_s > possible:
        each = f"{clients} pods that start together get {possible}" if clients > 1 else f"that is {possible} at most"
        yield (
            field,
            f"{mib_s} MiB/s is more than OSS delivers: an account has {gbits} Gbit/s in {region}, and {each}",
            f"write {possible}, so that the timeouts allow for the real load time",
        )


@rule("docs/weights.md")
def loadable_files(spec: ResolvedSpec) -> Iterator[Problem]:
    """The files that are moved have the model's configuration and tokenizer."""
    hub = spec.weights.hub
    if hub is None:
        return
    for what, names in NEEDED_FILES.items():
        is_taken = any(
            any(fnmatchcase(name, pattern) for pattern in hub.include or ("*",))
            and not any(fnmatchcase(name, pattern) for pattern in hub.exclude)
            for name in names
        )
        if not is_taken:
            yield (
                Field.WEIGHTS_SOURCE,
                f"include and exclude leave out the model's {what} ({', '.join(names)}), without which no engine loads "
                "it",
                f"let them take {names[0]}, or remove both: what serving needs is taken by default",
            )


@warning("docs/weights.md")
def planned_weights(spec: ResolvedSpec) -> Iterator[Problem]:
    """The weights that are moved are those of the model that is planned."""
    hub = spec.weights.hub
    if (
        hub is None
        or hub.repository == spec.model.name
        or spec.model.shapes is None
        or spec.model.stated_gib is not None
    ):
        return
    said = f", and a format other than {' or '.join(spec.quant_methods)}" if spec.quant_methods else ""
    yield (
        Field.WEIGHTS_SOURCE,
        f"the plan is that of {spec.model.name}, and the weights are those of {hub.repository}, whose format and size "
        f"are not known here; the Job that moves them refuses more than {spec.largest_gib:.4g} GiB{said}",
        f"write {hub.repository} as {Field.MODEL}, or give the size of its files as {Field.WEIGHTS_GIB}",
    )


@rule("https://www.alibabacloud.com/help/en/oss/developer-reference/description-of-mount-options")
def options_of_the_client(spec: ResolvedSpec) -> Iterator[Problem]:
    """Mount options are those of ossfs 1."""
    if spec.storage.kind != "csi":
        return
    unknown = [option for option in spec.storage.mount_options if option.partition("=")[0] in OSSFS_2]
    if unknown:
        yield (
            Field.MOUNT_OPTIONS,
            f"{', '.join(unknown)}: ossfs 2 has this option, and the volume is mounted with ossfs 1, which ends at it; "
            "the pods would wait for the volume until their time is over",
            "remove it",
        )


@rule("https://www.alibabacloud.com/help/en/oss/developer-reference/common-options")
def weights_are_readable(spec: ResolvedSpec) -> Iterator[Problem]:
    """An engine that is not root may read the weights."""
    pods = spec.security.pods
    if spec.storage.kind != "csi" or pods is None or not pods.run_as_user:
        return
    options = dict(option.partition("=")[::2] for option in spec.storage.mount_options)
    umask = options.get("umask", "")
    is_closed = bool(int(umask, 8) & READ_BY_OTHERS) if umask and set(umask) <= set("01234567") else False
    is_owner = options.get("uid") == str(pods.run_as_user)
    if "allow_other" not in options or (is_closed and not is_owner):
        what = f"umask={umask}" if "allow_other" in options else "no allow_other"
        yield (
            Field.MOUNT_OPTIONS,
            f"with {what} only root reads the weights, and the engine runs as {pods.run_as_user}",
            "write umask=022 and allow_other, the default, or remove runAsUser",
        )


@warning("https://github.com/fluid-cloudnative/fluid/issues/191")
def cache_is_readable(spec: ResolvedSpec) -> Iterator[Problem]:
    """An engine that is not root may read the cache."""
    pods = spec.security.pods
    if spec.cache and pods is not None and pods.run_as_user:
        yield (
            Field.POD_SECURITY,
            f"the engine runs as {pods.run_as_user}, and it was not verified that the cache's client lets others than "
            "root read",
            "try it with one group, or remove runAsUser",
        )
