"""What the leaders of the embedded cluster were told: read from their pods, as an engine reads its arguments."""

import base64
import re
from collections.abc import Iterator
from typing import Any

from kubernetes import client

from local.openai.middleware import Middleware
from local.openai.server import Served

LEADERS = "leaderworkerset.sigs.k8s.io/worker-index=0"
KEY = "VLLM_API_KEY"
"""https://docs.vllm.ai/en/stable/configuration/env_vars.html"""

REQUEST_SECONDS = 10


class ClusterLeaders:
    """Asks the API server for each request, so that a rotated key counts as soon as its pods run.

    It does not know which pod a request was meant for, so it answers for all of them.
    """

    def __init__(self, api: Any) -> None:
        self._api = api

    def served(self) -> Served:
        """Raises client.ApiException, urllib3.exceptions.HTTPError."""
        pods = self._api.list_pod_for_all_namespaces(label_selector=LEADERS, _request_timeout=REQUEST_SECONDS).items
        return Served(
            models=frozenset(name for pod in pods for name in _models(pod)),
            keys=frozenset(key for pod in pods for key in self._keys(pod)),
            middlewares=tuple(middleware for pod in pods for middleware in self._middlewares(pod)),
        )

    def _keys(self, pod: Any) -> Iterator[str]:
        for container in pod.spec.containers:
            for entry in container.env or []:
                reference = entry.value_from and entry.value_from.secret_key_ref
                if entry.name == KEY and reference:
                    yield from self._key(pod.metadata.namespace, reference.name, reference.key)

    def _key(self, namespace: str, name: str, key: str) -> Iterator[str]:
        # Without it, the pod of the Secret before is about to go.
        if secret := self._content(self._api.read_namespaced_secret, name, namespace):
            yield base64.b64decode(secret.data[key]).decode()

    def _content(self, read: Any, name: str, namespace: str) -> Any:
        try:
            return read(name, namespace, _request_timeout=REQUEST_SECONDS)
        except client.ApiException as error:
            if error.status != 404:
                raise
            return None

    def _middlewares(self, pod: Any) -> Iterator[Middleware]:
        """With what its volumes hold: Python finds the module on PYTHONPATH, and the module the other folders."""
        for container in pod.spec.containers:
            path = next((entry.value for entry in container.env or [] if entry.name == "PYTHONPATH"), "").split(":")[0]
            folders = {mount.mount_path: self._volume(pod, mount.name) for mount in container.volume_mounts or []}
            files = folders.pop(path, None)
            for name in _arguments(container, "--middleware"):
                # Without them, they are those of a pod that is about to go.
                if files and None not in folders.values():
                    yield Middleware(name=name, files=files, folders={path: f for path, f in folders.items() if f})

    def _volume(self, pod: Any, name: str) -> Any:
        """Files of a ConfigMap or a Secret, and none of other volumes; None if it is gone."""
        volume = next(one for one in pod.spec.volumes if one.name == name)
        namespace = pod.metadata.namespace
        if volume.secret:
            found = self._content(self._api.read_namespaced_secret, volume.secret.secret_name, namespace)
            return found and {key: base64.b64decode(value) for key, value in found.data.items()}
        if volume.config_map:
            found = self._content(self._api.read_namespaced_config_map, volume.config_map.name, namespace)
            return found and {key: value.encode() for key, value in (found.data or {}).items()}
        return {}


def _models(pod: Any) -> Iterator[str]:
    for container in pod.spec.containers:
        yield from _arguments(container, "--served-model-name")


def _arguments(container: Any, flag: str) -> list[str]:
    # As one word of a shell's line, or as words of their own.
    line = " ".join([*(container.command or []), *(container.args or [])])
    return re.findall(rf"{flag}[ =]+'?([^\s']+)", line)
