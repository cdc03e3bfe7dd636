"""The optional parts that come after the group and its Service, one call for each."""

import pulumi

from components.disruption_budget import DisruptionBudget, DisruptionBudgetArgs
from components.inference_group import InferenceGroup
from components.inference_service import InferenceService
from components.route import Route, RouteArgs
from components.settings.deployment import Deployment
from components.stack_config import Secrets


def operate(
    settings: Deployment,
    secrets: Secrets,
    *,
    group: InferenceGroup,
    service: InferenceService,
    opts: pulumi.ResourceOptions,
) -> None:
    """Creates the parts that the settings switch on."""
    namespace, lifecycle, route = settings.cluster.namespace, settings.inference.lifecycle, settings.service.route
    if lifecycle is not None and lifecycle.disruption_budget is not None:
        budget_args = DisruptionBudgetArgs(
            namespace=namespace, group_name=group.name, budget=lifecycle.disruption_budget
        )
        DisruptionBudget("disruption-budget", budget_args, opts)
    if route is not None:
        route_args = RouteArgs(
            namespace=namespace,
            route=route,
            service=service.name,
            port=settings.service.port,
            certificate=secrets.certificate,
        )
        Route("route", route_args, opts)
