"""What must exist before the group so that only the right ones reach it: the clients' key, the pods' identity, network
policies, and the load balancer's access control list. Each is there only where the settings ask for it.
"""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_alicloud as alicloud
import pulumi_kubernetes as k8s

from components.group_access import API_KEY_VARIABLE, GroupAccess
from components.names import CLIENTS, cloud_name
from components.network_policy import clients_only, members_only
from components.secrets import Secrets
from components.settings.deployment import Deployment
from components.settings.inference import InferenceSettings
from components.settings.security import NetworkPolicySettings, PodSecuritySettings, SecuritySettings
from components.settings.service import ServiceSettings


@dataclass(frozen=True, kw_only=True)
class AccessArgs:
    """``verified`` says whether Jobs of the namespace ask the endpoint; ``api_key`` is a secret, None where the service
    asks for none."""

    namespace: str
    inference: InferenceSettings
    service: ServiceSettings
    security: SecuritySettings
    verified: bool
    api_key: pulumi.Output[str] | None


def access_args(settings: Deployment, secrets: Secrets) -> AccessArgs:
    """What the settings ask for."""
    return AccessArgs(
        namespace=settings.cluster.namespace,
        inference=settings.inference,
        service=settings.service,
        security=settings.security,
        verified=settings.verification is not None,
        api_key=secrets.api_key,
    )


class Access(pulumi.ComponentResource):
    """Secret, ServiceAccount, NetworkPolicies and access control list; it needs the providers of cluster and cloud."""

    group: GroupAccess
    """What the pods of the group are told of it."""

    acl_id: pulumi.Output[str] | None
    """ID of the access control list; None where everybody in the VPC may use the load balancer."""

    def __init__(self, name: str, args: AccessArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("deepseek:access:Access", name, None, opts)
        self.group = GroupAccess(
            api_key_secret=self._api_key(args.namespace, args.api_key) if args.api_key is not None else None,
            service_account=self._service_account(args, args.security.pods) if args.security.pods else None,
            security=args.security,
        )
        if args.security.network_policy:
            self._network_policies(args, args.security.network_policy)
        self.acl_id = self._acl(args.service.allowed_cidrs) if args.service.allowed_cidrs else None
        self.register_outputs({})

    def _api_key(self, namespace: str, key: pulumi.Output[str]) -> pulumi.Output[str]:
        secret = k8s.core.v1.Secret(
            f"{self.pulumi_resource_name}-api-key",
            metadata={"namespace": namespace},
            string_data={API_KEY_VARIABLE: key},
            # Another key so makes another Secret, with another name: the group rolls over to it, and then the old one
            # is deleted. In one that changed in place the pods would not see the change.
            immutable=True,
            opts=pulumi.ResourceOptions(parent=self),
        )
        return secret.metadata["name"]

    def _service_account(self, args: AccessArgs, pods: PodSecuritySettings) -> pulumi.Output[str]:
        account = k8s.core.v1.ServiceAccount(
            f"{self.pulumi_resource_name}-engine",
            metadata={"name": args.inference.name, "namespace": args.namespace},
            automount_service_account_token=False,
            image_pull_secrets=[{"name": name} for name in pods.image_pull_secrets],
            opts=pulumi.ResourceOptions(parent=self),
        )
        return account.metadata["name"]

    def _network_policies(self, args: AccessArgs, policy: NetworkPolicySettings) -> None:
        group = args.inference.name
        leaders = clients_only(
            group, policy.clients, port=args.inference.engine.port, service=args.service, verified=args.verified
        )
        self._network_policy("members", f"{group}-members", args.namespace, members_only(group))
        self._network_policy("clients", f"{group}-clients", args.namespace, leaders)

    def _network_policy(
        self, resource: str, name: str, namespace: str, spec: k8s.networking.v1.NetworkPolicySpecArgsDict
    ) -> None:
        k8s.networking.v1.NetworkPolicy(
            f"{self.pulumi_resource_name}-{resource}",
            metadata={"name": name, "namespace": namespace},
            spec=spec,
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _acl(self, cidrs: tuple[str, ...]) -> pulumi.Output[str]:
        name = self.pulumi_resource_name
        acl = alicloud.slb.Acl(
            f"{name}-clients",
            name=cloud_name(name, CLIENTS),
            ip_version="ipv4",
            opts=pulumi.ResourceOptions(parent=self),
        )
        entries = [
            alicloud.slb.AclEntryAttachment(
                f"{name}-client-{cidr}", acl_id=acl.id, entry=cidr, opts=pulumi.ResourceOptions(parent=self)
            )
            for cidr in cidrs
        ]
        # Known only with its entries: a listener with an empty list admits everybody
        # (https://alibabacloud.com/help/doc-detail/85979.htm).
        return pulumi.Output.all(acl.id, *(entry.id for entry in entries)).apply(lambda ids: str(ids[0]))
