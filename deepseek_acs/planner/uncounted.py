"""What a deployment gives the engine that the plan does not count: arguments and environment variables.

Only what is known not to matter passes in silence. A plan that does not fit stays refused with what only adds to the
memory that is needed; everything else may as well take less, so that nothing is refused because of memory.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from deepseek_acs.planner.model import CompressedAttention, Model
from deepseek_acs.planner.vllm import FLAGS, SAMPLER_VARIABLE, Engine, is_counted, split_arguments
from deepseek_acs.planner.vllm_releases.release import changed_in

WITHOUT_MEMORY = frozenset(
    {
        "--aggregate-engine-logging", "--allow-credentials", "--allow-deprecated-quantization", "--allowed-headers",
        "--allowed-local-media-path", "--allowed-media-domains", "--allowed-methods", "--allowed-origins",
        "--anthropic-disabled-thinking-effort", "--api-key", "--api-server-count", "--async-scheduling",
        "--calculate-kv-scales", "--chat-template", "--chat-template-content-format", "--code-revision",
        "--cohere-format", "--cohere-is-reasoning-model", "--collect-detailed-traces",
        "--cpu-distributed-timeout-seconds", "--cudagraph-metrics", "--custom-histogram-buckets",
        "--data-parallel-size", "--default-chat-template-kwargs", "--disable-access-log-for-endpoints",
        "--disable-async-output-proc", "--disable-cascade-attn", "--disable-custom-all-reduce",
        "--disable-fastapi-docs", "--disable-frontend-multiprocessing", "--disable-log-requests",
        "--disable-log-stats", "--disable-mm-preprocessor-cache", "--disable-uvicorn-access-log",
        "--distributed-timeout-seconds", "--download-dir", "--enable-auto-tool-choice",
        "--enable-force-include-usage", "--enable-log-deltas", "--enable-log-outputs", "--enable-log-requests",
        "--enable-logging-iteration-details", "--enable-mfu-metrics", "--enable-offline-docs",
        "--enable-per-request-metrics", "--enable-prefix-caching", "--enable-prompt-tokens-details",
        "--enable-reasoning", "--enable-request-id-headers", "--enable-server-load-tracking", "--enable-ssl-refresh",
        "--enable-tokenizer-info-endpoint", "--exclude-tools-when-tool-choice-none",
        "--expand-tools-even-if-tool-choice-none", "--fail-on-environ-validation", "--fingerprint-mode",
        "--fingerprint-value", "--generation-config", "--grpc", "--grpc-port", "--guided-decoding-backend",
        "--guided-decoding-disable-additional-properties", "--guided-decoding-disable-any-whitespace",
        "--guided-decoding-disable-fallback", "--h11-max-header-count", "--h11-max-incomplete-event-size",
        "--headless", "--hf-token", "--ignore-patterns", "--interleave-mm-strings", "--jit-monitor-mode",
        "--jit-monitor-verbose", "--kv-cache-metrics", "--kv-cache-metrics-sample", "--kv-events-config",
        "--language-model-only", "--limit-mm-per-prompt", "--log-config-file", "--log-error-stack", "--log-level",
        "--logging-config", "--logits-processor-pattern", "--logprobs-mode", "--long-prefill-token-threshold",
        "--long-prefill-token-threshold-adaptive", "--lora-modules", "--master-addr", "--master-port",
        "--max-log-len", "--max-long-partial-prefills", "--max-num-partial-prefills", "--max-num-queued-reqs",
        "--max-num-queued-tokens", "--max-parallel-loading-workers", "--media-io-kwargs", "--middleware",
        "--mm-hasher-algorithm", "--mm-processor-cache-gb", "--mm-processor-cache-type",
        "--mm-shm-cache-max-object-size-mb", "--model-loader-extra-config", "--nnodes", "--node-rank", "--numa-bind",
        "--numa-bind-cpus", "--numa-bind-nodes", "--otlp-traces-endpoint", "--override-generation-config",
        "--per-request-spec-decode-metrics", "--prefill-schedule-interval", "--prefix-caching-hash-algo",
        "--pt-load-map-location", "--ray-workers-use-nsight", "--reasoning-config", "--reasoning-effort-map",
        "--reasoning-parser", "--reasoning-parser-plugin", "--renderer-num-workers", "--response-role",
        "--return-tokens-as-token-ids", "--revision", "--root-path", "--safetensors-load-strategy",
        "--safetensors-prefetch-block-size", "--safetensors-prefetch-num-threads", "--scheduler-delay-factor",
        "--scheduling-policy", "--seed", "--show-hidden-metrics-for-version", "--shutdown-timeout",
        "--skip-tokenizer-init", "--sse-keep-alive-interval", "--ssl-ca-certs", "--ssl-cert-reqs", "--ssl-certfile",
        "--ssl-ciphers", "--ssl-keyfile", "--stream-interval", "--structured-outputs-config", "--swap-space",
        "--tokenizer", "--tokenizer-mode", "--tokenizer-pool-extra-config", "--tokenizer-pool-size",
        "--tokenizer-pool-type", "--tokenizer-revision", "--tokens-only", "--tool-call-parser",
        "--tool-parser-plugin", "--tool-server", "--tool-strict-level", "--trust-remote-code",
        "--trust-request-chat-template", "--trust-request-mm-kwargs", "--use-tqdm-on-load", "--use-v2-block-manager",
        "--uvicorn-log-level", "--watchdog-config", "--worker-use-ray",
    }
)  # fmt: skip
"""Arguments of ``vllm serve`` that take no memory of a GPU, or as much as without them
(https://docs.vllm.ai/en/stable/cli/serve/). Their opposites, ``--no-...``, take none either."""

WRITTEN = frozenset(
    {
        "--device-memory-utilization", "--distributed-executor-backend", "--enforce-eager",
        "--gpu-memory-utilization", "--host", "--max-model-len", "--no-enforce-eager",
        "--pipeline-parallel-size", "--port", "--served-model-name", "--tensor-parallel-size", "--uds", "-pp", "-tp",
    }
)  # fmt: skip
"""Arguments that the program sets itself, which another rule covers."""

ONLY_ADD = frozenset(
    {
        "--all2all-backend", "--attention-config.use-fp4-indexer-cache", "--ec-transfer-config", "--enable-dbo",
        "--enable-eplb", "--enable-lora", "--enable-lora-bias", "--eplb-config", "--fully-sharded-loras",
        "--kv-transfer-config", "--lora-dtype", "--lora-extra-vocab-size", "--max-cpu-loras", "--max-lora-rank",
        "--max-loras", "--num-redundant-experts", "--speculative-config", "-sc",
    }
)  # fmt: skip
"""Arguments that take memory in addition to what is counted."""

HARMLESS_VALUES = {
    "--dtype": {"auto", "bfloat16", "float16", "half"},
    "--load-format": {"auto", "dummy", "fastsafetensors", "pt", "runai_streamer", "safetensors", "instanttensor"},
    "--task": {"auto", "generate"},
    "--runner": {"auto", "generate"},
    "--prefill-context-parallel-size": {"1"},
}
"""Arguments some of whose values change nothing."""

NAMES = {
    "-asc": "--async-scheduling",
    "-dp": "--data-parallel-size",
    "-n": "--nnodes",
    "-pcp": "--prefill-context-parallel-size",
    "-q": "--quantization",
    "-r": "--node-rank",
}
"""Short forms."""

ACCEPTED = {
    "awq": {"awq", "awq_marlin", "moe_wna16"},
    "gptq": {"gptq", "gptq_marlin", "moe_wna16"},
    "fp8": {"fp8", "compressed-tensors"},
    "mxfp4": {"mxfp4", "gpt_oss_mxfp4"},
    "nvfp4": {"modelopt", "modelopt_fp4", "compressed-tensors"},
}
"""Values of ``--quantization`` that name the format which a checkpoint has anyway."""

ALLOCATION = re.compile(
    r"VLLM_\w*(ATTENTION|BATCH|BUFFER|CACHE|CHUNK|CUDAGRAPH|DTYPE|EXPERT|FLASH|FP8|FUSE|GRAPH|GEMM|KV|MARLIN|MEM|MLA|MOE|"
    r"OFFLOAD|PARTITION|QUANT|WORKSPACE|V1)\w*|PYTORCH_(CUDA_|)ALLOC_CONF"
)
"""Names of environment variables that say that they change what is allocated."""

HARMLESS_VARIABLES = frozenset(
    {
        "VLLM_ALLOW_LONG_MAX_MODEL_LEN", "VLLM_ASSETS_CACHE", "VLLM_CACHE_ROOT", "VLLM_DEEP_GEMM_WARMUP",
        "VLLM_DISABLE_COMPILE_CACHE", "VLLM_ENABLE_V1_MULTIPROCESSING", "VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS",
        "VLLM_MLA_DISABLE", "VLLM_MM_INPUT_CACHE_GIB", "VLLM_PP_LAYER_PARTITION", "VLLM_XLA_CACHE_PATH",
        "VLLM_RAY_DP_PACK_STRATEGY", "VLLM_SKIP_P2P_CHECK",
    }
)  # fmt: skip
"""Those that are counted, or change nothing that is."""


@dataclass(frozen=True, kw_only=True)
class Uncounted:
    """Names of what is not counted: what only adds to the memory that is needed, and what may also take less."""

    adds: tuple[str, ...]
    changes: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.adds, *self.changes)


def uncounted(
    arguments: Sequence[str], environment: Mapping[str, str], *, model: Model | None, engine: Engine
) -> Uncounted:
    """What of ``arguments`` and ``environment`` the plan of ``model`` does not count."""
    adds, changes = [], list(_variables(environment, engine))
    for given, value in split_arguments(arguments).items():
        flag = NAMES.get(given, given)
        if flag in ONLY_ADD and not _is_counted(flag, value, model):
            adds.append(given)
        elif flag not in ONLY_ADD and not _is_known(flag, value, model, engine):
            changes.append(given)
    return Uncounted(adds=tuple(adds), changes=tuple(changes))


def _is_known(flag: str, value: str, model: Model | None, engine: Engine) -> bool:
    """Whether an argument is counted or takes no memory."""
    if flag in FLAGS:
        return _is_counted(flag, value, model)
    if flag in HARMLESS_VALUES:
        return value in HARMLESS_VALUES[flag]
    if flag == "--quantization" and model is not None and model.quantisation is not None:
        method = model.quantisation.method
        return value in ACCEPTED.get(method, {method})
    if flag == "--enable-chunked-prefill":
        return not engine.is_v0
    return flag in WITHOUT_MEMORY or flag in WRITTEN or f"--{flag.removeprefix('--no-')}" in WITHOUT_MEMORY


def _is_counted(flag: str, value: str, model: Model | None) -> bool:
    """Whether the value of an argument that is counted is one of those that are. Of DeepSeek-V4 drafts are not."""
    field = FLAGS.get(flag)
    if field is None:
        return False
    if field == "draft_layers" and model is not None and isinstance(model.attention, CompressedAttention):
        return False
    if field == "moe_backend":
        return _is_counted_backend(value.lower(), model)
    return is_counted(field, value)


def _is_counted_backend(name: str, model: Model | None) -> bool:
    """Whether the buffers of these kernels are known for the format of the model's experts."""
    if name == "auto" or model is None:
        return True
    if model.quantisation is None:
        return name == "triton"
    return model.quantisation.is_block_fp8 and name in {"triton", "deep_gemm"}


def reads_images(arguments: Sequence[str], model: Model | None) -> bool:
    """Whether the engine gets ready for images, which its profile run then encodes: a model with a tower for them,
    unless the arguments say that there are none."""
    given = split_arguments(arguments)
    counts = re.findall(r"\b(\w+)\W+([0-9]+)", given.get("--limit-mm-per-prompt", ""))
    none = bool(counts) and "image" in dict(counts) and all(count == "0" for _, count in counts)
    return model is not None and model.vision is not None and not none and "--language-model-only" not in given


def _variables(environment: Mapping[str, str], engine: Engine) -> Iterator[str]:
    for name, value in environment.items():
        if name == "VLLM_USE_V1":
            if engine.version < changed_in("v0_dropped") and (value == "1") == engine.is_v0:
                yield name
        elif name == SAMPLER_VARIABLE:
            if engine.is_v0 or engine.version >= changed_in("samples_unsorted"):
                yield name
        elif ALLOCATION.fullmatch(name) and name not in HARMLESS_VARIABLES:
            yield name
