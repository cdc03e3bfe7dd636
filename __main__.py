"""DeepSeek-R1 and its like on Alibaba Cloud ACS: bucket → weights → storage → inference group → Service."""

import pulumi
from pulumi import ResourceOptions

from components import stack_config
from components.cluster import Cluster, ClusterArgs
from components.exports import outputs
from components.inference_group import InferenceGroup, InferenceGroupArgs
from components.inference_service import InferenceService, InferenceServiceArgs
from components.model_bucket import ModelBucket, ModelBucketArgs
from components.model_upload import ModelUpload, ModelUploadArgs
from components.operations import operate
from components.operators import OperatorsArgs
from components.providers import alicloud_provider, kubeconfig_is_missing, kubernetes_provider
from components.storage_layers import mount_model

settings, plan, secrets = stack_config.load()
pulumi.log.info(plan.summary())
for warning in plan.warnings:
    pulumi.log.warn(warning)

in_cloud = ResourceOptions(provider=alicloud_provider(settings.cloud))
kubernetes = ResourceOptions(provider=kubernetes_provider(settings.cluster, secrets))

operators_args = OperatorsArgs(
    operators=settings.operators,
    storage=settings.storage,
    region=settings.cloud.region,
    check_apis=not kubeconfig_is_missing(settings.cluster),
)
cluster = Cluster("cluster", ClusterArgs(cluster=settings.cluster, operators=operators_args), kubernetes)
in_cluster = ResourceOptions.merge(kubernetes, ResourceOptions(depends_on=[cluster]))

namespace, weights, weights_gib = cluster.namespace, settings.weights, plan.weights_gib

bucket_args = ModelBucketArgs(cloud=settings.cloud, weights=weights, namespace=namespace, access_key=secrets.access_key)
bucket = ModelBucket("model-bucket", bucket_args, in_cloud)

model, hub_token = settings.model.name, secrets.hub_token
upload_args = ModelUploadArgs(
    bucket=bucket, model=model, weights=weights, weights_gib=weights_gib, namespace=namespace, hub_token=hub_token
)
upload = ModelUpload("model-upload", upload_args, in_cluster)
with_weights = ResourceOptions.merge(in_cluster, ResourceOptions(depends_on=[upload]))

mount = mount_model(settings, plan, bucket, namespace, with_weights)

group_args = InferenceGroupArgs(
    namespace=namespace, model=settings.model, inference=settings.inference, plan=plan, mount=mount
)
group = InferenceGroup("inference-group", group_args, in_cluster)

port, leaders = settings.inference.engine.port, group.leader_labels
service_args = InferenceServiceArgs(namespace=namespace, selector=leaders, target_port=port, service=settings.service)
service = InferenceService("inference-service", service_args, in_cluster)

operated = operate(settings, namespace=namespace, mount=mount, group=group, service=service, opts=in_cluster)
for name, value in {**outputs(settings, plan, bucket=bucket, mount=mount, service=service), **operated}.items():
    pulumi.export(name, value)
