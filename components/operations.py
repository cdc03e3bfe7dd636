"""The optional parts that come after the group and its Service, and what the cluster must have for them."""

import pulumi

from components import scaling
from components.disruption_budget import DisruptionBudget, DisruptionBudgetArgs
from components.inference_group import InferenceGroup
from components.operators import OperatorsArgs
from components.providers import kubeconfig_is_missing
from components.scaling import Autoscaling, AutoscalingArgs
from components.settings.deployment import Deployment
from components.settings.scaling import ManualScaling
from components.stack_config import Secrets
from planner.plan import Plan


def required_operators(settings: Deployment) -> OperatorsArgs:
    """What the cluster is asked for before anything else is made in it."""
    return OperatorsArgs(
        operators=settings.operators,
        storage=settings.storage,
        region=settings.cloud.region,
        check_apis=not kubeconfig_is_missing(settings.cluster),
        further=[*scaling.expected_apis(settings)],
    )


def operate(
    settings: Deployment, plan: Plan, secrets: Secrets, *, group: InferenceGroup, opts: pulumi.ResourceOptions
) -> None:
    """One part after the other, each where the settings have it."""
    namespace, inference = settings.cluster.namespace, settings.inference
    if inference.lifecycle and inference.lifecycle.disruption_budget:
        budget_args = DisruptionBudgetArgs(
            namespace=namespace, group_name=group.name, budget=inference.lifecycle.disruption_budget
        )
        DisruptionBudget("disruption-budget", budget_args, opts)
    if not isinstance(inference.scaling, ManualScaling):
        scaling_args = AutoscalingArgs(
            namespace=namespace,
            group=inference.name,
            scaling=inference.scaling,
            version=plan.case.engine.version,
            budget=plan.budget,
            prometheus_token=secrets.prometheus_token,
        )
        after_group = pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=[group]))
        Autoscaling("autoscaling", scaling_args, after_group)
