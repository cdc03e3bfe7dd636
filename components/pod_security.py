"""What the engine's container may do, so that its pod keeps a Pod Security Standard.

The standards: https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from typing import Any

from components.settings.security import PodSecuritySettings

RDMA_CAPABILITY = "IPC_LOCK"
"""Pins memory for RDMA beyond the limit of locked memory. ``baseline`` does not have it among the capabilities that may
be added."""


def container_security(pods: PodSecuritySettings, *, rdma: bool) -> dict[str, Any]:
    """Security context of the engine's container, and not of its pod: the cache's client beside it needs to be root."""
    context: dict[str, Any] = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"], **({"add": [RDMA_CAPABILITY]} if rdma else {})},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    if pods.run_as_user:
        context |= {"runAsNonRoot": True, "runAsUser": pods.run_as_user}
    return context
