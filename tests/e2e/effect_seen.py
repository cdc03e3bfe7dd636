"""What a change has done, from the cluster's point of view, in the classes of docs/changes.md."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kubernetes import dynamic

from deepseek_acs.planner.effect import GROUP, EffectClass

LABELS = "leaderworkerset.sigs.k8s.io"
GROUPS = "leaderworkerset.x-k8s.io/v1"

VOLUMES = ("PersistentVolume", "PersistentVolumeClaim", "Dataset", "JindoRuntime", "DataLoad")
ROUTES = ("Service", "Ingress", "HTTPRoute", "InferencePool")

Identity = tuple[str, str, str, str]
"""API version, kind, namespace and name."""


@dataclass(frozen=True, kw_only=True)
class Groups:
    """A LeaderWorkerSet: its UID, its content with the generation, and the UIDs of its leaders by group."""

    uid: str
    content: Mapping[str, Any]
    leaders: Mapping[str, str]


def all_groups(api: dynamic.DynamicClient) -> dict[str, Groups]:
    """All LeaderWorkerSets, by namespace and name."""
    found = api.resources.get(api_version=GROUPS, kind=GROUP).get().items
    return {f"{one.metadata.namespace}/{one.metadata.name}": _groups(api, one) for one in found}


def _groups(api: dynamic.DynamicClient, live: Any) -> Groups:
    pods = pods_of(api, live.metadata.namespace, live.metadata.name)
    leaders = [pod for pod in pods if pod.metadata.labels[f"{LABELS}/worker-index"] == "0"]
    return Groups(
        uid=live.metadata.uid,
        content=content(live),
        leaders={pod.metadata.labels[f"{LABELS}/group-index"]: pod.metadata.uid for pod in leaders},
    )


def pods_of(api: dynamic.DynamicClient, namespace: str, name: str) -> list[Any]:
    """Those of a LeaderWorkerSet, also as long as they end."""
    pods = api.resources.get(api_version="v1", kind="Pod")
    return list(pods.get(namespace=namespace, label_selector=f"{LABELS}/name={name}").items)


def content(live: Any) -> dict[str, Any]:
    """An object with its generation, without its status and who has set what when. Annotations have no generation, and
    some kinds have none at all."""
    found: dict[str, Any] = live.to_dict()
    found.pop("status", None)
    metadata = {k: v for k, v in found["metadata"].items() if k not in ("managedFields", "resourceVersion")}
    return {**found, "metadata": metadata}


def of_object(key: Identity, happened: str) -> EffectClass:
    """Of one that is not a LeaderWorkerSet: created, updated, replaced or deleted."""
    _, kind, _, name = key
    if kind == "Job" and name.startswith("model-upload"):
        return EffectClass.MOVE_OF_WEIGHTS
    if kind in VOLUMES and happened != "updated":
        return EffectClass.NEW_VOLUME
    return EffectClass.ROUTE if kind in ROUTES else EffectClass.OTHER_OBJECTS


def of_groups(
    before: Mapping[str, Groups], after: Mapping[str, Groups], *, second: str | None
) -> Iterator[EffectClass]:
    """Of the LeaderWorkerSets, by namespace and name; ``second`` is the revision of the update before."""
    stay = {key for key in before.keys() & after.keys() if before[key].uid == after[key].uid}
    if not stay:
        yield EffectClass.REPLACEMENT
        return
    for key in stay:
        old, new = before[key].leaders, after[key].leaders
        restarted = any(old[group] != new[group] for group in old.keys() & new.keys())
        if restarted:
            yield EffectClass.RESTART
        if old.keys() != new.keys():
            yield EffectClass.SCALE
        if before[key].content != after[key].content and not restarted and old.keys() == new.keys():
            yield EffectClass.OTHER_OBJECTS
    if after.keys() - stay:
        yield EffectClass.SECOND_REVISION
    for key in before.keys() - stay:
        yield EffectClass.GOING_BACK if second and key.endswith(f"-{second}") else EffectClass.PROMOTION


def is_group(key: Identity) -> bool:
    """Whether it is a LeaderWorkerSet."""
    return key[1] == GROUP
