"""Fills a Fluid cache: a Job that waits for the DataLoad, evaluates it, and recreates it if it failed.

Fluid never repeats a DataLoad that has ended, and Pulumi accepts one that failed. The next ``pulumi up`` replaces a
failed Job, and its pod repeats the preload. The program is ``preload``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from deepseek_acs.apiserver import CREDENTIALS
from deepseek_acs.planner.upload import START_SECONDS

from .acs_pods import GENERAL_PURPOSE
from .crds import DataLoad
from .names import json_text
from .python_job import pod_with_token, program_config_map, program_container, program_job
from .rights import grant

PACKAGE = "preload"
LABELS = {"app.kubernetes.io/name": PACKAGE, "app.kubernetes.io/component": "storage"}


@dataclass(frozen=True, kw_only=True)
class PreloadArgs:
    """``name`` is that of the cache and ``workers`` their number, ``load`` its DataLoad and ``manifest`` the object
    that recreates it, ``seconds`` its timeout, and ``image`` an image with Python 3.11."""

    name: str
    namespace: pulumi.Input[str]
    load: DataLoad
    manifest: Mapping[str, Any]
    workers: int
    seconds: int
    image: str
    annotations: Mapping[str, str] = field(default_factory=dict)


class Preload(pulumi.ComponentResource):
    """The program as a ConfigMap, its RBAC rights to this one DataLoad, and the Job."""

    job: k8s.batch.v1.Job

    def __init__(self, name: str, args: PreloadArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("deepseek:storage:Preload", name, None, opts)
        zipped = program_config_map(PACKAGE, namespace=args.namespace, labels=LABELS, parent=self)
        account = self._service_account(args)
        own = pulumi.ResourceOptions(parent=self)
        allowed = grant(args.name, args.name, account, _rules(args), metadata=_metadata(args), opts=own)
        self.job = self._job(args, zipped, account, allowed)
        self.register_outputs({"jobName": self.job.metadata["name"]})

    def _service_account(self, args: PreloadArgs) -> k8s.core.v1.ServiceAccount:
        return k8s.core.v1.ServiceAccount(
            args.name,
            metadata=_metadata(args),
            automount_service_account_token=False,
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _job(
        self,
        args: PreloadArgs,
        zipped: k8s.core.v1.ConfigMap,
        account: k8s.core.v1.ServiceAccount,
        allowed: k8s.rbac.v1.RoleBinding,
    ) -> k8s.batch.v1.Job:
        return program_job(
            args.name,
            kind=f"{args.name}-preload",
            # Another number of workers changes what is cached, so the Job runs again.
            content=[args.workers],
            namespace=args.namespace,
            labels=LABELS,
            template=self._pod_template(args, zipped, account),
            # The program has its own timeout; this deadline covers a pod that never starts.
            deadline_seconds=args.seconds + START_SECONDS,
            opts=pulumi.ResourceOptions(parent=self, depends_on=[args.load, allowed]),
        )

    def _pod_template(
        self, args: PreloadArgs, zipped: k8s.core.v1.ConfigMap, account: k8s.core.v1.ServiceAccount
    ) -> k8s.core.v1.PodTemplateSpecArgsDict:
        container = program_container(
            PACKAGE,
            image=args.image,
            arguments=[
                pulumi.Output.format("--dataload={0}", json_text(args.manifest)),
                f"--seconds={args.seconds}",
                f"--credentials={CREDENTIALS}",
            ],
            size={"cpu": "1", "memory": "2Gi"},
        )
        return {
            "metadata": {
                "labels": {**LABELS, **GENERAL_PURPOSE},
                **({"annotations": args.annotations} if args.annotations else {}),
            },
            "spec": {"restart_policy": "Never", **pod_with_token(container, zipped, account)},
        }


def _rules(args: PreloadArgs) -> list[k8s.rbac.v1.PolicyRuleArgsDict]:
    """A rule for ``create`` cannot name an object
    (https://kubernetes.io/docs/reference/access-authn-authz/rbac/#referring-to-resources)."""
    fluid, own = ["data.fluid.io"], [args.name]
    return [
        {"api_groups": fluid, "resources": ["dataloads"], "resource_names": own, "verbs": ["get", "delete"]},
        {"api_groups": fluid, "resources": ["datasets"], "resource_names": own, "verbs": ["get"]},
        {"api_groups": fluid, "resources": ["dataloads"], "verbs": ["create"]},
    ]


def _metadata(args: PreloadArgs) -> k8s.meta.v1.ObjectMetaArgsDict:
    # Generated: two stacks may share a namespace.
    return {"namespace": args.namespace, "labels": LABELS}
