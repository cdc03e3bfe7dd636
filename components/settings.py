"""The stack configuration: what a user may write under ``deepseek:deployment`` in ``Pulumi.<stack>.yaml``.

Plain frozen values only. Secrets are configuration keys of their own (``components/stack_config.py``), because Pulumi
hands a secret inside an object to Python as plain text. ``stack.schema.json`` is generated from these models, and the
descriptions here are its texts.
"""

import re
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

DNS_LABEL = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
"""DNS-1035 label: names of Services and LeaderWorkerSets
(https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#rfc-1035-label-names)."""

BUCKET_NAME = r"^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$"
"""https://www.alibabacloud.com/help/en/oss/user-guide/bucket-naming-conventions"""

KEY_PREFIX = r"^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$"
"""A folder in a bucket without leading or trailing slash and without ``.`` or ``..`` as a part."""

BINARY_QUANTITY = r"^[1-9][0-9]*(Mi|Gi|Ti)$"
"""A Kubernetes quantity with a binary suffix. Decimal ones (``512G``) are refused: ACS rounds them up to the next
legal size and bills that (https://www.alibabacloud.com/help/en/cs/user-guide/acs-pod-instance-overview)."""

MOUNT_OPTION = r"^[a-z0-9_]+(=[^\s,]+)?$"

IMAGE = r"^\S+[:@]\S+$"
"""An image with a tag or a digest."""

DnsLabel = Annotated[str, Field(pattern=DNS_LABEL, max_length=63)]
Quantity = Annotated[str, Field(pattern=BINARY_QUANTITY, examples=["512Gi"])]
Port = Annotated[int, Field(ge=1, le=65535)]

ENV_NAME = r"^[A-Za-z_.-][A-Za-z0-9_.-]*$"
"""Names of environment variables; with any other a GPU pod does not start
(https://www.alibabacloud.com/help/en/cs/user-guide/acs-pod-instance-overview)."""

ZONE = r"^[a-z]+(-[a-z0-9]+)+$"

LWS_CHART_MIN = (0, 8, 0)
"""From this version on the chart has its custom resource definition in ``crds/``, which Helm never deletes
(https://lws.sigs.k8s.io/docs/installation/)."""

LWS_NAME_MAX = 51
"""Longest name of a LeaderWorkerSet: pods and the revision label append to it
(https://github.com/kubernetes-sigs/lws/blob/main/pkg/webhooks/leaderworkerset_webhook.go)."""


PROGRAM_FLAGS = {
    "--port": "inference.engine.port",
    "--served-model-name": "model.servedName",
    "--max-model-len": "inference.engine.maxModelLen",
    "--gpu-memory-utilization": "inference.engine.gpuMemoryUtilization",
    "--enforce-eager": "inference.engine.enforceEager",
    "--trust-remote-code": "inference.engine.trustRemoteCode",
    "--tensor-parallel-size": "inference.parallelism.tensor",
    "--pipeline-parallel-size": "inference.parallelism.pipeline",
    "--distributed-executor-backend": "inference.engine.backend",
    "--nnodes": "inference.parallelism",
    "--node-rank": "inference.parallelism",
    "--master-addr": "inference.parallelism",
    "--headless": "inference.parallelism",
    "-tp": "inference.parallelism.tensor",
    "-pp": "inference.parallelism.pipeline",
}
"""Arguments of ``vllm serve`` that the program writes itself, and the setting behind each."""

SECRET_FLAGS = frozenset({"--api-key", "--hf-token"})
"""Arguments that carry a secret, which everybody who may read pods would see."""

SECRET_WORDS = frozenset({"TOKEN", "SECRET", "PASSWORD", "KEY"})
"""Words in the names of environment variables that hold a secret."""

PROGRAM_VARIABLES = frozenset({"VLLM_HOST_IP", "NODE_RANK", "LWS_LEADER_ADDRESS", "LWS_GROUP_SIZE", "LWS_WORKER_INDEX"})
"""Environment variables without which the pods of a group do not find each other."""

_MEBIBYTES = {"Mi": 1, "Gi": 1024, "Ti": 1024**2}


def mebibytes(quantity: str) -> int:
    """A quantity of ``BINARY_QUANTITY``'s form in MiB."""
    return int(quantity[:-2]) * _MEBIBYTES[quantity[-2:]]


def gibibytes(quantity: str) -> int:
    """A quantity in Gi or Ti as a number of GiB."""
    return mebibytes(quantity) // 1024


def quantity(gib: float) -> str:
    """So many GiB, a multiple of 1 MiB, as a quantity of ``BINARY_QUANTITY``'s form."""
    return f"{gib:.0f}Gi" if gib == int(gib) else f"{gib * 1024:.0f}Mi"


class Settings(BaseModel):
    """Base of all settings: camelCase in the stack file, frozen, unknown keys refused, values never in errors."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )


def _problem(problem: str, *, fix: str) -> PydanticCustomError:
    """An error of a check of ours; ``components/stack_config.py`` prints its two parts apart."""
    return PydanticCustomError("check", "{problem}", {"problem": problem, "fix": fix})


class CloudSettings(Settings):
    """The Alibaba Cloud region."""

    region: Annotated[str, Field(pattern=r"^[a-z]+(-[a-z0-9]+)+$", examples=["cn-hangzhou"])]
    """Region of the cluster and of the bucket, for example cn-hangzhou. They must be the same: pods read the bucket by
    its internal endpoint."""

    endpoint: Annotated[str | None, Field(pattern=r"^https?://\S+$")] = None
    """URL of an emulated cloud. All Alibaba Cloud calls go there instead of the real endpoints; used by the local
    stack. Leave it out for the real cloud."""


class ClusterSettings(Settings):
    """The Kubernetes cluster: an ACS cluster, or any other that runs the LeaderWorkerSet controller."""

    kubeconfig_file: str | None = None
    """Path of a kubeconfig, relative to the project or starting with ~. Without it, the secret deepseek:kubeconfig is
    used, which holds the contents."""

    context: str | None = None
    """Context of the kubeconfig; its current one by default."""

    namespace: DnsLabel = "default"
    """Namespace of everything that is created in the cluster."""

    create_namespace: bool = False
    """Create the namespace (and delete it with the stack) instead of expecting it."""


class ModelSettings(Settings):
    """The model that is served."""

    name: Annotated[str, Field(min_length=1, max_length=200, examples=["deepseek-ai/DeepSeek-R1"])]
    """Name under which ModelScope and Hugging Face publish the model. Its size is taken from planner/models.toml."""

    served_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._/-]+$")] = "ds"
    """Name that clients put into the "model" field of a request."""

    weights_gib: Annotated[float | None, Field(alias="weightsGiB", gt=0, le=20_000)] = None
    """Size of the model's safetensors files in GiB, for a model that is not in planner/models.toml. Its memory can then
    only be bounded; with configFile it is computed."""

    config_file: Annotated[str | None, Field(min_length=1)] = None
    """Path of the model's config.json, relative to the project or starting with ~, for a model that is not in
    planner/models.toml. A model.safetensors.index.json beside it tells the size of the files."""


class CreateBucket(Settings):
    """A bucket that this stack creates."""

    kind: Literal["create"] = "create"

    name: Annotated[str | None, Field(pattern=BUCKET_NAME)] = None
    """Name of the bucket. Bucket names are unique over all accounts, so by default Pulumi appends a random suffix to
    the stack's name."""

    retain: bool = True
    """Protect the bucket from deletion, and keep it and the weights when the stack is destroyed. False deletes both."""


class ExistingBucket(Settings):
    """A bucket that exists already; its own settings are left alone."""

    kind: Literal["existing"]

    name: Annotated[str, Field(pattern=BUCKET_NAME, examples=["my-models"])]
    """Name of the bucket."""


class RamUserIdentity(Settings):
    """Create a RAM user that may only read the weights, and an AccessKey for it."""

    kind: Literal["ramUser"] = "ramUser"


class AccessKeyIdentity(Settings):
    """Use an AccessKey of yours: the secrets deepseek:ossAccessKeyId and deepseek:ossAccessKeySecret."""

    kind: Literal["accessKey"]


class RrsaIdentity(Settings):
    """Create a RAM role that the OSS volume plugin assumes (RRSA), so that no AccessKey exists at all.

    Alibaba Cloud documents this for ACK with CSI 1.30.4 or newer; for ACS clusters it is not confirmed.
    """

    kind: Literal["rrsa"]

    oidc_provider_arn: Annotated[str, Field(pattern=r"^acs:ram::[0-9]+:oidc-provider/\S+$")]
    """ARN of the cluster's OIDC provider, from the cluster's basic information in the console."""

    oidc_issuer: Annotated[str, Field(pattern=r"^https://\S+$")]
    """URL of the cluster's OIDC issuer, from the same page."""


Endpoint = Annotated[str, Field(pattern=r"^https?://[^\s/?#@]+$", examples=["https://hf-mirror.com"])]
"""A URL without path: a user name or a token in it would be readable in the state."""

Revision = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$", max_length=200)]
Repository = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$", examples=["deepseek-ai/DeepSeek-R1"])
]
FilePattern = Annotated[str, Field(min_length=1, max_length=200, examples=["*.safetensors"])]


class HubSource(Settings):
    """What the model hubs have in common."""

    repository: Repository | None = None
    """Repository on the hub, as OWNER/NAME; by default the model's name."""

    endpoint: Endpoint | None = None
    """Address of the hub, for a mirror of it. By default the hub's own."""

    include: tuple[FilePattern, ...] = ()
    """Patterns of the files to move; * also matches a slash. By default all that serving needs."""

    exclude: tuple[FilePattern, ...] = ()
    """Patterns of the files to leave out. By default, without include: documentation, and weights in further formats
    where there are safetensors. The folder .git is never moved."""


class ModelScopeSource(HubSource):
    """ModelScope. Within Alibaba Cloud its files come from OSS by internal addresses, where the region has them."""

    kind: Literal["modelScope"] = "modelScope"

    revision: Revision = "master"
    """Branch, tag or commit. A branch is looked up once, when the weights are moved."""


class HuggingFaceSource(HubSource):
    """Hugging Face, or a mirror of it."""

    kind: Literal["huggingFace"]

    revision: Revision = "main"
    """Branch, tag or commit. A branch is looked up once, when the weights are moved."""


class BucketSource(Settings):
    """The bucket has the weights already, moved there by this program (modelmover copy). Only that they are still what
    was moved is checked."""

    kind: Literal["bucket"]


class UploadSettings(Settings):
    """The pod that moves the weights, or checks them. It has no GPU, and ends before a GPU is asked for."""

    image: Annotated[str, Field(pattern=IMAGE)] = "ac2-registry.cn-hangzhou.cr.aliyuncs.com/ac2/base:alinux3.2104-py312"
    """Any image with Python 3.11 or newer as python3; the program is mounted into it."""

    cpu: Annotated[int, Field(ge=1, le=64)] = 8
    """vCPUs. Hashing and TLS need about one for each 300 MB/s."""

    memory: Quantity = "16Gi"
    """Memory. Buffers take 640 MiB; the rest is what ACS bills with the vCPUs."""

    throughput_mi_bps: Annotated[int, Field(alias="throughputMiBps", ge=1, le=100_000)] = 50
    """What the hub is expected to give, in MiB/s, sustained. It decides when the Job is given up; the next pulumi up
    then continues where it ended. Put a low figure here."""

    eip_bandwidth_mbps: Annotated[int | None, Field(ge=1, le=1000)] = None
    """Bandwidth in Mbit/s of a public address (EIP) that ACS makes for the pod and releases after it. Without it, the
    pod reaches the hub through the NAT gateway of its VPC."""


class WeightsSettings(Settings):
    """Where the model's files are, how they come there, and who reads them."""

    source: Annotated[ModelScopeSource | HuggingFaceSource | BucketSource, Field(discriminator="kind")] = (
        ModelScopeSource()
    )
    """Where the weights come from."""

    upload: UploadSettings = UploadSettings()
    """The pod that moves them."""

    bucket: Annotated[CreateBucket | ExistingBucket, Field(discriminator="kind")] = CreateBucket()
    """The OSS bucket: create one, or use an existing one."""

    prefix: Annotated[str, Field(pattern=KEY_PREFIX, max_length=512, examples=["models/DeepSeek-R1"])]
    """Folder of the model in the bucket, without leading or trailing slash. Its last part names the folder in the pod:
    models/DeepSeek-R1 is mounted at /models/DeepSeek-R1."""

    identity: Annotated[RamUserIdentity | AccessKeyIdentity | RrsaIdentity, Field(discriminator="kind")] = (
        RamUserIdentity()
    )
    """Who reads the bucket for the pods."""


class OssVolumeSettings(Settings):
    """A static OSS volume: the bucket's folder as a read-only file system in each pod, by the CSI plugin."""

    kind: Literal["csi"] = "csi"

    mount_options: tuple[Annotated[str, Field(pattern=MOUNT_OPTION)], ...] = ("umask=022", "allow_other")
    """Options of ossfs, each without the leading -o."""

    throughput_mi_bps: Annotated[int, Field(alias="throughputMiBps", ge=10, le=100_000)] = 300
    """What one pod reads from the volume, in MiB/s, sustained. It decides how long the startup probe waits; measure it
    once with your bucket, and put a low figure here."""


class FluidCacheSettings(Settings):
    """A distributed cache in memory between bucket and pods: Fluid with JindoRuntime, filled before the pods start."""

    kind: Literal["fluid"]

    workers: Annotated[int | None, Field(ge=1, le=1000)] = None
    """Pods that hold the cache. By default as many as the model needs with some to spare: 7 for DeepSeek-R1."""

    cpu: Annotated[int, Field(ge=1, le=64)] = 16
    """vCPUs of one worker; its network bandwidth follows from them (16: 6 Gbit/s). More than 16 need a ticket."""

    memory: Annotated[str, Field(pattern=r"^([2-9]|[1-9][0-9]+)Gi$", examples=["128Gi"])] = "128Gi"
    """Memory of one worker; nine tenths of it hold blocks of the model. More than 128Gi needs a ticket."""

    throughput_mi_bps: Annotated[int, Field(alias="throughputMiBps", ge=10, le=100_000)] = 600
    """What one GPU pod reads from the cache, in MiB/s, sustained. It decides how long the startup probe waits and how
    many workers the bandwidth needs; Alibaba Cloud measured half the load time of a plain volume. Put a low figure
    here."""

    preload_mi_bps: Annotated[int, Field(alias="preloadMiBps", ge=10, le=100_000)] = 500
    """What all workers together read from OSS while the cache is filled, in MiB/s. It decides when the preload is given
    up; the guide's 20 minutes for DeepSeek-R1 are 547 MiB/s."""

    sidecar: Literal["acs", "eci", "none"] = "acs"
    """Value of the pod label alibabacloud.com/fluid-sidecar-target, by which ack-fluid puts the cache's client into the
    GPU pods. none: no label, for a cluster that mounts without one. Which one an ACS cluster needs is not
    documented; try with one pod."""

    sidecar_cpu: Annotated[int, Field(ge=1, le=32)] = 4
    """vCPUs of that client, taken from those of the pod: ACS bills the sum, rounded up."""

    sidecar_memory: Quantity = "8Gi"
    """Memory of that client, taken from that of the pod."""


class GpuSettings(Settings):
    """The GPUs of one pod."""

    series: Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$", max_length=63)]
    """GPU series of ACS, the value of the pod label alibabacloud.com/gpu-model-series, for example GU8TF."""

    cards: Annotated[int | None, Field(ge=1, le=16)] = None
    """Cards per pod. Left out, it is planned with the parallelism: the layout with the fewest GPUs that fits."""

    gpu_memory_gib: Annotated[float | None, Field(alias="gpuMemoryGiB", gt=0, le=1000)] = None
    """Memory of one card in GiB, as nvidia-smi reports it, for a series that is not in planner/acs.toml."""

    available: Annotated[int | None, Field(ge=1)] = None
    """Cards of this series that the account may have at once. With it, replicas and the groups that an update adds are
    checked."""

    compute_class: Literal["gpu", "gpu-hpn"] = "gpu"
    """gpu: on demand, or from a GPU pod reservation, which needs no setting. gpu-hpn: on the nodes of a GPU-HPN
    capacity reservation that is bound to the cluster."""

    driver_version: Annotated[str | None, Field(pattern=r"^[0-9]+(\.[0-9]+)+$", max_length=63)] = None
    """Version of the GPU driver; by default the one that ACS chooses for the series."""

    resource: Annotated[str | None, Field(pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$")] = None
    """Name of the extended resource by which the cluster counts cards. By default that of the series: nvidia.com/gpu,
    or alibabacloud.com/ppu for P16EN."""


class ResourceSettings(Settings):
    """CPU and memory of one pod. ACS rounds up to the next legal size of the GPU series and bills that."""

    cpu: Annotated[int | None, Field(ge=1, le=512)] = None
    """vCPUs. Left out, 8 for each card, as in the guide, or the next legal size."""

    memory: Annotated[Quantity | None, Field(examples=["512Gi"])] = None
    """Memory, shared memory included. Left out, 64 GiB for each card, as in the guide, or the next legal size."""

    shared_memory: Annotated[Quantity | None, Field(examples=["32Gi"])] = None
    """Size limit of /dev/shm, which NCCL and the tensor-parallel processes use; it counts as memory of the pod. Left
    out, 4 GiB for each card, as in the guide."""

    extra_ephemeral_storage: Annotated[str | None, Field(pattern=r"^[1-9][0-9]*Gi$", examples=["50Gi"])] = None
    """Ephemeral storage on top of the free 30 GiB, in Gi, for images of more than about 15 GiB: unpacking needs twice
    an image's size. Billed."""


class ParallelismSettings(Settings):
    """How the model is split over GPUs. Pods per group = tensor × pipeline ÷ cards per pod."""

    tensor: Annotated[int | None, Field(ge=1, le=1024)] = None
    """Tensor parallel size: each layer is split over so many GPUs. Keep it within one pod. Left out, it is planned."""

    pipeline: Annotated[int | None, Field(ge=1, le=1024)] = None
    """Pipeline parallel size: the layers are dealt out to so many stages. Left out, it is planned."""


class EngineSettings(Settings):
    """vLLM."""

    image: Annotated[str, Field(pattern=IMAGE)] = "registry-cn-hangzhou.ack.aliyuncs.com/ack-demo/vllm:v0.7.2"
    """Container image with a tag or digest."""

    backend: Literal["ray", "mp"] = "ray"
    """How the pods of a group form one engine: ray (images that ship Ray and a start script, such as the guide's) or
    mp, vLLM's own multi-node backend (--nnodes, --node-rank, --headless) of images without Ray."""

    ray_script: Annotated[str, Field(pattern=r"^/\S+$")] = "/vllm-workspace/ray_init.sh"
    """Script in the image that starts Ray, for the ray backend. Upstream images of vLLM have it at
    /vllm-workspace/examples/online_serving/multi-node-serving.sh."""

    port: Port = 8000
    """Port of the OpenAI-compatible server in the leader."""

    max_model_len: Annotated[int | None, Field(ge=1)] = None
    """Longest request in tokens, prompt and answer together. Left out, all of the model's context."""

    startup_seconds: Annotated[int | None, Field(ge=1)] = None
    """How long a pod may take from its start to its first answer. Left out, it follows from the model's size and
    storage.throughputMiBps."""

    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Share of each GPU's memory that vLLM may use."""

    enforce_eager: bool = True
    """Run without CUDA graphs: starts faster and needs less memory, decodes slower."""

    trust_remote_code: bool = True
    """Run Python code that comes with the model's files."""

    env: dict[str, str] = {}
    """More environment variables of the containers; they win over those that the network asks for."""

    extra_args: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """More arguments of vllm serve, one per item, for example --reasoning-parser=deepseek_r1."""

    @model_validator(mode="after")
    def _env_is_usable(self) -> Self:
        for name in self.env:
            if not re.fullmatch(ENV_NAME, name):
                raise _problem(
                    f"env has {name!r}, and ACS does not start a GPU pod with such a name of a variable",
                    fix="use letters, digits, _, . and -, and no digit at the beginning",
                )
            if name in PROGRAM_VARIABLES:
                raise _problem(f"env has {name}, which the program sets itself", fix=f"remove {name}")
            if SECRET_WORDS & set(re.split("[_.-]", name.upper())):
                raise _problem(
                    f"env has {name}, whose value would be readable in the pod and in the state", fix=f"remove {name}"
                )
        return self

    @model_validator(mode="after")
    def _extra_args_are_extra(self) -> Self:
        for argument in self.extra_args:
            flag = argument.split("=", 1)[0].split(" ", 1)[0].replace("_", "-")
            if flag in SECRET_FLAGS:
                raise _problem(
                    f"extraArgs has {flag}, whose value would be readable in the pod and in the state",
                    fix=f"remove {flag}",
                )
            if flag in PROGRAM_FLAGS:
                raise _problem(
                    f"extraArgs has {flag}, which the program writes itself",
                    fix=f"remove it and set deployment.{PROGRAM_FLAGS[flag]}",
                )
        return self


class RolloutSettings(Settings):
    """Rolling update, counted in groups."""

    max_unavailable: Annotated[int, Field(ge=0)] = 1
    """Groups that may be down at once. 1 needs no spare GPUs, but a stack with one group is down meanwhile."""

    max_surge: Annotated[int, Field(ge=0)] = 0
    """Groups that may be started in addition; each needs the GPUs of a whole group."""

    @model_validator(mode="after")
    def _can_progress(self) -> Self:
        if self.max_unavailable == 0 and self.max_surge == 0:
            raise _problem(
                "maxUnavailable and maxSurge are both 0, so no update could ever proceed",
                fix="set maxUnavailable to 1, or maxSurge to 1 if a whole group of GPUs is spare",
            )
        return self


class InferenceSettings(Settings):
    """The inference group: a LeaderWorkerSet."""

    name: Annotated[str, Field(pattern=DNS_LABEL, max_length=LWS_NAME_MAX)] = "deepseek-r1"
    """Name of the LeaderWorkerSet and the beginning of its pods' names. Keep it short: some versions of the ACS virtual
    node leave pods with long names in Terminating."""

    replicas: Annotated[int, Field(ge=0, le=1000)] = 1
    """Groups, each a whole copy of the model. 0 frees all GPUs and keeps everything else."""

    gpu: GpuSettings
    """GPU series and cards per pod."""

    resources: ResourceSettings = ResourceSettings()
    """CPU and memory per pod."""

    parallelism: ParallelismSettings = ParallelismSettings()
    """Tensor and pipeline parallel size."""

    qos: Literal["default", "best-effort"] = "default"
    """ACS quality of service: best-effort is cheaper, may be evicted with five minutes' notice, and cannot draw on a
    capacity reservation."""

    network: Literal["standard", "rdma"] = "standard"
    """How the pods of a group talk to each other: standard, or rdma for series and card counts that have it (8 × GU8TF,
    GU8TEF and GX8SF, 16 × P16EN)."""

    zone: Annotated[str | None, Field(pattern=ZONE, examples=["cn-hangzhou-j"])] = None
    """Zone of the GPU pods, and of the cache if there is one. By default ACS chooses; GPUs are in stock in few."""

    engine: EngineSettings = EngineSettings()
    """vLLM's image and options."""

    rollout: RolloutSettings = RolloutSettings()
    """Rolling update."""


class ServiceSettings(Settings):
    """How clients in the cluster or the VPC reach the leaders."""

    name: DnsLabel = "ds-leader"
    """Name of the Service."""

    kind: Literal["clusterIP", "internalLoadBalancer"] = "clusterIP"
    """clusterIP: within the cluster. internalLoadBalancer: an address in the VPC, never a public one."""

    port: Port = 8000
    """Port of the Service."""


class ExpectOperator(Settings):
    """The operator is in the cluster already, from the ACS App Marketplace for example; that it is there is checked."""

    kind: Literal["expect"] = "expect"


class InstallLws(Settings):
    """Install the LeaderWorkerSet controller by its Helm chart, and keep it with the stack."""

    kind: Literal["install"]

    version: Annotated[str, Field(pattern=r"^[0-9]+\.[0-9]+\.[0-9]+$")] = "0.9.0"
    """Version of the chart, 0.8.0 or newer."""

    repository: Annotated[str, Field(pattern=r"^oci://\S+[^/\s]$")] = "oci://registry.k8s.io/lws/charts"
    """OCI repository of the chart, for a mirror: registry.k8s.io is hard to reach from mainland China."""

    image: Annotated[str | None, Field(pattern=r"^[^\s:@]+(:[0-9]+/[^\s:@]+)?$")] = None
    """Image of the controller without its tag, for a mirror."""

    @model_validator(mode="after")
    def _keeps_the_definition(self) -> Self:
        if tuple(map(int, self.version.split("."))) < LWS_CHART_MIN:
            raise _problem(
                f"chart {self.version} has the LeaderWorkerSet definition among its templates, so the upgrade to "
                "0.8.0 deletes the definition and every group with it (https://github.com/kubernetes-sigs/lws/issues/880)",
                fix="write 0.8.0 or newer; an older controller that is in the cluster already can stay: kind: expect",
            )
        return self


class InstallFluid(Settings):
    """Install ack-fluid by its Helm chart, and keep it with the stack. Open-source Fluid must not be there."""

    kind: Literal["install"]

    chart: Annotated[str, Field(pattern=r"^https://\S+\.tgz$")] = (
        "https://aliacs-app-catalog.oss-cn-hangzhou.aliyuncs.com/charts-incubator/ack-fluid-1.0.13.tgz"
    )
    """Address of the chart's archive; the version is part of it."""

    image_tag: Annotated[str, Field(pattern=r"^v[0-9]\S*$")] = "v1.0.13-fc3296a6"
    """Tag of the controllers' images, which belongs to the chart."""


class OperatorsSettings(Settings):
    """The two controllers that the deployment needs in the cluster."""

    lws: Annotated[ExpectOperator | InstallLws, Field(discriminator="kind")] = ExpectOperator()
    """The LeaderWorkerSet controller."""

    fluid: Annotated[ExpectOperator | InstallFluid, Field(discriminator="kind")] = ExpectOperator()
    """ack-fluid; expected only where storage is of kind fluid."""


class Deployment(Settings):
    """Everything under deepseek:deployment."""

    cloud: CloudSettings
    """The Alibaba Cloud region."""

    cluster: ClusterSettings = ClusterSettings()
    """The Kubernetes cluster."""

    model: ModelSettings
    """The model that is served."""

    weights: WeightsSettings
    """The bucket with the model's files."""

    storage: Annotated[OssVolumeSettings | FluidCacheSettings, Field(discriminator="kind")] = OssVolumeSettings()
    """The layer over the bucket that the pods mount."""

    inference: InferenceSettings
    """The pods that serve the model."""

    service: ServiceSettings = ServiceSettings()
    """The way in."""

    operators: OperatorsSettings = OperatorsSettings()
    """The controllers in the cluster: expected, or installed by the stack."""

    @model_validator(mode="after")
    def _fluid_can_work(self) -> Self:
        if isinstance(self.storage, FluidCacheSettings) and isinstance(self.weights.identity, RrsaIdentity):
            raise _problem(
                "storage of kind fluid reads the bucket with an AccessKey, and weights.identity is rrsa",
                fix="write weights.identity.kind: ramUser or accessKey, or storage.kind: csi",
            )
        return self
