"""The bucket with the weights, and the two identities that use it: the mover's, and the pods' that read them.

The bucket is private, encrypted and TLS-only, and outlives the stack unless the stack says otherwise.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pulumi
import pulumi_alicloud as alicloud

from deepseek_acs.modelmover.layout import OWN_FOLDER
from deepseek_acs.planner.findings import report

from .credentials import AccessKey, AssumableRole
from .existing_bucket import bucket_findings
from .names import COMPILED, MOVER, READER, bucket_name, cloud_name, version_name

STALE_UPLOAD_DAYS = 7
"""Days after which parts of incomplete uploads are deleted; they are billed but not listed."""

STALE_COMPILED_DAYS = 30
"""Days after which an archive of compiled code is deleted. If it is still of use, the next start makes another one."""

ROTATE = "DeleteOldestNonDefaultVersionWhenLimitExceeded"
"""RAM keeps five versions of a policy and rejects a sixth
(https://www.pulumi.com/registry/packages/alicloud/api-docs/ram/policy). Each change of a document makes one."""

VOLUME_PLUGIN_SUBJECT = "system:serviceaccount:ack-csi-fuse:csi-fuse-ossfs"
"""Service account of the OSS volume plugin since CSI 1.30.4
(https://alibabacloud.com/help/en/ack/product-overview/announcement-on-csi-oss-driver-upgrade)."""


@dataclass(frozen=True, kw_only=True)
class ModelBucketArgs:
    """A new bucket, called ``bucket`` or by ``names.bucket_name``, or an existing one. With ``retain`` it is kept when
    the stack is destroyed.

    ``prefix`` is the folder of the model. The mover may write to it if ``moves``, and read otherwise. Both identities
    use the given AccessKey; or they are RAM roles for service accounts of the cluster with this OIDC provider, the
    mover's being ``mover_subject``; or, with neither, RAM users with an AccessKey each.
    """

    region: str
    endpoint: str | None = None
    """URL of OSS, by default the region's internal one."""

    bucket: pulumi.Input[str] | None = None
    existing: bool = False
    retain: bool = True
    prefix: str
    other_prefixes: tuple[str, ...] = ()
    """Folders of further models, for the same identities."""

    moves: bool = True
    access_key: AccessKey | None = None
    oidc_provider_arn: str | None = None
    oidc_issuer: str | None = None
    vpc_id: str | None = None
    """The one VPC from which the AccessKeys and roles are of use; None: from everywhere."""

    mover_rights_end: str | None = None
    """The day in UTC, such as 2026-12-31, from which the mover may do nothing; None: its rights do not end."""

    rotation: int = 1
    """Another number makes other AccessKeys for the RAM users."""

    mover_subject: pulumi.Input[str] = ""

    compiled_prefix: str | None = None
    """Folder of the code that engines compile, for one more identity; None: it is not kept."""

    compiled_subject: str = ""
    """Service account of the engines' pods."""


class StoredWeights(Protocol):
    """A bucket with weights, as those who read it see it: a ModelBucket, or one of another program."""

    @property
    def bucket_name(self) -> pulumi.Input[str]:
        """Name of the bucket."""

    @property
    def endpoint(self) -> pulumi.Input[str]:
        """URL of OSS, with scheme."""

    @property
    def reader_credentials(self) -> AccessKey | AssumableRole:
        """Who reads them."""


class ModelBucket(pulumi.ComponentResource):
    """The bucket, and the identities that write and read the weights."""

    bucket_name: pulumi.Output[str]
    region: str
    endpoint: str
    """URL of OSS within the region. With scheme: the volume plugin reads an internal endpoint without one by plain
    HTTP, which the bucket's policy denies
    (setTransmissionProtocol in https://github.com/kubernetes-sigs/alibaba-cloud-csi-driver)."""
    mover_credentials: AccessKey | AssumableRole
    reader_credentials: AccessKey | AssumableRole
    compiled_credentials: AccessKey | AssumableRole | None
    """Of the engines' pods, for the code that they compile."""

    def __init__(self, name: str, args: ModelBucketArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("deepseek:storage:ModelBucket", name, None, opts)
        self.region = args.region
        self.endpoint = args.endpoint or f"https://oss-{args.region}-internal.aliyuncs.com"
        self.bucket_name = self._bucket(args)
        self.mover_credentials = self._mover(args)
        self.reader_credentials = self._reader(args)
        prefix = args.compiled_prefix
        self.compiled_credentials = None if prefix is None else self._compiled(args, prefix)
        self.register_outputs({"bucketName": self.bucket_name, "endpoint": self.endpoint})

    def _bucket(self, args: ModelBucketArgs) -> pulumi.Output[str]:
        name = self.pulumi_resource_name
        if args.existing:
            there = "" if args.bucket is None else args.bucket
            found = alicloud.oss.Bucket.get(f"{name}-bucket", there, opts=pulumi.ResourceOptions(parent=self))
            return self._inspected(found)
        # What protects the bucket is retained with it: without its policy it would accept plain HTTP.
        keep = pulumi.ResourceOptions(parent=self, protect=args.retain, retain_on_delete=args.retain)
        bucket = alicloud.oss.Bucket(
            f"{name}-bucket",
            bucket=self._bucket_name() if args.bucket is None else args.bucket,
            server_side_encryption_rule={"sse_algorithm": "AES256"},
            lifecycle_rules=[
                {
                    "id": "abort-stale-uploads",
                    "enabled": True,
                    "prefix": "",
                    "abort_multipart_uploads": [{"days": STALE_UPLOAD_DAYS}],
                },
                *([] if args.compiled_prefix is None else [_expiry(args.compiled_prefix)]),
            ],
            force_destroy=not args.retain,
            # Separate resources, below; without this the bucket resource would conflict with them about these
            # attributes.
            opts=pulumi.ResourceOptions.merge(keep, pulumi.ResourceOptions(ignore_changes=["acl", "policy"])),
        )
        alicloud.oss.BucketAcl(f"{name}-acl", bucket=bucket.id, acl="private", opts=keep)
        alicloud.oss.BucketPublicAccessBlock(
            f"{name}-public-access", bucket=bucket.id, block_public_access=True, opts=keep
        )
        # Known in previews already, as the ID is not.
        own_name = bucket.bucket.apply(str)
        policy = own_name.apply(tls_only_policy)
        alicloud.oss.BucketPolicy(f"{name}-tls-only", bucket=bucket.id, policy=policy, opts=keep)
        return own_name

    def _inspected(self, found: alicloud.oss.Bucket) -> pulumi.Output[str]:
        """The bucket's name. Its properties are checked separately: what a provider leaves out of an answer is
        unknown in a preview, and the name must not be."""

        def evaluate(values: dict[str, Any]) -> None:
            findings = bucket_findings(str(values.pop("name")), region=self.region, **values)
            if errors := [finding for finding in findings if finding.severity == "error"]:
                raise pulumi.RunError(report(errors, where=f"Pulumi.{pulumi.get_stack()}.yaml"))
            for finding in findings:
                pulumi.log.warn(str(finding), resource=self)

        for read in (
            {"location": found.location},
            {"acl": found.acl},
            {"policy": found.policy},
            {"encryption": found.server_side_encryption_rule},
        ):
            pulumi.Output.all(name=found.id, **read).apply(evaluate)
        return found.id

    def _bucket_name(self) -> pulumi.Output[str]:
        account = alicloud.get_account_output(opts=pulumi.InvokeOutputOptions(parent=self))
        return account.id.apply(lambda id_: bucket_name(self.pulumi_resource_name, account=id_, region=self.region))

    def _mover(self, args: ModelBucketArgs) -> AccessKey | AssumableRole:
        return self._identity(
            MOVER,
            args,
            right=MOVER,
            policy=self.bucket_name.apply(
                lambda bucket: mover_policy(
                    bucket,
                    args.prefix,
                    *args.other_prefixes,
                    writes=args.moves,
                    vpc_id=args.vpc_id,
                    end=args.mover_rights_end,
                )
            ),
            subject=args.mover_subject,
        )

    def _reader(self, args: ModelBucketArgs) -> AccessKey | AssumableRole:
        return self._identity(
            READER,
            args,
            # Another folder gets another policy, in addition to the first: pods of the old groups may still be
            # recreated, hours after the new weights have begun to move.
            right=version_name(READER, args.prefix),
            policy=self.bucket_name.apply(
                lambda bucket: read_policy(bucket, args.prefix, *args.other_prefixes, vpc_id=args.vpc_id)
            ),
            subject=VOLUME_PLUGIN_SUBJECT,
        )

    def _compiled(self, args: ModelBucketArgs, prefix: str) -> AccessKey | AssumableRole:
        return self._identity(
            COMPILED,
            args,
            right=COMPILED,
            policy=self.bucket_name.apply(lambda bucket: cache_policy(bucket, prefix, vpc_id=args.vpc_id)),
            subject=args.compiled_subject,
        )

    def _identity(
        self, who: str, args: ModelBucketArgs, *, right: str, policy: pulumi.Output[str], subject: pulumi.Input[str]
    ) -> AccessKey | AssumableRole:
        """A RAM user with a key, or a role for the service account ``subject``, allowed what ``policy`` says, which is
        called ``right``."""
        if args.access_key is not None:
            return args.access_key
        allowed = alicloud.ram.Policy(
            f"{self.pulumi_resource_name}-{right}",
            policy_name=cloud_name(self.pulumi_resource_name, right),
            policy_document=policy,
            rotate_strategy=ROTATE,
            description=f"The weights' {who} of the Pulumi stack {pulumi.get_stack()}",
            opts=pulumi.ResourceOptions(parent=self),
        )
        if args.oidc_provider_arn is not None:
            provider, issuer = args.oidc_provider_arn, args.oidc_issuer or ""
            trust = pulumi.Output.from_input(subject).apply(
                lambda account: trust_policy(provider, issuer=issuer, subject=account)
            )
            return self._role(who, right, provider, allowed, trust)
        return self._user(who, right, allowed, rotation=args.rotation)

    def _user(self, who: str, right: str, policy: alicloud.ram.Policy, *, rotation: int) -> AccessKey:
        options = pulumi.ResourceOptions(parent=self)
        user = alicloud.ram.User(
            f"{self.pulumi_resource_name}-{who}",
            name=cloud_name(self.pulumi_resource_name, who),
            comments=f"The {who} of the model's weights",
            # Its AccessKeys are retained, below; deleting the user would delete them.
            force=True,
            opts=options,
        )
        attachment = alicloud.ram.UserPolicyAttachment(
            f"{self.pulumi_resource_name}-{right}-policy",
            user_name=user.name,
            policy_name=policy.policy_name,
            policy_type="Custom",
            opts=options,
        )
        key = alicloud.ram.AccessKey(
            f"{self.pulumi_resource_name}-{who}-key" + (f"-{rotation}" if rotation > 1 else ""),
            user_name=user.name,
            opts=pulumi.ResourceOptions(
                parent=self,
                # The key must work immediately: pods use it as soon as they have it.
                depends_on=[attachment],
                # A rotation must not take the old key from volumes that are mounted (docs/runbook.md).
                retain_on_delete=True,
            ),
        )
        return AccessKey(key_id=pulumi.Output.secret(key.id), key_secret=pulumi.Output.secret(key.secret))

    def _role(
        self, who: str, right: str, provider: str, policy: alicloud.ram.Policy, trust: pulumi.Output[str]
    ) -> AssumableRole:
        options = pulumi.ResourceOptions(parent=self)
        role = alicloud.ram.Role(
            f"{self.pulumi_resource_name}-{who}",
            role_name=cloud_name(self.pulumi_resource_name, who),
            assume_role_policy_document=trust,
            description=f"The {who} of the model's weights",
            opts=options,
        )
        attachment = alicloud.ram.RolePolicyAttachment(
            f"{self.pulumi_resource_name}-{right}-policy",
            role_name=role.role_name,
            policy_name=policy.policy_name,
            policy_type="Custom",
            opts=options,
        )
        arn = pulumi.Output.all(role.arn, attachment.id).apply(lambda values: str(values[0]))
        return AssumableRole(role_arn=arn, oidc_provider_arn=provider)


def _expiry(prefix: str) -> alicloud.oss.BucketLifecycleRuleArgsDict:
    """Deletes what was compiled long ago."""
    return {
        "id": "expire-compiled-code",
        "enabled": True,
        "prefix": f"{prefix}/",
        "expirations": [{"days": STALE_COMPILED_DAYS}],
    }


def tls_only_policy(bucket: str) -> str:
    """Bucket policy that denies all requests over plain HTTP, including the owner's
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


def read_policy(bucket: str, *prefixes: str, vpc_id: str | None = None) -> str:
    """RAM policy of the reader: list the bucket, read the objects under ``prefixes``, nothing else. Listing is not
    restricted to the prefix, because ossfs lists the bucket's root when it checks a mount."""
    return _document(
        {
            "Effect": "Allow",
            **_only(vpc_id),
            "Action": ["oss:GetBucketInfo", "oss:ListObjects"],
            "Resource": [f"acs:oss:*:*:{bucket}"],
        },
        {
            "Effect": "Allow",
            **_only(vpc_id),
            "Action": ["oss:GetObject"],
            "Resource": [f"acs:oss:*:*:{bucket}/{prefix}{below}" for prefix in prefixes for below in ("", "/*")],
        },
    )


def mover_policy(bucket: str, *prefixes: str, writes: bool, vpc_id: str | None = None, end: str | None = None) -> str:
    """RAM policy of the mover: what ``prefixes`` and its own objects for them need, and nothing else of the bucket.
    Without ``writes`` it may only list and read, and from the day ``end`` on nothing (actions by operation:
    https://www.alibabacloud.com/help/en/oss/user-guide/ram-policy)."""
    whole_bucket = ["oss:ListObjects"]
    objects = ["oss:GetObject"]
    if writes:
        whole_bucket += ["oss:ListMultipartUploads"]
        objects += ["oss:PutObject", "oss:ListParts", "oss:AbortMultipartUpload", "oss:DeleteObject"]
    folders = [folder for prefix in prefixes for folder in (prefix, f"{OWN_FOLDER}/{prefix}")]
    return _document(
        {"Effect": "Allow", **_only(vpc_id, end), "Action": whole_bucket, "Resource": [f"acs:oss:*:*:{bucket}"]},
        {
            "Effect": "Allow",
            **_only(vpc_id, end),
            "Action": objects,
            "Resource": [f"acs:oss:*:*:{bucket}/{folder}/*" for folder in folders],
        },
    )


def cache_policy(bucket: str, prefix: str, *, vpc_id: str | None = None) -> str:
    """RAM policy of the engine's pods, for what they compile: read and write below ``prefix``. Listing, without which
    OSS does not say that there is no such object, is of the whole bucket."""
    objects = ["oss:GetObject", "oss:PutObject", "oss:AbortMultipartUpload", "oss:DeleteObject"]
    return _document(
        {
            "Effect": "Allow",
            **_only(vpc_id),
            "Action": ["oss:ListObjects"],
            "Resource": [f"acs:oss:*:*:{bucket}"],
        },
        {
            "Effect": "Allow",
            **_only(vpc_id),
            "Action": objects,
            "Resource": [f"acs:oss:*:*:{bucket}/{prefix}/*"],
        },
    )


def _only(vpc_id: str | None, end: str | None = None) -> dict[str, object]:
    """Condition of a statement that holds only for requests from this VPC, and only before this day in UTC
    (https://www.alibabacloud.com/help/en/oss/user-guide/ram-policy-overview, ``acs:SourceVpc``;
    https://www.alibabacloud.com/help/en/ram/user-guide/access-alibaba-cloud-in-a-specified-period-of-time)."""
    condition: dict[str, object] = {}
    if vpc_id is not None:
        condition["StringEquals"] = {"acs:SourceVpc": [vpc_id]}
    if end is not None:
        condition["DateLessThan"] = {"acs:CurrentTime": f"{end}T00:00:00+00:00"}
    return {"Condition": condition} if condition else {}


def trust_policy(provider: str, *, issuer: str, subject: str) -> str:
    """Trust policy of a role: only the service account ``subject`` of this one cluster may assume it."""
    return _document(
        {
            "Effect": "Allow",
            "Action": "sts:AssumeRole",
            "Principal": {"Federated": [provider]},
            "Condition": {
                "StringEquals": {
                    "oidc:aud": "sts.aliyuncs.com",
                    "oidc:iss": issuer,
                    "oidc:sub": subject,
                }
            },
        }
    )


def _document(*statements: object) -> str:
    body: dict[str, str | Sequence[object]] = {"Version": "1", "Statement": statements}
    return json.dumps(body, sort_keys=True)
