"""Runs a program of this project in the cluster: a zipapp in a ConfigMap, in any image with Python 3.11."""

import base64
import math
from collections.abc import Mapping, Sequence

import pulumi
import pulumi_kubernetes as k8s

from deepseek_acs.planner.upload import AWAIT_SECONDS

from .names import json_text, name_of
from .zipapps import archive, archive_digest

UNPRIVILEGED_ID = 65534

CONTAINER_SECURITY: k8s.core.v1.SecurityContextArgsDict = {
    "allow_privilege_escalation": False,
    "read_only_root_filesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
POD_SECURITY: k8s.core.v1.PodSecurityContextArgsDict = {
    "run_as_non_root": True,
    "run_as_user": UNPRIVILEGED_ID,
    "run_as_group": UNPRIVILEGED_ID,
    "seccomp_profile": {"type": "RuntimeDefault"},
}
"""Together the profile "restricted" of https://kubernetes.io/docs/concepts/security/pod-security-standards/."""


def program_config_map(
    package: str, *, namespace: pulumi.Input[str], labels: Mapping[str, str], parent: pulumi.Resource
) -> k8s.core.v1.ConfigMap:
    """The package as an immutable ConfigMap with a content hash in its name: other content is another resource."""
    name = name_of(package, parent.pulumi_resource_name, archive_digest(package))
    return content_config_map(
        f"{parent.pulumi_resource_name}-{name}",
        name,
        package,
        namespace=namespace,
        labels=labels,
        opts=pulumi.ResourceOptions(parent=parent),
    )


def content_config_map(
    resource: str,
    name: str,
    package: str,
    *,
    namespace: pulumi.Input[str],
    labels: Mapping[str, str],
    opts: pulumi.ResourceOptions,
) -> k8s.core.v1.ConfigMap:
    """The same for a ``name`` that identifies the content."""
    # Another zlib only compresses it to other bytes.
    own = pulumi.ResourceOptions(ignore_changes=["binaryData"])
    return k8s.core.v1.ConfigMap(
        resource,
        metadata={"name": name, "namespace": namespace, "labels": labels},
        binary_data={_file(package): base64.b64encode(archive(package)).decode()},
        immutable=True,
        opts=pulumi.ResourceOptions.merge(opts, own),
    )


def program_volume(config_map: k8s.core.v1.ConfigMap) -> k8s.core.v1.VolumeArgsDict:
    """The volume for ``program_mount``."""
    return {"name": "program", "config_map": {"name": config_map.metadata["name"]}}


def program_mount(package: str) -> k8s.core.v1.VolumeMountArgsDict:
    """The mount path that ``program_command`` uses."""
    return {"name": "program", "mount_path": f"/opt/{package}", "read_only": True}


def program_command(package: str) -> list[str]:
    """Runs it."""
    return ["python3", f"/opt/{package}/{_file(package)}"]


def program_container(
    package: str,
    *,
    image: str,
    arguments: Sequence[pulumi.Input[str]],
    size: Mapping[str, str],
    env: Sequence[k8s.core.v1.EnvVarArgsDict] | None = None,
    mounts: Sequence[k8s.core.v1.VolumeMountArgsDict] = (),
) -> k8s.core.v1.ContainerArgsDict:
    """The container that runs it, with what it requests and may use in ``size``, and ``mounts`` in addition to the
    program's. Its last words are in the status of the pod, and so in the output of ``pulumi up``."""
    found: k8s.core.v1.ContainerArgsDict = {
        "name": package,
        "image": image,
        "command": program_command(package),
        "args": [*arguments],
    }
    if env is not None:
        found["env"] = env
    return {
        **found,
        "volume_mounts": [program_mount(package), *mounts],
        "resources": {"limits": size, "requests": size},
        "security_context": CONTAINER_SECURITY,
        "termination_message_policy": "FallbackToLogsOnError",
    }


def secret_variable(name: str, secret: pulumi.Input[str] | None, key: str) -> list[k8s.core.v1.EnvVarArgsDict] | None:
    """The variable with the value of a key of a Secret; None without one."""
    if secret is None:
        return None
    return [{"name": name, "value_from": {"secret_key_ref": {"name": secret, "key": key}}}]


def pod_with_token(
    container: k8s.core.v1.ContainerArgsDict,
    config_map: k8s.core.v1.ConfigMap,
    account: k8s.core.v1.ServiceAccount,
    volumes: Sequence[k8s.core.v1.VolumeArgsDict] = (),
) -> k8s.core.v1.PodSpecArgsDict:
    """A pod whose program calls the API server as ``account``, with ``volumes`` in addition to the program's."""
    return {
        "service_account_name": account.metadata["name"],
        "automount_service_account_token": True,
        "enable_service_links": False,
        "security_context": POD_SECURITY,
        "containers": [container],
        "volumes": [program_volume(config_map), *volumes],
    }


def job_name(
    kind: str, template: k8s.core.v1.PodTemplateSpecArgsDict, *content: pulumi.Input[object]
) -> pulumi.Output[str]:
    """Name of a Job with a hash of its pod template and of ``content``: a Job's template is immutable, so a change
    needs a new name."""
    return json_text([template, *content]).apply(lambda text: name_of(kind, text))


def continued(container: str, exit_codes: Sequence[int]) -> list[k8s.batch.v1.PodFailurePolicyRuleArgsDict]:
    """Failures after which another pod continues: the pod was evicted, or ``container`` ended with one of
    ``exit_codes`` (https://kubernetes.io/docs/concepts/workloads/controllers/job/#pod-failure-policy)."""
    return [
        {"action": "Ignore", "on_pod_conditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "Ignore", "on_exit_codes": {"container_name": container, "operator": "In", "values": [*exit_codes]}},
    ]


def program_job(
    resource: str,
    *,
    kind: str,
    namespace: pulumi.Input[str],
    labels: Mapping[str, str],
    template: k8s.core.v1.PodTemplateSpecArgsDict,
    deadline_seconds: int,
    opts: pulumi.ResourceOptions,
    content: Sequence[pulumi.Input[object]] = (),
    failure_rules: Sequence[k8s.batch.v1.PodFailurePolicyRuleArgsDict] = (),
) -> k8s.batch.v1.Job:
    """A Job of one pod, awaited slightly longer than its deadline. The next ``pulumi up`` repeats a failed Job. So does
    another template, other rules or other ``content``, because its name contains a hash of them.

    A failed pod fails the Job, except for failures that ``failure_rules`` ignore. The action FailJob would do the same,
    but Pulumi does not know its reason, PodFailurePolicy, and would keep waiting
    (provider/pkg/await/checker/job/check.go in https://github.com/pulumi/pulumi-kubernetes)."""
    spec: k8s.batch.v1.JobSpecArgsDict = {
        "backoff_limit": 0,
        "active_deadline_seconds": deadline_seconds,
        "template": template,
    }
    if failure_rules:
        spec["pod_failure_policy"] = {"rules": failure_rules}
    minutes = f"{math.ceil((deadline_seconds + AWAIT_SECONDS) / 60)}m"
    own = pulumi.ResourceOptions(
        custom_timeouts=pulumi.CustomTimeouts(create=minutes, update=minutes),
        # The previous Job may still be running, and both would work on the same data.
        delete_before_replace=True,
    )
    return k8s.batch.v1.Job(
        resource,
        metadata={
            # The pod failure policy of a Job is immutable as well.
            "name": job_name(kind, template, list(failure_rules), *content),
            "namespace": namespace,
            "labels": labels,
            # Without it, Pulumi would await a failed Job in each update.
            "annotations": {"pulumi.com/replaceUnready": "true"},
        },
        spec=spec,
        opts=pulumi.ResourceOptions.merge(own, opts),
    )


def _file(package: str) -> str:
    return f"{package}.pyz"
