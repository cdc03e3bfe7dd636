"""Monitors, alerts, dashboard and logs. That the rules fire is proven with promtool in tests/integration."""

import itertools
import json
import re
from typing import Any

import pulumi
import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard
from pydantic import ValidationError

from components.monitoring.alerts import LOAD_SHARE, AlertThresholds, alerts
from components.monitoring.dashboard import COLUMNS, dashboard_json
from components.monitoring.logs import log_arguments, log_environment
from components.observability import pod_monitor_spec
from deepseek_acs.planner.loading import load_budget
from deepseek_acs.planner.metrics import EngineMetrics, Target
from deepseek_acs.planner.vllm import version_of
from deepseek_acs.planner.vllm_releases.release import Version
from deepseek_acs.settings.errors import findings
from deepseek_acs.settings.observability import LogSettings
from deepseek_acs.settings.stack import StackSettings
from tests.unit.conftest import ROOT, Recorder, Run, errors, merged, resolved, stack_settings

ON = {"observability": {"labels": {"release": "kube-prometheus-stack"}, "logs": {"slsLogstore": "deepseek"}}}
MONITORING = {"Observability", "PodMonitor", "PrometheusRule"}


def target(version: Version = (0, 33, 0), namespace: str = "n") -> Target:
    return Target(namespace=namespace, name="r1", metrics=EngineMetrics(version=version))


def containers(recorder: Recorder) -> tuple[dict[str, Any], dict[str, Any]]:
    template = recorder.manifest("LeaderWorkerSet")["spec"]["leaderWorkerTemplate"]
    (leader,) = template["leaderTemplate"]["spec"]["containers"]
    (worker,) = template["workerTemplate"]["spec"]["containers"]
    return leader, worker


def test_off_there_is_nothing(up: Run) -> None:
    assert not MONITORING & set(up().kinds())


class TestPodMonitor:
    def test_selects_the_leaders_and_their_port(self, up: Run) -> None:
        recorder = up(ON)
        monitor = recorder.manifest("PodMonitor")
        template = recorder.manifest("LeaderWorkerSet")["spec"]["leaderWorkerTemplate"]
        selected = monitor["spec"]["selector"]["matchLabels"]
        # The first is set by LeaderWorkerSet's controller.
        assert selected == {"leaderworkerset.sigs.k8s.io/name": "deepseek-r1", "role": "leader"}
        assert template["leaderTemplate"]["metadata"]["labels"]["role"] == "leader"
        assert "role" not in template["workerTemplate"]["metadata"]["labels"]
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        leader, _ = containers(recorder)
        assert endpoint["port"] in [port["name"] for port in leader["ports"]]
        assert endpoint["path"] == "/metrics"
        assert monitor["metadata"]["labels"]["release"] == "kube-prometheus-stack"
        assert monitor["metadata"]["namespace"] == "deepseek"

    @pytest.mark.parametrize("seconds", [5, 60])
    def test_no_scrape_lasts_longer_than_the_time_between_two(self, seconds: int) -> None:
        (endpoint,) = pod_monitor_spec({}, scrape_seconds=seconds)["podMetricsEndpoints"]
        assert endpoint["interval"] == f"{seconds}s"
        assert int(endpoint["scrapeTimeout"].removesuffix("s")) <= seconds

    def test_has_the_key_that_opens_nothing_but_metrics(self, up: Run) -> None:
        recorder = up(merged(ON, {"service": {"apiKey": True}}), secrets={"apiKey": "k3y-0f-a-Test." * 4 + "zyxwvuts"})
        (endpoint,) = recorder.manifest("PodMonitor")["spec"]["podMetricsEndpoints"]
        credentials = {"name": "access-api-key-1a2b3c4d", "key": "metrics"}
        assert endpoint["authorization"] == {"type": "Bearer", "credentials": credentials}
        (without,) = up(ON).manifest("PodMonitor")["spec"]["podMetricsEndpoints"]
        assert "authorization" not in without

    def test_comes_alone_where_nothing_else_is_wanted(self, up: Run) -> None:
        recorder = up({"observability": {"alerts": None, "dashboard": None}})
        assert recorder.manifest("PodMonitor")["metadata"]["name"] == "deepseek-r1-metrics"
        assert "PrometheusRule" not in recorder.kinds()
        assert not [key for key in recorder.requests if key.endswith("ConfigMap::dashboard")]

    def test_labels_that_the_alerts_select_by_are_added(self, up: Run) -> None:
        (endpoint,) = up(ON).manifest("PodMonitor")["spec"]["podMetricsEndpoints"]
        added = {rule["targetLabel"] for rule in endpoint["relabelings"]}
        assert added == {"namespace", "pod", "leaderworkerset", "group"}


class TestAlerts:
    def test_every_rule_says_what_to_do(self, up: Run) -> None:
        rule = up(ON).manifest("PrometheusRule")
        assert rule["metadata"]["labels"]["release"] == "kube-prometheus-stack"
        (group,) = rule["spec"]["groups"]
        names = [alert["alert"] for alert in group["rules"]]
        assert len(set(names)) == len(names) > 10
        for alert in group["rules"]:
            assert alert["labels"]["severity"] in ("critical", "warning")
            assert alert["labels"]["leaderworkerset"] == "deepseek-r1"
            assert alert["annotations"]["runbook_url"] == f"docs/runbook.md#{alert['alert'].lower()}"
            assert alert["annotations"]["summary"]
            assert alert["annotations"]["description"].endswith(".")
            assert 'namespace="deepseek"' in alert["expr"]

    def test_patience_with_a_load_follows_from_the_plan(self) -> None:
        for gib in (10.0, 641.3):
            budget = load_budget(weights_gib=gib, throughput_mib_s=300)
            found = {alert.name: alert for alert in alerts(AlertThresholds(), target(), budget)}
            assert found["GroupLoadStuck"].seconds == int(LOAD_SHARE * budget.startup_seconds)
            # The probe must not end the pod, and with it the alert's clock, before the alert.
            assert found["GroupLoadStuck"].seconds < budget.startup_seconds

    def test_objectives_are_alerts_only_where_they_are_set(self) -> None:
        budget = load_budget(weights_gib=1, throughput_mib_s=300)
        with_objectives = AlertThresholds(time_to_first_token_seconds=5, inter_token_seconds=0.1)
        before = {alert.name for alert in alerts(AlertThresholds(), target(), budget)}
        after = {alert.name for alert in alerts(with_objectives, target(), budget)}
        assert after - before == {"VllmFirstTokenSlow", "VllmTokensSlow"}

    def test_objective_that_can_never_be_missed_stops_the_preview(self, up: Run) -> None:
        alerting = {"timeToFirstTokenSeconds": 11, "interTokenSeconds": 3}
        with pytest.raises(pulumi.RunError) as caught:
            up({"observability": {"alerts": alerting}})
        text = " ".join(str(caught.value).split())
        assert "deployment.observability.alerts.timeToFirstTokenSeconds" in text
        assert "the histogram of vLLM 0.7.2 ends at 10 s, so an alert at 11 s would never fire" in text
        assert "write 10 or less, or remove the setting" in text
        assert "ends at 2.5 s, so an alert at 3 s" in text

    @pytest.mark.parametrize(("image", "seconds"), [("vllm:v0.7.2", 10), ("vllm:v0.9.0", 11)])
    def test_objective_within_the_histogram_passes(self, image: str, seconds: float) -> None:
        alerting = {"alerts": {"timeToFirstTokenSeconds": seconds}}
        assert errors(resolved({"observability": alerting, "inference": {"engine": {"image": image}}})) == []

    @pytest.mark.parametrize(
        ("version", "cache", "token", "hits"),
        [
            ((0, 7, 2), "vllm:gpu_cache_usage_perc", "vllm:time_per_output_token_seconds", "gpu_prefix_cache_hit_rate"),
            ((0, 9, 2), "vllm:gpu_cache_usage_perc", "vllm:time_per_output_token_seconds", "gpu_prefix_cache_hits_"),
            ((0, 10, 1), "vllm:kv_cache_usage_perc", "vllm:time_per_output_token_seconds", ":prefix_cache_hits_total"),
            ((0, 33, 0), "vllm:kv_cache_usage_perc", "vllm:inter_token_latency_seconds", ":prefix_cache_hits_total"),
        ],
    )
    def test_metrics_have_the_names_of_the_engines_version(
        self, version: Version, cache: str, token: str, hits: str
    ) -> None:
        metrics = EngineMetrics(version=version)
        assert (metrics.kv_cache_usage, metrics.inter_token_latency) == (cache, token)
        assert hits in metrics.prefix_hit_rate("", "5m")
        assert cache in dashboard_json(target(version), AlertThresholds())

    def test_version_is_that_of_the_image(self, up: Run) -> None:
        assert "vllm:gpu_cache_usage_perc" in json.dumps(up(ON).manifest("PrometheusRule"))


class TestDashboard:
    def test_is_found_by_grafanas_sidecar(self, up: Run) -> None:
        config = up(ON).manifest("ConfigMap", "dashboard")
        assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
        ((name, text),) = config["data"].items()
        assert name.endswith(".json")
        assert json.loads(text)["title"] == "vLLM: deepseek-r1 in deepseek"

    def test_label_and_folder_can_be_chosen(self, up: Run) -> None:
        changes = {"observability": {"alerts": None, "dashboard": {"labels": {"dash": "yes"}, "folder": "LLM"}}}
        metadata = up(changes).manifest("ConfigMap", "dashboard")["metadata"]
        assert metadata["labels"]["dash"] == "yes"
        assert "grafana_dashboard" not in metadata["labels"]
        assert metadata["annotations"] == {"grafana_folder": "LLM"}

    def test_every_panel_is_explained_and_has_a_place_of_its_own(self) -> None:
        dashboard = json.loads(dashboard_json(target(), AlertThresholds()))
        places: set[tuple[int, int]] = set()
        for panel in dashboard["panels"]:
            assert panel["title"]
            assert panel["description"].endswith(".")
            assert panel["fieldConfig"]["defaults"]["unit"]
            assert panel["datasource"]["uid"] == "${datasource}"
            grid = panel["gridPos"]
            assert grid["x"] + grid["w"] <= COLUMNS
            mine = set(
                itertools.product(range(grid["x"], grid["x"] + grid["w"]), range(grid["y"], grid["y"] + grid["h"]))
            )
            assert not mine & places, panel["title"]
            places |= mine
        ids = [panel["id"] for panel in dashboard["panels"]]
        assert len(set(ids)) == len(ids)

    def test_is_what_grafanas_own_model_reads(self) -> None:
        text = dashboard_json(target(), AlertThresholds())
        again = JSONEncoder().encode(Dashboard.from_json(json.loads(text)))
        assert json.loads(again) == json.loads(text)

    def test_starts_with_the_deployment_and_belongs_to_no_other(self) -> None:
        first, second = (json.loads(dashboard_json(target(namespace=n), AlertThresholds())) for n in ("a", "b"))
        assert first["uid"] != second["uid"]
        chosen = {
            variable["name"]: variable.get("current", {}).get("value") for variable in first["templating"]["list"]
        }
        assert chosen == {"datasource": None, "namespace": "a", "deployment": "r1", "model": "$__all"}

    def test_thresholds_are_those_of_the_alerts(self) -> None:
        settings = AlertThresholds(waiting_requests=7, time_to_first_token_seconds=3)
        panels = {panel["title"]: panel for panel in json.loads(dashboard_json(target(), settings))["panels"]}
        for title, red in (("Longest queue", 7), ("First token, 95 %", 3), ("Time to first token", 3)):
            steps = panels[title]["fieldConfig"]["defaults"]["thresholds"]["steps"]
            assert {"color": "red", "value": red} in steps, title


class TestLogs:
    def test_pods_are_found_by_the_common_labels(self, up: Run) -> None:
        template = up(ON).manifest("LeaderWorkerSet")["spec"]["leaderWorkerTemplate"]
        for role in ("leader", "worker"):
            found = template[f"{role}Template"]["metadata"]["labels"]
            assert found["app.kubernetes.io/instance"] == "deepseek-r1"
            assert found["app.kubernetes.io/component"] == role
            assert found["app.kubernetes.io/name"] == "vllm"
            assert found["alibabacloud.com/compute-class"] == "gpu"

    def test_engine_is_quiet_and_nccl_gives_reasons(self, up: Run) -> None:
        leader, worker = containers(up(ON))
        assert "--disable-log-requests" in leader["command"][-1]
        for container in (leader, worker):
            environment = {variable["name"]: variable.get("value") for variable in container["env"]}
            assert environment["NCCL_DEBUG"] == "WARN"
            assert environment["aliyun_logs_deepseek"] == "stdout"

    def test_what_is_set_elsewhere_wins(self, up: Run) -> None:
        engine = {"env": {"NCCL_DEBUG": "INFO"}, "extraArgs": ["--disable-log-requests"]}
        leader, _ = containers(up({**ON, "inference": {"engine": engine}}))
        assert [v["value"] for v in leader["env"] if v["name"] == "NCCL_DEBUG"] == ["INFO"]
        assert leader["command"][-1].count("--disable-log-requests") == 1

    @pytest.mark.parametrize(
        ("image", "expected"),
        [
            ("vllm:v0.7.2", ["--disable-log-requests"]),
            ("vllm:v0.10.0", ["--disable-log-requests"]),
            ("vllm:v0.11.0", []),
            ("vllm:v0.16.0", ["--disable-access-log-for-endpoints=/health,/metrics,/ping"]),
            # An argument that an older engine does not support would keep it from starting.
            ("mine:latest", []),
        ],
    )
    def test_arguments_are_those_that_the_version_has(self, image: str, expected: list[str]) -> None:
        assert log_arguments(LogSettings(), version=version_of(image), extra_args=()) == expected
        assert log_arguments(LogSettings(quiet=False), version=version_of(image), extra_args=()) == []

    def test_nccl_can_be_left_alone(self) -> None:
        assert log_environment(LogSettings(nccl_debug=None)) == {}


class TestSettings:
    @pytest.mark.parametrize(
        ("changes", "path", "problem", "fix"),
        [
            (
                {"observability": {"labels": {"app.kubernetes.io/name": "x"}}},
                "deployment.observability",
                "labels has app.kubernetes.io/name, which the program sets itself",
                "remove app.kubernetes.io/name",
            ),
            (
                {"observability": {"labels": {"a b": "x"}}},
                "deployment.observability",
                "its name or value is not a valid Kubernetes label",
                "use at most 63 letters, digits, -, _ and ., with a letter or digit at both ends",
            ),
            (
                {"observability": {"dashboard": {"labels": {}}}},
                "deployment.observability.dashboard.labels",
                "at least 1 item",
                "sidecar finds the ConfigMap",
            ),
        ],
    )
    def test_each_problem_has_path_and_fix(self, changes: dict[str, Any], path: str, problem: str, fix: str) -> None:
        with pytest.raises(ValidationError) as caught:
            StackSettings.model_validate(merged(stack_settings("dev"), changes))
        (found,) = findings(caught.value)
        assert found.path.startswith(path)
        assert problem in found.problem
        assert fix in found.fix


def test_documentation_lists_every_alert() -> None:
    """Name, severity and time, as they are; the time of a load depends on the plan."""
    text = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (\w+ \| [^|]+) \|", text, re.MULTILINE))
    settings = AlertThresholds(time_to_first_token_seconds=10, inter_token_seconds=0.1, picker="r1-epp")
    expected = {}
    for alert in alerts(settings, target(), load_budget(weights_gib=641.3, throughput_mib_s=300)):
        after = f"{alert.seconds // 60} min" if alert.seconds else "at once"
        if alert.name == "GroupLoadStuck":
            assert f"after {alert.seconds // 60} of " in text
            after = f"{LOAD_SHARE * 100:.0f} % of the startup budget"
        expected[alert.name] = f"{alert.severity} | {after}"
    assert {name: row for name, row in rows.items() if name in expected} == expected


TRACES = {"observability": {"traces": {"endpoint": "http://collector.o11y:4317"}}}


class TestTraces:
    def test_argument_and_variables(self, up: Run) -> None:
        engine = {"inference": {"engine": {"image": "vllm/vllm-openai:v0.33.0", "backend": "mp"}}}
        for container in containers(up(merged(TRACES, engine))):
            assert "--otlp-traces-endpoint=http://collector.o11y:4317" in container["command"]
            variables = {one["name"]: one.get("value") for one in container["env"]}
            assert variables["OTEL_SERVICE_NAME"] == "deepseek-r1"
            assert variables["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] == "grpc"

    def test_off_by_default(self, up: Run) -> None:
        leader, _ = containers(up({"observability": {}}))
        assert "otlp" not in json.dumps(leader)
        assert "OTEL" not in json.dumps(leader)

    @pytest.mark.parametrize(
        ("traces", "problem", "fix"),
        [
            ({"endpoint": "collector:4317"}, "does not have the expected form", "URL of the collector"),
            ({"endpoint": "http://user:secret@collector:4317"}, "", ""),
            (
                {"endpoint": "http://collector:4317/v1/traces"},
                "endpoint has a path, and gRPC has none",
                "remove it, or write protocol: http/protobuf",
            ),
            (
                {"endpoint": "http://collector:4318", "protocol": "http/protobuf"},
                "endpoint has no path, and vLLM sends spans to exactly this URL",
                "append /v1/traces",
            ),
        ],
    )
    def test_each_problem_has_path_and_fix(self, traces: dict[str, Any], problem: str, fix: str) -> None:
        with pytest.raises(ValidationError) as caught:
            StackSettings.model_validate(merged(stack_settings("dev"), {"observability": {"traces": traces}}))
        found = findings(caught.value)[0]
        assert found.path.startswith("deployment.observability.traces")
        assert problem in found.problem
        assert fix in found.fix
        assert "secret" not in str(found)
