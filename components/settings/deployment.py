"""All settings of a stack."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from components.settings.base import Settings, problem
from components.settings.cloud import CloudSettings, ClusterSettings
from components.settings.inference import NO_METRICS, InferenceSettings, has_no_metrics
from components.settings.model import ModelSettings
from components.settings.observability import ObservabilitySettings
from components.settings.operators import OperatorsSettings
from components.settings.security import SecuritySettings
from components.settings.service import ServiceSettings
from components.settings.storage import FluidCacheSettings, OssVolumeSettings
from components.settings.verification import VerificationSettings
from components.settings.weights import RrsaIdentity, WeightsSettings

DEV_MODE = "VLLM_SERVER_DEV_MODE"
"""https://docs.vllm.ai/en/stable/usage/security/"""


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

    @model_validator(mode="after")
    def _fluid_can_work(self) -> Self:
        if isinstance(self.storage, FluidCacheSettings) and isinstance(self.weights.identity, RrsaIdentity):
            raise problem(
                "storage of kind fluid reads the bucket with an AccessKey, and weights.identity is rrsa",
                fix="write weights.identity.kind: ramUser or accessKey, or storage.kind: csi",
            )
        return self

    @model_validator(mode="after")
    def _service_has_a_name_of_its_own(self) -> Self:
        if self.service.name == self.inference.name:
            # https://github.com/kubernetes-sigs/lws/blob/main/pkg/controllers/leaderworkerset_controller.go
            raise problem(
                "service.name is inference.name, by which the LeaderWorkerSet controller makes a Service for its pods",
                fix="write another service.name",
            )
        return self

    @model_validator(mode="after")
    def _zone_is_in_the_region(self) -> Self:
        zone, region = self.inference.zone, self.cloud.region
        if zone is not None and not (zone.startswith(region) and zone != region):
            raise problem(
                f"inference.zone is {zone}, which is no zone of {region}",
                fix=f"write one of {region}, such as {region}{'' if region[-1].isdigit() else '-'}a, or cloud.region",
            )
        return self

    @model_validator(mode="after")
    def _load_balancer_is_a_client(self) -> Self:
        policy, service = self.security.network_policy, self.service
        if policy is None or service.kind != "internalLoadBalancer" or service.allowed_cidrs:
            return self
        if not any(client.cidr for client in policy.clients):
            raise problem(
                "security.networkPolicy shuts out everybody behind the internal load balancer, which keeps the "
                "clients' addresses",
                fix="write service.allowedCidrs, or a client with a cidr",
            )
        return self

    @model_validator(mode="after")
    def _service_account_is_their_own(self) -> Self:
        if self.security.pods is not None and self.inference.name == "default":
            raise problem(
                "security.pods makes a service account of the name of inference.name, and every namespace has one that "
                "is called default already, for all other pods",
                fix="write another inference.name",
            )
        return self

    @model_validator(mode="after")
    def _key_has_no_back_door(self) -> Self:
        if self.service.api_key and self.inference.engine.env.get(DEV_MODE, "0") != "0":
            raise problem(
                f"inference.engine.env has {DEV_MODE}, which opens /collective_rpc and more of the engine without the "
                "key",
                fix=f"remove {DEV_MODE}",
            )
        return self

    @model_validator(mode="after")
    def _there_is_something_to_observe(self) -> Self:
        if self.observability is not None and has_no_metrics(self.inference.engine):
            raise problem(
                f"inference.engine.extraArgs has {NO_METRICS}, and observability scrapes these metrics",
                fix=f"remove {NO_METRICS}, or observability",
            )
        return self

    @model_validator(mode="after")
    def _logs_can_be_collected(self) -> Self:
        logs = self.observability.logs if self.observability else None
        if logs and logs.sls_logstore and self.inference.gpu.compute_class == "gpu-hpn":
            raise problem(
                "observability.logs.slsLogstore works by environment variables, which ACS does not read on pods of "
                "compute class gpu-hpn (https://www.alibabacloud.com/help/doc-detail/2878633.html)",
                fix="remove slsLogstore, and collect the logs with a sidecar: docs/observability.md",
            )
        return self
