"""The optional parts that come after the group and its Service, one call for each."""

import pulumi

from components.inference_service import InferenceService
from components.route import Route, RouteArgs
from components.settings.deployment import Deployment
from components.stack_config import Secrets


def operate(settings: Deployment, secrets: Secrets, *, service: InferenceService, opts: pulumi.ResourceOptions) -> None:
    """Creates the parts that the settings switch on."""
    namespace = settings.cluster.namespace
    if settings.service.route is not None:
        route_args = RouteArgs(
            namespace=namespace,
            route=settings.service.route,
            service=service.name,
            port=settings.service.port,
            certificate=secrets.certificate,
        )
        Route("route", route_args, opts)
