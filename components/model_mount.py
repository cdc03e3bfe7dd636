"""What every storage layer gives to the pods, independent of its implementation."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pulumi


@dataclass(frozen=True, kw_only=True)
class Sidecar:
    """A container that the cluster adds to each pod that mounts the claim: the pod labels that request it, and its
    share of the pod's CPU (vCPU) and memory (MiB)."""

    labels: Mapping[str, str] = field(default_factory=dict)
    cpu: int = 0
    memory_mib: int = 0


@dataclass(frozen=True, kw_only=True)
class ModelMount:
    """``claim_name`` is the PersistentVolumeClaim to mount, ``model_path`` the model's folder in the pod,
    ``depends_on`` the resource that must exist before a pod mounts it, and ``sidecar`` what the cluster adds to such a
    pod."""

    claim_name: pulumi.Output[str]
    model_path: str
    depends_on: pulumi.Resource
    sidecar: Sidecar = Sidecar()


def model_path(prefix: str) -> str:
    """Folder in the pod of a model under ``prefix`` in the bucket; both storage layers use this one."""
    return f"/models/{prefix.rpartition('/')[2]}"
