"""The gate on real nodes: what is damaged, slow or deaf to long prompts does not reach the second group.

The engine is the small server, with faults that are in its image's settings or in the weights that it reads. One stack
through its life, in the order of the file: each test begins where the one before it ended.
"""

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from local import tools
from local.real_nodes.requirements import problem
from local.stack import CLUSTER_FOLDER
from tests.e2e.conftest import ROOT, Project, left_in_namespace, make_project
from tests.e2e.ends import first_process
from tests.e2e.test_updates import soon, up

LACKING = problem((ROOT, tools.cache_directory()))
pytestmark = [pytest.mark.e2e, pytest.mark.skipif(LACKING is not None, reason=str(LACKING))]

REVISION = "leaderworkerset.sigs.k8s.io/template-revision-hash"
GROUP_INDEX = "leaderworkerset.sigs.k8s.io/group-index"
STORE = "deepseek-r1-known-good"
MODEL = ("hub", "deepseek-local", "DeepSeek-R1-tiny")
CHAT = "^/v1/chat/completions"
GATE: dict[str, Any] = {
    "questions": [
        {"ask": "What are you?", "holds": ["a small server", "no engine"]},
        {"ask": "What do you compute?", "holds": ["no tokens"]},
    ],
    "maxTokens": 64,
    "load": {"requests": 4, "concurrency": 2, "outputTokens": 24},
}
ENGINE = {"image": "vllm/vllm-openai:v0.33.0", "backend": "mp", "maxModelLen": 2048}
GATE_SECONDS = 120


def faulty(**fault: Any) -> dict[str, Any]:
    """An engine that has the fault from its beginning."""
    return {**ENGINE, "env": {"LOCAL_FAULTS": json.dumps([{"times": None, "path": CHAT, **fault}])}}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    tools.build_all(tools.NODE_TOOLS)
    found = make_project(tmp_path_factory.mktemp("gate"), "local")
    found.variables["NODES"] = "real"
    found.change(inference={"engine": ENGINE, "replicas": 2}, verification={"gate": GATE})
    try:
        found.run("up")
        yield found
    finally:
        found.stop()


def data(project: Project) -> dict[str, str]:
    found: dict[str, str] = project.core.read_namespaced_config_map(STORE, project.namespace).data or {}
    return found


def accepted(project: Project) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(data(project)["accepted.deepseek-r1"])
    return found


def known_good(project: Project) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(project.pulumi("stack", "output", "--stack", project.stack, "--json"))[
        "knownGood"
    ]
    return found


def partition(project: Project) -> int:
    return int(project.group()["spec"]["rolloutStrategy"]["rollingUpdateConfiguration"].get("partition", 0))


def uids(project: Project) -> dict[str, set[str]]:
    """Of the pods, by the index of their group."""
    found: dict[str, set[str]] = {}
    for pod in project.pods().values():
        found.setdefault(pod.metadata.labels[GROUP_INDEX], set()).add(pod.metadata.uid)
    return found


def all_run(project: Project, revision: str) -> bool:
    """Whether all pods of both groups are of this revision, and ready."""
    pods = list(project.pods().values())
    ready = [
        pod
        for pod in pods
        if pod.metadata.labels[REVISION] == revision
        and not pod.metadata.deletion_timestamp
        and all(one.ready for one in pod.status.container_statuses or [])
    ]
    return len(pods) == len(ready) == 4


def claims(project: Project) -> set[str]:
    listed = project.core.list_namespaced_persistent_volume_claim(project.namespace).items
    return {claim.metadata.name for claim in listed if claim.status.phase == "Bound"}


def refused(project: Project, why: str, *, keeps: set[str]) -> None:
    """An update that the gate refuses: the first group alone was restarted, and has the recorded template again."""
    record, before = accepted(project), uids(project)
    output = " ".join(up(project, fails=True).split())
    assert why in output
    assert "is put back" in output
    assert accepted(project) == record
    assert project.group()["spec"]["leaderWorkerTemplate"] == record["template"]
    soon(lambda: all_run(project, record["revision"]), GATE_SECONDS)
    assert uids(project)["0"] == before["0"], "the second group never noticed"
    assert keeps <= claims(project)
    verdict = json.loads(data(project)["refused"])
    assert (verdict["action"], verdict["template_digest"] != record["template_digest"]) == ("returned", True)
    assert f"template {verdict['template_digest']} did not pass the gate" in project.run("verify", fails=True)


def old_settings_again(project: Project) -> None:
    """They change nothing, and are not asked again."""
    before = uids(project)
    up(project)
    assert uids(project) == before
    assert partition(project) == 0
    assert "refused" not in data(project)


def test_the_first_template_is_accepted(project: Project) -> None:
    record = accepted(project)
    assert (record["asked"], record["passed"]) == (2, 2)
    assert all_run(project, record["revision"])
    assert partition(project) == 0
    assert known_good(project)["templateDigest"] == record["template_digest"]
    assert known_good(project)["answered"] == 2
    up(project, "--expect-no-changes")
    assert f"template {record['template_digest']} was accepted" in project.run("verify")


def test_a_good_one_reaches_both_groups(project: Project) -> None:
    old, before = accepted(project), uids(project)
    project.change(inference={"engine": {**ENGINE, "env": {"GOOD": "1"}}})
    up(project)
    new = accepted(project)
    assert new["template_digest"] != old["template_digest"]
    assert known_good(project)["templateDigest"] == new["template_digest"]
    assert json.loads(data(project)["previous.deepseek-r1"]) == old
    assert all_run(project, new["revision"])
    assert {*before["0"], *before["1"]}.isdisjoint({*uids(project)["0"], *uids(project)["1"]})
    project.change(inference={"engine": ENGINE})
    up(project)


def test_a_shard_of_zeros(project: Project) -> None:
    folder = project.folder.joinpath(CLUSTER_FOLDER, *MODEL)
    shutil.copytree(folder / "master", folder / "zeros")
    shard = sorted((folder / "zeros").glob("*.safetensors"))[1]
    content = shard.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    shard.write_bytes(content[:header] + bytes(len(content) - header))
    weights = project.settings()["weights"]
    old = claims(project)
    project.change(
        weights={"prefix": "models/zeros", "source": {**weights["source"], "revision": "zeros"}},
    )
    refused(project, "0 of 2 questions were answered rightly", keeps=old)
    assert len(claims(project)) == 2, "that of the new weights, too"
    project.change(weights=weights)
    old_settings_again(project)
    assert claims(project) == old


def test_a_sleep_per_token(project: Project) -> None:
    old = claims(project)
    project.change(inference={"engine": faulty(action="slow-response", bytes_per_second=4000)})
    # To the first token, or per token: on a busy machine either may be what is too slow first.
    refused(project, "by the accepted template", keeps=old)
    assert "questions" not in json.loads(data(project)["refused"])["why"]
    output = " ".join(up(project, fails=True).split())
    assert "pulumi up --refresh tries these once more" in output, "nothing was applied"
    project.change(inference={"engine": ENGINE})
    old_settings_again(project)


def test_long_prompts_are_dropped_and_the_update_is_held(project: Project) -> None:
    record, before = accepted(project), uids(project)
    project.change(
        inference={"engine": faulty(action="reset-request", least_bytes=4000)},
        verification={"gate": {**GATE, "onFailure": "hold"}},
    )
    output = " ".join(up(project, fails=True).split())
    assert "the prompt of 1,536 tokens has no answer: ConnectionResetError" in output
    assert partition(project) == 1
    assert uids(project)["0"] == before["0"]
    assert uids(project)["1"].isdisjoint(before["1"])
    assert accepted(project) == record
    assert f"deepseek-r1 goes back to template {record['template_digest']}" in project.run("back")
    assert project.group()["spec"]["leaderWorkerTemplate"] == record["template"]
    soon(lambda: all_run(project, record["revision"]), GATE_SECONDS)
    assert uids(project)["0"] == before["0"]
    project.change(inference={"engine": ENGINE}, verification={"gate": GATE})
    old_settings_again(project)


def gate_pods(project: Project) -> list[Any]:
    label = "app.kubernetes.io/name=gate"
    found: list[Any] = project.core.list_namespaced_pod(project.namespace, label_selector=label).items
    return found


@pytest.mark.slow
@pytest.mark.parametrize("how", ["kill -9", "delete"])
def test_the_gate_itself_is_killed(project: Project, how: str) -> None:
    """Another pod continues, in the same update."""
    old = accepted(project)
    project.change(inference={"engine": {**ENGINE, "env": {"HOW": how}}})
    with ThreadPoolExecutor(1) as pool:
        update = pool.submit(up, project)
        soon(lambda: partition(project) == 1, GATE_SECONDS)
        (pod,) = [one for one in gate_pods(project) if one.status.phase == "Running"]
        if how == "delete":
            project.core.delete_namespaced_pod(pod.metadata.name, project.namespace)
        else:
            first_process(pod.metadata.uid).kill()
        update.result()
    new = accepted(project)
    assert new["template_digest"] != old["template_digest"]
    assert all_run(project, new["revision"])
    assert partition(project) == 0
    (successor,) = [one for one in gate_pods(project) if one.status.phase == "Succeeded"]
    assert successor.metadata.uid != pod.metadata.uid


def test_nothing_is_left(project: Project) -> None:
    project.run("destroy")
    assert left_in_namespace(project) == {"kube-root-ca.crt"}
