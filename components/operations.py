"""What comes after the group and the Service, each part only where the settings ask for it."""

import pulumi

from components import scaling
from components.inference_group import InferenceGroup
from components.operators import OperatorsArgs
from components.providers import kubeconfig_is_missing
from components.scaling import Autoscaling, AutoscalingArgs
from components.settings.deployment import Deployment
from components.settings.scaling import ManualScaling
from components.stack_config import Secrets
from planner.plan import Plan


def required_operators(settings: Deployment) -> OperatorsArgs:
    """What the cluster must have; it is asked for that before anything else is made in it."""
    return OperatorsArgs(
        operators=settings.operators,
        storage=settings.storage,
        region=settings.cloud.region,
        check_apis=not kubeconfig_is_missing(settings.cluster),
        further=[*scaling.expected_apis(settings)],
    )


def operate(
    settings: Deployment, plan: Plan, secrets: Secrets, group: InferenceGroup, opts: pulumi.ResourceOptions
) -> None:
    """The parts, one after the other."""
    _scale(settings, plan, secrets, group, opts)


def _scale(
    settings: Deployment, plan: Plan, secrets: Secrets, group: InferenceGroup, opts: pulumi.ResourceOptions
) -> None:
    wanted = settings.inference.scaling
    if isinstance(wanted, ManualScaling):
        return
    args = AutoscalingArgs(
        namespace=settings.cluster.namespace,
        group=settings.inference.name,
        scaling=wanted,
        version=plan.case.engine.version,
        budget=plan.budget,
        prometheus_token=secrets.prometheus_token,
    )
    after_group = pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=[group]))
    Autoscaling("autoscaling", args, after_group)
