"""An API server with one LeaderWorkerSet, whose controller does what LeaderWorkerSet does, and a clock of its own."""

import copy
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from deepseek_acs.apiserver import ApiError
from deepseek_acs.apiserver.watching import LABELS, Clock
from deepseek_acs.gate.gate import Gate, Subject
from deepseek_acs.gate.judgement import Limits, Measured, Speed
from deepseek_acs.gate.record import Record, accepted

LWS = "/apis/leaderworkerset.x-k8s.io/v1/namespaces/n/leaderworkersets"
STORE = "/api/v1/namespaces/n/configmaps/r1-known-good"
GOOD = Measured(asked=20, passed=19, speed=Speed(first_token_seconds=0.5, tokens_per_second=40))
LIMITS = Limits(at_least=0.9, worse_by=0.02, slower_by=1.25)
A: dict[str, Any]
B: dict[str, Any]
A, B = ({"leaderTemplate": {"spec": {"image": image}}, "size": 2} for image in ("a", "b"))
LOAD_SECONDS = 30.0


def template_hash(template: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:8]


class KilledError(Exception):
    """The program ends here, as by SIGKILL."""


class World(Clock):
    """``kill_after`` is the number of requests that change something, after which the program is killed."""

    def __init__(self, replicas: int = 3, *, says_generation: bool = True) -> None:
        self.time = 1_764_374_400.0
        self.replicas, self.partition = replicas, 0
        self.template: dict[str, Any] = copy.deepcopy(A)
        self.generation = 1
        self.says_generation = says_generation
        self.groups = {index: (template_hash(A), 0.0) for index in range(replicas)}
        """By index: the revision that it runs, and when it is ready."""
        self.data: dict[str, str] = {}
        self.events: list[tuple[str, str]] = []
        self.kill_after: int | None = None
        self.fails = 0
        self.never_ready: set[str] = set()
        self.moves: list[int] = []

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds
        self._reconcile()

    def apply(self, template: Mapping[str, Any], partition: int | None = None) -> None:
        """What ``pulumi up`` does."""
        self.template = copy.deepcopy(dict(template))
        self.partition = self.replicas if partition is None else partition
        self.generation += 1

    @property
    def revisions(self) -> list[str]:
        return [revision for _, (revision, _) in sorted(self.groups.items())]

    def _reconcile(self) -> None:
        """One group at a time, from the last one, and no further than the partition."""
        wanted = template_hash(self.template)
        if any(ready > self.time for _, ready in self.groups.values()):
            return
        for index in sorted(self.groups, reverse=True):
            if index >= self.partition and self.groups[index][0] != wanted:
                ready = self.time + (1e9 if wanted in self.never_ready else LOAD_SECONDS)
                self.groups[index] = (wanted, ready)
                return

    def get(self, path: str) -> dict[str, Any] | None:
        if self.fails:
            self.fails -= 1
            raise ApiError("500")
        wanted = template_hash(self.template)
        if path == f"{LWS}/r1":
            ready = [revision for revision, at in self.groups.values() if at <= self.time]
            status: dict[str, Any] = {
                "readyReplicas": len(ready),
                "updatedReplicas": self.revisions.count(wanted),
            }
            if self.says_generation:
                status["observedGeneration"] = self.generation
            rolling = {"rollingUpdateConfiguration": {"partition": self.partition, "maxUnavailable": 1}}
            return copy.deepcopy(
                {
                    "metadata": {
                        "name": "r1",
                        "namespace": "n",
                        "uid": "u",
                        "generation": self.generation,
                        "resourceVersion": str(self.generation),
                    },
                    "spec": {
                        "replicas": self.replicas,
                        "leaderWorkerTemplate": self.template,
                        "rolloutStrategy": rolling,
                    },
                    "status": status,
                }
            )
        if path == "/apis/apps/v1/namespaces/n/statefulsets/r1":
            return {"metadata": {"labels": {f"{LABELS}/template-revision-hash": wanted}}}
        if path == STORE:
            return {"data": dict(self.data)}
        assert path.startswith("/api/v1/namespaces/n/pods?labelSelector="), path
        return {"items": [self._pod(index) for index in self.groups]}

    def _pod(self, index: int) -> dict[str, Any]:
        revision, ready = self.groups[index]
        return {
            "metadata": {
                "name": f"r1-{index}",
                "labels": {f"{LABELS}/group-index": str(index), f"{LABELS}/template-revision-hash": revision},
            },
            "status": {
                "podIP": f"10.0.0.{index}",
                "conditions": [{"type": "Ready", "status": str(ready <= self.time)}],
                "containerStatuses": [{"name": "vllm", "imageID": f"image@{revision}"}],
            },
        }

    def patch(self, path: str, body: Any) -> bool:
        path, _, query = path.partition("?")
        assert query == "fieldManager=deepseek-gate"
        self._count()
        if path == STORE:
            changed = {**self.data, **body["data"]}
            self.data = {name: value for name, value in changed.items() if value is not None}
            return True
        assert path == f"{LWS}/r1"
        assert body["metadata"]["resourceVersion"] == str(self.generation)
        spec = body["spec"]
        self.partition = spec["rolloutStrategy"]["rollingUpdateConfiguration"]["partition"]
        self.moves.append(self.partition)
        self.template = merged(self.template, spec.get("leaderWorkerTemplate", {}))
        self.generation += 1
        return True

    def create(self, path: str, body: Any) -> None:
        assert path == "/apis/events.k8s.io/v1/namespaces/n/events"
        self._count()
        self.events.append((body["reason"], body["note"]))

    def _count(self) -> None:
        if self.kill_after is not None:
            if self.kill_after == 0:
                raise KilledError
            self.kill_after -= 1

    def accepted(self) -> Record:
        found = accepted(self.data, "r1")
        assert found is not None
        return found


def merged(before: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    found = dict(before) if isinstance(before, dict) else {}
    for name, value in patch.items():
        if value is None:
            found.pop(name, None)
        else:
            found[name] = merged(found.get(name), value)
    return found


class Answers:
    """Measurements by the image of the template that the asked group runs."""

    def __init__(self, world: World, by_image: Mapping[str, Measured]) -> None:
        self._world, self._by_image = world, by_image
        self.exam = "e1"
        self.asked: list[str] = []

    def examine(self, host: str, known: Record | None) -> Measured:
        self.asked.append(host)
        return self._by_image[self._world.template["leaderTemplate"]["spec"]["image"]]


def gate(world: World, answers: Answers, digest: str, **changes: Any) -> Gate:
    subject = {"namespace": "n", "group": "r1", "store": "r1-known-good", "container": "vllm"}
    fields = {"digest": digest, "returns": True, "ready_seconds": 600, **subject, **changes}
    return Gate(world, Subject(**fields), LIMITS, answers, world)
