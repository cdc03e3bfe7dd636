"""What the leaders of the embedded cluster were told: read from their pods, as an engine reads its arguments."""

import base64
import re
from collections.abc import Iterator
from typing import Any

from kubernetes import client

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
        )

    def _keys(self, pod: Any) -> Iterator[str]:
        for container in pod.spec.containers:
            for entry in container.env or []:
                reference = entry.value_from and entry.value_from.secret_key_ref
                if entry.name == KEY and reference:
                    yield from self._key(pod.metadata.namespace, reference.name, reference.key)

    def _key(self, namespace: str, name: str, key: str) -> Iterator[str]:
        try:
            secret = self._api.read_namespaced_secret(name, namespace, _request_timeout=REQUEST_SECONDS)
        except client.ApiException as error:
            if error.status != 404:
                raise
            # The pod of the Secret before is about to go.
            return
        yield base64.b64decode(secret.data[key]).decode()


def _models(pod: Any) -> Iterator[str]:
    for container in pod.spec.containers:
        # As one word of a shell's line, or as words of their own.
        line = " ".join([*(container.command or []), *(container.args or [])])
        yield from re.findall(r"--served-model-name[ =]+'?([^\s']+)", line)
