"""The optional parts that come after the group and its Service."""

import pulumi

from components.disruption_budget import DisruptionBudget, DisruptionBudgetArgs
from components.inference_group import InferenceGroup
from components.settings.deployment import Deployment


def operate(settings: Deployment, *, group: InferenceGroup, opts: pulumi.ResourceOptions) -> None:
    """One part after the other, each where the settings have it."""
    namespace, lifecycle = settings.cluster.namespace, settings.inference.lifecycle
    if lifecycle and lifecycle.disruption_budget:
        budget_args = DisruptionBudgetArgs(
            namespace=namespace, group_name=group.name, budget=lifecycle.disruption_budget
        )
        DisruptionBudget("disruption-budget", budget_args, opts)
