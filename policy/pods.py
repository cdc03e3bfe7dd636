"""The pods that a Kubernetes object creates, for kinds with pod templates."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from policy.resources import UNKNOWN, Resource, items, mapping, text

GROUP = "LeaderWorkerSet"
ENGINE = "vllm"
"""The engine's container."""

HPN_TYPE = "alibabacloud.com/hpn-type"
"""Of a pod with RDMA (https://www.alibabacloud.com/help/en/cs/user-guide/pod-hpn-type-rdma)."""

GROUP_NAME_LABEL = "leaderworkerset.sigs.k8s.io/name"
WORKER_INDEX_LABEL = "leaderworkerset.sigs.k8s.io/worker-index"
"""Labels that the LeaderWorkerSet controller sets
(https://lws.sigs.k8s.io/docs/reference/labels-annotations-and-environment-variables/)."""

_TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "Pod": ("",),
    "PodTemplate": ("template",),
    "ReplicationController": ("spec.template",),
    "ReplicaSet": ("spec.template",),
    "Deployment": ("spec.template",),
    "StatefulSet": ("spec.template",),
    "DaemonSet": ("spec.template",),
    "Job": ("spec.template",),
    "CronJob": ("spec.jobTemplate.spec.template",),
    GROUP: ("spec.leaderWorkerTemplate.leaderTemplate", "spec.leaderWorkerTemplate.workerTemplate"),
}


@dataclass(frozen=True, kw_only=True)
class Pod:
    """One pod template and its path."""

    path: str
    template: Mapping[str, Any]

    @property
    def spec(self) -> Mapping[str, Any]:
        return mapping(self.template.get("spec"))

    @property
    def labels(self) -> Mapping[str, Any]:
        return mapping(mapping(self.template.get("metadata")).get("labels"))

    @property
    def annotations(self) -> Mapping[str, Any]:
        return mapping(mapping(self.template.get("metadata")).get("annotations"))

    @property
    def spec_path(self) -> str:
        return f"{self.path}.spec" if self.path else "spec"

    def containers(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """All containers that are listed, init and ephemeral containers too, each with its path."""
        for field in ("initContainers", "containers", "ephemeralContainers"):
            for container in map(mapping, items(self.spec.get(field))):
                yield f"{self.spec_path}.{field}[{text(container.get('name'))}]", container

    def volumes(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """All volumes, each with its path."""
        for volume in map(mapping, items(self.spec.get("volumes"))):
            yield f"{self.spec_path}.volumes[{text(volume.get('name'))}]", volume

    def setting(self, container: Mapping[str, Any], name: str) -> Any:
        """A field of the container's security context, or else of the pod's
        (https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#security-context)."""
        if UNKNOWN in (contexts := (container.get("securityContext"), self.spec.get("securityContext"))):
            return UNKNOWN
        own, shared = map(mapping, contexts)
        return own.get(name, shared.get(name))

    def has_engine(self) -> bool:
        """Whether vLLM runs in it."""
        return any(container.get("name") == ENGINE for _, container in self.containers())


def pods(resource: Resource) -> list[Pod]:
    """The pod templates of an object; a group without a leader template uses that of the workers."""
    found = []
    for path in _TEMPLATES.get(resource.kind, ()):
        template: Any = resource.properties
        for part in filter(None, path.split(".")):
            template = mapping(template).get(part)
        if template is not None:
            found.append(Pod(path=path, template=mapping(template)))
    return found


def leader(group: Resource) -> Pod | None:
    """The leaders' template of a LeaderWorkerSet."""
    return next(iter(pods(group)), None)


def running_labels(group: Resource, pod: Pod) -> Mapping[str, Any]:
    """Labels of a pod of the group as the controller creates it; for workers, those of the first one."""
    is_leader = pod == leader(group)
    return {
        **pod.labels,
        GROUP_NAME_LABEL: group.metadata.get("name"),
        WORKER_INDEX_LABEL: "0" if is_leader else "1",
    }
