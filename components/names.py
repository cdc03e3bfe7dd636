"""Names: of what the stack has in the cloud, each within the rules of its service, and of objects that never change in
place, whose content is in the name. docs/names.md lists them.

No provider makes a name up: of what a name is made can be read in the preview, and a right can be narrowed to it.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pulumi

from deepseek_acs.planner.findings import Finding
from deepseek_acs.planner.spec import ResolvedSpec

MODELS = "models"
ACCESS = "access"
"""The components that have resources in the cloud, by their names in the program."""

MOVER, READER, CLIENTS = "mover", "reader", "clients"
"""What a resource in the cloud is for: who uses the bucket, and who the service."""


@dataclass(frozen=True, kw_only=True)
class NameRule:
    """What a service accepts as a name; ``alphabet`` says in words what ``pattern`` says of the characters."""

    kind: str
    longest: int
    pattern: str
    alphabet: str


BUCKET = NameRule(
    kind="OSS bucket",
    longest=63,
    pattern="[a-z0-9][a-z0-9-]+[a-z0-9]",
    alphabet="lower-case letters, digits and hyphens, with no hyphen first or last",
)
"""https://www.alibabacloud.com/help/en/oss/user-guide/bucket-naming-conventions"""

RAM_POLICY = NameRule(kind="RAM policy", longest=128, pattern="[A-Za-z0-9-]+", alphabet="letters, digits and hyphens")
"""https://www.alibabacloud.com/help/en/ram/developer-reference/api-ram-2015-05-01-createpolicy"""

RAM_USER = NameRule(
    kind="RAM user",
    longest=64,
    pattern="[A-Za-z0-9._-]+",
    alphabet="letters, digits, periods, hyphens and underscores",
)
"""https://www.alibabacloud.com/help/en/ram/developer-reference/api-ram-2015-05-01-createuser"""

RAM_ROLE = NameRule(
    kind="RAM role", longest=64, pattern="[A-Za-z0-9.-]+", alphabet="letters, digits, periods and hyphens"
)
"""https://www.alibabacloud.com/help/en/ram/developer-reference/api-ram-2015-05-01-createrole"""

ACCESS_CONTROL_LIST = NameRule(
    kind="access control list",
    longest=80,
    pattern="[A-Za-z0-9._/-]+",
    alphabet="letters, digits, periods, underscores, slashes and hyphens",
)
"""https://www.alibabacloud.com/help/en/slb/classic-load-balancer/developer-reference/api-slb-2014-05-15-createaccesscontrollist"""

FIELD_MANAGER = "pulumi.com/patchFieldManager"
"""Annotation with the field manager by which the provider applies; without it, another random one for each operation,
so that an engine that was killed leaves fields that nothing of the stack owns
(https://www.pulumi.com/registry/packages/kubernetes/how-to-guides/managing-resources-with-server-side-apply/)."""

LONGEST_FIELD_MANAGER = 128
"""https://github.com/kubernetes/apimachinery/blob/master/pkg/apis/meta/v1/validation/validation.go"""

DIGEST = 8
"""Hexadecimal digits of a hash in a name."""


def name_of(kind: str, *content: object) -> str:
    """``kind`` and eight hexadecimal digits that change with ``content``, and with the stack: two stacks may share a
    namespace."""
    return f"{kind}-{_digest(pulumi.get_stack(), *content)}"


def cloud_name(component: str, part: str) -> str:
    """Name of a resource in the cloud: project, stack, the component's name, and what it is there."""
    return f"{pulumi.get_project()}-{pulumi.get_stack()}-{component}-{part}"


def bucket_name(component: str, *, account: str, region: str) -> str:
    """Name of a component's bucket. Bucket names are unique over all accounts and regions, so these are in it, too, as
    a hash."""
    return f"{pulumi.get_project()}-{pulumi.get_stack()}-{component}-{_digest(account, region)}"


def field_manager() -> str:
    """The stack's field manager: the same for all its objects and for all time."""
    return f"pulumi-{pulumi.get_project()}-{pulumi.get_stack()}"


def name_findings(spec: ResolvedSpec, *, models: str = MODELS, access: str = ACCESS) -> list[Finding]:
    """Names in the cloud that their services would refuse, because of the name of the stack or of the project.
    ``models`` and ``access`` are the names of the components that have resources there."""
    names = _cloud_names(spec, models, access)
    return [_finding(rule, name) for rule, name in names if not _is_legal(rule, name)]


def _cloud_names(spec: ResolvedSpec, models: str, access: str) -> Iterator[tuple[NameRule, str]]:
    """One for each rule that applies; the longest, where there are several."""
    bucket, identity = spec.weights.bucket, spec.weights.identity
    if bucket.kind == "create" and bucket.name is None:
        # Those of every account and region have the same form.
        yield BUCKET, bucket_name(models, account="", region=spec.cloud.region)
    longest = cloud_name(models, max(MOVER, READER, key=len))
    if identity.kind != "accessKey":
        yield RAM_POLICY, longest
        yield (RAM_USER if identity.kind == "ramUser" else RAM_ROLE), longest
    if spec.service.allowed_cidrs:
        yield ACCESS_CONTROL_LIST, cloud_name(access, CLIENTS)


def _is_legal(rule: NameRule, name: str) -> bool:
    return len(name) <= rule.longest and re.fullmatch(rule.pattern, name) is not None


def _finding(rule: NameRule, name: str) -> Finding:
    stack = pulumi.get_stack()
    room = rule.longest - len(name) + len(stack)
    fix = f"choose a name for the stack with at most {room} characters of these: pulumi stack rename"
    if rule is BUCKET:
        fix = f"write a name of your own into deployment.weights.bucket.name, or {fix}"
    return Finding(
        path=f"stack {stack}",
        problem=f"its {rule.kind} would be called {name}, and such a name has at most {rule.longest} characters: "
        f"{rule.alphabet}",
        fix=fix,
    )


def _digest(*content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:DIGEST]
