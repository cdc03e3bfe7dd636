"""The route through a proxy of the cluster: Gateway API, with or without an endpoint picker, or Ingress."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from deepseek_acs.settings.base import HOST, IMAGE, DnsLabel, ObjectName, Port, Quantity, Settings, mebibytes, problem

EPP_IMAGE = "registry.k8s.io/gateway-api-inference-extension/epp:v1.5.0"
"""The last release of the project's own endpoint picker; it has moved to llm-d since
(https://github.com/kubernetes-sigs/gateway-api-inference-extension/blob/v1.6.0/README.md)."""


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
    """What all kinds of route have in common."""

    host: Annotated[str, Field(pattern=HOST, max_length=253, examples=["llm.example.com"])]
    """Host name under which clients reach the model. You create its DNS record."""

    request_seconds: Annotated[int, Field(ge=1, le=86_400)] = 1800
    """Longest time of one request in seconds, streamed or not. Long answers of a reasoning model take many minutes, and
    the default limit of the proxies is one minute."""


class ListenerRoute(Route):
    """An HTTPRoute for a Gateway that is already in the cluster."""

    name: ObjectName
    """Name of the Gateway."""

    namespace: DnsLabel | None = None
    """Namespace of the Gateway, by default the deployment's. The listener must allow routes from the deployment's
    namespace."""

    section_name: DnsLabel
    """Name of the Gateway's listener. Without it, the route would also attach to plain HTTP listeners."""

    plain_http: bool = False
    """The listener is plain HTTP, explicitly: the API key, prompts and answers are sent unencrypted."""


class GatewayRoute(ListenerRoute):
    """An HTTPRoute to the Service of the leaders, for a Gateway that is already in the cluster."""

    kind: Literal["gateway"]


class PickerWeights(Settings):
    """How much each view of a leader counts, relative to the others; 0: not at all. The defaults are upstream's."""

    queue: Annotated[int, Field(ge=0, le=100)] = 2
    """Few requests wait."""

    kv_cache: Annotated[int, Field(ge=0, le=100)] = 2
    """Much of the KV cache is free."""

    prefix: Annotated[int, Field(ge=0, le=100)] = 3
    """The beginning of the prompt was sent there before, so that it may still be in the KV cache."""

    @model_validator(mode="after")
    def _something_counts(self) -> Self:
        if not (self.queue or self.kv_cache or self.prefix):
            raise problem("with all weights at 0 every leader is as good as any other", fix="raise one of them")
        return self


class DeployPicker(Settings):
    """Deploy an endpoint picker of the Gateway API Inference Extension for these leaders."""

    kind: Literal["deploy"] = "deploy"

    image: Annotated[str, Field(pattern=IMAGE)] = EPP_IMAGE
    """Image of the endpoint picker, 1.4.0 or newer, or of another one that reads the same configuration.
    registry.k8s.io is hard to reach from mainland China: copy it to a registry of your own."""

    cpu: Annotated[int, Field(ge=1, le=64)] = 2
    """vCPUs. It reads the metrics of each leader 20 times a second, and hashes the beginning of each prompt."""

    memory: Quantity = "4Gi"
    """Memory. It remembers the hashes of the prompts that it has sent to each leader."""

    weights: PickerWeights = PickerWeights()
    """How it compares leaders."""

    @property
    def memory_gib(self) -> float:
        """Memory in GiB."""
        return mebibytes(self.memory) / 1024


class ExpectPicker(Settings):
    """An endpoint picker is already in the deployment's namespace, for example from a Helm chart. It must serve the
    InferencePool that has the name of the LeaderWorkerSet (inference.name)."""

    kind: Literal["expect"]

    service: DnsLabel
    """Name of its Service."""

    port: Port = 9002
    """Port of its Service for ext-proc."""


class InferencePoolRoute(ListenerRoute):
    """An HTTPRoute to an InferencePool of the leaders, for a Gateway that supports the Gateway API Inference Extension:
    an endpoint picker chooses the leader of each request. docs/inference-pool.md has the details."""

    kind: Literal["inferencePool"]

    endpoint_picker: Annotated[DeployPicker | ExpectPicker, Field(discriminator="kind")] = DeployPicker()
    """What chooses the leader of a request."""


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
