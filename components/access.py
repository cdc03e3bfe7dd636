"""What must exist before the group so that only the right ones reach it: the clients' keys, the pods' identity, network
policies, and the load balancer's access control list. Each is there only where it is asked for.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

import pulumi
import pulumi_alicloud as alicloud
import pulumi_kubernetes as k8s

from deepseek_acs.planner.spec import of_revision

from .group_access import API_KEY_VARIABLE, RAY_TOKEN_VARIABLE
from .names import CLIENTS, cloud_name
from .network_policy import GROUP_NAME, PROGRAMS, Client, cache_only, clients_only, closed_to, members_only
from .request_filter import METRICS_KEY, client_key


@dataclass(frozen=True, kw_only=True)
class AccessArgs:
    """``group`` is the name of the LeaderWorkerSet without its revision, and ``ports`` has the port of the leaders of
    each revision. ``api_key`` is a secret, None
    where clients need none, and ``client_keys`` are secrets by the names of further clients. With
    ``has_service_account`` the pods get one that pulls with ``image_pull_secrets``; with ``clients`` only these reach
    the leaders, and only pods of the namespace the cache, if it ``has_cache``; with ``closed_cidrs`` no pod reaches
    these, nor the metadata of the cloud; with ``allowed_cidrs`` only these use the load balancer."""

    namespace: pulumi.Input[str]
    group: str
    ports: Mapping[str, int] = field(default_factory=lambda: {"": 8000})
    api_key: pulumi.Input[str] | None = None
    client_keys: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    ray_token: pulumi.Input[str] | None = None
    has_service_account: bool = False
    image_pull_secrets: tuple[str, ...] = ()
    clients: tuple[Client, ...] = ()
    closed_cidrs: tuple[str, ...] | None = None
    has_cache: bool = False
    allowed_cidrs: tuple[str, ...] = ()


class Access(pulumi.ComponentResource):
    """Secret, ServiceAccount, NetworkPolicies and access control list; it needs the providers of cluster and cloud."""

    api_key_secret: pulumi.Output[str] | None
    """Name of the Secret with all keys: the stack's, the clients', and one for ``/metrics`` alone."""

    ray_token_secret: pulumi.Output[str] | None
    """Name of the Secret with the token of the members' Ray processes."""

    service_account: pulumi.Output[str] | None
    """Name of the pods' service account."""

    acl_id: pulumi.Output[str] | None
    """ID of the access control list; None where all of the VPC may use the load balancer."""

    def __init__(self, name: str, args: AccessArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("deepseek:access:Access", name, None, opts)
        self.api_key_secret = self._api_keys(args, args.api_key) if args.api_key is not None else None
        self.ray_token_secret = self._ray_token(args, args.ray_token) if args.ray_token is not None else None
        self.service_account = self._service_account(args) if args.has_service_account else None
        if args.clients:
            self._network_policies(args)
        self.acl_id = self._acl(args.allowed_cidrs) if args.allowed_cidrs else None
        self.register_outputs(
            {
                "apiKeySecret": self.api_key_secret,
                "rayTokenSecret": self.ray_token_secret,
                "serviceAccount": self.service_account,
                "aclId": self.acl_id,
            }
        )

    def _api_keys(self, args: AccessArgs, key: pulumi.Input[str]) -> pulumi.Output[str]:
        keys = {
            API_KEY_VARIABLE: key,
            METRICS_KEY: pulumi.Output.from_input(key).apply(metrics_key),
            **{client_key(name): value for name, value in args.client_keys.items()},
        }
        return self._secret("api-key", args.namespace, keys)

    def _ray_token(self, args: AccessArgs, token: pulumi.Input[str]) -> pulumi.Output[str]:
        return self._secret("ray-token", args.namespace, {RAY_TOKEN_VARIABLE: token})

    def _secret(
        self, name: str, namespace: pulumi.Input[str], values: Mapping[str, pulumi.Input[str]]
    ) -> pulumi.Output[str]:
        secret = k8s.core.v1.Secret(
            f"{self.pulumi_resource_name}-{name}",
            metadata={"namespace": namespace},
            string_data=values,
            # Another value makes another Secret, with another name: the group rolls over to it, and then the old one
            # is deleted. In one that changed in place the pods would not see the change.
            immutable=True,
            opts=pulumi.ResourceOptions(parent=self),
        )
        return secret.metadata["name"]

    def _service_account(self, args: AccessArgs) -> pulumi.Output[str]:
        account = k8s.core.v1.ServiceAccount(
            f"{self.pulumi_resource_name}-engine",
            metadata={"name": args.group, "namespace": args.namespace},
            automount_service_account_token=False,
            image_pull_secrets=[{"name": name} for name in args.image_pull_secrets],
            opts=pulumi.ResourceOptions(parent=self),
        )
        return account.metadata["name"]

    def _network_policies(self, args: AccessArgs) -> None:
        for revision, port in args.ports.items():
            self._group_policies(args, revision, port)
        jobs: k8s.meta.v1.LabelSelectorArgsDict = {
            "match_expressions": [{"key": "app.kubernetes.io/name", "operator": "In", "values": list(PROGRAMS)}]
        }
        if args.closed_cidrs is not None:
            # Without the user's list: one of them asks the API server.
            self._network_policy(
                "jobs", f"{args.group}-jobs", args.namespace, closed_to(jobs, (), accepts_nothing=True)
            )
        if args.has_cache:
            self._network_policy("cache", f"{args.group}-cache", args.namespace, cache_only())

    def _group_policies(self, args: AccessArgs, revision: str, port: int) -> None:
        name = of_revision(args.group, revision)
        group: k8s.meta.v1.LabelSelectorArgsDict = {"match_labels": {GROUP_NAME: name}}
        policies = {"members": members_only(name), "clients": clients_only(name, args.clients, port=port)}
        if args.closed_cidrs is not None:
            policies["egress"] = closed_to(group, args.closed_cidrs)
        for kind, policy in policies.items():
            self._network_policy(of_revision(kind, revision), f"{name}-{kind}", args.namespace, policy)

    def _network_policy(
        self, resource: str, name: str, namespace: pulumi.Input[str], spec: k8s.networking.v1.NetworkPolicySpecArgsDict
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
        # Known only with its entries: a listener with an empty list admits every client
        # (https://alibabacloud.com/help/doc-detail/85979.htm).
        return pulumi.Output.all(acl.id, *(entry.id for entry in entries)).apply(lambda ids: str(ids[0]))


def metrics_key(key: str) -> str:
    """What Prometheus sends: it follows from the stack's key, which does not follow from it, and needs no secret of its
    own in the stack file."""
    return hmac.new(key.encode(), METRICS_KEY.encode(), hashlib.sha256).hexdigest()
