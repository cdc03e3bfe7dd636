"""A model that is served."""

import dataclasses
from typing import NotRequired, TypedDict

import pulumi

from deepseek_acs.planner.cost import group_lines
from deepseek_acs.planner.spec import ResolvedSpec
from deepseek_acs.planner.summary import summary, text

from .. import wiring
from ..access import Access
from ..fluid_cache import cache_client
from ..inference_group import InferenceGroup
from ..inference_service import InferenceService
from ..model_mount import ModelMount, Sidecar, model_path
from ..secret_forms import api_key_problem
from ..secrets import Secrets
from .arguments import Arguments, checked_secret, present


class NetworkClientArgs(TypedDict):
    """Pods of a namespace, or addresses."""

    namespace: NotRequired[str]
    """Namespace of the pods."""

    pod_labels: NotRequired[dict[str, str]]
    """Labels of the pods; without any, all pods of the namespace."""

    cidr: NotRequired[str]
    """An IPv4 network."""


class ModelServiceArgs(TypedDict):
    """What serves which model. Sizes are those of one pod. What is left out is planned, or by Alibaba Cloud's guide."""

    claim_name: pulumi.Input[str]
    """PersistentVolumeClaim with the model's files at its root: the output of ModelStorage, or another one."""

    namespace: NotRequired[pulumi.Input[str]]
    """Namespace of the claim and of the pods. By default default."""

    region: NotRequired[str]
    """Region of the cluster. By default that of the alicloud provider's configuration."""

    model: NotRequired[str]
    """Name of the model. By default deepseek-ai/DeepSeek-R1."""

    served_name: NotRequired[str]
    """Name that clients put into the "model" field of a request."""

    weights_gib: NotRequired[float]
    """Size of the model's files in GiB, for a model that the catalogue does not have."""

    config_file: NotRequired[str]
    """Path of the model's config.json, for a model that the catalogue does not have."""

    group_name: NotRequired[str]
    """Name of the LeaderWorkerSet. By default the component's."""

    replicas: NotRequired[int]
    """Groups, each a whole copy of the model. 0 frees all GPUs."""

    gpu_series: NotRequired[str]
    """GPU series of ACS. By default GU8TF."""

    gpus_per_pod: NotRequired[int]
    """GPUs of one pod."""

    gpu_memory_gib: NotRequired[float]
    """Memory of one GPU, for a series that the catalogue does not have."""

    available_gpus: NotRequired[int]
    """GPUs that the account may have at once; with it, replicas and updates are checked."""

    compute_class: NotRequired[str]
    """gpu (the default) or gpu-hpn."""

    driver_version: NotRequired[str]
    """Version of the GPU driver."""

    tensor_parallel_size: NotRequired[int]
    """GPUs that each layer is split over."""

    pipeline_parallel_size: NotRequired[int]
    """Stages of layers."""

    cpu: NotRequired[int]
    """vCPUs."""

    memory: NotRequired[str]
    """Memory, shared memory included."""

    shared_memory: NotRequired[str]
    """Size limit of /dev/shm."""

    extra_ephemeral_storage: NotRequired[str]
    """Ephemeral storage on top of the free 30 GiB."""

    qos: NotRequired[str]
    """default or best-effort."""

    network: NotRequired[str]
    """standard (the default) or rdma."""

    zone: NotRequired[str]
    """Zone of the pods. By default ACS chooses."""

    image: NotRequired[str]
    """Image of vLLM, with a tag or digest."""

    backend: NotRequired[str]
    """How the pods of a group form one engine: ray (the default) or mp."""

    ray_script: NotRequired[str]
    """Script in the image that starts Ray."""

    port: NotRequired[int]
    """Port of the leader."""

    max_model_len: NotRequired[int]
    """Longest request in tokens. By default all of the model's context."""

    gpu_memory_utilization: NotRequired[float]
    """Share of each GPU's memory that vLLM may use."""

    enforce_eager: NotRequired[bool]
    """No CUDA graphs. By default true."""

    trust_remote_code: NotRequired[bool]
    """Run Python code that comes with the model's files. By default only where vLLM itself has no code for it."""

    env: NotRequired[dict[str, str]]
    """More environment variables; no secrets."""

    extra_args: NotRequired[list[str]]
    """More arguments of vllm serve."""

    startup_seconds: NotRequired[int]
    """Time until the first answer. By default it follows from size and throughput."""

    storage: NotRequired[str]
    """kind of the storage behind the claim: csi (the default) or fluid."""

    throughput_mibps: NotRequired[int]
    """What one pod reads from it, in MiB/s, sustained. It decides how long the startup probe waits."""

    sidecar: NotRequired[str]
    """As for ModelStorage: the client of the cache in the pods (fluid)."""

    sidecar_cpu: NotRequired[int]
    """vCPUs of that client, taken from those of the pod."""

    sidecar_memory: NotRequired[str]
    """Memory of that client, taken from that of the pod."""

    max_unavailable: NotRequired[int]
    """Groups that a rolling update may take at once."""

    max_surge: NotRequired[int]
    """Groups that a rolling update may add."""

    request_seconds: NotRequired[int]
    """Longest request in seconds, which a pod that is terminated finishes. By default nothing is waited for."""

    grace_seconds: NotRequired[int]
    """terminationGracePeriodSeconds."""

    stall_seconds: NotRequired[int]
    """How long an engine with requests may make no progress. By default /health alone is asked."""

    service_name: NotRequired[str]
    """Name of the Service. By default the component's, and -leader."""

    service_kind: NotRequired[str]
    """clusterIP (the default) or internalLoadBalancer."""

    service_port: NotRequired[int]
    """Port of the Service."""

    allowed_cidrs: NotRequired[list[str]]
    """Networks that may use the load balancer."""

    api_key: NotRequired[pulumi.Input[str]]
    """Key that clients need. By default none."""

    clients: NotRequired[list[NetworkClientArgs]]
    """Who may send requests, by network policies. By default, no network policies are created."""

    security_groups: NotRequired[list[str]]
    """IDs of security groups of the pods."""

    hardened: NotRequired[bool]
    """Pods with a service account of their own, no capabilities, no privilege escalation and the runtime's seccomp
    profile. By default true."""

    run_as_user: NotRequired[int]
    """User ID of the engine in hardened pods. By default the image's."""

    run_as_group: NotRequired[int]
    """Group ID. By default the user's."""

    read_only_root: NotRequired[bool]
    """Whether the root file system of hardened pods is read-only. By default false."""

    image_pull_secrets: NotRequired[list[str]]
    """Secrets for the engine's image in hardened pods."""

    currency: NotRequired[str]
    """Currency of the prices, by its ISO 4217 code. By default USD."""

    gpu_hour_price: NotRequired[float]
    """Price of one GPU for one hour. With it, the preview names the cost of the groups."""

    vcpu_hour_price: NotRequired[float]
    """Price of one vCPU of the pods for one hour; 0 if that of the GPU includes it."""

    memory_gib_hour_price: NotRequired[float]
    """Price of one GiB of the pods' memory for one hour; 0 if that of the GPU includes it."""

    tokens_per_second: NotRequired[float]
    """Output tokens per second of one group at your load, as measured, for the cost of a million tokens."""


ARGUMENTS = Arguments(
    component="ModelService",
    paths={
        "namespace": "cluster.namespace",
        "region": "cloud.region",
        "model": "model.name",
        "served_name": "model.servedName",
        "weights_gib": "model.weightsGiB",
        "config_file": "model.configFile",
        "group_name": "inference.name",
        "replicas": "inference.replicas",
        "gpu_series": "inference.gpu.series",
        "gpus_per_pod": "inference.gpu.perPod",
        "gpu_memory_gib": "inference.gpu.gpuMemoryGiB",
        "available_gpus": "inference.gpu.available",
        "compute_class": "inference.gpu.computeClass",
        "driver_version": "inference.gpu.driverVersion",
        "tensor_parallel_size": "inference.parallelism.tensor",
        "pipeline_parallel_size": "inference.parallelism.pipeline",
        "cpu": "inference.resources.cpu",
        "memory": "inference.resources.memory",
        "shared_memory": "inference.resources.sharedMemory",
        "extra_ephemeral_storage": "inference.resources.extraEphemeralStorage",
        "qos": "inference.qos",
        "network": "inference.network",
        "zone": "inference.zone",
        "image": "inference.engine.image",
        "backend": "inference.engine.backend",
        "ray_script": "inference.engine.rayScript",
        "port": "inference.engine.port",
        "max_model_len": "inference.engine.maxModelLen",
        "gpu_memory_utilization": "inference.engine.gpuMemoryUtilization",
        "enforce_eager": "inference.engine.enforceEager",
        "trust_remote_code": "inference.engine.trustRemoteCode",
        "env": "inference.engine.env",
        "extra_args": "inference.engine.extraArgs",
        "startup_seconds": "inference.engine.startupSeconds",
        "storage": "storage.kind",
        "throughput_mibps": "storage.throughputMiBps",
        "sidecar": "storage.sidecar",
        "sidecar_cpu": "storage.sidecarCpu",
        "sidecar_memory": "storage.sidecarMemory",
        "max_unavailable": "inference.rollout.maxUnavailable",
        "max_surge": "inference.rollout.maxSurge",
        "request_seconds": "inference.lifecycle.requestSeconds",
        "grace_seconds": "inference.lifecycle.graceSeconds",
        "stall_seconds": "inference.lifecycle.healthCheck.stallSeconds",
        "service_name": "service.name",
        "service_kind": "service.kind",
        "service_port": "service.port",
        "allowed_cidrs": "service.allowedCidrs",
        "clients": "security.networkPolicy.clients",
        "security_groups": "security.securityGroups",
        "run_as_user": "security.pods.runAsUser",
        "run_as_group": "security.pods.runAsGroup",
        "read_only_root": "security.pods.readOnlyRoot",
        "image_pull_secrets": "security.pods.imagePullSecrets",
        "currency": "prices.currency",
        "gpu_hour_price": "prices.gpuHour",
        "vcpu_hour_price": "prices.vcpuHour",
        "memory_gib_hour_price": "prices.memoryGiBHour",
        "tokens_per_second": "prices.tokensPerSecond",
    },
    inputs=("claim_name", "namespace", "api_key"),
    others=("hardened",),
    required=("claim_name",),
    sections={
        "inference": ("gpu_series", "gpus_per_pod", "tensor_parallel_size", "pipeline_parallel_size"),
        "security.pods": ("hardened",),
        "service.apiKey": ("api_key",),
    },
    made_up=("weights",),
)


class ModelService(pulumi.ComponentResource):
    """A LeaderWorkerSet of vLLM, and a Service that reaches only the leaders. It is there when the model answers."""

    url: pulumi.Output[str]
    """Base URL of the OpenAI-compatible API within the cluster."""

    service_name: pulumi.Output[str]
    """Name of the Service."""

    group_name: pulumi.Output[str]
    """Name of the LeaderWorkerSet."""

    def __init__(self, name: str, args: ModelServiceArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("deepseek-acs:index:ModelService", name, None, opts)
        args = present(args)
        spec, warnings = ARGUMENTS.resolve(name, args, settings=_settings(name, args))
        pulumi.log.info(text({**summary(spec), **dict(group_lines(spec))}), resource=self)
        for warning in warnings:
            pulumi.log.warn(str(warning), resource=self)
        namespace, own = args.get("namespace", spec.cluster.namespace), pulumi.ResourceOptions(parent=self)
        access = Access(name, dataclasses.replace(wiring.access(spec, _secrets(args)), namespace=namespace), own)
        group_args = wiring.inference_group(spec, self._mount(args, spec), access)
        group = InferenceGroup(
            name,
            dataclasses.replace(group_args, namespace=namespace, check_command=None),
            pulumi.ResourceOptions(parent=self, depends_on=[access]),
        )
        service_args = wiring.inference_service(spec, group, access)
        service = InferenceService(name, dataclasses.replace(service_args, namespace=namespace), own)
        self.url = pulumi.Output.format("http://{0}:{1}/v1", service.dns_name, spec.service.port)
        self.service_name = service.name
        self.group_name = group.name
        self.register_outputs({"url": self.url, "serviceName": self.service_name, "groupName": self.group_name})

    def _mount(self, args: ModelServiceArgs, spec: ResolvedSpec) -> ModelMount:
        storage, sidecar = spec.storage, Sidecar()
        if storage.kind == "fluid":
            sidecar = cache_client(storage.sidecar, cpu=storage.sidecar_cpu, memory=storage.sidecar_memory)
        return ModelMount(
            claim_name=pulumi.Output.from_input(args["claim_name"]),
            model_path=model_path(spec.weights.prefix),
            # The claim's name says itself what it depends on.
            depends_on=self,
            sidecar=sidecar,
        )


def _settings(name: str, args: ModelServiceArgs) -> dict[str, object]:
    return {
        "weights.source.kind": "bucket",
        "weights.identity.kind": "accessKey",
        "storage.kind": "csi",
        "inference.name": name,
        "service.name": f"{name}-leader",
        "service.apiKey": "api_key" in args,
        "security.pods": {} if args.get("hardened", True) else None,
    }


def _secrets(args: ModelServiceArgs) -> Secrets:
    if "api_key" not in args:
        return Secrets()
    return Secrets(
        api_key=checked_secret("api_key", args["api_key"], api_key_problem, fix="make one with openssl rand -hex 32")
    )
