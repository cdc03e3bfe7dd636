"""The alerts in the real promtool: each fires when it should, and does not when it should not."""

import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.monitoring.alerts import AlertThresholds, alerts, rule_groups
from deepseek_acs.planner.loading import load_budget
from deepseek_acs.planner.metrics import EngineMetrics, Target
from local import tools

pytestmark = pytest.mark.integration

BUDGET = load_budget(weights_gib=641.3, throughput_mib_s=300)
SETTINGS = AlertThresholds(
    time_to_first_token_seconds=5, inter_token_seconds=0.1, least_groups=2, gated_seconds=1200, picker="r1-epp"
)
TARGET = Target(namespace="ns", name="r1", metrics=EngineMetrics(version=(0, 33, 0)))
V0 = Target(namespace="ns", name="r1", metrics=EngineMetrics(version=(0, 7, 2)))

ENGINE = 'namespace="ns",leaderworkerset="r1",group="0",pod="r1-0"'
LEADER = 'namespace="ns",pod="r1-0",uid="u0"'
WORKER = 'namespace="ns",pod="r1-0-1",uid="u1"'
OTHER = 'namespace="ns",pod="r1-canary-0",uid="u2"'

READY = f'kube_pod_status_ready{{{LEADER},condition="true"}}'
WANTED = 'kube_statefulset_replicas{namespace="ns",statefulset="r1"}'
RUNNING = f'kube_pod_container_status_running{{{LEADER},container="vllm"}}'
UP = f"up{{{ENGINE}}}"
STUCK_MINUTES = BUDGET.startup_seconds * 9 // 600
LONG = 400


@dataclass(frozen=True, kw_only=True)
class Case:
    """Series by name, one value a minute; whether the alert fires at ``minute``."""

    alert: str
    what: str
    series: Mapping[str, str]
    minute: int
    fires: bool
    target: Target = TARGET
    settings: AlertThresholds = SETTINGS


def counter(*increments: tuple[int, float]) -> str:
    """A counter that grows for the given minutes by the given rate."""
    value, parts = 0.0, []
    for minutes, step in increments:
        parts.append(f"{value:g}{step:+g}x{minutes - 1}")
        value += step * minutes
    return " ".join(parts)


def latency(name: str, target: Target, seconds: float) -> dict[str, str]:
    """A histogram whose values all lie just below ``seconds``."""
    bounds = {"0.05": 0.05, "0.5": 0.5, "2.5": 2.5, "10": 10.0, "+Inf": float("inf")}
    return {
        f'{name}_bucket{{{ENGINE},le="{text}"}}': counter((60, 60 if seconds <= bound else 0))
        for text, bound in bounds.items()
    }


def pods_by_minutes(*minutes: int) -> dict[str, str]:
    """Leaders of one name, made one after another."""
    return {
        f'kube_pod_created{{namespace="ns",pod="r1-0",uid="u{index}"}}': f"_x{index * length} 1x{length}"
        for index, length in enumerate(minutes)
    }


def cases() -> Iterator[Case]:
    """Pairs: the trouble, and what looks like it."""
    lost = {WANTED: "1x90", READY: "1x29 0x60", UP: "1x29 0x60"}
    yield Case(alert="VllmNoLeaderReady", what="the only leader fails", series=lost, minute=35, fires=True)
    yield Case(
        alert="VllmNoLeaderReady", what="first load", series={WANTED: "1x60", READY: "0x60"}, minute=50, fires=False
    )
    yield Case(
        alert="VllmNoLeaderReady", what="no GPU for it", series={**lost, READY: "1x29 _x60"}, minute=40, fires=True
    )
    other = 'kube_pod_status_ready{namespace="ns",pod="r1-1",uid="u5",condition="true"}'
    yield Case(
        alert="VllmNoLeaderReady", what="another answers", series={**lost, other: "1x90"}, minute=35, fires=False
    )
    yield Case(
        alert="VllmNoLeaderReady",
        what="scaled to zero",
        series={WANTED: "1x29 0x60", READY: "1x29 0x60"},
        minute=60,
        fires=False,
    )
    woken = {WANTED: "1x29 0x30 1x90", READY: "1x29 _x30 0x90"}
    yield Case(alert="VllmNoLeaderReady", what="woken from zero", series=woken, minute=100, fires=False)
    late = {WANTED: "1x29 0x30 1x200", READY: "1x29 _x30 0x200"}
    minute = 65 + BUDGET.create_seconds // 60
    yield Case(alert="VllmNoLeaderReady", what="woken and never ready", series=late, minute=minute, fires=True)
    yield Case(alert="GroupGivenUp", what="one of two", series={WANTED: "2x20 1x60"}, minute=40, fires=True)
    yield Case(alert="GroupGivenUp", what="an update", series={WANTED: "2x20 3x10 2x60"}, minute=40, fires=False)
    updated = WANTED.replace("kube_statefulset_replicas", "kube_statefulset_status_replicas_updated")
    for minutes, fires in ((60, True), (15, False)):
        series = {WANTED: "2x90", updated: f"2x10 1x{minutes} 2x60"}
        yield Case(alert="UpdateHeld", what=f"{minutes} min", series=series, minute=40, fires=fires)
    available = 'kube_deployment_status_replicas_available{namespace="ns",deployment="r1-epp"}'
    yield Case(alert="EndpointPickerDown", what="no pod", series={available: "1x20 0x60"}, minute=40, fires=True)
    yield Case(alert="EndpointPickerDown", what="restart", series={available: "1x20 0x3 1x60"}, minute=40, fires=False)
    known = 'inference_pool_ready_pods{namespace="ns",name="r1",pod="r1-epp-x"}'
    second = 'kube_pod_status_ready{namespace="ns",pod="r1-1",uid="u5",condition="true"}'
    for count, fires in ((1, True), (2, False)):
        series = {READY: "1x60", second: "1x60", known: f"{count}x60"}
        yield Case(alert="EndpointPickerMissesLeaders", what=f"{count} of 2", series=series, minute=40, fires=fires)
    asked, refused = (
        f'inference_objective_request{what}_total{{namespace="ns",pod="r1-epp-x"}}' for what in ("", "_error")
    )
    for step, fires in ((30, True), (1, False)):
        series = {asked: "0+60x60", refused: f"0+{step}x60"}
        yield Case(alert="EndpointPickerFailing", what=f"{step} of 60", series=series, minute=30, fires=fires)
    yield Case(alert="VllmEngineDown", what="a scrape fails after success", series=lost, minute=40, fires=True)
    yield Case(alert="VllmEngineDown", what="first load", series={UP: "0x60"}, minute=50, fires=False)
    yield Case(alert="GroupNotScraped", what="no target", series={READY: "1x60"}, minute=40, fires=True)
    kept_out = {READY: "1x60", UP: "0x60"}
    yield Case(alert="GroupNotScraped", what="kept out by a NetworkPolicy", series=kept_out, minute=40, fires=True)
    yield Case(alert="GroupNotScraped", what="target", series={READY: "1x60", UP: "1x60"}, minute=40, fires=False)

    pending = f'kube_pod_status_phase{{{WORKER},phase="Pending"}}'
    yield Case(alert="GroupPodPending", what="no GPU", series={pending: "1x90"}, minute=35, fires=True)
    yield Case(alert="GroupPodPending", what="a slow pull", series={pending: "1x20 0x60"}, minute=35, fires=False)
    other = f'kube_pod_status_phase{{{OTHER},phase="Pending"}}'
    yield Case(alert="GroupPodPending", what="a pod of another", series={other: "1x90"}, minute=35, fires=False)

    load = {RUNNING: f"1x{LONG}", READY: f"0x{LONG}"}
    yield Case(alert="GroupLoadStuck", what="too long", series=load, minute=STUCK_MINUTES + 2, fires=True)
    yield Case(alert="GroupLoadStuck", what="as planned", series=load, minute=STUCK_MINUTES - 2, fires=False)
    loaded = {RUNNING: f"1x{LONG}", READY: f"0x40 1x{LONG}"}
    yield Case(alert="GroupLoadStuck", what="loaded", series=loaded, minute=STUCK_MINUTES + 2, fires=False)

    ended = "kube_pod_container_status_last_terminated_reason"
    crash = f'{ended}{{{WORKER},container="vllm",reason="Error"}}'
    yield Case(alert="GroupCrashed", what="seen once", series={crash: "_x10 1 _x30"}, minute=14, fires=True)
    done = f'{ended}{{{WORKER},container="vllm",reason="Completed"}}'
    yield Case(alert="GroupCrashed", what="code 0", series={done: "_x10 1 _x30"}, minute=14, fires=True)
    deleted = f'kube_pod_container_status_terminated_reason{{{WORKER},container="vllm",reason="Completed"}}'
    yield Case(alert="GroupCrashed", what="an update", series={deleted: "_x10 1x30"}, minute=14, fires=False)

    yield Case(alert="GroupFlapping", what="five leaders", series=pods_by_minutes(*[20] * 5), minute=90, fires=True)
    yield Case(alert="GroupFlapping", what="an update", series=pods_by_minutes(80, 80), minute=90, fires=False)
    told_again = {
        name.replace("}", f',instance="{source}"}}'): values
        for source in range(3)
        for name, values in pods_by_minutes(80, 80).items()
    }
    yield Case(alert="GroupFlapping", what="another kube-state-metrics", series=told_again, minute=90, fires=False)

    xid = f'DCGM_FI_DEV_XID_ERRORS{{{WORKER},gpu="3"}}'
    yield Case(alert="GpuXidError", what="a new one", series={xid: "0x20 79x20"}, minute=24, fires=True)
    yield Case(alert="GpuXidError", what="an old one", series={xid: "79x60"}, minute=40, fires=False)

    running = {f"vllm:num_requests_running{{{ENGINE}}}": "4x60"}
    prompt, answer = (f"vllm:{what}_tokens_total{{{ENGINE}}}" for what in ("prompt", "generation"))
    hangs = {**running, prompt: counter((20, 600), (40, 0)), answer: counter((20, 600), (40, 0))}
    yield Case(alert="VllmEngineStalled", what="no tokens", series=hangs, minute=40, fires=True)
    reads = {**running, prompt: counter((60, 600)), answer: counter((60, 0))}
    yield Case(alert="VllmEngineStalled", what="a long prompt", series=reads, minute=40, fires=False)
    idle = {**hangs, **{name: "0x60" for name in running}}
    yield Case(alert="VllmEngineStalled", what="nothing to do", series=idle, minute=40, fires=False)

    waiting = f"vllm:num_requests_waiting{{{ENGINE}}}"
    yield Case(alert="VllmQueueGrowing", what="a queue", series={waiting: "0+1x60"}, minute=50, fires=True)
    yield Case(alert="VllmQueueGrowing", what="a burst", series={waiting: "0x20 90 0x40"}, minute=35, fires=False)

    for target in (TARGET, V0):
        cache = f"{target.metrics.kv_cache_usage}{{{ENGINE}}}"
        for value, fires in (("0.98x60", True), ("0.9x60", False)):
            yield Case(
                alert="VllmKvCacheFull", what=value, series={cache: value}, minute=30, fires=fires, target=target
            )
        for seconds, fires in ((0.5, True), (0.05, False)):
            series = latency(target.metrics.inter_token_latency, target, seconds)
            what = f"{seconds} s"
            yield Case(alert="VllmTokensSlow", what=what, series=series, minute=40, fires=fires, target=target)
    for seconds, fires in ((10, True), (2.5, False)):
        series = latency(TARGET.metrics.first_token_latency, TARGET, seconds)
        yield Case(alert="VllmFirstTokenSlow", what=f"{seconds} s", series=series, minute=40, fires=fires)

    beyond = latency(V0.metrics.first_token_latency, V0, 60)
    settings = AlertThresholds(time_to_first_token_seconds=V0.metrics.longest_first_token_seconds)
    yield Case(
        alert="VllmFirstTokenSlow", what="beyond", series=beyond, minute=40, fires=True, target=V0, settings=settings
    )

    preempted = f"vllm:num_preemptions_total{{{ENGINE}}}"
    yield Case(alert="VllmPreemptions", what="all the time", series={preempted: "0+5x60"}, minute=40, fires=True)
    yield Case(alert="VllmPreemptions", what="a few", series={preempted: "0x20 5x40"}, minute=40, fires=False)

    good, bad = (f'http_requests_total{{{ENGINE},status="{status}"}}' for status in ("2xx", "5xx"))
    failing = {good: "0+60x60", bad: "0+10x60"}
    yield Case(alert="VllmRequestsFailing", what="5xx", series=failing, minute=30, fires=True)
    fine = {good: "0+60x60", bad: "0+1x60"}
    yield Case(alert="VllmRequestsFailing", what="hardly any", series=fine, minute=30, fires=False)
    stop, error, abort = (
        f'vllm:request_success_total{{{ENGINE},finished_reason="{reason}"}}' for reason in ("stop", "error", "abort")
    )
    broken = {good: "0+60x60", stop: "0+50x60", error: "0+10x60"}
    yield Case(alert="VllmRequestsFailing", what="in mid-stream", series=broken, minute=30, fires=True)
    gone = {stop: "0+40x60", abort: "0+20x60"}
    yield Case(alert="VllmRequestsAborted", what="impatient clients", series=gone, minute=40, fires=True)
    patient = {stop: "0+58x60", abort: "0+2x60"}
    yield Case(alert="VllmRequestsAborted", what="a few", series=patient, minute=40, fires=False)


@pytest.fixture(scope="session")
def promtool() -> Path:
    return tools.tool("promtool")


def run(
    promtool: Path, folder: Path, target: Target, tests: list[dict[str, Any]], settings: AlertThresholds = SETTINGS
) -> subprocess.CompletedProcess[str]:
    """``promtool test rules`` on the rules of ``target``."""
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": rule_groups(settings, target, BUDGET)}))
    suite = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests}
    (folder / "tests.yaml").write_text(yaml.safe_dump(suite))
    return subprocess.run(
        [promtool, "test", "rules", "tests.yaml"], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("target", [TARGET, V0], ids=["current", "0.7"])
def test_rules_are_valid(promtool: Path, tmp_path: Path, target: Target) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": rule_groups(SETTINGS, target, BUDGET)}))
    done = subprocess.run(
        [promtool, "check", "rules", "--lint-fatal", path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("case", list(cases()), ids=lambda case: f"{case.alert}: {case.what}")
def test_fires_when_it_should(promtool: Path, tmp_path: Path, case: Case) -> None:
    expected = [{"labels": "{}", "value": 1}] if case.fires else []
    firing = {
        "expr": f'count(ALERTS{{alertname="{case.alert}",alertstate="firing"}})',
        "eval_time": f"{case.minute}m",
        "exp_samples": expected,
    }
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
        "promql_expr_test": [firing],
    }
    done = run(promtool, tmp_path, case.target, [test], case.settings)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tried_both_ways() -> None:
    tried = {(case.alert, case.fires) for case in cases()}
    assert tried == {(alert.name, fires) for alert in alerts(SETTINGS, TARGET, BUDGET) for fires in (True, False)}


def test_texts_name_the_group_and_the_value(promtool: Path, tmp_path: Path) -> None:
    (alert,) = [alert for alert in alerts(SETTINGS, TARGET, BUDGET) if alert.name == "VllmKvCacheFull"]
    expected = {
        "exp_labels": {"severity": "warning", "namespace": "ns", "leaderworkerset": "r1", "group": "0"},
        "exp_annotations": {
            "summary": "The KV cache of group 0 is 98% full",
            "description": alert.description,
            "runbook_url": "docs/runbook.md#vllmkvcachefull",
        },
    }
    test = {
        "interval": "1m",
        "input_series": [{"series": f"vllm:kv_cache_usage_perc{{{ENGINE}}}", "values": "0.98x60"}],
        "alert_rule_test": [{"eval_time": "30m", "alertname": alert.name, "exp_alerts": [expected]}],
    }
    done = run(promtool, tmp_path, TARGET, [test])
    assert done.returncode == 0, done.stdout + done.stderr
