"""DeepSeek-R1 and its like on Alibaba Cloud ACS: bucket → weights → storage → inference group → Service."""

import pulumi
from pulumi import ResourceOptions

from components import stack_config
from components.access import Access, access_args
from components.cluster import Cluster, cluster_args
from components.exports import outputs
from components.inference_group import InferenceGroup, group_args
from components.inference_service import InferenceService, service_args
from components.model_bucket import ModelBucket, ModelBucketArgs
from components.model_upload import ModelUpload, ModelUploadArgs
from components.names import ACCESS, MODELS
from components.operations import operate
from components.ownership import Ownership
from components.providers import alicloud_provider, kubernetes_provider
from components.storage_layers import mount_model

settings, spec, secrets = stack_config.load()

ownership = Ownership(settings, spec, secrets)
alicloud, kubernetes = alicloud_provider(settings.cloud), kubernetes_provider(spec, secrets)
in_cloud = ResourceOptions(provider=alicloud)

cluster = Cluster("cluster", cluster_args(settings, spec), ResourceOptions(provider=kubernetes))
in_cluster = ResourceOptions(provider=kubernetes, depends_on=[cluster])
in_both = ResourceOptions(providers=[alicloud, kubernetes], depends_on=[cluster])

namespace, weights = cluster.namespace, settings.weights

bucket_args = ModelBucketArgs(cloud=settings.cloud, weights=weights, namespace=namespace, access_key=secrets.access_key)
bucket = ModelBucket(MODELS, bucket_args, in_cloud)

model, hub_token = settings.model.name, secrets.hub_token
upload_args = ModelUploadArgs(
    bucket=bucket,
    model=model,
    weights=weights,
    deadline_seconds=spec.upload_seconds,
    namespace=namespace,
    hub_token=hub_token,
    code=spec.engine.trust_remote_code,
)
upload = ModelUpload("model-upload", upload_args, in_cluster)
with_weights = ResourceOptions.merge(in_cluster, ResourceOptions(depends_on=[upload]))

mount = mount_model(settings, spec, bucket, namespace, with_weights)

access = Access(ACCESS, access_args(settings, secrets), in_both)
with_access = ResourceOptions.merge(in_cluster, ResourceOptions(depends_on=[access]))

group = InferenceGroup("inference-group", group_args(settings, spec, mount, access.group), with_access)

to_leaders = service_args(settings, group.leader_labels, access.acl_id)
service = InferenceService("inference-service", to_leaders, in_cluster)

operated = operate(
    settings, spec, secrets, mount=mount, access=access.group, group=group, service=service, opts=in_cluster
)
for name, value in {**outputs(settings, spec, bucket=bucket, mount=mount, service=service), **operated}.items():
    pulumi.export(name, value)
pulumi.run(ownership.verdict)
