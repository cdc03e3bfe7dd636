"""``make up STACK=local-vllm``: the real vLLM in real pods, which read what the Job has moved."""

import json
import re
import time

from local.monitoring import STATE_METRICS
from local.prometheus import Prometheus
from tests.e2e.conftest import Project
from tests.engine.faults import Patient, until
from tools.dashboard import answers, variables

UP_SECONDS = 1200
"""On a busy machine; it takes three minutes on an idle one."""


def said_by(project: Project, command: str) -> str:
    process = project.start(command)
    said, _ = process.communicate(timeout=UP_SECONDS)
    assert process.returncode == 0, said
    return said


def test_up_and_verify(project: Project) -> None:
    assert "The engine is a real vLLM on the CPU" in said_by(project, "up")
    said = said_by(project, "verify")
    assert "its tokens make no sense" in said
    assert "The endpoint answers." in said
    for layer in ("storage", "pods", "group", "engine", "API key", "model", "completion"):
        assert f"ok   {layer}" in said


def test_both_pods_read_the_weights_through_the_driver(project: Project) -> None:
    pods = project.pods()
    assert len(pods) == 2
    leader = project.core.read_namespaced_pod_log("deepseek-r1-0", project.namespace)
    assert "/models/DeepSeek-R1-tiny" in leader
    assert "Application startup complete" in leader


def test_prometheus_reads_the_metrics_of_all_alerts(project: Project, prometheus: Prometheus) -> None:
    patient = Patient(project, prometheus)

    def lacking() -> set[str]:
        assert patient.ask() == "ok"
        listed = json.loads(prometheus.fetch(f"{prometheus.url}/api/v1/label/__name__/values"))["data"]
        # A metric of kube-state-metrics without a sample so far, such as why containers have terminated.
        declared = re.findall(r"^# TYPE (\S+)", prometheus.fetch(STATE_METRICS).decode(), re.MULTILINE)
        return names - set(listed) - set(declared)

    (rule,) = project.custom.list_namespaced_custom_object(
        "monitoring.coreos.com", "v1", project.namespace, "prometheusrules"
    )["items"]
    expressions = " ".join(one["expr"] for group in rule["spec"]["groups"] for one in group["rules"])
    names = set(re.findall(r"\b(?:vllm:|http_|kube_|DCGM_)\w+", expressions))
    assert {"http_requests_total", "kube_pod_created", "vllm:num_requests_running"} <= names
    until(lambda: lacking() == {"DCGM_FI_DEV_XID_ERRORS"})  # There is no GPU.


def test_no_panel_is_empty(project: Project, prometheus: Prometheus) -> None:
    patient = Patient(project, prometheus)
    maps = project.core.list_namespaced_config_map(project.namespace, label_selector="grafana_dashboard=1").items
    (text,) = (value for found in maps for value in found.data.values())
    dashboard = json.loads(text)
    chosen = variables(dashboard)

    def empty() -> set[str]:
        assert patient.ask() == "ok"
        now = int(time.time())
        shown = (panel for panel in dashboard["panels"] if "DCGM_" not in json.dumps(panel))
        return {panel["title"] for panel in shown if not answers(panel, prometheus, chosen, times=(now - 300, now))}

    until(lambda: not empty())


def test_no_alert_is_about_a_healthy_group(prometheus: Prometheus) -> None:
    assert [alert["labels"]["alertname"] for alert in prometheus.alerts() if alert["state"] == "firing"] == []
