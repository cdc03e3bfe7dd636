"""Addresses of Services and pods, and the API key that clients from outside the cluster need."""

from collections.abc import Iterator, Sequence

from deepseek_acs.planner.findings import Finding
from policy.checks.engine_options import middleware
from policy.checks.routes import ROUTES
from policy.pods import GROUP, leader, pods
from policy.resources import UNKNOWN, Resource, Violation, could_be, items, mapping, of_kind, secret_values, text

LOAD_BALANCER = "service.beta.kubernetes.io/alibaba-cloud-loadbalancer"
"""Prefix of the annotations of a load balancer (https://github.com/kubernetes/cloud-provider-alibaba-cloud)."""

ADDRESS_TYPE = f"{LOAD_BALANCER}-address-type"
"""Without the value ``intranet`` a load balancer gets a public address."""

LOAD_BALANCER_ID = f"{LOAD_BALANCER}-id"
"""An existing load balancer, whose address no other annotation changes."""

ACL = f"{LOAD_BALANCER}-acl"
PROTOCOLS = f"{LOAD_BALANCER}-protocol-port"
"""Listeners by protocol and port, for example ``https:443``."""

EIP_PREFIXES = ("network.alibabacloud.com/", "k8s.aliyun.com/")
"""Of annotations that give a pod an elastic IP address
(https://www.alibabacloud.com/help/en/cs/user-guide/notes-on-mounting-an-independent-public-network-eip-for-a)."""

EIP_SWITCHES = ("pod-with-eip", "eci-with-eip")
EIP_INSTANCES = ("eip-instance-id", "pod-eip-instanceid", "eci-eip-instanceid")

API_KEY_VARIABLE = "VLLM_API_KEY"
"""https://docs.vllm.ai/en/stable/configuration/env_vars.html"""

TLS_OPTION = "--ssl-certfile"
"""https://docs.vllm.ai/en/stable/cli/serve/"""


def public_service(resource: Resource, *, allowed_load_balancers: Sequence[str]) -> Iterator[Finding]:
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
    if spec.get("type") == "LoadBalancer" and not could_be(resource.annotations.get(ADDRESS_TYPE), "intranet"):
        yield Finding(
            path=f"metadata.annotations[{ADDRESS_TYPE}]",
            problem="the load balancer gets a public address",
            fix="write intranet",
        )
    existing = resource.annotations.get(LOAD_BALANCER_ID)
    if existing is not None and existing is not UNKNOWN and existing not in allowed_load_balancers:
        yield Finding(
            path=f"metadata.annotations[{LOAD_BALANCER_ID}]",
            problem=f"whether the existing load balancer {text(existing)} has a public address cannot be seen",
            fix="let the Service have a load balancer of its own, or add the ID to the option allowedLoadBalancers",
        )
    if spec.get("externalIPs"):
        yield Finding(
            path="spec.externalIPs",
            problem="the Service sets externalIPs, which no controller verifies",
            fix="remove them, and use a load balancer with a private address",
        )


def unlisted_clients(resource: Resource) -> Iterator[Finding]:
    """A load balancer that every address of the VPC may use, and of what is connected with it."""
    if resource.kind != "Service" or resource.spec.get("type") != "LoadBalancer":
        return
    expected = {f"{ACL}-status": "on", f"{ACL}-type": "white"}
    given = resource.annotations
    if not given.get(f"{ACL}-id") or not all(could_be(given.get(key), value) for key, value in expected.items()):
        yield Finding(
            path=f"metadata.annotations[{ACL}-id]",
            problem="without an access control list every address of the VPC reaches the engine",
            fix="set deployment.service.allowedCidrs",
        )


def public_pod(resource: Resource, *, allowed_containers: Sequence[str]) -> Iterator[Finding]:
    """A pod with a public address. One that only moves weights may have one: it listens on no port."""
    for pod in pods(resource):
        containers = [container for _, container in pod.containers()]
        is_client = all(one.get("name") in allowed_containers and not one.get("ports") for one in containers)
        for key, value in pod.annotations.items():
            if _is_public(key, value) and not (containers and is_client):
                yield Finding(
                    path=f"{pod.path}.metadata.annotations[{key}]".lstrip("."),
                    problem="the pod gets a public address",
                    fix="remove the annotation, and use a NAT gateway for what the pod has to download",
                )


def _is_public(key: str, value: object) -> bool:
    if not key.startswith(EIP_PREFIXES):
        return False
    name = key.partition("/")[2]
    return (name in EIP_SWITCHES and value not in ("false", UNKNOWN)) or (name in EIP_INSTANCES and bool(value))


def keyless_entry(stack: Sequence[Resource]) -> Iterator[Violation]:
    """Access from outside the cluster to an engine that asks for no key."""
    for entry in entries(stack):
        for group in of_kind(stack, GROUP):
            problem = _missing_key(group, stack) if could_be(group.namespace, entry.namespace) else None
            if problem:
                finding = Finding(
                    path="",
                    problem=f"it admits clients from outside the cluster, but the engine of {group.title} requires no "
                    f"API key ({problem})",
                    fix="set deployment.service.apiKey: true and the secret deepseek:apiKey, or use a ClusterIP "
                    "Service without a route",
                )
                yield Violation(resource=entry, finding=finding)


def unfiltered_entry(stack: Sequence[Resource], *, request_filters: Sequence[str]) -> Iterator[Violation]:
    """Access from outside the cluster to an engine that checks the API key by itself, which it does for some paths
    only, and before 0.22 not even for those."""
    for entry in entries(stack):
        for group in of_kind(stack, GROUP):
            pod = leader(group) if could_be(group.namespace, entry.namespace) else None
            if pod is not None and not middleware(pod) & {*request_filters}:
                finding = Finding(
                    path="",
                    problem=f"it admits clients from outside the cluster, and no request filter is in front of the "
                    f"engine of {group.title}: /invocations and more answer without the API key",
                    fix="remove deployment.service.requestFilter: null, or add your own filter to the option "
                    "requestFilters",
                )
                yield Violation(resource=entry, finding=finding)


def entries(stack: Sequence[Resource]) -> list[Resource]:
    """What lets clients in from outside the cluster."""
    services = of_kind(stack, "Service")
    return [*of_kind(stack, *ROUTES), *(s for s in services if s.spec.get("type") in ("LoadBalancer", "NodePort"))]


def _missing_key(group: Resource, stack: Sequence[Resource]) -> str | None:
    """Why the leaders ask for no key; None if they do."""
    pod = leader(group)
    containers = [container for _, container in pod.containers()] if pod else []
    if any(container.get("env") is UNKNOWN for container in containers):
        return None
    variables = [mapping(one) for container in containers for one in items(container.get("env"))]
    # Of a variable that is listed twice, the last one counts.
    given = [one for one in variables if could_be(one.get("name"), API_KEY_VARIABLE)][-1:]
    if not given:
        return f"{API_KEY_VARIABLE} is not set"
    source, value = mapping(given[0].get("valueFrom")).get("secretKeyRef"), given[0].get("value")
    if source is None:
        return None if value else f"{API_KEY_VARIABLE} is empty"
    reference = mapping(source)
    if reference.get("optional") is True:
        return f"{API_KEY_VARIABLE} is optional, and the engine starts without it"
    for secret in of_kind(stack, "Secret"):
        is_meant = secret.metadata.get("name") == reference.get("name") is not None
        values = dict(secret_values(secret))
        if is_meant and values.get(text(reference.get("key"))) == "" and not _is_unknown(secret, reference.get("key")):
            return f"{API_KEY_VARIABLE} is empty in the Secret {secret.title}"
    return None


def _is_unknown(secret: Resource, key: object) -> bool:
    fields = (secret.properties.get(name) for name in ("stringData", "data"))
    return any(field is UNKNOWN or mapping(field).get(text(key)) is UNKNOWN for field in fields)


def plain_load_balancer(stack: Sequence[Resource]) -> Iterator[Violation]:
    """A load balancer that passes the API key on in plain HTTP."""
    for service in of_kind(stack, "Service"):
        for group in of_kind(stack, GROUP):
            is_entry = service.spec.get("type") == "LoadBalancer" and could_be(service.namespace, group.namespace)
            if is_entry and not (_has_tls_listeners(service) or _has_tls(group)):
                finding = Finding(
                    path="spec.type",
                    problem="clients send the API key and all prompts through the network in plain HTTP",
                    fix="use a route with TLS (deployment.service.route) and kind: clusterIP",
                )
                yield Violation(resource=service, finding=finding)


def _has_tls_listeners(service: Resource) -> bool:
    """Whether all ports are listeners with TLS of the load balancer."""
    listeners = service.annotations.get(PROTOCOLS)
    ports = {str(mapping(port).get("port")) for port in items(service.spec.get("ports"))}
    pairs = [entry.partition(":") for entry in text(listeners).replace(" ", "").split(",")]
    encrypted = {port for protocol, _, port in pairs if protocol in ("https", "tcpssl")}
    return listeners is UNKNOWN or (bool(ports) and ports <= encrypted)


def _has_tls(group: Resource) -> bool:
    pod = leader(group)
    return pod is not None and any(
        TLS_OPTION in text(argument)
        for _, container in pod.containers()
        for argument in [*items(container.get("command")), *items(container.get("args"))]
    )
