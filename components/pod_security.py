"""What the engine's container may do under the Pod Security Standards.

The standards: https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from typing import Any

RDMA_CAPABILITY = "IPC_LOCK"
"""Needed to pin memory for RDMA beyond the limit of locked memory. ``baseline`` does not allow adding it."""


def container_security(
    *, run_as_user: int | None, run_as_group: int | None, read_only_root: bool, rdma: bool
) -> dict[str, Any]:
    """Security context of the engine's container, not of its pod, in which the cache's client must be root."""
    context: dict[str, Any] = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"], **({"add": [RDMA_CAPABILITY]} if rdma else {})},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    if read_only_root:
        context["readOnlyRootFilesystem"] = True
    if run_as_user:
        context |= {"runAsNonRoot": True, "runAsUser": run_as_user, "runAsGroup": run_as_group or run_as_user}
    return context
