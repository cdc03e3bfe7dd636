"""Which Pod Security Standard all pods of a deployment keep (https://kubernetes.io/docs/concepts/security/pod-security-standards/)."""

from collections.abc import Mapping
from typing import Literal

from deepseek_acs.planner.spec import ResolvedSpec

Level = Literal["privileged", "baseline", "restricted"]

LABEL_PREFIX = "pod-security.kubernetes.io"
"""https://kubernetes.io/docs/concepts/security/pod-security-admission/#pod-security-admission-labels-for-namespaces"""


def enforced_level(spec: ResolvedSpec) -> Level:
    """The strictest standard that all pods of the namespace keep. The cache's client is a privileged container, with
    RDMA the engine has one capability more than ``baseline`` admits, and the benchmark runs as root of its image."""
    if spec.storage.kind == "fluid" or spec.network == "rdma":
        return "privileged"
    pods, verification = spec.security.pods, spec.verification
    if verification is not None and verification.benchmark is not None:
        return "baseline"
    return "restricted" if pods is not None and pods.run_as_user else "baseline"


def namespace_labels(spec: ResolvedSpec) -> dict[str, str]:
    """Labels of the namespace; none where the pods are not hardened. Where nothing can be enforced, ``baseline`` is at
    least reported, in warnings and in the audit log."""
    if spec.security.pods is None:
        return {}
    level = enforced_level(spec)
    reported: Mapping[str, str] = {"audit": "baseline", "warn": "baseline"} if level == "privileged" else {}
    return {f"{LABEL_PREFIX}/{mode}": value for mode, value in {"enforce": level, **reported}.items()}
