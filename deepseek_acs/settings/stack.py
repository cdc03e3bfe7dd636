"""All settings of a stack."""

from typing import Annotated

from pydantic import Field

from deepseek_acs.settings.base import Settings
from deepseek_acs.settings.cloud import CloudSettings, ClusterSettings
from deepseek_acs.settings.inference import InferenceSettings
from deepseek_acs.settings.model import ModelSettings
from deepseek_acs.settings.observability import ObservabilitySettings
from deepseek_acs.settings.operators import OperatorsSettings
from deepseek_acs.settings.prices import PriceSettings
from deepseek_acs.settings.security import SecuritySettings
from deepseek_acs.settings.service import ServiceSettings
from deepseek_acs.settings.storage import FluidCacheSettings, OssVolumeSettings
from deepseek_acs.settings.verification import VerificationSettings
from deepseek_acs.settings.weights import WeightsSettings


class StackSettings(Settings):
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
    """The Service that clients use."""

    security: SecuritySettings = SecuritySettings()
    """Who may reach the pods, and what the pods may do."""

    operators: OperatorsSettings = OperatorsSettings()
    """The controllers in the cluster, expected or installed by the stack."""

    prices: PriceSettings = PriceSettings()
    """Prices, for the costs in the preview."""

    observability: ObservabilitySettings | None = None
    """Metrics, alerts, dashboard and logs. Off by default."""

    verification: VerificationSettings | None = None
    """Jobs that verify the endpoint after a deployment. Off by default; make verify works at any time."""
