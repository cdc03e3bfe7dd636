"""The bucket with the weights, and the identity by which pods read them.

The bucket is private, encrypted and TLS-only, and outlives the stack unless the stack says otherwise.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_alicloud as alicloud

from components.settings import (
    AccessKeyIdentity,
    CloudSettings,
    CreateBucket,
    ExistingBucket,
    RrsaIdentity,
    WeightsSettings,
)
from components.stack_config import AccessKey

STALE_UPLOAD_DAYS = 7
"""Days after which the parts of an upload that nobody completed are deleted; they are billed but not listed."""

VOLUME_PLUGIN_SUBJECT = "system:serviceaccount:ack-csi-fuse:csi-fuse-ossfs"
"""Service account of the OSS volume plugin since CSI 1.30.4
(https://alibabacloud.com/help/en/ack/product-overview/announcement-on-csi-oss-driver-upgrade)."""


@dataclass(frozen=True, kw_only=True)
class ModelBucketArgs:
    """``access_key`` is the user's own one, for the identity ``accessKey``."""

    cloud: CloudSettings
    weights: WeightsSettings
    access_key: AccessKey | None


@dataclass(frozen=True, kw_only=True)
class RoleReader:
    """A RAM role that the volume plugin assumes by OIDC."""

    role_arn: pulumi.Output[str]
    oidc_provider_arn: str


class ModelBucket(pulumi.ComponentResource):
    """The bucket and its reader."""

    bucket_name: pulumi.Output[str]
    endpoint: str
    """URL of OSS within the region. With scheme: the volume plugin reads an internal endpoint without one by plain
    HTTP, which the bucket's policy denies
    (setTransmissionProtocol in https://github.com/kubernetes-sigs/alibaba-cloud-csi-driver)."""
    reader: AccessKey | RoleReader

    def __init__(self, name: str, args: ModelBucketArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("deepseek:storage:ModelBucket", name, None, opts)
        self.endpoint = args.cloud.endpoint or f"https://oss-{args.cloud.region}-internal.aliyuncs.com"
        self.bucket_name = self._bucket(args.weights.bucket)
        self.reader = self._reader(args)
        self.register_outputs({"bucketName": self.bucket_name, "endpoint": self.endpoint})

    def _bucket(self, settings: CreateBucket | ExistingBucket) -> pulumi.Output[str]:
        if isinstance(settings, ExistingBucket):
            existing = alicloud.oss.Bucket.get("bucket", settings.name, opts=pulumi.ResourceOptions(parent=self))
            return existing.id
        # What guards the bucket is retained with it: without its policy it would be open to plain HTTP.
        keep = pulumi.ResourceOptions(parent=self, protect=settings.retain, retain_on_delete=settings.retain)
        bucket = alicloud.oss.Bucket(
            f"{pulumi.get_project()}-{pulumi.get_stack()}-models",
            bucket=settings.name,
            server_side_encryption_rule={"sse_algorithm": "AES256"},
            lifecycle_rules=[
                {
                    "id": "abort-stale-uploads",
                    "enabled": True,
                    "prefix": "",
                    "abort_multipart_uploads": [{"days": STALE_UPLOAD_DAYS}],
                }
            ],
            force_destroy=not settings.retain,
            # Resources of their own, below; without this the bucket would fight them for these attributes.
            opts=pulumi.ResourceOptions.merge(keep, pulumi.ResourceOptions(ignore_changes=["acl", "policy"])),
        )
        alicloud.oss.BucketAcl("acl", bucket=bucket.id, acl="private", opts=keep)
        alicloud.oss.BucketPublicAccessBlock("public-access", bucket=bucket.id, block_public_access=True, opts=keep)
        alicloud.oss.BucketPolicy("tls-only", bucket=bucket.id, policy=bucket.id.apply(tls_only_policy), opts=keep)
        return bucket.id

    def _reader(self, args: ModelBucketArgs) -> AccessKey | RoleReader:
        identity = args.weights.identity
        if isinstance(identity, AccessKeyIdentity):
            if args.access_key is None:
                raise ValueError("the identity accessKey needs the access_key argument")
            return args.access_key
        document = self.bucket_name.apply(lambda bucket: read_policy(bucket, args.weights.prefix))
        policy = alicloud.ram.Policy(
            f"{pulumi.get_project()}-{pulumi.get_stack()}-read-weights",
            policy_document=document,
            description=f"Read the model weights of the Pulumi stack {pulumi.get_stack()}",
            opts=pulumi.ResourceOptions(parent=self),
        )
        if isinstance(identity, RrsaIdentity):
            return self._role(identity, policy)
        return self._user(policy)

    def _user(self, policy: alicloud.ram.Policy) -> AccessKey:
        options = pulumi.ResourceOptions(parent=self)
        user = alicloud.ram.User(
            f"{pulumi.get_project()}-{pulumi.get_stack()}-weights-reader",
            comments="Reads model weights for inference pods",
            # Deletes the user although an AccessKey was added to it by hand.
            force=True,
            opts=options,
        )
        attachment = alicloud.ram.UserPolicyAttachment(
            "reader-policy", user_name=user.name, policy_name=policy.policy_name, policy_type="Custom", opts=options
        )
        key = alicloud.ram.AccessKey(
            "reader-key",
            user_name=user.name,
            # A key that works from its first moment on: pods mount as soon as they have it.
            opts=pulumi.ResourceOptions.merge(options, pulumi.ResourceOptions(depends_on=[attachment])),
        )
        return AccessKey(key_id=pulumi.Output.secret(key.id), key_secret=pulumi.Output.secret(key.secret))

    def _role(self, identity: RrsaIdentity, policy: alicloud.ram.Policy) -> RoleReader:
        options = pulumi.ResourceOptions(parent=self)
        role = alicloud.ram.Role(
            f"{pulumi.get_project()}-{pulumi.get_stack()}-weights-reader",
            assume_role_policy_document=volume_plugin_trust(identity),
            description="Assumed by the OSS volume plugin to read model weights",
            opts=options,
        )
        attachment = alicloud.ram.RolePolicyAttachment(
            "reader-policy",
            role_name=role.role_name,
            policy_name=policy.policy_name,
            policy_type="Custom",
            opts=options,
        )
        arn = pulumi.Output.all(role.arn, attachment.id).apply(lambda values: str(values[0]))
        return RoleReader(role_arn=arn, oidc_provider_arn=identity.oidc_provider_arn)


def tls_only_policy(bucket: str) -> str:
    """Bucket policy that denies everything over plain HTTP, also to the owner
    (https://www.alibabacloud.com/help/en/oss/user-guide/oss-bucket-policy/)."""
    return _document(
        {
            "Effect": "Deny",
            "Principal": ["*"],
            "Action": ["oss:*"],
            "Resource": [f"acs:oss:*:*:{bucket}", f"acs:oss:*:*:{bucket}/*"],
            "Condition": {"Bool": {"acs:SecureTransport": ["false"]}},
        }
    )


def read_policy(bucket: str, prefix: str) -> str:
    """RAM policy of the reader: list the bucket, read the objects under ``prefix``, nothing else. Listing is not
    narrowed to the prefix, because ossfs lists the bucket's root when it checks a mount."""
    return _document(
        {
            "Effect": "Allow",
            "Action": ["oss:GetBucketInfo", "oss:ListObjects"],
            "Resource": [f"acs:oss:*:*:{bucket}"],
        },
        {
            "Effect": "Allow",
            "Action": ["oss:GetObject"],
            "Resource": [f"acs:oss:*:*:{bucket}/{prefix}", f"acs:oss:*:*:{bucket}/{prefix}/*"],
        },
    )


def volume_plugin_trust(identity: RrsaIdentity) -> str:
    """Trust policy of the reader's role: only the OSS volume plugin of this one cluster may assume it."""
    return _document(
        {
            "Effect": "Allow",
            "Action": "sts:AssumeRole",
            "Principal": {"Federated": [identity.oidc_provider_arn]},
            "Condition": {
                "StringEquals": {
                    "oidc:aud": "sts.aliyuncs.com",
                    "oidc:iss": identity.oidc_issuer,
                    "oidc:sub": VOLUME_PLUGIN_SUBJECT,
                }
            },
        }
    )


def _document(*statements: object) -> str:
    body: dict[str, str | Sequence[object]] = {"Version": "1", "Statement": statements}
    return json.dumps(body, sort_keys=True)
