"""``kill -9`` of the engine, at chosen moments of an update and of a destroy.

Each time: the engine is killed; then what docs/runbook.md says, another setting, and ``up``. It ends as if nothing had
happened: the preview is unchanged, and what Pulumi has written in cluster and cloud is what the state knows, no more
and no less. One stack, in the order of the file.
"""

import base64
import json
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from local.stack import CLUSTER_FOLDER
from tests.e2e.conftest import Project, eventually, kill, make_project
from tests.e2e.holding import held_by_api_server, held_by_service
from tests.e2e.test_local_stack import all_ready, bucket_as

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

IN_THE_CLOUD = {"users": "ram/user:User", "policies": "ram/policy:Policy", "keys": "ram/accessKey:AccessKey"}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    found = make_project(tmp_path_factory.mktemp("kills"), "local")
    found.change(inference={"rollout": {"maxSurge": 1}})  # nodes for a second group
    try:
        found.run("preview")  # brings cluster and services up
        yield found
    finally:
        found.stop()


def objects(project: Project) -> set[str]:
    """IDs, as Pulumi writes them, of all objects that Pulumi has written."""
    namespace, custom = project.namespace, project.custom
    lws = custom.list_namespaced_custom_object("leaderworkerset.x-k8s.io", "v1", namespace, "leaderworkersets")["items"]
    core = project.core
    found = [
        *core.list_namespaced_secret(namespace).items,
        *core.list_namespaced_config_map(namespace).items,
        *core.list_namespaced_service(namespace).items,
        *core.list_namespaced_service_account(namespace).items,
        *core.list_namespaced_persistent_volume_claim(namespace).items,
        *core.list_persistent_volume().items,
        *core.list_namespace().items,
        *project.batch.list_namespaced_job(namespace).items,
    ]
    metadata = [item.metadata.to_dict() for item in found]
    named = [(m["namespace"], m["name"], [f["manager"] for f in m["managed_fields"] or []]) for m in metadata]
    for item in lws:
        m = item["metadata"]
        named.append((m["namespace"], m["name"], [f["manager"] for f in m["managedFields"]]))
    ours = [(space, name) for space, name, managers in named if any(m.startswith("pulumi") for m in managers)]
    return {f"{space}/{name}" if space else name for space, name in ours}


def of_state(project: Project, prefix: str) -> set[str]:
    resources = project.state().get("resources", [])
    return {r["id"] for r in resources if r["type"].startswith(prefix) and r["custom"] and not r.get("external")}


def account(project: Project) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((project.folder / CLUSTER_FOLDER / "oss" / "account.json").read_text())
    return found


def ends_as_if_nothing_had_happened(project: Project, *options: str) -> None:
    project.run("up", *options)
    project.run("preview", "--expect-no-changes")
    eventually(lambda: all_ready(project, 2))
    assert objects(project) == of_state(project, "kubernetes:")
    cloud = account(project)
    for kind, token in IN_THE_CLOUD.items():
        assert cloud[kind].keys() == of_state(project, f"alicloud:{token}"), kind
    assert buckets(project) == of_state(project, "alicloud:oss/bucket:Bucket")
    assert not project.state().get("pending_operations")
    keys_work(project)


def buckets(project: Project) -> set[str]:
    return {bucket["name"] for bucket in project.control("oss", "GET", "buckets")}


def keys_work(project: Project) -> None:
    """Those in the Secrets of the mover and of the volume, against OSS."""
    prefix = project.settings()["weights"]["prefix"]
    secrets = project.core.list_namespaced_secret(project.namespace).items
    assert len(secrets) == 2
    for secret in secrets:
        key_id, key_secret = (base64.b64decode(value).decode() for _, value in sorted(secret.data.items()))
        assert bucket_as(project, key_id, key_secret).get(f"{prefix}/config.json")


def under_way(project: Project) -> list[str]:
    """Types of what the engine waits for, as it has written down."""
    return [o["resource"]["type"].rpartition(":")[2] for o in project.state().get("pending_operations") or ()]


SETTLED_SECONDS = 3


def kill_while(project: Project, process: subprocess.Popen[str], kind: str) -> None:
    """Kills the engine once it waits for one resource of that kind and for nothing else."""

    def is_alone() -> bool:
        if under_way(project) != [kind]:
            return False
        # What does not depend on it may not have begun yet.
        time.sleep(SETTLED_SECONDS)
        return under_way(project) == [kind]

    eventually(is_alone)
    kill(process)
    process.communicate()


def recover(project: Project) -> None:
    """As docs/runbook.md has it."""
    project.pulumi("cancel", "--yes", project.stack)
    project.pulumi("refresh", "--yes", "--skip-preview", "--clear-pending-creates")


def take_over(project: Project, resource: dict[str, Any], resource_id: str) -> None:
    """As docs/names.md has it: what was created, is not in the state, and would be refused as existing."""
    urn = resource["urn"]
    project.pulumi(
        *("import", "--yes", "--skip-preview", "--generate-code=false", resource["type"], urn.rpartition("::")[2]),
        *(resource_id, "--parent", f"parent={resource['parent']}"),
        *("--provider", f"provider={resource['provider'].rpartition('::')[0]}"),
    )


def test_in_the_bucket(project: Project) -> None:
    """It is created all the same, and the state does not know of it."""
    with held_by_service(project, "oss", "PUT", "^/-/buckets/") as held:
        process = project.start("up", "--skip-preview")
        held()
        kill_while(project, process, "Bucket")
        assert not buckets(project)
    eventually(lambda: bool(buckets(project)))
    (bucket,) = buckets(project)
    (operation,) = project.state()["pending_operations"]
    project.change(inference={"engine": {"maxModelLen": 1024}})
    recover(project)
    assert "exists already" in project.run("up", fails=True)
    take_over(project, operation["resource"], bucket)
    ends_as_if_nothing_had_happened(project)


def test_in_the_access_key(project: Project) -> None:
    """It is created, and what RAM says only once is lost: no import brings it back."""
    known = set(account(project)["keys"])
    (urn,) = (r["urn"] for r in project.state()["resources"] if r["urn"].endswith("mover-key"))
    with held_by_service(project, "oss", "PUT", "^/-/account/keys/") as held:
        process = project.start("up", "--skip-preview", "--replace", urn)
        held()
        kill_while(project, process, "AccessKey")
    eventually(lambda: len(account(project)["keys"]) > len(known))
    project.change(inference={"engine": {"maxModelLen": 2048}})
    recover(project)
    for lost in account(project)["keys"].keys() - known:
        project.control("oss", "DELETE", f"account/keys/{lost}")  # aliyun ram DeleteAccessKey
    ends_as_if_nothing_had_happened(project)


def test_in_the_job(project: Project) -> None:
    """Which goes on. The next update has another one, and deletes the first."""
    project.change(weights={"prefix": "models/killed"})
    with held_by_service(project, "hub", "GET", "^/cdn") as held:
        process = project.start("up", "--skip-preview")
        held()
        kill_while(project, process, "Job")
        recover(project)
        (job,) = project.batch.list_namespaced_job(project.namespace).items
        assert job.status.active == 1
    project.change(weights={"prefix": "models/next"})
    ends_as_if_nothing_had_happened(project)


def test_in_the_volume(project: Project) -> None:
    project.change(weights={"prefix": "models/other"})
    with held_by_api_server(project, "CREATE", "persistentvolumes") as held:
        process = project.start("up", "--skip-preview")
        held()
        kill_while(project, process, "PersistentVolume")
    project.change(inference={"engine": {"maxModelLen": 1024}})
    recover(project)
    ends_as_if_nothing_had_happened(project)


def test_in_the_wait_for_the_group(project: Project) -> None:
    """A new one, which the state does not know yet."""
    schedule(project, unschedulable=True)
    project.change(inference={"name": "deepseek-r2"})
    process = project.start("up", "--skip-preview")
    kill_while(project, process, "LeaderWorkerSet")
    project.change(inference={"engine": {"maxModelLen": 2048}})
    recover(project)
    schedule(project, unschedulable=False)
    ends_as_if_nothing_had_happened(project)


def schedule(project: Project, *, unschedulable: bool) -> None:
    for node in project.core.list_node().items:
        project.core.patch_node(node.metadata.name, {"spec": {"unschedulable": unschedulable}})


def test_in_the_service(project: Project) -> None:
    project.change(service={"kind": "clusterIP", "name": "ds-other"})
    with held_by_api_server(project, "CREATE", "services") as held:
        process = project.start("up", "--skip-preview")
        held()
        kill_while(project, process, "Service")
    project.change(service={"kind": "clusterIP", "name": "ds-other", "port": 8080})
    recover(project)
    ends_as_if_nothing_had_happened(project)


def test_while_deleting(project: Project) -> None:
    """A group whose pods take their time to go, and are gone only after the engine."""
    held = ("leaderworkerset.x-k8s.io", "v1", project.namespace, "leaderworkersets", "deepseek-r2")
    project.custom.patch_namespaced_custom_object(*held, {"metadata": {"finalizers": ["example.com/held"]}})
    process = project.start("destroy", "--skip-preview")
    kill_while(project, process, "LeaderWorkerSet")
    assert project.custom.get_namespaced_custom_object(*held)["metadata"]["deletionTimestamp"]
    project.change(inference={"engine": {"maxModelLen": 1024}})
    recover(project)
    project.custom.patch_namespaced_custom_object(*held, {"metadata": {"finalizers": None}})
    ends_as_if_nothing_had_happened(project, "--refresh")
