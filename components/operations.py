"""What runs beside the inference group, each part only where the settings have it."""

import pulumi

from components.inference_group import InferenceGroup
from components.observability import Observability, ObservabilityArgs
from components.settings.deployment import Deployment
from planner.plan import Plan


def operate(settings: Deployment, plan: Plan, group: InferenceGroup, opts: pulumi.ResourceOptions) -> None:
    """Makes the optional parts."""
    namespace, inference = settings.cluster.namespace, settings.inference
    if settings.observability:
        observability_args = ObservabilityArgs(
            namespace=namespace,
            inference=inference,
            observability=settings.observability,
            budget=plan.budget,
            selector=group.leader_labels,
        )
        Observability("observability", observability_args, opts)
