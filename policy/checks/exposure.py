"""Who can reach the engine: Services, routes, their TLS, the API key, and network policies in the cluster."""

from collections.abc import Iterator, Sequence
from typing import Any

from deepseek_acs.planner.findings import Finding
from policy.label_selectors import selects
from policy.pods import GROUP, leader, pods, running_labels
from policy.resources import UNKNOWN, Resource, Violation, could_be, items, mapping, of_kind, text

ADDRESS_TYPE = "service.beta.kubernetes.io/alibaba-cloud-loadbalancer-address-type"
"""Without the value ``intranet`` a load balancer gets a public address
(https://github.com/kubernetes/cloud-provider-alibaba-cloud)."""

API_KEY_VARIABLE = "VLLM_API_KEY"
"""https://docs.vllm.ai/en/stable/configuration/env_vars.html"""

TLS_OPTION = "--ssl-certfile"
"""https://docs.vllm.ai/en/stable/cli/serve/"""

SECURITY_GROUPS = "network.alibabacloud.com/security-group-ids"
"""Of a pod on ACS, instead of the cluster's security group
(https://www.alibabacloud.com/help/en/cs/user-guide/pod-annotation-function-description)."""

ROUTES = ("Ingress", "HTTPRoute")


def public_service(resource: Resource) -> Iterator[Finding]:
    """A Service with an address outside the private network."""
    if resource.kind != "Service":
        return
    spec = resource.spec
    if spec.get("type") == "NodePort":
        yield Finding(
            path="spec.type",
            problem="NodePort opens the Service on every node",
            fix="write ClusterIP, or LoadBalancer with a private address",
        )
    address_type = mapping(resource.metadata.get("annotations")).get(ADDRESS_TYPE)
    if spec.get("type") == "LoadBalancer" and not could_be(address_type, "intranet"):
        yield Finding(
            path=f"metadata.annotations[{ADDRESS_TYPE}]",
            problem="the load balancer gets a public address",
            fix="write intranet",
        )
    if spec.get("externalIPs"):
        yield Finding(
            path="spec.externalIPs",
            problem="the Service sets externalIPs, which no controller verifies",
            fix="remove them, and use a load balancer with a private address",
        )


def keyless_entry(stack: Sequence[Resource]) -> Iterator[Violation]:
    """Access from outside the cluster to an engine that requires no API key."""
    for entry in _entries(stack):
        for group in of_kind(stack, GROUP):
            if could_be(group.namespace, entry.namespace) and not _has_key(group):
                finding = Finding(
                    path="",
                    problem=f"it admits clients from outside the cluster, but the engine of {group.title} requires no "
                    f"API key ({API_KEY_VARIABLE} is not set)",
                    fix="set deployment.service.apiKey: true and the secret deepseek:apiKey, or use a ClusterIP "
                    "Service without a route",
                )
                yield Violation(resource=entry, finding=finding)


def _entries(stack: Sequence[Resource]) -> list[Resource]:
    services = of_kind(stack, "Service")
    return [*of_kind(stack, *ROUTES), *(s for s in services if s.spec.get("type") in ("LoadBalancer", "NodePort"))]


def _has_key(group: Resource) -> bool:
    pod = leader(group)
    return pod is not None and any(
        container.get("env") is UNKNOWN
        or any(could_be(mapping(one).get("name"), API_KEY_VARIABLE) for one in items(container.get("env")))
        for _, container in pod.containers()
    )


def route_without_tls(stack: Sequence[Resource]) -> Iterator[Violation]:
    """A route that answers over plain HTTP. The listeners of a Gateway outside the stack are not visible, so a route to
    such a Gateway must name its listener."""
    for ingress in of_kind(stack, "Ingress"):
        for host in _plain_hosts(ingress):
            finding = Finding(
                path="spec.tls",
                problem=f"{host or 'every host'} is served over plain HTTP, which exposes the API key on the network",
                fix="add the host, with its certificate, to an entry of spec.tls",
            )
            yield Violation(resource=ingress, finding=finding)
    for route in of_kind(stack, "HTTPRoute"):
        for index, parent in enumerate(items(route.spec.get("parentRefs"))):
            problem = _plain_parent(route, mapping(parent), stack)
            if problem:
                finding = Finding(
                    path=f"spec.parentRefs[{index}]",
                    problem=problem,
                    fix="set sectionName to a listener with protocol HTTPS",
                )
                yield Violation(resource=route, finding=finding)


def _plain_hosts(ingress: Resource) -> Iterator[str]:
    entries = [mapping(entry) for entry in items(ingress.spec.get("tls"))]
    names = {name for entry in entries for name in items(entry.get("hosts"))}
    # An entry without hosts is for all of them.
    if ingress.spec.get("tls") is UNKNOWN or any(not entry.get("hosts") for entry in entries):
        return
    for rule in items(ingress.spec.get("rules")) or [{}]:
        host = text(mapping(rule).get("host"))
        wildcard = f"*.{host.partition('.')[2]}"
        if UNKNOWN not in names and not names & {host, wildcard}:
            yield host


def _plain_parent(route: Resource, parent: Any, stack: Sequence[Resource]) -> str | None:
    """What is wrong with a Gateway that a route names as its parent."""
    section, namespace = parent.get("sectionName"), parent.get("namespace", route.namespace)
    for gateway in of_kind(stack, "Gateway"):
        if parent.get("name") == gateway.metadata.get("name") and could_be(namespace, gateway.namespace):
            listeners = map(mapping, items(gateway.spec.get("listeners")))
            used = [one for one in listeners if section is None or could_be(section, one.get("name"))]
            plain = [text(one.get("name")) for one in used if one.get("protocol") == "HTTP"]
            return f"the listener {plain[0]} of {gateway.title} is plain HTTP" if plain else None
    if section is None:
        return "without sectionName the route is attached to all listeners of the Gateway, plain HTTP included"
    return None


def plain_load_balancer(stack: Sequence[Resource]) -> Iterator[Violation]:
    """A load balancer in front of an engine that serves plain HTTP."""
    for service in of_kind(stack, "Service"):
        for group in of_kind(stack, GROUP):
            lets_in = service.spec.get("type") == "LoadBalancer" and could_be(service.namespace, group.namespace)
            if lets_in and not _has_tls(group):
                finding = Finding(
                    path="spec.type",
                    problem="clients in the private network use plain HTTP, also for the API key",
                    fix="put a route with TLS in front of the Service (deployment.service.route), or accept it for a "
                    "network that you trust",
                )
                yield Violation(resource=service, finding=finding)


def _has_tls(group: Resource) -> bool:
    pod = leader(group)
    return pod is not None and any(
        TLS_OPTION in text(argument)
        for _, container in pod.containers()
        for argument in [*items(container.get("command")), *items(container.get("args"))]
    )


def open_group(stack: Sequence[Resource], *, production_stacks: Sequence[str]) -> Iterator[Violation]:
    """A production group whose pods any pod of the cluster can reach: the ports of Ray and torch have no
    authentication."""
    policies = [policy for policy in of_kind(stack, "NetworkPolicy") if _restricts_ingress(policy)]
    for group in of_kind(stack, GROUP):
        if group.stack not in production_stacks:
            continue
        near = [policy for policy in policies if could_be(policy.namespace, group.namespace)]
        for pod in pods(group):
            labels = running_labels(group, pod)
            restricted = any(selects(policy.spec.get("podSelector"), labels) for policy in near)
            if not restricted and not pod.annotations.get(SECURITY_GROUPS):
                finding = Finding(
                    path=pod.path,
                    problem="neither a NetworkPolicy of the stack nor a security group limits access to these pods",
                    fix="set deployment.security.networkPolicy with the allowed clients, or .securityGroups",
                )
                yield Violation(resource=group, finding=finding)


def _restricts_ingress(policy: Resource) -> bool:
    # Ingress is the default if no types are given.
    types = policy.spec.get("policyTypes")
    return types is None or types is UNKNOWN or "Ingress" in types
