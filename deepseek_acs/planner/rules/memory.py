"""What must fit into the memory of every GPU."""

from collections.abc import Iterator

from deepseek_acs.planner.activation import GIB
from deepseek_acs.planner.findings import Field
from deepseek_acs.planner.memory import Memory, Verdict
from deepseek_acs.planner.rules.engine import is_too_long
from deepseek_acs.planner.rules.rule import OTHER_LAYOUTS, VLLM, Problem, rule, warning
from deepseek_acs.planner.spec import ResolvedSpec
from deepseek_acs.planner.vllm import Engine
from deepseek_acs.planner.vllm_releases.release import changed_in, text


@rule(f"{VLLM}/v1/core/kv_cache_planning.py", mended_by_layout=True)
def memory(spec: ResolvedSpec) -> Iterator[Problem]:
    """On every GPU, the weights and the engine leave enough KV cache for one request of full length."""
    found = spec.memory
    # Another rule reports a request longer than the context; that it does not fit would only repeat it.
    if found is None or found.verdict is not Verdict.DOES_NOT_FIT or is_too_long(spec) or spec.uncounted.changes:
        return
    stage, engine = found.tightest, spec.engine.vllm
    is_asked = found.asked_bytes > 0 and found.tokens[2] >= found.max_model_len
    whole = f", because {engine.name} asks every GPU for the cache of all layers" if is_asked else ""
    newer = f"use an image with vLLM {text(changed_in('stages_ask_for_own'))} or newer, or " if is_asked else ""
    yield (
        Field.GROUP,
        f"{spec.model.name} does not fit: of {found.usable_gib:.1f} GiB on the tightest GPU, weights take "
        f"{stage.weights_gib:.1f}; at most {max(0.0, stage.cache.high):.1f} GiB are left for the cache, and one "
        f"request of {found.max_model_len:,} tokens needs {found.needed_bytes / GIB:.2f}{whole}; vLLM: "
        f"{_said(found, engine)}",
        newer + OTHER_LAYOUTS,
    )


def _said(found: Memory, engine: Engine) -> str:
    """What vLLM writes to its log in this case."""
    stage, length, tokens = found.tightest, found.max_model_len, found.tokens[2]
    available, needed = stage.cache.high, found.needed_bytes / GIB
    model = "models's" if engine.version < changed_in("message_of_memory") else "model's"
    if available <= 0 or tokens == 0:
        return "No available memory for the cache blocks. Try increasing `gpu_memory_utilization`"
    if tokens >= length and engine.is_v0:
        share = tokens // found.virtual_engines
        return f"nothing, but each of its {found.virtual_engines} virtual engines has {share:,} tokens"
    if engine.is_v0:
        return (
            f"The model's max seq len ({length}) is larger than the maximum number of tokens that can be stored in KV "
            f"cache ({tokens})"
        )
    return (
        f"To serve at least one request with the {model} max seq len ({length}), ({needed:.2f} GiB KV cache is "
        f"needed, which is larger than the available KV cache memory ({available:.2f} GiB)"
    )


@rule(f"{VLLM}/v1/worker/gpu_worker.py", mended_by_layout=True)
def memory_bound(spec: ResolvedSpec) -> Iterator[Problem]:
    """The model's files are smaller than the memory of its GPUs."""
    if spec.memory is not None or spec.gpu.device is None or spec.uncounted.changes:
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
    needed = found.max_model_len * found.virtual_engines
    if low >= needed and found.surely_has_asked:
        return
    stage = found.tightest
    problem = f"{low:,} to {high:,} tokens of cache, {needed:,} are needed"
    if low >= needed:
        problem = (
            f"{stage.cache.low:.2f} to {stage.cache.high:.2f} GiB of cache on a GPU, and {spec.engine.vllm.name} asks "
            f"every GPU for the {found.needed_bytes / GIB:.2f} that one request needs in all layers"
        )
    yield (
        Field.GROUP,
        f"too close to tell whether it fits: {problem}",
        f"lower {Field.MAX_MODEL_LEN}, or {OTHER_LAYOUTS}",
    )


@warning("docs/planner.md")
def memory_as_counted(spec: ResolvedSpec) -> Iterator[Problem]:
    """What is not counted is not needed to make it fit."""
    found = spec.memory
    if found is None or found.verdict is not Verdict.DOES_NOT_FIT or not spec.uncounted.changes or is_too_long(spec):
        return
    yield (
        Field.GROUP,
        f"{spec.model.name} does not fit by what the plan includes; {spec.uncounted.changes[0]} is not included and "
        "may change that",
        "check the figures in the engine's log at its first start",
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
