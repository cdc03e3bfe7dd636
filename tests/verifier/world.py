"""A cluster of made-up objects: one group of two pods, as it is when all is well."""

import copy
from typing import Any

from deepseek_acs.verifier.objects import FLUID, LWS
from deepseek_acs.verifier.target import Target

TARGET = Target(model="ds", namespace="n", group="r1", service="leaders", port=80, kubeconfig="k.yaml", context="c")
KUBECTL = "kubectl --kubeconfig k.yaml --context c --namespace n"
NAME = "leaderworkerset.sigs.k8s.io/name"

GROUP = f"{LWS}/namespaces/n/leaderworkersets/r1"
PODS = "/api/v1/namespaces/n/pods"
EVENTS = "/api/v1/namespaces/n/events"
CLAIM = "/api/v1/namespaces/n/persistentvolumeclaims/model"
SERVICE = "/api/v1/namespaces/n/services/leaders"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/n/endpointslices"
DATASET = f"{FLUID}/namespaces/n/datasets/model"
LOADS = f"{FLUID}/namespaces/n/dataloads"


def pod(name: str, index: int, **status: Any) -> dict[str, Any]:
    """A ready pod, or one with another status."""
    ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    labels = {NAME: "r1", "leaderworkerset.sigs.k8s.io/worker-index": str(index)}
    if index == 0:
        labels["role"] = "leader"
    container = {"name": "vllm", "startupProbe": {"failureThreshold": 390, "periodSeconds": 10}}
    return {
        "metadata": {"name": name, "uid": f"uid-of-{name}", "labels": labels},
        "spec": {"containers": [container]},
        "status": status or ready,
    }


def healthy() -> dict[str, Any]:
    """The objects by their paths."""
    template = {"spec": {"volumes": [{"name": "shm"}, {"persistentVolumeClaim": {"claimName": "model"}}]}}
    return copy.deepcopy(
        {
            GROUP: {
                "spec": {"replicas": 1, "leaderWorkerTemplate": {"size": 2, "workerTemplate": template}},
                "status": {"readyReplicas": 1, "conditions": [{"type": "Available", "status": "True"}]},
            },
            PODS: {"items": [pod("r1-0", 0), pod("r1-0-1", 1)]},
            CLAIM: {"status": {"phase": "Bound"}},
            SERVICE: {"spec": {"ports": [{"port": 80}], "selector": {NAME: "r1", "role": "leader"}}},
            SLICES: {"items": [{"endpoints": [{"conditions": {"ready": True}}], "ports": [{"port": 8000}]}]},
        }
    )


class FakeCluster:
    """Answers from a dict; selects pods by their labels."""

    def __init__(self, objects: dict[Any, Any]) -> None:
        self.objects = objects

    def get(self, path: str, **query: str) -> dict[str, Any] | None:
        found = self.objects.get(path)
        if path != PODS or found is None:
            return found
        wanted = dict(word.split("=") for word in query["labelSelector"].split(","))
        return {"items": [item for item in found["items"] if wanted.items() <= item["metadata"]["labels"].items()]}

    def log(self, pod: str, namespace: str, container: str, lines: int) -> str:
        return "\n".join(self.objects.get((pod, namespace, container), "").splitlines()[-lines:])
