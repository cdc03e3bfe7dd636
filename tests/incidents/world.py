"""Pods, and a cluster of the tests' own."""

import base64
import copy
import gzip
import json
from typing import Any
from urllib.parse import unquote

from deepseek_acs.apiserver import ApiError, ApiServer
from deepseek_acs.apiserver.watching import LABELS
from deepseek_acs.incidents.watch import FIELD_MANAGER

__all__ = ["LABELS", "Cluster", "deleted", "event", "group", "pod", "terminated"]

BASE = "/api/v1/namespaces/n"
STORE = f"{BASE}/configmaps/r1-incidents"
LWS = "/apis/leaderworkerset.x-k8s.io/v1/namespaces/n/leaderworkersets/r1"


def pod(index: int, worker: int, *, life: int = 1, **status: Any) -> dict[str, Any]:
    labels = {"name": "r1", "group-index": str(index), "worker-index": str(worker), "template-revision-hash": "1"}
    name = f"r1-{index}" + (f"-{worker}" if worker else "")
    container = {"name": "vllm", "resources": {"limits": {"memory": "512Gi"}}}
    return {
        "metadata": {
            "name": name,
            "uid": f"{name}.{life}",
            "creationTimestamp": "2026-11-29T13:00:00Z",
            "labels": {f"{LABELS}/{key}": value for key, value in labels.items()},
        },
        "spec": {"nodeName": f"node-{worker}", "containers": [container]},
        "status": {"phase": "Running", "podIP": f"10.0.{index}.{worker}", **status},
    }


def running(index: int, worker: int, life: int = 1) -> dict[str, Any]:
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-29T14:00:00Z"}
    status = {"name": "vllm", "containerID": "containerd://1", "state": {"running": {}}}
    return pod(index, worker, life=life, conditions=[ready], containerStatuses=[status])


def terminated(*, key: str = "state", **state: Any) -> dict[str, Any]:
    return {"name": "vllm", key: {"terminated": {"finishedAt": "2026-11-29T15:00:00Z", "reason": "Error", **state}}}


def deleted(found: dict[str, Any], at: str = "2026-11-29T15:00:31Z", grace: int = 30) -> dict[str, Any]:
    """As it is while it terminates; ``at`` is when the grace period ends."""
    changed = copy.deepcopy(found)
    changed["metadata"] |= {"deletionTimestamp": at, "deletionGracePeriodSeconds": grace}
    return changed


def group(replicas: int = 1, image: str = "a", **metadata: Any) -> dict[str, Any]:
    owner = {"manager": "costguard", "fieldsV1": {"f:spec": {"f:replicas": {}}}}
    spec = {"replicas": replicas, "leaderWorkerTemplate": {"size": 2, "image": image}}
    return {"metadata": {"name": "r1", "managedFields": [owner], **metadata}, "spec": spec}


def event(about: str, reason: str, message: str, *, uid: str = "", at: str = "2026-11-29T15:00:00Z") -> dict[str, Any]:
    involved = {"name": about, **({"uid": uid} if uid else {})}
    return {"involvedObject": involved, "reason": reason, "message": message, "lastTimestamp": at, "metadata": {}}


class Cluster(ApiServer):
    """One LeaderWorkerSet, events, and the ConfigMap with the reports."""

    def __init__(self) -> None:
        self.group: dict[str, Any] | None = group()
        self.events: list[dict[str, Any]] = []
        self.store: dict[str, Any] | None = {"data": {}, "binaryData": {}}
        self.fails = False
        self.patches = 0

    def get(self, path: str) -> dict[str, Any] | None:
        if self.fails:
            raise ApiError(f"GET {path}: 500")
        path, _, query = path.partition("?")
        match path:
            case _ if path == LWS:
                return self.group
            case _ if path == STORE:
                return self.store
        assert path == f"{BASE}/events"
        name = unquote(query.removeprefix("fieldSelector=")).removeprefix("involvedObject.name=")
        return {"items": [one for one in self.events if one["involvedObject"]["name"] == name]}

    def patch(self, path: str, body: Any) -> bool:
        assert path == f"{STORE}?{FIELD_MANAGER}"
        assert self.store is not None
        self.patches += 1
        for part, changes in body.items():
            merged = {**self.store[part], **changes}
            self.store[part] = {name: value for name, value in merged.items() if value is not None}
        return True

    @property
    def data(self) -> dict[str, str]:
        assert self.store is not None
        found: dict[str, str] = self.store["data"]
        return found

    @property
    def ends(self) -> list[dict[str, Any]]:
        return list(json.loads(self.data.get("ends", "[]")))

    @property
    def reports(self) -> dict[str, str]:
        assert self.store is not None
        packed = self.store["binaryData"]
        return {name: gzip.decompress(base64.b64decode(one)).decode() for name, one in sorted(packed.items())}
