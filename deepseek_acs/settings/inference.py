"""The inference group: GPUs, layout, engine, rolling update."""

import re
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from deepseek_acs.settings.base import DNS_LABEL, IMAGE, ObjectName, Port, Quantity, Settings, problem
from deepseek_acs.settings.cron import Schedule, check_period, check_timezone
from deepseek_acs.settings.guard import GuardSettings
from deepseek_acs.settings.lifecycle import LifecycleSettings
from deepseek_acs.settings.scaling import HpaScaling, ManualScaling, QueueScaling, ScheduleScaling
from deepseek_acs.settings.secret_texts import names_a_secret

ENV_NAME = r"^[A-Za-z_.-][A-Za-z0-9_.-]*$"
"""Valid names of environment variables; with any other name a GPU pod does not start
(https://www.alibabacloud.com/help/en/cs/user-guide/acs-pod-instance-overview)."""

ENV_MAX = 1900
"""Maximum number of variables in ``env``. With about 2,000 in total, a pod does not start
(https://www.alibabacloud.com/help/en/cs/user-guide/acs-pod-instance-overview)."""

SCRIPT = r"^(/[A-Za-z0-9_+@][A-Za-z0-9._+@-]*)+$"
"""An absolute path without characters that are special to a shell."""

ZONE = r"^[a-z]+(-[a-z0-9]+)+$"

LWS_NAME_MAX = 51
"""Longest name of a LeaderWorkerSet: pods and the revision label append to it
(https://github.com/kubernetes-sigs/lws/blob/main/pkg/webhooks/leaderworkerset_webhook.go)."""

PROGRAM_VARIABLES = frozenset(
    {"VLLM_API_KEY", "VLLM_HOST_IP", "NODE_RANK", "LWS_LEADER_ADDRESS", "LWS_GROUP_SIZE", "LWS_WORKER_INDEX"}
)
"""Environment variables that the pods of a group need to find each other."""


Text = Annotated[str, Field(pattern=r"^[^\x00]*$")]
"""A string that can be passed to a process: without the character NUL."""


PARSER = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
"""Names of vLLM's parsers."""

VERSION = r"^[0-9]+\.[0-9]+\.[0-9]+$"


class GpuSettings(Settings):
    """The GPUs of one pod."""

    series: Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$", max_length=63)]
    """GPU series of ACS, the value of the pod label alibabacloud.com/gpu-model-series, for example GU8TF."""

    per_pod: Annotated[int | None, Field(ge=1, le=16)] = None
    """GPUs per pod. By default planned together with the parallelism: the layout with the fewest GPUs that fits."""

    gpu_memory_gib: Annotated[float | None, Field(alias="gpuMemoryGiB", gt=0, le=1000)] = None
    """Memory of one GPU in GiB, as nvidia-smi reports it, for a series that is not in
    deepseek_acs/planner/gpu_series.toml."""

    available: Annotated[int | None, Field(ge=1)] = None
    """GPUs of this series that the account can use at the same time. If set, replicas and the groups that an update
    adds are checked against it."""

    compute_class: Literal["gpu", "gpu-hpn"] = "gpu"
    """gpu: on demand, or from a GPU pod reservation, which needs no setting. gpu-hpn: on the nodes of a GPU-HPN
    capacity reservation that is bound to the cluster."""

    driver_version: Annotated[str | None, Field(pattern=r"^[0-9]+(\.[0-9]+)+$", max_length=63)] = None
    """Version of the GPU driver; by default the one that ACS chooses for the series."""

    resource: Annotated[str | None, Field(pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$")] = None
    """Name of the extended resource by which the cluster counts GPUs. By default that of the series: nvidia.com/gpu,
    or alibabacloud.com/ppu for P16EN."""


class ResourceSettings(Settings):
    """CPU and memory of one pod. ACS rounds up to the next legal size of the GPU series and bills that."""

    cpu: Annotated[int | None, Field(ge=1, le=512)] = None
    """vCPUs. By default 8 per GPU, as in the guide, or the next legal size."""

    memory: Annotated[Quantity | None, Field(examples=["512Gi"])] = None
    """Memory, including shared memory. By default 64 GiB per GPU, as in the guide, or the next legal size."""

    shared_memory: Annotated[Quantity | None, Field(examples=["32Gi"])] = None
    """Size limit of /dev/shm, which NCCL and the tensor-parallel processes use; it counts as memory of the pod. By
    default 4 GiB per GPU, as in the guide."""

    extra_ephemeral_storage: Annotated[str | None, Field(pattern=r"^[1-9][0-9]*Gi$", examples=["50Gi"])] = None
    """Ephemeral storage on top of the free 30 GiB, in Gi, for images of more than about 15 GiB: unpacking needs twice
    an image's size. Billed."""


class ParallelismSettings(Settings):
    """How the model is split over GPUs. Pods per group = tensor × pipeline ÷ GPUs per pod."""

    tensor: Annotated[int | None, Field(ge=1, le=1024)] = None
    """Tensor parallel size: the number of GPUs over which each layer is split. Keep it within one pod. By default
    planned."""

    pipeline: Annotated[int | None, Field(ge=1, le=1024)] = None
    """Pipeline parallel size: the number of stages over which the layers are distributed. By default planned."""


class SecretVariable(Settings):
    """The source of an environment variable's value."""

    secret: ObjectName
    """Secret in the deployment's namespace."""

    key: Annotated[str, Field(pattern=r"^[-._A-Za-z0-9]+$", max_length=253)]
    """Key of the Secret that holds the value."""


class ToolCallingSettings(Settings):
    """Calls of tools that the model decides on (tool_choice: auto)."""

    parser: Annotated[str, Field(pattern=PARSER)]
    """Name of the parser, for example deepseek_v3; which ones there are depends on the version of vLLM."""

    chat_template: Annotated[str | None, Field(pattern=SCRIPT)] = None
    """Chat template, a path in the image, for example
    /vllm-workspace/examples/tool_chat_template_deepseekr1.jinja. By default the model's own."""


class EngineSettings(Settings):
    """vLLM."""

    image: Annotated[str, Field(pattern=IMAGE)] = "registry-cn-hangzhou.ack.aliyuncs.com/ack-demo/vllm:v0.7.2"
    """Container image with a tag or digest, without https://. An image of a public registry is pulled through a NAT
    gateway."""

    version: Annotated[str | None, Field(pattern=VERSION, examples=["0.11.0"])] = None
    """vLLM's version in the image, if the image's name does not contain it. By default what the name says."""

    backend: Literal["ray", "mp"] = "ray"
    """How the pods of a group form one engine: ray (images that ship Ray and a start script, such as the guide's) or
    mp, vLLM's own multi-node backend (--nnodes, --node-rank, --headless) of images without Ray."""

    ray_script: Annotated[str, Field(pattern=SCRIPT)] = "/vllm-workspace/ray_init.sh"
    """Script in the image that starts Ray, for the ray backend. Upstream images of vLLM have it at
    /vllm-workspace/examples/online_serving/multi-node-serving.sh."""

    ray_token: bool = False
    """For the ray backend: Ray's processes ask each other for the secret deepseek:rayToken. Needs Ray 2.52 or newer in
    the image; an older one does not ask."""

    port: Port = 8000
    """Port of the OpenAI-compatible server in the leader."""

    max_model_len: Annotated[int | None, Field(ge=1)] = None
    """Longest request in tokens, prompt and answer together. By default the model's full context; with MLA on vLLM
    0.7.2, which answers longer prompts with nothing, 32,768."""

    startup_seconds: Annotated[int | None, Field(ge=1)] = None
    """Seconds that a pod may take from its start to its first answer. By default derived from the model's size and
    storage.throughputMiBps."""

    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Share of each GPU's memory that vLLM may use."""

    kv_cache_gib: Annotated[float | None, Field(alias="kvCacheGiB", gt=0, le=1000)] = None
    """What the engine's log of an earlier start says is left for the KV cache of one GPU, in GiB: the smallest of all
    ranks, with this image, layout and these arguments. It replaces the plan's estimate."""

    enforce_eager: bool = True
    """Run without CUDA graphs: faster start and less memory, slower decoding."""

    compile_cache: Literal["bucket"] | None = None
    """Keep what engines compile at their start in the bucket (torch.compile, Triton, DeepGEMM), and give it to later
    engines with the same image, model, layout, arguments, card and driver. Takes 1 vCPU and 1 GiB of each pod. Who may
    write there can run code in the engines: docs/compile-cache.md. By default each start compiles."""

    trust_remote_code: bool | None = None
    """Run Python code from the model's repository. By default only if this version of vLLM cannot load the model
    without it, such as DeepSeek-R1 on 0.7.2. If it is on, pin weights.source.revision and weights.manifestSha256."""

    reasoning_parser: Annotated[str | None, Field(pattern=PARSER, examples=["deepseek_r1"])] = None
    """Return the model's reasoning apart from the content of an answer, as this parser of vLLM finds it."""

    tool_calling: ToolCallingSettings | None = None
    """Let the model call tools. By default it cannot decide to."""

    prefix_caching: bool | None = None
    """Keep the KV cache of prompts for others that begin alike. By default as the version does: on from 0.8."""

    chunked_prefill: bool | None = None
    """Split long prompts over steps. By default as the version does: on from 0.8."""

    speculative_tokens: Annotated[int | None, Field(ge=1, le=16)] = None
    """Tokens that each step predicts ahead, by the layer for multi-token prediction that comes with the model
    (DeepSeek, GLM and others). It takes memory for one more layer. By default off."""

    kv_offload_gib: Annotated[float | None, Field(alias="kvOffloadGiB", gt=0, le=100_000)] = None
    """Memory of the hosts, in GiB for all pods of a group together, into which vLLM copies the KV cache of prompts, so
    that one that comes again need not be computed again. It is a part of the pods' memory; from vLLM 0.20 on each pod
    has all of it in /dev/shm. Needs vLLM 0.14. By default off."""

    env: Annotated[dict[str, Text], Field(max_length=ENV_MAX)] = {}  # noqa: RUF012 - pydantic copies it
    """Additional environment variables of the containers; they override those that the network needs. Values are
    literal: $(VARIABLE) is not expanded."""

    secret_env: Annotated[dict[str, SecretVariable], Field(max_length=ENV_MAX)] = {}  # noqa: RUF012 - pydantic copies it
    """Environment variables whose values come from Secrets that you create in the deployment's namespace."""

    extra_args: tuple[Annotated[Text, Field(min_length=1)], ...] = ()
    """Additional arguments of vllm serve, one per item, for example --max-num-seqs=64. They are literal:
    neither a shell nor $(VARIABLE) of Kubernetes expands them."""

    @model_validator(mode="after")
    def _env_is_usable(self) -> Self:
        for setting, names in (("env", self.env), ("secretEnv", self.secret_env)):
            for name in names:
                if not re.fullmatch(ENV_NAME, name):
                    raise problem(
                        f"{setting} has {name!r}, and ACS does not start a GPU pod with a variable of this name",
                        fix="use letters, digits, _, . and -, and no leading digit",
                    )
                if name in PROGRAM_VARIABLES:
                    raise problem(f"{setting} has {name}, which the program sets itself", fix=f"remove {name}")
        for name in self.env:
            if name in self.secret_env:
                raise problem(f"env and secretEnv both have {name}", fix="remove one of the two")
            if names_a_secret(name):
                raise problem(
                    f"env has {name}, whose value would be readable in the pod and in the state",
                    fix=f"remove {name}, and name a Secret that has it in secretEnv",
                )
        return self


class RestartWindow(Settings):
    """A period in which groups may be restarted."""

    start: Schedule
    """Start, as five fields of cron."""

    end: Schedule
    """End, as five fields of cron. An update that has started goes on after it."""

    @model_validator(mode="after")
    def _times_are_cron(self) -> Self:
        check_period(self.start, self.end)
        return self


class RestartSettings(Settings):
    """When an update may restart groups that run. Otherwise it stops before it changes anything."""

    allow: Literal["always", "window", "confirmed"] = "always"
    """always; window: within the windows, or confirmed; confirmed: only with the digest that the preview prints."""

    timezone: Annotated[str, Field(examples=["Asia/Shanghai"])] = "Asia/Shanghai"
    """Time zone of the windows, by its IANA name."""

    windows: tuple[RestartWindow, ...] = ()
    """Periods in which groups may be restarted."""

    confirm: Annotated[str | None, Field(pattern=r"^[0-9a-f]{8}$", examples=["7f3a9c12"])] = None
    """Digest of one change of the groups, as the preview prints it. It lets this change through at any time, and no
    other."""

    @model_validator(mode="after")
    def _says_when(self) -> Self:
        check_timezone(self.timezone)
        if self.allow == "window" and not self.windows:
            raise problem("allow is window, and there is none", fix="write windows, or allow: confirmed")
        if self.allow != "window" and self.windows:
            raise problem(f"there are windows, and allow is {self.allow}", fix="write allow: window, or remove windows")
        if self.allow == "always" and self.confirm:
            raise problem("there is a digest, and allow is always", fix="write allow: confirmed, or remove confirm")
        return self


class RolloutSettings(Settings):
    """Rolling update, counted in groups."""

    max_unavailable: Annotated[int, Field(ge=0)] = 1
    """Groups that may be down at the same time. 1 needs no spare GPUs, but a stack with one group is down during the
    update."""

    max_surge: Annotated[int, Field(ge=0)] = 0
    """Groups that may be started in addition during an update; each needs the GPUs of a whole group."""

    partition: Annotated[int, Field(ge=0)] = 0
    """Only groups from this number on, counted from 0, are updated: with 3 replicas, 2 tests a change on one group. Set
    it back to 0 to update the others. An old group that fails in between is recreated unchanged."""

    restarts: RestartSettings | None = None
    """When an update may restart groups. By default always."""

    @model_validator(mode="after")
    def _can_progress(self) -> Self:
        if self.max_unavailable == 0 and self.max_surge == 0:
            raise problem(
                "maxUnavailable and maxSurge are both 0, so an update could never proceed",
                fix="set maxUnavailable to 1, or maxSurge to 1 if you have GPUs for one more group",
            )
        if self.partition and self.max_surge:
            # https://github.com/kubernetes-sigs/lws/blob/main/api/leaderworkerset/v1/leaderworkerset_types.go
            raise problem(
                "with partition and maxSurge both set, the additional groups stay, and are billed, until partition is "
                "0",
                fix="write maxSurge: 0 and maxUnavailable: 1 while partition is set",
            )
        return self


class PreflightSettings(Settings):
    """Checks in the group's own pods before they read the weights: GPUs, driver, /dev/shm, sizes of the weights, the
    network between the pods, and an all-reduce over all GPUs. They take about a minute."""

    least_gb_ps: Annotated[float | None, Field(alias="leastGBps", gt=0, le=10_000)] = None
    """Least bus bandwidth of the all-reduce over all GPUs of a group, in GB/s. By default it is only logged."""


class GangSettings(Settings):
    """Gang scheduling: all pods of the group get a node, or none. It needs a scheduler that knows PodGroups
    (scheduling.sigs.k8s.io), on ACS compute class gpu-hpn, and at most one group."""

    schedule_timeout_seconds: Annotated[int, Field(ge=1, le=86_400)] = 300
    """Seconds that the scheduler reserves nodes for some pods while others have none. Then it frees them and tries
    again."""


class InferenceSettings(Settings):
    """The inference group: a LeaderWorkerSet."""

    name: Annotated[str, Field(pattern=DNS_LABEL, max_length=LWS_NAME_MAX)] = "deepseek-r1"
    """Name of the LeaderWorkerSet and the beginning of its pods' names. Keep it short: some versions of the ACS virtual
    node leave pods with long names in Terminating."""

    revision: Annotated[str | None, Field(pattern=DNS_LABEL, max_length=16, examples=["v33"])] = None
    """Revision that these settings describe, after an update that was promoted: the LeaderWorkerSet is called
    name-revision."""

    replicas: Annotated[int, Field(ge=0, le=1000)] = 1
    """Groups, each a complete copy of the model. 0 frees all GPUs and keeps everything else. Leave it out with an
    autoscaler, which sets the number."""

    scaling: Annotated[ManualScaling | ScheduleScaling | QueueScaling | HpaScaling, Field(discriminator="kind")] = (
        ManualScaling()
    )
    """How the number of groups is set: fixed, by calendar, or by load."""

    gpu: GpuSettings
    """GPU series and GPUs per pod."""

    resources: ResourceSettings = ResourceSettings()
    """CPU and memory per pod."""

    parallelism: ParallelismSettings = ParallelismSettings()
    """Tensor and pipeline parallel size."""

    qos: Literal["default", "best-effort"] = "default"
    """ACS quality of service: best-effort is cheaper, may be evicted with five minutes' notice, and cannot draw on a
    capacity reservation."""

    network: Literal["standard", "rdma"] = "standard"
    """How the pods of a group talk to each other: standard, or rdma for series and GPU counts that have it (8 × GU8TF,
    GU8TEF and GX8SF, 16 × P16EN)."""

    zone: Annotated[str | None, Field(pattern=ZONE, examples=["cn-hangzhou-j"])] = None
    """Zone of the GPU pods, and of the cache if there is one. By default ACS chooses; few zones have GPUs in stock."""

    engine: EngineSettings = EngineSettings()
    """vLLM's image and options."""

    rollout: RolloutSettings = RolloutSettings()
    """Rolling update."""

    lifecycle: LifecycleSettings | None = None
    """How pods terminate, are monitored, and are recreated. By default Kubernetes gives them 30 s to terminate, and
    running requests are lost."""

    preflight: PreflightSettings | None = None
    """Check the pods before they read the weights. By default the engine is started without checks."""

    gang: GangSettings | None = None
    """Schedule all pods of the group together, or none. By default one by one."""

    guard: GuardSettings | None = None
    """Give up groups that hold GPUs and cannot become ready. By default they are tried, and billed, without a limit."""

    @model_validator(mode="after")
    def _one_owner_of_replicas(self) -> Self:
        if "replicas" in self.model_fields_set and not isinstance(self.scaling, ManualScaling):
            raise problem(
                f"replicas is set, but with scaling.kind {self.scaling.kind} the autoscaler sets the number",
                fix="remove replicas; scaling.hold fixes the number of groups temporarily",
            )
        return self
