"""The way in through a proxy of the cluster, and only to the paths of the OpenAI API that the key protects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from .crds import HTTPRoute
from .inference_pool import API_GROUP

REQUEST_BYTES = "32m"
"""Largest request in ingress-nginx's notation: a prompt of 160,000 tokens in escaped Chinese is above its 1 MiB
(https://kubernetes.github.io/ingress-nginx/user-guide/nginx-configuration/annotations/#custom-max-body-size)."""

TAKEN = "jsonpath={.status.parents[0].conditions[0].type}"
"""A controller has answered to the HTTPRoute; with a Gateway that does not exist none does."""

TAKEN_MINUTES = 5


@dataclass(frozen=True, kw_only=True)
class RouteArgs:
    """``service`` and ``port`` are those of the Service of the leaders; ``candidate`` is that of a second revision,
    which gets ``weight`` percent of the requests (HTTPRoute only); nothing but ``exact_paths``, and ``parent_paths``
    with what is below them, is let through. With ``gateway``, the name of a Gateway, there is an HTTPRoute at its
    listener ``section_name``, to ``pool``, an InferencePool, in place of the Services if it is given; otherwise an
    Ingress of the class ``class_name``. Its certificate is in the Secret ``tls_secret``, or given as ``certificate``
    and ``key``, or the controller's own; without ``tls`` there is none."""

    namespace: pulumi.Input[str]
    host: str
    service: pulumi.Input[str]
    port: int
    candidate: pulumi.Input[str] | None = None
    weight: int = 0
    exact_paths: tuple[str, ...]
    parent_paths: tuple[str, ...] = ()
    request_seconds: int = 1800
    gateway: str | None = None
    gateway_namespace: pulumi.Input[str] | None = None
    section_name: str | None = None
    pool: pulumi.Input[str] | None = None
    class_name: str | None = None
    tls: bool = True
    tls_secret: pulumi.Input[str] | None = None
    certificate: pulumi.Input[str] | None = None
    key: pulumi.Input[str] | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)


class Route(pulumi.ComponentResource):
    """An HTTPRoute, or an Ingress and its certificate."""

    name: pulumi.Output[str]

    def __init__(self, name: str, args: RouteArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("deepseek:access:Route", name, None, opts)
        route = self._http_route(name, args) if args.gateway else self._ingress(name, args)
        self.name = route.metadata["name"]
        self.register_outputs({"name": self.name})

    def _http_route(self, name: str, args: RouteArgs) -> HTTPRoute:
        gateway = {
            "name": args.gateway,
            "namespace": args.gateway_namespace or args.namespace,
            "sectionName": args.section_name,
        }
        exact = [{"path": {"type": "Exact", "value": path}} for path in args.exact_paths]
        below = [{"path": {"type": "PathPrefix", "value": path}} for path in args.parent_paths]
        rule = {
            "matches": [*exact, *below],
            "backendRefs": _backends(args),
            # https://gateway-api.sigs.k8s.io/reference/spec/#httproutetimeouts
            "timeouts": {"request": f"{args.request_seconds}s"},
        }
        return HTTPRoute(
            name,
            # The guard of an update may have set the weights, and its update may be gone.
            metadata={
                "namespace": args.namespace,
                "annotations": {"pulumi.com/waitFor": TAKEN, "pulumi.com/patchForce": "true"},
            },
            spec={"parentRefs": [gateway], "hostnames": [args.host], "rules": [rule]},
            opts=pulumi.ResourceOptions(
                parent=self,
                custom_timeouts=pulumi.CustomTimeouts(create=f"{TAKEN_MINUTES}m", update=f"{TAKEN_MINUTES}m"),
            ),
        )

    def _tls_secret(self, name: str, args: RouteArgs) -> pulumi.Input[str] | None:
        if args.certificate is None or args.key is None:
            return args.tls_secret
        secret = k8s.core.v1.Secret(
            f"{name}-certificate",
            metadata={"namespace": args.namespace},
            type="kubernetes.io/tls",
            string_data={"tls.crt": args.certificate, "tls.key": args.key},
            opts=pulumi.ResourceOptions(parent=self),
        )
        return secret.metadata["name"]

    def _ingress(self, name: str, args: RouteArgs) -> k8s.networking.v1.Ingress:
        kinds = {**dict.fromkeys(args.exact_paths, "Exact"), **dict.fromkeys(args.parent_paths, "Prefix")}
        backend: k8s.networking.v1.IngressBackendArgsDict = {
            "service": {"name": args.service, "port": {"number": args.port}}
        }
        paths: list[k8s.networking.v1.HTTPIngressPathArgsDict] = [
            {"path": path, "path_type": kind, "backend": backend} for path, kind in kinds.items()
        ]
        spec: k8s.networking.v1.IngressSpecArgsDict = {
            "ingress_class_name": args.class_name or "",
            "rules": [{"host": args.host, "http": {"paths": paths}}],
        }
        if args.tls:
            spec["tls"] = [ingress_tls(args.host, self._tls_secret(name, args))]
        return k8s.networking.v1.Ingress(
            name,
            metadata={"namespace": args.namespace, "annotations": ingress_annotations(args)},
            spec=spec,
            opts=pulumi.ResourceOptions(parent=self),
        )


def _backends(args: RouteArgs) -> list[dict[str, pulumi.Input[Any]]]:
    """A pool has its ports itself (https://gateway-api-inference-extension.sigs.k8s.io/api-types/inferencepool/)."""
    if args.pool is not None:
        return [{"group": API_GROUP, "kind": "InferencePool", "name": args.pool}]
    first: dict[str, pulumi.Input[Any]] = {"name": args.service, "port": args.port}
    if args.candidate is None:
        return [first]
    second = {"name": args.candidate, "port": args.port, "weight": args.weight}
    return [first | {"weight": 100 - args.weight}, second]


def ingress_tls(host: str, secret: pulumi.Input[str] | None) -> k8s.networking.v1.IngressTLSArgsDict:
    """TLS for the host; without a Secret, with a certificate that the controller finds
    (https://kubernetes.io/docs/reference/kubernetes-api/service-resources/ingress-v1/)."""
    return {"hosts": [host]} if secret is None else {"hosts": [host], "secret_name": secret}


def ingress_annotations(args: RouteArgs) -> dict[str, str]:
    """For ingress-nginx (https://kubernetes.github.io/ingress-nginx/user-guide/nginx-configuration/annotations/) and
    controllers that read its annotations, and for ALB. Tokens are passed on as they come, and a request may be as long
    as it needs to be. With TLS, plain HTTP is redirected, which only ingress-nginx does by default."""
    nginx = {
        "proxy-read-timeout": str(args.request_seconds),
        "proxy-send-timeout": str(args.request_seconds),
        "proxy-buffering": "off",
        "proxy-body-size": REQUEST_BYTES,
    }
    return {
        # Not every controller reports an address, for which Pulumi would wait; and the host is known already.
        "pulumi.com/skipAwait": "true",
        **{f"nginx.ingress.kubernetes.io/{name}": value for name, value in nginx.items()},
        **(redirect_annotations(args.class_name) if args.tls else {}),
        **args.annotations,
    }


def redirect_annotations(class_name: str | None) -> dict[str, str]:
    """Makes a controller redirect plain HTTP to HTTPS
    (https://www.alibabacloud.com/help/en/ack/ack-managed-and-ack-dedicated/user-guide/alb-ingress-configuration-dictionary,
    https://www.alibabacloud.com/help/en/mse/user-guide/advanced-usage-of-mse-ingress)."""
    prefix = "alb" if class_name == "alb" else "nginx"
    return {f"{prefix}.ingress.kubernetes.io/ssl-redirect": "true"}
