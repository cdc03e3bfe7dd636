"""Options of the policies: their schemas, and that each one changes what its rule says."""

import re
from collections.abc import Mapping
from typing import Any

import pytest

from policy.options import Option
from policy.resources import Resource
from policy.rules import RULES
from tests.policy.access_cases import acl_entry, mover
from tests.policy.cloud_cases import binding, cluster_role
from tests.policy.pod_cases import CACHE, PRIVILEGED, helm, job
from tests.policy.stacks import (
    BALANCER,
    LOAD_BALANCER,
    PRIVATE,
    Kept,
    admits,
    attachment,
    bucket_policy,
    found,
    group,
    http_route,
    ingress,
    manifest,
    network,
    pod,
    ram_policy,
    role,
    service,
)

BEST_EFFORT = group(pod(labels={"alibabacloud.com/compute-qos": "best-effort"}))
WIDE = (network("10.0.0.0/8"), network("2001:db8::/32"))

CHANGES: Mapping[tuple[str, str], tuple[Resource | Kept, Any]] = {
    ("restrict-resource-types", "allowedTypes"): (manifest("StatefulSet"), ["kubernetes:apps/v1:StatefulSet"]),
    ("disallow-public-services", "allowedLoadBalancers"): (
        service("LoadBalancer", {**PRIVATE, f"{LOAD_BALANCER}-id": "lb-1"}),
        ["lb-1"],
    ),
    ("disallow-public-pods", "allowedContainers"): (mover(eip="true"), []),
    ("require-request-filter", "requestFilters"): (
        (BALANCER, group(pod(command=["vllm", "serve", "--middleware=mine"]))),
        ["mine"],
    ),
    ("require-patched-engine", "minimumVersion"): (group(), "0.31"),
    ("require-patched-engine", "accepted"): (
        (BALANCER, group(pod(image="registry.example/vllm:v0.22.0"))),
        ["CVE-2026-55574"],
    ),
    ("require-https-redirect", "redirectingClasses"): (ingress(class_name="traefik"), ["traefik"]),
    ("restrict-route-paths", "allowedPaths"): (http_route([{"path": {"value": "/v1"}}]), ["/v1", "/v1/*"]),
    ("restrict-ingress-classes", "allowedClasses"): (ingress(class_name="traefik"), ["traefik"]),
    ("disallow-plain-http", "allowedHosts"): (mover("http://hub.example"), ["hub.example"]),
    ("require-network-policy", "exemptStacks"): (group(stack="dev"), ["dev"]),
    ("restrict-network-policy-peers", "minPrefixLength"): (admits(WIDE[0]), 8),
    ("restrict-network-policy-peers", "minPrefixLengthIPv6"): (admits(WIDE[1]), 32),
    ("restrict-network-policy-peers", "allowedNetworks"): (admits(*WIDE), ["10.0.0.0/8", "2001:db8::/32"]),
    ("restrict-load-balancer-clients", "minPrefixLength"): (acl_entry("10.0.0.0/8"), 8),
    ("restrict-load-balancer-clients", "minPrefixLengthIPv6"): (acl_entry("2001:db8::/32"), 32),
    ("restrict-load-balancer-clients", "allowedNetworks"): (acl_entry("10.0.0.0/9"), ["10.0.0.0/8"]),
    ("restrict-bucket-policies", "allowedPrincipals"): (bucket_policy(Effect="Allow", Principal=["1"]), ["1"]),
    ("restrict-ram-policies", "allowedActions"): (ram_policy(Action="oss:GetBucketAcl"), ["oss:GetBucketAcl"]),
    ("restrict-ram-attachments", "allowedPolicies"): (
        attachment("AliyunLogReadOnlyAccess", "System"),
        ["AliyunLogReadOnlyAccess"],
    ),
    ("restrict-ram-roles", "allowedPrincipals"): (
        role(Principal={"Service": ["ecs.aliyuncs.com"]}),
        ["ecs.aliyuncs.com"],
    ),
    ("restrict-roles", "allowedApiGroups"): (cluster_role(apiGroups=["batch"]), ["batch"]),
    ("restrict-roles", "allowedCoreRights"): (
        cluster_role(apiGroups=[""], resources=["services"], verbs=["list"]),
        ["services:list"],
    ),
    ("restrict-role-bindings", "allowedClusterRoles"): (binding(role=("ClusterRole", "view")), ["view"]),
    ("disallow-unsafe-engine-options", "allowedOptions"): (group(pod(args=["--config=/x"])), ["--config"]),
    ("disallow-unsafe-engine-options", "allowedMiddleware"): (
        group(pod(command=["vllm", "serve", "--middleware=mine"])),
        ["mine", "requestfilter.RequestFilter"],
    ),
    ("disallow-mutable-tags", "requireDigest"): (group(), True),
    ("restrict-image-registries", "allowedRegistries"): (
        job({"name": "x", "image": "evil/vllm:v1.0"}),
        ["docker.io/evil"],
    ),
    ("restrict-helm-charts", "allowedCharts"): (
        helm("oci://mirror.example/charts/lws"),
        ["oci://mirror.example/charts"],
    ),
    ("restrict-capabilities", "rdmaCapabilities"): (group(), []),
    ("restrict-volume-types", "allowedCsiDrivers"): (
        manifest("PersistentVolume", spec={"csi": {"driver": "nasplugin.csi.alibabacloud.com"}}),
        ["nasplugin.csi.alibabacloud.com"],
    ),
    ("require-pod-security-labels", "allowPrivilegedForFluid"): ((PRIVILEGED, CACHE), False),
    ("require-pod-security-labels", "allowPrivilegedForRdma"): ((PRIVILEGED, group()), False),
    ("require-run-as-nonroot", "rootContainers"): (group(), []),
    ("restrict-automount-sa-token", "tokenContainers"): (job({"name": "operator"}), ["operator"]),
    ("disallow-best-effort", "exemptStacks"): (BEST_EFFORT, ["live"]),
    ("restrict-hourly-cost", "maxHourlyCost"): (group(), 10),
    ("restrict-hourly-cost", "gpuHour"): (group(), {"GU8TF": 1.5}),
}
"""By rule and option: a resource of which another value of the option changes what is said."""

TOGETHER: Mapping[tuple[str, str], Mapping[str, Any]] = {("restrict-hourly-cost", "gpuHour"): {"maxHourlyCost": 100}}
"""Other options without which an option has no effect."""

OPTIONS = {(rule.name, name): option for rule in RULES for name, option in rule.options.items()}


def test_every_option_is_tried() -> None:
    assert set(CHANGES) == set(OPTIONS)


@pytest.mark.parametrize(("rule", "option"), CHANGES)
def test_an_option_changes_what_its_rule_says(rule: str, option: str) -> None:
    given, value = CHANGES[rule, option]
    stack = given if isinstance(given, tuple) else (given,)
    assert fits(value, OPTIONS[rule, option])
    others = TOGETHER.get((rule, option), {})
    changed = {**others, option: value}
    assert bool(list(found(stack, rule, config=others))) is not bool(list(found(stack, rule, config=changed)))


@pytest.mark.parametrize("key", OPTIONS)
def test_schemas_are_typed_and_described(key: tuple[str, str]) -> None:
    option = OPTIONS[key]
    assert option.schema["description"]
    assert fits(option.schema["default"], option)


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("nginx", ("restrict-ingress-classes", "allowedClasses")),
        ([1], ("restrict-ingress-classes", "allowedClasses")),
        (33, ("restrict-network-policy-peers", "minPrefixLength")),
        ("no", ("disallow-mutable-tags", "requireDigest")),
        ("latest", ("require-patched-engine", "minimumVersion")),
        (-1, ("restrict-hourly-cost", "maxHourlyCost")),
        ({"GU8TF": "5"}, ("restrict-hourly-cost", "gpuHour")),
    ],
)
def test_schemas_refuse_other_types(value: Any, key: tuple[str, str]) -> None:
    assert not fits(value, OPTIONS[key])


def fits(value: Any, option: Option) -> bool:
    """Whether a value is of the option's schema, as far as the pack's schemas go."""
    schema = option.schema
    match schema["type"]:
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            return isinstance(value, int) and schema["minimum"] <= value <= schema["maximum"]
        case "number":
            return isinstance(value, int | float) and value >= schema["minimum"]
        case "object":
            inner = Option(argument="", schema=schema["additionalProperties"])
            return isinstance(value, dict) and all(fits(one, inner) for one in value.values())
        case "string":
            return isinstance(value, str) and bool(re.search(schema["pattern"], value))
        case "array":
            pattern = schema["items"]["pattern"]
            assert schema["items"]["type"] == "string"
            assert schema["uniqueItems"]
            return isinstance(value, list) and all(isinstance(one, str) and re.search(pattern, one) for one in value)
    raise AssertionError(schema["type"])
