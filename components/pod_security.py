"""What the pods may do: which Pod Security Standard the deployment's settings keep, and the containers that keep it.

The standards: https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from collections.abc import Mapping
from typing import Any, Literal

from components.settings.deployment import Deployment
from components.settings.security import PodSecuritySettings
from components.settings.storage import FluidCacheSettings

Level = Literal["privileged", "baseline", "restricted"]

LABEL_PREFIX = "pod-security.kubernetes.io"
"""https://kubernetes.io/docs/concepts/security/pod-security-admission/#pod-security-admission-labels-for-namespaces"""

RDMA_CAPABILITY = "IPC_LOCK"
"""Pins memory for RDMA beyond the limit of locked memory. ``baseline`` does not have it among the capabilities that may
be added."""


def enforced_level(settings: Deployment) -> Level:
    """The strictest standard that all pods of the namespace keep. The cache's client is a privileged container, with
    RDMA the engine has one capability more than ``baseline`` admits, and the benchmark runs as root of its image."""
    if isinstance(settings.storage, FluidCacheSettings) or settings.inference.network == "rdma":
        return "privileged"
    pods, verification = settings.security.pods, settings.verification
    if verification is not None and verification.benchmark is not None:
        return "baseline"
    return "restricted" if pods is not None and pods.run_as_user else "baseline"


def namespace_labels(settings: Deployment) -> dict[str, str]:
    """Labels of the namespace; none where the pods are not hardened. Where nothing can be enforced, ``baseline`` is at
    least reported, in warnings and in the audit log."""
    if settings.security.pods is None:
        return {}
    level = enforced_level(settings)
    reported: Mapping[str, str] = {"audit": "baseline", "warn": "baseline"} if level == "privileged" else {}
    return {f"{LABEL_PREFIX}/{mode}": value for mode, value in {"enforce": level, **reported}.items()}


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
