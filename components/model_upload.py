"""A Job that moves the weights into the bucket, or checks that they are there. Storage and inference wait for it.

The program is ``modelmover``, mounted from a ConfigMap as one zip file, so the cluster needs to reach only the hub, OSS
and the registry of any image with Python. The Job's name contains a hash of its task and its pod: a new Job checks what
the bucket contains, and moves what is missing. A failed Job is replaced by the next ``pulumi up``, and its pod
continues from what the bucket contains."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from deepseek_acs.modelmover.errors import CONTINUE_EXIT_CODES

from .acs_pods import GENERAL_PURPOSE
from .expansion import literal
from .python_job import (
    CONTAINER_SECURITY,
    POD_SECURITY,
    continued,
    program_command,
    program_config_map,
    program_job,
    program_mount,
    program_volume,
)

PACKAGE = CONTAINER = "modelmover"

OIDC_VOLUME = "rrsa-oidc-token"
OIDC_FOLDER = "/var/run/secrets/ack.alibabacloud.com/rrsa-tokens"
OIDC_AUDIENCE = "sts.aliyuncs.com"
"""https://www.alibabacloud.com/help/en/ack/serverless-kubernetes/user-guide/use-rrsa-to-authorize-pods-to-access-different-cloud-services"""

OIDC_TOKEN_SECONDS = 3600

LABELS = {"app.kubernetes.io/name": "modelmover", "app.kubernetes.io/component": "model-upload"}

EIP = "network.alibabacloud.com/pod-with-eip"
EIP_BANDWIDTH = "network.alibabacloud.com/eip-bandwidth"
"""Mbit/s
(https://help.aliyun.com/zh/ack/distributed-cloud-container-platform-for-kubernetes/user-guide/acs-pod-annotation-guide)."""


@dataclass(frozen=True, kw_only=True)
class ModelUploadArgs:
    """``source`` is the repository to move from, as ``modelscope://OWNER/NAME@REVISION`` or ``hf://...``; None only
    checks that ``destination`` (``oss://BUCKET/PREFIX``) still has what was moved there. ``options`` are additional
    arguments of the mover. It signs with an AccessKey, or assumes a role through the service account
    ``service_account``.

    ``hub_token`` is a secret for private repositories. The pod of ``cpu`` vCPUs times out after ``deadline_seconds``.
    """

    namespace: pulumi.Input[str]
    source: str | None
    destination: pulumi.Input[str]
    region: str
    endpoint: pulumi.Input[str]
    options: tuple[str, ...] = ()
    access_key_id: pulumi.Input[str] | None = None
    access_key_secret: pulumi.Input[str] | None = None
    role_arn: pulumi.Input[str] | None = None
    oidc_provider_arn: pulumi.Input[str] | None = None
    service_account: str | None = None
    hub_token: pulumi.Input[str] | None = None
    image: str
    cpu: int
    memory: str
    eip_bandwidth_mbps: int | None = None
    deadline_seconds: int
    annotations: Mapping[str, str] = field(default_factory=dict)


class ModelUpload(pulumi.ComponentResource):
    """The program as a ConfigMap, the credentials as a Secret, and the Job."""

    job_name: pulumi.Output[str]

    def __init__(self, name: str, args: ModelUploadArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("deepseek:storage:ModelUpload", name, None, opts)
        zipped = program_config_map(PACKAGE, namespace=args.namespace, labels=LABELS, parent=self)
        secret = self._secret(name, args)
        account = self._service_account(name, args)
        job = self._job(name, args, self._pod_template(args, zipped, secret, account))
        self.job_name = job.metadata["name"]
        self.register_outputs({"jobName": self.job_name})

    def _secret(self, name: str, args: ModelUploadArgs) -> k8s.core.v1.Secret | None:
        values: dict[str, pulumi.Input[str]] = {}
        if args.access_key_id is not None and args.access_key_secret is not None:
            values |= {"OSS_ACCESS_KEY_ID": args.access_key_id, "OSS_ACCESS_KEY_SECRET": args.access_key_secret}
        if args.hub_token is not None and args.source is not None:
            values["HF_TOKEN" if args.source.startswith("hf://") else "MODELSCOPE_API_TOKEN"] = args.hub_token
        if not values:
            return None
        return k8s.core.v1.Secret(
            f"{name}-credentials",
            metadata={"namespace": args.namespace, "labels": LABELS},
            string_data=values,
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _service_account(self, name: str, args: ModelUploadArgs) -> k8s.core.v1.ServiceAccount | None:
        """A name for the trust policy of the role, where there is one."""
        if args.role_arn is None or args.service_account is None:
            return None
        return k8s.core.v1.ServiceAccount(
            f"{name}-account",
            metadata={"name": args.service_account, "namespace": args.namespace, "labels": LABELS},
            automount_service_account_token=False,
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _job(self, name: str, args: ModelUploadArgs, template: k8s.core.v1.PodTemplateSpecArgsDict) -> k8s.batch.v1.Job:
        return program_job(
            f"{name}-job",
            kind=name,
            namespace=args.namespace,
            labels=LABELS,
            template=template,
            deadline_seconds=args.deadline_seconds,
            failure_rules=continued(CONTAINER, CONTINUE_EXIT_CODES),
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _pod_template(
        self,
        args: ModelUploadArgs,
        zipped: k8s.core.v1.ConfigMap,
        secret: k8s.core.v1.Secret | None,
        account: k8s.core.v1.ServiceAccount | None,
    ) -> k8s.core.v1.PodTemplateSpecArgsDict:
        size = {"cpu": str(args.cpu), "memory": args.memory}
        volumes = [program_volume(zipped)]
        mounts = [program_mount(PACKAGE)]
        environment: list[k8s.core.v1.EnvVarArgsDict] = []
        if args.role_arn is not None and args.oidc_provider_arn is not None:
            volumes.append(_oidc_volume())
            mounts.append({"name": OIDC_VOLUME, "mount_path": OIDC_FOLDER, "read_only": True})
            environment = oidc_environment(args.role_arn, args.oidc_provider_arn)
        container: k8s.core.v1.ContainerArgsDict = {
            "name": CONTAINER,
            "image": args.image,
            "command": program_command(PACKAGE),
            "args": command_line(args),
            "env": environment,
            "env_from": [{"secret_ref": {"name": secret.metadata["name"]}}] if secret is not None else [],
            "volume_mounts": mounts,
            "resources": {"limits": size, "requests": size},
            "security_context": CONTAINER_SECURITY,
            # Puts the reason of a failure into the pod's status, and so into the output of pulumi up.
            "termination_message_policy": "FallbackToLogsOnError",
        }
        spec: k8s.core.v1.PodSpecArgsDict = {
            "restart_policy": "Never",
            # Longer than a part in transfer may take (IDLE_SECONDS in deepseek_acs/modelmover/http.py).
            "termination_grace_period_seconds": 90,
            "automount_service_account_token": False,
            "enable_service_links": False,
            "security_context": POD_SECURITY,
            "containers": [container],
            "volumes": volumes,
        }
        if account is not None:
            spec["service_account_name"] = account.metadata["name"]
        return {
            "metadata": {
                "labels": {**LABELS, **GENERAL_PURPOSE},
                "annotations": {**args.annotations, **_eip_annotations(args.eip_bandwidth_mbps)},
            },
            "spec": spec,
        }


def command_line(args: ModelUploadArgs) -> list[pulumi.Input[str]]:
    """The arguments of ``modelmover``."""
    place = [args.destination, f"--region={args.region}", pulumi.Output.format("--endpoint={0}", args.endpoint)]
    options = [literal(option) for option in args.options]
    return ["verify", *place, *options] if args.source is None else ["copy", literal(args.source), *place, *options]


def oidc_environment(
    role_arn: pulumi.Input[str], oidc_provider_arn: pulumi.Input[str]
) -> list[k8s.core.v1.EnvVarArgsDict]:
    """By which Alibaba Cloud's clients assume a role with the token of ``OIDC_VOLUME``."""
    return [
        {"name": "ALIBABA_CLOUD_ROLE_ARN", "value": role_arn},
        {"name": "ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "value": oidc_provider_arn},
        {"name": "ALIBABA_CLOUD_OIDC_TOKEN_FILE", "value": f"{OIDC_FOLDER}/token"},
    ]


def _oidc_volume() -> k8s.core.v1.VolumeArgsDict:
    token = {"path": "token", "audience": OIDC_AUDIENCE, "expiration_seconds": OIDC_TOKEN_SECONDS}
    projected: Mapping[str, Any] = {"sources": [{"service_account_token": token}]}
    return {"name": OIDC_VOLUME, "projected": projected}  # type: ignore[typeddict-item]


def _eip_annotations(bandwidth: int | None) -> dict[str, str]:
    return {} if bandwidth is None else {EIP: "true", EIP_BANDWIDTH: str(bandwidth)}
