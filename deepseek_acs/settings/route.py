"""The route through a proxy of the cluster: Gateway API or Ingress."""

from typing import Annotated, Literal

from pydantic import Field

from deepseek_acs.settings.base import HOST, DnsLabel, ObjectName, Settings


class SecretCertificate(Settings):
    """TLS with a certificate that is already in the cluster, for example from cert-manager."""

    kind: Literal["secret"]

    name: ObjectName
    """Secret of type kubernetes.io/tls in the deployment's namespace."""


class StackCertificate(Settings):
    """TLS with the certificate in the secrets deepseek:tlsCertificate (with its chain) and deepseek:tlsKey, in PEM."""

    kind: Literal["config"]


class ControllerCertificate(Settings):
    """TLS with a certificate of the ingress controller: its default certificate, or one that it selects by host name,
    as ALB does."""

    kind: Literal["controller"]


class NoTls(Settings):
    """Plain HTTP, explicitly: the API key, prompts and answers are sent unencrypted."""

    kind: Literal["none"]


class Route(Settings):
    """What both kinds of route have in common."""

    host: Annotated[str, Field(pattern=HOST, max_length=253, examples=["llm.example.com"])]
    """Host name under which clients reach the model. You create its DNS record."""

    request_seconds: Annotated[int, Field(ge=1, le=86_400)] = 1800
    """Longest time of one request in seconds, streamed or not. Long answers of a reasoning model take many minutes, and
    the default limit of the proxies is one minute."""


class GatewayRoute(Route):
    """An HTTPRoute for a Gateway that is already in the cluster."""

    kind: Literal["gateway"]

    name: ObjectName
    """Name of the Gateway."""

    namespace: DnsLabel | None = None
    """Namespace of the Gateway, by default the deployment's. The listener must allow routes from the deployment's
    namespace."""

    section_name: DnsLabel
    """Name of the Gateway's listener. Without it, the route would also attach to plain HTTP listeners."""

    plain_http: bool = False
    """The listener is plain HTTP, explicitly: the API key, prompts and answers are sent unencrypted."""


class IngressRoute(Route):
    """An Ingress for a controller that is already in the cluster."""

    kind: Literal["ingress"]

    class_name: ObjectName
    """Ingress class, for example alb. ingress-nginx (nginx) has been retired; prefer a route of kind gateway."""

    tls: Annotated[
        SecretCertificate | StackCertificate | ControllerCertificate | NoTls,
        Field(discriminator="kind"),
    ]
    """Source of the certificate."""

    annotations: dict[str, str] = {}  # noqa: RUF012 - pydantic copies it
    """Additional annotations for the controller; they override those for ingress-nginx that the program sets."""
