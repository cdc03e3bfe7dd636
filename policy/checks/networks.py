"""Which networks and pods reach the engine: the content of NetworkPolicies and of access control lists."""

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from deepseek_acs.planner.findings import Finding
from policy.label_selectors import selects
from policy.pods import GROUP, pods, running_labels
from policy.resources import UNKNOWN, Resource, Violation, could_be, is_local, items, mapping, of_kind, text

SECURITY_GROUPS = "network.alibabacloud.com/security-group-ids"
"""Of a pod on ACS, instead of the cluster's security group
(https://www.alibabacloud.com/help/en/cs/user-guide/pod-annotation-function-description)."""

ACL = "alicloud:slb/acl:Acl"
ACL_ENTRY = "alicloud:slb/aclEntryAttachment:AclEntryAttachment"

NAME_THE_CLIENTS = (
    "name the clients: labels of their pods, the name of their namespace, or a network as narrow as theirs"
)


def wide_peers(
    resource: Resource, *, min_prefix_length: int, min_prefix_length_ipv6: int, allowed_networks: Sequence[str]
) -> Iterator[Finding]:
    """A NetworkPolicy that admits more than named clients."""
    if resource.kind != "NetworkPolicy" or not restricts_ingress(resource):
        return
    for index, rule in enumerate(items(resource.spec.get("ingress"))):
        path, peers = f"spec.ingress[{index}]", mapping(rule).get("from")
        if UNKNOWN in (rule, peers):
            continue
        if not items(peers):
            yield Finding(path=path, problem="a rule without from admits every client", fix=NAME_THE_CLIENTS)
        for number, peer in enumerate(map(mapping, items(peers))):
            where = f"{path}.from[{number}]"
            if peer.get("ipBlock") is not None:
                cidr = mapping(peer.get("ipBlock")).get("cidr")
                problem = _wide_network(cidr, min_prefix_length, min_prefix_length_ipv6, allowed_networks)
                if problem:
                    yield Finding(path=f"{where}.ipBlock.cidr", problem=problem, fix=NAME_THE_CLIENTS)
            else:
                yield from _wide_selectors(peer, where)
        if any("ipBlock" in one or "namespaceSelector" in one for one in map(mapping, items(peers))):
            yield from _wide_ports(mapping(rule), path)


def _wide_selectors(peer: Mapping[str, Any], path: str) -> Iterator[Finding]:
    """A peer without ``namespaceSelector`` means pods of the policy's own namespace."""
    if "namespaceSelector" not in peer:
        if "podSelector" not in peer:
            yield Finding(path=path, problem="an empty peer selects nothing in particular", fix=NAME_THE_CLIENTS)
    elif not _names(peer["namespaceSelector"]):
        yield Finding(
            path=f"{path}.namespaceSelector", problem="it selects every namespace of the cluster", fix=NAME_THE_CLIENTS
        )


def _names(selector: Any) -> bool:
    """Whether a selector asks for a value. ``Exists`` and the negations select more than they name; every
    namespace has the label ``kubernetes.io/metadata.name``."""
    if selector is UNKNOWN or mapping(selector).get("matchLabels"):
        return True
    expressions = mapping(selector).get("matchExpressions")
    return expressions is UNKNOWN or any(
        one is UNKNOWN or (mapping(one).get("operator") == "In" and mapping(one).get("values"))
        for one in items(expressions)
    )


def _wide_ports(rule: Mapping[str, Any], path: str) -> Iterator[Finding]:
    """Ray, ``torch.distributed`` and NCCL ask for no password, on ports of their own choice."""
    fix = "name the port of the engine's API"
    ports = rule.get("ports")
    if ports is UNKNOWN:
        return
    if not items(ports):
        yield Finding(path=f"{path}.ports", problem="clients from outside the group reach every port", fix=fix)
    for number, port in enumerate(map(mapping, items(ports))):
        if port.get("port") is None or port.get("endPort", port["port"]) != port["port"]:
            yield Finding(
                path=f"{path}.ports[{number}]", problem="clients from outside the group reach a range of ports", fix=fix
            )


def wide_client_lists(
    resource: Resource, *, min_prefix_length: int, min_prefix_length_ipv6: int, allowed_networks: Sequence[str]
) -> Iterator[Finding]:
    """An entry of a load balancer's access control list that is wider than a network of clients."""
    entries: list[tuple[str, Any]] = []
    if resource.type == ACL_ENTRY:
        entries = [("entry", resource.properties.get("entry"))]
    elif resource.type == ACL:
        listed = items(resource.properties.get("entryLists"))
        entries = [(f"entryLists[{i}].entry", mapping(one).get("entry")) for i, one in enumerate(listed)]
    for path, entry in entries:
        problem = _wide_network(entry, min_prefix_length, min_prefix_length_ipv6, allowed_networks)
        if problem:
            yield Finding(path=path, problem=problem, fix="write the networks of the clients in service.allowedCidrs")


def _wide_network(cidr: Any, shortest: int, shortest_ipv6: int, allowed: Sequence[str]) -> str | None:
    if cidr is UNKNOWN:
        return None
    try:
        network = ipaddress.ip_network(text(cidr), strict=False)
    except ValueError:
        return f"{text(cidr) or 'an empty string'} is not a network"
    if any(_is_within(network, ipaddress.ip_network(one)) for one in allowed):
        return None
    limit = shortest if network.version == 4 else shortest_ipv6
    if network.prefixlen >= limit:
        return None
    count = f"{network.num_addresses:,}" if network.version == 4 else f"2^{128 - network.prefixlen}"
    return f"{network} has {count} addresses; the widest accepted network is a /{limit}"


def _is_within(network: Any, other: Any) -> bool:
    return network.version == other.version and bool(network.subnet_of(other))


def restricts_ingress(policy: Resource) -> bool:
    """Whether a NetworkPolicy is about incoming traffic, as it is where no types are given."""
    types = policy.spec.get("policyTypes")
    return types is None or types is UNKNOWN or "Ingress" in types


def open_group(stack: Sequence[Resource], *, exempt_stacks: Sequence[str]) -> Iterator[Violation]:
    """A group with pods that every pod of the cluster can reach: Ray's and torch's ports ask for no password. A local
    stack has no neighbours."""
    if is_local(stack):
        return
    policies = [policy for policy in of_kind(stack, "NetworkPolicy") if restricts_ingress(policy)]
    for group in of_kind(stack, GROUP):
        if group.stack in exempt_stacks:
            continue
        near = [policy for policy in policies if could_be(policy.namespace, group.namespace)]
        for pod in pods(group):
            labels = running_labels(group, pod)
            own = [policy for policy in near if selects(policy.spec.get("podSelector"), labels)]
            yield from _whole_namespace(own)
            if not own and not pod.annotations.get(SECURITY_GROUPS):
                finding = Finding(
                    path=pod.path,
                    problem="neither a NetworkPolicy of the stack nor a security group limits access to these pods",
                    fix="set deployment.security.networkPolicy with the clients, or deployment.security.securityGroups",
                )
                yield Violation(resource=group, finding=finding)


def _whole_namespace(policies: Sequence[Resource]) -> Iterator[Violation]:
    """Policies of the engine's pods that admit every pod of the namespace, with those that move or cache weights."""
    for policy in policies:
        for index, rule in enumerate(map(mapping, items(policy.spec.get("ingress")))):
            for number, peer in enumerate(map(mapping, items(rule.get("from")))):
                is_own = "podSelector" in peer and "namespaceSelector" not in peer
                if is_own and not _names(peer["podSelector"]):
                    finding = Finding(
                        path=f"spec.ingress[{index}].from[{number}].podSelector",
                        problem="it lets every pod of the namespace reach the engine",
                        fix=NAME_THE_CLIENTS,
                    )
                    yield Violation(resource=policy, finding=finding)
