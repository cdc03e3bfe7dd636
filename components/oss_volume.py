"""The first storage layer: the bucket's folder as a static, read-only OSS volume (CSI).

PersistentVolume and claim carry a hash of what they mount in their names. A change of bucket, folder or options so
makes a second volume beside the first, the group moves over to it, and then the first is deleted; a volume in use
could neither be changed nor deleted. Pulumi knows them by the same name: until the group has moved, the way back to the
first is no change at all.
"""

import math
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

from components.model_bucket import AssumableRole, ModelBucket
from components.names import name_of
from components.secrets import AccessKey
from components.settings.storage import OssVolumeSettings
from components.settings.weights import WeightsSettings
from components.storage import ModelMount, model_path

DRIVER = "ossplugin.csi.alibabacloud.com"

CLAIM_NAME = "llm-model"
SECRET_NAME = "oss-secret"  # noqa: S105 - the name of a Secret, not its contents

DELETE_SECONDS = 600
"""Until Kubernetes has looked that no pod mounts them."""


@dataclass(frozen=True, kw_only=True)
class OssVolumeArgs:
    """``weights_gib`` is the size of the model's files in GiB; once the group has another claim, no pod mounts this one
    after ``release_seconds``."""

    bucket: ModelBucket
    weights: WeightsSettings
    weights_gib: float
    namespace: str
    storage: OssVolumeSettings
    release_seconds: int


class OssVolume(pulumi.ComponentResource):
    """Secret (if the reader has an AccessKey), PersistentVolume and PersistentVolumeClaim, bound to each other."""

    mount: ModelMount

    def __init__(self, name: str, args: OssVolumeArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("deepseek:storage:OssVolume", name, None, opts)
        secret = self._secret(args)
        volume = self._volume(args, secret)
        claim = self._claim(args, volume)
        self.mount = ModelMount(
            claim_name=claim.metadata["name"], model_path=model_path(args.weights.prefix), ready=claim
        )
        self.register_outputs({"claimName": self.mount.claim_name, "modelPath": self.mount.model_path})

    def _secret(self, args: OssVolumeArgs) -> k8s.core.v1.Secret | None:
        reader = args.bucket.reader
        if not isinstance(reader, AccessKey):
            return None
        return k8s.core.v1.Secret(
            SECRET_NAME,
            # On ACS the Secret must be in the claim's namespace
            # (https://www.alibabacloud.com/help/en/ack/ack-managed-and-ack-dedicated/user-guide/ossfs2-0-storage-volume-faqs).
            metadata={"namespace": args.namespace},
            string_data={"akId": reader.key_id, "akSecret": reader.key_secret},
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _volume(self, args: OssVolumeArgs, secret: k8s.core.v1.Secret | None) -> k8s.core.v1.PersistentVolume:
        # A PersistentVolume is not namespaced: its name says whose it is.
        name = f"{args.namespace}-{_claim_name(args)}"
        attributes: dict[str, pulumi.Input[str]] = {
            "bucket": args.bucket.bucket_name,
            "url": args.bucket.endpoint,
            "path": f"/{args.weights.prefix}/",
            "otherOpts": " ".join(f"-o {option}" for option in args.storage.mount_options),
        }
        csi: k8s.core.v1.CSIPersistentVolumeSourceArgsDict = {
            "driver": DRIVER,
            "volume_handle": name,
            "volume_attributes": attributes,
        }
        if secret is not None:
            csi["node_publish_secret_ref"] = {"name": secret.metadata["name"], "namespace": args.namespace}
        if isinstance(args.bucket.reader, AssumableRole):
            attributes["authType"] = "rrsa"
            attributes["roleArn"] = args.bucket.reader.role_arn
            attributes["oidcProviderArn"] = args.bucket.reader.oidc_provider_arn
        return k8s.core.v1.PersistentVolume(
            _claim_name(args),
            metadata={"name": name, "labels": {"alicloud-pvname": name}},
            spec={
                "capacity": {"storage": capacity(args.weights_gib)},
                # This access mode is what makes the plugin mount read-only.
                "access_modes": ["ReadOnlyMany"],
                "persistent_volume_reclaim_policy": "Retain",
                "storage_class_name": "",
                # Without it another claim of the same size could take the volume first.
                "claim_ref": {"namespace": args.namespace, "name": _claim_name(args)},
                "csi": csi,
            },
            opts=self._options(args),
        )

    def _claim(self, args: OssVolumeArgs, volume: k8s.core.v1.PersistentVolume) -> k8s.core.v1.PersistentVolumeClaim:
        return k8s.core.v1.PersistentVolumeClaim(
            _claim_name(args),
            metadata={"name": _claim_name(args), "namespace": args.namespace},
            spec={
                "access_modes": ["ReadOnlyMany"],
                # Empty, not absent: an absent one means the cluster's default class, which would make a disk.
                "storage_class_name": "",
                "volume_name": volume.metadata["name"],
                "resources": {"requests": {"storage": capacity(args.weights_gib)}},
            },
            opts=self._options(args),
        )

    def _options(self, args: OssVolumeArgs) -> pulumi.ResourceOptions:
        # Kubernetes keeps both until no pod mounts the claim.
        minutes = math.ceil((DELETE_SECONDS + args.release_seconds) / 60)
        return pulumi.ResourceOptions(parent=self, custom_timeouts=pulumi.CustomTimeouts(delete=f"{minutes}m"))


def _claim_name(args: OssVolumeArgs) -> str:
    """The claim's name, with eight hexadecimal digits that change when what is mounted does."""
    # Not how the weights came there: pods that mount them do not care.
    weights = args.weights.model_dump(mode="json", include={"bucket", "prefix", "identity"})
    return name_of(CLAIM_NAME, args.bucket.endpoint, weights, args.storage.mount_options)


def capacity(weights_gib: float) -> str:
    """Capacity of the volume: the model's size, rounded up to whole GiB. It only has to match the claim's; OSS itself
    has no limit."""
    return f"{math.ceil(weights_gib)}Gi"
