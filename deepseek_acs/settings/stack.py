"""All settings of a stack."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from deepseek_acs.settings.base import Settings, problem
from deepseek_acs.settings.cloud import CloudSettings, ClusterSettings
from deepseek_acs.settings.inference import LWS_NAME_MAX, InferenceSettings
from deepseek_acs.settings.model import ModelSettings
from deepseek_acs.settings.observability import ObservabilitySettings
from deepseek_acs.settings.operators import OperatorsSettings
from deepseek_acs.settings.prices import PriceSettings
from deepseek_acs.settings.security import SecuritySettings
from deepseek_acs.settings.service import ServiceSettings
from deepseek_acs.settings.storage import FluidCacheSettings, OssVolumeSettings
from deepseek_acs.settings.update import GROUP_SECTIONS, UpdateSettings
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

    update: UpdateSettings | None = None
    """A second revision of the groups next to the first. By default a change replaces the groups."""

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

    @model_validator(mode="after")
    def _revisions_have_names(self) -> Self:
        name, revisions = self.inference.name, [self.inference.revision, self.update and self.update.revision]
        if self.update and revisions[0] == revisions[1]:
            raise problem(
                f"inference.revision and update.revision are both {revisions[0]}",
                fix="write another update.revision; or remove update, if its sections are in inference already",
            )
        if self.update and self.update.weights and self.update.weights.prefix == self.weights.prefix:
            raise problem(
                f"update.weights.prefix is {self.weights.prefix}, where the groups that serve read their weights",
                fix="write another folder; or remove update.weights, if the weights are the same",
            )
        for revision in revisions:
            if revision and len(f"{name}-{revision}") > LWS_NAME_MAX:
                raise problem(
                    f"the LeaderWorkerSet would be called {name}-{revision}, and {LWS_NAME_MAX} characters are allowed",
                    fix="write a shorter revision",
                )
        return self

    def promoted(self, update: UpdateSettings) -> Self:
        """The settings when ``update`` is complete: its sections are those of ``inference``, and it is gone."""
        changes = {name: getattr(update, name) for name in GROUP_SECTIONS if name in update.sections}
        inference = self.inference.model_copy(update={**changes, "revision": update.revision})
        found = self.model_copy(update={"inference": inference, "update": None})
        if update.model:
            found = found.model_copy(update={"model": update.model})
        if update.weights:
            weights = self.weights.model_copy(update=dict(update.weights))
            found = found.model_copy(update={"weights": weights})
        return found
