"""Reads the stack's configuration: settings and plan with every problem named at once, and secrets apart from them."""

import dataclasses
import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import pulumi
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from components.monitoring.objectives import objective_findings
from components.option_rules import option_warnings
from components.secrets import Secrets, read_secrets, secret_findings
from components.settings.base import Settings, descriptions, gibibytes, mebibytes, quantity
from components.settings.deployment import Deployment
from components.settings.operators import InstallLws
from components.settings.scaling import Autoscaler, ManualScaling
from components.settings.storage import FluidCacheSettings
from components.settings.weights import UploadSettings
from planner.acs_rules import GPU, PodChoices, oss_warnings, pod_findings, pod_warnings, ticket_warnings
from planner.benchmark import benchmark_findings
from planner.cache import CacheChoices, CachePlan, plan_cache
from planner.case import Case
from planner.engine import Version
from planner.findings import Finding, report
from planner.lws_rules import Feature, asked_features, controller_findings, controller_warnings
from planner.plan import Choices, Plan, PlanError, check, plan_case, resolve
from planner.shutdown import drain_seconds

DEPLOYMENT = "deployment"

MISSING_DEPLOYMENT = Finding(
    path=DEPLOYMENT,
    problem="the stack has no deployment settings",
    fix="copy the deepseek:deployment section of Pulumi.dev.yaml into the stack's file and change it",
)

TEXT_DEPLOYMENT = Finding(
    path=DEPLOYMENT,
    problem="it is a text and no settings",
    fix="write the settings below it, indented, as in Pulumi.dev.yaml, and no | or quotes",
)


def load() -> tuple[Deployment, Plan, Secrets]:
    """Settings, plan and secrets of the current stack; raises ``pulumi.RunError`` with all problems and their fixes."""
    config = pulumi.Config()
    where = f"Pulumi.{pulumi.get_stack()}.yaml"
    try:
        raw = config.get_object(DEPLOYMENT)
    except pulumi.ConfigTypeError:
        # ``from None``: its text has all of the settings in it.
        raise pulumi.RunError(report([TEXT_DEPLOYMENT], where=where)) from None
    if raw is None:
        raise pulumi.RunError(report([MISSING_DEPLOYMENT], where=where))
    try:
        settings = Deployment.model_validate(raw, by_alias=True, by_name=False)
        plan = plan_of(settings)
    except ValidationError as error:
        # ``from None``: the cause would be printed with the traceback, and pydantic's text is for developers.
        raise pulumi.RunError(report(findings(error), where=where)) from None
    except PlanError as error:
        raise pulumi.RunError(report(error.findings, where=where)) from None
    if wrong := secret_findings(config, settings):
        raise pulumi.RunError(report(wrong, where=where))
    return settings, plan, read_secrets(config, settings)


def plan_of(settings: Deployment) -> Plan:
    """The plan with the cache's and all warnings; raises PlanError with all findings about layout, ACS and cache."""
    case, storage = resolve(choices(settings)), settings.storage
    pods = pod_choices(settings, cards=case.layout.cards)
    features, installs = _features(settings), _installed_lws(settings)
    findings = [
        *check(case, severity="error"),
        *pod_findings(pods),
        *controller_findings(features, installs=installs),
        *_benchmark(settings, case),
        *objective_findings(settings.observability, case.engine),
    ]
    cache: CachePlan | None = None
    if isinstance(storage, FluidCacheSettings) and case.weights_gib is not None:
        findings += _sidecar(storage, case)
        try:
            cache = _cache_plan(storage, settings, weights_gib=case.weights_gib, group_size=case.layout.pods)
        except PlanError as error:
            findings += error.findings
    if findings:
        raise PlanError(findings)
    plan = plan_case(case)
    warnings = (
        *plan.warnings,
        *pod_warnings(pods),
        *controller_warnings(features, installs=installs),
        *_upload_warnings(settings.weights.upload),
        *(cache.warnings if cache else ()),
        *_bucket_warnings(settings, group_size=plan.group_size),
        *option_warnings(settings),
    )
    return dataclasses.replace(plan, cache=cache, warnings=warnings)


def _upload_warnings(upload: UploadSettings) -> list[str]:
    memory_gib = mebibytes(upload.memory) / 1024
    return ticket_warnings("deployment.weights.upload", cpu=upload.cpu, memory_gib=memory_gib)


def _bucket_warnings(settings: Deployment, *, group_size: int) -> list[str]:
    """Pods read the bucket all at once, the workers of a cache together what they are given."""
    storage, region = settings.storage, settings.cloud.region
    if isinstance(storage, FluidCacheSettings):
        return oss_warnings("deployment.storage.preloadMiBps", region=region, mib_s=storage.preload_mi_bps)
    pods = settings.inference.most_replicas * group_size
    return oss_warnings(
        "deployment.storage.throughputMiBps", region=region, mib_s=storage.throughput_mi_bps, clients=pods
    )


def _features(settings: Deployment) -> list[Feature]:
    rollout, lifecycle = settings.inference.rollout, settings.inference.lifecycle
    return asked_features(
        partition=rollout.partition,
        max_unavailable=rollout.max_unavailable,
        restart_after_start=lifecycle is not None and lifecycle.group_restart == "afterStart",
    )


def _installed_lws(settings: Deployment) -> Version | None:
    """Version of the LeaderWorkerSet controller, where the stack installs it."""
    lws = settings.operators.lws
    if not isinstance(lws, InstallLws):
        return None
    major, minor, patch = map(int, lws.version.split("."))
    return major, minor, patch


def _benchmark(settings: Deployment, case: Case) -> list[Finding]:
    benchmark = settings.verification.benchmark if settings.verification else None
    if benchmark is None:
        return []
    return benchmark_findings(
        image=benchmark.image or settings.inference.engine.image,
        tokens=benchmark.input_tokens + benchmark.output_tokens,
        max_model_len=case.max_model_len,
    )


def _sidecar(storage: FluidCacheSettings, case: Case) -> list[Finding]:
    """The client of the cache lives in the pod and must leave something of it."""
    free_gib = case.memory_gib - case.shared_memory_gib
    if storage.sidecar_cpu < case.cpu and mebibytes(storage.sidecar_memory) / 1024 < free_gib:
        return []
    return [
        Finding(
            path="deployment.storage",
            problem=f"the client of the cache takes {storage.sidecar_cpu} vCPU and {storage.sidecar_memory} of a pod "
            f"with {case.cpu} vCPU and {quantity(case.memory_gib)}, {quantity(case.shared_memory_gib)} of it shared "
            "memory",
            fix="write smaller sidecarCpu and sidecarMemory, or larger deployment.inference.resources",
        )
    ]


def pod_choices(settings: Deployment, *, cards: int) -> PodChoices:
    """What the rules of ACS need of the settings; ``cards`` per pod may have been derived."""
    inference = settings.inference
    return PodChoices(
        series=inference.gpu.series,
        cards=cards,
        compute_class=inference.gpu.compute_class,
        qos=inference.qos,
        rdma=inference.network == "rdma",
        resource=inference.gpu.resource,
        driver_version=inference.gpu.driver_version,
        extra_ephemeral_gib=gibibytes(inference.resources.extra_ephemeral_storage or "0Gi"),
        port=inference.engine.port,
        request_seconds=inference.lifecycle.request_seconds if inference.lifecycle else None,
    )


def _cache_plan(storage: FluidCacheSettings, settings: Deployment, *, weights_gib: float, group_size: int) -> CachePlan:
    return plan_cache(
        CacheChoices(
            weights_gib=weights_gib,
            workers=storage.workers,
            cpu=storage.cpu,
            memory_gib=gibibytes(storage.memory),
            pods=settings.inference.most_replicas * group_size,
            throughput_mib_s=storage.throughput_mi_bps,
            preload_mib_s=storage.preload_mi_bps,
        )
    )


def project_path(text: str) -> Path:
    """A path of the stack file: relative to the project and not to the working directory, which the engine chooses."""
    return Path(__file__).parent.parent / Path(text).expanduser()


def choices(settings: Deployment) -> Choices:
    """What the planner needs of the settings."""
    model, inference = settings.model, settings.inference
    gpu, resources, engine, lifecycle = inference.gpu, inference.resources, inference.engine, inference.lifecycle
    budget = lifecycle.disruption_budget if lifecycle else None
    return Choices(
        model=model.name,
        weights_gib=model.weights_gib,
        config_file=str(project_path(model.config_file)) if model.config_file else None,
        series=gpu.series,
        cards=gpu.cards,
        gpu_memory_gib=gpu.gpu_memory_gib,
        available_gpus=gpu.available,
        tensor=inference.parallelism.tensor,
        pipeline=inference.parallelism.pipeline,
        cpu=resources.cpu,
        memory_gib=_gib(resources.memory),
        shared_memory_gib=_gib(resources.shared_memory),
        image=engine.image,
        backend=engine.backend,
        port=engine.port,
        max_model_len=engine.max_model_len,
        gpu_memory_utilization=engine.gpu_memory_utilization,
        cache_gib=engine.cache_gib,
        enforce_eager=engine.enforce_eager,
        extra_args=engine.extra_args,
        startup_seconds=engine.startup_seconds,
        # Pods on a capacity reservation of one's own have RDMA with any number of cards.
        network=inference.network if gpu.compute_class == GPU else "standard",
        name=inference.name,
        replicas=inference.most_replicas,
        least_replicas=None if isinstance(inference.scaling, ManualScaling) else inference.scaling.min_replicas,
        scaling=_scaling(inference.scaling),
        max_surge=inference.rollout.max_surge,
        max_unavailable=inference.rollout.max_unavailable,
        partition=inference.rollout.partition,
        request_seconds=lifecycle.request_seconds if lifecycle else None,
        drain_seconds=drain_seconds(lifecycle.grace_seconds) if lifecycle and lifecycle.grace_seconds else None,
        evictable_groups=budget.max_unavailable if budget else None,
        throughput_mib_s=settings.storage.throughput_mi_bps,
    )


def _scaling(scaling: ManualScaling | Autoscaler) -> str | None:
    """For the summary: a hold that is forgotten may cost a lot."""
    if isinstance(scaling, ManualScaling):
        return None
    return scaling.kind if scaling.hold is None else f"{scaling.kind}, held at {scaling.hold}"


def _gib(size: str | None) -> float | None:
    return mebibytes(size) / 1024 if size else None


def findings(error: ValidationError) -> list[Finding]:
    """The errors of pydantic as findings. The values that were given are left out: one could be a misplaced secret."""
    return [_finding(detail) for detail in error.errors(include_input=False, include_url=False)]


def _finding(detail: ErrorDetails) -> Finding:
    model, location = _locate(detail["loc"])
    path = ".".join([DEPLOYMENT, *location])
    context: Mapping[str, Any] = detail.get("ctx", {})
    name = location[-1] if location else ""
    expected = _expected(model, name)
    match detail["type"]:
        case "check":
            problem, fix = context["problem"], context["fix"]
        case "missing":
            problem, fix = "this setting is required", f"add it: {expected}"
        case "extra_forbidden":
            near = difflib.get_close_matches(name, _aliases(model), n=1)
            problem = "there is no such setting"
            fix = f"did you mean {near[0]}?" if near else f"remove it; known here: {', '.join(_aliases(model))}"
        case "literal_error":
            problem, fix = "there is no such choice", f"write {context['expected']}"
        case "union_tag_invalid" | "union_tag_not_found":
            problem = "there is no such choice" if "tag" in context else "this setting is required"
            path, fix = f"{path}.kind", f"write {' or '.join(_kinds(model, name))}"
        case "tuple_type":
            problem, fix = "a list is expected", f"write each item on a line of its own, after a dash: {expected}"
        case "model_type" | "model_attributes_type" | "dict_type":
            problem = "settings of its own are expected"
            fix = f"write them below it, each on a line{_below(model, name)}"
        case "string_type":
            problem, fix = "a text is expected", "write one, in quotes if it looks like a number or like yes"
        case "string_pattern_mismatch":
            problem, fix = "the value does not have the expected form", expected
        case _:
            problem, fix = _decapitalise(detail["msg"]), expected
    return Finding(path=path, problem=problem, fix=fix)


def _decapitalise(text: str) -> str:
    # "GPU series" stays as it is.
    return text if text[1:2].isupper() else text[0].lower() + text[1:]


def _locate(loc: tuple[int | str, ...]) -> tuple[type[BaseModel], list[str]]:
    """The model that holds the field at ``loc``, and ``loc`` as the stack file spells it (without union tags)."""
    model: type[BaseModel] = Deployment
    holder = model
    location: list[str] = []
    members: Mapping[str, type[BaseModel]] = {}
    for part in loc:
        if isinstance(part, int):
            location[-1] += f"[{part}]"
            continue
        if part in members:
            model, members = members[part], {}
            continue
        location.append(part)
        holder = model
        nested = _nested_models(model, part)
        members = {_kind(member): member for member in nested} if len(nested) > 1 else {}
        model = nested[0] if nested else model
    return holder, location


def _nested_models(model: type[BaseModel], alias: str) -> list[type[BaseModel]]:
    field = next((f for f in model.model_fields.values() if f.alias == alias), None)
    if field is None:
        return []
    candidates = get_args(field.annotation) or (field.annotation,)
    return [c for c in candidates if isinstance(c, type) and issubclass(c, Settings)]


def _kind(model: type[BaseModel]) -> str:
    return str(get_args(model.model_fields["kind"].annotation)[0])


def _kinds(model: type[BaseModel], alias: str) -> list[str]:
    return [f"'{_kind(member)}'" for member in _nested_models(model, alias)]


def _below(model: type[BaseModel], alias: str) -> str:
    """The settings of a section, or its kinds."""
    nested = _nested_models(model, alias) if alias else [model]
    if not nested:
        return ""
    return f": {', '.join(_aliases(nested[0]))}" if len(nested) == 1 else f": kind: {' or '.join(_kinds(model, alias))}"


def _aliases(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _expected(model: type[BaseModel], alias: str) -> str:
    """What the field is for, from its docstring, and an example if it has one: the best hint at what to write."""
    name = alias.split("[", 1)[0]
    found = next(((key, field) for key, field in model.model_fields.items() if field.alias == name), None)
    if found is None:
        return "compare the file with Pulumi.dev.yaml and stack.schema.json"
    key, field = found
    example = f" Example: {field.examples[0]}" if field.examples else ""
    return _decapitalise(" ".join(descriptions(model)[key].split())) + example
