"""DeepSeek-R1 and similar models on Alibaba Cloud ACS: bucket → weights → storage → inference group → Service."""

import gc

# The 150,000 objects of the generated SDKs live to the end. To look for garbage among them takes half a second.
gc.disable()

import pulumi
from pulumi import ResourceOptions

from components import stack_config, wiring
from components.access import Access
from components.cluster import Cluster
from components.cost_guard import CostGuard
from components.disruption_budget import DisruptionBudget
from components.exports import outputs
from components.gang import Gang
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

gc.freeze()
gc.enable()

spec, secrets = stack_config.load()

ownership = Ownership(spec, secrets)
alicloud, kubernetes = alicloud_provider(spec.cloud), kubernetes_provider(spec, secrets)

cluster = Cluster("cluster", wiring.cluster(spec), ResourceOptions(provider=kubernetes))
in_cluster = ResourceOptions(provider=kubernetes, depends_on=[cluster])
in_both = ResourceOptions(providers=[alicloud, kubernetes], depends_on=[cluster])

bucket = ModelBucket(MODELS, wiring.model_bucket(spec, secrets), ResourceOptions(provider=alicloud))
access = Access(ACCESS, wiring.access(spec, secrets), in_both)
after_access = ResourceOptions.merge(in_cluster, ResourceOptions(depends_on=[access]))
upload = ModelUpload("model-upload", wiring.model_upload(spec, secrets, bucket), after_access)
mount = wiring.storage(spec, bucket, ResourceOptions.merge(in_cluster, ResourceOptions(depends_on=[upload])))

gang = [Gang("gang", members, in_cluster)] if (members := wiring.gang(spec)) else []
ready = ResourceOptions.merge(in_cluster, ResourceOptions(depends_on=[access, mount.depends_on, *gang]))
if guard := wiring.cost_guard(spec):
    # Before the groups: it may have to end the wait for them.
    CostGuard("cost-guard", guard, in_cluster)
if evidence := wiring.incidents(spec, access):
    # As well: the first start may fail.
    Incidents("incidents", evidence, after_access)
group = InferenceGroup("inference-group", wiring.inference_group(spec, mount, access), ready)
service = InferenceService("inference-service", wiring.inference_service(spec, group, access), in_cluster)
serving = ResourceOptions.merge(in_cluster, ResourceOptions(depends_on=[group, service]))

if budget := wiring.disruption_budget(spec, group):
    DisruptionBudget("disruption-budget", budget, in_cluster)
pool = LeaderPool("inference-pool", pooled, in_cluster) if (pooled := wiring.inference_pool(spec, group)) else None
if route := wiring.route(spec, secrets, service, pool):
    Route("route", route, in_cluster)
if observability := wiring.observability(spec, group, access):
    Observability("observability", observability, in_cluster)
if scaling := wiring.autoscaling(spec, secrets):
    Autoscaling("autoscaling", scaling, serving)
asked = wiring.verification(spec, mount=mount, access=access, group=group, service=service)
verification = Verification("verification", asked, serving) if asked else None

exported = outputs(spec, bucket=bucket, mount=mount, service=service, verification=verification)
for name, value in exported.items():
    pulumi.export(name, value)
pulumi.run(ownership.verdict)
