"""Names: of resources in the cloud, within the rules of their services, and content-addressed names of immutable
objects. docs/names.md lists them.

No provider generates a name: names are visible in the preview, and permissions can be restricted to them."""

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

MOVER, READER, COMPILED, CLIENTS = "mover", "reader", "cache", "clients"
"""The purpose of a resource in the cloud: who uses the bucket, and who uses the service."""


@dataclass(frozen=True, kw_only=True)
class NameRule:
    """What a service accepts as a name; ``alphabet`` describes the characters of ``pattern`` in words."""

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
"""Annotation with the field manager of the provider. Without it, the provider uses a random one for each operation, and
a killed engine leaves fields that nothing in the stack owns
(https://www.pulumi.com/registry/packages/kubernetes/how-to-guides/managing-resources-with-server-side-apply/)."""

DIGEST = 8
"""Hexadecimal digits of a hash in a name."""


def name_of(kind: str, *content: object) -> str:
    """``kind`` and a content hash of eight hexadecimal digits. The hash includes the stack's name, because two stacks
    may share a namespace."""
    return f"{kind}-{_digest(pulumi.get_stack(), *content)}"


def json_text(value: object, *, sort_keys: bool = False) -> pulumi.Output[str]:
    """The JSON of a value with Outputs in it. Output.json_dumps makes an Output of every part of the value: a thousand
    for a pod template, which is most of the time that the program needs."""
    outputs: list[object] = []
    json.dumps(value, default=outputs.append, sort_keys=sort_keys)

    def text(values: list[object]) -> str:
        in_order = iter(values)
        return json.dumps(value, default=lambda _: next(in_order), sort_keys=sort_keys)

    return pulumi.Output.all(*outputs).apply(text)


def cloud_name(component: str, part: str) -> str:
    """Name of a resource in the cloud: project, stack, the component's name, and its purpose."""
    return f"{pulumi.get_project()}-{pulumi.get_stack()}-{component}-{part}"


def version_name(part: str, *content: object) -> str:
    """``part`` and a hash of what makes another one of it; the same in all stacks, as names of resources are."""
    return f"{part}-{_digest(*content)}"


def bucket_name(component: str, *, account: str, region: str) -> str:
    """Name of a component's bucket. Bucket names are unique across all accounts and regions, so the name contains a
    hash of both."""
    return f"{pulumi.get_project()}-{pulumi.get_stack()}-{component}-{_digest(account, region)}"


def field_manager() -> str:
    """The stack's field manager: the same for all its objects, permanently."""
    return f"pulumi-{pulumi.get_project()}-{pulumi.get_stack()}"


def name_findings(spec: ResolvedSpec, *, models: str = MODELS, access: str = ACCESS) -> list[Finding]:
    """Names that their services would reject, because of the name of the stack or of the project. ``models`` and
    ``access`` are the names of the components that have resources there."""
    names = _cloud_names(spec, models, access)
    return [_finding(rule, name) for rule, name in names if not _is_legal(rule, name)]


def _cloud_names(spec: ResolvedSpec, models: str, access: str) -> Iterator[tuple[NameRule, str]]:
    """One name per rule; the longest, if there are several."""
    bucket, identity = spec.weights.bucket, spec.weights.identity
    if bucket.kind == "create" and bucket.name is None:
        # The names of all accounts and regions have the same form.
        yield BUCKET, bucket_name(models, account="", region=spec.cloud.region)
    if identity.kind != "accessKey":
        yield RAM_POLICY, cloud_name(models, version_name(READER, spec.weights.prefix))
        yield (RAM_USER if identity.kind == "ramUser" else RAM_ROLE), cloud_name(models, max(MOVER, READER, key=len))
    if spec.service.allowed_cidrs:
        yield ACCESS_CONTROL_LIST, cloud_name(access, CLIENTS)


def _is_legal(rule: NameRule, name: str) -> bool:
    return len(name) <= rule.longest and re.fullmatch(rule.pattern, name) is not None


def _finding(rule: NameRule, name: str) -> Finding:
    stack = pulumi.get_stack()
    room = rule.longest - len(name) + len(stack)
    fix = f"rename the stack (pulumi stack rename) to at most {room} characters of these"
    if rule is BUCKET:
        fix = f"set deployment.weights.bucket.name, or {fix}"
    return Finding(
        path=f"stack {stack}",
        problem=f"its {rule.kind} would be called {name}, but such a name may have at most {rule.longest} characters: "
        f"{rule.alphabet}",
        fix=fix,
    )


def _digest(*content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:DIGEST]
