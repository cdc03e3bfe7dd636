"""What must fit on every GPU."""

from planner.case import Case
from planner.memory import GIB, Verdict
from planner.rules.rule import VLLM, Rule, Values


def _memory(case: Case) -> Values | None:
    memory = case.memory
    if memory is None or memory.verdict is not Verdict.DOES_NOT_FIT or case.model is None:
        return None
    stage = memory.tightest
    available, needed = stage.cache.high, stage.pool.request_bytes / GIB
    length, tokens = memory.max_model_len, memory.tokens[2]
    if available <= 0 or tokens == 0:
        said = "No available memory for the cache blocks. Try increasing `gpu_memory_utilization`"
    elif tokens >= length:
        share = tokens // memory.virtual_engines
        said = f"nothing, but each of its {memory.virtual_engines} virtual engines has {share:,} tokens"
    elif case.engine.is_v0:
        said = (
            f"The model's max seq len ({length}) is larger than the maximum number of tokens that can be stored in KV "
            f"cache ({tokens})"
        )
    else:
        said = (
            f"To serve at least one request with the model's max seq len ({length}), ({needed:.2f} GiB KV cache is "
            f"needed, which is larger than the available KV cache memory ({available:.2f} GiB)"
        )
    return {
        "model": case.model.name,
        "weights": stage.weights_gib,
        "usable": memory.usable_gib,
        "available": max(0.0, available),
        "length": length,
        "needed": needed,
        "said": said,
    }


def _memory_close(case: Case) -> Values | None:
    memory = case.memory
    if memory is None or memory.verdict is not Verdict.TOO_CLOSE:
        return None
    low, _, high = memory.tokens
    return {"low": low, "high": high, "length": memory.max_model_len * memory.virtual_engines}


def _memory_bound(case: Case) -> Values | None:
    if case.memory is not None or case.weights_gib is None or case.gpu is None:
        return None
    usable = case.gpu.memory_gib * case.choices.gpu_memory_utilization
    share = case.weights_gib / case.layout.gpus
    return {"share": share, "usable": usable} if share >= usable else None


MEMORY_RULES = (
    Rule(
        id="memory",
        statement="On every GPU, weights and the engine's needs leave cache for one request of full length.",
        source=f"{VLLM}/v1/core/kv_cache_planning.py",
        path="deployment.inference",
        problem="{model} does not fit: of {usable:.1f} GiB on the tightest GPU, weights take {weights:.1f}; at best "
        "{available:.1f} GiB are left for the cache, and one request of {length:,} tokens needs {needed:.2f}; "
        "vLLM: {said}",
        fix="{layouts}",
        check=_memory,
        mended_by_layout=True,
    ),
    Rule(
        id="memory-bound",
        statement="The model's files are smaller than the memory of its GPUs.",
        source=f"{VLLM}/v1/worker/gpu_worker.py",
        path="deployment.inference",
        problem="the weights alone need {share:.1f} GiB on each GPU, which has {usable:.1f} usable",
        fix="{layouts}",
        check=_memory_bound,
        mended_by_layout=True,
    ),
    Rule(
        id="memory-close",
        statement="The pessimistic estimate, too, leaves cache for one request of full length.",
        source="docs/planner.md",
        path="deployment.inference",
        problem="too close to say whether it fits: {low:,} to {high:,} tokens of cache, {length:,} are needed",
        fix="lower maxModelLen, or {layouts}",
        check=_memory_close,
        severity="warning",
    ),
)
