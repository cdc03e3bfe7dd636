"""What a pod may do at the API server: a Role, and its binding to the pod's service account."""

from collections.abc import Sequence

import pulumi
import pulumi_kubernetes as k8s


def grant(
    role_name: str,
    binding_name: str,
    account: k8s.core.v1.ServiceAccount,
    rules: Sequence[k8s.rbac.v1.PolicyRuleArgsDict],
    *,
    metadata: k8s.meta.v1.ObjectMetaArgsDict,
    opts: pulumi.ResourceOptions,
) -> k8s.rbac.v1.RoleBinding:
    """Gives ``account`` the rights ``rules`` in the namespace of ``metadata``, which both objects have. The first two
    arguments are the objects' names in Pulumi's state."""
    role = k8s.rbac.v1.Role(role_name, metadata=metadata, rules=[*rules], opts=opts)
    return k8s.rbac.v1.RoleBinding(
        binding_name,
        metadata=metadata,
        role_ref={"api_group": "rbac.authorization.k8s.io", "kind": "Role", "name": role.metadata["name"]},
        subjects=[{"kind": "ServiceAccount", "name": account.metadata["name"], "namespace": metadata["namespace"]}],
        opts=opts,
    )
