"""All settings of a stack."""

from typing import Annotated

from pydantic import Field

from components.settings.base import Settings
from components.settings.cloud import CloudSettings, ClusterSettings
from components.settings.inference import InferenceSettings
from components.settings.model import ModelSettings
from components.settings.observability import ObservabilitySettings
from components.settings.operators import OperatorsSettings
from components.settings.security import SecuritySettings
from components.settings.service import ServiceSettings
from components.settings.storage import FluidCacheSettings, OssVolumeSettings
from components.settings.verification import VerificationSettings
from components.settings.weights import WeightsSettings


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

    security: SecuritySettings = SecuritySettings()
    """Who may reach the pods, and what the pods may do."""

    operators: OperatorsSettings = OperatorsSettings()
    """The controllers in the cluster: expected, or installed by the stack."""

    observability: ObservabilitySettings | None = None
    """Metrics, alerts, dashboard and logs; off where left out."""

    verification: VerificationSettings | None = None
    """What asks the endpoint once it is up. Left out, nothing does; make verify can at any time."""
