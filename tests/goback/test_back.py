"""Going back by hand: which template comes back, and what stops it."""

import copy
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from deepseek_acs.gate.record import Record, Refusal, accepted, previous
from deepseek_acs.goback.__main__ import main
from deepseek_acs.goback.back import BY_HAND, BackError, go_back
from tests.gate.world import LWS, STORE, merged


def template(image: str, claim: str = "model") -> dict[str, Any]:
    env = [{"name": "VLLM_API_KEY", "valueFrom": {"secretKeyRef": {"name": "key", "key": "k"}}}, {"name": "X"}]
    volumes = [
        {"name": "shm", "emptyDir": {}},
        {"name": "m", "persistentVolumeClaim": {"claimName": claim}},
        {"name": "p", "configMap": {"name": "probe"}},
        {"name": "s", "secret": {"secretName": "keys"}},
        {"name": "o", "secret": {"secretName": "absent", "optional": True}},
    ]
    pod = {"containers": [{"name": "vllm", "image": image, "env": env}], "volumes": volumes}
    return {"size": 2, "leaderTemplate": {"spec": pod}, "workerTemplate": {"spec": pod}}


def record(digest: str, of: dict[str, Any]) -> Record:
    return Record(
        template_digest=digest,
        image_digest="",
        revision="",
        exam="",
        asked=1,
        passed=1,
        first_token_seconds=None,
        tokens_per_second=None,
        accepted_at="2026-11-20T00:00:00Z",
        template=of,
    )


class Cluster:
    """With the objects that the templates name."""

    def __init__(self, live: dict[str, Any], **records: Record) -> None:
        self.group: dict[str, Any] = {
            "metadata": {"resourceVersion": "7"},
            "spec": {"leaderWorkerTemplate": copy.deepcopy(live), "rolloutStrategy": {}},
        }
        self.data = {f"{name}.r1": one.text() for name, one in records.items()}
        names = ("persistentvolumeclaims/model", "configmaps/probe", "secrets/key", "secrets/keys")
        self.objects: dict[str, dict[str, Any]] = {f"/api/v1/namespaces/n/{name}": {} for name in names}

    def get(self, path: str) -> dict[str, Any] | None:
        return {f"{LWS}/r1": self.group, STORE: {"data": self.data}, **self.objects}.get(path)

    def patch(self, path: str, body: Any) -> None:
        path, _, query = path.partition("?")
        assert query == "fieldManager=deepseek-back"
        if path == STORE:
            self.data |= body["data"]
            return
        assert (path, body["metadata"]["resourceVersion"]) == (f"{LWS}/r1", "7")
        self.group = merged(self.group, body)

    @property
    def template(self) -> Any:
        return self.group["spec"]["leaderWorkerTemplate"]


def back(cluster: Cluster, group: str = "r1") -> str:
    moment = datetime(2026, 11, 29, tzinfo=UTC)
    return go_back(cluster, namespace="n", group=group, store="r1-known-good", now=lambda: moment)


A, B = template("a"), template("b")


def test_from_a_held_update_to_the_accepted_template() -> None:
    cluster = Cluster(B, accepted=record("aaaaaaaa", A))
    assert back(cluster).startswith("r1 goes back to template aaaaaaaa, accepted 2026-11-20T00:00:00Z. ")
    assert cluster.template == A
    assert cluster.group["spec"]["rolloutStrategy"] == {"rollingUpdateConfiguration": {"partition": 0}}
    assert cluster.data.keys() == {"accepted.r1"}


def test_from_an_accepted_template_to_the_one_before() -> None:
    cluster = Cluster(B, accepted=record("bbbbbbbb", B), previous=record("aaaaaaaa", A))
    back(cluster)
    assert cluster.template == A
    last, before = accepted(cluster.data, "r1"), previous(cluster.data, "r1")
    assert last
    assert before
    assert (last.template_digest, before.template_digest) == ("aaaaaaaa", "bbbbbbbb")
    refused = Refusal.of(cluster.data["refused"])
    assert refused == Refusal(
        template_digest="bbbbbbbb", action="returned", why=BY_HAND, refused_at="2026-11-29T00:00:00Z"
    )


def test_to_one_whose_objects_are_gone() -> None:
    cluster = Cluster(B, accepted=record("bbbbbbbb", B), previous=record("aaaaaaaa", template("a", "old-model")))
    del cluster.objects["/api/v1/namespaces/n/secrets/keys"]
    with pytest.raises(BackError) as raised:
        back(cluster)
    assert str(raised.value).startswith(
        "template aaaaaaaa needs what a later update has deleted: claim old-model, Secret keys. Write its settings"
    )
    assert cluster.template == B


@pytest.mark.parametrize(
    ("cluster", "group", "said"),
    [
        (Cluster(B), "r1", "the ConfigMap r1-known-good has no accepted template of r1: write the old settings into"),
        (Cluster(B), "r2", "there is no LeaderWorkerSet r2 in the namespace n: deploy it with make up"),
        (Cluster(A, accepted=record("aaaaaaaa", A)), "r1", "r1 runs the only template that was accepted, aaaaaaaa of"),
    ],
)
def test_nothing_to_go_back_to(cluster: Cluster, group: str, said: str) -> None:
    with pytest.raises(BackError) as raised:
        back(cluster, group)
    assert str(raised.value).startswith(said)


def test_a_stack_without_a_gate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "outputs.json"
    file.write_text(json.dumps({"namespace": "n", "group": "r1"}))
    assert main([f"--outputs={file}"]) == 1
    assert (
        "the stack keeps no record of accepted templates: deployment.verification.gate is off"
        in capsys.readouterr().err
    )


def test_a_kubeconfig_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "outputs.json"
    file.write_text(json.dumps({"namespace": "n", "group": "r1", "knownGoodStore": "r1-known-good"}))
    assert main([f"--outputs={file}", f"--kubeconfig={tmp_path}/none"]) == 1
    assert "none cannot be used (ConfigException): set deployment.cluster.kubeconfigFile" in capsys.readouterr().err


def test_outputs_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([f"--outputs={tmp_path}/none"])
    assert "cannot read the stack's outputs from" in capsys.readouterr().err
