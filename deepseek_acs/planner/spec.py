"""The resolved specification of a deployment: everything that was left open is decided, everything is looked up.

It is the only thing that checks, the composition of the components and the texts for people read. ``resolve.py`` makes
one from the settings; the search makes others that differ in layout, series or length.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from deepseek_acs.planner import catalogue
from deepseek_acs.planner.api_paths import api_paths
from deepseek_acs.planner.catalogue import Gpu, GpuSeries, resource_name
from deepseek_acs.planner.findings import Field
from deepseek_acs.planner.fluid import CachePlan, plan_cache
from deepseek_acs.planner.loading import LoadBudget, load_budget
from deepseek_acs.planner.memory import Memory, estimate
from deepseek_acs.planner.model import Model, Unpredicted
from deepseek_acs.planner.prices import Prices
from deepseek_acs.planner.starts import MeasuredStarts
from deepseek_acs.planner.uncounted import ACCEPTED, Uncounted, reads_images, uncounted
from deepseek_acs.planner.upload import largest_gib, upload_deadline_seconds
from deepseek_acs.planner.vllm import Engine, Serving, engine_of, serving_changes, version_of
from deepseek_acs.planner.vllm_releases.release import Version, changed_in, newest

if TYPE_CHECKING:
    from deepseek_acs.settings.cloud import CloudSettings, ClusterSettings
    from deepseek_acs.settings.gate import GateSettings
    from deepseek_acs.settings.guard import GuardSettings
    from deepseek_acs.settings.inference import GangSettings, PreflightSettings, RestartSettings
    from deepseek_acs.settings.lifecycle import HealthCheckSettings
    from deepseek_acs.settings.observability import ObservabilitySettings, TraceSettings
    from deepseek_acs.settings.operators import OperatorsSettings
    from deepseek_acs.settings.route import DeployPicker
    from deepseek_acs.settings.scaling import Autoscaler
    from deepseek_acs.settings.security import SecuritySettings
    from deepseek_acs.settings.service import ServiceSettings
    from deepseek_acs.settings.storage import FluidCacheSettings, OssVolumeSettings
    from deepseek_acs.settings.update import LimitSettings
    from deepseek_acs.settings.verification import VerificationSettings
    from deepseek_acs.settings.weights import (
        AccessKeyIdentity,
        CreateBucket,
        ExistingBucket,
        RamUserIdentity,
        RrsaIdentity,
        UploadSettings,
    )

UNREADY_FACTOR = 2
"""Times the planned time of a start after which a group that holds GPUs and is not ready is given up."""

BACK_OFF_SECONDS = 60

VCPUS_PER_GPU = 8
MEMORY_GIB_PER_GPU = 64
SHARED_MEMORY_GIB_PER_GPU = 4
"""The guide's pod: 64 vCPUs, 512 GiB and 32 GiB of /dev/shm for 8 GPUs (https://www.alibabacloud.com/help/en/cs/
user-guide/using-acs-gpu-computing-power-to-build-a-distributed-deepseek-full-blood-version-reasoning-service)."""


CHARACTERS_PER_TOKEN = 16
"""Four times what a token of English has, so that no prompt is refused that the engine would take, but for long runs of
the same character."""


@dataclass(frozen=True, order=True)
class Layout:
    """How one replica is spread over GPUs and pods."""

    gpus_per_pod: int
    tensor: int
    pipeline: int

    @property
    def gpus(self) -> int:
        """GPUs of one replica."""
        return self.tensor * self.pipeline

    @property
    def pods(self) -> int:
        """Pods of one replica; meaningful if the GPUs fill whole pods."""
        return max(1, self.gpus // self.gpus_per_pod)

    def __str__(self) -> str:
        pods = "1 pod" if self.pods == 1 else f"{self.pods} pods"
        return f"tensor {self.tensor} × pipeline {self.pipeline} on {pods} of {self.gpus_per_pod}"


@dataclass(frozen=True, kw_only=True)
class Fixed:
    """What the user fixed of layout and pod, for the search: it varies only what is None here. Memory in GiB."""

    gpus_per_pod: int | None = None
    tensor: int | None = None
    pipeline: int | None = None
    cpu: int | None = None
    memory_gib: float | None = None
    shared_memory_gib: float | None = None


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """The model. ``shapes`` is None for a model of which at most the size is known: ``unpredicted`` says why if it has
    a config.json, and ``config_error`` if that is none. ``weights_gib`` is 0 if the size is not known, which a rule
    refuses. ``stated_gib`` is the size that the user gave, if any."""

    name: str
    served_name: str
    shapes: Model | None
    unpredicted: Unpredicted | None
    config_error: str | None
    weights_gib: float
    stated_gib: float | None

    @property
    def known(self) -> Model | Unpredicted | None:
        """What a config.json says."""
        return self.shapes or self.unpredicted

    @property
    def has_config_file(self) -> bool:
        """Whether the shapes come from a file of the user, not from the catalogue."""
        return self.shapes is not None and not self.shapes.source.startswith("https://")

    @property
    def context(self) -> int | None:
        """Tokens that the model can look back at, if that is known."""
        return self.known.context if self.known else None


@dataclass(frozen=True, kw_only=True)
class HubSpec:
    """Where the weights come from. ``endpoint`` is the address of a mirror, None for the hub's own."""

    kind: Literal["modelScope", "huggingFace"]
    repository: str
    revision: str
    endpoint: str | None
    include: tuple[str, ...]
    exclude: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class WeightsSpec:
    """The bucket with the weights, and who reads it. ``hub`` is None where the weights are in the bucket already."""

    hub: HubSpec | None
    allow_pickle: bool
    manifest_sha256: str | None
    upload: "UploadSettings"
    bucket: "CreateBucket | ExistingBucket"
    prefix: str
    identity: "RamUserIdentity | AccessKeyIdentity | RrsaIdentity"


@dataclass(frozen=True, kw_only=True)
class GpuSpec:
    """The GPUs of a pod. ``row`` is ACS's row of the series and ``device`` the hardware, None where unknown;
    ``stated_gib`` is the memory of a GPU that the user gave and ``available`` the number of GPUs that the account may
    have, if they are known. ``driver_version`` is None where ACS chooses."""

    series: str
    row: GpuSeries | None
    device: Gpu | None
    resource: str
    stated_gib: float | None = None
    available: int | None = None
    compute_class: Literal["gpu", "gpu-hpn"] = "gpu"
    driver_version: str | None = None


@dataclass(frozen=True, kw_only=True)
class PodSize:
    """CPU (vCPUs) and memory (GiB) of one GPU pod; shared memory is a part of its memory."""

    cpu: int
    memory_gib: float
    shared_memory_gib: float


@dataclass(frozen=True, kw_only=True)
class EngineSpec:
    """The engine's image and arguments. ``max_model_len`` is None only for a model whose context is not known: the
    engine then takes its own. ``stated_startup_seconds`` and ``measured_kv_cache_gib`` are figures of the user that
    replace the plan's."""

    image: str
    backend: Literal["ray", "mp"]
    ray_script: str
    ray_token: bool
    port: int
    max_model_len: int | None
    gpu_memory_utilization: float
    enforce_eager: bool
    compile_cache: bool
    """Whether compiled code is kept in the bucket."""

    trust_remote_code: bool
    env: Mapping[str, str]
    secret_env: Mapping[str, tuple[str, str]]
    """Secret and its key, by variable."""

    features: Mapping[Field, tuple[str, ...]]
    """Arguments of ``vllm serve`` for features that have settings of their own, by setting."""

    kv_offload_gib: float
    """Host memory for cached prompts, of all pods of a group together; 0 for none."""

    extra_args: tuple[str, ...]
    stated_version: Version | None
    measured_kv_cache_gib: float | None
    stated_startup_seconds: int | None

    @cached_property
    def vllm(self) -> Engine:
        """The version that the image's name contains, or the current one, with what its environment changes."""
        return engine_of(self.named_version or newest(), self.env)

    @cached_property
    def named_version(self) -> Version | None:
        """The version that the settings tell or the image's name contains, if any."""
        return self.stated_version or version_of(self.image)

    @cached_property
    def arguments(self) -> tuple[str, ...]:
        """All arguments of ``vllm serve`` that change how it serves: those of features, and the additional ones."""
        return (*(argument for arguments in self.features.values() for argument in arguments), *self.extra_args)


@dataclass(frozen=True, kw_only=True)
class RequestFilterSpec:
    """The filter in front of the engine. ``clients`` have their own keys. ``sequences`` is the maximum of a request,
    prompts times ``n``; each prompt has a maximum of characters and tokens. With ``open_metrics``, ``/metrics`` needs
    no key: an endpoint picker can send none."""

    clients: tuple[str, ...]
    header_bytes: int
    body_bytes: int
    sequences: int
    prompt_characters: int
    prompt_tokens: int
    open_metrics: bool


@dataclass(frozen=True, kw_only=True)
class LifecycleSpec:
    """How pods end and come back; times in seconds. ``evictable_groups`` is None without a disruption budget,
    ``lost_node_seconds`` where the cluster decides."""

    request_seconds: int
    grace_seconds: int
    evictable_groups: int | None
    health_check: "HealthCheckSettings | None"
    lost_node_seconds: int | None
    group_restart: Literal["onPodRestart", "afterStart"]


@dataclass(frozen=True, kw_only=True)
class ReplicasSpec:
    """Groups: those that the LeaderWorkerSet is created with, and the bounds of the autoscaler (``scaler``, None if the
    number is fixed). ``take_over`` says that the stack takes the number back from one that there was."""

    first: int
    least: int
    most: int
    scaler: "Autoscaler | None"
    take_over: bool

    @property
    def fewest(self) -> int:
        """The fewest groups, as long as there are any."""
        return self.most if self.scaler is None else max(1, self.least)


@dataclass(frozen=True, kw_only=True)
class RolloutSpec:
    """Rolling update, counted in groups. ``restarts`` says when one may restart groups; None for always."""

    max_unavailable: int
    max_surge: int
    partition: int
    restarts: "RestartSettings | None" = None


@dataclass(frozen=True, kw_only=True)
class GuardSpec:
    """When a group that cannot become ready is given up: failed starts in a row, or seconds. It is held back for
    ``back_off_seconds`` after the first one."""

    failed_starts: int
    back_off_seconds: int
    pending_seconds: int
    unready_seconds: int


@dataclass(frozen=True, kw_only=True)
class UpdateSpec:
    """A second revision that serves next to the first. ``weight`` is the percentage of requests that it gets, and
    ``sections`` are the settings in which it differs."""

    candidate: "ResolvedSpec"
    weight: int
    limits: "LimitSettings | None"
    sections: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ResolvedSpec:
    """One deployment. None means that a part is absent, never that it is still to be decided.

    Sections in which nothing can be left open are the settings' own.
    """

    cloud: "CloudSettings"
    cluster: "ClusterSettings"
    kubeconfig: Path | None
    """File of the cluster's kubeconfig; None where it is a secret of the stack."""

    model: ModelSpec
    weights: WeightsSpec
    storage: "OssVolumeSettings | FluidCacheSettings"
    base_name: str
    """Of what the groups of all revisions share."""

    revision: str
    """Empty before the first update by a second revision."""

    promoted: tuple[str, ...]
    """Settings of the update that this specification has come from, and that the stack file still has apart."""

    update: UpdateSpec | None
    replicas: ReplicasSpec
    gpu: GpuSpec
    fixed: Fixed
    layout: Layout
    extra_ephemeral_gib: int
    qos: Literal["default", "best-effort"]
    network: Literal["standard", "rdma"]
    zone: str | None
    engine: EngineSpec
    rollout: RolloutSpec
    lifecycle: LifecycleSpec | None
    preflight: "PreflightSettings | None"
    gang: "GangSettings | None"
    stated_guard: "GuardSettings | None"
    service: "ServiceSettings"
    security: "SecuritySettings"
    operators: "OperatorsSettings"
    prices: Prices
    observability: "ObservabilitySettings | None"
    verification: "VerificationSettings | None"
    starts: MeasuredStarts | None = None
    """Measured ones of these groups, if there are enough."""

    @property
    def name(self) -> str:
        """Name of the LeaderWorkerSet."""
        return of_revision(self.base_name, self.revision)

    @property
    def gate(self) -> "GateSettings | None":
        """What the first new group of an update is asked."""
        return self.verification.gate if self.verification else None

    @property
    def partition(self) -> int:
        """Of the LeaderWorkerSet: the groups before this one keep the old template. With a gate all do, until the gate
        lets them go (docs/adr/0007-a-gate-moves-the-partition.md)."""
        return self.replicas.most if self.holds_updates else self.rollout.partition

    @property
    def holds_updates(self) -> bool:
        """Whether an update waits for a gate. Where there may be no group to ask, there is none."""
        return self.gate is not None and self.replicas.first > 0

    @property
    def long_prompt_tokens(self) -> int:
        """Of the gate's long prompt; 0 if there is none, or if the longest request is not known."""
        longest = self.engine.max_model_len
        return int(self.gate.long_prompt * longest) if self.gate and longest else 0

    @property
    def gate_ready_seconds(self) -> int:
        """How long the first new group may take, the end of the old one included."""
        grace = self.lifecycle.grace_seconds if self.lifecycle else 0
        return self.budget.update_seconds(replicas=1, groups_at_once=1, end_seconds=grace)

    @property
    def revisions(self) -> tuple["ResolvedSpec", ...]:
        """This one, and the one of an update."""
        return (self, self.update.candidate) if self.update else (self,)

    @property
    def weighs_requests(self) -> bool:
        """Whether the route can divide the requests among revisions; without it they all go to one."""
        route = self.service.route
        return route is not None and route.kind == "gateway"

    @property
    def selected(self) -> "ResolvedSpec":
        """The revision that the Service selects. With weights in the route, that changes at the end of the update."""
        switched = self.update is not None and self.update.weight == 100 and not self.weighs_requests
        return self.revisions[-1 if switched else 0]

    @cached_property
    def pod(self) -> PodSize:
        """The size of a GPU pod: as fixed, or the guide's share per GPU on the next legal size."""
        fixed, gpus_per_pod, legal = self.fixed, self.layout.gpus_per_pod, self.pods_of_acs
        cpu = fixed.cpu or _next_legal(VCPUS_PER_GPU * gpus_per_pod, legal)
        return PodSize(
            cpu=cpu,
            memory_gib=fixed.memory_gib or _next_legal(MEMORY_GIB_PER_GPU * gpus_per_pod, legal.get(cpu, ())),
            shared_memory_gib=fixed.shared_memory_gib or self.shared_memory_needed_gib,
        )

    @property
    def shared_memory_needed_gib(self) -> float:
        """For NCCL and the processes of a pod, and for offloaded cache where that is in /dev/shm."""
        shared = self.engine.kv_offload_gib if self.offloads_to_shared_memory else 0
        return SHARED_MEMORY_GIB_PER_GPU * self.layout.gpus_per_pod + shared

    @property
    def offloads_to_shared_memory(self) -> bool:
        """Whether the engine keeps offloaded cache in /dev/shm, in each pod with room for all of it."""
        return self.engine.vllm.version >= changed_in("kv_offloading_shared")

    @property
    def private_offload_gib(self) -> float:
        """Host memory of one pod for offloaded cache that is not in /dev/shm."""
        return 0 if self.offloads_to_shared_memory else self.engine.kv_offload_gib / self.layout.pods

    @property
    def pods_of_acs(self) -> Mapping[int, tuple[int, ...]]:
        """Legal memory sizes by vCPUs for this number of GPUs; empty if not published."""
        return self.gpu.row.pods.get(self.layout.gpus_per_pod, {}) if self.gpu.row else {}

    @cached_property
    def serving(self) -> Serving | None:
        """The engine's arguments; None while the length is unknown."""
        engine = self.engine
        if engine.max_model_len is None:
            return None
        base = Serving(
            max_model_len=engine.max_model_len,
            utilization=engine.gpu_memory_utilization,
            eager=engine.enforce_eager,
        )
        return dataclasses.replace(base, **serving_changes(engine.arguments))  # type: ignore[arg-type]

    @cached_property
    def memory(self) -> Memory | None:
        """The estimate; None where model or GPU are not known well enough, or the layout leaves stages empty."""
        model, device, serving = self.model.shapes, self.gpu.device, self.serving
        if model is None or device is None or serving is None:
            return None
        if self.layout.pipeline > model.layers:
            return None
        return estimate(
            model,
            device,
            self.engine.vllm,
            serving,
            tensor=self.layout.tensor,
            pipeline=self.layout.pipeline,
            measured_kv_cache_gib=self.engine.measured_kv_cache_gib,
        )

    @cached_property
    def uncounted(self) -> Uncounted:
        """What the engine is given that the estimate does not count."""
        engine = self.engine
        # Offloaded cache takes memory of the hosts, which a rule counts.
        offloads = engine.features.get(Field.KV_OFFLOAD, ())
        arguments = [argument for argument in engine.arguments if argument not in offloads]
        return uncounted(arguments, engine.env, model=self.model.shapes, engine=engine.vllm)

    @property
    def reads_images(self) -> bool:
        """Whether the engine gets ready for images, of which the estimate has the weights only."""
        return reads_images(self.engine.extra_args, self.model.shapes)

    @cached_property
    def budget(self) -> LoadBudget:
        """Time to load the model."""
        return load_budget(
            weights_gib=self.model.weights_gib,
            throughput_mib_s=self.storage.throughput_mi_bps,
            startup_seconds=self.engine.stated_startup_seconds,
        )

    @property
    def guard(self) -> GuardSpec | None:
        """What gives up groups; None if nothing does, or if there are no groups."""
        settings = self.stated_guard
        if settings is None or self.replicas.most == 0:
            return None
        back_off = 0 if self.replicas.scaler else settings.back_off_seconds
        return GuardSpec(
            failed_starts=settings.failed_starts,
            back_off_seconds=BACK_OFF_SECONDS if back_off is None else back_off,
            pending_seconds=settings.pending_seconds,
            unready_seconds=settings.unready_seconds or UNREADY_FACTOR * self.budget.create_seconds,
        )

    @property
    def update_seconds(self) -> int:
        """How long an update of all groups may take: each ends, is recreated, and loads the model."""
        return self.budget.update_seconds(
            replicas=self.replicas.most,
            groups_at_once=self.rollout.max_unavailable + self.rollout.max_surge,
            end_seconds=self.lifecycle.grace_seconds if self.lifecycle else 0,
        )

    @property
    def largest_gib(self) -> float | None:
        """GiB of safetensors that may be moved without being another model than the one that is planned."""
        model = self.model
        return largest_gib(shapes=model.shapes, stated_gib=model.stated_gib, known_gib=model.weights_gib)

    @property
    def quant_methods(self) -> Sequence[str]:
        """What config.json may call the planned format of the weights; empty where any is right."""
        found = self.model.shapes.quantisation if self.model.shapes else None
        return sorted({found.method, *ACCEPTED.get(found.method, ())}) if found else ()

    @property
    def upload_seconds(self) -> int:
        """How long the Job that moves or checks the weights may take."""
        upload = self.weights.upload
        return upload_deadline_seconds(
            weights_gib=self.model.weights_gib,
            # To read all bytes takes no longer than to move them.
            moves=self.weights.hub is not None or self.weights.manifest_sha256 is not None,
            throughput_mib_s=upload.throughput_mi_bps,
            eip_bandwidth_mbps=upload.eip_bandwidth_mbps,
        )

    @cached_property
    def cache(self) -> CachePlan | None:
        """The distributed cache; None where the pods read the bucket directly."""
        storage = self.storage
        if storage.kind == "csi":
            return None
        return plan_cache(
            weights_gib=self.model.weights_gib,
            workers=storage.workers,
            cpu=storage.cpu,
            memory_gib=storage.memory_gib,
            pods=self.replicas.most * self.layout.pods,
            throughput_mib_s=storage.throughput_mi_bps,
            preload_mib_s=storage.preload_mi_bps,
        )

    @property
    def api_paths(self) -> tuple[str, ...]:
        """Methods and paths of the API that clients are let through to."""
        return api_paths(self.engine.arguments, self.engine.vllm.version)

    @property
    def traces(self) -> "TraceSettings | None":
        """Where traces are sent; None for nowhere."""
        return self.observability.traces if self.observability else None

    @property
    def picker(self) -> "DeployPicker | None":
        """The endpoint picker that the stack deploys, if any."""
        route = self.service.route
        if route is None or route.kind != "inferencePool" or route.endpoint_picker.kind != "deploy":
            return None
        return route.endpoint_picker

    @property
    def request_filter(self) -> RequestFilterSpec | None:
        """The filter in front of the engine; None if it is off, or if there is no key to check."""
        settings = self.service.request_filter
        if settings is None or not self.service.api_key:
            return None
        body_bytes = settings.max_body_mib * 2**20
        # Of a model whose context is not known, a prompt may be whatever a body can hold.
        tokens = self.engine.max_model_len or body_bytes
        return RequestFilterSpec(
            clients=settings.clients,
            header_bytes=settings.max_header_kib * 2**10,
            body_bytes=body_bytes,
            sequences=settings.max_sequences,
            prompt_characters=settings.max_prompt_characters or CHARACTERS_PER_TOKEN * tokens,
            prompt_tokens=tokens,
            open_metrics=self.service.route is not None and self.service.route.kind == "inferencePool",
        )

    @property
    def answers_long_prompts(self) -> bool:
        """Whether the engine answers prompts up to the longest request, as far as is known."""
        serving, model = self.serving, self.model.shapes
        if serving is None or model is None or self.engine.named_version is None:
            return True
        step = serving.max_num_batched_tokens
        return self.engine.vllm.answers(model, length=serving.max_model_len, step=step)

    def with_layout(self, layout: Layout) -> Self:
        """The same on another layout, for which nothing was measured."""
        if layout == self.layout:
            return self
        engine = dataclasses.replace(self.engine, measured_kv_cache_gib=None)
        return dataclasses.replace(self, layout=layout, engine=engine)

    def with_length(self, length: int) -> Self:
        """The same with another ``max_model_len``."""
        return dataclasses.replace(self, engine=dataclasses.replace(self.engine, max_model_len=length))

    @property
    def benchmark_image(self) -> str | None:
        """Image of the benchmark: its own, or the engine's; None without a benchmark."""
        benchmark = self.verification.benchmark if self.verification else None
        return (benchmark.image or self.engine.image) if benchmark else None


def of_revision(name: str, revision: str) -> str:
    """``name`` for one revision: what a revision has of its own keeps this name when the revision is promoted."""
    return f"{name}-{revision}" if revision else name


def gpu_spec(
    series: str,
    *,
    stated_gib: float | None = None,
    available: int | None = None,
    compute_class: Literal["gpu", "gpu-hpn"] = "gpu",
    driver_version: str | None = None,
    resource: str | None = None,
) -> GpuSpec:
    """A series with what the catalogues know of it; with the memory that the user gave, if any."""
    device = catalogue.gpu_of(series)
    if stated_gib is not None:
        device = dataclasses.replace(device or Gpu(name=series, memory_gib=stated_gib), memory_gib=stated_gib)
    return GpuSpec(
        series=series,
        row=catalogue.gpu_series().get(series),
        device=device,
        resource=resource or resource_name(series),
        stated_gib=stated_gib,
        available=available,
        compute_class=compute_class,
        driver_version=driver_version,
    )


def _next_legal(wanted: int, legal: Mapping[int, object] | tuple[int, ...]) -> int:
    return min((size for size in legal if size >= wanted), default=max(legal, default=wanted))
