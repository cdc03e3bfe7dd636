"""Autoscaling: what the autoscaler is told, that it alone owns the count, and that nothing loads in vain."""

import json
from typing import Any

import pulumi
import pytest

from components import wiring
from components.inference_group import ready_conditions
from components.operators import KEDA, expected_apis
from components.scaling import (
    AutoscalingArgs,
    hpa_spec,
    load_behavior,
    queue_spec,
    schedule_spec,
)
from deepseek_acs.planner.loading import LoadBudget, load_budget
from deepseek_acs.planner.spec import ResolvedSpec
from deepseek_acs.planner.summary import summary
from deepseek_acs.settings.cron import cron_problem
from deepseek_acs.settings.stack import StackSettings
from tests.unit.conftest import NO_SECRETS, Recorder, Run, errors, is_secret, merged, resolved, stack_settings, warnings

PROMETHEUS = {"url": "http://prometheus.monitoring:9090"}
QUEUE = {"kind": "queue", "maxReplicas": 3, "prometheus": {**PROMETHEUS, "authorization": True}}
SCHEDULE = {
    "kind": "schedule",
    "minReplicas": 0,
    "windows": [
        {"start": "0 7 * * 1-5", "end": "0 20 * * 1-5", "replicas": 2},
        {"start": "0 10 * * mon", "end": "30 11 * * mon", "replicas": 3},
    ],
}
HPA = {"kind": "hpa", "maxReplicas": 2}

R1 = load_budget(weights_gib=641.3, throughput_mib_s=300)
SHORT = LoadBudget(read_seconds=60, startup_seconds=100)
CURRENT, GUIDE = (0, 33, 0), (0, 7, 2)


def inference(scaling: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"inference": {"replicas": None, "scaling": scaling, **more}}


def deployment(scaling: dict[str, Any], **more: Any) -> StackSettings:
    return StackSettings.model_validate(merged(stack_settings("dev"), inference(scaling, **more)))


def planned(scaling: dict[str, Any], **more: Any) -> ResolvedSpec:
    return resolved(inference(scaling, **more))


def args(scaling: dict[str, Any], **more: Any) -> AutoscalingArgs:
    found = wiring.autoscaling(planned(scaling, **more), NO_SECRETS)
    assert found is not None
    return found


def queue_of(**more: Any) -> dict[str, Any]:
    return queue_spec(args({**QUEUE, **more}), None)


def with_queue(up: Run, **options: Any) -> Recorder:
    return up(inference(QUEUE), secrets={"prometheusToken": "hidden"}, **options)


class TestQueue:
    def test_the_leader_worker_set_is_scaled(self, up: Run) -> None:
        scaled = with_queue(up).manifest("ScaledObject")
        assert scaled["apiVersion"] == "keda.sh/v1alpha1"
        assert (scaled["metadata"]["name"], scaled["metadata"]["namespace"]) == ("deepseek-r1", "deepseek")
        assert scaled["spec"]["scaleTargetRef"] == {
            "apiVersion": "leaderworkerset.x-k8s.io/v1",
            "kind": "LeaderWorkerSet",
            "name": "deepseek-r1",
        }
        assert (scaled["spec"]["minReplicaCount"], scaled["spec"]["maxReplicaCount"]) == (1, 3)

    def test_the_metrics_are_those_of_this_group(self, up: Run) -> None:
        waiting, cache = with_queue(up).manifest("ScaledObject")["spec"]["triggers"]
        of_group = 'namespace="deepseek",leaderworkerset="deepseek-r1"'
        assert waiting["metadata"]["query"] == f"sum(vllm:num_requests_waiting{{{of_group}}})"
        assert cache["metadata"]["query"] == f"sum(vllm:gpu_cache_usage_perc{{{of_group}}})", "the guide's image"
        assert (waiting["metadata"]["threshold"], cache["metadata"]["threshold"]) == ("10", "0.8")
        assert waiting["metadata"]["serverAddress"] == PROMETHEUS["url"]

    def test_the_token_is_in_the_secret_alone(self, up: Run) -> None:
        recorder = with_queue(up)
        secret = recorder.manifest("Secret", "prometheus")
        assert secret["stringData"] == {"header": "Authorization", "value": "hidden"}
        raw = recorder.raw_inputs("Secret", "prometheus")["stringData"]
        assert is_secret(raw) or is_secret(raw["value"])
        authentication = recorder.manifest("TriggerAuthentication")
        assert {ref["parameter"]: ref["key"] for ref in authentication["spec"]["secretTargetRef"]} == {
            "customAuthHeader": "header",
            "customAuthValue": "value",
        }
        assert {ref["name"] for ref in authentication["spec"]["secretTargetRef"]} == {
            "autoscaling-prometheus-authorization-1a2b3c4d"
        }
        for trigger in recorder.manifest("ScaledObject")["spec"]["triggers"]:
            assert trigger["authenticationRef"]["name"].startswith("autoscaling-prometheus-authentication")
            assert trigger["metadata"]["authModes"] == "custom"
        others = [m for m in recorder.manifests() if m["kind"] != "Secret"]
        assert "hidden" not in json.dumps(others)

    def test_without_authorization_there_is_no_secret(self) -> None:
        for trigger in queue_of()["triggers"]:
            assert "authenticationRef" not in trigger
            assert "authModes" not in trigger["metadata"]

    def test_missing_token_is_named(self, up: Run) -> None:
        with pytest.raises(pulumi.RunError, match=r"pulumi config set -s dev --secret deepseek:prometheusToken"):
            up(inference(QUEUE))

    def test_missing_metrics_change_nothing(self) -> None:
        for trigger in queue_of()["triggers"]:
            assert trigger["metadata"]["ignoreNullValues"] == "false"
            assert "vector" not in trigger["metadata"]["query"]

    def test_zero_is_left_by_the_users_query(self) -> None:
        spec = queue_of(minReplicas=0, activationQuery='rate(requests{service="ds"}[5m])')
        waiting, cache, activation = spec["triggers"]
        assert spec["minReplicaCount"] == 0
        assert (
            waiting["metadata"]["query"]
            == 'sum(vllm:num_requests_waiting{namespace="deepseek",leaderworkerset="deepseek-r1"}) or vector(0)'
        )
        assert cache["metadata"]["query"].endswith(" or vector(0)")
        query, threshold = activation["metadata"]["query"], activation["metadata"]["threshold"]
        assert query == 'clamp_max(max(rate(requests{service="ds"}[5m])) or vector(0), 1)', "never more than one group"
        assert threshold == "1"

    def test_names_of_triggers_are_unique(self) -> None:
        spec = queue_of(minReplicas=0, activationQuery="up")
        names = [trigger["name"] for trigger in spec["triggers"]]
        assert len(set(names)) == len(names) == 3

    def test_autoscaler_comes_after_the_group(self, up: Run) -> None:
        dependencies = with_queue(up).request("Autoscaling").dependencies
        assert any(urn.endswith("LeaderWorkerSet::inference-group-group") for urn in dependencies)

    def test_hold(self, up: Run) -> None:
        held = up(inference({**QUEUE, "prometheus": PROMETHEUS, "hold": 0}))
        assert held.manifest("ScaledObject")["metadata"]["annotations"] == {"autoscaling.keda.sh/paused-replicas": "0"}


class TestLoadTime:
    def test_one_group_at_a_time_and_none_is_given_up_sooner_than_loaded(self) -> None:
        behavior = load_behavior(SHORT.create_seconds)
        assert behavior["scaleDown"]["stabilizationWindowSeconds"] == SHORT.create_seconds == 1900
        for direction in ("scaleUp", "scaleDown"):
            (policy,) = behavior[direction]["policies"]
            assert (policy["type"], policy["value"]) == ("Pods", 1)

    def test_what_kubernetes_accepts_is_not_exceeded(self) -> None:
        assert R1.create_seconds > 3600
        behavior = load_behavior(R1.create_seconds)
        assert behavior["scaleDown"]["stabilizationWindowSeconds"] == 3600
        assert behavior["scaleUp"]["policies"][0]["periodSeconds"] == 1800

    def test_zero_is_reached_later_than_a_group_loads(self) -> None:
        assert queue_of()["cooldownPeriod"] == R1.create_seconds


class TestSchedule:
    def test_each_window_is_a_cron_trigger(self) -> None:
        spec = schedule_spec(args(SCHEDULE))
        assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (0, 3)
        assert [trigger["type"] for trigger in spec["triggers"]] == ["cron", "cron"]
        assert spec["triggers"][0]["metadata"] == {
            "timezone": "Asia/Shanghai",
            "start": "0 7 * * 1-5",
            "end": "0 20 * * 1-5",
            "desiredReplicas": "2",
        }

    def test_a_window_begins_and_ends_at_once(self) -> None:
        behavior = schedule_spec(args(SCHEDULE))["advanced"]["horizontalPodAutoscalerConfig"]
        for rules in behavior["behavior"].values():
            assert rules["stabilizationWindowSeconds"] == 0
            assert rules["policies"][0]["value"] == 3

    @pytest.mark.parametrize("text", ["0 8 * * 1-5", "*/15 0-23/2 1,15 jan-mar mon", "59 23 31 12 6", "* * * * SUN"])
    def test_cron(self, text: str) -> None:
        assert cron_problem(text) is None

    @pytest.mark.parametrize(
        ("text", "wrong"),
        [
            ("0 8 * *", "has 4 fields, not 5"),
            ("@daily", "has 1 fields, not 5"),
            ("60 8 * * *", "has an invalid minute"),
            ("0 24 * * *", "has an invalid hour"),
            ("0 8 0 * *", "has an invalid day of the month"),
            ("0 8 * 13 *", "has an invalid month"),
            ("0 8 * * 7", "has an invalid weekday"),
            ("0 8 * * 5-1", "has an invalid weekday"),
            ("*/0 8 * * *", "has an invalid minute"),
            ("0 8 mon * *", "has an invalid day of the month"),
        ],
    )
    def test_what_is_not_cron(self, text: str, wrong: str) -> None:
        assert str(cron_problem(text)).startswith(wrong)


class TestHpa:
    def test_whole_object(self, up: Run) -> None:
        found = up(inference(HPA)).manifest("HorizontalPodAutoscaler")
        assert found["metadata"]["name"] == "deepseek-r1"
        spec = found["spec"]
        assert spec["scaleTargetRef"]["kind"] == "LeaderWorkerSet"
        assert (spec["minReplicas"], spec["maxReplicas"]) == (1, 2)
        assert {m["pods"]["metric"]["name"]: m["pods"]["target"] for m in spec["metrics"]} == {
            "vllm:num_requests_waiting": {"type": "AverageValue", "averageValue": "10"},
            "vllm:gpu_cache_usage_perc": {"type": "AverageValue", "averageValue": "800m"},
        }
        assert spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 3600

    def test_names_of_the_adapter(self) -> None:
        given = {**HPA, "waitingMetric": "waiting", "cacheMetric": "cache"}
        spec = hpa_spec(args(given))
        assert [m["pods"]["metric"]["name"] for m in spec["metrics"]] == ["waiting", "cache"]

    def test_hold_is_both_bounds(self) -> None:
        spec = hpa_spec(args({**HPA, "hold": 3}))
        assert (spec["minReplicas"], spec["maxReplicas"]) == (3, 3)

    def test_keda_is_not_needed(self) -> None:
        assert KEDA not in expected_apis(planned(HPA))


class TestOwnership:
    def test_the_program_sets_the_count_once(self, up: Run) -> None:
        recorder = with_queue(up)
        request = recorder.request("LeaderWorkerSet")
        assert list(request.ignoreChanges) == ["spec.replicas"]
        assert recorder.manifest("LeaderWorkerSet")["spec"]["replicas"] == 1
        wait = recorder.manifest("LeaderWorkerSet")["metadata"]["annotations"]["pulumi.com/waitFor"]
        assert json.loads(wait) == ready_conditions(None) == ["condition=Available"]

    def test_by_hand_the_count_is_the_programs(self, up: Run) -> None:
        assert list(up().request("LeaderWorkerSet").ignoreChanges) == []

    def test_taking_the_count_over_forces_it(self, up: Run) -> None:
        group = up({"inference": {"scaling": {"kind": "manual", "takeOver": True}}}).manifest("LeaderWorkerSet")
        assert group["metadata"]["annotations"] == {
            "pulumi.com/waitFor": json.dumps(["condition=Available", "jsonpath={.status.readyReplicas}=1"]),
            "pulumi.com/patchForce": "true",
        }

    @pytest.mark.parametrize(
        ("scaling", "first", "most"),
        [
            (SCHEDULE, 0, 3),
            ({**SCHEDULE, "hold": 5}, 5, 5),
            (QUEUE, 1, 3),
            ({**QUEUE, "hold": 0}, 0, 3),
            (HPA, 1, 2),
            ({**HPA, "hold": 4}, 4, 4),
        ],
    )
    def test_first_and_most(self, scaling: dict[str, Any], first: int, most: int) -> None:
        found = planned(scaling).replicas
        assert (found.first, found.most) == (first, most)


class TestPlan:
    def test_summary_says_what_it_may_cost(self) -> None:
        lines = summary(planned(QUEUE))
        assert lines["scaling"] == "queue, 1 to 3 groups, at most 48 GPUs; a new one answers after 37 to 95 min"
        assert summary(planned({**QUEUE, "hold": 2}))["scaling"].startswith("queue, held at 2, ")
        assert "scaling" not in summary(resolved({}))

    def test_zero_is_warned_of(self) -> None:
        (warning,) = (w for w in warnings(planned(SCHEDULE)) if "scaling" in w)
        assert warning.startswith(
            "deployment.inference.scaling.minReplicas: with no group running, the first answer takes"
        )

    def test_an_update_may_meet_the_fewest_groups(self) -> None:
        found = planned(QUEUE, lifecycle={})
        (warning,) = (w for w in warnings(found) if "the only group" in w)
        assert warning.startswith("deployment.inference.rollout: a change of the pods stops")
        assert found.replicas.fewest == 1

    def test_all_groups_must_be_available(self) -> None:
        few = {"gpu": {"series": "GU8TF", "perPod": 8, "available": 32}}
        (finding,) = errors(planned(QUEUE, **few))
        assert finding.problem == "3 replicas and 0 more during an update need 48 GPUs, and 32 are available"
        assert finding.fix.startswith("lower scaling's maximum or maxSurge")


class TestOperator:
    def test_keda_is_expected(self) -> None:
        assert KEDA in expected_apis(planned(QUEUE))
