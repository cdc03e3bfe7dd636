"""The first storage layer: the bucket's folder as a static, read-only OSS volume (CSI).

The names of PersistentVolume and claim contain a hash of what they mount. A change of bucket, folder or options
therefore creates a second volume, the group moves to it, and then the first is deleted. A volume in use can neither be
changed nor deleted. Both have the same logical name in Pulumi: until the group has moved, going back to the first is
not a change."""

import math
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

from .model_mount import ModelMount, model_path
from .names import name_of

DRIVER = "ossplugin.csi.alibabacloud.com"

SECRET_NAME = "oss-secret"  # noqa: S105 - the name of a Secret, not its contents

CAPACITY = "30Gi"
"""The guide's. It only has to match the claim's: OSS has no limit. The claim of a static volume cannot be resized, so a
capacity that followed from the model's size would stop an update that corrects this size."""

DELETE_SECONDS = 600
"""Time until Kubernetes has checked that no pod mounts them."""


@dataclass(frozen=True, kw_only=True)
class OssVolumeArgs:
    """``prefix`` is the folder of the model in the bucket. ``content`` stands for what is mounted: a change creates
    another volume. Reads are signed with an AccessKey, or with a role that the volume plugin assumes. Once the group
    has another claim, no pod mounts this one after ``release_seconds``."""

    namespace: pulumi.Input[str]
    bucket_name: pulumi.Input[str]
    endpoint: pulumi.Input[str]
    prefix: str
    content: str
    mount_options: tuple[str, ...] = ()
    access_key_id: pulumi.Input[str] | None = None
    access_key_secret: pulumi.Input[str] | None = None
    role_arn: pulumi.Input[str] | None = None
    oidc_provider_arn: pulumi.Input[str] | None = None
    release_seconds: int = 0
    secret_name: pulumi.Input[str] | None = None
    """Secret of another volume with the same AccessKey; None: this one has its own."""

    claim_prefix: str | None = None
    """Beginning of the claim's name, by default the component's."""


class OssVolume(pulumi.ComponentResource):
    """Secret (if the reader has an AccessKey), PersistentVolume and PersistentVolumeClaim, bound to each other."""

    mount: ModelMount
    secret_name: pulumi.Input[str] | None
    """Secret with the reader's AccessKey, if it has one."""

    def __init__(self, name: str, args: OssVolumeArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("deepseek:storage:OssVolume", name, None, opts)
        claim_name = name_of(args.claim_prefix or name, args.content, args.mount_options)
        self.secret_name = args.secret_name or self._secret(name, args)
        volume = self._volume(claim_name, args)
        claim = self._claim(claim_name, args, volume)
        self.mount = ModelMount(claim_name=claim.metadata["name"], model_path=model_path(args.prefix), depends_on=claim)
        self.register_outputs({"claimName": self.mount.claim_name, "modelPath": self.mount.model_path})

    def _secret(self, name: str, args: OssVolumeArgs) -> pulumi.Output[str] | None:
        if args.access_key_id is None or args.access_key_secret is None:
            return None
        secret = k8s.core.v1.Secret(
            f"{name}-{SECRET_NAME}",
            # On ACS the Secret must be in the claim's namespace
            # (https://www.alibabacloud.com/help/en/ack/ack-managed-and-ack-dedicated/user-guide/ossfs2-0-storage-volume-faqs).
            metadata={"namespace": args.namespace},
            string_data={"akId": args.access_key_id, "akSecret": args.access_key_secret},
            opts=pulumi.ResourceOptions(parent=self),
        )
        return secret.metadata["name"]

    def _volume(self, claim_name: str, args: OssVolumeArgs) -> k8s.core.v1.PersistentVolume:
        # A PersistentVolume is not namespaced: its name identifies the owner.
        name = pulumi.Output.format("{0}-{1}", args.namespace, claim_name)
        attributes: dict[str, pulumi.Input[str]] = {
            "bucket": args.bucket_name,
            "url": args.endpoint,
            "path": f"/{args.prefix}/",
            "otherOpts": " ".join(f"-o {option}" for option in args.mount_options),
        }
        csi: k8s.core.v1.CSIPersistentVolumeSourceArgsDict = {
            "driver": DRIVER,
            "volume_handle": name,
            "volume_attributes": attributes,
        }
        if self.secret_name is not None:
            csi["node_publish_secret_ref"] = {"name": self.secret_name, "namespace": args.namespace}
        if args.role_arn is not None and args.oidc_provider_arn is not None:
            attributes["authType"] = "rrsa"
            attributes["roleArn"] = args.role_arn
            attributes["oidcProviderArn"] = args.oidc_provider_arn
        return k8s.core.v1.PersistentVolume(
            claim_name,
            metadata={"name": name, "labels": {"alicloud-pvname": name}},
            spec={
                "capacity": {"storage": CAPACITY},
                # This access mode is what makes the plugin mount read-only.
                "access_modes": ["ReadOnlyMany"],
                "persistent_volume_reclaim_policy": "Retain",
                "storage_class_name": "",
                # Without it another claim of the same size could take the volume first.
                "claim_ref": {"namespace": args.namespace, "name": claim_name},
                "csi": csi,
            },
            opts=self._options(args),
        )

    def _claim(
        self, claim_name: str, args: OssVolumeArgs, volume: k8s.core.v1.PersistentVolume
    ) -> k8s.core.v1.PersistentVolumeClaim:
        return k8s.core.v1.PersistentVolumeClaim(
            claim_name,
            metadata={"name": claim_name, "namespace": args.namespace},
            spec={
                "access_modes": ["ReadOnlyMany"],
                # Empty, not absent: without the field, the cluster's default class would create a disk.
                "storage_class_name": "",
                "volume_name": volume.metadata["name"],
                "resources": {"requests": {"storage": CAPACITY}},
            },
            opts=self._options(args),
        )

    def _options(self, args: OssVolumeArgs) -> pulumi.ResourceOptions:
        # Kubernetes keeps both as long as a pod mounts the claim.
        minutes = math.ceil((DELETE_SECONDS + args.release_seconds) / 60)
        return pulumi.ResourceOptions(parent=self, custom_timeouts=pulumi.CustomTimeouts(delete=f"{minutes}m"))
