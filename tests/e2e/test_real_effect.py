"""What a preview says of a change, and what the change then does to real pods. As root, or not at all.

One stack through its life, in the order of the list; each change is of one setting. tests/e2e/test_settings_effect.py
asks the same of every setting, with simulated nodes.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from kubernetes import dynamic

from deepseek_acs.planner.effect import OF_GROUPS, EffectClass
from local import tools
from local.real_nodes.requirements import problem
from tests.e2e.conftest import ROOT, Project, make_project
from tests.e2e.effect_seen import Identity, all_groups, content, is_group, of_groups, of_object
from tests.e2e.ends import LWS
from tests.e2e.test_effect import said
from tests.e2e.test_updates import ENGINE, soon, up

LACKING = problem((ROOT, tools.cache_directory()))
pytestmark = [pytest.mark.effects, pytest.mark.skipif(LACKING is not None, reason=str(LACKING))]

KINDS = {
    "leaderworkerset.x-k8s.io/v1": ("LeaderWorkerSet",),
    "v1": ("Service", "ConfigMap", "PersistentVolumeClaim", "PersistentVolume"),
    "batch/v1": ("Job",),
}
BOUND = ("PersistentVolume", "PersistentVolumeClaim")
"""Kinds that controllers change when they are created."""

CANDIDATE: dict[str, Any] = {"revision": "v2", "engine": {**ENGINE, "maxModelLen": 1024}}

CHANGES: Mapping[str, tuple[dict[str, Any], str]] = {
    "prices.gpuHour": ({"prices": {"gpuHour": 2.5}}, "nothing"),
    "service.port": ({"service": {"kind": "clusterIP", "port": 9000}}, "route"),
    "inference.rollout.maxUnavailable": ({"inference": {"rollout": {"maxUnavailable": 2}}}, "other objects"),
    "inference.engine.maxModelLen": ({"inference": {"engine": {**ENGINE, "maxModelLen": 1024}}}, "restart"),
    "storage.throughputMiBps": ({"storage": {"kind": "csi", "throughputMiBps": 200}}, "restart"),
    "inference.replicas": ({"inference": {"replicas": 2}}, "scale"),
    "inference.replicas, back": ({"inference": {"replicas": 1}}, "scale"),
    "update": ({"update": CANDIDATE}, "second revision, route, other objects"),
    "update.engine.maxModelLen": ({"update": {"engine": {**ENGINE, "maxModelLen": 512}}}, "restart"),
    "update, back": ({"update": None}, "going back, route, other objects"),
    "update, again": ({"update": {**CANDIDATE, "weight": 100}}, "second revision, route, other objects"),
    "update.promote": ({"update": {"promote": True}}, "promotion, other objects"),
    "weights.prefix": ({"weights": {"prefix": "models/other"}}, "restart, new volume, move of weights, other objects"),
    "inference.name": ({"inference": {"name": "other"}}, "replacement, route, other objects"),
}
"""Changes of a stack, one after another, and what the preview says of each."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Up with new groups, so that the nodes have room for them. From then on ``pulumi`` alone is called: ``make`` would
    make other nodes for other settings."""
    tools.build_all(tools.NODE_TOOLS)
    found = make_project(tmp_path_factory.mktemp("effect"), "local")
    found.variables["NODES"] = "real"
    found.change(inference={"engine": ENGINE, "lifecycle": {"requestSeconds": 30}}, update=CANDIDATE)
    try:
        found.run("up")
        found.change(update=None)
        up(found)
        yield found
    finally:
        found.stop()


Objects = Mapping[Identity, tuple[str, dict[str, Any]]]
"""UIDs, and contents."""


class Seen:
    """What there is of the stack at one time: objects of the cluster, groups, and containers that run."""

    def __init__(self, project: Project) -> None:
        api = dynamic.DynamicClient(project.api)
        soon(lambda: is_settled(project))
        self.groups = all_groups(api)
        self.objects: Objects = {**dict(_in_cluster(api, project.namespace)), **dict(_in_cloud(project))}
        self.containers = {status.container_id for pod in project.pods().values() for status in _statuses(pod)}

    def change_to(self, after: "Seen") -> set[EffectClass]:
        """Classes of what has happened between them."""
        old, new = self.objects, after.objects
        found = set(of_groups(self.groups, after.groups, second=CANDIDATE["revision"]))
        for key in old.keys() | new.keys():
            if is_group(key) or old.get(key) == new.get(key):
                continue
            is_same = key in old and key in new and old[key][0] == new[key][0]
            found.add(of_object(key, "updated" if is_same else "created or deleted"))
        return found


def _in_cluster(api: dynamic.DynamicClient, namespace: str) -> Iterator[tuple[Identity, tuple[str, dict[str, Any]]]]:
    """Those that no other object owns: controllers make the others."""
    for version, kinds in KINDS.items():
        for kind in kinds:
            place = {} if kind == "PersistentVolume" else {"namespace": namespace}
            for one in api.resources.get(api_version=version, kind=kind).get(**place).items:
                if not one.metadata.ownerReferences:
                    key = (version, kind, one.metadata.namespace or "", one.metadata.name)
                    yield key, (one.metadata.uid, {} if kind in BOUND else content(one))


def _in_cloud(project: Project) -> Iterator[tuple[Identity, tuple[str, dict[str, Any]]]]:
    """Those that the emulator has created, as the state has them."""
    for resource in project.state()["resources"]:
        if resource["type"].startswith("alicloud:"):
            kind = resource["type"].rsplit(":", 1)[-1]
            yield ("alicloud", kind, "", resource["urn"]), (resource["id"], {})


def _statuses(pod: Any) -> list[Any]:
    return list(pod.status.container_statuses or ())


def is_settled(project: Project) -> bool:
    """Whether all pods of all groups are ready, and none ends."""
    pods = list(project.pods().values())
    listed = project.custom.list_namespaced_custom_object(*LWS, project.namespace, "leaderworkersets")["items"]
    wanted = sum(one["spec"]["replicas"] * one["spec"]["leaderWorkerTemplate"]["size"] for one in listed)
    ready = [pod for pod in pods if _statuses(pod) and all(status.ready for status in _statuses(pod))]
    return len(pods) == len(ready) == wanted and not any(pod.metadata.deletion_timestamp for pod in pods)


@pytest.mark.parametrize("path", CHANGES)
def test_effect(project: Project, path: str) -> None:
    changes, expected = CHANGES[path]
    before = Seen(project)
    project.change(**changes)
    told = said(project.pulumi("up", "--yes", "--stack", project.stack))["effect"].partition(": ")[0]
    assert told == expected
    after = Seen(project)
    found = before.change_to(after)
    assert ", ".join(effect for effect in EffectClass if effect in found) == (told if told != "nothing" else "")
    touches_groups = not OF_GROUPS.isdisjoint(told.split(", "))
    assert (after.containers != before.containers) is touches_groups
