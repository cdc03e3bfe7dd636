"""The current state of the cluster, queried by the program itself: Pulumi knows only the stack's state."""

import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

TIMEOUT_SECONDS = 10

METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
"""The content of objects is not requested: it may be a secret
(https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables)."""


class LookupFailedError(Exception):
    """The cluster did not answer, or refused. The text may be logged: it contains nothing of the kubeconfig."""


class LiveCluster:
    """One cluster, from a kubeconfig: the path of the file, or its contents.

    All methods raise LookupFailedError and are thread-safe. The client is imported and connected on the first call,
    because a preview without changes needs neither."""

    def __init__(self, kubeconfig: Path | str, context: str | None) -> None:
        self._kubeconfig = kubeconfig
        self._context = context
        self._client: Any = None
        self._has_answered = False
        self._unreachable: LookupFailedError | None = None
        self._resources: dict[str, Mapping[str, Mapping[str, Any]]] = {}
        self._lock = threading.Lock()

    def serves(self, api_version: str, kind: str) -> bool:
        """Whether the cluster serves the kind."""
        return kind in self._resources_of(api_version)

    def metadata(self, api_version: str, kind: str, *, namespace: str | None, name: str) -> Mapping[str, Any] | None:
        """Metadata of an object; None if the object or its kind does not exist."""
        resource = self._resources_of(api_version).get(kind)
        if resource is None:
            return None
        place = f"namespaces/{namespace}/" if resource["namespaced"] else ""
        found = self._get(f"{_prefix(api_version)}/{place}{resource['name']}/{name}", accept=METADATA_ONLY)
        return None if found is None else found["metadata"]

    def config_map(self, namespace: str, name: str) -> Mapping[str, str] | None:
        """The text data of a ConfigMap; None if it does not exist."""
        found = self._get(f"/api/v1/namespaces/{namespace}/configmaps/{name}")
        return None if found is None else found.get("data") or {}

    def jobs(self, namespace: str) -> Sequence[Mapping[str, Any]]:
        """The Jobs of a namespace."""
        found: Sequence[Mapping[str, Any]] = (self._get(f"/apis/batch/v1/namespaces/{namespace}/jobs") or {})["items"]
        return found

    def delete_job(self, namespace: str, name: str) -> None:
        """Deletes a Job and then its pods."""
        path = f"/apis/batch/v1/namespaces/{namespace}/jobs/{name}"
        self._request("DELETE", path, body={"propagationPolicy": "Background"})

    def _resources_of(self, api_version: str) -> Mapping[str, Mapping[str, Any]]:
        with self._lock:
            found = self._resources.get(api_version)
        if found is None:
            listed = (self._get(_prefix(api_version)) or {}).get("resources", [])
            found = {resource["kind"]: resource for resource in listed if "/" not in resource["name"]}
            with self._lock:
                self._resources[api_version] = found
        return found

    def _get(self, path: str, *, accept: str = "application/json") -> dict[str, Any] | None:
        return self._request("GET", path, accept=accept)

    def _request(
        self, method: str, path: str, *, accept: str = "application/json", body: object = None
    ) -> dict[str, Any] | None:
        """The answer; None for 404."""
        if self._unreachable is not None:
            # One wait is enough.
            raise self._unreachable
        client = self._connected()
        request = client.param_serialize(
            method,
            path,
            header_params={"Accept": accept, "Content-Type": "application/json"},
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            response = client.call_api(*request, _request_timeout=TIMEOUT_SECONDS)
            content = response.read()
        except Exception as error:  # of urllib3, of the client, of the operating system
            failure = LookupFailedError(f"{path}: {type(error).__name__}")
            if not self._has_answered:
                self._unreachable = failure
            raise failure from None
        self._has_answered = True
        if response.status == 404:
            return None
        if response.status >= 400:
            raise LookupFailedError(f"{path}: status {response.status}")
        answer: dict[str, Any] = json.loads(content)
        return answer

    def _connected(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = _client(self._kubeconfig, self._context)
            return self._client


def _client(kubeconfig: Path | str, context: str | None) -> Any:
    import yaml
    from kubernetes import config
    from kubernetes.client import ApiClient, Configuration

    configuration = Configuration()
    options = {"context": context, "client_configuration": configuration}
    try:
        if isinstance(kubeconfig, Path):
            config.load_kube_config(str(kubeconfig), **options)
        else:
            config.load_kube_config_from_dict(yaml.safe_load(kubeconfig), **options)
    except Exception as error:
        # Without its text and cause: both may quote the kubeconfig.
        raise LookupFailedError(f"the kubeconfig cannot be used: {type(error).__name__}") from None
    configuration.retries = False
    return ApiClient(configuration)


def _prefix(api_version: str) -> str:
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
