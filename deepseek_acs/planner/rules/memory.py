"""What must fit into the memory of every GPU."""

from collections.abc import Iterator

from deepseek_acs.planner.activation import GIB
from deepseek_acs.planner.findings import Field
from deepseek_acs.planner.memory import Memory, Verdict
from deepseek_acs.planner.rules.engine import is_too_long
from deepseek_acs.planner.rules.rule import OTHER_LAYOUTS, VLLM, Problem, rule, warning
from deepseek_acs.planner.spec import ResolvedSpec


@rule(f"{VLLM}/v1/core/kv_cache_planning.py", mended_by_layout=True)
def memory(spec: ResolvedSpec) -> Iterator[Problem]:
    """On every GPU, the weights and the engine leave enough KV cache for one request of full length."""
    found = spec.memory
    # Another rule reports a request longer than the context; that it does not fit would only repeat it.
    if found is None or found.verdict is not Verdict.DOES_NOT_FIT or is_too_long(spec):
        return
    stage = found.tightest
    yield (
        Field.GROUP,
        f"{spec.model.name} does not fit: of {found.usable_gib:.1f} GiB on the tightest GPU, weights take "
        f"{stage.weights_gib:.1f}; at most {max(0.0, stage.cache.high):.1f} GiB are left for the cache, and one "
        f"request of {found.max_model_len:,} tokens needs {stage.pool.request_bytes / GIB:.2f}; vLLM: "
        f"{_said(found, is_v0=spec.engine.vllm.is_v0)}",
        OTHER_LAYOUTS,
    )


def _said(found: Memory, *, is_v0: bool) -> str:
    """What vLLM writes to its log in this case."""
    stage, length, tokens = found.tightest, found.max_model_len, found.tokens[2]
    available, needed = stage.cache.high, stage.pool.request_bytes / GIB
    if available <= 0 or tokens == 0:
        return "No available memory for the cache blocks. Try increasing `gpu_memory_utilization`"
    if tokens >= length:
        share = tokens // found.virtual_engines
        return f"nothing, but each of its {found.virtual_engines} virtual engines has {share:,} tokens"
    if is_v0:
        return (
            f"The model's max seq len ({length}) is larger than the maximum number of tokens that can be stored in KV "
            f"cache ({tokens})"
        )
    return (
        f"To serve at least one request with the model's max seq len ({length}), ({needed:.2f} GiB KV cache is "
        f"needed, which is larger than the available KV cache memory ({available:.2f} GiB)"
    )


@rule(f"{VLLM}/v1/worker/gpu_worker.py", mended_by_layout=True)
def memory_bound(spec: ResolvedSpec) -> Iterator[Problem]:
    """The model's files are smaller than the memory of its GPUs."""
    if spec.memory is not None or spec.gpu.device is None:
        return
    usable = spec.gpu.device.memory_gib * spec.engine.gpu_memory_utilization
    share = spec.model.weights_gib / spec.layout.gpus
    if share >= usable:
        yield (
            Field.GROUP,
            f"the weights alone need {share:.1f} GiB on each GPU, which has {usable:.1f} GiB usable",
            OTHER_LAYOUTS,
        )


@warning("docs/planner.md")
def memory_close(spec: ResolvedSpec) -> Iterator[Problem]:
    """Even the pessimistic estimate leaves enough KV cache for one request of full length."""
    found = spec.memory
    if found is None or found.verdict is not Verdict.TOO_CLOSE:
        return
    low, _, high = found.tokens
    if low >= found.max_model_len * found.virtual_engines:
        return
    yield (
        Field.GROUP,
        f"too close to tell whether it fits: {low:,} to {high:,} tokens of cache, "
        f"{found.max_model_len * found.virtual_engines:,} are needed",
        f"lower {Field.MAX_MODEL_LEN}, or {OTHER_LAYOUTS}",
    )


@warning("docs/planner.md")
def warm_up(spec: ResolvedSpec) -> Iterator[Problem]:
    """After the KV cache is allocated, enough memory is left to sample for all sequences."""
    found = spec.memory
    if found is None or found.warms_up or found.verdict is Verdict.DOES_NOT_FIT:
        return
    missing = -min(stage.warm_up.low for stage in found.stages)
    yield (
        Field.UTILIZATION,
        f"the engine may run out of memory when it warms up its sampler for {found.max_num_seqs:,} sequences: up to "
        f"{missing:.1f} GiB are missing outside gpuMemoryUtilization",
        "lower it, or limit the sequences by --max-num-seqs",
    )
