"""The gate on the first new group: when it exists, what it is told, what it may do, and what is refused before."""

import dataclasses
import json
from typing import Any

import pytest
from pulumi import ResourceHookArgs
from pydantic import ValidationError

from components.gate import record_output
from components.inference_group import waiting_text
from deepseek_acs.planner.gating import exam_seconds
from deepseek_acs.planner.summary import summary
from deepseek_acs.settings.errors import findings
from deepseek_acs.settings.gate import GateSettings
from deepseek_acs.settings.stack import StackSettings
from tests.unit.conftest import API_KEY, Recorder, Run, errors, group_args, merged, resolved, stack_settings, warnings
from tests.unit.test_policy import resources, violations
from tests.unit.test_updates import stack as updated

QUESTIONS = [{"ask": "What is 17 + 25?", "holds": ["42"]}]
ON: dict[str, Any] = {"verification": {"gate": {"questions": QUESTIONS}}, "inference": {"replicas": 3}}


def gated(**changes: Any) -> dict[str, Any]:
    return merged(ON, {"verification": {"gate": changes}})


def job(recorder: Recorder) -> dict[str, Any]:
    return recorder.manifest("Job", "gate")


def args_of(recorder: Recorder) -> list[str]:
    (container,) = job(recorder)["spec"]["template"]["spec"]["containers"]
    return list(container["args"])


def partitions(recorder: Recorder) -> dict[str, int | None]:
    return {
        one["metadata"]["name"]: one["spec"]["rolloutStrategy"]["rollingUpdateConfiguration"].get("partition")
        for one in recorder.manifests()
        if one["kind"] == "LeaderWorkerSet"
    }


def test_off_by_default(up: Run) -> None:
    recorder = up({})
    assert {"Gate", "KnownGood"}.isdisjoint(recorder.kinds())
    assert partitions(recorder) == {"deepseek-r1": None}
    assert recorder.reads == {}


def test_an_update_reaches_no_group_by_itself(up: Run) -> None:
    recorder = up(ON)
    assert partitions(recorder) == {"deepseek-r1": 3}
    annotations = recorder.inputs("LeaderWorkerSet")["metadata"]["annotations"]
    assert annotations["pulumi.com/patchForce"] == "true", "the gate has moved the partition"


def test_pulumi_waits_for_the_gate_and_the_gate_for_the_groups(up: Run) -> None:
    """Groups that are broken already would be waited for, and the update that mends them is held."""
    recorder = up(ON)
    annotations = recorder.inputs("LeaderWorkerSet")["metadata"]["annotations"]
    assert annotations["pulumi.com/skipAwait"] == "true"
    assert "pulumi.com/waitFor" not in annotations
    after = {urn.rsplit("::", 1)[-1] for urn in recorder.request("Gate").dependencies}
    assert "inference-group-group" in after


def test_the_wait_begins_with_who_waits() -> None:
    inputs = {"metadata": {"namespace": "deepseek"}}
    hooked = ResourceHookArgs(urn="", id="", name="", type="", old_inputs=None, new_inputs=inputs)
    args = dataclasses.replace(group_args(ON), check_command="make verify STACK=dev")
    assert waiting_text(args, hooked) == (
        "the gate waits for the pods of deepseek/deepseek-r1; to follow it, in another shell: make verify "
        "STACK=dev, or kubectl -n deepseek get pods,events"
    )


def test_where_an_autoscaler_may_have_no_group_updates_are_not_held(up: Run) -> None:
    scaling = {
        "kind": "schedule",
        "minReplicas": 0,
        "windows": [{"start": "0 8 * * *", "end": "0 20 * * *", "replicas": 2}],
    }
    changes = {**ON, "inference": {"replicas": None, "scaling": scaling}}
    recorder = up(changes)
    assert partitions(recorder) == {"deepseek-r1": None}
    assert "pulumi.com/waitFor" in recorder.inputs("LeaderWorkerSet")["metadata"]["annotations"]
    assert "Gate" not in recorder.kinds()
    assert any("so nothing is verified" in one for one in warnings(resolved(changes)))


def test_an_update_reaches_no_group_of_an_autoscaler(up: Run) -> None:
    recorder = up({"verification": ON["verification"]}, stack="prod")
    assert partitions(recorder) == {"deepseek-r1": recorder.manifest("ScaledObject")["spec"]["maxReplicaCount"]}


def test_the_pods_are_the_same_with_and_without_it(up: Run) -> None:
    without, with_gate = (
        up(changes).manifest("LeaderWorkerSet")["spec"]["leaderWorkerTemplate"]
        for changes in ({"inference": {"replicas": 3}}, ON)
    )
    assert without == with_gate, "switching it on restarts nothing"


def test_what_it_is_told(up: Run) -> None:
    recorder = up(gated(longPrompt=0.5, onFailure="hold"))
    found = args_of(recorder)
    (digest,) = (one.removeprefix("--digest=") for one in found if one.startswith("--digest="))
    assert len(digest) == 8
    assert found == [
        "--namespace=deepseek",
        "--group=deepseek-r1",
        "--port=8000",
        "--container=vllm",
        "--model=ds",
        f"--digest={digest}",
        "--store=deepseek-r1-known-good",
        "--paper=/etc/gate/paper.json",
        "--at-least=0.9",
        "--worse-by=0.05",
        "--slower-by=1.25",
        "--ready-seconds=5684",
        "--silence-seconds=180",
        "--long-seconds=900",
        "--credentials=/var/run/secrets/kubernetes.io/serviceaccount",
    ]
    paper = json.loads(recorder.manifest("ConfigMap", "paper")["data"]["paper.json"])
    assert paper == {
        "questions": QUESTIONS,
        "max_tokens": 256,
        "long_tokens": 1024,
        "requests": 8,
        "concurrency": 4,
        "output_tokens": 64,
    }
    assert "--return" in args_of(up(ON))


def test_it_has_time_for_the_first_group_for_asking_and_for_all_groups(up: Run) -> None:
    asking = exam_seconds(GateSettings.model_validate(ON["verification"]["gate"]))
    assert job(up(ON))["spec"]["activeDeadlineSeconds"] == 5684 + asking + 3 * 5684


def test_what_it_may_do(up: Run) -> None:
    rights = {
        (f"{group}/{resource}", verb, *rule.get("resourceNames", ()))
        for rule in up(ON).manifest("Role", "gate")["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert rights == {
        ("leaderworkerset.x-k8s.io/leaderworkersets", "get", "deepseek-r1"),
        ("leaderworkerset.x-k8s.io/leaderworkersets", "patch", "deepseek-r1"),
        ("apps/statefulsets", "get", "deepseek-r1"),
        ("/pods", "list"),
        ("/configmaps", "get", "deepseek-r1-known-good"),
        ("/configmaps", "patch", "deepseek-r1-known-good"),
        ("events.k8s.io/events", "create"),
    }


def test_another_pod_continues_for_one_that_was_killed(up: Run) -> None:
    spec = job(up(ON))["spec"]
    assert spec["backoffLimit"] == 0
    assert [rule["action"] for rule in spec["podFailurePolicy"]["rules"]] == ["Ignore", "Ignore"]
    assert spec["podFailurePolicy"]["rules"][1]["onExitCodes"]["values"] == [137, 143]


def test_records_outlive_updates_and_are_the_programs_own(up: Run) -> None:
    found = up(ON).manifest("ConfigMap", "records")
    assert found["metadata"]["name"] == "deepseek-r1-known-good"
    assert "data" not in found


def test_it_comes_after_the_groups_and_before_the_smoke_test(up: Run) -> None:
    recorder = up(merged(ON, {"verification": {"smoke": True}}))
    after = {urn.rsplit("::", 1)[-1] for urn in recorder.request("Verification").dependencies}
    assert "gate-job" in after
    before = {urn.rsplit("::", 1)[-1] for urn in recorder.request("Gate").dependencies}
    assert "inference-group-group" in before


def test_the_key_is_not_in_the_pod(up: Run) -> None:
    recorder = up(merged(ON, {"service": {"apiKey": True}}), secrets=API_KEY)
    (container,) = job(recorder)["spec"]["template"]["spec"]["containers"]
    (variable,) = container["env"]
    assert variable["valueFrom"]["secretKeyRef"]["key"] == "VLLM_API_KEY"
    assert API_KEY["apiKey"] not in json.dumps(job(recorder))


def test_it_reaches_the_leaders(up: Run) -> None:
    policy = {"security": {"networkPolicy": {"clients": [{"namespace": "gateway"}]}}}
    recorder = up(merged(ON, policy))
    clients = recorder.manifest("NetworkPolicy", "clients")["spec"]["ingress"][0]["from"]
    labels = job(recorder)["spec"]["template"]["metadata"]["labels"]
    wanted = {"podSelector": {"matchLabels": {"app.kubernetes.io/component": labels["app.kubernetes.io/component"]}}}
    assert wanted in clients


@pytest.mark.parametrize(
    "changes",
    [
        {"inference": {"engine": {"maxModelLen": 1024}}},
        {"verification": {"gate": {"questions": [{"ask": "1 + 1?", "holds": ["2"]}]}}},
        {"verification": {"gate": {"atLeast": 0.5}}},
    ],
)
def test_it_asks_again_when_there_is_something_new(up: Run, changes: dict[str, Any]) -> None:
    names = {job(up(merged(ON, one)))["metadata"]["name"] for one in ({}, changes)}
    assert len(names) == 2


def test_it_does_not_ask_again_for_another_number_of_groups(up: Run) -> None:
    """It is another Job, which waits for the new groups and finds the template accepted."""
    recorders = [up(merged(ON, {"inference": {"replicas": replicas}})) for replicas in (2, 3)]
    assert args_of(recorders[0]) == args_of(recorders[1])
    assert len({job(recorder)["metadata"]["name"] for recorder in recorders}) == 2


def test_no_group_is_asked_where_there_is_none(up: Run) -> None:
    changes = merged(ON, {"inference": {"replicas": 0}})
    recorder = up(changes)
    assert "Gate" not in recorder.kinds()
    assert partitions(recorder) == {"deepseek-r1": None}
    assert any("there are no groups at first, so nothing is verified" in one for one in warnings(resolved(changes)))


def test_the_new_groups_of_an_update_are_asked_before_requests_come(up: Run) -> None:
    recorder = up(updated(ON, weight=10), secrets=API_KEY)
    assert partitions(recorder) == {"deepseek-r1": 3, "deepseek-r1-v33": None}
    (new,) = recorder.manifest("Job", "gate-v33")["spec"]["template"]["spec"]["containers"]
    assert {"--group=deepseek-r1-v33", "--baseline=deepseek-r1", "--store=deepseek-r1-known-good"} <= {*new["args"]}
    assert "--return" not in new["args"]
    after = {urn.rsplit("::", 1)[-1] for urn in recorder.request("Route").dependencies}
    assert "gate-v33-job" in after


def test_the_plan_says_what_is_asked() -> None:
    assert summary(resolved(gated()))["gate"] == (
        "1 question, 1,536 tokens, 8 requests; of group 2, before groups 0 to 1; else goes back"
    )
    two = merged(gated(longPrompt=0, onFailure="hold"), {"inference": {"replicas": 2}})
    assert summary(resolved(two))["gate"] == "1 question, 8 requests; of group 1, before group 0; else holds"
    one = merged(ON, {"inference": {"replicas": 1}})
    assert summary(resolved(one))["gate"] == "1 question, 1,536 tokens, 8 requests; of group 0; else goes back"


def problems(gate: dict[str, Any]) -> list[tuple[str, str, str]]:
    with pytest.raises(ValidationError) as raised:
        StackSettings.model_validate(merged(stack_settings("dev"), {"verification": {"gate": gate}}))
    return [(f.path, f.problem, f.fix) for f in findings(raised.value)]


def test_no_questions() -> None:
    ((path, problem, fix),) = problems({"questions": []})
    assert (path, problem) == ("deployment.verification.gate.questions", "the list is empty")
    assert fix == "write at least one item, or remove the setting"


def test_a_question_without_an_answer() -> None:
    ((path, problem, _),) = problems({"questions": [{"ask": "Why?", "holds": []}]})
    assert (path, problem) == ("deployment.verification.gate.questions[0].holds", "the list is empty")


def test_a_load_that_is_never_reached() -> None:
    ((path, problem, fix),) = problems({"questions": QUESTIONS, "load": {"requests": 2}})
    assert path == "deployment.verification.gate.load"
    assert problem == "concurrency 4 is never reached with requests: 2"
    assert fix == "raise requests, or lower concurrency"


def test_a_long_prompt_of_an_unknown_length() -> None:
    changes = merged(
        ON,
        {
            "model": {"name": "acme/unknown", "weightsGiB": 600},
            "weights": {"source": {"kind": "modelScope", "repository": "acme/unknown", "revision": "v1"}},
            "inference": {"engine": {"maxModelLen": None}},
        },
    )
    (said,) = [one for one in errors(resolved(changes)) if "the longest request is not known" in one.problem]
    assert said.path == "deployment.verification.gate.longPrompt"
    assert said.fix == "write deployment.inference.engine.maxModelLen, or longPrompt: 0"


def test_a_long_prompt_that_the_filter_refuses() -> None:
    changes = merged(ON, {"service": {"apiKey": True, "requestFilter": {"maxPromptCharacters": 1000}}})
    (said,) = [one for one in errors(resolved(changes)) if "the request filter refuses it" in one.problem]
    assert said.problem.startswith("a prompt of 1,536 tokens has up to 9,216 characters")
    assert said.fix.startswith("raise maxPromptCharacters and maxBodyMiB of deployment.service.requestFilter")


def test_an_old_controller(up: Run) -> None:
    assert any("a gate needs LeaderWorkerSet 0.7.0 in the cluster" in one for one in warnings(resolved(ON)))


def test_the_alert_waits_for_the_time_of_an_update(up: Run) -> None:
    def held(changes: dict[str, Any]) -> list[str]:
        (group,) = up(merged(changes, {"observability": {}})).manifest("PrometheusRule")["spec"]["groups"]
        return [rule["for"] for rule in group["rules"] if rule["alert"] == "UpdateHeld"]

    assert held(ON) == [f"{job(up(ON))['spec']['activeDeadlineSeconds']}s"]
    assert held({}) == []


def test_the_policies_accept_it(up: Run) -> None:
    found = resources(up({"verification": ON["verification"]}, stack="prod"), "prod")
    assert any(one.name == "gate-job" for one in found)
    assert violations(found) == {}


def test_the_output_has_no_template() -> None:
    record = {
        "template_digest": "ab12cd34",
        "image_digest": "i@sha256:0",
        "revision": "r",
        "exam": "e",
        "asked": 24,
        "passed": 22,
        "first_token_seconds": 1.8,
        "tokens_per_second": 38.0,
        "accepted_at": "2026-11-20T00:00:00Z",
        "template": {"size": 2},
    }
    assert record_output({"accepted.r1": json.dumps(record)}, "r1") == {
        "templateDigest": "ab12cd34",
        "imageDigest": "i@sha256:0",
        "acceptedAt": "2026-11-20T00:00:00Z",
        "questions": 24,
        "answered": 22,
        "timeToFirstTokenSeconds": 1.8,
        "tokensPerSecond": 38.0,
    }
    assert record_output(None, "r1") is None
    assert record_output({"accepted.r1": "edited"}, "r1") is None
