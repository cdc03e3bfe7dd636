"""Secrets that travel by plain HTTP."""

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from deepseek_acs.planner.findings import Finding
from deepseek_acs.planner.urls import is_loopback
from policy.pods import pods
from policy.resources import (
    CLOUD_PROVIDER,
    UNKNOWN,
    Resource,
    cloud_endpoints,
    items,
    mapping,
    text,
    texts,
)

PLAIN_URL = re.compile(r"\bhttp://[^\s\"'<>|;,)]+", re.IGNORECASE)
PROXY_VARIABLE = re.compile(r"_proxy$", re.IGNORECASE)
"""A proxy's own URL begins with http://, and what goes through it by HTTPS stays encrypted."""

CLUSTER_SUFFIXES = (".svc", ".svc.cluster.local")
FIX = "write https://, or add the host to the option allowedHosts"


def plain_urls(resource: Resource, *, allowed_hosts: Sequence[str]) -> Iterator[Finding]:
    """A plain HTTP address for something that also has a secret to send there."""
    for path, value in _addresses(resource):
        for url in PLAIN_URL.findall(value):
            host = _host(url)
            if not (is_loopback(url) or _is_of_the_cluster(host) or host in allowed_hosts):
                yield Finding(path=path, problem=f"a secret goes to {host or 'a host'} by plain HTTP", fix=FIX)
    if resource.kind == "PersistentVolume" and mapping(resource.spec.get("csi")).get("nodePublishSecretRef"):
        url = mapping(mapping(resource.spec.get("csi")).get("volumeAttributes")).get("url")
        if isinstance(url, str) and "://" not in url and url not in allowed_hosts:
            yield Finding(
                path="spec.csi.volumeAttributes.url",
                problem="the volume plugin reads an internal endpoint without scheme by plain HTTP",
                fix="begin it with https://",
            )


def _addresses(resource: Resource) -> Iterator[tuple[str, str]]:
    """Strings next to which a secret is used, with their paths."""
    for pod in pods(resource):
        for path, container in pod.containers():
            if _has_secret(container):
                yield from texts({name: container.get(name) for name in ("command", "args")}, path)
                for variable in map(mapping, items(container.get("env"))):
                    name, value = text(variable.get("name")), variable.get("value")
                    if not PROXY_VARIABLE.search(name):
                        yield f"{path}.env[{name}].value", text(value)
    match resource.kind:
        case "PersistentVolume":
            if mapping(resource.spec.get("csi")).get("nodePublishSecretRef"):
                yield from texts(mapping(resource.spec.get("csi")).get("volumeAttributes"), "spec.csi.volumeAttributes")
        case "Dataset":
            for index, mount in enumerate(map(mapping, items(resource.spec.get("mounts")))):
                if mount.get("encryptOptions"):
                    yield from texts(mount.get("options"), f"spec.mounts[{index}].options")
        case "ScaledObject":
            for index, trigger in enumerate(map(mapping, items(resource.spec.get("triggers")))):
                if trigger.get("authenticationRef"):
                    yield from texts(trigger.get("metadata"), f"spec.triggers[{index}].metadata")
    if resource.type == CLOUD_PROVIDER:
        yield from texts(cloud_endpoints(resource), "endpoints")


def _has_secret(container: Mapping[str, Any]) -> bool:
    variables = [mapping(mapping(one).get("valueFrom")) for one in items(container.get("env"))]
    sources = [mapping(one) for one in items(container.get("envFrom"))]
    given = [*(one.get("secretKeyRef") for one in variables), *(one.get("secretRef") for one in sources)]
    return any(one is UNKNOWN or one for one in given)


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _is_of_the_cluster(host: str) -> bool:
    """A name that only the cluster's DNS knows; what goes there stays in the pod network."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return bool(host) and ("." not in host or host.endswith(CLUSTER_SUFFIXES))
    return False
