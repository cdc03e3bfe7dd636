"""The way in through a proxy of the cluster: Gateway API or Ingress."""

from typing import Annotated, Literal

from pydantic import Field

from deepseek_acs.settings.base import HOST, DnsLabel, ObjectName, Settings


class SecretCertificate(Settings):
    """TLS with a certificate that is in the cluster already, made by cert-manager for example."""

    kind: Literal["secret"]

    name: ObjectName
    """Secret of type kubernetes.io/tls in the deployment's namespace."""


class StackCertificate(Settings):
    """TLS with the certificate of the secrets deepseek:tlsCertificate (with its chain) and deepseek:tlsKey, in PEM."""

    kind: Literal["config"]


class ControllerCertificate(Settings):
    """TLS with a certificate that the ingress controller has by itself: its default one, or one that it finds by the
    host, as ALB does."""

    kind: Literal["controller"]


class NoTls(Settings):
    """Plain HTTP, on purpose: the API key and all texts are readable on the way."""

    kind: Literal["none"]


class Route(Settings):
    """What both kinds of route have in common."""

    host: Annotated[str, Field(pattern=HOST, max_length=253, examples=["llm.example.com"])]
    """Host name under which clients reach the model; its DNS entry is yours."""

    request_seconds: Annotated[int, Field(ge=1, le=86_400)] = 1800
    """How long one request may take, streamed or not, in seconds. Long answers of a reasoning model take many
    minutes, and the proxies' own limits are one minute."""


class GatewayRoute(Route):
    """An HTTPRoute at a Gateway that is in the cluster already."""

    kind: Literal["gateway"]

    name: ObjectName
    """Name of the Gateway."""

    namespace: DnsLabel | None = None
    """Namespace of the Gateway, whose listener must allow routes from the deployment's. By default the deployment's."""

    section_name: DnsLabel
    """Name of the Gateway's listener. Without one the route would hang on its plain HTTP listeners, too."""

    plain_http: bool = False
    """The listener is a plain HTTP one, on purpose: the API key and all texts are readable on the way."""


class IngressRoute(Route):
    """An Ingress for a controller that is in the cluster already."""

    kind: Literal["ingress"]

    class_name: ObjectName
    """Ingress class, for example nginx or alb."""

    tls: Annotated[
        SecretCertificate | StackCertificate | ControllerCertificate | NoTls,
        Field(discriminator="kind"),
    ]
    """Where the certificate comes from."""

    annotations: dict[str, str] = {}  # noqa: RUF012 - pydantic copies it
    """More annotations for the controller; they win over those for ingress-nginx that the program writes."""
