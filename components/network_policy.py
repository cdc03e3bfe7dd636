"""Network policies of the inference group: who may reach the leaders, and who may reach the members.

Ray, ``torch.distributed`` and NCCL have no authentication and listen on random ports, so members admit each other on
all ports, and no one else on any (https://docs.vllm.ai/en/stable/usage/security/). What goes out is limited by what is
closed, and not by what is open: the addresses of OSS, DNS and the cache's pods are not all known beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pulumi_kubernetes as k8s

NAMESPACE_NAME = "kubernetes.io/metadata.name"
"""Label that every namespace has
(https://kubernetes.io/docs/reference/labels-annotations-taints/#kubernetes-io-metadata-name)."""

GROUP_NAME = "leaderworkerset.sigs.k8s.io/name"
"""Label of all pods of a LeaderWorkerSet. The label of a single group (``group-key``) has values that are not known in
advance, so the groups of one set admit each other
(https://github.com/kubernetes-sigs/lws/blob/main/api/leaderworkerset/v1/leaderworkerset_types.go)."""

VERIFICATION = {"app.kubernetes.io/component": "verification"}
"""Labels of the pods that verify the endpoint."""

INCIDENTS = {"app.kubernetes.io/name": "incidents"}
"""Labels of the pods that keep evidence of incidents, and read the leaders' metrics."""

HEALTH_CHECKS = "100.64.0.0/10"
"""Source addresses of the health checks of a Classic Load Balancer, which Alibaba Cloud assigns to no one else
(https://help.aliyun.com/en/slb/classic-load-balancer/user-guide/health-check-overview/)."""


METADATA = ("169.254.0.0/16", "100.100.100.200/32")
"""Link-local addresses, by which nodes and clouds serve metadata, and those of Alibaba Cloud
(https://www.alibabacloud.com/help/en/ecs/user-guide/view-instance-metadata)."""

NODE_LOCAL_DNS = "169.254.20.10/32"
"""NodeLocal DNSCache, the one link-local address that pods need
(https://kubernetes.io/docs/tasks/administer-cluster/nodelocaldns/)."""

CACHE_LABELS = {"app.kubernetes.io/name": "jindo", "app.kubernetes.io/component": "cache"}
"""Labels of the pods that hold the cache."""

PROGRAMS = ("modelmover", "preload", "verifier", "vllm-bench", "costguard", "canaryguard", "incidents", "gate")
"""``app.kubernetes.io/name`` of the pods of the program's own programs, which serve nothing."""


@dataclass(frozen=True, kw_only=True)
class Client:
    """A client of the leaders: a network, or pods of a namespace, by default the group's own. Without labels, all pods
    of the namespace."""

    cidr: str | None = None
    namespace: str | None = None
    pod_labels: Mapping[str, str] = field(default_factory=dict)


def members_only(group: str) -> k8s.networking.v1.NetworkPolicySpecArgsDict:
    """Spec of the policy of all pods: they admit each other, on all ports. There is no port range, which the network
    policies of Alibaba Cloud do not support."""
    return {
        "pod_selector": {"match_labels": {GROUP_NAME: group}},
        "policy_types": ["Ingress"],
        "ingress": [{"from_": [{"pod_selector": {"match_labels": {GROUP_NAME: group}}}]}],
    }


def closed_to(
    selector: k8s.meta.v1.LabelSelectorArgsDict, closed: Sequence[str], *, accepts_nothing: bool = False
) -> k8s.networking.v1.NetworkPolicySpecArgsDict:
    """Spec of a policy for what goes out: everything but the networks ``closed`` and the metadata of the cloud. With
    ``accepts_nothing`` nothing comes in, either.

    Pods are a peer of their own: some implementations take no pod for one of an address range
    (https://docs.cilium.io/en/stable/network/kubernetes/policy/).
    """
    everywhere: k8s.networking.v1.NetworkPolicyPeerArgsDict = {
        "ip_block": {"cidr": "0.0.0.0/0", "except_": [*METADATA, *closed]}
    }
    dns: k8s.networking.v1.NetworkPolicyEgressRuleArgsDict = {
        "to": [{"ip_block": {"cidr": NODE_LOCAL_DNS}}],
        "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
    }
    return {
        "pod_selector": selector,
        "policy_types": ["Ingress", "Egress"] if accepts_nothing else ["Egress"],
        "egress": [{"to": [{"namespace_selector": {}}, everywhere]}, dns],
    }


def cache_only() -> k8s.networking.v1.NetworkPolicySpecArgsDict:
    """Spec of the policy of the cache's pods: those of the namespace reach them, its clients among them."""
    return {
        "pod_selector": {"match_labels": CACHE_LABELS},
        "policy_types": ["Ingress"],
        "ingress": [{"from_": [{"pod_selector": {}}]}],
    }


def clients_only(group: str, clients: Sequence[Client], *, port: int) -> k8s.networking.v1.NetworkPolicySpecArgsDict:
    """Spec of the policy of the leaders: clients may reach their HTTP port."""
    rule: k8s.networking.v1.NetworkPolicyIngressRuleArgsDict = {
        "from_": [_peer(client) for client in clients],
        "ports": [{"protocol": "TCP", "port": port}],
    }
    return {
        "pod_selector": {"match_labels": {GROUP_NAME: group, "role": "leader"}},
        "policy_types": ["Ingress"],
        "ingress": [rule],
    }


def picker_only(
    labels: Mapping[str, str], clients: Sequence[Client], *, ports: Sequence[int]
) -> k8s.networking.v1.NetworkPolicySpecArgsDict:
    """Spec of the policy of the endpoint picker: clients may reach its ports, and it reaches everything but the
    metadata of the cloud."""
    selector: k8s.meta.v1.LabelSelectorArgsDict = {"match_labels": labels}
    rule: k8s.networking.v1.NetworkPolicyIngressRuleArgsDict = {
        "from_": [_peer(client) for client in clients],
        "ports": [{"protocol": "TCP", "port": port} for port in ports],
    }
    return {**closed_to(selector, ()), "policy_types": ["Ingress", "Egress"], "ingress": [rule]}


def _peer(client: Client) -> k8s.networking.v1.NetworkPolicyPeerArgsDict:
    if client.cidr is not None:
        return {"ip_block": {"cidr": client.cidr}}
    peer: k8s.networking.v1.NetworkPolicyPeerArgsDict = {}
    if client.namespace is not None:
        peer["namespace_selector"] = {"match_labels": {NAMESPACE_NAME: client.namespace}}
    if client.pod_labels:
        peer["pod_selector"] = {"match_labels": dict(client.pod_labels)}
    return peer
