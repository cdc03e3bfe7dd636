"""What the section ``lifecycle`` does to the group, and that nothing is done without it."""

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import pytest

from components.disruption_budget import DisruptionBudget
from components.inference_group import group_spec
from components.inference_service import DRAIN
from components.lifecycle import CHECK_SECONDS
from deepseek_acs.engineprobe.program import HTTP_SECONDS
from deepseek_acs.planner.shutdown import (
    ANNOUNCE_SECONDS,
    drain_seconds,
    grace_seconds,
    load_balancer_seconds,
    refuses_while_ending,
)
from tests.unit.conftest import PINNED, Run, errors, group_args, resolved, warnings

LIFECYCLE: dict[str, Any] = {"lifecycle": {"requestSeconds": 900, "disruptionBudget": {}, "healthCheck": {}}}
ALL = {"inference": LIFECYCLE}
"""One whole run for all tests that need one."""

CURRENT = {"engine": {"image": "vllm/vllm-openai:v0.18.0", "backend": "mp"}}
PROGRAM = ["python3", "/opt/engineprobe/engineprobe.py"]


def spec(inference: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """The group's spec, without a run of the program."""
    return group_spec(group_args({"inference": inference, **changes}))


def pods(inference: Mapping[str, Any], **changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Leader's and worker's pod spec; the container's fields are merged into it."""
    template = spec(inference, **changes)["leaderWorkerTemplate"]
    leader, worker = (template[f"{role}Template"]["spec"] for role in ("leader", "worker"))
    return leader | leader["containers"][0], worker | worker["containers"][0]


def hook(pod: Mapping[str, Any]) -> list[str]:
    command = pod["lifecycle"]["preStop"]["exec"]["command"]
    assert isinstance(command, list)
    return command


class TestLostNode:
    def test_pods_leave_a_lost_node_when_told(self) -> None:
        for pod in pods({"lifecycle": {"lostNodeSeconds": 60}}):
            assert pod["tolerations"] == [
                {"key": f"node.kubernetes.io/{taint}", "operator": "Exists", "effect": "NoExecute"}
                | {"tolerationSeconds": 60}
                for taint in ("not-ready", "unreachable")
            ]

    def test_at_once(self) -> None:
        """Zero is a number, and not the absence of one."""
        for pod in pods({"lifecycle": {"lostNodeSeconds": 0}}):
            assert [toleration["tolerationSeconds"] for toleration in pod["tolerations"]] == [0, 0]

    def test_by_default_the_cluster_decides(self) -> None:
        assert all("tolerations" not in pod for pod in pods(LIFECYCLE))


class TestDrain:
    def test_grace_covers_announcement_requests_and_the_end(self) -> None:
        assert grace_seconds(600) == 645
        assert drain_seconds(grace_seconds(600)) == 600
        assert drain_seconds(30) == 0, "less than nothing is nothing"
        for pod in pods(LIFECYCLE):
            assert pod["terminationGracePeriodSeconds"] == 945
        for pod in pods({"lifecycle": {"requestSeconds": 60, "graceSeconds": 300}}):
            assert pod["terminationGracePeriodSeconds"] == 300

    def test_the_guides_engine_is_drained_before_it_is_terminated(self) -> None:
        leader, _ = pods(LIFECYCLE)
        assert hook(leader) == [*PROGRAM, "drain", "--port=8000", "--announce-seconds=15", "--request-seconds=900"]
        assert "--shutdown-timeout" not in leader["command"][2]

    def test_a_current_engine_drains_itself(self) -> None:
        leader, worker = pods(LIFECYCLE | CURRENT)
        assert hook(leader) == ["sleep", str(ANNOUNCE_SECONDS)]
        at = leader["command"].index("--shutdown-timeout")
        assert leader["command"][at + 1] == "900"
        assert worker["command"] == [*leader["command"], "--headless"]

    @pytest.mark.parametrize(
        ("version", "refuses"), [((0, 7, 2), False), ((0, 17, 1), False), ((0, 18, 0), True), (None, False)]
    )
    def test_an_argument_that_the_engine_may_not_know_is_never_given(
        self, version: tuple[int, int, int] | None, refuses: bool
    ) -> None:
        assert refuses_while_ending(version) is refuses

    def test_an_image_without_a_version_is_drained_from_outside(self) -> None:
        leader, _ = pods(LIFECYCLE | {"engine": {"image": "registry/engine:stable"}})
        assert hook(leader)[2] == "drain"
        assert "--shutdown-timeout" not in leader["command"][2]

    @pytest.mark.parametrize(("changes", "port"), [({}, 6379), (CURRENT, 29501)])
    def test_a_worker_outlasts_its_leader(self, changes: dict[str, Any], port: int) -> None:
        _, worker = pods(LIFECYCLE | changes)
        assert hook(worker) == [*PROGRAM, "outlast", f"--port={port}", "--seconds=935"]
        assert ANNOUNCE_SECONDS + 900 < 935, "the leader's last request may need it"

    def test_a_shell_that_is_the_first_process_can_be_terminated(self) -> None:
        leader, worker = pods(LIFECYCLE)
        assert leader["command"][2].startswith("trap 'exit 143' TERM; /vllm-workspace/ray_init.sh leader ")
        assert " & wait $! && exec vllm serve " in leader["command"][2]
        assert worker["command"][2].startswith("trap 'exit 143' TERM; exec /vllm-workspace/ray_init.sh worker ")
        assert worker["command"][2].endswith(" & wait $!")

    def test_pulumi_waits_longer_by_what_pods_may_take(self, up: Run) -> None:
        timeouts = up(ALL).request("LeaderWorkerSet").customTimeouts
        assert (timeouts.create, timeouts.update, timeouts.delete) == ("95m", "111m", "31m")


class TestLoadBalancer:
    @pytest.mark.parametrize(("requests", "granted"), [(1, 16), (600, 615), (900, 900), (86_400, 900)])
    def test_it_knows_no_longer_connections(self, requests: int, granted: int) -> None:
        assert load_balancer_seconds(requests) == granted

    def test_it_lets_connections_to_a_pod_that_ends_go_on(self, up: Run) -> None:
        changes = {"service": {"kind": "internalLoadBalancer", "apiKey": True, "allowedCidrs": ["10.0.0.0/16"]}}
        annotations = up(changes, stack="prod").manifest("Service", "leaders")["metadata"]["annotations"]
        assert annotations[DRAIN] == "on"
        assert annotations[f"{DRAIN}-timeout"] == "615"

    def test_there_may_be_none(self, up: Run) -> None:
        assert DRAIN not in up(ALL).manifest("Service", "leaders")["metadata"]["annotations"]


class TestHealthCheck:
    def test_a_leader_must_make_progress(self) -> None:
        leader, _ = pods(LIFECYCLE)
        probe = leader["livenessProbe"]
        assert probe["exec"]["command"] == [
            *PROGRAM,
            "check-engine",
            "--port=8000",
            "--stall-seconds=300",
            "--model=ds",
        ]
        assert probe["periodSeconds"] * probe["failureThreshold"] == 180
        assert "httpGet" not in probe
        assert leader["readinessProbe"]["httpGet"] == leader["startupProbe"]["httpGet"]
        assert leader["readinessProbe"]["httpGet"]["path"] == "/health"

    def test_a_check_has_time_for_all_its_requests(self) -> None:
        leader, worker = pods(LIFECYCLE)
        assert leader["livenessProbe"]["timeoutSeconds"] == CHECK_SECONDS > 3 * HTTP_SECONDS
        assert worker["livenessProbe"]["timeoutSeconds"] > HTTP_SECONDS

    def test_a_dead_engine_is_not_given_the_time_of_its_requests(self) -> None:
        for pod in pods(LIFECYCLE):
            assert pod["livenessProbe"]["terminationGracePeriodSeconds"] == 45 < pod["terminationGracePeriodSeconds"]
            assert "terminationGracePeriodSeconds" not in pod["startupProbe"]

    def test_idle_engines_are_asked_on_request(self) -> None:
        leader, _ = pods({"lifecycle": {"healthCheck": {"canary": True, "stallSeconds": 600}}})
        assert leader["livenessProbe"]["exec"]["command"][-3:] == ["--stall-seconds=600", "--model=ds", "--canary"]

    def test_a_worker_must_reach_its_leader_once_it_has_started(self) -> None:
        leader, worker = pods(LIFECYCLE)
        command = [*PROGRAM, "check-leader", "--port=6379"]
        assert worker["startupProbe"]["exec"]["command"] == command
        assert worker["livenessProbe"]["exec"]["command"] == [*command, "--met"], "an outage of DNS ends no group"
        patience = {
            role: pod["startupProbe"]["periodSeconds"] * pod["startupProbe"]["failureThreshold"]
            for role, pod in (("leader", leader), ("worker", worker))
        }
        assert patience["worker"] == patience["leader"] + 1800, "its leader may start half an hour later"
        assert worker["livenessProbe"]["periodSeconds"] * worker["livenessProbe"]["failureThreshold"] == 300
        assert "readinessProbe" not in worker

    def test_a_group_of_one_pod_has_no_leader_to_reach(self) -> None:
        one = {"parallelism": {"pipeline": 1}}
        _, worker = pods(LIFECYCLE | one, model={"name": "Qwen/Qwen3-32B"})
        assert "livenessProbe" not in worker

    def test_only_drain_without_it(self) -> None:
        leader, worker = pods({"lifecycle": {}})
        assert "httpGet" in leader["livenessProbe"]
        assert "livenessProbe" not in worker


class TestProgram:
    def test_it_is_mounted_from_a_config_map_that_its_content_names(self, up: Run) -> None:
        recorder = up(ALL)
        config_map = recorder.manifest("ConfigMap", "engineprobe")
        source = files("deepseek_acs.engineprobe").joinpath("program.py").read_text(encoding="utf-8")
        assert config_map["data"] == {"engineprobe.py": source}
        assert config_map["immutable"] is True
        assert config_map["metadata"]["namespace"] == "deepseek"
        template = recorder.manifest("LeaderWorkerSet")["spec"]["leaderWorkerTemplate"]
        for role in ("leader", "worker"):
            pod = template[f"{role}Template"]["spec"]
            (volume,) = (v for v in pod["volumes"] if v["name"] == "engineprobe")
            assert volume["configMap"] == {"name": config_map["metadata"]["name"]}
            (mount,) = (m for m in pod["containers"][0]["volumeMounts"] if m["name"] == "engineprobe")
            assert mount == {"name": "engineprobe", "mountPath": "/opt/engineprobe", "readOnly": True}

    def test_it_is_there_before_the_pods(self, up: Run) -> None:
        assert any(
            "ConfigMap::inference-group-engineprobe" in urn for urn in up(ALL).request("LeaderWorkerSet").dependencies
        )


class TestDisruptionBudget:
    def test_it_covers_all_pods_because_any_of_them_takes_its_group(self, up: Run) -> None:
        budget = up(ALL).manifest("PodDisruptionBudget")
        assert budget["metadata"] == {"name": "deepseek-r1", "namespace": "deepseek"}
        assert budget["spec"] == {
            "selector": {"matchLabels": {"leaderworkerset.sigs.k8s.io/name": "deepseek-r1"}},
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        }

    def test_it_is_a_component(self, up: Run) -> None:
        assert up(ALL).request(DisruptionBudget.__name__).type == "deepseek:inference:DisruptionBudget"


class TestRollout:
    def test_partition_and_restart_policy(self) -> None:
        found = spec({"replicas": 3, "rollout": {"partition": 2}, "lifecycle": {"groupRestart": "afterStart"}})
        update = found["rolloutStrategy"]["rollingUpdateConfiguration"]
        assert update == {"maxUnavailable": 1, "maxSurge": 0, "partition": 2}
        assert found["leaderWorkerTemplate"]["restartPolicy"] == "RecreateGroupAfterStart"

    def test_groups_restart_as_a_whole_unless_told_otherwise(self) -> None:
        assert spec(LIFECYCLE)["leaderWorkerTemplate"]["restartPolicy"] == "RecreateGroupOnPodRestart"

    def test_a_controller_that_cannot_is_told_of(self) -> None:
        wanted = {"lifecycle": {"groupRestart": "afterStart"}}
        old = {"operators": {"lws": {"kind": "install", "version": "0.8.0"}}}
        (finding,) = errors(resolved({"inference": wanted, **old}))
        assert finding.problem.startswith("afterStart needs LeaderWorkerSet 0.9.0; 0.8.0, which the stack")
        installed = warnings(resolved({"inference": wanted, "operators": {"lws": {"kind": "install"}}}))
        assert not [w for w in installed if "LeaderWorkerSet" in w]
        expected = warnings(resolved({"inference": wanted}))
        assert [w for w in expected if "afterStart needs LeaderWorkerSet 0.9.0 in the cluster" in w]


class TestPlan:
    def test_a_grace_period_that_cuts_requests_off_is_refused(self) -> None:
        wanted = {"lifecycle": {"requestSeconds": 600, "graceSeconds": 300}}
        (finding,) = errors(resolved({"inference": wanted}))
        assert finding.problem == "pods get 255 s to finish their requests, which may take 600 s"
        assert finding.path == "deployment.inference.lifecycle.graceSeconds"

    def test_best_effort_pods_get_short_notice(self) -> None:
        said = warnings(resolved({"inference": LIFECYCLE | {"qos": "best-effort"}}))
        assert [w for w in said if "requests are cut off after 255 of 900 s" in w]

    def test_what_an_update_costs_is_said(self) -> None:
        (warning,) = (w for w in warnings(resolved({"inference": LIFECYCLE})) if "a change of the pods stops" in w)
        assert "stops the only group until the model is loaded again, 37 to 65 min" in warning

    def test_nothing_is_said_or_done_without_the_section(self, up: Run) -> None:
        assert warnings(resolved({"weights": PINNED, "security": {"securityGroups": ["sg-1a"]}})) == []
        assert group_args({}).grace_seconds == 0
        recorder = up()
        assert "PodDisruptionBudget" not in recorder.kinds()
        assert not [key for key in recorder.requests if "engineprobe" in key]
