"""What comes after the group and its Service: optional parts, each off unless the settings have it."""

from collections.abc import Mapping

import pulumi

from components.disruption_budget import DisruptionBudget, DisruptionBudgetArgs
from components.exports import kubectl
from components.group_access import GroupAccess
from components.inference_group import InferenceGroup
from components.inference_service import InferenceService
from components.observability import Observability, ObservabilityArgs
from components.route import Route, RouteArgs
from components.scaling import Autoscaling, AutoscalingArgs
from components.secrets import Secrets
from components.settings.deployment import Deployment
from components.settings.scaling import ManualScaling
from components.storage import ModelMount
from components.verification import Verification, VerificationArgs
from planner.spec import ResolvedSpec


def operate(
    settings: Deployment,
    plan: ResolvedSpec,
    secrets: Secrets,
    *,
    mount: ModelMount,
    access: GroupAccess,
    group: InferenceGroup,
    service: InferenceService,
    opts: pulumi.ResourceOptions,
) -> Mapping[str, pulumi.Input[object]]:
    """Makes them, and gives their outputs by name."""
    namespace, lifecycle, route = settings.cluster.namespace, settings.inference.lifecycle, settings.service.route
    after = pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=[group, service]))
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
            group=settings.inference.name,
            version=plan.engine.vllm.version,
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
            version=plan.engine.vllm.version,
            budget=plan.budget,
            prometheus_token=secrets.prometheus_token,
        )
        Autoscaling("autoscaling", scaling_args, after)
    return _verification(settings, plan, mount=mount, access=access, group=group, service=service, opts=after)


def _verification(
    settings: Deployment,
    plan: ResolvedSpec,
    *,
    mount: ModelMount,
    access: GroupAccess,
    group: InferenceGroup,
    service: InferenceService,
    opts: pulumi.ResourceOptions,
) -> Mapping[str, pulumi.Input[object]]:
    namespace, verification, engine = settings.cluster.namespace, settings.verification, settings.inference.engine
    if verification is None or plan.replicas.first == 0:
        return {}
    args = VerificationArgs(
        namespace=namespace,
        verification=verification,
        model=settings.model.served_name,
        url=pulumi.Output.format("http://{0}:{1}", service.dns_name, settings.service.port),
        subject=group.template_digest,
        image=settings.weights.upload.image,
        engine_image=engine.image,
        trust_remote_code=engine.trust_remote_code,
        mount=mount,
        key=access.api_key_reference,
        service_account=access.service_account,
        # The end of a hold at 0 changes nothing that the group's update would wait for.
        loading_seconds=0 if isinstance(settings.inference.scaling, ManualScaling) else plan.budget.create_seconds,
    )
    job = Verification("verification", args, opts).benchmark_job
    if job is None:
        return {}
    logs = pulumi.Output.format(f"{kubectl(settings.cluster)} --namespace {namespace} logs --follow job/{{0}}", job)
    return {"benchmarkCommand": logs}
