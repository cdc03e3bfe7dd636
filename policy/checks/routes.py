"""Routes from outside the cluster: paths, TLS, redirects, and the controllers behind them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from deepseek_acs.planner.findings import Finding
from policy.label_selectors import selects
from policy.pods import GROUP, leader, pods, running_labels
from policy.resources import UNKNOWN, Resource, Violation, could_be, items, mapping, of_kind, text

UNFILTERED_ROUTES = ("TCPRoute", "TLSRoute", "UDPRoute", "GRPCRoute")
"""Kinds of the Gateway API that know no paths of HTTP."""

ROUTES = ("Ingress", "HTTPRoute", *UNFILTERED_ROUTES)

PATH_ANNOTATION = re.compile(r"/(.*snippet|rewrite-target|use-regex|app-root|mirror-.*|actions\..+|conditions\..+)$")
"""Annotations that give an Ingress other paths or destinations than its rules say, of ingress-nginx and its heirs
(https://kubernetes.github.io/ingress-nginx/user-guide/nginx-configuration/annotations/) and of ALB
(https://www.alibabacloud.com/help/en/ack/ack-managed-and-ack-dedicated/user-guide/alb-ingress-configuration-dictionary)."""

HARMLESS_FILTERS = ("RequestHeaderModifier", "ResponseHeaderModifier")
"""Filters of an HTTPRoute that neither change the path nor send the request somewhere else
(https://gateway-api.sigs.k8s.io/reference/spec/#httproutefilter)."""

CLASS_ANNOTATION = "kubernetes.io/ingress.class"

RETIRED_CLASSES = frozenset({"nginx", "ingress-nginx"})
"""ingress-nginx has had no fixes since March 2026
(https://kubernetes.io/blog/2025/11/11/ingress-nginx-retirement/)."""

REDIRECT_ANNOTATIONS: Mapping[str, str] = {
    "alb": "alb.ingress.kubernetes.io/ssl-redirect",
    "apig": "nginx.ingress.kubernetes.io/ssl-redirect",
    "mse": "nginx.ingress.kubernetes.io/ssl-redirect",
}
"""By class, what makes a controller answer plain HTTP with a redirect; it is off by default
(https://www.alibabacloud.com/help/en/ack/ack-managed-and-ack-dedicated/user-guide/advanced-usage-of-mse-ingress, and
the dictionary of ALB above)."""

ROUTE_FIX = "let only the API's paths through, as deployment.service.route does"


def wide_paths(resource: Resource, *, allowed_paths: Sequence[str]) -> Iterator[Finding]:
    """A route that lets more through than the paths that the API key protects."""
    if resource.kind == "Ingress":
        yield from _ingress_paths(resource, allowed_paths)
    elif resource.kind == "HTTPRoute":
        yield from _http_route_paths(resource, allowed_paths)
    elif resource.kind in UNFILTERED_ROUTES:
        yield Finding(
            path="",
            problem=f"a {resource.kind} lets every path of the engine through, /invocations and /metrics included",
            fix="use an HTTPRoute (deployment.service.route of kind gateway)",
        )


def pools_of_workers(stack: Sequence[Resource]) -> Iterator[Violation]:
    """An InferencePool with pods that answer no requests: only the leader of a group serves the API."""
    for pool in of_kind(stack, "InferencePool"):
        for group in of_kind(stack, GROUP):
            for pod in pods(group) if could_be(group.namespace, pool.namespace) else ():
                if pod != leader(group) and selects(pool.spec.get("selector"), running_labels(group, pod)):
                    finding = Finding(
                        path="spec.selector.matchLabels",
                        problem=f"it selects the workers of {group.title}, which answer no requests",
                        fix="add role: leader, as deployment.service.route of kind inferencePool does",
                    )
                    yield Violation(resource=pool, finding=finding)


def _ingress_paths(resource: Resource, allowed: Sequence[str]) -> Iterator[Finding]:
    if resource.spec.get("defaultBackend") is not None:
        yield Finding(path="spec.defaultBackend", problem="it gets every path that no rule names", fix=ROUTE_FIX)
    for name in resource.annotations:
        if PATH_ANNOTATION.search(name):
            yield Finding(
                path=f"metadata.annotations[{name}]",
                problem="it changes which paths reach the engine, whatever the rules say",
                fix="remove the annotation",
            )
    for index, rule in enumerate(map(mapping, items(resource.spec.get("rules")))):
        for number, entry in enumerate(map(mapping, items(mapping(rule.get("http")).get("paths")))):
            kind, path = entry.get("pathType"), entry.get("path", "/")
            if UNKNOWN not in (kind, path) and not _is_allowed(kind, path, allowed):
                where = f"spec.rules[{index}].http.paths[{number}]"
                yield Finding(path=where, problem=_too_much(kind, path), fix=ROUTE_FIX)


def _http_route_paths(resource: Resource, allowed: Sequence[str]) -> Iterator[Finding]:
    rules = resource.spec.get("rules")
    if rules is UNKNOWN:
        return
    if not items(rules):
        yield Finding(path="spec.rules", problem="without rules the route lets every path through", fix=ROUTE_FIX)
    for index, rule in enumerate(map(mapping, items(rules))):
        matches = rule.get("matches")
        if matches is not UNKNOWN and not items(matches):
            yield Finding(
                path=f"spec.rules[{index}].matches", problem="without matches every path goes through", fix=ROUTE_FIX
            )
        for number, match in enumerate(items(matches)):
            given = mapping(match).get("path")
            kind, path = mapping(given).get("type", "PathPrefix"), mapping(given).get("value", "/")
            if UNKNOWN not in (match, given, kind, path) and not _is_allowed(kind, path, allowed):
                where = f"spec.rules[{index}].matches[{number}].path"
                yield Finding(path=where, problem=_too_much(kind, path), fix=ROUTE_FIX)
        backends = map(mapping, items(rule.get("backendRefs")))
        filters = [*items(rule.get("filters")), *(one for backend in backends for one in items(backend.get("filters")))]
        for kind in (mapping(one).get("type") for one in filters):
            if kind is not UNKNOWN and kind not in HARMLESS_FILTERS:
                yield Finding(
                    path=f"spec.rules[{index}].filters",
                    problem=f"a filter {text(kind)} can change the path or send requests somewhere else",
                    fix="remove the filter",
                )


def _is_allowed(kind: Any, path: Any, allowed: Sequence[str]) -> bool:
    if kind == "Exact":
        return path in allowed or any(_is_below(text(path), one) for one in allowed)
    if kind in ("Prefix", "PathPrefix"):
        base = text(path).rstrip("/")
        return any(_is_below(base, one) for one in allowed) or (base in allowed and f"{base}/*" in allowed)
    return False


def _is_below(path: str, allowed: str) -> bool:
    """Whether ``allowed`` ends in ``/*`` and the path is below it. Proxies resolve dot segments and decode."""
    is_plain = re.fullmatch(r"(/[A-Za-z0-9_-]+)+", path) is not None
    return allowed.endswith("/*") and is_plain and path.startswith(allowed[:-1])


def _too_much(kind: Any, path: Any) -> str:
    return f"{text(kind) or 'a path without type'} {text(path)} lets paths through that the API key does not protect"


def routes_without_tls(stack: Sequence[Resource]) -> Iterator[Violation]:
    """A route that answers by plain HTTP. The listeners of a Gateway outside the stack cannot be seen; for such a
    Gateway a route has to name the listener."""
    for ingress in of_kind(stack, "Ingress"):
        for host in _plain_hosts(ingress):
            finding = Finding(
                path="spec.tls",
                problem=f"{host or 'every host'} is served over plain HTTP, which exposes the API key on the network",
                fix="add the host to an entry of spec.tls with its certificate",
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


def missing_redirects(resource: Resource, *, redirecting_classes: Sequence[str]) -> Iterator[Finding]:
    """An Ingress whose controller answers plain HTTP, where a client sends the API key before it knows better."""
    if resource.kind != "Ingress":
        return
    for name, value in resource.annotations.items():
        if name.endswith("ssl-redirect") and value is not UNKNOWN and value != "true":
            yield Finding(
                path=f"metadata.annotations[{name}]",
                problem="requests by plain HTTP are answered instead of redirected to HTTPS",
                fix='write "true"',
            )
    class_name = ingress_class(resource)
    if class_name in redirecting_classes or class_name is UNKNOWN:
        return
    annotation = REDIRECT_ANNOTATIONS.get(text(class_name))
    if annotation is None:
        yield Finding(
            path="spec.ingressClassName",
            problem=f"whether the class {text(class_name) or '(default)'} redirects plain HTTP is not known",
            fix="use a route of kind gateway, or try it and add the class to the option redirectingClasses",
        )
    elif annotation not in resource.annotations:
        yield Finding(
            path=f"metadata.annotations[{annotation}]",
            problem="requests by plain HTTP are not redirected to HTTPS",
            fix=f'add {annotation}: "true"',
        )


def ingress_classes(resource: Resource, *, allowed_classes: Sequence[str]) -> Iterator[Finding]:
    """An Ingress of a controller that has been retired or that is not on the list of reviewed ones."""
    if resource.kind != "Ingress":
        return
    class_name = ingress_class(resource)
    if class_name is UNKNOWN or class_name in allowed_classes:
        return
    if class_name in RETIRED_CLASSES:
        problem = f"{text(class_name)} is the class of ingress-nginx, which has had no security fixes since March 2026"
    elif class_name:
        problem = f"the class {text(class_name)} is not in the option allowedClasses"
    else:
        problem = "the cluster's default class decides which controller serves it"
    yield Finding(
        path="spec.ingressClassName",
        problem=problem,
        fix=f"use a route of kind gateway, or one of the classes {', '.join(allowed_classes)}",
    )


def ingress_class(ingress: Resource) -> Any:
    """The class of an Ingress; None for the cluster's default."""
    return ingress.spec.get("ingressClassName") or ingress.annotations.get(CLASS_ANNOTATION)
