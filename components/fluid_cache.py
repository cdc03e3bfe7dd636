"""The second storage layer: the bucket's folder behind a distributed cache in memory (Fluid with JindoRuntime).

Dataset, JindoRuntime and DataLoad share one name, which is also the name of the claim that Fluid creates. The name
contains a hash of the weights and of everything that a running cache cannot change, so the data of a Dataset never
change: other weights create a second cache, the group moves to it, and then the first is deleted. Both have the same
logical name in Pulumi: until the group has moved, going back to the first is not a change.

Nothing waits for the Dataset, which waits for its runtime itself. Only the preload is awaited, by a Job
(components/preload.py) and not by Pulumi's engine, which would accept a failed DataLoad."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pulumi
import pulumi_kubernetes as k8s

from deepseek_acs.planner.fluid import HIGH_WATERMARK, LOW_WATERMARK
from deepseek_acs.settings.base import mebibytes

from .acs_pods import CACHE_WORKER, zone_selector
from .crds import DataLoad, Dataset, JindoRuntime
from .model_mount import ModelMount, Sidecar, model_path
from .names import FIELD_MANAGER, field_manager, name_of
from .preload import Preload, PreloadArgs

SECRET_NAME = "fluid-secret"  # noqa: S105 - the name of a Secret, not its contents

KEY_ID = "fs.oss.accessKeyId"
KEY_SECRET = "fs.oss.accessKeySecret"  # noqa: S105 - the name of an option

SIDECAR_TARGET = "alibabacloud.com/fluid-sidecar-target"
"""https://help.aliyun.com/zh/ack/cloud-native-ai-suite/user-guide/accelerate-jobs-2"""

FUSE_PROPERTIES = {
    "fs.oss.download.thread.concurrency": "200",
    "fs.oss.read.buffer.size": "8388608",
    "fs.oss.read.readahead.max.buffer.count": "200",
    "fs.oss.read.sequence.ambiguity.range": "2147483647",
}
"""Settings of the client for large sequential reads, from Alibaba Cloud's own template
(https://github.com/aliyun-computenest/quickstart-vllm-ack)."""

CACHE_WORKER_ANNOTATIONS = {"kubernetes.io/resource-type": "serverless"}
"""From the guide; its meaning on an ACS cluster is not documented
(https://www.alibabacloud.com/help/en/cs/user-guide/using-acs-gpu-computing-power-to-build-a-distributed-deepseek-full-blood-version-reasoning-service)."""

NETWORK_MODE = "ContainerNetwork"
"""Fluid's default advertises the address of the node, but pods on ACS cannot use the host network
(https://www.alibabacloud.com/help/en/cs/user-guide/acs-pod-instance-overview)."""

VOLUME_TYPE = "emptyDir"
"""Fluid's default is a folder of the node, which pods on ACS cannot mount (as above)."""

PLACEMENT = "Shared"
"""By default no worker may share a node with a pod of another cache, so a cache that replaces another would wait
forever for the other to be deleted. A cache with the default keeps this one off its nodes as well
(https://github.com/fluid-cloudnative/fluid/blob/master/pkg/ctrl/affinity.go)."""

DELETE_MINUTES = 15
"""Fluid keeps a runtime until no pod mounts its claim, and then deletes its pods."""


@dataclass(frozen=True, kw_only=True)
class FluidCacheArgs:
    """``prefix`` is the folder of the model in the bucket. ``content`` stands for what is cached: a change creates
    another cache. ``workers`` pods of ``cpu`` vCPUs and ``memory`` hold ``quota_gib`` GiB each, and are filled within
    ``preload_seconds`` by a Job with ``image``, which has Python 3.11. ``sidecar`` adds the cache's client to the GPU
    pods. Once the group has another claim, no pod mounts this one after ``release_seconds``. ``labels`` and
    ``annotations`` are more of them for the cache's pods, and ``annotations`` for the Job's, too."""

    namespace: pulumi.Input[str]
    bucket_name: pulumi.Input[str]
    endpoint: pulumi.Input[str]
    prefix: str
    content: str
    access_key_id: pulumi.Input[str]
    access_key_secret: pulumi.Input[str]
    workers: int
    cpu: int
    memory: str
    quota_gib: int
    preload_seconds: int
    zone: str | None = None
    sidecar: Literal["acs", "eci", "none"] = "acs"
    sidecar_cpu: int = 4
    sidecar_memory: str = "8Gi"
    image: str
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    release_seconds: int = 0


class FluidCache(pulumi.ComponentResource):
    """Secret, Dataset, JindoRuntime, the DataLoad that fills the cache with exactly the model's folder, and the Job
    that checks it."""

    mount: ModelMount

    def __init__(self, name: str, args: FluidCacheArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("deepseek:storage:FluidCache", name, None, opts)
        cache = cache_name(name, args)
        secret = self._secret(name, args)
        dataset = self._dataset(cache, args, secret)
        runtime = self._runtime(cache, args, dataset)
        load = self._load(cache, args, runtime)
        preload = self._preload(cache, args, load)
        self.mount = ModelMount(
            # With the Job as a dependency: everything that mounts the claim comes after it.
            claim_name=preload.job.metadata.apply(lambda _: cache),
            model_path=model_path(args.prefix),
            depends_on=preload.job,
            sidecar=cache_client(args.sidecar, cpu=args.sidecar_cpu, memory=args.sidecar_memory),
        )
        self.register_outputs({"claimName": self.mount.claim_name, "modelPath": self.mount.model_path})

    def _secret(self, name: str, args: FluidCacheArgs) -> k8s.core.v1.Secret:
        return k8s.core.v1.Secret(
            f"{name}-{SECRET_NAME}",
            metadata={"namespace": args.namespace},
            string_data={KEY_ID: args.access_key_id, KEY_SECRET: args.access_key_secret},
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _dataset(self, cache: str, args: FluidCacheArgs, secret: k8s.core.v1.Secret) -> Dataset:
        references = [
            {"name": key, "valueFrom": {"secretKeyRef": {"name": secret.metadata["name"], "key": key}}}
            for key in (KEY_ID, KEY_SECRET)
        ]
        mount = {
            # With the folder, so that the claim's root is the model, as with the OSS volume. Fluid refuses a bucket
            # without a path.
            "mountPoint": pulumi.Output.format("oss://{0}/{1}", args.bucket_name, args.prefix),
            "name": "deepseek",
            "path": "/",
            "readOnly": True,
            "options": {"fs.oss.endpoint": args.endpoint},
            "encryptOptions": references,
        }
        return Dataset(
            cache,
            metadata=_metadata(cache, args),
            spec={"mounts": [mount], "accessModes": ["ReadOnlyMany"], "placement": PLACEMENT},
            opts=self._options(args),
        )

    def _runtime(self, cache: str, args: FluidCacheArgs, dataset: Dataset) -> JindoRuntime:
        zone = zone_selector(args.zone)
        node_selector = {"nodeSelector": zone} if zone else {}
        level = {
            "mediumtype": "MEM",
            "path": "/dev/shm",  # noqa: S108 - in the pod
            "volumeType": VOLUME_TYPE,
            "quota": f"{args.quota_gib}Gi",
            "high": str(HIGH_WATERMARK),
            "low": str(LOW_WATERMARK),
        }
        return JindoRuntime(
            cache,
            metadata=_metadata(cache, args),
            spec={
                "replicas": args.workers,
                "networkmode": NETWORK_MODE,
                "master": {"podMetadata": _pod_metadata(args), **node_selector},
                "worker": {
                    "podMetadata": _pod_metadata(args, **CACHE_WORKER_ANNOTATIONS),
                    "resources": _resources(args.cpu, args.memory),
                    **node_selector,
                },
                "fuse": {
                    "resources": _resources(args.sidecar_cpu, args.sidecar_memory),
                    "properties": FUSE_PROPERTIES,
                },
                "tieredstore": {"levels": [level]},
            },
            opts=self._options(args, depends_on=dataset),
        )

    def _load(self, cache: str, args: FluidCacheArgs, runtime: JindoRuntime) -> DataLoad:
        return DataLoad(
            cache,
            metadata=_load_metadata(cache, args),
            spec=_load_spec(cache, args),
            opts=pulumi.ResourceOptions.merge(
                self._options(args, depends_on=runtime),
                # A second one with the same name can only be created after the first is deleted.
                pulumi.ResourceOptions(delete_before_replace=True),
            ),
        )

    def _preload(self, cache: str, args: FluidCacheArgs, load: DataLoad) -> Preload:
        preload_args = PreloadArgs(
            name=cache,
            namespace=args.namespace,
            load=load,
            manifest={
                "apiVersion": DataLoad.group_version,
                "kind": DataLoad.resource_kind,
                "metadata": _load_metadata(cache, args),
                "spec": _load_spec(cache, args),
            },
            workers=args.workers,
            seconds=args.preload_seconds,
            image=args.image,
            annotations=args.annotations,
        )
        return Preload(f"{cache}-preload", preload_args, pulumi.ResourceOptions(parent=self))

    def _options(self, args: FluidCacheArgs, *, depends_on: pulumi.Resource | None = None) -> pulumi.ResourceOptions:
        minutes = DELETE_MINUTES + math.ceil(args.release_seconds / 60)
        return pulumi.ResourceOptions(
            parent=self,
            depends_on=[depends_on] if depends_on else None,
            custom_timeouts=pulumi.CustomTimeouts(delete=f"{minutes}m"),
        )


def cache_client(kind: Literal["acs", "eci", "none"], *, cpu: int, memory: str) -> Sidecar:
    """The client that ack-fluid adds to pods that mount the cache."""
    labels = {} if kind == "none" else {SIDECAR_TARGET: kind}
    # Its share of the pod is reserved even without the label: ACS rounds up to the same size.
    return Sidecar(labels=labels, cpu=cpu, memory_mib=mebibytes(memory))


def cache_name(name: str, args: FluidCacheArgs) -> str:
    """The shared name, with eight hexadecimal digits that change with the data, and with every part of the cache that
    cannot change while it runs. The number of workers can."""
    shape = [args.cpu, args.memory, args.sidecar_cpu, args.sidecar_memory, args.quota_gib, args.zone, PLACEMENT]
    # Nothing where there are none: a cache of before keeps its name.
    metadata = [dict(args.labels), dict(args.annotations)] if args.labels or args.annotations else []
    return name_of(name, args.content, [*shape, *metadata])


def _metadata(cache: str, args: FluidCacheArgs) -> dict[str, Any]:
    return {"name": cache, "namespace": args.namespace}


def _pod_metadata(args: FluidCacheArgs, **annotations: str) -> dict[str, Any]:
    found: dict[str, Any] = {"labels": {**CACHE_WORKER, **args.labels}}
    if annotations := {**annotations, **args.annotations}:
        found["annotations"] = annotations
    return found


def _load_metadata(cache: str, args: FluidCacheArgs) -> dict[str, Any]:
    """With the stack's field manager in an annotation, so that a DataLoad that the Job recreates is not drift."""
    return {**_metadata(cache, args), "annotations": {FIELD_MANAGER: field_manager()}}


def _load_spec(cache: str, args: FluidCacheArgs) -> dict[str, Any]:
    return {
        "dataset": {"name": cache, "namespace": args.namespace},
        "loadMetadata": True,
        "podMetadata": {"labels": CACHE_WORKER},
    }


def _resources(cpu: int, memory: str) -> dict[str, Any]:
    # Fluid raises a request below the quota, which would then differ from this program's value.
    size = {"cpu": cpu, "memory": memory}
    return {"requests": size, "limits": size}
