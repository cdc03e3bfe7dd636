"""What pods mount to read a model's weights from a bucket."""

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NotRequired, TypedDict

import pulumi

from deepseek_acs.planner.findings import Finding
from deepseek_acs.planner.spec import ResolvedSpec

from .. import wiring
from ..credentials import AccessKey, AssumableRole
from ..fluid_cache import FluidCache
from ..model_mount import ModelMount
from ..oss_volume import OssVolume
from .arguments import Arguments, pair_findings, present, spell


class ModelStorageArgs(TypedDict):
    """A bucket's folder, who reads it, and by what. The outputs of ModelWeights have the names of these arguments."""

    bucket_name: pulumi.Input[str]
    """Name of the bucket."""

    endpoint: NotRequired[pulumi.Input[str]]
    """URL of OSS, with scheme. By default the region's internal one."""

    region: NotRequired[str]
    """Region of bucket and cluster. By default that of the alicloud provider's configuration."""

    prefix: NotRequired[str]
    """Folder of the model in the bucket. By default models/ and the last part of the model's name."""

    content: NotRequired[str]
    """Any text that stands for what is mounted. Another one makes another volume or cache, to which pods move over;
    write another one when the bucket or the weights in the folder change."""

    access_key_id: NotRequired[pulumi.Input[str] | None]
    """AccessKey that reads the bucket."""

    access_key_secret: NotRequired[pulumi.Input[str] | None]
    """The AccessKey's secret."""

    role_arn: NotRequired[pulumi.Input[str] | None]
    """RAM role that the volume plugin assumes to read the bucket, in place of an AccessKey."""

    oidc_provider_arn: NotRequired[pulumi.Input[str] | None]
    """OIDC provider for that role."""

    namespace: NotRequired[pulumi.Input[str]]
    """Namespace of the claim and of the pods that mount it. By default default."""

    model: NotRequired[str]
    """Name of the model, from which its size follows. By default deepseek-ai/DeepSeek-R1."""

    weights_gib: NotRequired[float]
    """Size of the model's files in GiB, for a model that the catalogue does not have."""

    kind: NotRequired[str]
    """csi (the default): a read-only OSS volume. fluid: a distributed cache, filled before the claim can be used."""

    pods: NotRequired[int]
    """Pods that read at the same time, 2 by default: bandwidth and workers of the cache follow from it."""

    throughput_mibps: NotRequired[int]
    """What one pod reads, in MiB/s, sustained."""

    mount_options: NotRequired[list[str]]
    """Options of ossfs, each without the leading -o (csi)."""

    workers: NotRequired[int]
    """Pods that hold the cache (fluid). By default as many as the model and the reading pods need."""

    worker_cpu: NotRequired[int]
    """vCPUs of one worker (fluid)."""

    worker_memory: NotRequired[str]
    """Memory of one worker (fluid)."""

    preload_mibps: NotRequired[int]
    """What all workers together read from OSS, in MiB/s (fluid). It decides when the preload is given up."""

    preload_image: NotRequired[str]
    """Image of the Job that fills the cache: any with Python 3.11 or newer (fluid)."""

    sidecar: NotRequired[str]
    """acs (the default), eci or none: which client ack-fluid adds to the pods that mount the cache (fluid)."""

    sidecar_cpu: NotRequired[int]
    """vCPUs of that client."""

    sidecar_memory: NotRequired[str]
    """Memory of that client."""

    zone: NotRequired[str]
    """Zone of the cache (fluid). By default ACS chooses."""


ARGUMENTS = Arguments(
    component="ModelStorage",
    paths={
        "region": "cloud.region",
        "prefix": "weights.prefix",
        "bucket_name": "weights.bucket.name",
        "namespace": "cluster.namespace",
        "model": "model.name",
        "weights_gib": "model.weightsGiB",
        "kind": "storage.kind",
        "pods": "inference.replicas",
        "throughput_mibps": "storage.throughputMiBps",
        "mount_options": "storage.mountOptions",
        "workers": "storage.workers",
        "worker_cpu": "storage.cpu",
        "worker_memory": "storage.memory",
        "preload_mibps": "storage.preloadMiBps",
        "preload_image": "weights.upload.image",
        "sidecar": "storage.sidecar",
        "sidecar_cpu": "storage.sidecarCpu",
        "sidecar_memory": "storage.sidecarMemory",
        "zone": "inference.zone",
    },
    inputs=(
        "bucket_name",
        "endpoint",
        "namespace",
        "access_key_id",
        "access_key_secret",
        "role_arn",
        "oidc_provider_arn",
    ),
    others=("content",),
    required=("bucket_name",),
    made_up=("inference", "service", "security"),
)

SETTINGS = {
    "weights.source.kind": "bucket",
    "weights.bucket.kind": "existing",
    "weights.bucket.name": "known-later",
    "weights.identity.kind": "accessKey",
    "storage.kind": "csi",
    # The pods that read are not this component's, and neither is what they run. To the plan each is a group of its own.
    "inference.engine.trustRemoteCode": False,
    "inference.replicas": 2,
    "inference.gpu.perPod": 1,
    "inference.parallelism.tensor": 1,
    "inference.parallelism.pipeline": 1,
}


@dataclass(frozen=True, kw_only=True)
class _Weights:
    bucket_name: pulumi.Input[str]
    endpoint: pulumi.Input[str]
    reader_credentials: AccessKey | AssumableRole


class ModelStorage(pulumi.ComponentResource):
    """A PersistentVolumeClaim with a model's files: a volume over the bucket, or a cache between bucket and pods."""

    claim_name: pulumi.Output[str]
    """Name of the claim, known once a pod may mount it."""

    pod_labels: pulumi.Output[dict[str, str]]
    """Labels that a pod needs to mount it."""

    def __init__(self, name: str, args: ModelStorageArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("deepseek-acs:index:ModelStorage", name, None, opts)
        args = present(args)
        spec, warnings = ARGUMENTS.resolve(name, args, settings=SETTINGS, found=[*_findings(args)])
        for warning in warnings:
            pulumi.log.warn(str(warning), resource=self)
        mount = self._mount(name, args, spec)
        self.claim_name = mount.claim_name
        self.pod_labels = pulumi.Output.from_input(dict(mount.sidecar.labels))
        self.register_outputs({"claimName": self.claim_name, "podLabels": self.pod_labels})

    def _mount(self, name: str, args: ModelStorageArgs, spec: ResolvedSpec) -> ModelMount:
        internal = f"https://oss-{spec.cloud.region}-internal.aliyuncs.com"
        weights = _Weights(
            bucket_name=args["bucket_name"], endpoint=args.get("endpoint", internal), reader_credentials=_reader(args)
        )
        namespace, own = args.get("namespace", spec.cluster.namespace), pulumi.ResourceOptions(parent=self)
        known = [weights.bucket_name, weights.endpoint, spec.weights.prefix, args.get("content"), spec.model.name]
        content = json.dumps([value for value in known if not isinstance(value, pulumi.Output)])
        if spec.cache is None:
            volume = wiring.oss_volume(spec, weights, content=content)
            return OssVolume(name, dataclasses.replace(volume, namespace=namespace), own).mount
        cache = wiring.fluid_cache(spec, weights, content=content)
        return FluidCache(name, dataclasses.replace(cache, namespace=namespace), own).mount


def _findings(args: ModelStorageArgs) -> Iterator[Finding]:
    yield from pair_findings(args, "access_key_id", "access_key_secret")
    yield from pair_findings(args, "role_arn", "oidc_provider_arn")
    key = "access_key_id" in args or "access_key_secret" in args
    role = "role_arn" in args or "oidc_provider_arn" in args
    if key == role:
        yield Finding(
            path=spell("access_key_id"),
            problem="there are an AccessKey and a role" if key else "there is neither an AccessKey nor a role",
            fix=f"write {spell('access_key_id')} and {spell('access_key_secret')}, or {spell('role_arn')} and "
            f"{spell('oidc_provider_arn')}: who reads the bucket",
        )
    if role and args.get("kind") == "fluid":
        yield Finding(
            path=spell("role_arn"),
            problem="storage of kind fluid reads the bucket with an AccessKey, and this is a role",
            fix=f"write {spell('access_key_id')} and {spell('access_key_secret')}, or {spell('kind')}: csi",
        )


def _reader(args: ModelStorageArgs) -> AccessKey | AssumableRole:
    role, provider = args.get("role_arn"), args.get("oidc_provider_arn")
    if role is not None and provider is not None:
        return AssumableRole(role_arn=pulumi.Output.from_input(role), oidc_provider_arn=provider)
    key_id, key_secret = args.get("access_key_id"), args.get("access_key_secret")
    if key_id is not None and key_secret is not None:
        return AccessKey(key_id=pulumi.Output.secret(key_id), key_secret=pulumi.Output.secret(key_secret))
    raise AssertionError("refused before")
