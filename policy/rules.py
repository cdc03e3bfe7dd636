"""The rules: what each one says, whether it stops a deployment, what can be set, and the check behind it.

Names are those of Kyverno's library (https://kyverno.io/policies/) where it has the rule.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from deepseek_acs.planner.findings import Finding
from policy import options
from policy.checks import (
    acs,
    cost,
    engine_options,
    engine_versions,
    exposure,
    networks,
    plain_http,
    pod_security,
    ram,
    rbac,
    resource_types,
    routes,
    secrets,
    storage,
    workloads,
)
from policy.options import Option
from policy.resources import Violation

Level = Literal["mandatory", "advisory"]

POD_SECURITY_STANDARDS = "https://kubernetes.io/docs/concepts/security/pod-security-standards/"
NETWORK_POLICIES = "https://kubernetes.io/docs/concepts/services-networking/network-policies/"
VLLM_SECURITY = "https://docs.vllm.ai/en/stable/usage/security/"
RAM_POLICIES = "https://www.alibabacloud.com/help/en/oss/user-guide/ram-policy"
BUCKET_POLICIES = "https://www.alibabacloud.com/help/en/oss/user-guide/oss-bucket-policy/"
RBAC = "https://kubernetes.io/docs/concepts/security/rbac-good-practices/"
GOOD_SECRETS = "https://kubernetes.io/docs/concepts/security/secrets-good-practices/"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule.

    :param statement: what must be true.
    :param source: where more is written about it.
    """

    name: str
    statement: str
    level: Level = "mandatory"
    options: Mapping[str, Option] = field(default_factory=dict)
    source: str

    def arguments(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Keyword arguments of the check; options that ``config`` does not set have their default."""
        return {option.argument: config.get(name, option.schema["default"]) for name, option in self.options.items()}


@dataclass(frozen=True, kw_only=True)
class ResourceRule(Rule):
    """A rule about each resource on its own, checked before it is created or changed; a resource that is only read is
    checked at the end."""

    check: Callable[..., Iterable[Finding]]


@dataclass(frozen=True, kw_only=True)
class StackRule(Rule):
    """A rule about resources together, checked when all of them are known: at the end of a preview or an update."""

    check: Callable[..., Iterable[Violation]]


RULES: tuple[ResourceRule | StackRule, ...] = (
    ResourceRule(
        name="restrict-resource-types",
        statement="A stack has resources of known types only.",
        options={"allowedTypes": options.ALLOWED_TYPES},
        check=resource_types.unknown_types,
        source="https://www.pulumi.com/docs/iac/concepts/resources/names/#types",
    ),
    ResourceRule(
        name="disallow-public-services",
        statement="No Service has a public address.",
        options={"allowedLoadBalancers": options.ALLOWED_LOAD_BALANCERS},
        check=exposure.public_service,
        source="https://github.com/kubernetes/cloud-provider-alibaba-cloud",
    ),
    ResourceRule(
        name="disallow-public-pods",
        statement="No pod that serves has a public address.",
        options={"allowedContainers": options.PUBLIC_CONTAINERS},
        check=exposure.public_pod,
        source="https://www.alibabacloud.com/help/en/cs/user-guide/notes-on-mounting-an-independent-public-network-eip-for-a",
    ),
    StackRule(
        name="require-api-key",
        statement="Clients from outside the cluster need an API key.",
        check=exposure.keyless_entry,
        source=VLLM_SECURITY,
    ),
    StackRule(
        name="require-request-filter",
        statement="Clients from outside the cluster reach the engine through a request filter.",
        options={"requestFilters": options.REQUEST_FILTERS},
        check=exposure.unfiltered_entry,
        source="https://github.com/vllm-project/vllm/issues/58144",
    ),
    StackRule(
        name="require-patched-engine",
        statement="Clients from outside the cluster can use no published vulnerability of the engine.",
        options={
            "minimumVersion": options.MINIMUM_VERSION,
            "accepted": options.ACCEPTED_ADVISORIES,
        },
        check=engine_versions.unpatched_engine,
        source="https://github.com/advisories?query=vllm+ecosystem%3Apip",
    ),
    ResourceRule(
        name="require-load-balancer-acl",
        statement="A load balancer has an access control list.",
        check=exposure.unlisted_clients,
        source="https://www.alibabacloud.com/help/en/cs/add-annotations-to-the-yaml-file-of-a-service-to-configure-clb-instances",
    ),
    StackRule(
        name="require-load-balancer-tls",
        statement="A load balancer does not pass the API key on in plain HTTP.",
        check=exposure.plain_load_balancer,
        source=VLLM_SECURITY,
    ),
    StackRule(
        name="require-route-https",
        statement="Ingress and Gateway routes use TLS only.",
        check=routes.routes_without_tls,
        source="https://kubernetes.io/docs/concepts/services-networking/ingress/#tls",
    ),
    ResourceRule(
        name="require-https-redirect",
        statement="An Ingress redirects plain HTTP to HTTPS.",
        options={"redirectingClasses": options.REDIRECTING_CLASSES},
        check=routes.missing_redirects,
        source="https://www.alibabacloud.com/help/en/ack/ack-managed-and-ack-dedicated/user-guide/alb-ingress-configuration-dictionary",
    ),
    ResourceRule(
        name="restrict-route-paths",
        statement="A route lets through only paths that the API key protects.",
        options={"allowedPaths": options.ALLOWED_PATHS},
        check=routes.wide_paths,
        source=VLLM_SECURITY,
    ),
    StackRule(
        name="restrict-pool-members",
        statement="An InferencePool selects leaders only, which answer requests.",
        check=routes.pools_of_workers,
        source="https://gateway-api-inference-extension.sigs.k8s.io/api-types/inferencepool/",
    ),
    ResourceRule(
        name="restrict-ingress-classes",
        statement="An Ingress belongs to a controller that is maintained.",
        options={"allowedClasses": options.ALLOWED_CLASSES},
        check=routes.ingress_classes,
        source="https://kubernetes.io/blog/2025/11/11/ingress-nginx-retirement/",
    ),
    ResourceRule(
        name="disallow-plain-http",
        statement="No secret is sent by plain HTTP to a host outside the cluster.",
        options={"allowedHosts": options.ALLOWED_HOSTS},
        check=plain_http.plain_urls,
        source=GOOD_SECRETS,
    ),
    StackRule(
        name="require-network-policy",
        statement="A NetworkPolicy or a security group limits access to the engine's pods.",
        options={"exemptStacks": options.EXEMPT_STACKS},
        check=networks.open_group,
        source=VLLM_SECURITY,
    ),
    ResourceRule(
        name="restrict-network-policy-peers",
        statement="NetworkPolicies admit named clients, on named ports.",
        options=options.CLIENT_NETWORKS,
        check=networks.wide_peers,
        source=NETWORK_POLICIES,
    ),
    ResourceRule(
        name="restrict-load-balancer-clients",
        statement="Access control lists name networks of clients.",
        options=options.CLIENT_NETWORKS,
        check=networks.wide_client_lists,
        source="https://www.alibabacloud.com/help/en/slb/classic-load-balancer/user-guide/access-control",
    ),
    StackRule(
        name="disallow-public-buckets",
        statement="Buckets are private and block public access.",
        check=storage.public_bucket,
        source="https://www.alibabacloud.com/help/en/oss/user-guide/block-public-access",
    ),
    ResourceRule(
        name="restrict-bucket-policies",
        statement="Bucket policies grant nothing.",
        options={"allowedPrincipals": options.ALLOWED_PRINCIPALS},
        check=storage.foreign_grants,
        source=BUCKET_POLICIES,
    ),
    StackRule(
        name="require-bucket-encryption",
        statement="Buckets encrypt their objects.",
        check=storage.plain_bucket,
        source="https://help.aliyun.com/en/oss/user-guide/data-encryption/",
    ),
    StackRule(
        name="require-bucket-tls",
        statement="Buckets refuse plain HTTP.",
        check=storage.bucket_without_tls_rule,
        source=BUCKET_POLICIES,
    ),
    ResourceRule(
        name="require-bucket-protection",
        statement="Buckets are retained when their stack is destroyed.",
        check=storage.deletable_bucket,
        source="https://www.pulumi.com/docs/iac/concepts/resources/options/protect/",
    ),
    ResourceRule(
        name="restrict-ram-policies",
        statement="RAM policies name one bucket, a folder and operations.",
        options={"allowedActions": options.ALLOWED_ACTIONS},
        check=ram.wide_policies,
        source=RAM_POLICIES,
    ),
    StackRule(
        name="restrict-ram-attachments",
        statement="Identities hold policies of the stack only.",
        options={"allowedPolicies": options.ALLOWED_POLICIES},
        check=ram.foreign_policies,
        source=RAM_POLICIES,
    ),
    ResourceRule(
        name="restrict-ram-roles",
        statement="A role can be assumed by one service account only.",
        options={"allowedPrincipals": options.ALLOWED_PRINCIPALS},
        check=ram.open_roles,
        source="https://www.alibabacloud.com/help/en/ack/ack-managed-and-ack-dedicated/user-guide/use-rrsa-to-authorize-pods-to-access-different-cloud-services",
    ),
    ResourceRule(
        name="restrict-roles",
        statement="Roles are about the program's own objects.",
        options={
            "allowedApiGroups": options.ALLOWED_API_GROUPS,
            "allowedCoreRights": options.ALLOWED_CORE_RIGHTS,
        },
        check=rbac.wide_roles,
        source=RBAC,
    ),
    ResourceRule(
        name="restrict-role-bindings",
        statement="Roles are bound to service accounts of the namespace.",
        options={"allowedClusterRoles": options.ALLOWED_CLUSTER_ROLES},
        check=rbac.wide_bindings,
        source=RBAC,
    ),
    ResourceRule(
        name="disallow-plain-secrets",
        statement="Secrets are kept in Secret objects only.",
        check=secrets.plain_secrets,
        source=GOOD_SECRETS,
    ),
    StackRule(
        name="disallow-leaked-secrets",
        statement="No other object contains a value of the stack's Secrets.",
        check=secrets.leaked_secret_data,
        source=GOOD_SECRETS,
    ),
    ResourceRule(
        name="disallow-unsafe-engine-options",
        statement="The engine has no options that open what the API key closes.",
        options={"allowedOptions": options.ALLOWED_OPTIONS, "allowedMiddleware": options.ALLOWED_MIDDLEWARE},
        check=engine_options.unsafe_options,
        source=VLLM_SECURITY,
    ),
    ResourceRule(
        name="disallow-mutable-tags",
        statement="Images have a version or a digest.",
        options={"requireDigest": options.REQUIRE_DIGEST},
        check=workloads.mutable_tags,
        source="https://kubernetes.io/docs/concepts/containers/images/",
    ),
    ResourceRule(
        name="restrict-image-registries",
        statement="Images come from known registries.",
        options={"allowedRegistries": options.ALLOWED_REGISTRIES},
        check=workloads.image_registries,
        source="https://kyverno.io/policies/best-practices/restrict-image-registries/restrict-image-registries/",
    ),
    ResourceRule(
        name="restrict-helm-charts",
        statement="Helm charts come from known places.",
        options={"allowedCharts": options.ALLOWED_CHARTS},
        check=workloads.helm_charts,
        source="https://helm.sh/docs/topics/registries/",
    ),
    ResourceRule(
        name="disallow-host-namespaces",
        statement="No pod uses its node's network, processes or IPC.",
        check=pod_security.host_namespaces,
        source=POD_SECURITY_STANDARDS,
    ),
    ResourceRule(
        name="disallow-host-process",
        statement="No Windows pod runs on the node itself.",
        check=pod_security.host_processes,
        source=POD_SECURITY_STANDARDS,
    ),
    ResourceRule(
        name="disallow-privileged-containers",
        statement="No container is privileged.",
        check=pod_security.privileged_containers,
        source=POD_SECURITY_STANDARDS,
    ),
    ResourceRule(
        name="disallow-host-path",
        statement="No volume exposes the node's files.",
        check=pod_security.host_paths,
        source=POD_SECURITY_STANDARDS,
    ),
    ResourceRule(
        name="disallow-host-ports",
        statement="No container opens a port of its node.",
        check=pod_security.host_ports,
        source=POD_SECURITY_STANDARDS,
    ),
    ResourceRule(
        name="disallow-probe-hosts",
        statement="Probes and hooks go to the pod itself.",
        check=pod_security.probe_hosts,
        source=POD_SECURITY_STANDARDS,
    ),
    ResourceRule(
        name="disallow-proc-mount",
        statement="Containers see the default part of /proc.",
        check=pod_security.proc_mounts,
        source=POD_SECURITY_STANDARDS,
    ),
    ResourceRule(
        name="disallow-privilege-escalation",
        statement="No process gains more rights than its parent has.",
        check=pod_security.privilege_escalation,
        source=POD_SECURITY_STANDARDS,
    ),
    ResourceRule(
        name="restrict-capabilities",
        statement="Containers drop all capabilities, and add what RDMA needs at most.",
        options={"rdmaCapabilities": options.RDMA_CAPABILITIES},
        check=pod_security.capabilities,
        source=POD_SECURITY_STANDARDS,
    ),
    ResourceRule(
        name="restrict-seccomp",
        statement="Containers have the runtime's seccomp profile.",
        check=pod_security.seccomp_profiles,
        source=POD_SECURITY_STANDARDS,
    ),
    ResourceRule(
        name="restrict-apparmor-profiles",
        statement="AppArmor is not switched off.",
        check=pod_security.apparmor_profiles,
        source=POD_SECURITY_STANDARDS,
    ),
    ResourceRule(
        name="restrict-selinux",
        statement="Containers have no SELinux options of their own.",
        check=pod_security.selinux_options,
        source=POD_SECURITY_STANDARDS,
    ),
    ResourceRule(
        name="restrict-sysctls",
        statement="Pods set safe kernel parameters only.",
        check=pod_security.sysctls,
        source=POD_SECURITY_STANDARDS,
    ),
    ResourceRule(
        name="restrict-volume-types",
        statement="Volumes are of the standard's types and of known drivers.",
        options={"allowedCsiDrivers": options.ALLOWED_CSI_DRIVERS},
        check=pod_security.volume_types,
        source=POD_SECURITY_STANDARDS,
    ),
    ResourceRule(
        name="require-run-as-nonroot",
        statement="Containers do not run as root.",
        options={"rootContainers": options.ROOT_CONTAINERS},
        check=pod_security.root_users,
        source=POD_SECURITY_STANDARDS,
    ),
    StackRule(
        name="require-pod-security-labels",
        statement="Namespaces of the stack enforce and report a Pod Security Standard.",
        options={
            "allowPrivilegedForFluid": options.ALLOW_PRIVILEGED_FOR_FLUID,
            "allowPrivilegedForRdma": options.ALLOW_PRIVILEGED_FOR_RDMA,
        },
        check=pod_security.namespace_labels,
        source="https://kubernetes.io/docs/concepts/security/pod-security-admission/",
    ),
    ResourceRule(
        name="restrict-automount-sa-token",
        statement="Pods have no token for the API server.",
        options={"tokenContainers": options.TOKEN_CONTAINERS},
        check=pod_security.service_account_tokens,
        source="https://kubernetes.io/docs/tasks/configure-pod-container/configure-service-account/#opt-out-of-api-credential-automounting",
    ),
    ResourceRule(
        name="require-requests-limits",
        statement="Every container requests CPU and memory, and has limits.",
        check=workloads.unbounded_containers,
        source="https://www.alibabacloud.com/help/en/cs/user-guide/acs-pod-instance-overview",
    ),
    ResourceRule(
        name="require-pod-probes",
        statement="Leaders have startup, readiness and liveness probes.",
        check=workloads.leaders_without_probes,
        source="https://kubernetes.io/docs/concepts/workloads/pods/probes/",
    ),
    ResourceRule(
        name="disable-service-links",
        statement="Pods of the engine get no environment variables of Services.",
        check=workloads.service_links,
        source="https://docs.vllm.ai/en/stable/configuration/env_vars.html",
    ),
    StackRule(
        name="require-pod-disruption-budget",
        statement="Several groups of a model have a PodDisruptionBudget.",
        level="advisory",
        check=workloads.groups_without_budget,
        source="https://kubernetes.io/docs/tasks/run-application/configure-pdb/",
    ),
    ResourceRule(
        name="restrict-rdma",
        statement="RDMA is requested only where ACS supports it.",
        check=acs.illegal_rdma,
        source="https://www.alibabacloud.com/help/en/cs/user-guide/pod-hpn-type-rdma",
    ),
    StackRule(
        name="disallow-best-effort",
        statement="No stack but a local one runs on pods that ACS may evict.",
        options={"exemptStacks": options.EXEMPT_STACKS},
        check=acs.best_effort,
        source="https://www.alibabacloud.com/help/en/cs/user-guide/acs-pod-instance-overview",
    ),
    StackRule(
        name="restrict-hourly-cost",
        statement="The GPUs of a stack cost no more per hour than a limit, if there is one.",
        options={"maxHourlyCost": options.MAX_HOURLY_COST, "gpuHour": options.GPU_HOUR},
        check=cost.hourly_cost,
        source="https://www.alibabacloud.com/help/en/cs/product-overview/product-billing-rules",
    ),
)


def message(finding: Finding) -> str:
    """A finding as the engine shows it, under the rule's statement and the resource's name."""
    where = f"{finding.path}: " if finding.path else ""
    return f"{where}{finding.problem}; fix: {finding.fix}"


def table() -> str:
    """All rules and options as two tables for the documentation."""
    rules = [f"| [`{rule.name}`]({rule.source}) | {rule.statement} | {rule.level} | {_when(rule)} |" for rule in RULES]
    options = [
        f"| `{rule.name}` | `{name}` | {_type(option)} | `{json.dumps(option.schema['default'])}` "
        f"| {option.schema['description']} |"
        for rule in RULES
        for name, option in rule.options.items()
    ]
    return "\n".join(
        [
            *("| rule | what it asks for | level | checked |", "|---|---|---|---|", *rules, ""),
            *("| rule | option | type | default | meaning |", "|---|---|---|---|---|", *options, ""),
        ]
    )


def _when(rule: Rule) -> str:
    return "of each resource" if isinstance(rule, ResourceRule) else "at the end"


def _type(option: Option) -> str:
    return "list of strings" if option.schema["type"] == "array" else str(option.schema["type"])
