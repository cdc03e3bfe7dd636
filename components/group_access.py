"""What access and security add to the pods of the inference group: one pure function over their templates."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pulumi

from components.pod_security import container_security
from components.settings.inference import InferenceSettings
from components.settings.security import SecuritySettings

API_KEY_VARIABLE = "VLLM_API_KEY"
"""The engine asks for this key (https://docs.vllm.ai/en/stable/configuration/env_vars.html); as an argument it would
stand in the list of processes."""

POLICY_AGENT = "alibabacloud.com/enable-network-policy-agent"
SECURITY_GROUPS = "network.alibabacloud.com/security-group-ids"
"""Annotations of pods on ACS. Without the first, whose default is false, no NetworkPolicy holds for a pod
(https://www.alibabacloud.com/help/en/cs/user-guide/pod-annotation-function-description)."""

HOME = "/home/engine"
HOME_VOLUME = "home"
HOME_ENVIRONMENT = {"HOME": HOME, "USER": "engine"}


@dataclass(frozen=True, kw_only=True)
class GroupAccess:
    """``api_key_secret`` is the name of the Secret with the clients' key, ``service_account`` that of the pods' service
    account; None where there is none."""

    api_key_secret: pulumi.Input[str] | None = None
    service_account: pulumi.Input[str] | None = None
    security: SecuritySettings = field(default_factory=SecuritySettings)

    @property
    def api_key_reference(self) -> Mapping[str, pulumi.Input[str]] | None:
        """``secretKeyRef`` of the clients' key."""
        return None if self.api_key_secret is None else {"name": self.api_key_secret, "key": API_KEY_VARIABLE}


def secured(
    template: Mapping[str, Any], access: GroupAccess, inference: InferenceSettings, *, serves: bool
) -> dict[str, Any]:
    """The pod template with all of it; unchanged where nothing is switched on. ``serves`` says whether the pod answers
    requests: only those know the key."""
    security, spec = access.security, dict(template["spec"])
    (engine,) = spec["containers"]
    container = {**engine, "env": [*engine["env"]]}
    if serves and (reference := access.api_key_reference):
        container["env"].append({"name": API_KEY_VARIABLE, "valueFrom": {"secretKeyRef": reference}})
    if access.service_account is not None:
        spec |= {"serviceAccountName": access.service_account, "automountServiceAccountToken": False}
    if security.pods is not None:
        container["securityContext"] = container_security(security.pods, rdma=inference.network == "rdma")
        if security.pods.run_as_user:
            container |= _with_home(container)
            spec["volumes"] = [*spec["volumes"], {"name": HOME_VOLUME, "emptyDir": {}}]
    metadata = dict(template["metadata"])
    if annotations := _annotations(security):
        metadata["annotations"] = {**metadata.get("annotations", {}), **annotations}
    return {**template, "metadata": metadata, "spec": {**spec, "containers": [container]}}


def _with_home(container: Mapping[str, Any]) -> dict[str, Any]:
    """vLLM, Triton and Ray keep their caches below the home folder, and PyTorch asks for the user's name, which an ID
    that the image does not know has not got."""
    given = {variable["name"] for variable in container["env"]}
    home = [{"name": name, "value": value} for name, value in HOME_ENVIRONMENT.items() if name not in given]
    return {
        "env": [*container["env"], *home],
        "volumeMounts": [*container["volumeMounts"], {"name": HOME_VOLUME, "mountPath": HOME}],
    }


def _annotations(security: SecuritySettings) -> dict[str, str]:
    annotations = {}
    if security.network_policy is not None:
        annotations[POLICY_AGENT] = "true"
    if security.security_groups:
        annotations[SECURITY_GROUPS] = ",".join(security.security_groups)
    return annotations
