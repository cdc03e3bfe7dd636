"""The optional parts that come after the group and its Service, one call for each."""

import pulumi

from components.disruption_budget import DisruptionBudget, DisruptionBudgetArgs
from components.inference_group import InferenceGroup
from components.inference_service import InferenceService
from components.observability import Observability, ObservabilityArgs
from components.route import Route, RouteArgs
from components.scaling import Autoscaling, AutoscalingArgs
from components.settings.deployment import Deployment
from components.settings.scaling import ManualScaling
from components.stack_config import Secrets
from planner.plan import Plan


def operate(
    settings: Deployment,
    plan: Plan,
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
    if settings.observability is not None:
        observability_args = ObservabilityArgs(
            namespace=namespace,
            inference=settings.inference,
            observability=settings.observability,
            budget=plan.budget,
            selector=group.leader_labels,
        )
        Observability("observability", observability_args, opts)
    scaling = settings.inference.scaling
    if not isinstance(scaling, ManualScaling):
        scaling_args = AutoscalingArgs(
            namespace=namespace,
            group=settings.inference.name,
            scaling=scaling,
            version=plan.case.engine.version,
            budget=plan.budget,
            prometheus_token=secrets.prometheus_token,
        )
        after_group = pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=[group]))
        Autoscaling("autoscaling", scaling_args, after_group)
