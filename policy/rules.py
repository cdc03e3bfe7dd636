"""The rules: statement, level, options, and the check behind each."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from deepseek_acs.planner.findings import Finding
from policy.checks import acs, exposure, secrets, storage, workloads
from policy.resources import Violation

Level = Literal["mandatory", "advisory"]


@dataclass(frozen=True, kw_only=True)
class Option:
    """An option of a rule that a company can set: ``argument`` of its check, and a JSON schema with a default."""

    argument: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule.

    :param statement: what must be true.
    :param source: where more is written about it.
    """

    name: str
    statement: str
    level: Level
    options: Mapping[str, Option] = field(default_factory=dict)
    source: str = ""

    def arguments(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Keyword arguments of the check; options that ``config`` does not set have their default."""
        return {option.argument: config.get(name, option.schema["default"]) for name, option in self.options.items()}


@dataclass(frozen=True, kw_only=True)
class ResourceRule(Rule):
    """A rule about each resource on its own, checked before it is created or changed."""

    check: Callable[..., Iterable[Finding]]


@dataclass(frozen=True, kw_only=True)
class StackRule(Rule):
    """A rule about several resources, checked when all of them are known: at the end of a preview or an update."""

    check: Callable[..., Iterable[Violation]]


PRODUCTION_STACKS = Option(
    argument="production_stacks",
    schema={
        "type": "array",
        "items": {"type": "string"},
        "default": ["prod"],
        "description": "names of the stacks that serve users",
    },
)

REQUIRE_DIGEST = Option(
    argument="require_digest",
    schema={"type": "boolean", "default": False, "description": "whether tags are refused"},
)

RULES: tuple[ResourceRule | StackRule, ...] = (
    ResourceRule(
        name="disallow-public-services",
        statement="No Service has a public address.",
        level="mandatory",
        check=exposure.public_service,
        source="https://github.com/kubernetes/cloud-provider-alibaba-cloud",
    ),
    StackRule(
        name="require-api-key",
        statement="Clients from outside the cluster need an API key.",
        level="mandatory",
        check=exposure.keyless_entry,
        source="https://docs.vllm.ai/en/stable/usage/security/",
    ),
    StackRule(
        name="require-route-https",
        statement="Ingress and Gateway routes use TLS only.",
        level="mandatory",
        check=exposure.route_without_tls,
    ),
    StackRule(
        name="require-load-balancer-tls",
        statement="Load balancers do not forward plain HTTP.",
        level="advisory",
        check=exposure.plain_load_balancer,
    ),
    StackRule(
        name="require-network-policy",
        statement="In production a NetworkPolicy or a security group limits access to the engine's pods.",
        level="mandatory",
        options={"productionStacks": PRODUCTION_STACKS},
        check=exposure.open_group,
        source="https://docs.vllm.ai/en/stable/usage/security/",
    ),
    StackRule(
        name="disallow-public-buckets",
        statement="Buckets are private and block public access.",
        level="mandatory",
        check=storage.public_bucket,
        source="https://www.alibabacloud.com/help/en/oss/user-guide/block-public-access",
    ),
    StackRule(
        name="require-bucket-encryption",
        statement="Buckets encrypt their objects.",
        level="mandatory",
        check=storage.plain_bucket,
        source="https://help.aliyun.com/en/oss/user-guide/data-encryption/",
    ),
    StackRule(
        name="require-bucket-tls",
        statement="Buckets refuse plain HTTP.",
        level="mandatory",
        check=storage.bucket_without_tls_rule,
        source="https://www.alibabacloud.com/help/en/oss/user-guide/oss-bucket-policy/",
    ),
    ResourceRule(
        name="require-bucket-protection",
        statement="Buckets are retained when their stack is destroyed.",
        level="mandatory",
        check=storage.deletable_bucket,
        source="https://www.pulumi.com/docs/iac/concepts/resources/options/protect/",
    ),
    ResourceRule(
        name="restrict-ram-policies",
        statement="RAM policies name their bucket and operations.",
        level="mandatory",
        check=storage.wide_rights,
        source="https://www.alibabacloud.com/help/en/oss/user-guide/ram-policy",
    ),
    ResourceRule(
        name="disallow-plain-secrets",
        statement="Secrets are kept in Secret objects only.",
        level="mandatory",
        check=secrets.plain_secrets,
        source="https://kubernetes.io/docs/concepts/security/secrets-good-practices/",
    ),
    StackRule(
        name="disallow-leaked-secrets",
        statement="No other object contains a value of the stack's Secrets.",
        level="mandatory",
        check=secrets.leaked_secret_data,
        source="https://kubernetes.io/docs/concepts/security/secrets-good-practices/",
    ),
    ResourceRule(
        name="require-requests-limits",
        statement="Every container requests CPU and memory, and has limits.",
        level="mandatory",
        check=workloads.unbounded_containers,
        source="https://www.alibabacloud.com/help/en/cs/user-guide/acs-pod-instance-overview",
    ),
    ResourceRule(
        name="require-pod-probes",
        statement="Leaders have startup, readiness and liveness probes.",
        level="mandatory",
        check=workloads.unwatched_leader,
        source="https://kubernetes.io/docs/concepts/workloads/pods/probes/",
    ),
    ResourceRule(
        name="disallow-mutable-tags",
        statement="Images have a version or a digest.",
        level="mandatory",
        options={"requireDigest": REQUIRE_DIGEST},
        check=workloads.unpinned_images,
        source="https://kubernetes.io/docs/concepts/containers/images/",
    ),
    ResourceRule(
        name="disallow-host-namespaces",
        statement="No pod is privileged or uses its node's network, processes or files.",
        level="mandatory",
        check=workloads.host_access,
        source="https://kubernetes.io/docs/concepts/security/pod-security-standards/",
    ),
    ResourceRule(
        name="disable-service-links",
        statement="Pods of the engine get no environment variables of Services.",
        level="mandatory",
        check=workloads.service_links,
        source="https://docs.vllm.ai/en/stable/configuration/env_vars.html",
    ),
    ResourceRule(
        name="restrict-rdma",
        statement="RDMA is requested only where ACS supports it.",
        level="mandatory",
        check=acs.illegal_rdma,
        source="https://www.alibabacloud.com/help/en/cs/user-guide/pod-hpn-type-rdma",
    ),
    ResourceRule(
        name="disallow-best-effort",
        statement="Production does not run on pods that ACS may evict.",
        level="mandatory",
        options={"productionStacks": PRODUCTION_STACKS},
        check=acs.best_effort,
        source="https://www.alibabacloud.com/help/en/cs/user-guide/acs-pod-instance-overview",
    ),
    StackRule(
        name="require-pod-disruption-budget",
        statement="Several copies of a model have a PodDisruptionBudget.",
        level="advisory",
        check=workloads.undisrupted,
        source="https://kubernetes.io/docs/tasks/run-application/configure-pdb/",
    ),
)


def message(finding: Finding) -> str:
    """A finding as the engine shows it, under the rule's statement and the resource's name."""
    where = f"{finding.path}: " if finding.path else ""
    return f"{where}{finding.problem}; fix: {finding.fix}"


def table() -> str:
    """All rules as a table for the documentation."""
    rows = [
        f"| {f'[`{rule.name}`]({rule.source})' if rule.source else f'`{rule.name}`'} | {rule.statement} "
        f"| {rule.level} | {_asked(rule)} | {_options(rule)} |"
        for rule in RULES
    ]
    return "\n".join(["| rule | requirement | level | checked | options |", "|---|---|---|---|---|", *rows]) + "\n"


def _asked(rule: Rule) -> str:
    return "of each resource" if isinstance(rule, ResourceRule) else "at the end"


def _options(rule: Rule) -> str:
    return ", ".join(
        f"`{name}`, {option.schema['description']} (`{json.dumps(option.schema['default'])}`)"
        for name, option in rule.options.items()
    )
