"""An update by a second revision: new groups that serve next to the old ones."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from deepseek_acs.settings.base import DNS_LABEL, Settings, problem
from deepseek_acs.settings.inference import EngineSettings, GpuSettings, ParallelismSettings, ResourceSettings
from deepseek_acs.settings.model import ModelSettings
from deepseek_acs.settings.weights import (
    BucketSource,
    HuggingFaceSource,
    ManifestDigest,
    ModelFolder,
    ModelScopeSource,
)

REVISION_MAX = 16

Revision = Annotated[str, Field(pattern=DNS_LABEL, max_length=REVISION_MAX, examples=["v33"])]

GROUP_SECTIONS = ("engine", "gpu", "parallelism", "resources")
"""What an update can change: sections of ``inference`` of the same name."""

SECTIONS = (*GROUP_SECTIONS, "model", "weights")


class LimitSettings(Settings):
    """When the new groups lose their clients: a program in the cluster reads their metrics, and sets the weight in the
    route to 0. It needs a route of kind gateway, and a quarter of a vCPU."""

    error_share: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Share of the requests of the last five minutes that may fail (status 5xx, or an error of the engine)."""

    time_to_first_token_seconds: Annotated[float | None, Field(gt=0)] = None
    """Seconds to the first token, which 95 % of these requests must meet. By default latency is not a limit."""

    least_requests: Annotated[int, Field(ge=1)] = 20
    """Requests in the last five minutes below which shares mean nothing."""


class NewWeightsSettings(Settings):
    """Weights in another folder of the same bucket. Identity and upload are those of weights."""

    source: Annotated[ModelScopeSource | HuggingFaceSource | BucketSource, Field(discriminator="kind")] = (
        ModelScopeSource()
    )
    """Where they come from."""

    manifest_sha256: ManifestDigest | None = None
    """SHA-256 of their manifest."""

    allow_pickle: bool = False
    """As weights.allowPickle."""

    prefix: ModelFolder
    """Folder of the model in the bucket."""


class UpdateSettings(Settings):
    """A second revision of the groups next to the first, with other settings, and the share of requests that it gets.
    Each of the sections engine, gpu, parallelism and resources replaces the whole section of inference, model replaces
    model, and weights the settings of weights with the same names."""

    revision: Revision
    """Name of the new revision. The new LeaderWorkerSet is called inference.name-revision. Another change needs another
    name."""

    weight: Annotated[int, Field(ge=0, le=100)] = 0
    """Percentage of the requests that the new groups get. Between 0 and 100 it needs a route of kind gateway."""

    replicas: Annotated[int, Field(ge=1, le=1000)] = 1
    """New groups. They need GPUs in addition to those of the groups that serve."""

    promote: bool = False
    """Keep the new groups and delete the old ones. Then move the sections to where they belong, write
    inference.revision, and remove update: that changes nothing in the cluster."""

    limits: LimitSettings | None = None
    """When the new groups lose their clients by themselves. By default never."""

    engine: EngineSettings | None = None
    """vLLM's image and options."""

    gpu: GpuSettings | None = None
    """GPU series and GPUs per pod."""

    parallelism: ParallelismSettings | None = None
    """Tensor and pipeline parallel size."""

    resources: ResourceSettings | None = None
    """CPU and memory per pod."""

    model: ModelSettings | None = None
    """Another model, under the same servedName. It needs weights as well."""

    weights: NewWeightsSettings | None = None
    """Its weights. They are moved before the new groups start. Needs storage.kind csi."""

    @property
    def sections(self) -> tuple[str, ...]:
        """Names of the sections that it changes."""
        return tuple(name for name in SECTIONS if getattr(self, name) is not None)

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if not self.sections:
            raise problem(
                "the update changes nothing", fix=f"write one of the sections {', '.join(SECTIONS)}, or remove update"
            )
        if self.model and not self.weights:
            raise problem(
                "another model has weights of its own",
                fix="write weights with another prefix and their source",
            )
        return self
