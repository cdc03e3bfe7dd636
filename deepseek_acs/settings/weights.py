"""The model's files: where they come from, the bucket, and who reads it."""

from datetime import date
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from deepseek_acs.settings.base import BUCKET_NAME, IMAGE, KEY_PREFIX, Endpoint, Quantity, Settings, mebibytes


def _day(text: str) -> str:
    date.fromisoformat(text)
    return text


Day = Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$", examples=["2026-12-31"]), AfterValidator(_day)]


class CreateBucket(Settings):
    """A bucket that this stack creates."""

    kind: Literal["create"] = "create"

    name: Annotated[str | None, Field(pattern=BUCKET_NAME)] = None
    """Name of the bucket. Bucket names are unique across all accounts; the default is the stack's name with a hash of
    account and region."""

    retain: bool = True
    """Protect the bucket from deletion, and keep it with the weights when the stack is destroyed. false deletes
    both."""


class ExistingBucket(Settings):
    """A bucket that exists already; its settings are not changed."""

    kind: Literal["existing"]

    name: Annotated[str, Field(pattern=BUCKET_NAME, examples=["my-models"])]
    """Name of the bucket."""


class RamUserIdentity(Settings):
    """Create a RAM user that may only read the weights, and an AccessKey for it."""

    kind: Literal["ramUser"] = "ramUser"

    rotation: Annotated[int, Field(ge=1)] = 1
    """Raise it for new AccessKeys. The old ones stay active until you delete them, because volumes that are mounted
    use them; RAM allows a user two (docs/runbook.md)."""


class AccessKeyIdentity(Settings):
    """Use your own AccessKey, in the secrets deepseek:ossAccessKeyId and deepseek:ossAccessKeySecret."""

    kind: Literal["accessKey"]


class RrsaIdentity(Settings):
    """Create a RAM role that the OSS volume plugin assumes (RRSA), so that no AccessKey is needed.

    Alibaba Cloud documents this for ACK with CSI 1.30.4 or newer; for ACS clusters it is not confirmed.
    """

    kind: Literal["rrsa"]

    oidc_provider_arn: Annotated[str, Field(pattern=r"^acs:ram::[0-9]+:oidc-provider/\S+$")]
    """ARN of the cluster's OIDC provider, from the cluster's basic information in the console."""

    oidc_issuer: Annotated[str, Field(pattern=r"^https://\S+$")]
    """URL of the cluster's OIDC issuer, from the same page."""


Revision = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$", max_length=200)]
Repository = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$", examples=["deepseek-ai/DeepSeek-R1"])
]
FilePattern = Annotated[str, Field(min_length=1, max_length=200, examples=["*.safetensors"])]


class HubSource(Settings):
    """Settings that all model hubs share."""

    repository: Repository | None = None
    """Repository on the hub, as OWNER/NAME; by default the model's name."""

    endpoint: Endpoint | None = None
    """URL of a mirror of the hub. By default the hub's own."""

    include: tuple[FilePattern, ...] = ()
    """Patterns of the files to move; * also matches a slash. By default the files that serving needs: safetensors,
    configuration, tokenizer and licence, and with trustRemoteCode the repository's Python files."""

    exclude: tuple[FilePattern, ...] = ()
    """Patterns of the files to exclude. The folder .git, libraries and shell scripts are never moved."""


class ModelScopeSource(HubSource):
    """ModelScope. Within Alibaba Cloud its files come from OSS through internal addresses, if the region has them."""

    kind: Literal["modelScope"] = "modelScope"

    revision: Revision = "master"
    """Branch, tag or commit. A branch is looked up once, when the weights are moved."""


class HuggingFaceSource(HubSource):
    """Hugging Face, or a mirror of it."""

    kind: Literal["huggingFace"]

    revision: Revision = "main"
    """Branch, tag or commit. A branch is looked up once, when the weights are moved."""


class BucketSource(Settings):
    """The bucket has the weights already, moved there by this program (modelmover copy). The program only checks that
    they are unchanged, and the mover cannot write."""

    kind: Literal["bucket"]


ManifestDigest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
ModelFolder = Annotated[str, Field(pattern=KEY_PREFIX, max_length=512, examples=["models/DeepSeek-R1"])]


class UploadSettings(Settings):
    """The pod that moves or checks the weights. It uses no GPU, and completes before any GPU is requested."""

    image: Annotated[str, Field(pattern=IMAGE)] = "ac2-registry.cn-hangzhou.cr.aliyuncs.com/ac2/base:alinux3.2104-py312"
    """Any image with Python 3.11 or newer as python3; the program is mounted into it."""

    cpu: Annotated[int, Field(ge=1, le=64)] = 8
    """vCPUs. Hashing and TLS need about one per 300 MB/s."""

    memory: Quantity = "16Gi"
    """Memory. Buffers take 640 MiB; the rest is what ACS bills with the vCPUs."""

    throughput_mi_bps: Annotated[int, Field(alias="throughputMiBps", ge=1, le=100_000)] = 50
    """Expected sustained rate of the hub, in MiB/s. The timeout of the Job follows from it; after a timeout, the next
    pulumi up continues where the Job stopped. Write a low figure."""

    eip_bandwidth_mbps: Annotated[int | None, Field(ge=1, le=1000)] = None
    """Bandwidth in Mbit/s of a public address (EIP) that ACS creates for the pod and releases afterwards. Without it,
    the pod reaches the hub through the NAT gateway of its VPC."""

    rights_end: Day | None = None
    """Day, in UTC and in quotes, from which the mover may do nothing in the bucket any more. By default its rights do
    not end by themselves; with source.kind: bucket it may only read."""

    @property
    def memory_gib(self) -> float:
        """Memory in GiB."""
        return mebibytes(self.memory) / 1024


class WeightsSettings(Settings):
    """Where the model's files are stored, where they come from, and who reads them."""

    source: Annotated[ModelScopeSource | HuggingFaceSource | BucketSource, Field(discriminator="kind")] = (
        ModelScopeSource()
    )
    """Where the weights come from."""

    manifest_sha256: ManifestDigest | None = None
    """SHA-256 of the manifest, from the log of the Job that moved the weights. The Job fails if the bucket holds
    anything else. With source.kind: bucket it reads and compares all bytes, once."""

    allow_pickle: bool = False
    """Also move formats that may run code when they are loaded, such as pytorch_model.bin: those named by include, or,
    without include, if there are no safetensors."""

    upload: UploadSettings = UploadSettings()
    """The pod that moves the weights."""

    bucket: Annotated[CreateBucket | ExistingBucket, Field(discriminator="kind")] = CreateBucket()
    """The OSS bucket: create one, or use an existing one."""

    prefix: ModelFolder
    """Folder of the model in the bucket, without leading or trailing slash. Its last part names the folder in the pod:
    models/DeepSeek-R1 is mounted at /models/DeepSeek-R1."""

    identity: Annotated[RamUserIdentity | AccessKeyIdentity | RrsaIdentity, Field(discriminator="kind")] = (
        RamUserIdentity()
    )
    """Identity with which the pods read the bucket."""
