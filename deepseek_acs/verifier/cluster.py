"""The API server, read as plain JSON."""

import json
from pathlib import Path
from typing import Any, Protocol

import urllib3
from kubernetes import client, config
from kubernetes.config import ConfigException

from .results import FaultError, Found, Layer
from .target import Target

REQUEST_SECONDS = 15
OK, NOT_FOUND = 200, 404


class Cluster(Protocol):
    """What the checks read."""

    def get(self, path: str, **query: str) -> dict[str, Any] | None:
        """One object, or a list of them; None if there is none. Raises FaultError."""

    def log(self, pod: str, namespace: str, container: str, lines: int) -> str:
        """The last lines of a container; empty if there are none, or they may not be read."""


class ApiServer:
    """The API server of a kubeconfig."""

    def __init__(self, target: Target) -> None:
        """Raises FaultError if the kubeconfig cannot be used."""
        self._target = target
        try:
            file = str(Path(target.kubeconfig).expanduser()) if target.kubeconfig else None
            configuration = client.Configuration()
            config.load_kube_config(file, target.context, client_configuration=configuration, persist_config=False)
        except (ConfigException, OSError, ValueError) as error:
            raise FaultError(
                Layer.API,
                f"the kubeconfig {target.kubeconfig or '(default)'} cannot be used: {type(error).__name__}",
                fix="set deployment.cluster.kubeconfigFile and context of the stack to a kubeconfig of the cluster",
            ) from None
        # The default is to try three times more.
        configuration.retries = False
        self.api = client.ApiClient(configuration)

    def get(self, path: str, **query: str) -> dict[str, Any] | None:
        request = self.api.param_serialize(
            "GET",
            path,
            query_params=list(query.items()),
            header_params={"Accept": "application/json"},
            auth_settings=["BearerToken"],
        )
        try:
            response = self.api.call_api(*request, _request_timeout=REQUEST_SECONDS)
            body = response.read()
        except (client.ApiException, urllib3.exceptions.HTTPError, OSError) as error:
            raise FaultError(
                Layer.API,
                f"the API server {self.api.configuration.host} does not answer: {type(error).__name__}",
                fix=self._target.kubectl("get --raw /readyz"),
            ) from None
        if response.status == NOT_FOUND:
            return None
        if response.status != OK:
            raise FaultError(
                Layer.API,
                f"the API server refuses to read {path}: {response.status} {response.reason}",
                fix=self._target.kubectl(f"get --raw {path}"),
            )
        found: dict[str, Any] = json.loads(body)
        return found

    def log(self, pod: str, namespace: str, container: str, lines: int) -> str:
        try:
            found: str = client.CoreV1Api(self.api).read_namespaced_pod_log(
                pod, namespace, container=container, tail_lines=lines, _request_timeout=REQUEST_SECONDS
            )
        except (client.ApiException, urllib3.exceptions.HTTPError, OSError):
            return ""
        return found


def version(cluster: Cluster) -> Found[dict[str, Any]]:
    """The API server answers."""
    found = cluster.get("/version") or {}
    return Found(f"Kubernetes {found.get('gitVersion', 'of an unknown version')} answers", found)
