"""Start, update, drain and eviction: times and availability."""

import math
from collections.abc import Iterator

from deepseek_acs.planner.catalogue import NVIDIA
from deepseek_acs.planner.findings import Field
from deepseek_acs.planner.loading import POD_START_SECONDS, LoadBudget, load_budget
from deepseek_acs.planner.rules.rule import Problem, rule, warning
from deepseek_acs.planner.shutdown import drain_seconds, grace_seconds, refuses_while_ending
from deepseek_acs.planner.spec import UNREADY_FACTOR, ResolvedSpec
from deepseek_acs.planner.starts import start_time
from deepseek_acs.planner.vllm_releases.release import changed_in, text

PROBES = "https://kubernetes.io/docs/concepts/configuration/liveness-readiness-startup-probes/"
ROLLOUT = "https://lws.sigs.k8s.io/docs/concepts/rollout-strategy/"
LEAST_MI_BPS = 10
"""That the setting takes."""

BUDGETS = "https://kubernetes.io/docs/tasks/run-application/configure-pdb/"


def _derived_budget(spec: ResolvedSpec) -> LoadBudget:
    """The load budget without the start time that the user set."""
    return load_budget(weights_gib=spec.model.weights_gib, throughput_mib_s=spec.storage.throughput_mi_bps)


@rule(PROBES)
def startup(spec: ResolvedSpec) -> Iterator[Problem]:
    """The startup probe waits longer than the weights need to load."""
    given, derived = spec.engine.stated_startup_seconds, _derived_budget(spec)
    if given is not None and given < derived.read_seconds:
        yield (
            Field.STARTUP,
            f"the startup probe would kill the pod after {given} s, while reading {spec.model.weights_gib:.1f} GiB at "
            f"{spec.storage.throughput_mi_bps} MiB/s takes {derived.read_seconds} s",
            f"write {derived.startup_seconds}, remove the setting, or raise {Field.THROUGHPUT} to a measured figure",
        )


@rule("https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination")
def drain(spec: ResolvedSpec) -> Iterator[Problem]:
    """A terminating pod has time to finish the longest request."""
    lifecycle = spec.lifecycle
    if lifecycle and drain_seconds(lifecycle.grace_seconds) < lifecycle.request_seconds:
        yield (
            Field.GRACE,
            f"pods get {drain_seconds(lifecycle.grace_seconds)} s to finish their requests, which may take "
            f"{lifecycle.request_seconds} s",
            f"remove the setting, or write {grace_seconds(lifecycle.request_seconds)} or more",
        )


@warning("docs/starts.md")
def measured_throughput(spec: ResolvedSpec) -> Iterator[Problem]:
    """Measured starts read the weights at least as fast as the setting says."""
    measured = spec.starts.read_mi_bps(spec.model.weights_gib) if spec.starts else None
    stated = spec.storage.throughput_mi_bps
    if spec.starts is not None and measured is not None and measured < stated:
        yield (
            Field.THROUGHPUT,
            f"the last {spec.starts.count} starts read the weights at {measured:.0f} MiB/s per pod in the median, and "
            f"the startup probe counts on {stated}",
            f"write {max(LEAST_MI_BPS, math.floor(measured / 10) * 10)}, or find out what slows the storage down",
        )


@warning("docs/scaling.md")
def scale_to_zero(spec: ResolvedSpec) -> Iterator[Problem]:
    """At least one replica is always running."""
    if spec.replicas.scaler is not None and spec.replicas.least == 0:
        yield (
            Field.LEAST_REPLICAS,
            f"with no group running, the first answer takes {start_time(spec)}, and requests fail until then",
            "write 1 if that is too long",
        )


@warning("deepseek_acs/planner/loading.py")
def startup_close(spec: ResolvedSpec) -> Iterator[Problem]:
    """The startup probe leaves time for slow reads, and for the steps after reading."""
    given, derived = spec.engine.stated_startup_seconds, _derived_budget(spec)
    if given is not None and derived.read_seconds <= given < derived.startup_seconds:
        yield (
            Field.STARTUP,
            f"of {given} s, {given - derived.read_seconds} s are left after reading for the other pods, NCCL, "
            "profiling and slower reads; then the probe kills the pod",
            f"remove the setting ({derived.startup_seconds} s by default) unless you measured starts",
        )


@warning(ROLLOUT)
def update_downtime(spec: ResolvedSpec) -> Iterator[Problem]:
    """An update keeps at least one group running."""
    fewest = spec.replicas.fewest
    if spec.lifecycle and 0 < fewest <= spec.rollout.max_unavailable:
        yield (
            Field.ROLLOUT,
            f"a change of the pods stops {_groups(fewest)} until the model is loaded again, "
            f"{_minutes(spec.budget.read_seconds)} to {_minutes(spec.budget.startup_seconds)} min",
            f"set maxSurge: 1 and maxUnavailable: 0 if {spec.layout.gpus} more GPUs are available, or change it by "
            f"{Field.UPDATE}, or while no one uses the service",
        )


@warning(ROLLOUT)
def update_reaches(spec: ResolvedSpec) -> Iterator[Problem]:
    """An update changes at least one group."""
    partition, most = spec.rollout.partition, spec.replicas.most
    if partition and partition >= most:
        yield (
            Field.PARTITION,
            f"only groups from number {partition} on are updated, and the {most} groups are counted from 0",
            "write a lower number, or 0 for all groups",
        )


@warning("https://github.com/vllm-project/vllm/pull/36666")
def ending(spec: ResolvedSpec) -> Iterator[Problem]:
    """A terminating engine accepts no new requests."""
    if spec.lifecycle and not refuses_while_ending(spec.engine.named_version):
        engine = spec.engine.vllm.name if spec.engine.named_version else "an engine of unknown version"
        yield (
            Field.REQUEST,
            f"{engine} accepts new requests on open connections while it terminates, until all are done or "
            f"{spec.lifecycle.request_seconds} s are over; the rest is cut off",
            f"use an image whose tag contains vLLM {text(changed_in('shutdown_timeout'))} or newer",
        )


@warning(BUDGETS)
def budget_refuses(spec: ResolvedSpec) -> Iterator[Problem]:
    """A node can be drained."""
    if spec.lifecycle and spec.lifecycle.evictable_groups == 0 and spec.replicas.most:
        yield (
            Field.DISRUPTION_BUDGET,
            "0 refuses every eviction, so a node drain waits until the group is deleted by hand",
            "tell the administrators of the nodes, or write 1",
        )


@warning(BUDGETS)
def budget_spares(spec: ResolvedSpec) -> Iterator[Problem]:
    """Evictions leave at least one group."""
    fewest, evictable = spec.replicas.fewest, spec.lifecycle.evictable_groups if spec.lifecycle else None
    if evictable and 0 < fewest <= evictable:
        yield (
            Field.DISRUPTION_BUDGET,
            f"evictions may stop {_groups(fewest)}, so the budget protects nothing",
            "run more replicas than maxUnavailable, or write 0 to refuse evictions",
        )


@warning("docs/preflight.md")
def preflight_knows_the_hardware(spec: ResolvedSpec) -> Iterator[Problem]:
    """The preflight can ask the GPUs."""
    if spec.preflight and spec.gpu.resource != NVIDIA:
        yield (
            Field.PREFLIGHT,
            f"it knows nvidia-smi and NCCL only, so it does not check the GPUs of {spec.gpu.series}, and tests the "
            "network by CPU",
            "check them in another way, or remove it",
        )


@rule("docs/cost.md")
def guard_waits_for_a_start(spec: ResolvedSpec) -> Iterator[Problem]:
    """A group is not given up while it may still start as planned."""
    guard, planned = spec.guard, spec.budget.create_seconds
    if guard and guard.unready_seconds < planned:
        yield (
            Field.GUARD_UNREADY,
            f"a group is given up after {guard.unready_seconds} s, and a start may take {planned} s by the plan",
            f"write {planned} or more, or remove the setting ({UNREADY_FACTOR * planned} s by default)",
        )


@rule("docs/cost.md")
def guard_holds_back(spec: ResolvedSpec) -> Iterator[Problem]:
    """Groups are held back by their number, which no autoscaler sets."""
    if spec.stated_guard and spec.stated_guard.back_off_seconds and spec.replicas.scaler:
        yield (
            Field.GUARD_BACK_OFF,
            "a group is held back by scaling it away, and the autoscaler would start it again immediately",
            "remove it: failedStarts bounds the restarts",
        )


@warning("deepseek_acs/planner/loading.py")
def guard_waits_for_pods(spec: ResolvedSpec) -> Iterator[Problem]:
    """The other pods of a group have the time that a pod may take to start."""
    guard = spec.guard
    if guard and guard.pending_seconds < POD_START_SECONDS:
        yield (
            Field.GUARD_PENDING,
            f"a group is given up if one of its pods starts {guard.pending_seconds} s later than another, and GPUs and "
            f"the image may take {POD_START_SECONDS} s",
            f"write {POD_START_SECONDS} or more, unless you measured it",
        )


def _groups(count: int) -> str:
    return "the only group" if count == 1 else f"all {count} groups"


def _minutes(seconds: int) -> int:
    return math.ceil(seconds / 60)
