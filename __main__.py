"""DeepSeek-R1 and its like on Alibaba Cloud ACS: bucket → storage → inference group → Service."""

import pulumi
from pulumi import ResourceOptions

from components import stack_config
from components.cluster import Cluster, ClusterArgs
from components.exports import outputs
from components.inference_group import InferenceGroup, InferenceGroupArgs
from components.inference_service import InferenceService, InferenceServiceArgs
from components.model_bucket import ModelBucket, ModelBucketArgs
from components.oss_volume import OssVolume, OssVolumeArgs
from components.providers import alicloud_provider, kubeconfig_is_missing, kubernetes_provider

settings, plan, secrets = stack_config.load()
for warning in plan.warnings:
    pulumi.log.warn(warning)

in_cloud = ResourceOptions(provider=alicloud_provider(settings.cloud))
kubernetes = ResourceOptions(provider=kubernetes_provider(settings.cluster, secrets))

cluster_args = ClusterArgs(cluster=settings.cluster, check_apis=not kubeconfig_is_missing(settings.cluster))
cluster = Cluster("cluster", cluster_args, kubernetes)
in_cluster = ResourceOptions.merge(kubernetes, ResourceOptions(depends_on=[cluster]))

bucket_args = ModelBucketArgs(cloud=settings.cloud, weights=settings.weights, access_key=secrets.access_key)
bucket = ModelBucket("model-bucket", bucket_args, in_cloud)

volume_args = OssVolumeArgs(
    bucket=bucket,
    weights=settings.weights,
    weights_gib=plan.weights_gib,
    namespace=cluster.namespace,
    storage=settings.storage,
)
volume = OssVolume("oss-volume", volume_args, in_cluster)

group_args = InferenceGroupArgs(
    namespace=cluster.namespace,
    model=settings.model,
    inference=settings.inference,
    plan=plan,
    mount=volume.mount,
)
group = InferenceGroup("inference-group", group_args, in_cluster)

service_args = InferenceServiceArgs(
    namespace=cluster.namespace,
    selector=group.leader_labels,
    target_port=settings.inference.engine.port,
    service=settings.service,
)
service = InferenceService("inference-service", service_args, in_cluster)

for name, value in outputs(settings, bucket=bucket, storage=volume, service=service).items():
    pulumi.export(name, value)
