"""What the stack finds in cluster and cloud, and what it leaves there.

One stack through its life, in the order of the file. It has no groups: nothing here is about pods.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.stack import CLUSTER_FOLDER, STATE_FOLDER
from tests.e2e.conftest import Project, left_in_namespace, make_project

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

NAMESPACE = "deepseek"
TAKEN = "weights-of-another-team"
MOST_STATE_BYTES = 300_000
"""Most is the mover's program, which the official plugin keeps three times: inputs, outputs, and what it applied."""
PREFIXES = [f"models/revision-{number}" for number in range(1, 7)]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    found = make_project(tmp_path_factory.mktemp("ownership"), "local")
    found.change(inference={"replicas": 0})
    try:
        found.run("preview")  # brings cluster and services up
        yield found
    finally:
        found.stop()


def flowing(output: str) -> str:
    """Without the line breaks of a report."""
    return " ".join(output.split())


def foreign(project: Project) -> dict[str, str]:
    """Versions of the objects that were there before the stack: another one after any change."""
    objects = {
        "namespace": project.core.read_namespace(NAMESPACE),
        "config map": project.core.read_namespaced_config_map("precious", NAMESPACE),
        "service": project.core.read_namespaced_service("ds-leader", NAMESPACE),
    }
    return {name: found.metadata.resource_version for name, found in objects.items()}


def buckets(project: Project) -> set[str]:
    return {bucket["name"] for bucket in project.control("oss", "GET", "buckets")}


def resources(project: Project) -> list[str]:
    """Types of what is in the stack's state."""
    found = [resource["type"] for resource in project.state().get("resources", []) if resource["custom"]]
    return [type_ for type_ in found if not type_.startswith("pulumi:")]


@pytest.fixture(scope="module")
def before(project: Project) -> dict[str, str]:
    """Another team uses the namespace already."""
    project.core.create_namespace({"metadata": {"name": NAMESPACE, "labels": {"owner": "other"}}})
    project.core.create_namespaced_config_map(NAMESPACE, {"metadata": {"name": "precious"}, "data": {"a": "b"}})
    spec = {"selector": {"app": "other"}, "ports": [{"port": 80}]}
    project.core.create_namespaced_service(NAMESPACE, {"metadata": {"name": "ds-leader"}, "spec": spec})
    return foreign(project)


@pytest.mark.parametrize(
    ("command", "owner"), [("preview", {"owner": "another"}), ("up", {})], ids=["another account", "another stack"]
)
def test_a_taken_bucket(project: Project, command: str, owner: dict[str, str]) -> None:
    project.control("oss", "PUT", f"buckets/{TAKEN}", owner)
    project.change(weights={"bucket": {"kind": "create", "name": TAKEN}})
    output = flowing(project.run(command, fails=True))
    assert f"the OSS bucket {TAKEN} exists already, in this account or in another" in output
    assert "write another weights.bucket.name" in output
    assert "Traceback" not in output
    assert resources(project) == []
    project.control("oss", "DELETE", f"buckets/{TAKEN}")
    project.change(weights={"bucket": {"kind": "create"}})


def test_all_that_exists_is_said_before_anything_is_created(project: Project, before: dict[str, str]) -> None:
    for command in ("preview", "up"):
        output = flowing(project.run(command, fails=True))
        assert f"the Namespace {NAMESPACE} exists already in the cluster, and this stack did not create it" in output
        assert f"the Service {NAMESPACE}/ds-leader exists already in the cluster" in output
        assert "deployment.cluster.createNamespace: false" in output
        assert "choose another deployment.service.name" in output
        assert "nothing was created" in output or "nothing was changed" in output
        assert "Traceback" not in output
    assert resources(project) == []
    assert buckets(project) == set()
    assert foreign(project) == before


def test_without_a_preview_nothing_is_taken_over(project: Project, before: dict[str, str]) -> None:
    output = flowing(project.run("up", "--skip-preview", fails=True))
    assert f"the Namespace {NAMESPACE} exists already in the cluster" in output
    assert foreign(project) == before
    project.run("destroy")
    assert foreign(project) == before


def test_the_ways_out_that_are_said(project: Project, before: dict[str, str]) -> None:
    project.change(
        cluster={"createNamespace": False}, service={"kind": "clusterIP", "name": "ds"}, weights={"prefix": PREFIXES[0]}
    )
    project.run("up")
    assert foreign(project) == before
    project.run("preview", "--expect-no-changes")


def test_another_stack_in_the_namespace_is_refused(project: Project) -> None:
    """With the name of the one whose objects they are."""
    shutil.copy(project.folder / "Pulumi.local.yaml", project.folder / "Pulumi.local-second.yaml")
    output = flowing(project.run("preview", stack="local-second", fails=True))
    assert "it is that of the Pulumi stack deepseek-local" in output
    assert f"the Service {NAMESPACE}/ds exists already" in output
    assert f"the LeaderWorkerSet {NAMESPACE}/deepseek-r1 exists already" in output
    (project.folder / "Pulumi.local-second.yaml").unlink()


def test_six_other_prefixes(project: Project) -> None:
    """A RAM policy has five versions at most."""
    for prefix in PREFIXES[1:] + PREFIXES[:1]:
        project.change(weights={"prefix": prefix})
        project.run("up")
    project.pulumi("refresh", "--yes", "--skip-preview")
    project.run("preview", "--expect-no-changes")
    account = json.loads((project.folder / CLUSTER_FOLDER / "oss" / "account.json").read_text())
    assert all(PREFIXES[0] in json.dumps(policy) for policy in account["policies"].values())
    (job,) = project.batch.list_namespaced_job(NAMESPACE).items
    assert job.status.succeeded == 1


def test_state_is_small(project: Project) -> None:
    file: Path = project.folder / STATE_FOLDER / "local.json"
    assert file.stat().st_size < MOST_STATE_BYTES


def test_destroy_leaves_what_is_not_the_stacks_and_the_protected_bucket(
    project: Project, before: dict[str, str]
) -> None:
    (bucket,) = buckets(project)
    project.run("destroy")
    assert foreign(project) == before
    assert buckets(project) == {bucket}
    assert {type_.rpartition(":")[2] for type_ in resources(project)} == {
        *("Bucket", "BucketAcl", "BucketPolicy", "BucketPublicAccessBlock"),
    }
    assert left_in_namespace(project) == {"ds-leader", "kube-root-ca.crt", "precious"}


def test_destroy_of_a_bucket_that_is_given_up(project: Project, before: dict[str, str]) -> None:
    project.change(weights={"bucket": {"kind": "create", "retain": False}})
    project.run("up")
    project.run("destroy")
    assert buckets(project) == set()
    assert resources(project) == []
    assert foreign(project) == before
