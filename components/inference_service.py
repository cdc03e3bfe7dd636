"""The Service in front of the leaders only: workers answer no requests."""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

from deepseek_acs.planner.shutdown import load_balancer_seconds

ADDRESS_TYPE = "service.beta.kubernetes.io/alibaba-cloud-loadbalancer-address-type"
"""``intranet`` must be explicit: Alibaba Cloud's default is a public address
(https://github.com/kubernetes/cloud-provider-alibaba-cloud)."""

ACL = "service.beta.kubernetes.io/alibaba-cloud-loadbalancer-acl"
"""Prefix of the annotations of an access control list. The cloud controller reads no ``loadBalancerSourceRanges``
(https://github.com/kubernetes/cloud-provider-alibaba-cloud/blob/master/pkg/controller/service/reconcile/annotation/annotations.go,
https://www.alibabacloud.com/help/en/cs/add-annotations-to-the-yaml-file-of-a-service-to-configure-clb-instances)."""

DRAIN = "service.beta.kubernetes.io/alibaba-cloud-loadbalancer-connection-drain"
"""Without it, the load balancer cuts connections to a pod as soon as the pod gets SIGTERM
(https://www.alibabacloud.com/help/en/cs/add-annotations-to-the-yaml-file-of-a-service-to-configure-clb-instances)."""


@dataclass(frozen=True, kw_only=True)
class InferenceServiceArgs:
    """``name`` is that of the Service, ``port`` its port and ``target_port`` the leader's. ``internal_load_balancer``
    gives it an address in the VPC: ``acl_id`` is the list of networks that may use it (None admits all),
    ``request_seconds`` the time that requests to a terminating pod may still take (None: the load balancer's
    default)."""

    namespace: pulumi.Input[str]
    name: pulumi.Input[str]
    selector: Mapping[str, pulumi.Input[str]]
    port: int = 8000
    target_port: int = 8000
    internal_load_balancer: bool = False
    acl_id: pulumi.Input[str] | None = None
    request_seconds: int | None = None


class InferenceService(pulumi.ComponentResource):
    """A ClusterIP Service, or an internal load balancer."""

    name: pulumi.Output[str]
    dns_name: pulumi.Output[str]
    """DNS name for pods of the cluster."""

    def __init__(self, name: str, args: InferenceServiceArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("deepseek:inference:InferenceService", name, None, opts)
        service = self._service(name, args)
        self.name = service.metadata["name"]
        self.dns_name = pulumi.Output.format("{0}.{1}.svc.cluster.local", self.name, args.namespace)
        self.register_outputs({"name": self.name, "dnsName": self.dns_name})

    def _service(self, name: str, args: InferenceServiceArgs) -> k8s.core.v1.Service:
        # The group is awaited already. Pulumi's own check of the endpoints would fail a later update after ten minutes
        # if a leader is loading.
        annotations: dict[str, pulumi.Input[str]] = {"pulumi.com/skipAwait": "true"}
        spec: k8s.core.v1.ServiceSpecArgsDict = {
            "type": "ClusterIP",
            "selector": args.selector,
            "ports": [
                {"name": "http", "port": args.port, "protocol": "TCP", "target_port": args.target_port},
            ],
        }
        if args.internal_load_balancer:
            # Awaited, because the user needs its address.
            annotations = {ADDRESS_TYPE: "intranet"}
            if args.acl_id is not None:
                annotations |= {f"{ACL}-status": "on", f"{ACL}-id": args.acl_id, f"{ACL}-type": "white"}
            if args.request_seconds is not None:
                annotations |= {DRAIN: "on", f"{DRAIN}-timeout": str(load_balancer_seconds(args.request_seconds))}
            spec["type"] = "LoadBalancer"
            # ACS rejects node ports.
            spec["allocate_load_balancer_node_ports"] = False
        return k8s.core.v1.Service(
            f"{name}-leaders",
            metadata={"name": args.name, "namespace": args.namespace, "annotations": annotations},
            spec=spec,
            opts=pulumi.ResourceOptions(parent=self),
        )
