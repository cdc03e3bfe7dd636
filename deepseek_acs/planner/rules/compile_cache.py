"""The cache of compiled code."""

from collections.abc import Iterator
from ipaddress import ip_network

from deepseek_acs.planner.compiled import HELPER_CPU, HELPER_GIB, VARIABLES, reason_for_nothing
from deepseek_acs.planner.findings import Field
from deepseek_acs.planner.rules.rule import VLLM, Problem, rule, warning
from deepseek_acs.planner.spec import ResolvedSpec

OSS_INTERNAL = "100.64.0.0/10"
"""Where the internal addresses of OSS are in all regions
(https://help.aliyun.com/en/oss/user-guide/internal-endpoints-of-oss-buckets-and-vip-ranges)."""


@rule(f"{VLLM}/envs.py")
def compile_cache_variables(spec: ResolvedSpec) -> Iterator[Problem]:
    """The folders of compiled code have one owner."""
    if not spec.engine.compile_cache:
        return
    for field, names in ((Field.ENV, spec.engine.env), (Field.SECRET_ENV, spec.engine.secret_env)):
        for name in VARIABLES:
            if name in names:
                yield (
                    field,
                    f"{name} is set, and so is {Field.COMPILE_CACHE}, which sets it as well",
                    "remove one of them",
                )


@rule("docs/compile-cache.md")
def compile_cache_fits(spec: ResolvedSpec) -> Iterator[Problem]:
    """The container that saves compiled code leaves room for the engine."""
    pod, storage = spec.pod, spec.storage
    others_cpu, others_gib = (
        (storage.sidecar_cpu, storage.sidecar_memory_mib / 1024) if storage.kind == "fluid" else (0, 0)
    )
    free_cpu, free_gib = pod.cpu - others_cpu, pod.memory_gib - pod.shared_memory_gib - others_gib
    if spec.engine.compile_cache and (free_cpu <= HELPER_CPU or free_gib <= HELPER_GIB):
        yield (
            Field.COMPILE_CACHE,
            f"its container takes {HELPER_CPU} vCPU and {HELPER_GIB} GiB of a pod, of which {free_cpu} vCPU and "
            f"{free_gib:g} GiB are left for the engine",
            f"write larger {Field.POD}, or remove it",
        )


@warning("docs/compile-cache.md")
def compile_cache_has_content(spec: ResolvedSpec) -> Iterator[Problem]:
    """The engine compiles something that is worth keeping."""
    engine = spec.engine
    if not engine.compile_cache:
        return
    reason = reason_for_nothing(engine.arguments, engine.env, eager=engine.enforce_eager, is_v0=engine.vllm.is_v0)
    if reason is not None:
        eager = f"{Field.ENFORCE_EAGER}: false" if engine.enforce_eager else "what the engine needs to compile"
        yield (
            Field.COMPILE_CACHE,
            f"{reason}, so there is nothing of torch.compile to keep, but kernels of Triton and DeepGEMM at most",
            f"write {eager}, or remove it",
        )


@warning("docs/compile-cache.md")
def compile_cache_identity(spec: ResolvedSpec) -> Iterator[Problem]:
    """The pods get a key of their own for compiled code."""
    if spec.engine.compile_cache and spec.weights.identity.kind == "accessKey":
        yield (
            Field.COMPILE_CACHE,
            "with an identity of kind accessKey, the given AccessKey is in the engine's pods, with all of its rights",
            f"write {Field.IDENTITY} ramUser or rrsa, by which the pods may write their cache and nothing else",
        )


@warning("https://help.aliyun.com/en/oss/user-guide/internal-endpoints-of-oss-buckets-and-vip-ranges")
def compile_cache_reaches_oss(spec: ResolvedSpec) -> Iterator[Problem]:
    """Network policies let the pods reach OSS."""
    policy = spec.security.network_policy
    closed = policy.egress.closed_cidrs if policy and policy.egress else ()
    if not spec.engine.compile_cache or spec.cloud.endpoint is not None:
        return
    for cidr in closed:
        if ip_network(cidr).overlaps(ip_network(OSS_INTERNAL)):
            yield (
                Field.EGRESS,
                f"it closes {cidr}, and the pods reach OSS at addresses in {OSS_INTERNAL} for {Field.COMPILE_CACHE}",
                "close a smaller network, or check that no address of OSS is in it",
            )
