"""What a preview warns of about access: options that are on and may not hold, or not fully."""

from collections.abc import Iterator

from components.pod_security import namespace_labels
from components.settings.deployment import Deployment

POLICIES_ON_ACS = "https://help.aliyun.com/en/ack/product-overview/poseidon"
"""The component that enforces NetworkPolicy. Of the pods of ACS, its limitations name those with CPUs only."""


def access_warnings(settings: Deployment) -> list[str]:
    """Each begins with the setting that it is about."""
    return [*_policies_may_not_hold(settings), *_namespace_is_not_labelled(settings)]


def _policies_may_not_hold(settings: Deployment) -> Iterator[str]:
    security = settings.security
    if security.network_policy is not None and not security.security_groups:
        yield (
            "deployment.security.networkPolicy: Alibaba Cloud documents network policies for the CPU pods of ACS, with "
            f"the component Poseidon, and not for GPU pods ({POLICIES_ON_ACS}); try whether they hold "
            "(docs/access.md), or set deployment.security.securityGroups, too"
        )


def _namespace_is_not_labelled(settings: Deployment) -> Iterator[str]:
    labels = namespace_labels(settings)
    if labels and not settings.cluster.create_namespace:
        text = " ".join(f"{name}={value}" for name, value in labels.items())
        yield (
            "deployment.security.pods: the namespace is not the stack's, which therefore leaves its labels alone; "
            f"label it: kubectl label namespace {settings.cluster.namespace} {text}"
        )
