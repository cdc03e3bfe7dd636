"""Which types of resources a stack may have: those whose content the rules know."""

from collections.abc import Iterator, Sequence

from deepseek_acs.planner.findings import Finding
from policy.resources import Resource

OWN = (
    "pulumi:pulumi:Stack",
    "pulumi:index:Stash",
    "pulumi:providers:pulumi",
    "pulumi:providers:kubernetes",
    "pulumi:providers:alicloud",
)
"""The engine makes the provider ``pulumi`` for the Stash, in which the program remembers what it has applied."""

OWN_COMPONENTS = "deepseek:"
"""Prefix of the program's components, which are nothing in the cluster or the cloud."""

PROGRAM_TYPES = (
    "alicloud:oss/bucket:Bucket",
    "alicloud:oss/bucketAcl:BucketAcl",
    "alicloud:oss/bucketPolicy:BucketPolicy",
    "alicloud:oss/bucketPublicAccessBlock:BucketPublicAccessBlock",
    "alicloud:ram/accessKey:AccessKey",
    "alicloud:ram/policy:Policy",
    "alicloud:ram/role:Role",
    "alicloud:ram/rolePolicyAttachment:RolePolicyAttachment",
    "alicloud:ram/user:User",
    "alicloud:ram/userPolicyAttachment:UserPolicyAttachment",
    "alicloud:slb/acl:Acl",
    "alicloud:slb/aclEntryAttachment:AclEntryAttachment",
    "kubernetes:apps/v1:Deployment",
    "kubernetes:autoscaling/v2:HorizontalPodAutoscaler",
    "kubernetes:batch/v1:Job",
    "kubernetes:core/v1:ConfigMap",
    "kubernetes:core/v1:Namespace",
    "kubernetes:core/v1:PersistentVolume",
    "kubernetes:core/v1:PersistentVolumeClaim",
    "kubernetes:core/v1:Secret",
    "kubernetes:core/v1:Service",
    "kubernetes:core/v1:ServiceAccount",
    "kubernetes:data.fluid.io/v1alpha1:DataLoad",
    "kubernetes:data.fluid.io/v1alpha1:Dataset",
    "kubernetes:data.fluid.io/v1alpha1:JindoRuntime",
    "kubernetes:gateway.networking.k8s.io/v1:HTTPRoute",
    "kubernetes:helm.sh/v3:Release",
    "kubernetes:inference.networking.k8s.io/v1:InferencePool",
    "kubernetes:keda.sh/v1alpha1:ScaledObject",
    "kubernetes:keda.sh/v1alpha1:TriggerAuthentication",
    "kubernetes:leaderworkerset.x-k8s.io/v1:LeaderWorkerSet",
    "kubernetes:monitoring.coreos.com/v1:PodMonitor",
    "kubernetes:monitoring.coreos.com/v1:PrometheusRule",
    "kubernetes:networking.k8s.io/v1:Ingress",
    "kubernetes:networking.k8s.io/v1:NetworkPolicy",
    "kubernetes:policy/v1:PodDisruptionBudget",
    "kubernetes:rbac.authorization.k8s.io/v1:Role",
    "kubernetes:rbac.authorization.k8s.io/v1:RoleBinding",
    "kubernetes:scheduling.sigs.k8s.io/v1alpha1:PodGroup",
)
"""All that the program creates with any setting."""


def unknown_types(resource: Resource, *, allowed_types: Sequence[str]) -> Iterator[Finding]:
    """A resource whose content no rule checks: a TCPRoute, a ClusterRoleBinding, a load balancer of its own."""
    is_own = resource.type in (*OWN, *PROGRAM_TYPES) or resource.type.startswith(OWN_COMPONENTS)
    if not is_own and resource.type not in allowed_types:
        yield Finding(
            path="",
            problem=f"the program creates no {resource.type}, so no policy checks what it does",
            fix="remove it, or write a policy for its content and add the type to the option",
        )
