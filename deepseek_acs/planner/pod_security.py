"""Which Pod Security Standard all pods of a deployment keep (https://kubernetes.io/docs/concepts/security/pod-security-standards/)."""

from typing import Literal

from deepseek_acs.planner.spec import ResolvedSpec

Level = Literal["privileged", "baseline", "restricted"]

LABEL_PREFIX = "pod-security.kubernetes.io"
"""https://kubernetes.io/docs/concepts/security/pod-security-admission/#pod-security-admission-labels-for-namespaces"""


def enforced_level(spec: ResolvedSpec) -> Level:
    """The strictest standard that all pods of the namespace keep. The cache's client is a privileged container, and
    with RDMA the engine has one capability more than ``baseline`` admits."""
    if spec.storage.kind == "fluid" or spec.network == "rdma":
        return "privileged"
    pods = spec.security.pods
    return "restricted" if pods is not None and pods.run_as_user else "baseline"


def namespace_labels(spec: ResolvedSpec) -> dict[str, str]:
    """Labels of the namespace. What is not kept is at least reported, in warnings and in the audit log; nothing is
    enforced where the pods are not hardened on purpose."""
    level = enforced_level(spec)
    reported = "baseline" if level == "privileged" else "restricted"
    modes = {"audit": reported, "warn": reported, **({} if spec.security.pods is None else {"enforce": level})}
    return {f"{LABEL_PREFIX}/{mode}": value for mode, value in modes.items()}
