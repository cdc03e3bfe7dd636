"""The program that keeps evidence of groups that ended: when it exists, what it is told, and what it may do."""

from typing import Any

import pytest
from pydantic import ValidationError

from deepseek_acs.planner.starts import start_plan
from deepseek_acs.planner.summary import summary
from deepseek_acs.settings.errors import findings
from deepseek_acs.settings.stack import StackSettings
from tests.unit.conftest import Recorder, Run, merged, resolved, stack_settings
from tests.unit.test_policy import resources, violations

ON: dict[str, Any] = {"observability": {"incidents": {}}}
KEY = {"apiKey": "k3y-0f-a-Test." * 4 + "zyxwvuts"}
WITH_KEY = merged(ON, {"service": {"apiKey": True}})


def objects(recorder: Recorder) -> dict[str, dict[str, Any]]:
    """The program's, by kind."""
    return {
        manifest["kind"]: manifest
        for manifest in recorder.manifests()
        if manifest["metadata"].get("labels", {}).get("app.kubernetes.io/name") == "incidents"
        and not manifest.get("binaryData")
    }


def outputs(recorder: Recorder) -> dict[str, Any]:
    """The stack's."""
    (found,) = (found for urn, found in recorder.component_outputs.items() if "pulumi:pulumi:Stack" in urn)
    return dict(found)


def pod_of(recorder: Recorder) -> dict[str, Any]:
    found: dict[str, Any] = objects(recorder)["Deployment"]["spec"]["template"]["spec"]
    return found


def test_off_by_default(up: Run) -> None:
    recorder = up({"observability": {}})
    assert objects(recorder) == {}
    assert "incidentsCommand" not in outputs(recorder)
    assert "incidents" not in summary(resolved({"observability": {}}))


def test_what_it_is_told(up: Run) -> None:
    found = objects(up({"observability": {"incidents": {"keep": 5, "lines": 100}}}))
    assert found.keys() == {"ConfigMap", "ServiceAccount", "Role", "RoleBinding", "Deployment"}
    assert {one["metadata"]["name"] for one in found.values()} == {"deepseek-r1-incidents"}
    assert "data" not in found["ConfigMap"], "what the program writes there is its own"
    (container,) = found["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert container["args"] == [
        "--namespace=deepseek",
        "--group=deepseek-r1",
        "--store=deepseek-r1-incidents",
        "--keep=5",
        "--lines=100",
        f"--plan={start_plan(resolved(ON))}",
        "--port=8000",
        "--state=/var/lib/incidents",
        "--credentials=/var/run/secrets/kubernetes.io/serviceaccount",
    ]


def test_it_may_read_pods_logs_and_events_and_write_its_config_map(up: Run) -> None:
    rights = {
        (f"{group}/{resource}", verb, *rule.get("resourceNames", ()))
        for rule in objects(up(ON))["Role"]["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert rights == {
        ("leaderworkerset.x-k8s.io/leaderworkersets", "get", "deepseek-r1"),
        ("/pods", "list"),
        ("/pods", "watch"),
        ("/pods/log", "get"),
        ("/events", "list"),
        ("/configmaps", "get", "deepseek-r1-incidents"),
        ("/configmaps", "patch", "deepseek-r1-incidents"),
    }


def test_it_has_the_secrets_that_it_removes(up: Run) -> None:
    engine = {"secretEnv": {"HF_TOKEN": {"secret": "hub", "key": "token"}}}
    recorder = up(merged(WITH_KEY, {"inference": {"engine": engine}}), secrets=KEY)
    (volume,) = (one for one in pod_of(recorder)["volumes"] if one["name"] == "engine-secrets")
    assert volume["projected"]["sources"] == [
        {"secret": {"name": "access-api-key-1a2b3c4d"}},
        {"secret": {"name": "hub", "items": [{"key": "token", "path": "env/HF_TOKEN"}], "optional": True}},
    ]
    (container,) = pod_of(recorder)["containers"]
    assert "--secrets=/var/run/secrets/engine" in container["args"]
    assert "--metrics-key=/var/run/secrets/engine/metrics" in container["args"]
    assert "env" not in container, "no value is in the pod"
    (mount,) = (one for one in container["volumeMounts"] if one["name"] == "engine-secrets")
    assert mount["readOnly"]


def test_without_a_request_filter_no_key_is_asked_for(up: Run) -> None:
    recorder = up(merged(ON, {"service": {"kind": "clusterIP", "apiKey": True, "requestFilter": None}}), secrets=KEY)
    (container,) = pod_of(recorder)["containers"]
    assert not [one for one in container["args"] if one.startswith("--metrics-key")]
    assert "--secrets=/var/run/secrets/engine" in container["args"], "what it removes is another matter"


def test_it_reaches_the_leaders(up: Run) -> None:
    policy = {"security": {"networkPolicy": {"clients": [{"namespace": "gateway"}]}}}
    clients = up(merged(ON, policy)).manifest("NetworkPolicy", "clients")["spec"]["ingress"][0]["from"]
    assert {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "incidents"}}} in clients
    assert len(up(policy).manifest("NetworkPolicy", "clients")["spec"]["ingress"][0]["from"]) == len(clients) - 1


def test_alerts_about_ends_have_the_command(up: Run) -> None:
    (group,) = up(ON).manifest("PrometheusRule")["spec"]["groups"]
    with_report = {rule["alert"] for rule in group["rules"] if "report" in rule["annotations"]}
    assert with_report == {"VllmNoLeaderReady", "VllmEngineDown", "GroupCrashed", "GroupFlapping"}
    (text,) = {rule["annotations"]["report"] for rule in group["rules"] if "report" in rule["annotations"]}
    assert text == "kubectl --namespace deepseek get configmap deepseek-r1-incidents -o jsonpath='{.data.last}'"
    assert "{{" not in text, "Prometheus would expand it"
    (plain,) = up({"observability": {}}).manifest("PrometheusRule")["spec"]["groups"]
    assert not [rule for rule in plain["rules"] if "report" in rule["annotations"]]


def test_an_output_names_the_command(up: Run) -> None:
    found = outputs(up(ON))
    assert found["incidents"] == "deepseek-r1-incidents"
    assert found["incidentsCommand"].endswith(
        " --namespace deepseek get configmap deepseek-r1-incidents"
        " -o go-template='{{index .binaryData .data.newest}}' | base64 --decode | gunzip"
    )


def test_the_preview_says_what_it_may_do() -> None:
    line = summary(resolved(ON))["incidents"]
    assert line == "20 kept, at most 0.9 MiB; reads pods, logs, events; writes its ConfigMap"


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"keep": 0}, "observability.incidents.keep"),
        ({"keep": 101}, "observability.incidents.keep"),
        ({"lines": 9}, "observability.incidents.lines"),
        ({"lines": 2001}, "observability.incidents.lines"),
    ],
)
def test_bounds(given: dict[str, Any], path: str) -> None:
    with pytest.raises(ValidationError) as caught:
        StackSettings.model_validate(merged(stack_settings("dev"), {"observability": {"incidents": given}}))
    (found,) = findings(caught.value)
    assert found.path == f"deployment.{path}"
    assert "less than or equal" in found.problem or "greater than or equal" in found.problem


def test_the_policies_accept_it(up: Run) -> None:
    found = resources(up(ON, stack="prod"), "prod")
    assert any(one.name == "incidents-deployment" for one in found)
    assert violations(found) == {}
