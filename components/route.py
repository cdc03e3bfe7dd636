"""The way in through a proxy of the cluster, and only to the paths of the OpenAI API that the key protects."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

from components.crds import HTTPRoute
from components.secrets import Certificate
from components.settings.route import GatewayRoute, IngressRoute, NoTls, SecretCertificate, StackCertificate

EXACT_PATHS = ("/v1/models", "/v1/chat/completions", "/v1/completions")
PATHS_WITH_CHILDREN = ("/v1/responses",)
"""What clients of a text model need of the API. All of it asks for the key, and nothing else is let through: no
``/metrics``, no ``/invocations``, which needs no key, and no ``/v1/load_lora_adapter``
(https://docs.vllm.ai/en/stable/usage/security/)."""

REQUEST_BYTES = "32m"
"""Largest request in ingress-nginx's notation: a prompt of 160,000 tokens in escaped Chinese is above its 1 MiB
(https://kubernetes.github.io/ingress-nginx/user-guide/nginx-configuration/annotations/#custom-max-body-size)."""

TAKEN = "jsonpath={.status.parents[0].conditions[0].type}"
"""A controller has answered to the HTTPRoute; with a Gateway that does not exist none does."""

TAKEN_MINUTES = 5


@dataclass(frozen=True, kw_only=True)
class RouteArgs:
    """``service`` is the name of the Service of the leaders, ``certificate`` that of the stack's configuration."""

    namespace: str
    route: GatewayRoute | IngressRoute
    service: pulumi.Output[str]
    port: int
    certificate: Certificate | None


class Route(pulumi.ComponentResource):
    """An HTTPRoute, or an Ingress and its certificate."""

    def __init__(self, name: str, args: RouteArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("deepseek:access:Route", name, None, opts)
        if isinstance(args.route, GatewayRoute):
            self._http_route(args, args.route)
        else:
            self._ingress(args, args.route, self._tls_secret(args, args.route))
        self.register_outputs({})

    def _http_route(self, args: RouteArgs, route: GatewayRoute) -> None:
        gateway = {
            "name": route.name,
            "namespace": route.namespace or args.namespace,
            "sectionName": route.section_name,
        }
        exact = [{"path": {"type": "Exact", "value": path}} for path in EXACT_PATHS]
        below = [{"path": {"type": "PathPrefix", "value": path}} for path in PATHS_WITH_CHILDREN]
        rule = {
            "matches": [*exact, *below],
            "backendRefs": [{"name": args.service, "port": args.port}],
            # https://gateway-api.sigs.k8s.io/reference/spec/#httproutetimeouts
            "timeouts": {"request": f"{route.request_seconds}s"},
        }
        HTTPRoute(
            "route",
            metadata={"namespace": args.namespace, "annotations": {"pulumi.com/waitFor": TAKEN}},
            spec={"parentRefs": [gateway], "hostnames": [route.host], "rules": [rule]},
            opts=pulumi.ResourceOptions(
                parent=self,
                custom_timeouts=pulumi.CustomTimeouts(create=f"{TAKEN_MINUTES}m", update=f"{TAKEN_MINUTES}m"),
            ),
        )

    def _tls_secret(self, args: RouteArgs, route: IngressRoute) -> pulumi.Input[str] | None:
        if isinstance(route.tls, SecretCertificate):
            return route.tls.name
        if not isinstance(route.tls, StackCertificate) or args.certificate is None:
            return None
        secret = k8s.core.v1.Secret(
            "certificate",
            metadata={"namespace": args.namespace},
            type="kubernetes.io/tls",
            string_data={"tls.crt": args.certificate.chain, "tls.key": args.certificate.key},
            opts=pulumi.ResourceOptions(parent=self),
        )
        return secret.metadata["name"]

    def _ingress(self, args: RouteArgs, route: IngressRoute, tls_secret: pulumi.Input[str] | None) -> None:
        kinds = {**dict.fromkeys(EXACT_PATHS, "Exact"), **dict.fromkeys(PATHS_WITH_CHILDREN, "Prefix")}
        backend: k8s.networking.v1.IngressBackendArgsDict = {
            "service": {"name": args.service, "port": {"number": args.port}}
        }
        paths: list[k8s.networking.v1.HTTPIngressPathArgsDict] = [
            {"path": path, "path_type": kind, "backend": backend} for path, kind in kinds.items()
        ]
        spec: k8s.networking.v1.IngressSpecArgsDict = {
            "ingress_class_name": route.class_name,
            "rules": [{"host": route.host, "http": {"paths": paths}}],
        }
        if not isinstance(route.tls, NoTls):
            spec["tls"] = [ingress_tls(route.host, tls_secret)]
        k8s.networking.v1.Ingress(
            "route",
            metadata={"namespace": args.namespace, "annotations": ingress_annotations(route)},
            spec=spec,
            opts=pulumi.ResourceOptions(parent=self),
        )


def ingress_tls(host: str, secret: pulumi.Input[str] | None) -> k8s.networking.v1.IngressTLSArgsDict:
    """TLS for the host; without a Secret, with a certificate that the controller finds
    (https://kubernetes.io/docs/reference/kubernetes-api/service-resources/ingress-v1/)."""
    return {"hosts": [host]} if secret is None else {"hosts": [host], "secret_name": secret}


def ingress_annotations(route: IngressRoute) -> dict[str, str]:
    """For ingress-nginx (https://kubernetes.github.io/ingress-nginx/user-guide/nginx-configuration/annotations/); other
    controllers do not know them. Tokens are passed on as they come, and a request may be as long as it needs to be."""
    nginx = {
        "proxy-read-timeout": str(route.request_seconds),
        "proxy-send-timeout": str(route.request_seconds),
        "proxy-buffering": "off",
        "proxy-body-size": REQUEST_BYTES,
    }
    return {
        # Not every controller reports an address, for which Pulumi would wait; and the host is known already.
        "pulumi.com/skipAwait": "true",
        **{f"nginx.ingress.kubernetes.io/{name}": value for name, value in nginx.items()},
        **route.annotations,
    }
