"""Rights in the cluster: what a Role allows, and who gets which role."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from deepseek_acs.planner.findings import Finding
from policy.resources import UNKNOWN, Resource, items, mapping, text

ROLES = ("Role", "ClusterRole")
BINDINGS = ("RoleBinding", "ClusterRoleBinding")
CORE = ""
"""The API group without a name."""

VERBS = frozenset({"get", "list", "watch", "create", "update", "patch", "delete"})
"""Verbs on objects; ``escalate``, ``bind``, ``impersonate`` and ``*`` are verbs on rights."""


def wide_roles(
    resource: Resource, *, allowed_api_groups: Sequence[str], allowed_core_rights: Sequence[str]
) -> Iterator[Finding]:
    """A role that reaches beyond the objects of the program's own programs."""
    if resource.kind not in ROLES:
        return
    if resource.kind == "ClusterRole":
        yield Finding(path="", problem="a ClusterRole holds in every namespace", fix="write a Role")
    for index, rule in enumerate(map(mapping, items(resource.properties.get("rules")))):
        path = f"rules[{index}]"
        for group in items(rule.get("apiGroups")):
            if _are_narrow(rule, text(group), allowed_core_rights):
                continue
            if group is not UNKNOWN and group not in allowed_api_groups:
                yield Finding(
                    path=f"{path}.apiGroups",
                    problem=f"the API group {text(group) or 'core, with Secrets and pods,'} is not in the option "
                    "allowedApiGroups",
                    fix="name the API groups of the program's own objects",
                )
        for verb in items(rule.get("verbs")):
            if verb is not UNKNOWN and verb not in VERBS:
                yield Finding(path=f"{path}.verbs", problem=f"the verb {text(verb)} is too wide", fix="name the verbs")
        for field in ("resources", "nonResourceURLs"):
            if any("*" in text(one) for one in items(rule.get(field))) or (field[0] == "n" and rule.get(field)):
                yield Finding(
                    path=f"{path}.{field}", problem="it means more than named objects", fix="name the resources"
                )


def _are_narrow(rule: Mapping[str, Any], group: str, allowed: Sequence[str]) -> bool:
    """Whether a rule has accepted rights only in the API group, which are about named objects where a rule can name
    them. The names of a LeaderWorkerSet's pods, whose logs are read, are not known beforehand."""
    verbs = items(rule.get("verbs"))
    suffix = "" if group == CORE else f".{group}"
    rights = [f"{text(one)}{suffix}:{text(verb)}" for one in items(rule.get("resources")) for verb in verbs]
    is_reading = all(verb in ("list", "watch") for verb in verbs) or set(rights) == {"pods/log:get"}
    is_named = bool(items(rule.get("resourceNames"))) or is_reading
    return bool(rights) and is_named and all(right in allowed for right in rights)


def wide_bindings(resource: Resource, *, allowed_cluster_roles: Sequence[str]) -> Iterator[Finding]:
    """A binding that gives rights in every namespace, or to more than a service account of the own one."""
    if resource.kind not in BINDINGS:
        return
    role = mapping(resource.properties.get("roleRef"))
    name, kind = role.get("name"), role.get("kind")
    if resource.kind == "ClusterRoleBinding":
        yield Finding(
            path="", problem="a ClusterRoleBinding gives rights in every namespace", fix="write a RoleBinding"
        )
    if kind not in ("Role", UNKNOWN) and text(name) not in allowed_cluster_roles:
        yield Finding(
            path="roleRef",
            problem=f"the {text(kind) or 'role'} {text(name)} has rights that are not the stack's to check",
            fix="bind a Role of the stack, or add the name to the option allowedClusterRoles",
        )
    for index, subject in enumerate(map(mapping, items(resource.properties.get("subjects")))):
        namespace = subject.get("namespace", resource.namespace)
        is_own = UNKNOWN in (namespace, resource.namespace) or namespace == resource.namespace
        if subject.get("kind") not in ("ServiceAccount", UNKNOWN) or not is_own:
            yield Finding(
                path=f"subjects[{index}]",
                problem=f"{text(subject.get('kind')) or 'a subject'} {text(subject.get('name'))} is not a service "
                "account of the namespace",
                fix="name a service account of the same namespace",
            )
