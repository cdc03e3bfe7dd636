"""The Service that clients use."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from deepseek_acs.settings.base import Cidr, DnsLabel, NotEmpty, Port, Settings, problem
from deepseek_acs.settings.request_filter import RequestFilterSettings
from deepseek_acs.settings.route import GatewayRoute, InferencePoolRoute, IngressRoute

ACL_ENTRIES_MAX = 300
"""https://www.alibabacloud.com/help/en/slb/classic-load-balancer/developer-reference/api-slb-2014-05-15-addaccesscontrollistentry"""


class ServiceSettings(Settings):
    """How clients in the cluster or the VPC reach the leaders."""

    name: DnsLabel = "ds-leader"
    """Name of the Service."""

    kind: Literal["clusterIP", "internalLoadBalancer"] = "clusterIP"
    """clusterIP: within the cluster. internalLoadBalancer: an address in the VPC, never a public one."""

    port: Port = 8000
    """Port of the Service."""

    api_key: bool = False
    """Ask clients for a key: that of the secret deepseek:apiKey, or one of requestFilter.clients."""

    request_filter: RequestFilterSettings | None = RequestFilterSettings()
    """With apiKey, a filter in front of the engine. null leaves the key to vLLM, which asks for it on some paths only,
    and which versions before 0.22 forget when the header Host is bent."""

    allowed_cidrs: Annotated[tuple[Cidr, ...], NotEmpty, Field(max_length=ACL_ENTRIES_MAX)] | None = None
    """Networks that may use the internal load balancer. By default the whole VPC and all networks connected to it.
    docs/access.md says how to remove the list from a live load balancer."""

    route: Annotated[GatewayRoute | InferencePoolRoute | IngressRoute | None, Field(discriminator="kind")] = None
    """A route through a proxy of the cluster that forwards only the OpenAI paths. By default none."""

    @model_validator(mode="after")
    def _list_has_a_load_balancer(self) -> Self:
        if self.allowed_cidrs is not None and self.kind != "internalLoadBalancer":
            raise problem(
                "allowedCidrs apply to a load balancer, and this Service has none",
                fix="write kind: internalLoadBalancer, or set deployment.security.networkPolicy instead",
            )
        return self

    @model_validator(mode="after")
    def _filter_has_a_key(self) -> Self:
        if self.request_filter is not None and "request_filter" in self.model_fields_set and not self.api_key:
            raise problem("requestFilter asks for a key, and there is none", fix="write apiKey: true")
        return self

    @model_validator(mode="after")
    def _route_has_a_key(self) -> Self:
        if self.route is not None and not self.api_key:
            raise problem(
                "the route would let any client that reaches the proxy use the model",
                fix="write apiKey: true",
            )
        return self
