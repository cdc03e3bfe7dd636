"""The second storage layer: the bucket's folder behind a distributed cache in memory (Fluid with JindoRuntime).

Dataset, JindoRuntime and DataLoad share one name, which is also that of the claim that Fluid makes. The name carries a
hash of the weights and of what a running cache cannot change, so a Dataset's data never change: other weights make a
second cache beside the first, the group moves over to it, and then the first is deleted. Pulumi knows them by the same
name: until the group has moved, the way back to the first is no change at all.

Nothing waits for the Dataset, which waits for its runtime itself; the one thing that is waited for is the preload, by a
Job (components/preload.py) and not by the engine, for which a DataLoad that failed would be one like any other.
"""

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
"""How the client reads large files one after the other, as Alibaba Cloud's own template has it
(https://github.com/aliyun-computenest/quickstart-vllm-ack)."""

CACHE_WORKER_ANNOTATIONS = {"kubernetes.io/resource-type": "serverless"}
"""By the guide; what it means on an ACS cluster is not documented
(https://www.alibabacloud.com/help/en/cs/user-guide/using-acs-gpu-computing-power-to-build-a-distributed-deepseek-full-blood-version-reasoning-service)."""

NETWORK_MODE = "ContainerNetwork"
"""Fluid's default advertises the address of the node, and ACS gives no pod its node's network
(https://www.alibabacloud.com/help/en/cs/user-guide/acs-pod-instance-overview)."""

VOLUME_TYPE = "emptyDir"
"""Fluid's default is a folder of the node, which pods on ACS cannot mount (as above)."""

PLACEMENT = "Shared"
"""By default no worker may share a node with a pod of any cache, and a cache that takes the place of another would wait
for it to go, in vain. One that has the default keeps this one off its nodes, too
(https://github.com/fluid-cloudnative/fluid/blob/master/pkg/ctrl/affinity.go)."""

DELETE_MINUTES = 15
"""Fluid keeps a runtime until no pod mounts its claim, and then ends its pods."""


@dataclass(frozen=True, kw_only=True)
class FluidCacheArgs:
    """``prefix`` is the folder of the model in the bucket; ``content`` stands for what is cached: a change of it makes
    another cache. ``workers`` pods of ``cpu`` vCPUs and ``memory`` hold ``quota_gib`` GiB each, and are filled within
    ``preload_seconds`` by a Job with ``image``, which has Python 3.11. ``sidecar`` calls for the cache's client in the
    GPU pods. Once the group has another claim, no pod mounts this one after ``release_seconds``. ``labels`` and
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
    that sees to it."""

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
            # With the Job as a dependency: whatever mounts the claim comes after it.
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
            # With the folder, so that the claim's root is the model, as it is with the OSS volume. Fluid refuses a
            # bucket without anything behind it.
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
                # A second one of the same name can only be made after the first is gone.
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
    # Its share of the pod is kept free also where no label calls for it: ACS rounds up to the same size.
    return Sidecar(labels=labels, cpu=cpu, memory_mib=mebibytes(memory))


def cache_name(name: str, args: FluidCacheArgs) -> str:
    """The name of it all, with eight hexadecimal digits that change when the data do, or a part of the cache that
    cannot be changed while it runs. The number of workers can."""
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
    """With the stack's field manager written down, so that a DataLoad that the Job recreates is no drift."""
    return {**_metadata(cache, args), "annotations": {FIELD_MANAGER: field_manager()}}


def _load_spec(cache: str, args: FluidCacheArgs) -> dict[str, Any]:
    return {
        "dataset": {"name": cache, "namespace": args.namespace},
        "loadMetadata": True,
        "podMetadata": {"labels": CACHE_WORKER},
    }


def _resources(cpu: int, memory: str) -> dict[str, Any]:
    # Fluid raises a request that is below the quota, which would then differ from what is written here.
    size = {"cpu": cpu, "memory": memory}
    return {"requests": size, "limits": size}
