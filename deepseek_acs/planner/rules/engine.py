"""What a version of vLLM supports, and what may be on its command line."""

from collections.abc import Iterator, Mapping

from deepseek_acs.planner.dangerous import API_KEY_FLAG, SECRET_FLAGS, flag_of, meant
from deepseek_acs.planner.findings import Field
from deepseek_acs.planner.kv_cache_v4 import BLOCK_TOKENS
from deepseek_acs.planner.model import CompressedAttention, GroupedQueryAttention, MultiHeadLatentAttention
from deepseek_acs.planner.rules.rule import VLLM, VLLM_07, Problem, rule, warning
from deepseek_acs.planner.spec import ResolvedSpec
from deepseek_acs.planner.vllm import (
    MULTIPLYING_FLAGS,
    RAY_PORTS,
    RENDEZVOUS_PORTS,
    Engine,
    other_engine,
    serving_changes,
    split_arguments,
    version_of,
)
from deepseek_acs.planner.vllm_releases.release import (
    Version,
    added,
    changed_in,
    newest,
    published,
    release,
    text,
    versions,
)

COMPRESSED_CAPABILITY = 9.0
"""Lowest compute capability for DeepSeek-V4's attention kernels (https://github.com/vllm-project/vllm/issues/50576)."""

FP8_CAPABILITY = 8.9
"""Lowest compute capability with arithmetic in FP8."""

TRANSFORMERS_DAYS = 45
"""How long after a class of Transformers vLLM's own may come; an assumption, as Transformers is not in the wheels. A
version that is older cannot have an image with that class."""

GRAPHS_GIB = 1.5
"""Minimum memory outside the budget for CUDA graphs, on versions that do not count them."""

LONGER_VARIABLE = "VLLM_ALLOW_LONG_MAX_MODEL_LEN"
"""With it, requests may be longer than the model's context (https://github.com/vllm-project/vllm/blob/v0.33.0/vllm/envs.py)."""

NO_METRICS = "--disable-log-stats"
"""With it, the engine exports none of its own metrics (https://docs.vllm.ai/en/stable/cli/serve/)."""

PROGRAM_FLAGS = {
    "--port": Field.PORT,
    "--served-model-name": Field.SERVED_NAME,
    "--max-model-len": Field.MAX_MODEL_LEN,
    "--gpu-memory-utilization": Field.UTILIZATION,
    "--enforce-eager": Field.ENFORCE_EAGER,
    "--trust-remote-code": Field.TRUST_REMOTE_CODE,
    "--tensor-parallel-size": Field.TENSOR,
    "--pipeline-parallel-size": Field.PIPELINE,
    "--distributed-executor-backend": Field.BACKEND,
    "--nnodes": Field.LAYOUT,
    "--node-rank": Field.LAYOUT,
    "--master-addr": Field.LAYOUT,
    "--headless": Field.LAYOUT,
    "--shutdown-timeout": Field.REQUEST,
    "-tp": Field.TENSOR,
    "-pp": Field.PIPELINE,
    "-n": Field.LAYOUT,
    "-r": Field.LAYOUT,
    "--device-memory-utilization": Field.UTILIZATION,
    "--no-enforce-eager": Field.ENFORCE_EAGER,
    "--no-trust-remote-code": Field.TRUST_REMOTE_CODE,
}
"""Arguments of ``vllm serve`` that the program writes itself, by all their names, and the field behind each."""


def program_flags(spec: ResolvedSpec) -> Mapping[str, Field]:
    """Arguments that the program writes for this deployment, and the field behind each."""
    features = {flag_of(argument): field for field, found in spec.engine.features.items() for argument in found}
    return {**PROGRAM_FLAGS, **features}


@warning("docs/planner.md")
def image_version(spec: ResolvedSpec) -> Iterator[Problem]:
    """The name of the image contains the version of vLLM."""
    if spec.engine.named_version is None:
        yield (
            Field.IMAGE,
            f"the image name {spec.engine.image} contains no vLLM version; the plan assumes {spec.engine.vllm.name}, "
            "and arguments and variables are not checked",
            f"set {Field.ENGINE_VERSION}, or use an image with a tag such as vllm-openai:v0.11.0",
        )
    elif release(spec.engine.named_version) is None:
        place = "newer" if spec.engine.named_version > newest() else "older"
        yield (
            Field.IMAGE,
            f"{spec.engine.vllm.name} is {place} than the versions that are known here ({text(versions()[0])} to "
            f"{text(newest())}); arguments and variables are not checked",
            "check the figures in the engine's log at its first start",
        )
    stated, named = spec.engine.stated_version, version_of(spec.engine.image)
    if stated and named and stated != named:
        yield (
            Field.ENGINE_VERSION,
            f"it is {text(stated)}, and the image's name says {text(named)}; the plan follows the setting",
            "remove it, unless the name is wrong",
        )


@rule("https://docs.vllm.ai/en/stable/cli/serve/")
def engine_image(spec: ResolvedSpec) -> Iterator[Problem]:
    """The image is one of vLLM, according to its name."""
    if engine := other_engine(spec.engine.image):
        yield (
            Field.IMAGE,
            f"{spec.engine.image} is an image of {engine}, and the program starts vllm serve",
            "use an image of vLLM",
        )


@rule("https://github.com/vllm-project/vllm/pull/23691", mended_by_layout=True)
def backend(spec: ResolvedSpec) -> Iterator[Problem]:
    """A group of several pods without Ray needs a version with --nnodes."""
    if spec.engine.backend == "mp" and spec.layout.pods > 1 and spec.engine.vllm.version < changed_in("multi_node_mp"):
        yield (
            Field.BACKEND,
            f"{spec.engine.vllm.name} cannot run one engine on several pods with the mp backend",
            f"write ray, or use an image with vLLM {text(changed_in('multi_node_mp'))} or newer",
        )


def is_too_long(spec: ResolvedSpec) -> bool:
    """Whether max_model_len exceeds the model's context, and the engine is not told to accept that."""
    context, length = spec.model.context, spec.engine.max_model_len
    is_allowed = spec.engine.env.get(LONGER_VARIABLE, "0") != "0"
    return context is not None and length is not None and length > context and not is_allowed


@rule(f"{VLLM}/config/model.py")
def context(spec: ResolvedSpec) -> Iterator[Problem]:
    """The longest request fits into the model's context."""
    if is_too_long(spec):
        given, longest = spec.engine.max_model_len, spec.model.context
        yield (
            Field.MAX_MODEL_LEN,
            f"vLLM: User-specified max_model_len ({given}) is greater than the derived max_model_len, here {longest}",
            f"write {longest} or less",
        )


@rule(f"{VLLM_07}/config.py")
def batched_tokens(spec: ResolvedSpec) -> Iterator[Problem]:
    """A step has room for one token of each sequence, on 0.7 for a whole request."""
    serving, device, vllm = spec.serving, spec.gpu.device, spec.engine.vllm
    if serving is None or serving.max_num_batched_tokens is None or device is None or is_too_long(spec):
        return
    sequences, given = serving.sequences(vllm, device), serving.max_num_batched_tokens
    least = said = None
    if given < sequences:
        said, least = f"must be greater than or equal to max_num_seqs ({sequences})", sequences
    elif vllm.is_v0 and given < serving.max_model_len <= 32768:
        said, least = f"is smaller than max_model_len ({serving.max_model_len})", serving.max_model_len
    if least is not None:
        yield (
            Field.EXTRA_ARGS,
            f"vLLM: max_num_batched_tokens ({given}) {said}.",
            f"write --max-num-batched-tokens={least} or more",
        )


@rule("https://docs.vllm.ai/en/stable/cli/serve/")
def extra_arguments(spec: ResolvedSpec) -> Iterator[Problem]:
    """Additional arguments carry no secret and repeat none that the program sets, abbreviated or not."""
    flags = program_flags(spec)
    for argument in spec.engine.extra_args:
        flag = flag_of(argument)
        if flag in ("-", "--"):
            yield Field.EXTRA_ARGS, f"{flag} ends the arguments that vLLM parses", f"remove {flag}"
        elif name := meant(flag, SECRET_FLAGS):
            yield (
                Field.EXTRA_ARGS,
                f"{flag} has a secret value that would be readable in the pod and in the state",
                f"remove it and set {Field.API_KEY}"
                if name == API_KEY_FLAG
                else f"remove it and set {Field.SECRET_ENV}",
            )
        elif name := meant(flag, flags):
            yield (
                Field.EXTRA_ARGS,
                f"{flag} is set by the program itself" + ("" if flag == name else f": vLLM reads it as {name}"),
                f"remove it and set {flags[name]}",
            )


@rule("https://docs.vllm.ai/en/stable/usage/metrics/")
def engine_metrics(spec: ResolvedSpec) -> Iterator[Problem]:
    """The engine exports metrics if an autoscaler or monitor reads them."""
    if NO_METRICS not in split_arguments(spec.engine.extra_args):
        return
    scaler = spec.replicas.scaler
    readers = {
        Field.LIFECYCLE: spec.lifecycle is not None,
        Field.SCALING: scaler is not None and scaler.kind in ("queue", "hpa"),
        Field.OBSERVABILITY: spec.observability is not None,
    }
    if found := [str(field) for field, reads in readers.items() if reads]:
        yield (
            Field.EXTRA_ARGS,
            f"{NO_METRICS} disables the engine's metrics, which {' and '.join(found)} read",
            f"remove {NO_METRICS}, or {' and '.join(found)}",
        )


@rule("https://docs.ray.io/en/latest/ray-core/configure.html")
def port(spec: ResolvedSpec) -> Iterator[Problem]:
    """The server's port is not a port that the pods of a group use among themselves."""
    chosen, number = spec.engine.backend, spec.engine.port
    taken = number == RENDEZVOUS_PORTS[chosen] or (chosen == "ray" and number in RAY_PORTS)
    if spec.layout.pods > 1 and taken:
        user = "Ray" if chosen == "ray" else "the rendezvous of vLLM's mp backend"
        yield (
            Field.PORT,
            f"port {number} is used by {user} in a group of several pods",
            "write another port, for example 8000",
        )


@rule(f"{VLLM}/config/parallel.py")
def expert_parallel(spec: ResolvedSpec) -> Iterator[Problem]:
    """Expert parallelism needs a model with experts."""
    if "expert_parallel" not in serving_changes(spec.engine.arguments):
        return
    model = spec.model.shapes
    if model and not model.experts:
        yield (
            Field.EXTRA_ARGS,
            f"--enable-expert-parallel: {model.name} has no experts; vLLM: Number of experts in the model must be "
            "greater than 0 when expert parallelism is enabled.",
            "remove it",
        )


@rule(f"{VLLM_07}/model_executor/layers/quantization/fp8.py", mended_by_layout=True)
def capability(spec: ResolvedSpec) -> Iterator[Problem]:
    """The GPU and the engine version support the checkpoint's quantisation."""
    if spec.gpu.device and (found := _missing_capability(spec)):
        method, why = found
        yield (
            Field.SERIES,
            f"{method} on {spec.gpu.device.name}: {why}",
            "choose a newer GPU series, a newer image, or a checkpoint in another format",
        )


def unknown_kernels(spec: ResolvedSpec) -> str | None:
    """The attention whose kernels only some GPUs have, where it is not published which GPU the series has."""
    model, device = spec.model.shapes, spec.gpu.device
    if model is None or device is None or device.capability is not None:
        return None
    attention = model.attention
    if isinstance(attention, MultiHeadLatentAttention) and attention.indexer_heads > 0:
        return "sparse MLA"
    return "DeepSeek-V4's attention" if isinstance(attention, CompressedAttention) else None


@warning("docs/planner.md")
def kernels_known(spec: ResolvedSpec) -> Iterator[Problem]:
    """It is known whether the engine has kernels for the model's attention on the GPU."""
    if attention := unknown_kernels(spec):
        yield (
            Field.SERIES,
            f"{spec.engine.vllm.name} has kernels for {attention} on some GPUs alone, and which GPU {spec.gpu.series} "
            "has is not published; that it fits is said of memory only",
            "choose a series whose GPU is known, or test one group before you pay for more",
        )


def _missing_capability(spec: ResolvedSpec) -> tuple[str, str] | None:
    """The format of the weights, and why it is not supported."""
    model, vllm = spec.model.shapes, spec.engine.vllm
    has = spec.gpu.device.capability if spec.gpu.device else None
    if model is None or has is None:
        return None
    attention = model.attention
    is_sparse = isinstance(attention, MultiHeadLatentAttention) and attention.indexer_heads > 0
    if is_sparse and not vllm.reads_sparsely(has):
        on_12 = changed_in("sparse_on_12")
        kernels = "9, 10 and 12" if vllm.version >= on_12 else f"9 and 10 (12 from {text(on_12)} on)"
        return "sparse MLA", f"{vllm.name} has kernels for it for compute capability {kernels}; this GPU has {has}"
    if has < 8.0 and vllm.is_v0 and "--dtype" not in split_arguments(spec.engine.extra_args):
        return "bf16", "vLLM: Bfloat16 is only supported on GPUs with compute capability of at least 8.0."
    if model.quantisation is None:
        return None
    method = model.quantisation.method
    if isinstance(attention, CompressedAttention) and has < COMPRESSED_CAPABILITY:
        return (
            f"{method} weights",
            f"DeepSeek-V4's attention needs compute capability {COMPRESSED_CAPABILITY}, this GPU has {has}",
        )
    least = _least_capability(method, vllm)
    if least is None:
        return f"{method} weights", f"{vllm.name} does not support this format"
    if has < least:
        return f"{method} weights", (
            f"vLLM: The quantization method {method} is not supported for the current GPU. Minimum capability: "
            f"{round(least * 10)}. Current capability: {round(has * 10)}."
        )
    if model.quantisation.is_block_fp8 and has < FP8_CAPABILITY and vllm.version < changed_in("block_fp8_on_ampere"):
        since = text(changed_in("block_fp8_on_ampere"))
        return (
            "fp8 weights in blocks",
            f"before vLLM {since} they need compute capability {FP8_CAPABILITY}, this GPU has {has}",
        )
    return None


def _least_capability(method: str, vllm: Engine) -> float | None:
    """The lowest compute capability that a version takes for a format (``get_min_capability`` of each one); None if it
    does not have the format."""
    if method == "nvfp4":
        if vllm.version < changed_in("nvfp4"):
            return None
        on_ampere = 7.5 if vllm.version >= changed_in("fp8_on_turing") else 8.0
        return on_ampere if vllm.version >= changed_in("nvfp4_on_ampere") else 10.0
    if method == "mxfp4":
        return 8.0 if vllm.version >= changed_in("mxfp4") else None
    if method == "modelopt":
        return 8.0 if vllm.version >= changed_in("modelopt_fp8_on_ampere") else FP8_CAPABILITY
    if method in ("awq", "gptq"):
        return 7.5
    if method in ("fp8", "compressed-tensors"):
        return 7.5 if vllm.version >= changed_in("fp8_on_turing") else 8.0
    return 8.0


def _missing_since(spec: ResolvedSpec) -> Version | None:
    """The version with the model's class, if the image's is known and older."""
    named, known = spec.engine.named_version, spec.model.known
    since = added("architectures", known.architecture) if known and known.architecture else None
    return since if named is not None and since is not None and named < since else None


def _may_run_by_transformers(spec: ResolvedSpec, since: Version) -> bool:
    """Whether an image without the model's class may run it by that of Transformers: a dense model with usual
    attention, and a version that is hardly older than the class."""
    shapes, version = spec.model.shapes, spec.engine.vllm.version
    is_plain = shapes is not None and isinstance(shapes.attention, GroupedQueryAttention) and shapes.experts is None
    image = max((known for known in versions() if known <= version), default=versions()[0])
    return is_plain and (published(since) - published(image)).days <= TRANSFORMERS_DAYS


@rule(f"{VLLM}/model_executor/models/registry.py")
def model_version(spec: ResolvedSpec) -> Iterator[Problem]:
    """The engine version supports the model."""
    since, shapes = _missing_since(spec), spec.model.shapes
    if since and not _may_run_by_transformers(spec, since) and spec.model.known:
        yield (
            Field.IMAGE,
            f"{spec.engine.vllm.name} does not support {spec.model.name} ({spec.model.known.architecture})",
            f"use an image with vLLM {text(since)} or newer",
        )
    elif (
        shapes is not None
        and isinstance(shapes.attention, MultiHeadLatentAttention)
        and shapes.attention.shared
        and spec.engine.vllm.version < changed_in("shared_indexers")
    ):
        yield (
            Field.IMAGE,
            f"{spec.engine.vllm.name} gives every layer of {spec.model.name} an indexer, and "
            f"{len(shapes.attention.shared)} of {shapes.layers} have no weights for one",
            f"use an image with vLLM {text(changed_in('shared_indexers'))} or newer",
        )


@warning(f"{VLLM}/model_executor/models/registry.py")
def model_class(spec: ResolvedSpec) -> Iterator[Problem]:
    """The engine version has a class of its own for the model."""
    since = _missing_since(spec)
    if since and _may_run_by_transformers(spec, since) and spec.model.known:
        yield (
            Field.IMAGE,
            f"{spec.engine.vllm.name} has no class for {spec.model.name} ({spec.model.known.architecture}), which was "
            f"added in {text(since)}; it runs only if the image's Transformers has one, and needs other memory",
            f"use an image with vLLM {text(since)} or newer",
        )


@rule(f"{VLLM}/v1/attention/backends/mla", mended_by_layout=True)
def fp8_cache(spec: ResolvedSpec) -> Iterator[Problem]:
    """The engine version has kernels for MLA's KV cache in FP8 on the GPU."""
    serving, model, vllm, gpu = spec.serving, spec.model.shapes, spec.engine.vllm, spec.gpu.device
    if serving is None or model is None or gpu is None or gpu.capability is None:
        return
    is_dense = isinstance(model.attention, MultiHeadLatentAttention) and not model.attention.indexer_heads
    said = vllm.fp8_mla_problem(model, gpu.capability) if is_dense else None
    if said is not None and serving.kv_cache_dtype.startswith("fp8"):
        what, change = said
        yield (
            Field.EXTRA_ARGS,
            f"{vllm.name} fails with an FP8 cache on {gpu.name}: {what}",
            f"remove --kv-cache-dtype, or use an image with vLLM {text(changed_in(change))} or newer",
        )


@rule(f"{VLLM}/models/deepseek_v4/attention.py")
def cache_format(spec: ResolvedSpec) -> Iterator[Problem]:
    """DeepSeek-V4's KV cache has blocks of 256 tokens in FP8; versions before 0.30 need arguments for that."""
    serving, model, vllm = spec.serving, spec.model.shapes, spec.engine.vllm
    if serving is None or model is None or not isinstance(model.attention, CompressedAttention):
        return
    given = serving.kv_cache_dtype
    if serving.block_size not in (None, BLOCK_TOKENS):
        yield (
            Field.EXTRA_ARGS,
            f"the kernels of DeepSeek-V4 need blocks of {BLOCK_TOKENS} tokens, not {serving.block_size}",
            f"write --block-size={BLOCK_TOKENS}",
        )
    elif not given.startswith("fp8") and (given != "auto" or vllm.version < changed_in("v4_cache_auto")):
        yield (
            Field.EXTRA_ARGS,
            f"{vllm.name} stores DeepSeek-V4's KV cache in FP8 only and refuses {given}",
            "write --kv-cache-dtype=fp8",
        )


@rule("https://docs.vllm.ai/en/latest/serving/data_parallel_deployment/")
def data_parallel(spec: ResolvedSpec) -> Iterator[Problem]:
    """A replica is one engine and uses tensor × pipeline GPUs."""
    for given, value in split_arguments(spec.engine.extra_args).items():
        flag, gpus = MULTIPLYING_FLAGS.get(given), spec.layout.gpus
        size = int(value) if value.isdecimal() else 1
        if flag == "--data-parallel-size" and size > 1:
            yield (
                Field.EXTRA_ARGS,
                f"{flag} {size} starts {size} engines, which need {size * gpus} GPUs; a replica has {gpus}; its memory "
                "is not modelled",
                f"remove it and set {Field.REPLICAS} to {size}, or split the model over all GPUs of the pods",
            )
        elif flag is not None and size > 1:
            yield (
                Field.EXTRA_ARGS,
                f"{flag} {size} makes an engine of {size * gpus} GPUs; a replica has {gpus}",
                f"remove it, or split the model over more GPUs with {Field.TENSOR} or {Field.PIPELINE}",
            )


@warning("https://github.com/huggingface/open-r1/pull/43")
def graphs(spec: ResolvedSpec) -> Iterator[Problem]:
    """Where CUDA graphs are not part of gpuMemoryUtilization, memory is left for them."""
    counted = spec.engine.vllm.counts_graphs(spec.model.shapes)
    if spec.gpu.device is None or spec.engine.enforce_eager or counted:
        return
    rest = spec.gpu.device.memory_gib * (1 - spec.engine.gpu_memory_utilization)
    if rest < GRAPHS_GIB:
        yield (
            Field.UTILIZATION,
            f"{spec.engine.vllm.name} captures CUDA graphs outside this share, and only {rest:.1f} GiB are left there",
            f"lower it, or set {Field.ENFORCE_EAGER}",
        )


@warning(f"{VLLM}/engine/arg_utils.py")
def uncounted_flags(spec: ResolvedSpec) -> Iterator[Problem]:
    """Arguments and variables that change memory are included in the plan."""
    found = spec.uncounted
    flags = [name for name in found.names if name.startswith("-")]
    variables = [name for name in found.names if not name.startswith("-")]
    for field, names in ((Field.EXTRA_ARGS, flags), (Field.ENV, variables)):
        if names:
            change = "changes" if set(names) <= set(found.adds) else "may change"
            yield (
                field,
                f"{', '.join(names)} {change} memory use in a way that the plan does not include",
                "check the figures in the engine's log at its first start",
            )


@rule("docs/planner.md")
def measured_layout(spec: ResolvedSpec) -> Iterator[Problem]:
    """A measured KV cache comes with the layout on which it was measured."""
    fixed = spec.fixed
    if spec.engine.measured_kv_cache_gib is not None and None in (fixed.gpus_per_pod, fixed.tensor, fixed.pipeline):
        yield (
            Field.MEASURED_KV_CACHE,
            "the figure belongs to one layout, and the layout is not set",
            f"write {Field.GPUS_PER_POD}, {Field.TENSOR} and {Field.PIPELINE} as they were when it was measured, or "
            "remove it",
        )
