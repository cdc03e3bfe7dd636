"""What every storage layer hands to the pods, whatever stands behind it."""

from dataclasses import dataclass

import pulumi


@dataclass(frozen=True, kw_only=True)
class ModelMount:
    """``claim_name`` is the PersistentVolumeClaim to mount, ``model_path`` the folder of the model in the pod, and
    ``ready`` what has to exist before a pod may mount the claim."""

    claim_name: pulumi.Output[str]
    model_path: str
    ready: pulumi.Resource


def model_path(prefix: str) -> str:
    """Folder in the pod of a model under ``prefix`` in the bucket; both storage layers use this one."""
    return f"/models/{prefix.rpartition('/')[2]}"
