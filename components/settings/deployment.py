"""All settings of a stack."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from components.settings.base import Settings, problem
from components.settings.cloud import CloudSettings, ClusterSettings
from components.settings.inference import InferenceSettings
from components.settings.model import ModelSettings
from components.settings.operators import OperatorsSettings
from components.settings.service import ServiceSettings
from components.settings.storage import FluidCacheSettings, OssVolumeSettings
from components.settings.verification import VerificationSettings
from components.settings.weights import RrsaIdentity, WeightsSettings


class Deployment(Settings):
    """Everything under deepseek:deployment."""

    cloud: CloudSettings
    """The Alibaba Cloud region."""

    cluster: ClusterSettings = ClusterSettings()
    """The Kubernetes cluster."""

    model: ModelSettings
    """The model that is served."""

    weights: WeightsSettings
    """The bucket with the model's files."""

    storage: Annotated[OssVolumeSettings | FluidCacheSettings, Field(discriminator="kind")] = OssVolumeSettings()
    """The layer over the bucket that the pods mount."""

    inference: InferenceSettings
    """The pods that serve the model."""

    service: ServiceSettings = ServiceSettings()
    """The way in."""

    operators: OperatorsSettings = OperatorsSettings()
    """The controllers in the cluster: expected, or installed by the stack."""

    verification: VerificationSettings | None = None
    """What asks the endpoint once it is up. Left out, nothing does; make verify can at any time."""

    @model_validator(mode="after")
    def _fluid_can_work(self) -> Self:
        if isinstance(self.storage, FluidCacheSettings) and isinstance(self.weights.identity, RrsaIdentity):
            raise problem(
                "storage of kind fluid reads the bucket with an AccessKey, and weights.identity is rrsa",
                fix="write weights.identity.kind: ramUser or accessKey, or storage.kind: csi",
            )
        return self
