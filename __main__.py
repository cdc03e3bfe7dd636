"""DeepSeek-R1 and similar models on Alibaba Cloud ACS: bucket → weights → storage → inference group → Service."""

import gc
from functools import partial

# The 150,000 objects of the generated SDKs live to the end. To look for garbage among them takes half a second.
gc.disable()

import pulumi
from pulumi import ResourceOptions

from components import stack_config, wiring
from components.access import Access
from components.canary_guard import CanaryGuard
from components.changes import Changes
from components.cluster import Cluster
from components.cost_guard import CostGuard
from components.disruption_budget import DisruptionBudget
from components.exports import outputs
from components.gang import Gang
from components.gate import Gate, KnownGood
from components.incidents import Incidents
from components.inference_group import InferenceGroup
from components.inference_pool import LeaderPool
from components.inference_service import InferenceService
from components.model_bucket import ModelBucket
from components.model_upload import ModelUpload
from components.names import ACCESS, MODELS
from components.observability import Observability
from components.ownership import Ownership
from components.providers import alicloud_provider, kubernetes_provider
from components.route import Route
from components.scaling import Autoscaling
from components.verification import Verification
from deepseek_acs.planner.spec import of_revision

gc.freeze()
gc.enable()

spec, secrets = stack_config.load()

ownership = Ownership(spec, secrets)
changes = Changes(spec, stack_config.given(), ownership)
alicloud, kubernetes = alicloud_provider(spec.cloud), kubernetes_provider(spec, secrets)

cluster = Cluster("cluster", wiring.cluster(spec), ResourceOptions(provider=kubernetes))
in_cluster = ResourceOptions(provider=kubernetes, depends_on=[cluster])
in_both = ResourceOptions(providers=[alicloud, kubernetes], depends_on=[cluster])

bucket = ModelBucket(MODELS, wiring.model_bucket(spec, secrets), ResourceOptions(provider=alicloud))
access = Access(ACCESS, wiring.access(spec, secrets), in_both)
after_access = ResourceOptions.merge(in_cluster, ResourceOptions(depends_on=[access]))
upload = ModelUpload("model-upload", wiring.model_upload(spec, secrets, bucket), after_access)
layer = wiring.storage(spec, bucket, ResourceOptions.merge(in_cluster, ResourceOptions(depends_on=[upload])))
mounts = dict.fromkeys((one.revision for one in spec.revisions), layer.mount)
for one in spec.revisions[1:]:
    if wiring.has_own_weights(spec, one):
        # Its folder is among the rights of the bucket's identities.
        after_rights = ResourceOptions.merge(after_access, ResourceOptions(depends_on=[bucket]))
        moved = ModelUpload(
            of_revision("model-upload", one.revision), wiring.model_upload(one, secrets, bucket), after_rights
        )
        after_move = ResourceOptions.merge(in_cluster, ResourceOptions(depends_on=[moved]))
        mounts[one.revision] = wiring.second_storage(one, bucket, layer, after_move).mount

records = KnownGood("known-good", spec.base_name, spec.cluster.namespace, in_cluster) if spec.gate else None
groups: dict[str, InferenceGroup] = {}
services: dict[str, InferenceService] = {}
for revision in spec.revisions:
    named, mount = partial(of_revision, revision=revision.revision), mounts[revision.revision]
    gang = [Gang(named("gang"), members, in_cluster)] if (members := wiring.gang(revision)) else []
    ready = ResourceOptions.merge(in_cluster, ResourceOptions(depends_on=[access, mount.depends_on, *gang]))
    if guard := wiring.cost_guard(revision):
        # Before the groups: it may have to end the wait for them.
        CostGuard(named("cost-guard"), guard, in_cluster)
    if evidence := wiring.incidents(revision, access):
        # As well: the first start may fail.
        Incidents(named("incidents"), evidence, after_access)
    weight = spec.update.weight if spec.update and revision is not spec else 0
    args = wiring.inference_group(revision, mount, access, bucket, weight=weight, is_candidate=revision is not spec)
    group = InferenceGroup(named("inference-group"), args, ready)
    groups[revision.revision] = group
    if own := wiring.revision_service(revision, group):
        services[revision.revision] = InferenceService(named("inference-service"), own, in_cluster)
    if budget := wiring.disruption_budget(revision, group):
        DisruptionBudget(named("disruption-budget"), budget, in_cluster)
    if observability := wiring.observability(revision, group, access):
        Observability(named("observability"), observability, in_cluster)

gate: Gate | None = None
if gate_args := wiring.gate(spec, records=records, access=access, group=groups[spec.revision]):
    after_group = ResourceOptions.merge(in_cluster, ResourceOptions(depends_on=[groups[spec.revision]]))
    gate = Gate(of_revision("gate", spec.revision), gate_args, after_group)
# With a gate, Pulumi does not wait for the groups, but for the gate, which does.
gates = [gate] if gate else []

tested: list[Verification | Gate] = []
if spec.update:
    new = spec.update.candidate
    group, own_service = groups[new.revision], services[new.revision]
    if gate_args := wiring.gate(new, records=records, access=access, group=group, baseline=spec.name):
        after_new = ResourceOptions.merge(in_cluster, ResourceOptions(depends_on=[group]))
        tested.append(Gate(of_revision("gate", new.revision), gate_args, after_new))
    if asked := wiring.verification(new, mount=mounts[new.revision], access=access, group=group, service=own_service):
        after_group = ResourceOptions.merge(in_cluster, ResourceOptions(depends_on=[group, own_service]))
        tested.append(Verification(of_revision("verification", new.revision), asked, after_group))
# Requests move only to groups that answer. They leave groups at once.
moves = spec.update.weight > 0 if spec.update else spec.revision != ""
after_groups = ResourceOptions(depends_on=[*groups.values(), *gates, *tested] if moves else [])
to_groups = ResourceOptions.merge(in_cluster, after_groups)

selected, group = groups[spec.selected.revision], groups[spec.revision]
service = InferenceService("inference-service", wiring.inference_service(spec.selected, selected, access), to_groups)
serving = ResourceOptions.merge(in_cluster, ResourceOptions(depends_on=[group, *gates, service]))
pooled = wiring.inference_pool(spec.selected, selected)
pool = LeaderPool("inference-pool", pooled, to_groups) if pooled else None
if route_args := wiring.route(spec, secrets, service, services, pool):
    route = Route("route", route_args, to_groups)
    if spec.update and (
        canary_guard := wiring.canary_guard(
            spec, route=route, group=groups[new.revision], service=services[new.revision], access=access
        )
    ):
        CanaryGuard("canary-guard", canary_guard, in_cluster)
if scaling := wiring.autoscaling(spec, secrets):
    Autoscaling(of_revision("autoscaling", spec.revision), scaling, serving)
asked = wiring.verification(spec, mount=mounts[spec.revision], access=access, group=group, service=service)
verification = Verification(of_revision("verification", spec.revision), asked, serving) if asked else None

exported = outputs(
    spec, bucket=bucket, mount=mounts[spec.revision], service=service, verification=verification, gate=gate
)
for name, value in exported.items():
    pulumi.export(name, value)


async def verdict() -> None:
    """What is known when the engine has seen all objects."""
    await changes.verdict()
    await ownership.verdict()


pulumi.run(verdict)
