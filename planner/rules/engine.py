"""What a version of vLLM can do."""

from planner.case import Case
from planner.compressed_cache import BLOCK_TOKENS
from planner.engine import (
    COMPRESSED_AUTO_SINCE,
    COMPRESSED_SINCE,
    DATA_PARALLEL_FLAGS,
    EXPERT_PARALLEL_SINCE,
    MULTI_NODE_MP_SINCE,
    RAY_PORTS,
    RENDEZVOUS_PORTS,
    UNCOUNTED_FLAGS,
    argument_problem,
    serving_changes,
    split_arguments,
    version_of,
)
from planner.model import CompressedAttention
from planner.rules.rule import VLLM, VLLM_07, Rule, Values

COMPRESSED_CAPABILITY = 9.0
"""Least for DeepSeek-V4's attention kernels (https://github.com/vllm-project/vllm/issues/50576)."""

GRAPHS_GIB = 1.5
"""Least memory outside the budget for CUDA graphs on versions that do not count them."""


def _context(case: Case) -> Values | None:
    given = case.choices.max_model_len
    if case.model is None or given is None or given <= case.model.context:
        return None
    return {"given": given, "longest": case.model.context}


def _utilization(case: Case) -> Values | None:
    given = case.choices.gpu_memory_utilization
    return None if 0 < given <= 1 else {"given": given}


def _batched_tokens(case: Case) -> Values | None:
    serving = case.serving
    if serving is None or serving.max_num_batched_tokens is None or case.gpu is None:
        return None
    sequences = serving.sequences(case.engine, case.gpu)
    given = serving.max_num_batched_tokens
    if given < sequences:
        return {"given": given, "what": f"max_num_seqs ({sequences})", "least": sequences}
    if case.engine.is_v0 and given < serving.max_model_len <= 32768:
        return {"given": given, "what": f"max_model_len ({serving.max_model_len})", "least": serving.max_model_len}
    return None


def _arguments(case: Case) -> Values | None:
    found = argument_problem(case.choices.extra_args, case.engine)
    return {"problem": found[0], "fix": found[1]} if found else None


def _port(case: Case) -> Values | None:
    backend, port = case.choices.backend, case.choices.port
    taken = (RENDEZVOUS_PORTS[backend], *(RAY_PORTS if backend == "ray" else ()))
    if case.layout.pods == 1 or port not in taken:
        return None
    return {"port": port, "who": "Ray" if backend == "ray" else "the rendezvous of vLLM's mp backend"}


def _expert_parallel(case: Case) -> Values | None:
    if "expert_parallel" not in serving_changes(case.choices.extra_args):
        return None
    if case.engine.version < EXPERT_PARALLEL_SINCE:
        return {"why": f"{case.engine.name} has no such argument"}
    if case.model is None or case.model.experts:
        return None
    return {
        "why": f"{case.model.name} has no experts; vLLM: Number of experts in the model must be greater than 0 when "
        "expert parallelism is enabled."
    }


def _capability(case: Case) -> Values | None:
    if case.model is None or case.gpu is None or case.gpu.capability is None:
        return None
    if case.gpu.capability < 8.0 and case.engine.is_v0 and "--dtype" not in split_arguments(case.choices.extra_args):
        why = "vLLM: Bfloat16 is only supported on GPUs with compute capability of at least 8.0."
        return {"method": "bf16", "gpu": case.gpu.name, "why": why}
    if case.model.quantisation is None:
        return None
    method = case.model.quantisation.method
    if isinstance(case.model.attention, CompressedAttention) and case.gpu.capability < COMPRESSED_CAPABILITY:
        why = f"DeepSeek-V4's attention needs a capability of {COMPRESSED_CAPABILITY}, it has {case.gpu.capability}"
        return {"method": method, "gpu": case.gpu.name, "why": why}
    if case.engine.is_v0:
        least = {"fp8": 8.9 if case.model.quantisation.is_block_fp8 else 8.0, "awq": 7.5, "gptq": 7.5}.get(method, 8.0)
        if method in ("nvfp4", "mxfp4"):
            return {"method": method, "gpu": case.gpu.name, "why": f"{case.engine.name} does not know it"}
    else:
        least = {"fp8": 7.5, "awq": 7.5, "gptq": 7.5, "mxfp4": 8.0, "nvfp4": 8.0}.get(method, 7.5)
    if case.gpu.capability >= least:
        return None
    needed, has = round(least * 10), round(case.gpu.capability * 10)
    why = (
        f"vLLM: The quantization method {method} is not supported for the current GPU. Minimum capability: {needed}. "
        f"Current capability: {has}."
    )
    return {"method": method, "gpu": case.gpu.name, "why": why}


def _fp8_cache(case: Case) -> Values | None:
    serving, model = case.serving, case.model
    if serving is None or model is None or not serving.kv_cache_dtype.startswith("fp8"):
        return None
    return {"engine": case.engine.name} if case.engine.is_v0 and case.engine.uses_mla(model) else None


def _cache_format(case: Case) -> Values | None:
    serving, model = case.serving, case.model
    if serving is None or model is None or not isinstance(model.attention, CompressedAttention):
        return None
    if serving.block_size not in (None, BLOCK_TOKENS):
        why = f"the kernels of DeepSeek-V4 take blocks of {BLOCK_TOKENS} tokens, not of {serving.block_size}"
        return {"why": why, "argument": f"--block-size={BLOCK_TOKENS}"}
    given = serving.kv_cache_dtype
    if given.startswith("fp8") or (given == "auto" and case.engine.version >= COMPRESSED_AUTO_SINCE):
        return None
    why = f"{case.engine.name} keeps DeepSeek-V4's cache in FP8 only and refuses {given}"
    return {"why": why, "argument": "--kv-cache-dtype=fp8"}


def _model_version(case: Case) -> Values | None:
    if case.model is None or not isinstance(case.model.attention, CompressedAttention):
        return None
    if case.engine.version >= COMPRESSED_SINCE:
        return None
    since = ".".join(map(str, COMPRESSED_SINCE))
    return {"engine": case.engine.name, "model": case.model.name, "since": since}


def _data_parallel(case: Case) -> Values | None:
    arguments = split_arguments(case.choices.extra_args)
    value = next((arguments[flag] for flag in DATA_PARALLEL_FLAGS if flag in arguments), "1")
    if not value.isdecimal() or int(value) <= 1:
        return None
    return {"size": int(value), "needed": int(value) * case.layout.gpus, "gpus": case.layout.gpus}


def _graphs(case: Case) -> Values | None:
    if case.gpu is None or case.choices.enforce_eager or case.engine.counts_graphs:
        return None
    rest = case.gpu.memory_gib * (1 - case.choices.gpu_memory_utilization)
    return {"engine": case.engine.name, "rest": rest} if rest < GRAPHS_GIB else None


def _uncounted(case: Case) -> Values | None:
    flags = [flag for flag in split_arguments(case.choices.extra_args) if flag in UNCOUNTED_FLAGS]
    return {"flags": ", ".join(flags)} if flags else None


def _image_version(case: Case) -> Values | None:
    image = case.choices.image
    return {"image": image, "engine": case.engine.name} if image and version_of(image) is None else None


def _backend(case: Case) -> Values | None:
    if case.choices.backend != "mp" or case.layout.pods == 1 or case.engine.version >= MULTI_NODE_MP_SINCE:
        return None
    return {"engine": case.engine.name, "since": ".".join(map(str, MULTI_NODE_MP_SINCE))}


ENGINE_RULES = (
    Rule(
        id="image-version",
        statement="The image's name tells the version of vLLM.",
        source="docs/planner.md",
        path="deployment.inference.engine.image",
        problem="the name of {image} tells no version of vLLM; the plan assumes {engine}",
        fix="use a tag such as vllm-openai:v0.11.0, where there is one",
        check=_image_version,
        severity="warning",
    ),
    Rule(
        id="backend",
        statement="Several pods without Ray need a version with --nnodes.",
        source="https://github.com/vllm-project/vllm/pull/23691",
        path="deployment.inference.engine.backend",
        problem="{engine} cannot form one engine of several pods with the mp backend",
        fix="write backend: ray, or use an image with vLLM {since} or newer",
        check=_backend,
        mended_by_layout=True,
    ),
    Rule(
        id="context",
        statement="The longest request is not longer than the model's context.",
        source=f"{VLLM}/config/model.py",
        path="deployment.inference.engine.maxModelLen",
        problem="vLLM: User-specified max_model_len ({given}) is greater than the derived max_model_len ({longest})",
        fix="write {longest} or less",
        check=_context,
    ),
    Rule(
        id="utilization",
        statement="The share of GPU memory is above 0 and at most 1.",
        source=f"{VLLM}/config/cache.py",
        path="deployment.inference.engine.gpuMemoryUtilization",
        problem="{given} is not a share of memory above 0 and up to 1",
        fix="write for example 0.9",
        check=_utilization,
    ),
    Rule(
        id="batched-tokens",
        statement="A step holds a token of every sequence, and on 0.7 a whole request.",
        source=f"{VLLM_07}/config.py",
        path="deployment.inference.engine.extraArgs",
        problem="vLLM: max_num_batched_tokens ({given}) must be greater than or equal to {what}",
        fix="write --max-num-batched-tokens={least} or more",
        check=_batched_tokens,
    ),
    Rule(
        id="arguments",
        statement="Further arguments are arguments, and their numbers numbers.",
        source=f"{VLLM}/engine/arg_utils.py",
        path="deployment.inference.engine.extraArgs",
        problem="{problem}",
        fix="{fix}",
        check=_arguments,
    ),
    Rule(
        id="port",
        statement="The server's port is not one by which the pods of a group find each other.",
        source="https://docs.ray.io/en/latest/ray-core/configure.html",
        path="deployment.inference.engine.port",
        problem="port {port} is taken by {who} in a group of several pods",
        fix="write another one, for example 8000",
        check=_port,
    ),
    Rule(
        id="expert-parallel",
        statement="Expert parallelism needs a model with experts, and a version that knows it.",
        source=f"{VLLM}/config/parallel.py",
        path="deployment.inference.engine.extraArgs",
        problem="--enable-expert-parallel: {why}",
        fix="remove it",
        check=_expert_parallel,
    ),
    Rule(
        id="capability",
        statement="The GPU and the version can compute with the checkpoint's quantisation.",
        source=f"{VLLM_07}/model_executor/layers/quantization/fp8.py",
        path="deployment.inference.gpu.series",
        problem="{method} weights on {gpu}: {why}",
        fix="choose a newer GPU series, a newer image, or a checkpoint in another format",
        check=_capability,
    ),
    Rule(
        id="model-version",
        statement="The version knows the model.",
        source="https://github.com/vllm-project/vllm/tree/v0.20.0/vllm/model_executor/models",
        path="deployment.inference.engine.image",
        problem="{engine} does not know {model}",
        fix="use an image with vLLM {since} or newer",
        check=_model_version,
    ),
    Rule(
        id="fp8-cache",
        statement="0.7 has no FP8 cache for MLA.",
        source=f"{VLLM_07}/attention/backends/triton_mla.py",
        path="deployment.inference.engine.extraArgs",
        problem="{engine} fails at the first request: FP8 Triton MLA not yet supported",
        fix="remove --kv-cache-dtype, or use a newer image",
        check=_fp8_cache,
    ),
    Rule(
        id="cache-format",
        statement="DeepSeek-V4's cache has blocks of 256 tokens in FP8, which versions before 0.30 must be told.",
        source=f"{VLLM}/models/deepseek_v4/attention.py",
        path="deployment.inference.engine.extraArgs",
        problem="{why}",
        fix="write {argument}",
        check=_cache_format,
    ),
    Rule(
        id="data-parallel",
        statement="A replica is one engine: its GPUs are those of tensor and pipeline parallelism.",
        source="https://docs.vllm.ai/en/latest/serving/data_parallel_deployment/",
        path="deployment.inference.engine.extraArgs",
        problem="--data-parallel-size {size} starts {size} engines, which need {needed} GPUs; a replica has {gpus}; "
        "what fits on them is not modelled",
        fix="remove it and set deployment.inference.replicas to {size}, or split the model over all GPUs of the pods",
        check=_data_parallel,
    ),
    Rule(
        id="graphs",
        statement="Versions before 0.21 need memory for CUDA graphs beyond the share that is granted.",
        source="https://github.com/huggingface/open-r1/pull/43",
        path="deployment.inference.engine.gpuMemoryUtilization",
        problem="{engine} captures CUDA graphs outside this share, where {rest:.1f} GiB are left",
        fix="lower it, or set enforceEager",
        check=_graphs,
        severity="warning",
    ),
    Rule(
        id="uncounted-flags",
        statement="Arguments that change memory are counted.",
        source=f"{VLLM}/engine/arg_utils.py",
        path="deployment.inference.engine.extraArgs",
        problem="{flags} changes memory in a way that the plan does not count",
        fix="check the engine's own figures at its first start",
        check=_uncounted,
        severity="warning",
    ),
)
