"""From settings to the specification: the one place where settings are read."""

import dataclasses
from pathlib import Path

from deepseek_acs.planner import catalogue, config_json
from deepseek_acs.planner.findings import Field
from deepseek_acs.planner.metrics import EngineMetrics
from deepseek_acs.planner.model import Model, Unpredicted
from deepseek_acs.planner.prices import PodPrice, Prices, list_price, storage_list_price
from deepseek_acs.planner.search import smallest_layout, with_open_layout
from deepseek_acs.planner.shutdown import grace_seconds
from deepseek_acs.planner.spec import (
    EngineSpec,
    Fixed,
    HubSpec,
    LifecycleSpec,
    ModelSpec,
    ReplicasSpec,
    ResolvedSpec,
    RolloutSpec,
    UpdateSpec,
    WeightsSpec,
    gpu_spec,
)
from deepseek_acs.planner.vllm import LONGEST_UNCHUNKED, Engine, engine_of, serving_changes, version_of
from deepseek_acs.planner.vllm_releases import features
from deepseek_acs.planner.vllm_releases.release import Version, newest, version
from deepseek_acs.planner.weights import checkpoint_gib
from deepseek_acs.settings.base import gibibytes, mebibytes
from deepseek_acs.settings.inference import EngineSettings, InferenceSettings
from deepseek_acs.settings.lifecycle import LifecycleSettings
from deepseek_acs.settings.model import ModelSettings
from deepseek_acs.settings.observability import ObservabilitySettings
from deepseek_acs.settings.prices import PriceSettings
from deepseek_acs.settings.scaling import HpaScaling, ManualScaling
from deepseek_acs.settings.stack import StackSettings
from deepseek_acs.settings.weights import BucketSource


def resolve(settings: StackSettings, *, folder: Path) -> ResolvedSpec:
    """The specification that the settings ask for; relative paths in them start at ``folder``.

    Where no layout works, it has the smallest that agrees with what was given, so that the checks can say why.
    """
    update = settings.update
    if update is None:
        return _resolve(settings, folder)
    promoted = settings.promoted(update)
    if update.promote:
        return dataclasses.replace(_resolve(promoted, folder), promoted=update.sections)
    fixed = {"replicas": update.replicas, "scaling": ManualScaling()}
    inference = promoted.inference.model_copy(update=fixed)
    return dataclasses.replace(
        _resolve(settings, folder),
        update=UpdateSpec(
            candidate=_resolve(promoted.model_copy(update={"inference": inference}), folder),
            weight=update.weight,
            limits=update.limits,
            sections=update.sections,
        ),
    )


def _resolve(settings: StackSettings, folder: Path) -> ResolvedSpec:
    """The specification of one revision."""
    inference = settings.inference
    model = _model(settings.model, folder)
    gpu = gpu_spec(
        inference.gpu.series,
        stated_gib=inference.gpu.gpu_memory_gib,
        available=inference.gpu.available,
        compute_class=inference.gpu.compute_class,
        driver_version=inference.gpu.driver_version,
        resource=inference.gpu.resource,
    )
    fixed = _fixed(inference)
    spec = ResolvedSpec(
        cloud=settings.cloud,
        cluster=settings.cluster,
        kubeconfig=path_from(settings.cluster.kubeconfig_file, folder) if settings.cluster.kubeconfig_file else None,
        model=model,
        weights=_weights(settings),
        storage=settings.storage,
        base_name=inference.name,
        revision=inference.revision or "",
        promoted=(),
        update=None,
        replicas=_replicas(inference),
        gpu=gpu,
        fixed=fixed,
        layout=smallest_layout(fixed, gpu),
        extra_ephemeral_gib=gibibytes(inference.resources.extra_ephemeral_storage or "0Gi"),
        qos=inference.qos,
        network=inference.network,
        zone=inference.zone,
        engine=_engine(inference.engine, model, settings.observability),
        rollout=RolloutSpec(
            max_unavailable=inference.rollout.max_unavailable,
            max_surge=inference.rollout.max_surge,
            partition=inference.rollout.partition,
            restarts=inference.rollout.restarts,
        ),
        lifecycle=_lifecycle(inference.lifecycle) if inference.lifecycle else None,
        preflight=inference.preflight,
        gang=inference.gang,
        stated_guard=inference.guard,
        service=settings.service,
        security=settings.security,
        operators=settings.operators,
        prices=_prices(settings.prices, settings.cloud.region),
        observability=settings.observability,
        verification=settings.verification,
    )
    return with_open_layout(spec)


def _model(settings: ModelSettings, folder: Path) -> ModelSpec:
    found: Model | Unpredicted | None = None
    config_error: str | None = None
    if settings.config_file is None:
        found = catalogue.model(settings.name)
    else:
        try:
            found = config_json.read(path_from(settings.config_file, folder), name=settings.name)
        except config_json.ConfigError as error:
            config_error = str(error)
    shapes = found if isinstance(found, Model) else None
    unpredicted = found if isinstance(found, Unpredicted) else None
    known_gib = checkpoint_gib(shapes) if shapes else unpredicted.weights_gib if unpredicted else None
    return ModelSpec(
        name=settings.name,
        served_name=settings.served_name,
        shapes=shapes,
        unpredicted=unpredicted,
        config_error=config_error,
        weights_gib=settings.weights_gib or known_gib or 0,
        stated_gib=settings.weights_gib,
    )


def path_from(text: str, folder: Path) -> Path:
    """A path of the settings: absolute, below the home folder (``~``), or relative to ``folder``."""
    return folder / Path(text).expanduser()


def _fixed(inference: InferenceSettings) -> Fixed:
    resources = inference.resources
    return Fixed(
        gpus_per_pod=inference.gpu.per_pod,
        tensor=inference.parallelism.tensor,
        pipeline=inference.parallelism.pipeline,
        cpu=resources.cpu,
        memory_gib=_gib(resources.memory),
        shared_memory_gib=_gib(resources.shared_memory),
    )


def _gib(size: str | None) -> float | None:
    return mebibytes(size) / 1024 if size else None


def _engine(settings: EngineSettings, model: ModelSpec, observability: ObservabilitySettings | None) -> EngineSpec:
    return EngineSpec(
        image=settings.image,
        backend=settings.backend,
        ray_script=settings.ray_script,
        ray_token=settings.ray_token,
        port=settings.port,
        max_model_len=settings.max_model_len or _longest(settings, model),
        gpu_memory_utilization=settings.gpu_memory_utilization,
        enforce_eager=settings.enforce_eager,
        compile_cache=settings.compile_cache is not None,
        trust_remote_code=_trusts_code(settings, model.shapes),
        env=settings.env,
        secret_env={name: (place.secret, place.key) for name, place in settings.secret_env.items()},
        features=_features(settings, observability),
        kv_offload_gib=settings.kv_offload_gib or 0,
        extra_args=settings.extra_args,
        stated_version=_stated_version(settings),
        measured_kv_cache_gib=settings.kv_cache_gib,
        stated_startup_seconds=settings.startup_seconds,
    )


def _trusts_code(settings: EngineSettings, shapes: Model | None) -> bool:
    if settings.trust_remote_code is not None:
        return settings.trust_remote_code
    return shapes is not None and Engine(version=_version(settings)).needs_code_of(shapes)


def _longest(settings: EngineSettings, model: ModelSpec) -> int | None:
    """The model's context, or the longest request that the version answers whole."""
    context, shapes, known = model.context, model.shapes, _stated_version(settings) or version_of(settings.image)
    if context is None or shapes is None or known is None:
        return context
    step = serving_changes(settings.extra_args).get("max_num_batched_tokens")
    engine = engine_of(known, settings.env)
    is_answered = engine.answers(shapes, length=context, step=step if isinstance(step, int) else None)
    return context if is_answered else LONGEST_UNCHUNKED


def _stated_version(settings: EngineSettings) -> Version | None:
    return version(settings.version) if settings.version else None


def _version(settings: EngineSettings) -> Version:
    """The engine's version, or the one that is assumed."""
    return _stated_version(settings) or version_of(settings.image) or newest()


def _features(settings: EngineSettings, observability: ObservabilitySettings | None) -> dict[Field, tuple[str, ...]]:
    """Arguments for the features that are set, as the version writes them."""
    vllm, found = _version(settings), {}
    if settings.reasoning_parser is not None:
        found[Field.REASONING_PARSER] = features.reasoning(vllm, settings.reasoning_parser)
    if (tools := settings.tool_calling) is not None:
        found[Field.TOOL_CALLING] = features.tool_calling(tools.parser, tools.chat_template)
    if settings.prefix_caching is not None:
        found[Field.PREFIX_CACHING] = features.prefix_caching(settings.prefix_caching)
    if settings.chunked_prefill is not None:
        found[Field.CHUNKED_PREFILL] = features.chunked_prefill(vllm, settings.chunked_prefill)
    if settings.kv_offload_gib is not None:
        found[Field.KV_OFFLOAD] = features.kv_offloading(settings.kv_offload_gib)
    if observability is not None and observability.traces is not None:
        found[Field.TRACES] = features.traces(observability.traces.endpoint)
    if settings.speculative_tokens is not None:
        found[Field.SPECULATIVE_TOKENS] = features.multi_token_prediction(vllm, settings.speculative_tokens)
    return found


def _replicas(inference: InferenceSettings) -> ReplicasSpec:
    scaling, count = inference.scaling, inference.replicas
    if isinstance(scaling, ManualScaling):
        return ReplicasSpec(first=count, least=count, most=count, scaler=None, take_over=scaling.take_over)
    if isinstance(scaling, HpaScaling) and scaling.cache_metric is None:
        metric = EngineMetrics(version=_version(inference.engine)).kv_cache_usage
        scaling = scaling.model_copy(update={"cache_metric": metric})
    first = scaling.min_replicas if scaling.hold is None else scaling.hold
    return ReplicasSpec(first=first, least=scaling.min_replicas, most=scaling.most, scaler=scaling, take_over=False)


def _lifecycle(settings: LifecycleSettings) -> LifecycleSpec:
    budget = settings.disruption_budget
    return LifecycleSpec(
        request_seconds=settings.request_seconds,
        grace_seconds=settings.grace_seconds or grace_seconds(settings.request_seconds),
        evictable_groups=budget.max_unavailable if budget else None,
        health_check=settings.health_check,
        lost_node_seconds=settings.lost_node_seconds,
        group_restart=settings.group_restart,
    )


def _prices(settings: PriceSettings, region: str) -> Prices:
    currency, storage = settings.currency, settings.storage_gib_month
    return Prices(
        currency=currency,
        gpu_hour=settings.gpu_hour,
        gpu_pod=PodPrice(vcpu_hour=settings.vcpu_hour, memory_gib_hour=settings.memory_gib_hour),
        cache=list_price(currency, "performance", region=region),
        job=list_price(currency, "general-purpose", region=region),
        storage_gib_month=storage_list_price(currency) if storage is None else storage,
        traffic_gib=settings.traffic_gib,
        tokens_per_second=settings.tokens_per_second,
    )


def _weights(settings: StackSettings) -> WeightsSpec:
    weights, source = settings.weights, settings.weights.source
    hub = None
    if not isinstance(source, BucketSource):
        hub = HubSpec(
            kind=source.kind,
            repository=source.repository or settings.model.name,
            revision=source.revision,
            endpoint=source.endpoint,
            include=source.include,
            exclude=source.exclude,
        )
    return WeightsSpec(
        hub=hub,
        allow_pickle=weights.allow_pickle,
        manifest_sha256=weights.manifest_sha256,
        upload=weights.upload,
        bucket=weights.bucket,
        prefix=weights.prefix,
        identity=weights.identity,
    )
