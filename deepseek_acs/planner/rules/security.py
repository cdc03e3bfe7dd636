"""What keeps others away from the pods, and what the pods may do."""

import ipaddress
import re
from collections.abc import Iterator

from deepseek_acs.planner.findings import Field
from deepseek_acs.planner.rules.dangerous import SECURITY
from deepseek_acs.planner.rules.rule import Problem, rule, warning
from deepseek_acs.planner.spec import ResolvedSpec
from deepseek_acs.planner.urls import is_loopback
from deepseek_acs.planner.vllm_releases.release import changed_in, text

RAY_SECURITY = "https://docs.ray.io/en/latest/ray-security/index.html"
POD_STANDARDS = "https://kubernetes.io/docs/concepts/security/pod-security-standards/"

GUIDE_SCRIPT = "/vllm-workspace/ray_init.sh"
UPSTREAM_SCRIPT = "/vllm-workspace/examples/online_serving/multi-node-serving.sh"
"""Where Ray is started in the guide's image, and in those of upstream (vllm/vllm-openai, also in a mirror)."""

WIDEST_PREFIX = 16
"""Bits of the widest network that passes for a list of clients: 65,536 addresses."""


def has_ray(spec: ResolvedSpec) -> bool:
    """Whether Ray joins several pods."""
    return spec.engine.backend == "ray" and spec.layout.pods > 1


def _is_open(spec: ResolvedSpec) -> bool:
    """Whether all of the VPC reaches Ray, as far as is known: network policies may not hold on GPU pods of ACS. What
    runs on this machine is not an ACS cluster."""
    on_acs = spec.cloud.endpoint is None or not is_loopback(spec.cloud.endpoint)
    return has_ray(spec) and on_acs and not spec.security.security_groups


def _has_outside_clients(spec: ResolvedSpec) -> bool:
    return spec.service.route is not None or spec.service.kind == "internalLoadBalancer"


def _ray_problem(spec: ResolvedSpec) -> Problem:
    newer = spec.engine.vllm.version >= changed_in("multi_node_mp")
    image = "" if newer else f" with vLLM {text(changed_in('multi_node_mp'))} or newer"
    return (
        Field.SECURITY_GROUPS,
        "Ray runs the code of all who reach its ports (CVE-2023-48022), and only a security group certainly keeps the "
        "VPC away from GPU pods of ACS",
        f"name a security group whose members reach each other on all ports and clients only port {spec.engine.port}; "
        f"or prefer {Field.BACKEND}: mp{image}, which has no such ports",
    )


@rule(RAY_SECURITY)
def ray_is_restricted(spec: ResolvedSpec) -> Iterator[Problem]:
    """Ray's ports are closed to the VPC, where clients come from outside the cluster."""
    if _is_open(spec) and _has_outside_clients(spec):
        yield _ray_problem(spec)


@warning(RAY_SECURITY)
def ray_is_restricted_inside(spec: ResolvedSpec) -> Iterator[Problem]:
    """The same where only pods of the cluster are clients."""
    if _is_open(spec) and not _has_outside_clients(spec):
        yield _ray_problem(spec)


@warning("https://docs.ray.io/en/latest/ray-security/token-auth.html")
def ray_asks_for_a_token(spec: ResolvedSpec) -> Iterator[Problem]:
    """Ray asks for a token, where it can."""
    engine = spec.engine
    if not has_ray(spec):
        if engine.ray_token:
            yield Field.RAY_TOKEN, "it is true, but Ray is not used: the group is one pod, or uses mp", "remove it"
        return
    if not engine.ray_token and engine.vllm.version >= changed_in("ray_tokens"):
        yield (
            Field.RAY_TOKEN,
            "Ray 2.52 and newer can ask for a token at its ports, and this one is not told to",
            f"set the secret deepseek:rayToken and write true, or {Field.BACKEND}: mp",
        )
    if engine.ray_token and engine.vllm.version < changed_in("ray_tokens"):
        yield (
            Field.RAY_TOKEN,
            f"{engine.vllm.name} is older than Ray 2.52, so its image has a Ray that asks for no token",
            f"use an image with vLLM {text(changed_in('ray_tokens'))} or newer, or do not rely on it",
        )


@warning("https://pypi.org/project/vllm/")
def ray_is_in_the_image(spec: ResolvedSpec) -> Iterator[Problem]:
    """The image has Ray, where Ray joins the pods."""
    version = spec.engine.named_version
    if has_ray(spec) and version is not None and version >= changed_in("ray_left_out"):
        yield (
            Field.BACKEND,
            f"{spec.engine.vllm.name} brings no Ray with it, as versions before {text(changed_in('ray_left_out'))} did",
            "check that the image has it, or write mp",
        )


@warning("https://docs.vllm.ai/en/v0.8.5/serving/distributed_serving.html")
def ray_script_is_in_the_image(spec: ResolvedSpec) -> Iterator[Problem]:
    """The image has the script that starts Ray."""
    version = spec.engine.named_version
    is_upstream = re.search(r"(^|/)vllm/vllm-openai[:@]", spec.engine.image) is not None
    is_without = version is not None and version >= changed_in("ray_left_out")
    if has_ray(spec) and is_upstream and not is_without and spec.engine.ray_script == GUIDE_SCRIPT:
        yield (
            Field.RAY_SCRIPT,
            f"{GUIDE_SCRIPT} is in the guide's image, and images of upstream have another script",
            f"write {UPSTREAM_SCRIPT}, or set {Field.BACKEND} to mp, which needs vLLM "
            f"{text(changed_in('multi_node_mp'))} or newer",
        )


@warning(SECURITY)
def narrow_networks(spec: ResolvedSpec) -> Iterator[Problem]:
    """Client networks are not larger than necessary."""
    policy = spec.security.network_policy
    clients = tuple(client.cidr for client in policy.clients if client.cidr) if policy else ()
    for field, networks in ((Field.ALLOWED_CIDRS, spec.service.allowed_cidrs or ()), (Field.NETWORK_POLICY, clients)):
        for cidr in networks:
            network = ipaddress.IPv4Network(cidr)
            if network.prefixlen < WIDEST_PREFIX:
                yield (
                    field,
                    f"{cidr} admits {network.num_addresses:,} addresses, with all pods and hosts of the VPC that are "
                    "among them",
                    f"list the clients' networks, each /{WIDEST_PREFIX} or smaller; or use {Field.ROUTE}, with a proxy "
                    "as the only client",
                )


@warning(POD_STANDARDS)
def hardened_pods(spec: ResolvedSpec) -> Iterator[Problem]:
    """The pods of the group are hardened."""
    if spec.security.pods is None:
        yield (
            Field.POD_SECURITY,
            "it is null: the engine has the image's user, all default capabilities and no seccomp profile",
            "remove the line, unless the image needs it",
        )


@warning("https://kubernetes.io/docs/concepts/services-networking/network-policies/")
def api_server_is_closed(spec: ResolvedSpec) -> Iterator[Problem]:
    """Pods of the group do not reach the API server."""
    policy = spec.security.network_policy
    if policy is not None and policy.egress is not None and not policy.egress.closed_cidrs:
        yield (
            Field.EGRESS,
            "the stack does not know the addresses of the API server, so the pods reach it, if without a token",
            "list them in closedCidrs: kubectl get endpointslices -n default kubernetes",
        )
