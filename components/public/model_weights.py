"""A bucket with a model's weights in it."""

import dataclasses
from typing import NotRequired, TypedDict

import pulumi

from .. import wiring
from ..credentials import AccessKey, AssumableRole
from ..model_bucket import ModelBucket
from ..model_upload import ModelUpload
from ..names import name_of
from ..secret_forms import word_problem
from ..secrets import Secrets
from .arguments import Arguments, checked_secret, pair_findings, present

LATER = "known-later"
"""A legal name in place of one that is an output of another resource."""

COPY = "copy it whole from where it was issued"


class ModelWeightsArgs(TypedDict):
    """What is moved, where to, and by whom. Sizes are in vCPUs and as Kubernetes quantities."""

    region: NotRequired[str]
    """Region of the bucket and of the cluster. By default that of the alicloud provider's configuration."""

    model: NotRequired[str]
    """Name under which ModelScope and Hugging Face publish the model. By default deepseek-ai/DeepSeek-R1."""

    weights_gib: NotRequired[float]
    """Size of the model's files in GiB, for a model that the catalogue does not have."""

    source: NotRequired[str]
    """modelScope (the default), huggingFace, or bucket: the weights are there, and are only checked."""

    repository: NotRequired[str]
    """Repository on the hub, as OWNER/NAME. By default the model's name."""

    revision: NotRequired[str]
    """Branch, tag or commit."""

    hub_endpoint: NotRequired[str]
    """Address of a mirror of the hub."""

    hub_token: NotRequired[pulumi.Input[str]]
    """Token for a private repository."""

    include: NotRequired[list[str]]
    """Patterns of the files to move. By default what serving needs."""

    exclude: NotRequired[list[str]]
    """Patterns of the files to leave out."""

    manifest_sha256: NotRequired[str]
    """SHA-256 of the manifest, which the Job names when it has moved the weights: the only content that is accepted."""

    allow_pickle: NotRequired[bool]
    """Also move formats that may run code where they are loaded."""

    trust_remote_code: NotRequired[bool]
    """Also move the repository's Python files. By default only where vLLM itself has no code for the model."""

    bucket: NotRequired[pulumi.Input[str]]
    """Name of the bucket. By default it is made of project, stack, component, account and region."""

    existing_bucket: NotRequired[bool]
    """Use a bucket that exists, as it is, instead of creating it."""

    retain: NotRequired[bool]
    """Protect the new bucket, and keep it and the weights when the stack is destroyed. By default true."""

    prefix: NotRequired[str]
    """Folder of the model in the bucket. By default models/ and the last part of the model's name."""

    endpoint: NotRequired[str]
    """URL of OSS. By default the region's internal one."""

    access_key_id: NotRequired[pulumi.Input[str]]
    """AccessKey that moves and reads the weights. By default a RAM user is created for each."""

    access_key_secret: NotRequired[pulumi.Input[str]]
    """The AccessKey's secret."""

    oidc_provider_arn: NotRequired[str]
    """ARN of the cluster's OIDC provider: RAM roles are created (RRSA), and no AccessKey exists."""

    oidc_issuer: NotRequired[str]
    """URL of the cluster's OIDC issuer."""

    namespace: NotRequired[pulumi.Input[str]]
    """Namespace of the Job that moves the weights. By default default."""

    upload_image: NotRequired[str]
    """Image of the Job: any with Python 3.11 or newer."""

    upload_cpu: NotRequired[int]
    """vCPUs of the Job."""

    upload_memory: NotRequired[str]
    """Memory of the Job."""

    upload_throughput_mibps: NotRequired[int]
    """What the hub is expected to give, in MiB/s. It decides when the Job is given up."""

    upload_eip_bandwidth_mbps: NotRequired[int]
    """Bandwidth in Mbit/s of a public address for the Job. By default it uses the VPC's NAT gateway."""

    upload_rights_end: NotRequired[str]
    """Day in UTC, such as 2026-12-31, from which the Job's user or role may do nothing in the bucket any more."""


ARGUMENTS = Arguments(
    component="ModelWeights",
    paths={
        "region": "cloud.region",
        "model": "model.name",
        "weights_gib": "model.weightsGiB",
        "source": "weights.source.kind",
        "repository": "weights.source.repository",
        "revision": "weights.source.revision",
        "hub_endpoint": "weights.source.endpoint",
        "include": "weights.source.include",
        "exclude": "weights.source.exclude",
        "manifest_sha256": "weights.manifestSha256",
        "allow_pickle": "weights.allowPickle",
        "trust_remote_code": "inference.engine.trustRemoteCode",
        "bucket": "weights.bucket.name",
        "retain": "weights.bucket.retain",
        "prefix": "weights.prefix",
        "endpoint": "cloud.endpoint",
        "oidc_provider_arn": "weights.identity.oidcProviderArn",
        "oidc_issuer": "weights.identity.oidcIssuer",
        "namespace": "cluster.namespace",
        "upload_image": "weights.upload.image",
        "upload_cpu": "weights.upload.cpu",
        "upload_memory": "weights.upload.memory",
        "upload_throughput_mibps": "weights.upload.throughputMiBps",
        "upload_eip_bandwidth_mbps": "weights.upload.eipBandwidthMbps",
        "upload_rights_end": "weights.upload.rightsEnd",
    },
    inputs=("namespace", "bucket", "hub_token", "access_key_id", "access_key_secret"),
    others=("existing_bucket",),
    made_up=("inference", "storage", "service", "security"),
)


class ModelWeights(pulumi.ComponentResource):
    """A private, encrypted OSS bucket, the weights in it, moved by a Job of the cluster and verified, and the identity
    that reads them. Its outputs are known once the weights are in the bucket."""

    bucket_name: pulumi.Output[str]
    """Name of the bucket."""

    endpoint: pulumi.Output[str]
    """URL of OSS within the region."""

    prefix: pulumi.Output[str]
    """Folder of the model in the bucket."""

    access_key_id: pulumi.Output[str] | None
    """AccessKey that reads the weights; none where a role does."""

    access_key_secret: pulumi.Output[str] | None
    """The AccessKey's secret."""

    role_arn: pulumi.Output[str] | None
    """RAM role that reads the weights; none where an AccessKey does."""

    oidc_provider_arn: pulumi.Output[str] | None
    """OIDC provider for that role."""

    def __init__(self, name: str, args: ModelWeightsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("deepseek-acs:index:ModelWeights", name, None, opts)
        args = present(args)
        own = pulumi.ResourceOptions(parent=self)
        found = pair_findings(args, "access_key_id", "access_key_secret")
        spec, warnings = ARGUMENTS.resolve(name, args, settings=_settings(args), found=[*found])
        for warning in warnings:
            pulumi.log.warn(str(warning), resource=self)
        secrets = _secrets(args)
        namespace, account = args.get("namespace", spec.cluster.namespace), name_of(name)
        bucket_args = dataclasses.replace(
            wiring.model_bucket(spec, secrets),
            mover_subject=pulumi.Output.format("system:serviceaccount:{0}:{1}", namespace, account),
        )
        if "bucket" in args:
            bucket_args = dataclasses.replace(bucket_args, bucket=args["bucket"])
        bucket = ModelBucket(name, bucket_args, own)
        upload_args = dataclasses.replace(
            wiring.model_upload(spec, secrets, bucket), namespace=namespace, service_account=account
        )
        upload = ModelUpload(name, upload_args, own)
        # Known in previews, and yet what uses it comes after the Job.
        self.bucket_name = pulumi.Output.all(bucket.bucket_name, upload.urn).apply(lambda known: str(known[0]))
        self.endpoint = pulumi.Output.from_input(bucket.endpoint)
        self.prefix = pulumi.Output.from_input(spec.weights.prefix)
        reader = bucket.reader_credentials
        key = reader if isinstance(reader, AccessKey) else None
        role = reader if isinstance(reader, AssumableRole) else None
        self.access_key_id = key.key_id if key else None
        self.access_key_secret = key.key_secret if key else None
        self.role_arn = role.role_arn if role else None
        self.oidc_provider_arn = pulumi.Output.from_input(role.oidc_provider_arn) if role else None
        self.register_outputs(
            {
                "bucketName": self.bucket_name,
                "endpoint": self.endpoint,
                "prefix": self.prefix,
                "accessKeyId": self.access_key_id,
                "accessKeySecret": self.access_key_secret,
                "roleArn": self.role_arn,
                "oidcProviderArn": self.oidc_provider_arn,
            }
        )


def _settings(args: ModelWeightsArgs) -> dict[str, object]:
    """Kinds that follow from what is given."""
    settings: dict[str, object] = {"weights.source.kind": "modelScope", "weights.bucket.kind": "create"}
    if args.get("existing_bucket"):
        settings["weights.bucket.kind"] = "existing"
        if isinstance(args.get("bucket"), pulumi.Output):
            settings["weights.bucket.name"] = LATER
    if "access_key_id" in args or "access_key_secret" in args:
        settings["weights.identity.kind"] = "accessKey"
    elif "oidc_provider_arn" in args or "oidc_issuer" in args:
        settings["weights.identity.kind"] = "rrsa"
    return settings


def _secrets(args: ModelWeightsArgs) -> Secrets:
    key = None
    if "access_key_id" in args and "access_key_secret" in args:
        key = AccessKey(
            key_id=checked_secret("access_key_id", args["access_key_id"], word_problem, fix=COPY),
            key_secret=checked_secret("access_key_secret", args["access_key_secret"], word_problem, fix=COPY),
        )
    token = checked_secret("hub_token", args["hub_token"], word_problem, fix=COPY) if "hub_token" in args else None
    return Secrets(access_key=key, hub_token=token)
