"""The engine: what differs between the generations of vLLM, and what its arguments and defaults say.

Two generations matter: 0.7 (the guide's image, the "V0" engine) and the current one ("V1", the default since 0.8).
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from deepseek_acs.planner.catalogue import Gpu
from deepseek_acs.planner.model import Model, MultiHeadLatentAttention
from deepseek_acs.planner.vllm_releases.release import Version, changed_in, newest, text

GRAPHS_VARIABLE = "VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS"
"""The environment variable that decides whether CUDA graphs are part of the budget."""

RUNNER_V2 = {"qwen3": "runner_v2_qwen3", "llama": "runner_v2_llama", "mistral": "runner_v2_llama"}
"""The change from which on model runner V2 is the default, by the families that had it first."""

SAMPLER_VARIABLE = "VLLM_USE_FLASHINFER_SAMPLER"
"""The one that decides whether FlashInfer samples."""

CACHE_FORMAT_READ = {"modelopt": "modelopt_cache_format", "compressed-tensors": "compressed_tensors_cache_format"}
"""The change from which on a checkpoint says by itself that its cache is in FP8, by the tool that quantised it."""

RENDEZVOUS_PORTS = {"ray": 6379, "mp": 29501}
"""Where the leader of several pods is met, and which it keeps open as long as its processes live: Ray's global store,
and torch's store (https://docs.ray.io/en/latest/ray-core/configure.html, master_port in
https://github.com/vllm-project/vllm/blob/v0.33.0/vllm/config/parallel.py)."""

RAY_PORTS = frozenset({8265, *range(10001, 20000)})
"""More ports that Ray takes: dashboard, clients, workers (https://docs.ray.io/en/latest/ray-core/configure.html)."""

DEFAULT_SEQUENCES = 256
DEFAULT_SEQUENCES_LARGE = 1024
LARGE_GPU_GIB = 70
LARGEST_GPU_GIB = 160
"""Defaults by the GPU's memory: https://github.com/vllm-project/vllm/blob/v0.33.0/vllm/engine/arg_utils.py"""

LARGEST_GRAPH = 512
LARGEST_GRAPH_GPT_OSS = 1024
"""Largest batch for which CUDA graphs are captured by default, if the sequences do not limit it: in general, and as
set for gpt-oss (https://github.com/vllm-project/vllm/blob/v0.20.2/vllm/config/vllm.py)."""


OTHER_ENGINES = {
    "sglang": "SGLang",
    "lmdeploy": "LMDeploy",
    "tensorrt-llm": "TensorRT-LLM",
    "tensorrt_llm": "TensorRT-LLM",
    "trtllm": "TensorRT-LLM",
    "text-generation-inference": "Text Generation Inference",
    "tgi": "Text Generation Inference",
    "ktransformers": "KTransformers",
    "llama.cpp": "llama.cpp",
    "ollama": "Ollama",
    "mindie": "MindIE",
}
"""Words in names of images of other engines."""


LONGEST_UNCHUNKED = 32768
"""Tokens of max_model_len above which 0.7 limits a step by default
(https://github.com/vllm-project/vllm/blob/v0.7.2/vllm/engine/arg_utils.py)."""

SHORT_STEP = 2048
"""Tokens of such a step."""


def version_of(image: str | None) -> Version | None:
    """vLLM's version in an image's name, as in ``vllm:v0.7.2`` or ``25.10-vllm0.11.0-pytorch2.8``, if any. What is no
    version of vLLM stands in many names: NVIDIA's releases (25.10), dates, versions of the image itself."""
    found = re.search(r"vllm[a-z/_-]*:?v?(0)\.(\d{1,3})(?:\.(\d{1,3}))?(?![\d])", (image or "").rsplit("@", 1)[0])
    return (int(found[1]), int(found[2]), int(found[3] or 0)) if found else None


def other_engine(image: str) -> str | None:
    """The engine that an image's name tells, if it is not vLLM."""
    words = re.split(r"[/:@]", image.lower())[1:] or [image.lower()]
    if any("vllm" in word for word in words):
        return None
    return next(
        (
            engine
            for name, engine in OTHER_ENGINES.items()
            if any(re.search(rf"(?<![a-z]){re.escape(name)}(?![a-z])", word) for word in words)
        ),
        None,
    )


@dataclass(frozen=True, kw_only=True)
class Engine:
    """One version of vLLM, with what its environment changes: whether MLA may be used, the layers of each pipeline
    stage, and whether CUDA graphs are part of the budget, FlashInfer samples, and model runner V2 runs (None: as the
    version does)."""

    version: Version = field(default_factory=newest)
    mla: bool = True
    partition: tuple[int, ...] | None = None
    graphs_in_budget: bool | None = None
    flashinfer_samples: bool | None = None
    runner_v2: bool | None = None

    @property
    def name(self) -> str:
        """For messages: ``vLLM 0.7.2``."""
        return f"vLLM {text(self.version)}"

    @property
    def is_v0(self) -> bool:
        """Whether it is of the generation with one scheduler per pipeline stage (virtual engines)."""
        return self.version < changed_in("v1")

    def counts_graphs(self, model: Model | None) -> bool:
        """Whether CUDA graphs are part of the memory that ``gpu_memory_utilization`` grants. At first model runner V2
        takes them for nothing."""
        if model is not None and self.uses_runner_v2(model) and self.version < changed_in("runner_v2_profiles_graphs"):
            return False
        by_default = self.version >= changed_in("graphs_counted")
        return by_default if self.graphs_in_budget is None else self.graphs_in_budget

    def uses_runner_v2(self, model: Model) -> bool:
        """Whether model runner V2 runs, whose sampler needs less memory."""
        if self.runner_v2 is not None:
            return self.runner_v2
        if self.version >= changed_in("runner_v2_dense"):
            return self.version >= changed_in("runner_v2_everywhere") or model.experts is None
        is_plain = model.quantisation is None or self.version >= changed_in("runner_v2_quantised")
        change = RUNNER_V2.get(model.family)
        return is_plain and change is not None and self.version >= changed_in(change)

    @property
    def sorts_to_sample(self) -> bool:
        """Whether the sampler sorts all logits, which takes most of its memory; FlashInfer's does not."""
        return self.version < changed_in("samples_unsorted") and not self.flashinfer_samples

    @property
    def may_sample_unsorted(self) -> bool:
        """Whether it depends on the image, which may have FlashInfer, if the sampler sorts."""
        return self.flashinfer_samples is None and self.version < changed_in("flashinfer_sampler_asked_for")

    @property
    def holds_less_for_fp8_mla(self) -> bool:
        """Whether MLA in FP8 holds less in addition to its weights."""
        return self.version >= changed_in("fp8_mla_holds_less")

    @property
    def compiled_holds_less(self) -> bool:
        """Whether compiled MLA has let go of a layer's queries and outputs when the next one runs."""
        return self.version >= changed_in("compiled_holds_less")

    @property
    def reads_queries_apart(self) -> bool:
        """Whether sparse MLA with a cache in 16 bits has kernels that take both parts of the queries as they are."""
        return self.version >= changed_in("sparse_by_flash_attention")

    @property
    def pads_experts(self) -> bool:
        """Whether Triton's kernels for MXFP4 on Hopper have their first layouts, which leave memory in pieces."""
        return self.version < changed_in("experts_unpadded")

    @property
    def keeps_expert_buffers(self) -> bool:
        """Whether the buffers of the fused experts stay allocated after their layer."""
        return self.version >= changed_in("expert_buffers_kept")

    @property
    def may_run_flashinfer_experts(self) -> bool:
        """Whether experts in FP8 blocks run on FlashInfer's kernels by default, with expert parallelism on Hopper."""
        return self.version >= changed_in("flashinfer_experts")

    @property
    def profiles_context(self) -> bool:
        """Whether the profile run expands MLA's cached context."""
        return self.version >= changed_in("context_profiled")

    @property
    def measures_after_nccl(self) -> bool:
        """Whether the engine looks at the GPU's memory only after NCCL has started."""
        return self.version >= changed_in("measures_after_nccl")

    @property
    def starts_all_communicators_first(self) -> bool:
        """Whether nothing of NCCL is left to be allocated after that look."""
        return self.version >= changed_in("communicators_first")

    def uses_mla(self, model: Model) -> bool:
        """Whether the compressed cache is used: 0.7.2 switches it off for every quantisation but FP8
        (https://github.com/vllm-project/vllm/blob/v0.7.2/vllm/config.py)."""
        if (
            not isinstance(model.attention, MultiHeadLatentAttention)
            or not self.mla
            or self.version < changed_in("mla")
        ):
            return False
        quantisation = model.quantisation
        return self.version >= changed_in("mla_in_all_formats") or quantisation is None or quantisation.bits == 8

    def needs_code_of(self, model: Model) -> bool:
        """Whether the model is loaded by code that comes with it."""
        known = {"deepseek_v3": changed_in("deepseek_v3_known"), "deepseek_v2": changed_in("deepseek_v2_known")}
        return self.version < known.get(model.family, self.version)

    def stores_fp8(self, model: Model, given: str, capability: float | None) -> bool:
        """Whether the cache is in FP8, if ``given`` is the value of ``--kv-cache-dtype``."""
        if given != "auto":
            return given.startswith("fp8")
        attention = model.attention
        if isinstance(attention, MultiHeadLatentAttention) and attention.indexer_heads:
            on_blackwell = model.family == "glm_moe_dsa" and capability is not None and 10 <= capability < 11
            if self.version < changed_in("sparse_cache_auto") or (
                on_blackwell and self.version >= changed_in("sparse_fp8_on_blackwell")
            ):
                return True
        tool = model.cache_by
        if tool is None or self.version < changed_in(CACHE_FORMAT_READ[tool]):
            return False
        # Only the other attention layers look at what compressed-tensors says.
        return tool == "modelopt" or not isinstance(attention, MultiHeadLatentAttention)

    def fp8_mla_problem(self, model: Model, capability: float) -> tuple[str, str] | None:
        """What the engine says of MLA's cache in FP8 on a GPU of this capability, and the change that ends it; None if
        it can. Other GPUs than Hopper and Blackwell have Triton's kernels alone."""
        on_hopper = int(capability) in (9, 10)
        if not self.uses_mla(model) or self.version >= changed_in("fp8_mla_by_triton"):
            return None
        if not on_hopper or self.is_v0:
            change = "fp8_mla_by_flashmla" if on_hopper else "fp8_mla_by_triton"
            return "FP8 Triton MLA not yet supported", change
        if self.version < changed_in("fp8_mla_by_flashmla"):
            return "FlashMLA V1 with FP8 KV cache not yet supported", "fp8_mla_by_flashmla"
        return None

    @property
    def asks_for_whole_model(self) -> bool:
        """Whether each pipeline stage must hold one request's cache of all layers, not of its own."""
        return changed_in("stages_ask_for_all") <= self.version < changed_in("stages_ask_for_own")

    def reads_sparsely(self, capability: float) -> bool:
        """Whether there are kernels for sparse MLA on a GPU of this capability."""
        major = int(capability)
        return major in (9, 10) or (major == 12 and self.version >= changed_in("sparse_on_12"))

    @property
    def keeps_streams(self) -> bool:
        """Whether DeepSeek-V4's residual streams are kept even if there is no draft model."""
        return self.version < changed_in("v4_streams_dropped")

    def batches_in_flight(self, pipeline: int) -> int:
        """Steps whose tokens a window may have to hold: with asynchronous scheduling, the default, one more than
        stages. Older model runners schedule ahead only without pipeline stages, so that this is an upper bound."""
        return pipeline + 1 if self.version >= changed_in("scheduled_ahead") else 1

    def virtual_engines(self, pipeline: int) -> int:
        """Schedulers, each with its own share of the cache
        (https://github.com/vllm-project/vllm/blob/v0.7.2/vllm/worker/cache_engine.py)."""
        return pipeline if self.is_v0 else 1

    def answers(self, model: Model, *, length: int, step: int | None) -> bool:
        """Whether prompts up to ``length`` tokens are answered, if a step takes ``step`` tokens (None: the default).

        0.7.2 does not split prompts for MLA, and above 32 K limits a step all the same
        (https://github.com/vllm-project/vllm/pull/13620).
        """
        is_limited = self.version < changed_in("long_prompts_of_mla") and self.uses_mla(model)
        return not is_limited or length <= LONGEST_UNCHUNKED or (step or SHORT_STEP) >= length

    def stages(self, layers: int, pipeline: int) -> list[range]:
        """The layers of each pipeline stage; fewer layers than stages leave stages empty.

        0.7 gives the remainder to the last stage, the current generation to the stages before it
        (https://github.com/vllm-project/vllm/blob/v0.33.0/vllm/distributed/utils.py).
        """
        sizes = [layers // pipeline] * pipeline
        remainder = layers % pipeline
        if self.partition is not None and (len(self.partition), sum(self.partition)) == (pipeline, layers):
            sizes = list(self.partition)
        elif self.is_v0:
            sizes[-1] += remainder
        else:
            for stage in range(2, remainder + 2):
                sizes[-stage] += 1
        starts = [sum(sizes[:stage]) for stage in range(pipeline)]
        return [range(start, start + size) for start, size in zip(starts, sizes, strict=True)]


def engine_of(version: Version, environment: Mapping[str, str]) -> Engine:
    """The engine of this version with its environment variables."""
    sampler = environment.get(SAMPLER_VARIABLE)
    runner = environment.get("VLLM_USE_V2_MODEL_RUNNER") if version >= changed_in("graphs_counted") else None
    estimates = environment.get(GRAPHS_VARIABLE) if version >= changed_in("graphs_variable") else None
    return Engine(
        version=version,
        mla=environment.get("VLLM_MLA_DISABLE", "0") == "0",
        partition=partition_of(environment),
        graphs_in_budget=None if estimates is None else estimates == "1",
        flashinfer_samples=None if sampler is None else sampler == "1",
        runner_v2=None if runner is None else runner == "1",
    )


def partition_of(environment: Mapping[str, str]) -> tuple[int, ...] | None:
    """The layers of each pipeline stage that ``VLLM_PP_LAYER_PARTITION`` asks for; empty if they are no numbers."""
    text = environment.get("VLLM_PP_LAYER_PARTITION")
    if text is None:
        return None
    parts = text.split(",")
    return tuple(map(int, parts)) if all(part.strip().isdecimal() for part in parts) else ()


@dataclass(frozen=True, kw_only=True)
class Serving:
    """How the engine is started, as far as memory depends on it. Lengths in tokens."""

    max_model_len: int
    utilization: float = 0.9
    eager: bool = False
    kv_cache_dtype: str = "auto"
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    block_size: int | None = None
    expert_parallel: bool = False
    moe_backend: str = "auto"
    """Kernels of the routed experts, as ``--moe-backend`` names them in small letters."""

    context_parallel: int = 1
    draft_layers: int = 0
    """Layers of a draft for multi-token prediction; one, whatever the number of tokens."""

    capture_sizes: tuple[int, ...] | None = None
    """Sizes of batches for which CUDA graphs are captured. None: the engine's own."""

    largest_capture: int | None = None
    """The largest of these sizes. None: the engine's own."""

    windows: bool = True
    """Whether layers with a window keep only that."""

    cache_bytes: int | None = None
    """The cache of each GPU, which is then not sized by what is left."""

    def graph_sizes(self, sequences: int, *, family: str) -> tuple[int, ...]:
        """Sizes of batches for which CUDA graphs are captured, by default up to twice the ``sequences``."""
        if self.capture_sizes is not None:
            return self.capture_sizes
        largest = LARGEST_GRAPH_GPT_OSS if family == "gpt_oss" else min(2 * sequences, LARGEST_GRAPH)
        if self.largest_capture is not None:
            largest = self.largest_capture
        sizes = (1, 2, 4, *range(8, 256, 8), *range(256, LARGEST_GRAPH_GPT_OSS + 1, 16))
        return tuple(size for size in sizes if size <= largest)

    def sequences(self, engine: Engine, gpu: Gpu) -> int:
        """Requests that one scheduler runs at once."""
        large = _is_large(engine, gpu)
        return self.max_num_seqs or (DEFAULT_SEQUENCES_LARGE if large else DEFAULT_SEQUENCES)

    def batched_tokens(self, engine: Engine, gpu: Gpu) -> int:
        """Tokens of the largest step, which memory profiling runs.

        0.7 without chunked prefill takes the whole of a request up to 32 K tokens
        (https://github.com/vllm-project/vllm/blob/v0.7.2/vllm/config.py).
        """
        if self.max_num_batched_tokens:
            return self.max_num_batched_tokens
        if engine.is_v0:
            return 2048 if self.max_model_len > 32768 else max(2048, self.max_model_len)
        if engine.version >= changed_in("largest_gpus") and gpu.memory_gib >= LARGEST_GPU_GIB:
            return 16384
        return 8192 if _is_large(engine, gpu) else 2048


def _is_large(engine: Engine, gpu: Gpu) -> bool:
    """Whether the defaults of a GPU with much memory hold."""
    name = gpu.name.lower()
    if engine.is_v0:
        return False
    if engine.version < changed_in("large_by_memory"):
        return "h100" in name or "h200" in name
    return gpu.memory_gib >= LARGE_GPU_GIB and not ("a100" in name and engine.version >= changed_in("a100_is_small"))


FLAGS = {
    "--kv-cache-dtype": "kv_cache_dtype",
    "--max-num-seqs": "max_num_seqs",
    "--max-num-batched-tokens": "max_num_batched_tokens",
    "--block-size": "block_size",
    "--enable-expert-parallel": "expert_parallel",
    "-ep": "expert_parallel",
    "--moe-backend": "moe_backend",
    "--decode-context-parallel-size": "context_parallel",
    "-dcp": "context_parallel",
    "--speculative-config": "draft_layers",
    "-sc": "draft_layers",
    "--compilation-config": "capture_sizes",
    "-cc": "capture_sizes",
    "--max-cudagraph-capture-size": "largest_capture",
    "--disable-hybrid-kv-cache-manager": "windows",
    "--kv-cache-memory-bytes": "cache_bytes",
    "--kv-cache-memory": "cache_bytes",
}
"""Arguments of ``vllm serve`` that change the plan, and the field of ``Serving`` for each."""

NUMBER_FLAGS = frozenset(
    flag
    for flag, field in FLAGS.items()
    if field in {"max_num_seqs", "max_num_batched_tokens", "block_size", "largest_capture"}
) | {"--decode-context-parallel-size", "-dcp"}

TOKENS_FLAG = "--max-num-batched-tokens"
UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "K": 2**10, "M": 2**20, "G": 2**30}
"""What may follow its number; 0.7 knows none (``human_readable_int`` in
https://github.com/vllm-project/vllm/blob/v0.33.0/vllm/engine/arg_utils.py)."""

MULTIPLYING_FLAGS = {
    "--data-parallel-size": "--data-parallel-size",
    "-dp": "--data-parallel-size",
    "--prefill-context-parallel-size": "--prefill-context-parallel-size",
    "-pcp": "--prefill-context-parallel-size",
}
"""Arguments by which one engine takes as many times the GPUs, in their short and their long form."""

CACHE_TYPES = frozenset({"auto", "bfloat16", "float16", "fp8", "fp8_e4m3", "fp8_e5m2", "fp8_ds_mla"})
"""Values of ``--kv-cache-dtype`` whose sizes are known."""


OBJECT_FLAG = "--speculative-config"
"""An argument whose object the plan reads, however it is written."""


def split_arguments(arguments: Sequence[str]) -> dict[str, str]:
    """Flags and values of ``arguments``, written ``--flag=value`` or as two items. ``--speculative-config.key=value``
    is part of the object that vLLM makes of all such keys."""
    values: dict[str, str] = {}
    flag = ""
    for item in arguments:
        if item.startswith("-"):
            name, _, value = item.partition("=")
            flag = name.replace("_", "-")
            values[flag] = value
        elif flag:
            values[flag] = item
    keys = [name for name in values if name.startswith(f"{OBJECT_FLAG}.")]
    if keys:
        values[OBJECT_FLAG] = json.dumps({name.partition(".")[2].replace("-", "_"): values.pop(name) for name in keys})
    return values


def argument_problem(arguments: Sequence[str], engine: Engine) -> tuple[str, str] | None:
    """What ``vllm serve`` would end with at once, as far as words alone tell, and what to write. The words themselves
    are left out: one could be a misplaced secret."""
    takes_value = False
    for number, item in enumerate(arguments, start=1):
        flag, _, value = item.partition("=")
        if not item.startswith("-"):
            if not takes_value:
                return f"item {number} belongs to no argument", "write --flag=value"
        elif re.search(r"\s", flag):
            problem = f"item {number} has a flag and its value with a space between, which vLLM takes for one word"
            return problem, "write --flag=value, or the value as an item of its own"
        else:
            takes_value = not value
    for flag, value in split_arguments(arguments).items():
        has_unit = value[-1:].isalpha() and (flag != TOKENS_FLAG or engine.is_v0)
        if flag in NUMBER_FLAGS and (has_unit or not _number(value)):
            return f"{flag} has no whole number above 0", "write digits alone"
    return None


def _number(text: str) -> int:
    """The number that an argument is given as, ``8192`` or ``8k``; 0 if it is none."""
    found = re.fullmatch(r"([0-9]+)([kmgKMG]?)", text)
    return int(found[1]) * UNITS[found[2]] if found else 0


def is_counted(field: str, value: str) -> bool:
    """Whether the plan counts this value of an argument that sets ``field``."""
    match field:
        case "kv_cache_dtype":
            return value in CACHE_TYPES
        case "draft_layers":
            return _draft_layers(value) > 0
        case "capture_sizes":
            return _object(value).keys() == {"cudagraph_capture_sizes"} and _capture_sizes(value) is not None
        case _:
            return True


def _bytes(text: str) -> int:
    """A size as ``--kv-cache-memory-bytes`` takes it, ``25G`` or ``25.6g``; 0 if it is none."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([kmgKMG]?)", text)
    return int(float(found[1]) * UNITS[found[2]]) if found else 0


def _draft_layers(value: str) -> int:
    """Layers of the draft that ``--speculative-config`` asks for: one for multi-token prediction, whose layer comes
    with the model; 0 for drafts of their own, which are not counted."""
    method = _object(value).get("method")
    return int(isinstance(method, str) and (method == "mtp" or method.endswith("_mtp")))


def _capture_sizes(value: str) -> tuple[int, ...] | None:
    """``cudagraph_capture_sizes`` of ``--compilation-config``, if it has any."""
    sizes = _object(value).get("cudagraph_capture_sizes")
    return tuple(size for size in sizes if isinstance(size, int)) if isinstance(sizes, list) else None


def _object(text: str) -> dict[str, Any]:
    """The JSON object that an argument is given as; empty if it is none."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def serving_changes(arguments: Sequence[str]) -> dict[str, str | int | bool | tuple[int, ...]]:
    """The fields of ``Serving`` that ``arguments`` set; values that are no numbers where one is due are left out, as
    ``argument_problem`` refuses them."""
    changes: dict[str, str | int | bool | tuple[int, ...]] = {}
    for flag, value in split_arguments(arguments).items():
        match FLAGS.get(flag):
            case None:
                pass
            case "expert_parallel":
                changes["expert_parallel"] = True
            case "windows":
                changes["windows"] = False
            case "cache_bytes":
                if size := _bytes(value):
                    changes["cache_bytes"] = size
            case "kv_cache_dtype":
                changes["kv_cache_dtype"] = value
            case "moe_backend":
                changes["moe_backend"] = value.lower()
            case "draft_layers":
                if layers := _draft_layers(value):
                    changes["draft_layers"] = layers
            case "capture_sizes":
                if sizes := _capture_sizes(value):
                    changes["capture_sizes"] = sizes
            case field if number := _number(value):
                changes[field] = number
    return changes
