"""Rights in the cloud account: RAM policies, who holds them, and who may assume a role."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from deepseek_acs.planner.findings import Finding
from policy.resources import UNKNOWN, Resource, Violation, items, mapping, of_type, text

POLICY = "alicloud:ram/policy:Policy"
ROLE = "alicloud:ram/role:Role"
ATTACHMENT = "PolicyAttachment"
"""Suffix of the types that attach a policy to an identity."""

IDENTITY_CONDITIONS = ("oidc:aud", "oidc:iss", "oidc:sub")
"""Of a role for service accounts, together they name one service account of one cluster
(https://www.alibabacloud.com/help/en/ack/ack-managed-and-ack-dedicated/user-guide/use-rrsa-to-authorize-pods-to-access-different-cloud-services)."""

NAME_THEM = "name the operations that are needed"


def wide_policies(resource: Resource, *, allowed_actions: Sequence[str]) -> Iterator[Finding]:
    """A RAM policy that allows more than some operations on some objects of one bucket."""
    if resource.type != POLICY:
        return
    for path, statement in _policy_statements(resource):
        if statement is None:
            yield Finding(path=path, problem="it is not a JSON document with statements", fix="write a RAM policy")
        elif statement.get("Effect") != "Deny":
            yield from _wide_actions(path, statement, allowed_actions)
            yield from _wide_resources(path, statement)


def _policy_statements(resource: Resource) -> Iterator[tuple[str, Mapping[str, Any] | None]]:
    for field in ("policyDocument", "document"):
        if resource.properties.get(field) is not None:
            for statement in statements(resource.properties[field]):
                yield field, statement
    for index, one in enumerate(map(mapping, items(resource.properties.get("statements")))):
        fields = {"Effect": one.get("effect"), "Action": one.get("actions"), "Resource": one.get("resources")}
        yield f"statements[{index}]", fields


def _wide_actions(path: str, statement: Mapping[str, Any], allowed: Sequence[str]) -> Iterator[Finding]:
    if "NotAction" in statement:
        yield Finding(path=path, problem="NotAction allows every operation that it does not name", fix=NAME_THEM)
    elif not statement.get("Action"):
        yield Finding(path=path, problem="a statement names no operation", fix=NAME_THEM)
    for action in listed(statement.get("Action")):
        if action not in allowed:
            what = "means several operations" if set(action) & set("*?") else "is not in the option allowedActions"
            yield Finding(
                path=path,
                problem=f"the action {action or 'of unreadable form'} {what}",
                fix=f"{NAME_THEM}; what the weights need is in the option allowedActions",
            )


def _wide_resources(path: str, statement: Mapping[str, Any]) -> Iterator[Finding]:
    fix = "name the bucket, and of objects the folder: acs:oss:*:*:BUCKET/PREFIX/*"
    if "NotResource" in statement:
        yield Finding(path=path, problem="NotResource means everything that it does not name", fix=fix)
    elif not statement.get("Resource"):
        yield Finding(path=path, problem="a statement names no resource", fix=fix)
    for resource in listed(statement.get("Resource")):
        problem = _too_wide(resource)
        if problem:
            yield Finding(path=path, problem=f"{resource or 'a resource of unreadable form'} {problem}", fix=fix)


def _too_wide(resource: str) -> str | None:
    """What is wrong with ``acs:oss:REGION:ACCOUNT:BUCKET/OBJECT``; objects may end in wildcards below a folder."""
    parts = resource.split(":", 4)
    if len(parts) < 5 or parts[:2] != ["acs", "oss"]:
        return "is not a bucket of OSS or objects in it"
    bucket, slash, objects = parts[4].partition("/")
    if not bucket or set(bucket) & set("*?"):
        return "means several buckets of the account"
    if slash and (not objects or objects[0] in "*?/"):
        return "means all objects of the bucket"
    return None


def foreign_policies(stack: Sequence[Resource], *, allowed_policies: Sequence[str]) -> Iterator[Violation]:
    """An identity that holds a policy whose content no rule has seen: one of Alibaba Cloud, or of another stack."""
    own = {policy.urn for policy in of_type(stack, POLICY)}
    names = {policy.properties.get("policyName", policy.properties.get("name")) for policy in of_type(stack, POLICY)}
    for attachment in stack:
        if not (attachment.type.startswith("alicloud:") and attachment.type.endswith(ATTACHMENT)):
            continue
        name, kind = attachment.properties.get("policyName"), attachment.properties.get("policyType")
        if text(name) in allowed_policies:
            continue
        is_own = own & {*attachment.references.get("policyName", ())} or (name is not UNKNOWN and name in names)
        if kind not in ("Custom", UNKNOWN):
            problem = f"{text(name) or 'the policy'} is one of Alibaba Cloud's, which hold for the whole account"
        elif not is_own and name is not UNKNOWN:
            problem = f"{text(name) or 'the policy'} is not of this stack, so its rights cannot be checked"
        else:
            continue
        finding = Finding(
            path="policyName",
            problem=problem,
            fix="attach a policy of the stack for this bucket only, or add the name to the option allowedPolicies",
        )
        yield Violation(resource=attachment, finding=finding)


def open_roles(resource: Resource, *, allowed_principals: Sequence[str]) -> Iterator[Finding]:
    """A role that more than one service account may assume."""
    if resource.type != ROLE:
        return
    fix = "trust one service account: a Federated principal with oidc:aud, oidc:iss and oidc:sub as StringEquals"
    for field in ("ramUsers", "services"):
        for one in listed(resource.properties.get(field)):
            if one not in allowed_principals:
                yield Finding(path=field, problem=f"{one} may assume the role", fix=fix)
    for field in ("assumeRolePolicyDocument", "document"):
        for statement in statements(resource.properties.get(field)) if field in resource.properties else ():
            if statement is None:
                yield Finding(path=field, problem="it is not a JSON document with statements", fix=fix)
            elif statement.get("Effect") != "Deny":
                for problem in _open_trust(statement, allowed_principals):
                    yield Finding(path=field, problem=problem, fix=fix)


def _open_trust(statement: Mapping[str, Any], allowed: Sequence[str]) -> Iterator[str]:
    principal = statement.get("Principal")
    if not isinstance(principal, Mapping) or not principal or "NotPrincipal" in statement:
        yield "everyone may assume the role"
        return
    for kind, names in principal.items():
        if kind == "Federated" and _names_one_service_account(statement.get("Condition")):
            continue
        for name in listed(names) or ["an unreadable principal"]:
            if name not in allowed:
                only = " without naming one service account" if kind == "Federated" else ""
                yield f"{kind} {name} may assume the role{only}"


def _names_one_service_account(condition: Any) -> bool:
    given = mapping(mapping(condition).get("StringEquals"))
    values = [listed(given.get(name)) for name in IDENTITY_CONDITIONS]
    return all(len(one) == 1 and one[0] and not set(one[0]) & set("*?") for one in values)


def statements(document: Any) -> list[Mapping[str, Any] | None]:
    """The statements of a policy document; None for what is not one. Nothing where the document is not known yet."""
    if document is UNKNOWN:
        return []
    try:
        body = json.loads(document) if isinstance(document, str) else document
    except json.JSONDecodeError:
        return [None]
    given = mapping(body).get("Statement")
    found = [given] if isinstance(given, Mapping) else items(given)
    return [one if isinstance(one, Mapping) else None for one in found] or [None]


def listed(value: Any) -> list[str]:
    """One string or several, as far as they are known; an empty string for what is not a string."""
    return [value] if isinstance(value, str) else [text(item) for item in items(value) if item is not UNKNOWN]
