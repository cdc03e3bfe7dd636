"""The explicit providers: this program never uses a default provider or an ambient kubeconfig."""

from pathlib import Path

import pulumi
import pulumi_alicloud as alicloud
import pulumi_kubernetes as k8s

from deepseek_acs.planner.findings import Finding, report
from deepseek_acs.planner.spec import ResolvedSpec
from deepseek_acs.settings.cloud import CloudSettings

from .secrets import Secrets

EMULATED_SERVICES = ("oss", "ram", "sts", "slb")
"""Services of Alibaba Cloud that the program calls; all calls go to ``deployment.cloud.endpoint`` if it is set."""


def alicloud_provider(settings: CloudSettings) -> alicloud.Provider:
    """Alibaba Cloud in the stack's region. Credentials come from the environment or a profile, as for its official
    tools."""
    if settings.endpoint is None:
        return alicloud.Provider("alicloud", region=settings.region)
    endpoints = alicloud.ProviderEndpointArgs(**dict.fromkeys(EMULATED_SERVICES, settings.endpoint))
    return alicloud.Provider("alicloud", region=settings.region, endpoints=[endpoints])


def kubernetes_provider(spec: ResolvedSpec, secrets: Secrets) -> k8s.Provider:
    """The cluster of the stack."""
    return k8s.Provider(
        "kubernetes",
        kubeconfig=_existing(spec.kubeconfig) if spec.kubeconfig else secrets.kubeconfig,
        context=spec.cluster.context,
        namespace=spec.cluster.namespace,
        # Without it, a new endpoint or certificate in the kubeconfig would replace every object in the cluster. It does
        # not contain the stack's name, because a rename would do the same.
        cluster_identifier=pulumi.get_project(),
        enable_server_side_apply=True,
        # Objects of others are refused earlier (components/ownership.py). What remains is the namespace that this stack
        # has kept, and objects that a killed engine created but did not record.
        upsert_existing_objects=True,
        # A new AccessKey must not replace the Secret, and with it the volume and the claim that pods mount.
        enable_secret_mutable=True,
    )


def _existing(path: Path) -> str:
    if not path.is_file():
        missing = Finding(
            path="deployment.cluster.kubeconfigFile",
            problem=f"there is no file {path}",
            fix="write the path of your kubeconfig, or remove the setting and set the secret deepseek:kubeconfig; "
            "for the local stack run make up",
        )
        if not pulumi.runtime.is_dry_run():
            raise pulumi.RunError(report([missing], where=f"Pulumi.{pulumi.get_stack()}.yaml"))
        pulumi.log.warn(f"{missing.path}: {missing.problem}; previewing without a cluster")
    return str(path)
