"""What a pod takes from the cluster: ConfigMaps, Secrets, tokens, and its own fields."""

import base64
import re
from collections.abc import Mapping
from typing import Any, Protocol

import urllib3
from kubernetes import client

UNREACHABLE = (client.ApiException, urllib3.exceptions.HTTPError, OSError)
"""What a request to the API server raises."""

Manifest = Mapping[str, Any]

REQUEST_SECONDS = 30

GROUP = "leaderworkerset.sigs.k8s.io/name"
"""In the selector of a Service of engines."""

FIELD = re.compile(r"metadata\.(?P<map>labels|annotations)\['(?P<key>[^']+)'\]")
FIELDS = ("metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName")


class MissingError(Exception):
    """Something that the pod names is not there (yet); the kubelet says so and tries again."""


class UnsupportedError(Exception):
    """The pod asks for something that this runner does not have."""


class Sources(Protocol):
    """Where they come from. All raise MissingError."""

    def config_map(self, namespace: str, name: str) -> dict[str, bytes]:
        """The contents by key."""

    def secret(self, namespace: str, name: str) -> dict[str, bytes]:
        """The contents by key."""

    def token(self, pod: Manifest, audience: str | None, seconds: int) -> bytes:
        """A token of the pod's service account, bound to the pod."""

    def api_server(self) -> tuple[str, str]:
        """Host and port of the API server."""

    def address(self, namespace: str, service: str, port: int) -> str | None:
        """Host and port of this machine that play the Service's; None for a Service of no engine, or none at all."""


class ClusterSources:
    """From the API server. ``engine`` is the host and port that play the engines."""

    def __init__(self, api: Any, engine: str) -> None:
        self._api = api
        self._engine = engine

    def config_map(self, namespace: str, name: str) -> dict[str, bytes]:
        found = self._found(f'configmap "{name}"', self._api.read_namespaced_config_map, name, namespace)
        texts = {key: value.encode() for key, value in (found.data or {}).items()}
        return texts | _decoded(found.binary_data)

    def secret(self, namespace: str, name: str) -> dict[str, bytes]:
        found = self._found(f'secret "{name}"', self._api.read_namespaced_secret, name, namespace)
        return _decoded(found.data)

    def token(self, pod: Manifest, audience: str | None, seconds: int) -> bytes:
        metadata, account = pod["metadata"], pod["spec"]["serviceAccountName"]
        bound = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
        request = {"audiences": [audience] if audience else [], "expirationSeconds": seconds, "boundObjectRef": bound}
        found = self._found(
            f'serviceaccount "{account}"',
            self._api.create_namespaced_service_account_token,
            account,
            metadata["namespace"],
            {"spec": request},
        )
        return str(found.status.token).encode()

    def api_server(self) -> tuple[str, str]:
        url = urllib3.util.parse_url(self._api.api_client.configuration.host)
        return str(url.host), str(url.port)

    def address(self, namespace: str, service: str, port: int) -> str | None:
        try:
            found = self._found(f'service "{service}"', self._api.read_namespaced_service, service, namespace)
        except MissingError:
            return None
        serves = any(item.port == port for item in found.spec.ports or [])
        return self._engine if serves and GROUP in (found.spec.selector or {}) else None

    def _found(self, what: str, call: Any, *arguments: Any) -> Any:
        try:
            return call(*arguments, _request_timeout=REQUEST_SECONDS)
        except UNREACHABLE as error:
            why = "not found" if isinstance(error, client.ApiException) and error.status == 404 else short(error)
            raise MissingError(f"{what} {why}") from None


def short(error: Exception) -> str:
    """What a request met, without the body of the answer, which may be about anything."""
    return f"{error.status} {error.reason}" if isinstance(error, client.ApiException) else type(error).__name__


def _decoded(data: Mapping[str, str] | None) -> dict[str, bytes]:
    return {key: base64.b64decode(value) for key, value in (data or {}).items()}


def pod_field(pod: Manifest, path: str) -> str:
    """The field of a ``fieldRef``. Raises UnsupportedError."""
    if match := FIELD.fullmatch(path):
        return str((pod["metadata"].get(match["map"]) or {}).get(match["key"], ""))
    if path not in FIELDS:
        raise UnsupportedError(f"the field {path}; those that are: {', '.join(FIELDS)}, labels and annotations by key")
    part, _, name = path.partition(".")
    return str(pod[part].get(name, ""))
