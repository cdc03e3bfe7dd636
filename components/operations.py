"""What comes after the group and its Service: optional parts, each off unless the settings have it."""

from collections.abc import Mapping

import pulumi

from components.exports import kubectl
from components.inference_group import InferenceGroup
from components.inference_service import InferenceService
from components.settings.deployment import Deployment
from components.storage import ModelMount
from components.verification import Verification, VerificationArgs


def operate(
    settings: Deployment,
    *,
    namespace: str,
    mount: ModelMount,
    group: InferenceGroup,
    service: InferenceService,
    opts: pulumi.ResourceOptions,
) -> Mapping[str, pulumi.Input[object]]:
    """Makes them, after group and Service; gives their outputs by name."""
    after = pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=[group, service]))
    return {**_verification(settings, namespace, mount, group, service, after)}


def _verification(
    settings: Deployment,
    namespace: str,
    mount: ModelMount,
    group: InferenceGroup,
    service: InferenceService,
    opts: pulumi.ResourceOptions,
) -> Mapping[str, pulumi.Input[object]]:
    verification, engine = settings.verification, settings.inference.engine
    if verification is None or settings.inference.replicas == 0:
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
    )
    job = Verification("verification", args, opts).benchmark_job
    if job is None:
        return {}
    logs = pulumi.Output.format(f"{kubectl(settings.cluster)} --namespace {namespace} logs --follow job/{{0}}", job)
    return {"benchmarkCommand": logs}
