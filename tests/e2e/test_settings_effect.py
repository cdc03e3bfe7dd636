"""Every setting of the schema, one legal other value each, generated: what the program says of the change is what it
does in the embedded cluster, by UIDs of pods and objects, objects created and deleted, and generations.

The objects are those of the program under mocks, and these tests apply them as Pulumi does, by server-side apply, new
ones before old ones are deleted: an update by the engine takes ten times as long, and tests/e2e/test_effect.py asks the
engine. API server, controllers and LeaderWorkerSet are real. Objects of Alibaba Cloud and Helm's releases are not made
here: for these alone, the program's word is taken. The classes are in tests/golden/effects.yaml.
"""

import copy
import functools
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from kubernetes import client, config, dynamic
from kubernetes.dynamic.exceptions import NotFoundError

from deepseek_acs.planner.effect import EffectClass
from local import tools
from local.cluster import Cluster
from local.nodes import GpuNodes
from local.processes import ProcessError
from tests.e2e.conftest import eventually
from tests.e2e.effect_seen import LABELS, Identity, all_groups, content, is_group, of_groups, of_object, pods_of
from tests.e2e.test_cost_guard import define_pod_groups
from tests.settings_variants import Effects, Variant, effects, generated_name, operation, variants
from tests.unit.conftest import (  # noqa: F401 - fixtures
    Recorder,
    Run,
    deploy,
    home,
    hooks,
    kubeconfig,
    quick,
)

pytestmark = pytest.mark.effects

NODES = GpuNodes(count=4, series="GU8TF", resource="nvidia.com/gpu", gpus_per_pod=8, region="cn-hangzhou")
NOT_APPLIED = ("alicloud:", "kubernetes:helm.sh/")
SETTLED_SECONDS = 300
"""For what takes some seconds on a machine that has nothing else to do."""

# Those that begin at the same stack, one after another: less has to be put back.
VARIANTS = sorted(variants(), key=lambda variant: json.dumps(variant.before))

Manifests = Mapping[Identity, dict[str, Any]]


def identity(manifest: Mapping[str, Any]) -> Identity:
    metadata = manifest["metadata"]
    return manifest["apiVersion"], manifest["kind"], metadata.get("namespace") or "", metadata["name"]


def manifests(told: Effects, *, after: bool) -> Manifests:
    """What a cluster gets of a run of the program."""
    found = {}
    for key, inputs in (told.after if after else told.before).items():
        if key.startswith(NOT_APPLIED):
            continue
        again = after and told.actions.get(key) == "replace"
        manifest = still(copy.deepcopy(inputs))
        manifest["metadata"].setdefault("name", generated_name(key, again=again))
        found[identity(manifest)] = manifest
    return found


def still(manifest: dict[str, Any]) -> dict[str, Any]:
    """Nothing but LeaderWorkerSets has pods here, and nothing but this test changes their number."""
    kind, spec = manifest["kind"], manifest.get("spec", {})
    if kind == "Job":
        spec["suspend"] = True
    elif kind == "Deployment":
        spec["replicas"] = 0
    elif kind == "HorizontalPodAutoscaler":
        spec["scaleTargetRef"]["name"] = "none"
    return manifest


def must_be_replaced(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether the API server would refuse an update: then Pulumi deletes the object, and creates it again."""
    return bool(new["kind"] == "Job" and old["spec"]["template"] != new["spec"]["template"])


class World:
    """The cluster, with one stack's objects in it at a time."""

    def __init__(self, api: client.ApiClient) -> None:
        self.api = dynamic.DynamicClient(api)
        self._applied: dict[Identity, dict[str, Any]] = {}
        """In the order of their creation."""

    def begin(self, wanted: Manifests) -> None:
        """Makes these the only objects. Groups that differ are created again: one with a partition would keep pods of
        another template."""
        self._delete([key for key, old in self._applied.items() if is_group(key) and wanted.get(key) != old])
        self.become(wanted, retained=frozenset())

    def become(self, wanted: Manifests, *, retained: frozenset[Identity]) -> dict[Identity, str]:
        """Applies what differs, waits for the groups, and then deletes what is not wanted. What has happened by object:
        created, updated or deleted."""
        happened = {}
        for key, manifest in wanted.items():
            if self._applied.get(key) == manifest:
                continue
            before = self._get(key) if key in self._applied else None
            if before is not None and must_be_replaced(self._applied[key], manifest):
                self._delete([key])
            self._applied[key] = manifest
            after = self._apply(manifest)
            if before is None:
                happened[key] = "created"
            elif content(before) != content(after):
                happened[key] = "updated"
        for key in wanted:
            if is_group(key) and key in happened:
                self._settle(key)
        gone = [key for key in self._applied if key not in wanted and key not in retained]
        self._delete(gone)
        self._applied = {key: self._applied[key] for key in (*wanted, *(retained - wanted.keys()))}
        return {**happened, **dict.fromkeys(gone, "deleted")}

    def clear(self) -> None:
        """Deletes all objects, also after a failure in the middle."""
        self._delete(list(self._applied))

    def _get(self, key: Identity) -> Any | None:
        try:
            return self._resource(key).get(name=key[3], namespace=key[2] or None)
        except NotFoundError:
            return None

    def _apply(self, manifest: dict[str, Any]) -> Any:
        resource = self._resource(identity(manifest))
        namespace = manifest["metadata"].get("namespace")
        return self.api.server_side_apply(
            resource, body=manifest, namespace=namespace, field_manager="program", force_conflicts=True
        )

    def _delete(self, keys: list[Identity]) -> None:
        """The last one first, but groups before all others: a volume stays as long as a pod mounts it."""
        for key in sorted(reversed(keys), key=lambda key: not is_group(key)):
            if self._get(key) is not None:
                self._resource(key).delete(
                    name=key[3], namespace=key[2] or None, body={"propagationPolicy": "Background"}
                )
            eventually(functools.partial(self._is_gone, key), seconds=SETTLED_SECONDS)
            del self._applied[key]

    def _is_gone(self, key: Identity) -> bool:
        return self._get(key) is None and not (is_group(key) and pods_of(self.api, key[2], key[3]))

    def _resource(self, key: Identity) -> Any:
        return self.api.resources.get(api_version=key[0], kind=key[1])

    def _settle(self, key: Identity) -> None:
        """Until the controller has acted on the object, and all pods are those of its template."""
        spec = self._applied[key]["spec"]
        pods = spec["replicas"] * spec["leaderWorkerTemplate"]["size"]
        leaders = ("apps/v1", "StatefulSet", *key[2:])

        def is_seen() -> bool:
            found = self._resource(key).get(name=key[3], namespace=key[2])
            return bool((found.status or {}).get("observedGeneration") == found.metadata.generation)

        def is_current() -> bool:
            if (found := self._get(leaders)) is None:
                return False
            revision = found.metadata.labels[f"{LABELS}/template-revision-hash"]
            live = pods_of(self.api, key[2], key[3])
            current = [
                pod
                for pod in live
                if pod.metadata.labels[f"{LABELS}/template-revision-hash"] == revision
                and not pod.metadata.deletionTimestamp
            ]
            return bool(len(live) == len(current) == pods)

        eventually(is_seen, seconds=SETTLED_SECONDS)
        eventually(is_current, seconds=SETTLED_SECONDS)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A cluster with nodes for both revisions, and what a scheduler brings."""
    tools.build_all(tools.CLUSTER_TOOLS)
    cluster = Cluster(tmp_path_factory.mktemp("effects"))
    try:
        eventually(lambda: is_started(cluster), seconds=SETTLED_SECONDS)
        cluster.simulate_nodes(NODES)
        api = config.new_client_from_config(str(cluster.kubeconfig))
        define_pod_groups(api)
        yield World(api)
    finally:
        cluster.stop(delete=True)


def is_started(cluster: Cluster) -> bool:
    """Starts what does not run. On a busy machine it may need a second call."""
    try:
        cluster.start()
    except ProcessError:
        return False
    return True


@pytest.fixture(scope="module")
def runs() -> dict[str, Recorder]:
    """Of the program, by settings."""
    return {}


def observed(world: World, variant: Variant, told: Effects) -> set[EffectClass]:
    """What the change does, from the cluster's point of view."""
    retained = frozenset(
        identity(inputs)
        for name, inputs in told.before.items()
        if name in told.retained and not name.startswith(NOT_APPLIED)
    )
    world.begin(manifests(told, after=False))
    before = all_groups(world.api)
    happened = world.become(manifests(told, after=True), retained=retained)
    elsewhere = [name for name in told.actions if name.startswith(NOT_APPLIED)]
    return {
        *(effect for name in elsewhere if (effect := operation(name, told.actions[name], {}).effect)),
        *(of_object(key, what) for key, what in happened.items() if not is_group(key)),
        *of_groups(before, all_groups(world.api), second=variant.before.get("update", {}).get("revision")),
    }


@pytest.mark.parametrize("variant", VARIANTS, ids=[variant.path for variant in VARIANTS])
def test_effect(
    world: World,
    deploy: Run,  # noqa: F811 - a fixture
    kubeconfig: object,  # noqa: F811 - a fixture
    runs: dict[str, Recorder],
    variant: Variant,
) -> None:
    told = effects(variant, deploy, runs)
    try:
        seen = observed(world, variant, told)
    except Exception:
        # The next one begins at a known state.
        world.clear()
        raise
    assert [effect for effect in EffectClass if effect in seen] == list(told.classes)
