"""The checks of the cluster's objects: group, pods, storage, Service. Each checks one thing and reports the result."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from .cluster import Cluster
from .pods import GROUP_NAME, Event, Pod, checked_first, is_leader, is_ready, trouble
from .results import FaultError, Found, Layer, SkippedError
from .target import Target

INFERENCE = "/apis/inference.networking.k8s.io/v1"
LWS = "/apis/leaderworkerset.x-k8s.io/v1"
FLUID = "/apis/data.fluid.io/v1alpha1"
DEPLOY = "pulumi up"

LAST_LINES = 5
"""Of the log of a pod that checks itself before the engine starts."""


@dataclass(frozen=True, kw_only=True)
class Objects:
    """The objects of one deployment, read again by each check."""

    cluster: Cluster
    target: Target

    def group(self) -> Found[Mapping[str, Any]]:
        """The LeaderWorkerSet exists, and all its replicas are ready."""
        target = self.target
        found = self._leader_worker_set()
        wanted, status = found["spec"].get("replicas", 1), found.get("status", {})
        ready = status.get("readyReplicas", 0)
        available = _conditions(found).get("Available") == "True"
        if wanted == 0 and (held_back := self._guard_says("heldBack")):
            raise FaultError(
                Layer.GROUP,
                f"{target.group} is held back: {held_back}",
                fix="find out why its starts fail (docs/runbook.md); it is started again by itself",
            )
        if wanted == 0 and (given_up := self._guard_says("givenUp")):
            raise FaultError(
                Layer.GROUP,
                f"{target.group} was given up: {given_up}",
                fix="remove the cause, then start it again: docs/cost.md#starting-again",
            )
        if wanted == 0:
            raise FaultError(
                Layer.GROUP,
                f"{target.group} is scaled to 0: nothing serves",
                fix="set deployment.inference.replicas, then pulumi up; with deployment.inference.scaling, check the "
                "autoscaler (kubectl describe scaledobject) and whether hold is 0",
            )
        if ready < wanted or not available:
            raise FaultError(
                Layer.GROUP,
                f"{target.group}: {ready} of {wanted} replicas ready, {'' if available else 'not '}Available",
                fix=target.kubectl(f"describe leaderworkerset {target.group}"),
            )
        return Found(f"{target.group}: {ready} of {wanted} replicas ready, Available", found)

    def incidents(self) -> Found[str]:
        """The last end of a group that was not requested, if a program keeps evidence of them. It is past, so it is no
        fault."""
        target = self.target
        name = f"{target.group}-incidents"
        found = self._get(f"/api/v1/namespaces/{target.namespace}/configmaps/{name}")
        if found is None:
            raise SkippedError(f"the ConfigMap {name} with the reports about incidents is gone: pulumi up --refresh")
        last = str((found.get("data") or {}).get("last", ""))
        if not last:
            return Found("no incident so far", last)
        return Found(f"last incident: {last}; its report: pulumi stack output incidentsCommand", last)

    def gate(self) -> Found[str]:
        """The last update has passed the gate."""
        target = self.target
        records = target.records or ""
        if text := self._status(records, "refused"):
            refused = json.loads(text)
            done = {"returned": "the accepted template was put back", "held": "the update is held"}[refused["action"]]
            raise FaultError(
                Layer.GROUP,
                f"template {refused['template_digest']} did not pass the gate: {refused['why']}; {done}",
                fix="write other settings, then pulumi up: docs/known-good.md#after-a-refusal",
            )
        text = self._status(records, f"accepted.{target.group}")
        if not text:
            raise SkippedError(f"no template of {target.group} has passed the gate yet")
        record = json.loads(text)
        digest = str(record["template_digest"])
        return Found(f"template {digest} was accepted {record['accepted_at']}", digest)

    def new_group(self) -> Found[Mapping[str, Any]]:
        """The groups of a second revision are ready, and have not lost their requests."""
        target = self.target
        found = replace(self, target=replace(target, group=target.new_group or "")).group()
        if target.new_group_guard and (why := self._status(target.new_group_guard, "putBack")):
            raise FaultError(
                Layer.GROUP,
                f"{target.new_group} gets no requests any more: {why}",
                fix="remove the cause, or deployment.update: docs/updates.md#the-automatic-way-back",
            )
        return found

    def pods(self) -> Found[list[Pod]]:
        """All pods of all groups exist and are ready; returns the leaders."""
        target, spec = self.target, self._leader_worker_set()["spec"]
        size = spec["leaderWorkerTemplate"].get("size", 1)
        found = self._pods(f"{GROUP_NAME}={target.group}")
        for pod in found:
            name = pod["metadata"]["name"]
            problem = None if is_ready(pod) else trouble(pod, self._events(pod), datetime.now(UTC), self._said(pod))
            if problem is not None:
                raise FaultError(problem.layer, f"{name} {problem.problem}", fix=target.kubectl(problem.command))
        wanted = spec.get("replicas", 1) * size
        if len(found) < wanted:
            raise FaultError(
                Layer.PODS,
                f"{len(found)} of {wanted} pods exist: the controller could not create the others (quota, admission)",
                fix=target.kubectl("get events --field-selector type=Warning --sort-by .lastTimestamp"),
            )
        leaders = [pod for pod in found if is_leader(pod)]
        return Found(f"{len(found)} pods ready, {len(leaders)} of them leaders", leaders)

    def ready_leaders(self) -> list[Pod]:
        """The leaders that can be tested, even if others have failed."""
        return [pod for pod in self._pods(f"{GROUP_NAME}={self.target.group}") if is_leader(pod) and is_ready(pod)]

    def storage(self) -> Found[str]:
        """The claim that the pods mount is bound, and its cache is filled."""
        target = self.target
        template = self._leader_worker_set()["spec"]["leaderWorkerTemplate"]["workerTemplate"]
        volumes = template["spec"].get("volumes", [])
        claim = next((v["persistentVolumeClaim"]["claimName"] for v in volumes if "persistentVolumeClaim" in v), None)
        if claim is None:
            raise SkippedError("the pods mount no claim")
        found = self._get(f"/api/v1/namespaces/{target.namespace}/persistentvolumeclaims/{claim}")
        phase = found.get("status", {}).get("phase") if found else None
        if phase != "Bound":
            raise FaultError(
                Layer.STORAGE,
                f"the claim {claim} {f'is {phase}' if found else 'does not exist'}",
                fix=target.kubectl(f"describe pvc {claim}") if found else DEPLOY,
            )
        cache = self._cache(claim)
        return Found(f"the claim {claim} is bound{cache}", claim)

    def service(self) -> Found[int]:
        """The Service selects leaders only, and the ready ones are its endpoints; returns the leaders' port."""
        target = self.target
        found = self._get(f"/api/v1/namespaces/{target.namespace}/services/{target.service}")
        if not found:
            raise FaultError(Layer.SERVICE, f"the Service {target.service} does not exist", fix=DEPLOY)
        describe = target.kubectl(f"describe service {target.service}")
        ports = {port["port"] for port in found["spec"].get("ports", [])}
        if target.port not in ports:
            raise FaultError(Layer.SERVICE, f"{target.service} has no port {target.port}", fix=DEPLOY)
        selector = ",".join(f"{name}={value}" for name, value in (found["spec"].get("selector") or {}).items())
        if not selector:
            raise FaultError(Layer.SERVICE, f"{target.service} selects no pods", fix=DEPLOY)
        if others := [pod["metadata"]["name"] for pod in self._pods(selector) if not is_leader(pod)]:
            problem = f"{target.service} selects pods that are not leaders and do not answer: {', '.join(others)}"
            raise FaultError(Layer.SERVICE, problem, fix=describe)
        ready, container_ports = self._endpoints(target.service)
        if not ready or not container_ports:
            fix = target.kubectl(f"get endpointslices -l kubernetes.io/service-name={target.service} -o yaml")
            problem = f"{target.service} has no ready endpoint: it selects {selector}, and no such pod is ready"
            raise FaultError(Layer.SERVICE, problem, fix=fix)
        text = f"{target.service}:{target.port} selects leaders only, ready: {len(ready)}"
        return Found(text, container_ports[0])

    def pool(self) -> Found[str]:
        """A Gateway has accepted the InferencePool of the leaders, and its endpoint picker is ready."""
        target, name = self.target, self.target.pool
        found = self._get(f"{INFERENCE}/namespaces/{target.namespace}/inferencepools/{name}")
        if found is None:
            raise FaultError(Layer.SERVICE, f"the InferencePool {name} does not exist", fix=DEPLOY)
        describe = target.kubectl(f"describe inferencepool {name}")
        picker = found["spec"]["endpointPickerRef"]["name"]
        if not self._endpoints(picker)[0]:
            raise FaultError(
                Layer.SERVICE,
                f"no endpoint picker is ready behind the Service {picker}: the Gateway distributes requests by itself",
                fix=target.kubectl(f"describe deployment {picker}"),
            )
        parents = found.get("status", {}).get("parents") or []
        if not parents:
            problem = f"no Gateway has taken the InferencePool {name}: its controller may not support it"
            raise FaultError(Layer.SERVICE, problem, fix=target.kubectl("get httproute -o yaml"))
        for condition in (one for parent in parents for one in parent.get("conditions") or []):
            if condition["status"] == "False":
                problem = f"the InferencePool {name} is not {condition['type']}: {condition.get('message', '')}"
                raise FaultError(Layer.SERVICE, problem, fix=describe)
        return Found(f"the InferencePool {name} is accepted, its endpoint picker {picker} is ready", picker)

    def _endpoints(self, service: str) -> tuple[list[Any], list[int]]:
        """Ready endpoints of a Service, and their ports."""
        slices = self._list(
            f"/apis/discovery.k8s.io/v1/namespaces/{self.target.namespace}/endpointslices",
            labelSelector=f"kubernetes.io/service-name={service}",
        )
        endpoints = [endpoint for item in slices for endpoint in item.get("endpoints") or []]
        ready = [endpoint for endpoint in endpoints if endpoint.get("conditions", {}).get("ready", True)]
        return ready, [port["port"] for item in slices for port in item.get("ports") or []]

    def _leader_worker_set(self) -> dict[str, Any]:
        target = self.target
        found = self._get(f"{LWS}/namespaces/{target.namespace}/leaderworkersets/{target.group}")
        if found is None:
            raise FaultError(
                Layer.GROUP,
                f"there is no LeaderWorkerSet {target.group} in the namespace {target.namespace}",
                fix=DEPLOY,
            )
        return found

    def _guard_says(self, what: str) -> str:
        """What the program ``costguard`` has written about groups that it has scaled away; empty if it has not."""
        return self._status(f"{self.target.group}-costguard", what)

    def _status(self, config_map: str, key: str) -> str:
        status = self._get(f"/api/v1/namespaces/{self.target.namespace}/configmaps/{config_map}") or {}
        return str((status.get("data") or {}).get(key, ""))

    def _cache(self, claim: str) -> str:
        """Fluid gives a dataset and its claim the same name."""
        target = self.target
        dataset = self._get(f"{FLUID}/namespaces/{target.namespace}/datasets/{claim}")
        if dataset is None:
            return ""
        phase = dataset.get("status", {}).get("phase")
        if phase != "Bound":
            problem = f"the Dataset {claim} is {phase}"
            raise FaultError(Layer.STORAGE, problem, fix=target.kubectl(f"describe dataset {claim}"))
        for load in self._list(f"{FLUID}/namespaces/{target.namespace}/dataloads"):
            phase, name = load.get("status", {}).get("phase"), load["metadata"]["name"]
            if load["spec"]["dataset"]["name"] == claim and phase != "Complete":
                problem = f"the preload {name} is {phase}, so pods read from the bucket"
                raise FaultError(Layer.STORAGE, problem, fix=target.kubectl(f"describe dataload {name}"))
        cached = dataset.get("status", {}).get("cacheStates", {}).get("cachedPercentage")
        return f", its cache filled{f' to {cached}' if cached else ''}"

    def _events(self, pod: Pod) -> list[Event]:
        # Not by its name, which the pods of the groups before had, too.
        return self._list(
            f"/api/v1/namespaces/{self.target.namespace}/events",
            fieldSelector=f"involvedObject.uid={pod['metadata']['uid']}",
        )

    def _said(self, pod: Pod) -> str:
        if (container := checked_first(pod)) is None:
            return ""
        return self.cluster.log(pod["metadata"]["name"], self.target.namespace, container, LAST_LINES)

    def _pods(self, selector: str) -> list[Pod]:
        return self._list(f"/api/v1/namespaces/{self.target.namespace}/pods", labelSelector=selector)

    def _list(self, path: str, **query: str) -> list[Any]:
        return list((self.cluster.get(path, **query) or {}).get("items") or [])

    def _get(self, path: str) -> dict[str, Any] | None:
        return self.cluster.get(path)


def _conditions(found: Mapping[str, Any]) -> dict[str, str]:
    return {c["type"]: c["status"] for c in found.get("status", {}).get("conditions") or []}
