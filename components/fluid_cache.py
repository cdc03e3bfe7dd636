"""The second storage layer: the bucket's folder behind a distributed cache in memory (Fluid with JindoRuntime).

Dataset, JindoRuntime and DataLoad share one name, which is also that of the claim that Fluid makes. The name carries a
hash of the weights and of what a running cache cannot change, so a Dataset's data never change: other weights make a
second cache beside the first, the group moves over to it, and then the first is deleted. Pulumi knows them by the same
name: until the group has moved, the way back to the first is no change at all.

Nothing waits for the Dataset, which waits for its runtime itself; the one thing that is waited for is the preload, by a
Job (components/preload.py) and not by the engine, for which a DataLoad that failed would be one like any other.
"""

import math
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from components.acs_pods import CACHE_WORKER, zone_selector
from components.crds import DataLoad, Dataset, JindoRuntime
from components.model_bucket import ModelBucket
from components.names import name_of
from components.preload import Preload, PreloadArgs
from components.secrets import AccessKey
from components.settings.base import mebibytes
from components.settings.storage import FluidCacheSettings
from components.settings.weights import WeightsSettings
from components.storage import ModelMount, Sidecar, model_path
from planner.cache import HIGH_WATERMARK, LOW_WATERMARK, CachePlan

CACHE_NAME = "llm-cache"
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
    """``model`` names the weights, ``plan`` sizes the cache, ``zone`` is where the GPU pods are to be; once the group
    has another claim, no pod mounts this one after ``release_seconds``."""

    bucket: ModelBucket
    model: str
    weights: WeightsSettings
    namespace: str
    storage: FluidCacheSettings
    plan: CachePlan
    zone: str | None
    release_seconds: int


class FluidCache(pulumi.ComponentResource):
    """Secret, Dataset, JindoRuntime, the DataLoad that fills the cache with exactly the model's folder, and the Job
    that sees to it."""

    mount: ModelMount

    def __init__(self, name: str, args: FluidCacheArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("deepseek:storage:FluidCache", name, None, opts)
        secret = self._secret(args)
        dataset = self._dataset(args, secret)
        runtime = self._runtime(args, dataset)
        load = self._load(args, runtime)
        preload = self._preload(args, load)
        self.mount = ModelMount(
            claim_name=pulumi.Output.from_input(cache_name(args)),
            model_path=model_path(args.weights.prefix),
            ready=preload.job,
            sidecar=sidecar(args.storage),
        )
        self.register_outputs({"claimName": self.mount.claim_name, "modelPath": self.mount.model_path})

    def _secret(self, args: FluidCacheArgs) -> k8s.core.v1.Secret:
        reader = args.bucket.reader
        if not isinstance(reader, AccessKey):
            raise ValueError("Fluid reads the bucket with an AccessKey")
        return k8s.core.v1.Secret(
            SECRET_NAME,
            metadata={"namespace": args.namespace},
            string_data={KEY_ID: reader.key_id, KEY_SECRET: reader.key_secret},
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _dataset(self, args: FluidCacheArgs, secret: k8s.core.v1.Secret) -> Dataset:
        references = [
            {"name": key, "valueFrom": {"secretKeyRef": {"name": secret.metadata["name"], "key": key}}}
            for key in (KEY_ID, KEY_SECRET)
        ]
        mount = {
            # With the folder, so that the claim's root is the model, as it is with the OSS volume. Fluid refuses a
            # bucket without anything behind it.
            "mountPoint": pulumi.Output.format("oss://{0}/{1}", args.bucket.bucket_name, args.weights.prefix),
            "name": "deepseek",
            "path": "/",
            "readOnly": True,
            "options": {"fs.oss.endpoint": args.bucket.endpoint},
            "encryptOptions": references,
        }
        return Dataset(
            cache_name(args),
            metadata=_metadata(args),
            spec={"mounts": [mount], "accessModes": ["ReadOnlyMany"], "placement": PLACEMENT},
            opts=self._options(args),
        )

    def _runtime(self, args: FluidCacheArgs, dataset: Dataset) -> JindoRuntime:
        storage, zone = args.storage, zone_selector(args.zone)
        node_selector = {"nodeSelector": zone} if zone else {}
        level = {
            "mediumtype": "MEM",
            "path": "/dev/shm",  # noqa: S108 - in the pod
            "volumeType": VOLUME_TYPE,
            "quota": f"{args.plan.quota_gib}Gi",
            "high": str(HIGH_WATERMARK),
            "low": str(LOW_WATERMARK),
        }
        return JindoRuntime(
            cache_name(args),
            metadata=_metadata(args),
            spec={
                "replicas": args.plan.workers,
                "networkmode": NETWORK_MODE,
                "master": {"podMetadata": {"labels": CACHE_WORKER}, **node_selector},
                "worker": {
                    "podMetadata": {
                        "labels": CACHE_WORKER,
                        "annotations": CACHE_WORKER_ANNOTATIONS,
                    },
                    "resources": _resources(storage.cpu, storage.memory),
                    **node_selector,
                },
                "fuse": {
                    "resources": _resources(storage.sidecar_cpu, storage.sidecar_memory),
                    "properties": FUSE_PROPERTIES,
                },
                "tieredstore": {"levels": [level]},
            },
            opts=self._options(args, depends_on=dataset),
        )

    def _load(self, args: FluidCacheArgs, runtime: JindoRuntime) -> DataLoad:
        return DataLoad(
            cache_name(args),
            metadata=_metadata(args),
            spec=_load_spec(args),
            opts=pulumi.ResourceOptions.merge(
                self._options(args, depends_on=runtime),
                # A second one of the same name can only be made after the first is gone.
                pulumi.ResourceOptions(delete_before_replace=True),
            ),
        )

    def _preload(self, args: FluidCacheArgs, load: DataLoad) -> Preload:
        preload_args = PreloadArgs(
            name=cache_name(args),
            namespace=args.namespace,
            load=load,
            manifest={
                "apiVersion": DataLoad.group_version,
                "kind": DataLoad.resource_kind,
                "metadata": _metadata(args),
                "spec": _load_spec(args),
            },
            workers=args.plan.workers,
            seconds=args.plan.preload_seconds,
            image=args.weights.upload.image,
        )
        return Preload("preload", preload_args, pulumi.ResourceOptions(parent=self))

    def _options(self, args: FluidCacheArgs, *, depends_on: pulumi.Resource | None = None) -> pulumi.ResourceOptions:
        minutes = DELETE_MINUTES + math.ceil(args.release_seconds / 60)
        return pulumi.ResourceOptions(
            parent=self,
            depends_on=[depends_on] if depends_on else None,
            custom_timeouts=pulumi.CustomTimeouts(delete=f"{minutes}m"),
        )


def sidecar(storage: FluidCacheSettings) -> Sidecar:
    """The client of the cache in each pod that mounts the claim. Its share of the pod is kept free also where no label
    calls for it: ACS rounds up to the same size."""
    labels = {} if storage.sidecar == "none" else {SIDECAR_TARGET: storage.sidecar}
    return Sidecar(labels=labels, cpu=storage.sidecar_cpu, memory_mib=mebibytes(storage.sidecar_memory))


def cache_name(args: FluidCacheArgs) -> str:
    """The name of it all, with eight hexadecimal digits that change when the data do, or a part of the cache that
    cannot be changed while it runs. The number of workers can."""
    weights = args.weights.model_dump(mode="json", include={"source", "bucket", "prefix", "identity"})
    storage = args.storage.model_dump(mode="json", include={"cpu", "memory", "sidecar_cpu", "sidecar_memory"})
    shape = [storage, args.plan.quota_gib, args.zone, PLACEMENT]
    return name_of(CACHE_NAME, args.bucket.endpoint, args.model, weights, shape)


def _metadata(args: FluidCacheArgs) -> dict[str, Any]:
    return {"name": cache_name(args), "namespace": args.namespace}


def _load_spec(args: FluidCacheArgs) -> dict[str, Any]:
    return {
        "dataset": {"name": cache_name(args), "namespace": args.namespace},
        "loadMetadata": True,
        "podMetadata": {"labels": CACHE_WORKER},
    }


def _resources(cpu: int, memory: str) -> dict[str, Any]:
    # Fluid raises a request that is below the quota, which would then differ from what is written here.
    size = {"cpu": cpu, "memory": memory}
    return {"requests": size, "limits": size}
