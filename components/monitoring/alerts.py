"""The alerts, as rules for Prometheus. docs/observability.md lists them for users.

Three sources: the leaders' own metrics (PodMonitor), kube-state-metrics about the pods, and the GPU exporter if there
is one; an alert whose source is absent never fires. Logs are not metrics, so an error of NCCL or CUDA is visible by its
effect: the engine exits (GroupCrashed), or hangs with requests (VllmEngineStalled)."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from deepseek_acs.planner.loading import POD_START_SECONDS, LoadBudget
from deepseek_acs.planner.metrics import GROUP_LABEL, LWS_LABEL, Target

from ..labels import CONTAINER

Severity = Literal["critical", "warning"]

LOAD_SHARE = 0.9
"""Share of the startup budget after which a load counts as stuck. At 100 % the startup probe kills the pod, and the
alert's timer would restart with the next one."""

OUTAGE_MEMORY_HOURS = 4
"""A leader that was ready within this many hours, or within twice the time that a new group takes, is down and not just
new."""

RECREATIONS = 3
"""Recreations of a leader that are allowed within twice the time that a group takes; more is flapping."""

KV_CACHE_FULL = 0.95
FAILED_SHARE = 0.05
ABORTED_SHARE = 0.2
OBJECTIVE_QUANTILE = 0.95

ABOUT_ENDS = ("VllmNoLeaderReady", "VllmEngineDown", "GroupCrashed", "GroupFlapping")
"""Alerts about groups that ended, of which there may be a report."""

PREEMPTIONS = 10
"""Requests in ten minutes that lost their cache to others and were recomputed."""


@dataclass(frozen=True, kw_only=True)
class AlertThresholds:
    """Thresholds of alerts: waiting requests per group, and objectives in seconds, which 95 % must meet; None: no
    alert. ``least_groups`` are wanted at any time; None: there is no program that gives up groups. ``gated_seconds`` is
    what an update may take with its gate; None: there is no gate. ``incidents`` is
    the ConfigMap with the reports about groups that ended; None: there are none. ``picker`` is the Deployment of the
    endpoint picker; None: there is none. ``runbook`` is the URL to which each alert appends its name as the anchor."""

    waiting_requests: int = 10
    time_to_first_token_seconds: float | None = None
    inter_token_seconds: float | None = None
    least_groups: int | None = None
    gated_seconds: int | None = None
    incidents: str | None = None
    picker: str | None = None
    runbook: str = "docs/runbook.md"


@dataclass(frozen=True, kw_only=True)
class Alert:
    """One alert; it fires when ``expr`` has had a result for ``seconds``."""

    name: str
    severity: Severity
    expr: str
    seconds: int
    summary: str
    description: str

    def rule(self, settings: AlertThresholds, target: Target) -> dict[str, Any]:
        """The rule for Prometheus. Labels name the group's LeaderWorkerSet, even if the expression drops it."""
        return {
            "alert": self.name,
            "expr": self.expr,
            "for": f"{self.seconds}s",
            "labels": {"severity": self.severity, "namespace": target.namespace, LWS_LABEL: target.name},
            "annotations": {
                "summary": self.summary,
                "description": self.description,
                "runbook_url": f"{settings.runbook}#{self.name.lower()}",
                **self._report(settings, target),
            },
        }

    def _report(self, settings: AlertThresholds, target: Target) -> dict[str, str]:
        """The command that names the last end and its report. Prometheus expands double braces in it."""
        if settings.incidents is None or self.name not in ABOUT_ENDS:
            return {}
        object_ = f"configmap {settings.incidents}"
        return {"report": f"kubectl --namespace {target.namespace} get {object_} -o jsonpath='{{.data.last}}'"}


def rule_groups(settings: AlertThresholds, target: Target, budget: LoadBudget) -> list[dict[str, Any]]:
    """The groups of rules of a PrometheusRule."""
    rules = [alert.rule(settings, target) for alert in alerts(settings, target, budget)]
    return [{"name": f"{target.namespace}-{target.name}", "rules": rules}]


def alerts(settings: AlertThresholds, target: Target, budget: LoadBudget) -> Iterator[Alert]:
    """All alerts that the settings enable. Times in the texts follow from ``budget``."""
    yield from _availability(target, budget)
    if settings.least_groups:
        yield _given_up(target, settings.least_groups)
    if settings.gated_seconds:
        yield _held(target, settings.gated_seconds)
    if settings.picker:
        yield from _picker(target, settings.picker)
    yield from _pods(target, budget)
    yield from _engine(settings, target)
    yield from _objectives(settings, target)


def _availability(target: Target, budget: LoadBudget) -> Iterator[Alert]:
    hours = max(OUTAGE_MEMORY_HOURS, math.ceil(2 * budget.create_seconds / 3600))
    minutes = math.ceil(budget.create_seconds / 60)
    # A pod without a node, or a pod that does not exist, has no status at all.
    wanted = f"kube_statefulset_replicas{{{target.stateful_set}}}"
    ready = f'kube_pod_status_ready{{{target.leaders},condition="true"}}'
    up = f"up{{{target.engine}}}"
    yield Alert(
        name="VllmNoLeaderReady",
        severity="critical",
        expr=f"min by (namespace) (min_over_time({wanted}[{minutes}m])) > 0 unless sum by (namespace) ({ready}) > 0 "
        f"and sum by (namespace) (max_over_time({ready}[{hours}h])) > 0",
        seconds=120,
        summary=f"No group of {target.name} answers",
        description="Replicas are configured, a leader was ready before, and none is now: the endpoint is down. "
        "Loading after a creation, or after a scale-down to zero, does not count.",
    )
    yield Alert(
        name="VllmEngineDown",
        severity="warning",
        expr=f"max by (namespace, pod) ({up}) == 0 and max by (namespace, pod) (max_over_time({up}[{hours}h])) == 1",
        seconds=300,
        summary="The engine of {{ $labels.pod }} is down",
        description="Its metrics have disappeared: the engine has terminated or is loading again. This is expected "
        "during a rolling update.",
    )
    yield Alert(
        name="GroupNotScraped",
        severity="warning",
        expr=f"max by (namespace, pod) ({ready}) == 1 unless max by (namespace, pod) ({up}) == 1",
        seconds=900,
        summary="{{ $labels.pod }} is ready, but Prometheus does not scrape its metrics",
        description="The PodMonitor is not selected (deployment.observability.labels), a NetworkPolicy blocks "
        "Prometheus, or the relabelling is not applied. Until this is fixed, no alert about the engine "
        "can fire.",
    )


def _given_up(target: Target, least: int) -> Alert:
    return Alert(
        name="GroupGivenUp",
        severity="critical",
        expr=f"max by (namespace) (kube_statefulset_replicas{{{target.stateful_set}}}) < {least}",
        seconds=300,
        summary=f"{target.name} is scaled below the {least} that the stack file wants",
        description="A group held GPUs and could not become ready, so it was given up or is held back; or it was "
        f"scaled by hand. The ConfigMap {target.name}-costguard says why, and what it has cost in GPU-hours.",
    )


def _held(target: Target, seconds: int) -> Alert:
    updated = f"kube_statefulset_status_replicas_updated{{{target.stateful_set}}}"
    return Alert(
        name="UpdateHeld",
        severity="warning",
        expr=f"max by (namespace) (kube_statefulset_replicas{{{target.stateful_set}}} - {updated}) > 0",
        seconds=seconds,
        summary=f"An update of {target.name} has not reached all groups",
        description="The gate has refused it and holds it, or was interrupted. The groups run two templates. The "
        "ConfigMap with the records of the gate says why: make verify, docs/known-good.md.",
    )


def _picker(target: Target, deployment: str) -> Iterator[Alert]:
    """The metrics are those of
    https://github.com/kubernetes-sigs/gateway-api-inference-extension/blob/v1.5.0/pkg/epp/metrics/metrics.go."""
    own = f'namespace="{target.namespace}"'
    ready = f'kube_pod_status_ready{{{target.leaders},condition="true"}}'
    failed, asked = (
        f'sum by (namespace) (rate(inference_objective_request{what}_total{{{own},pod=~"{deployment}-.+"}}[5m]))'
        for what in ("_error", "")
    )
    yield Alert(
        name="EndpointPickerDown",
        severity="warning",
        expr=f'max by (namespace) (kube_deployment_status_replicas_available{{{own},deployment="{deployment}"}}) == 0',
        seconds=300,
        summary=f"The endpoint picker of {target.name} is not ready",
        description="The gateway distributes requests by itself, without knowing caches and queues: answers get "
        "slower, and one group may queue while another is idle.",
    )
    yield Alert(
        name="EndpointPickerMissesLeaders",
        severity="warning",
        expr=f"sum by (namespace) ({ready}) - max by (namespace) "
        f'(inference_pool_ready_pods{{{own},name="{target.name}"}}) > 0',
        seconds=600,
        summary=f"The endpoint picker of {target.name} knows {{{{ $value }}}} leaders fewer than are ready",
        description="It does not see them, or cannot read their metrics, so it cannot compare them, and GPUs may be "
        "idle. Its rights, a NetworkPolicy or the InferencePool's selector is wrong.",
    )
    yield Alert(
        name="EndpointPickerFailing",
        severity="critical",
        expr=f"{failed} / {asked} > {FAILED_SHARE}",
        seconds=300,
        summary=f"The endpoint picker of {target.name} refuses {{{{ $value | humanizePercentage }}}} of the requests",
        description="It finds no leader for them, or cannot read them. Clients get 429 or 503.",
    )


def _pods(target: Target, budget: LoadBudget) -> Iterator[Alert]:
    container = f'container="{CONTAINER}"'
    running = f"kube_pod_container_status_running{{{target.leaders},{container}}}"
    ready = f'kube_pod_status_ready{{{target.leaders},condition="true"}}'
    window = math.ceil(2 * budget.create_seconds / 60)
    yield Alert(
        name="GroupPodPending",
        severity="warning",
        expr=f'max by (namespace, pod) (kube_pod_status_phase{{{target.pods},phase="Pending"}}) == 1',
        seconds=POD_START_SECONDS,
        summary="{{ $labels.pod }} has not started",
        description=f"It has been pending for {POD_START_SECONDS // 60} min: no GPU in stock, a quota, a volume that "
        "cannot be mounted, or an image that cannot be pulled. The pod's events say which.",
    )
    yield Alert(
        name="GroupLoadStuck",
        severity="critical",
        expr=f"max by (namespace, pod) ({running}) == 1 and max by (namespace, pod) ({ready}) == 0",
        seconds=math.floor(LOAD_SHARE * budget.startup_seconds),
        summary="{{ $labels.pod }} is running but does not become ready",
        description=f"The plan allows {math.ceil(budget.read_seconds / 60)} min for reading, and "
        f"{math.ceil(budget.startup_seconds / 60)} min in total. Then the startup probe kills the "
        "container, and the group restarts.",
    )
    yield Alert(
        name="GroupCrashed",
        severity="critical",
        expr="max by (namespace, pod, reason) (max_over_time(kube_pod_container_status_last_terminated_reason"
        # Exit code 0 too: a server whose engine is dead ends with it. No container of a pod that was deleted on
        # purpose is restarted, and only a restart sets this metric.
        f"{{{target.pods},{container}}}[10m])) == 1",
        seconds=0,
        summary="The engine in {{ $labels.pod }} terminated: {{ $labels.reason }}",
        description="NCCL, CUDA, out of memory or a lost pod; Completed is exit code 0, with which a server ends "
        "whose engine is dead. The whole group is recreated, and its logs are deleted with it. A pod that is replaced "
        "between two scrapes is missed; GroupFlapping still counts it.",
    )
    yield Alert(
        name="GroupFlapping",
        severity="critical",
        # By uid first: kube-state-metrics may be recreated as well, and then reports all of them again.
        expr="count by (namespace, pod) (count by (namespace, pod, uid) "
        f"(count_over_time(kube_pod_created{{{target.leaders}}}[{window}m]))) > {RECREATIONS}",
        seconds=0,
        summary="The group of {{ $labels.pod }} keeps being recreated",
        description=f"Its leader was created more than {RECREATIONS} times in {window} min, so the model loads again "
        "and again and hardly serves.",
    )
    yield Alert(
        name="GpuXidError",
        severity="warning",
        expr=f"max by (namespace, pod, gpu) (changes(DCGM_FI_DEV_XID_ERRORS{{{target.pods}}}[10m])) > 0",
        seconds=0,
        summary="GPU {{ $labels.gpu }} of {{ $labels.pod }} reports a new XID error",
        description="The driver's log names it (https://docs.nvidia.com/deploy/xid-errors/). Needs the DCGM exporter's "
        "DCGM_FI_DEV_XID_ERRORS.",
    )


def _engine(settings: AlertThresholds, target: Target) -> Iterator[Alert]:
    metrics, engine = target.metrics, target.engine
    by_group = f"by (namespace, {LWS_LABEL}, {GROUP_LABEL})"
    by_all = f"by (namespace, {LWS_LABEL})"
    failed_http = f'sum {by_all} (rate({metrics.http_requests}{{{engine},status="5xx"}}[5m]))'
    all_http = f"sum {by_all} (rate({metrics.http_requests}{{{engine}}}[5m]))"
    finished = f"sum {by_all} (rate({metrics.finished}{{{engine}}}[5m]))"
    tokens = " + ".join(
        f"sum {by_group} (rate({name}{{{engine}}}[5m]))" for name in (metrics.prompt_tokens, metrics.generation_tokens)
    )

    def finished_as(reason: str) -> str:
        return f'sum {by_all} (rate({metrics.finished}{{{engine},finished_reason="{reason}"}}[5m])) / {finished}'

    yield Alert(
        name="VllmEngineStalled",
        severity="critical",
        expr=f"sum {by_group} ({metrics.running}{{{engine}}}) > 0 and {tokens} == 0",
        seconds=300,
        summary="Group {{ $labels.group }} has requests but generates no tokens",
        description="The engine hangs, which /health does not detect: probably a collective operation of NCCL waits "
        "for a lost pod or GPU.",
    )
    yield Alert(
        name="VllmQueueGrowing",
        severity="warning",
        expr=f"sum {by_group} (avg_over_time({metrics.waiting}{{{engine}}}[5m])) > {settings.waiting_requests}",
        seconds=600,
        summary="{{ $value | humanize }} requests are waiting for group {{ $labels.group }}",
        description="Requests arrive faster than the group serves them. Add groups, or limit the size of requests.",
    )
    yield Alert(
        name="VllmKvCacheFull",
        severity="warning",
        expr=f"max {by_group} (avg_over_time({metrics.kv_cache_usage}{{{engine}}}[5m])) > {KV_CACHE_FULL}",
        seconds=600,
        summary="The KV cache of group {{ $labels.group }} is {{ $value | humanizePercentage }} full",
        description="More requests have to wait, or preempt others. Add groups, or lower maxModelLen or "
        "--max-num-seqs.",
    )
    yield Alert(
        name="VllmPreemptions",
        severity="warning",
        expr=f"sum {by_group} (increase({metrics.preemptions}{{{engine}}}[10m])) > {PREEMPTIONS}",
        seconds=600,
        summary="Group {{ $labels.group }} preempts requests",
        description="Preempted requests lose their KV cache and are recomputed, which costs throughput: lower "
        "--max-num-seqs, or add groups.",
    )
    yield Alert(
        name="VllmRequestsFailing",
        severity="critical",
        expr=f"{failed_http} / {all_http} > {FAILED_SHARE} or {finished_as('error')} > {FAILED_SHARE}",
        seconds=300,
        summary="{{ $value | humanizePercentage }} of the requests fail",
        description="Responses with status 5xx, or requests that the engine ended with an error in the middle of a "
        "stream.",
    )
    yield Alert(
        name="VllmRequestsAborted",
        severity="warning",
        expr=f"{finished_as('abort')} > {ABORTED_SHARE}",
        seconds=900,
        summary="{{ $value | humanizePercentage }} of the requests are aborted by their clients",
        description="Clients disconnect before the end: their timeout, or that of a load balancer or gateway in "
        "between, is shorter than the answers take.",
    )


def _objectives(settings: AlertThresholds, target: Target) -> Iterator[Alert]:
    metrics = target.metrics
    objectives = (
        ("VllmFirstTokenSlow", metrics.first_token_latency, settings.time_to_first_token_seconds, "first token"),
        ("VllmTokensSlow", metrics.inter_token_latency, settings.inter_token_seconds, "next token"),
    )
    for name, histogram, seconds, what in objectives:
        if seconds is None:
            continue
        buckets = f"sum by (namespace, {LWS_LABEL}, le) (rate({histogram}_bucket{{{target.engine}}}[10m]))"
        yield Alert(
            name=name,
            severity="warning",
            # Also equal: the quantile of everything beyond the last bucket is the bound of that bucket.
            expr=f"histogram_quantile({OBJECTIVE_QUANTILE}, {buckets}) >= {seconds:g}",
            seconds=600,
            summary=f"The {what} takes {{{{ $value | humanizeDuration }}}}",
            description=f"{1 - OBJECTIVE_QUANTILE:.0%} of them take longer than that; the objective is {seconds:g} s.",
        )
