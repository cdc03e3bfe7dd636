"""Builds the components' arguments from the specification: the only module that knows both.

Each function builds the arguments of the component that it is named after; None if the specification has no such part.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import TypedDict, cast

import pulumi

from deepseek_acs.planner.api_paths import exact_paths, parent_paths
from deepseek_acs.planner.catalogue import NVIDIA
from deepseek_acs.planner.compiled import HELPER_CPU, HELPER_GIB
from deepseek_acs.planner.gating import LONG_SECONDS, SILENCE_SECONDS, exam_seconds
from deepseek_acs.planner.loading import POD_START_SECONDS
from deepseek_acs.planner.metrics import EngineMetrics
from deepseek_acs.planner.pod_security import namespace_labels
from deepseek_acs.planner.shutdown import refuses_while_ending
from deepseek_acs.planner.spec import HubSpec, ResolvedSpec, of_revision
from deepseek_acs.planner.starts import start_plan
from deepseek_acs.planner.vllm import RENDEZVOUS_PORTS

from .access import Access, AccessArgs
from .acs_pods import gpu_annotations, gpu_labels, gpu_node_selector, network_environment, policy_annotations
from .canary_guard import CanaryGuardArgs, canary_guard_labels
from .cluster import ClusterArgs
from .compile_cache import CompileCacheArgs
from .cost_guard import CostGuardArgs
from .credentials import AccessKey, AssumableRole
from .disruption_budget import DisruptionBudgetArgs
from .fluid_cache import FluidCache, FluidCacheArgs
from .gang import GangArgs
from .gate import GateArgs, KnownGood, QuestionArgs
from .group_args import InferenceGroupArgs
from .incidents import IncidentsArgs
from .inference_group import InferenceGroup
from .inference_pool import EndpointPickerArgs, InferencePoolArgs, LeaderPool, PickerWeights, picker_labels, picker_name
from .inference_service import InferenceService, InferenceServiceArgs
from .labels import reports_name
from .model_bucket import ModelBucket, ModelBucketArgs, StoredWeights
from .model_mount import ModelMount
from .model_upload import ModelUploadArgs
from .monitoring.alerts import AlertThresholds
from .monitoring.logs import log_arguments, log_environment
from .names import name_of
from .network_policy import CACHE_LABELS, HEALTH_CHECKS, INCIDENTS, VERIFICATION, Client
from .observability import ObservabilityArgs
from .operators import OperatorsArgs
from .oss_volume import OssVolume, OssVolumeArgs
from .preflight import PreflightArgs
from .request_filter import RequestFilterArgs
from .route import Route, RouteArgs
from .scaling import AutoscalingArgs, Window
from .secrets import Secrets
from .verification import BenchmarkArgs, VerificationArgs

VOLUME, CACHE = "llm-model", "llm-cache"
"""Names of the two storage layers; the names of their objects begin with them."""

SCHEMES = {"modelScope": "modelscope", "huggingFace": "hf"}


def cluster(spec: ResolvedSpec) -> ClusterArgs:
    """Namespace and controllers."""
    lws, fluid = spec.operators.lws, spec.operators.fluid
    operators = OperatorsArgs(region=spec.cloud.region, fluid_sidecar=_sidecar_kind(spec))
    if lws.kind == "install":
        operators = dataclasses.replace(
            operators, lws_version=lws.version, lws_repository=lws.repository, lws_image=lws.image
        )
    if fluid.kind == "install":
        operators = dataclasses.replace(operators, fluid_chart=fluid.chart, fluid_image_tag=fluid.image_tag)
    return ClusterArgs(
        namespace=spec.cluster.namespace,
        create_namespace=spec.cluster.create_namespace,
        labels=namespace_labels(spec),
        operators=operators,
    )


def _sidecar_kind(spec: ResolvedSpec) -> str:
    return spec.storage.sidecar if spec.storage.kind == "fluid" else "acs"


def _mover_account() -> str:
    """Service account of the pod that moves the weights, where a role is assumed: the role's trust policy names it."""
    return name_of("model-upload")


def model_bucket(spec: ResolvedSpec, secrets: Secrets) -> ModelBucketArgs:
    """The bucket and its identities."""
    bucket, identity = spec.weights.bucket, spec.weights.identity
    rrsa = identity if identity.kind == "rrsa" else None
    return ModelBucketArgs(
        region=spec.cloud.region,
        endpoint=spec.cloud.endpoint,
        bucket=bucket.name,
        existing=bucket.kind == "existing",
        retain=bucket.kind == "existing" or bucket.retain,
        prefix=spec.weights.prefix,
        other_prefixes=tuple(one.weights.prefix for one in spec.revisions[1:] if has_own_weights(spec, one)),
        moves=any(one.weights.hub is not None for one in spec.revisions),
        access_key=secrets.access_key,
        oidc_provider_arn=rrsa.oidc_provider_arn if rrsa else None,
        oidc_issuer=rrsa.oidc_issuer if rrsa else None,
        vpc_id=spec.cloud.vpc_id,
        mover_rights_end=spec.weights.upload.rights_end,
        rotation=identity.rotation if identity.kind == "ramUser" else 1,
        mover_subject=f"system:serviceaccount:{spec.cluster.namespace}:{_mover_account()}",
        compiled_prefix=_compiled_prefix(spec) if any(one.engine.compile_cache for one in spec.revisions) else None,
        compiled_subject=f"system:serviceaccount:{spec.cluster.namespace}:"
        + (spec.base_name if spec.security.pods else "default"),
    )


def _compiled_prefix(spec: ResolvedSpec) -> str:
    """Folder of the bucket for compiled code, which the revisions of a group share. Another stack must not write there:
    what is there is run."""
    return f".compilecache/{spec.cluster.namespace}/{spec.base_name}"


def has_own_weights(spec: ResolvedSpec, revision: ResolvedSpec) -> bool:
    """Whether a second revision of ``spec`` serves another model."""
    return revision.weights.prefix != spec.weights.prefix


class _Credentials(TypedDict, total=False):
    access_key_id: pulumi.Input[str]
    access_key_secret: pulumi.Input[str]
    role_arn: pulumi.Input[str]
    oidc_provider_arn: pulumi.Input[str]


def _credentials(given: AccessKey | AssumableRole) -> _Credentials:
    if isinstance(given, AccessKey):
        return {"access_key_id": given.key_id, "access_key_secret": given.key_secret}
    return {"role_arn": given.role_arn, "oidc_provider_arn": given.oidc_provider_arn}


def model_upload(spec: ResolvedSpec, secrets: Secrets, bucket: ModelBucket) -> ModelUploadArgs:
    """The Job that moves or checks the weights."""
    hub, upload = spec.weights.hub, spec.weights.upload
    return ModelUploadArgs(
        namespace=spec.cluster.namespace,
        source=f"{SCHEMES[hub.kind]}://{hub.repository}@{hub.revision}" if hub else None,
        destination=pulumi.Output.format("oss://{0}/{1}", bucket.bucket_name, spec.weights.prefix),
        region=bucket.region,
        endpoint=bucket.endpoint,
        options=_move_options(spec, hub) if hub else _check_options(spec),
        **_credentials(bucket.mover_credentials),
        service_account=_mover_account(),
        hub_token=secrets.hub_token,
        image=upload.image,
        cpu=upload.cpu,
        memory=upload.memory,
        eip_bandwidth_mbps=upload.eip_bandwidth_mbps,
        deadline_seconds=spec.upload_seconds,
        annotations=policy_annotations(spec),
    )


def _check_options(spec: ResolvedSpec) -> tuple[str, ...]:
    """With a digest all bytes are read: size and CRC-64 do not detect deliberate changes. Once, because the Job runs
    again only when its arguments change."""
    digest = spec.weights.manifest_sha256
    return (f"--manifest-sha256={digest}", "--full") if digest else ()


def _move_options(spec: ResolvedSpec, hub: HubSpec) -> tuple[str, ...]:
    largest = spec.largest_gib
    return (
        *([f"--max-weights-gib={largest:.4g}"] if largest else []),
        *(f"--quantization={method}" for method in spec.quant_methods),
        *(f"--include={pattern}" for pattern in hub.include),
        *(f"--exclude={pattern}" for pattern in hub.exclude),
        *([f"--manifest-sha256={spec.weights.manifest_sha256}"] if spec.weights.manifest_sha256 else []),
        *(["--code"] if spec.engine.trust_remote_code else []),
        *(["--allow-pickle"] if spec.weights.allow_pickle else []),
        *([f"--hub-endpoint={hub.endpoint}"] if hub.endpoint else []),
        # The pod is in that region, so it may be redirected to internal addresses.
        *([f"--hub-region={spec.cloud.region}"] if hub.kind == "modelScope" else []),
    )


def storage(spec: ResolvedSpec, bucket: ModelBucket, opts: pulumi.ResourceOptions) -> OssVolume | FluidCache:
    """The storage layer that the specification names. After a change of kind the new layer is created in addition to
    the old one, which is deleted at the end of the update, when the group has moved."""
    # Not how the weights came there: pods that mount a volume do not care.
    if spec.cache is None:
        return OssVolume(VOLUME, oss_volume(spec, bucket, content=_content(spec, bucket)), opts)
    hub = spec.weights.hub
    moved = (*dataclasses.astuple(hub), spec.weights.allow_pickle) if hub else ()
    content = _content(spec, bucket, spec.model.name, moved)
    return FluidCache(CACHE, fluid_cache(spec, bucket, content=content), opts)


def second_storage(
    revision: ResolvedSpec, bucket: ModelBucket, first: OssVolume | FluidCache, opts: pulumi.ResourceOptions
) -> OssVolume:
    """The volume of a second revision. Its objects have the names that they keep when the revision is promoted."""
    if not isinstance(first, OssVolume):
        raise TypeError("a cache holds one model")
    args = oss_volume(revision, bucket, content=_content(revision, bucket))
    args = dataclasses.replace(args, secret_name=first.secret_name, claim_prefix=VOLUME)
    return OssVolume(of_revision(VOLUME, revision.revision), args, opts)


def oss_volume(spec: ResolvedSpec, weights: StoredWeights, *, content: str) -> OssVolumeArgs:
    """The volume over the bucket's folder."""
    return OssVolumeArgs(
        namespace=spec.cluster.namespace,
        bucket_name=weights.bucket_name,
        endpoint=weights.endpoint,
        prefix=spec.weights.prefix,
        content=content,
        mount_options=spec.storage.mount_options if spec.storage.kind == "csi" else (),
        **_credentials(weights.reader_credentials),
        release_seconds=spec.update_seconds,
    )


def fluid_cache(spec: ResolvedSpec, weights: StoredWeights, *, content: str) -> FluidCacheArgs:
    """The cache over it."""
    cache, layer, reader = spec.cache, spec.storage, weights.reader_credentials
    if cache is None or layer.kind != "fluid" or not isinstance(reader, AccessKey):
        raise ValueError("a cache needs storage of kind fluid, which reads with an AccessKey")
    return FluidCacheArgs(
        namespace=spec.cluster.namespace,
        bucket_name=weights.bucket_name,
        endpoint=weights.endpoint,
        prefix=spec.weights.prefix,
        content=content,
        access_key_id=reader.key_id,
        access_key_secret=reader.key_secret,
        workers=cache.workers,
        cpu=layer.cpu,
        memory=layer.memory,
        quota_gib=cache.quota_gib,
        preload_seconds=cache.preload_seconds,
        zone=spec.zone,
        sidecar=layer.sidecar,
        sidecar_cpu=layer.sidecar_cpu,
        sidecar_memory=layer.sidecar_memory,
        image=spec.weights.upload.image,
        labels=CACHE_LABELS if spec.security.network_policy else {},
        annotations=policy_annotations(spec),
        # Controllers before LWS 0.9 report the end of an update too early, when all groups may still have to be
        # replaced.
        release_seconds=spec.update_seconds,
    )


def _content(spec: ResolvedSpec, bucket: ModelBucket, *more: object) -> str:
    """The mounted content, and the identity that reads it."""
    weights = spec.weights
    bucket_settings = weights.bucket.model_dump(mode="json")
    where = [
        # Whether the bucket outlives the stack does not change its content: it must not cost a load of the model.
        bucket_settings | ({"retain": True} if "retain" in bucket_settings else {}),
        weights.prefix,
        weights.identity.model_dump(mode="json", exclude={"rotation"}),
    ]
    return json.dumps([bucket.endpoint, *where, *more])


def access(spec: ResolvedSpec, secrets: Secrets) -> AccessArgs:
    """Who may reach the pods."""
    pods, policy = spec.security.pods, spec.security.network_policy
    return AccessArgs(
        namespace=spec.cluster.namespace,
        group=spec.base_name,
        ports={revision.revision: revision.engine.port for revision in spec.revisions},
        api_key=secrets.api_key,
        client_keys=secrets.client_keys,
        ray_token=secrets.ray_token,
        has_service_account=pods is not None,
        image_pull_secrets=pods.image_pull_secrets if pods else (),
        clients=_clients(spec),
        closed_cidrs=policy.egress.closed_cidrs if policy and policy.egress else None,
        has_cache=spec.cache is not None,
        allowed_cidrs=spec.service.allowed_cidrs or (),
    )


def _clients(spec: ResolvedSpec) -> tuple[Client, ...]:
    """A load balancer preserves client addresses, so all networks that it admits are clients as well."""
    policy, service = spec.security.network_policy, spec.service
    if policy is None:
        return ()
    given = _given_clients(spec)
    jobs = [Client(pod_labels=VERIFICATION)] if spec.verification else []
    watcher = [Client(pod_labels=INCIDENTS)] if spec.observability and spec.observability.incidents else []
    picker = [Client(pod_labels=picker_labels(spec.selected.name))] if spec.picker else []
    guard = [Client(pod_labels=canary_guard_labels(spec.base_name))] if spec.update and spec.update.limits else []
    balanced = service.kind == "internalLoadBalancer"
    addresses = [Client(cidr=cidr) for cidr in (*(service.allowed_cidrs or ()), HEALTH_CHECKS)] if balanced else []
    return (*given, *jobs, *watcher, *picker, *guard, *addresses)


def _given_clients(spec: ResolvedSpec) -> tuple[Client, ...]:
    policy = spec.security.network_policy
    given = policy.clients if policy else ()
    return tuple(Client(cidr=c.cidr, namespace=c.namespace, pod_labels=c.pod_labels) for c in given)


def inference_group(
    spec: ResolvedSpec,
    mount: ModelMount,
    access: Access | None,
    bucket: ModelBucket | None = None,
    *,
    weight: int = 0,
    is_candidate: bool = False,
) -> InferenceGroupArgs:
    """The pods; those of a second revision, ``is_candidate``, get ``weight`` percent of the requests, and no gate holds
    their updates. ACS bills the sum of all containers, so the engine's share is reduced by the sidecar's."""
    engine, layout, lifecycle, pods = spec.engine, spec.layout, spec.lifecycle, spec.security.pods
    logs, check = spec.observability.logs if spec.observability else None, lifecycle.health_check if lifecycle else None
    compiled = _compile_cache(spec, bucket)
    return InferenceGroupArgs(
        namespace=spec.cluster.namespace,
        name=spec.name,
        replicas=spec.replicas.first,
        autoscaled=spec.replicas.scaler is not None,
        # The guard has set the number: the next change of the settings starts the groups again. A gate has set the
        # partition: the next one holds the groups again.
        take_over=spec.replicas.take_over
        or (spec.guard is not None and spec.replicas.scaler is None)
        or (spec.holds_updates and not is_candidate),
        has_requests_of_route=weight > 0,
        max_unavailable=spec.rollout.max_unavailable,
        max_surge=spec.rollout.max_surge,
        partition=spec.rollout.partition if is_candidate else spec.partition,
        gated=spec.holds_updates and not is_candidate,
        restart_after_start=lifecycle is not None and lifecycle.group_restart == "afterStart",
        pods=layout.pods,
        tensor=layout.tensor,
        pipeline=layout.pipeline,
        gpu_resource=spec.gpu.resource,
        gpus=layout.gpus_per_pod,
        cpu=spec.pod.cpu - mount.sidecar.cpu - (HELPER_CPU if compiled else 0),
        memory_gib=spec.pod.memory_gib - mount.sidecar.memory_mib / 1024 - (HELPER_GIB if compiled else 0),
        shared_memory_gib=spec.pod.shared_memory_gib,
        labels={**gpu_labels(spec), **mount.sidecar.labels},
        annotations=gpu_annotations(spec),
        node_selector=gpu_node_selector(spec),
        has_common_labels=spec.observability is not None,
        environment=network_environment(spec),
        default_environment={**(log_environment(logs) if logs else {}), **_trace_environment(spec)},
        image=engine.image,
        backend=engine.backend,
        ray_script=engine.ray_script,
        port=engine.port,
        served_name=spec.model.served_name,
        max_model_len=engine.max_model_len,
        gpu_memory_utilization=engine.gpu_memory_utilization,
        enforce_eager=engine.enforce_eager,
        trust_remote_code=engine.trust_remote_code,
        arguments=_arguments(spec),
        secret_environment=engine.secret_env,
        claim_name=mount.claim_name,
        model_path=mount.model_path,
        startup_seconds=spec.budget.startup_seconds,
        create_seconds=spec.budget.create_seconds,
        update_seconds=spec.update_seconds,
        check_command=f"make verify STACK={pulumi.get_stack()}",
        request_seconds=lifecycle.request_seconds if lifecycle else None,
        grace_seconds=lifecycle.grace_seconds if lifecycle else 0,
        drains_itself=refuses_while_ending(engine.named_version),
        lost_node_seconds=lifecycle.lost_node_seconds if lifecycle else None,
        stall_seconds=check.stall_seconds if check else None,
        canary=check is not None and check.canary,
        preflight=_preflight(spec),
        compile_cache=compiled,
        request_filter=_request_filter(spec),
        api_key_secret=access.api_key_secret if access else None,
        ray_token_secret=access.ray_token_secret if access else None,
        service_account=access.service_account if access else None,
        hardened=pods is not None,
        run_as_user=pods.run_as_user if pods else None,
        run_as_group=pods.run_as_group if pods else None,
        read_only_root=pods is not None and pods.read_only_root,
        uses_rdma=spec.network == "rdma",
    )


def _trace_environment(spec: ResolvedSpec) -> dict[str, str]:
    """https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/"""
    traces = spec.traces
    if traces is None:
        return {}
    return {"OTEL_SERVICE_NAME": spec.name, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": traces.protocol}


def _compile_cache(spec: ResolvedSpec, bucket: ModelBucket | None) -> CompileCacheArgs | None:
    if not spec.engine.compile_cache or bucket is None or bucket.compiled_credentials is None:
        return None
    hub = spec.weights.hub
    return CompileCacheArgs(
        place=pulumi.Output.format("oss://{0}/{1}", bucket.bucket_name, _compiled_prefix(spec)),
        region=bucket.region,
        endpoint=bucket.endpoint,
        model=f"{spec.model.name} {hub.revision if hub else ''} in {spec.weights.prefix}",
        series=spec.gpu.series,
        **_credentials(bucket.compiled_credentials),
    )


def _preflight(spec: ResolvedSpec) -> PreflightArgs | None:
    if spec.preflight is None:
        return None
    gpu = spec.gpu
    return PreflightArgs(
        gpus=spec.layout.gpus_per_pod,
        nvidia=gpu.resource == NVIDIA,
        gpu_name=gpu.device.name if gpu.device else "",
        gpu_memory_gib=gpu.device.memory_gib if gpu.device else 0,
        shared_memory_gib=spec.pod.shared_memory_gib,
        port=RENDEZVOUS_PORTS[spec.engine.backend],
        wait_seconds=POD_START_SECONDS,
        rdma=spec.network == "rdma",
        least_gb_s=spec.preflight.least_gb_ps,
    )


def _request_filter(spec: ResolvedSpec) -> RequestFilterArgs | None:
    chosen = spec.request_filter
    if chosen is None:
        return None
    return RequestFilterArgs(
        paths=spec.api_paths,
        header_bytes=chosen.header_bytes,
        body_bytes=chosen.body_bytes,
        sequences=chosen.sequences,
        prompt_characters=chosen.prompt_characters,
        prompt_tokens=chosen.prompt_tokens,
        open_metrics=chosen.open_metrics,
    )


def _arguments(spec: ResolvedSpec) -> tuple[str, ...]:
    engine, lifecycle = spec.engine, spec.lifecycle
    logs = spec.observability.logs if spec.observability else None
    quiet = log_arguments(logs, version=engine.named_version, extra_args=engine.extra_args) if logs else []
    drains = lifecycle is not None and refuses_while_ending(engine.named_version)
    # With it, the engine itself finishes its requests after SIGTERM.
    ending = ["--shutdown-timeout", str(lifecycle.request_seconds)] if lifecycle and drains else []
    return (*quiet, *ending, *engine.arguments)


def revision_service(spec: ResolvedSpec, group: InferenceGroup) -> InferenceServiceArgs | None:
    """The Service of one revision's leaders; None before the first update by a second revision. The route sends
    requests to it, so a promotion changes no backend."""
    if not spec.revision:
        return None
    return InferenceServiceArgs(
        namespace=spec.cluster.namespace,
        name=of_revision(spec.service.name, spec.revision),
        selector=group.leader_labels,
        port=spec.service.port,
        target_port=spec.engine.port,
    )


def inference_service(spec: ResolvedSpec, group: InferenceGroup, access: Access) -> InferenceServiceArgs:
    """The Service of the leaders that clients use; ``spec`` and ``group`` are those of the selected revision."""
    return InferenceServiceArgs(
        namespace=spec.cluster.namespace,
        name=spec.service.name,
        selector=group.leader_labels,
        port=spec.service.port,
        target_port=spec.engine.port,
        internal_load_balancer=spec.service.kind == "internalLoadBalancer",
        acl_id=access.acl_id,
        request_seconds=spec.lifecycle.request_seconds if spec.lifecycle else None,
    )


def disruption_budget(spec: ResolvedSpec, group: InferenceGroup) -> DisruptionBudgetArgs | None:
    """A limit for evictions."""
    evictable = spec.lifecycle.evictable_groups if spec.lifecycle else None
    if evictable is None:
        return None
    return DisruptionBudgetArgs(namespace=spec.cluster.namespace, group_name=group.name, max_unavailable=evictable)


def inference_pool(spec: ResolvedSpec, group: InferenceGroup) -> InferencePoolArgs | None:
    """The leaders as a pool of a gateway that knows their caches and queues."""
    chosen = spec.service.route
    if chosen is None or chosen.kind != "inferencePool":
        return None
    args = InferencePoolArgs(
        namespace=spec.cluster.namespace, group=spec.name, selector=group.leader_labels, port=spec.engine.port
    )
    picker = chosen.endpoint_picker
    if picker.kind == "expect":
        return dataclasses.replace(args, picker_service=picker.service, picker_port=picker.port)
    deployed = EndpointPickerArgs(
        image=picker.image,
        cpu=picker.cpu,
        memory=picker.memory,
        engine_version=spec.engine.vllm.version,
        weights=PickerWeights(**picker.weights.model_dump()),
        image_pull_secrets=spec.security.pods.image_pull_secrets if spec.security.pods else (),
        clients=_given_clients(spec),
        annotations=policy_annotations(spec),
    )
    return dataclasses.replace(args, picker=deployed)


def route(
    spec: ResolvedSpec,
    secrets: Secrets,
    service: InferenceService,
    services: Mapping[str, InferenceService],
    pool: LeaderPool | None,
) -> RouteArgs | None:
    """The route through a proxy of the cluster: to ``pool``, or to the Services of the revisions that have one, or to
    ``service``."""
    chosen = spec.service.route
    if chosen is None:
        return None
    args = RouteArgs(
        namespace=spec.cluster.namespace,
        host=chosen.host,
        service=service.name,
        port=spec.service.port,
        exact_paths=exact_paths(spec.api_paths),
        parent_paths=parent_paths(spec.api_paths),
        request_seconds=chosen.request_seconds,
    )
    if chosen.kind != "ingress":
        update = spec.update if spec.weighs_requests else None
        return dataclasses.replace(
            args,
            gateway=chosen.name,
            gateway_namespace=chosen.namespace,
            section_name=chosen.section_name,
            pool=pool.name if pool else None,
            service=services.get(spec.revision, service).name,
            candidate=services[update.candidate.revision].name if update else None,
            weight=update.weight if update else 0,
        )
    certificate = secrets.certificate
    return dataclasses.replace(
        args,
        class_name=chosen.class_name,
        tls=chosen.tls.kind != "none",
        tls_secret=chosen.tls.name if chosen.tls.kind == "secret" else None,
        certificate=certificate.chain if certificate else None,
        key=certificate.key if certificate else None,
        annotations=chosen.annotations,
    )


def observability(spec: ResolvedSpec, group: InferenceGroup, access: Access) -> ObservabilityArgs | None:
    """Monitor, alerts and dashboard."""
    chosen = spec.observability
    if chosen is None:
        return None
    alerts, dashboard = chosen.alerts, chosen.dashboard
    return ObservabilityArgs(
        namespace=spec.cluster.namespace,
        group=spec.name,
        selector=group.leader_labels,
        engine_version=spec.engine.vllm.version,
        budget=spec.budget,
        labels=chosen.labels,
        scrape_seconds=chosen.scrape_seconds,
        keys_secret=access.api_key_secret if spec.request_filter else None,
        picker_labels=picker_labels(spec.name) if spec.picker else None,
        alerts=AlertThresholds(
            **alerts.model_dump(),
            least_groups=spec.replicas.least if spec.guard else None,
            gated_seconds=gate_seconds(spec) if spec.gate and spec.holds_updates else None,
            incidents=reports_name(spec.name) if chosen.incidents else None,
            picker=picker_name(spec.name) if spec.picker else None,
        )
        if alerts
        else None,
        dashboard_labels=dashboard.labels if dashboard else None,
        dashboard_folder=dashboard.folder if dashboard else None,
    )


def gang(spec: ResolvedSpec) -> GangArgs | None:
    """The PodGroup of the group's pods."""
    if spec.gang is None:
        return None
    return GangArgs(
        namespace=spec.cluster.namespace,
        group=spec.name,
        pods=spec.layout.pods,
        timeout_seconds=spec.gang.schedule_timeout_seconds,
    )


def cost_guard(spec: ResolvedSpec) -> CostGuardArgs | None:
    """What gives up groups that cannot become ready."""
    guard, scaler = spec.guard, spec.replicas.scaler
    if guard is None:
        return None
    return CostGuardArgs(
        namespace=spec.cluster.namespace,
        group=spec.name,
        gpu_resource=spec.gpu.resource,
        replicas=spec.replicas.most,
        failed_starts=guard.failed_starts,
        back_off_seconds=guard.back_off_seconds,
        pending_seconds=guard.pending_seconds,
        unready_seconds=guard.unready_seconds,
        pauses_keda=scaler is not None and scaler.kind != "hpa",
        # An HPA does nothing at 0, and would undo anything else.
        all_or_none=scaler is not None and scaler.kind == "hpa",
        image=spec.weights.upload.image,
        annotations=policy_annotations(spec),
    )


def canary_guard(
    spec: ResolvedSpec, *, route: Route, group: InferenceGroup, service: InferenceService, access: Access
) -> CanaryGuardArgs | None:
    """What takes the requests from the second revision, whose group and Service are given."""
    update = spec.update
    if update is None or update.limits is None:
        return None
    metrics, limits = EngineMetrics(version=update.candidate.engine.vllm.version), update.limits
    return CanaryGuardArgs(
        namespace=spec.cluster.namespace,
        base_name=spec.base_name,
        group=group.name,
        service=service.name,
        port=update.candidate.engine.port,
        route=route.name,
        http_requests=metrics.http_requests,
        finished=metrics.finished,
        first_token_latency=metrics.first_token_latency,
        error_share=limits.error_share,
        first_token_seconds=limits.time_to_first_token_seconds,
        least_requests=limits.least_requests,
        keys_secret=access.api_key_secret if spec.request_filter else None,
        image=spec.weights.upload.image,
        annotations=policy_annotations(spec),
    )


def incidents(spec: ResolvedSpec, access: Access) -> IncidentsArgs | None:
    """What keeps evidence of groups that ended."""
    chosen = spec.observability.incidents if spec.observability else None
    if chosen is None:
        return None
    return IncidentsArgs(
        namespace=spec.cluster.namespace,
        group=spec.name,
        port=spec.engine.port,
        keep=chosen.keep,
        lines=chosen.lines,
        plan=start_plan(spec),
        keys_secret=access.api_key_secret,
        asks_metrics_key=spec.request_filter is not None and access.api_key_secret is not None,
        ray_token_secret=access.ray_token_secret,
        secret_environment=spec.engine.secret_env,
        image=spec.weights.upload.image,
        annotations=policy_annotations(spec),
    )


def autoscaling(spec: ResolvedSpec, secrets: Secrets) -> AutoscalingArgs | None:
    """What sets the number of groups."""
    scaler = spec.replicas.scaler
    if scaler is None:
        return None
    args = AutoscalingArgs(
        namespace=spec.cluster.namespace,
        group=spec.name,
        kind=scaler.kind,
        min_replicas=scaler.min_replicas,
        max_replicas=scaler.most,
        hold=scaler.hold,
        create_seconds=spec.budget.create_seconds,
    )
    if scaler.kind == "schedule":
        windows = tuple(Window(start=w.start, end=w.end, replicas=w.replicas) for w in scaler.windows)
        return dataclasses.replace(args, timezone=scaler.timezone, windows=windows)
    args = dataclasses.replace(args, waiting_requests=scaler.waiting_requests, cache_usage=scaler.cache_usage)
    if scaler.kind == "hpa":
        # Resolved: the specification always has the name.
        return dataclasses.replace(
            args, waiting_metric=scaler.waiting_metric, cache_metric=cast(str, scaler.cache_metric)
        )
    return dataclasses.replace(
        args,
        cache_metric=EngineMetrics(version=spec.engine.vllm.version).kv_cache_usage,
        prometheus_url=scaler.prometheus.url,
        prometheus_token=secrets.prometheus_token,
        activation_query=scaler.activation_query,
    )


def gate_seconds(spec: ResolvedSpec) -> int:
    """How long an update may take with its gate: the first group, asking it, and all groups."""
    asking = exam_seconds(spec.gate) if spec.gate else 0
    return spec.gate_ready_seconds + asking + spec.update_seconds


def gate(
    spec: ResolvedSpec, *, records: KnownGood | None, access: Access, group: InferenceGroup, baseline: str | None = None
) -> GateArgs | None:
    """What asks the first new group of an update; of a second revision, all its groups are new, and ``baseline`` is the
    LeaderWorkerSet that serves."""
    chosen = spec.gate
    if chosen is None or records is None or not spec.holds_updates:
        return None
    return GateArgs(
        namespace=spec.cluster.namespace,
        store=records.name,
        group=spec.name,
        model=spec.model.served_name,
        port=spec.engine.port,
        template_digest=group.template_digest,
        baseline=baseline,
        questions=tuple(QuestionArgs(ask=one.ask, holds=one.holds) for one in chosen.questions),
        max_tokens=chosen.max_tokens,
        at_least=chosen.at_least,
        worse_by=chosen.worse_by,
        long_tokens=spec.long_prompt_tokens,
        **chosen.load.model_dump(),
        slower_by=chosen.slower_by,
        returns=chosen.on_failure == "return" and baseline is None,
        ready_seconds=spec.gate_ready_seconds,
        deadline_seconds=gate_seconds(spec),
        silence_seconds=SILENCE_SECONDS,
        long_seconds=LONG_SECONDS,
        api_key_secret=access.api_key_secret,
        image=spec.weights.upload.image,
        annotations=policy_annotations(spec),
    )


def verification(
    spec: ResolvedSpec, *, mount: ModelMount, access: Access, group: InferenceGroup, service: InferenceService
) -> VerificationArgs | None:
    """The Jobs that verify the endpoint."""
    chosen = spec.verification
    if chosen is None or spec.replicas.first == 0:
        return None
    benchmark = chosen.benchmark
    return VerificationArgs(
        namespace=spec.cluster.namespace,
        model=spec.model.served_name,
        url=pulumi.Output.format("http://{0}:{1}", service.dns_name, spec.service.port),
        subject=group.template_digest,
        smoke=chosen.smoke,
        benchmark=BenchmarkArgs(
            image=benchmark.image or spec.engine.image,
            trust_remote_code=spec.engine.trust_remote_code,
            **benchmark.model_dump(exclude={"image"}),
        )
        if benchmark
        else None,
        image=spec.weights.upload.image,
        claim_name=mount.claim_name,
        model_path=mount.model_path,
        labels=mount.sidecar.labels,
        api_key_secret=access.api_key_secret,
        filtered=spec.request_filter is not None or not spec.service.api_key,
        service_account=access.service_account,
        # The end of a hold at 0 changes nothing that the update of the group would wait for.
        loading_seconds=spec.budget.create_seconds if spec.replicas.scaler else 0,
        annotations=policy_annotations(spec),
    )
