"""What start, update, drain and eviction take."""

import math

from planner.case import Case
from planner.engine import version_of
from planner.loading import load_budget
from planner.rules.rule import Rule, Values
from planner.shutdown import SHUTDOWN_TIMEOUT_SINCE, grace_seconds, refuses_while_ending


def _given_startup(case: Case) -> dict[str, float] | None:
    """The start time that was given, beside the one that would be derived."""
    given, weights, rate = case.choices.startup_seconds, case.weights_gib, case.choices.throughput_mib_s
    if given is None or weights is None:
        return None
    derived = load_budget(weights_gib=weights, throughput_mib_s=rate)
    read, needed = derived.read_seconds, derived.startup_seconds
    return {"given": given, "weights": weights, "rate": rate, "read": read, "needed": needed, "left": given - read}


def _startup(case: Case) -> Values | None:
    found = _given_startup(case)
    return found if found and found["left"] < 0 else None


def _startup_close(case: Case) -> Values | None:
    found = _given_startup(case)
    return found if found and found["read"] <= found["given"] < found["needed"] else None


def _drain(case: Case) -> Values | None:
    drain, request = case.choices.drain_seconds, case.choices.request_seconds
    if drain is None or request is None or drain >= request:
        return None
    return {"drain": drain, "request": request, "grace": grace_seconds(request)}


def _scale_to_zero(case: Case) -> Values | None:
    if case.choices.scaling is None or case.choices.least_replicas != 0 or case.budget is None:
        return None
    minutes = [math.ceil(seconds / 60) for seconds in (case.budget.read_seconds, case.budget.create_seconds)]
    return {"least": minutes[0], "most": minutes[1]}


def _update_downtime(case: Case) -> Values | None:
    choices, budget = case.choices, case.budget
    fewest = choices.fewest_replicas
    if choices.request_seconds is None or budget is None or not 0 < fewest <= choices.max_unavailable:
        return None
    return {
        "groups": "the only group" if fewest == 1 else f"all {fewest} groups",
        "read": math.ceil(budget.read_seconds / 60),
        "startup": math.ceil(budget.startup_seconds / 60),
        "gpus": case.layout.gpus,
    }


def _update_reaches(case: Case) -> Values | None:
    partition, replicas = case.choices.partition, case.choices.replicas
    return {"partition": partition, "replicas": replicas} if partition and partition >= replicas else None


def _ending(case: Case) -> Values | None:
    choices = case.choices
    if choices.request_seconds is None or refuses_while_ending(version_of(choices.image)):
        return None
    engine = case.engine.name if version_of(choices.image) else "an engine of unknown version"
    return {"engine": engine, "request": choices.request_seconds, "since": ".".join(map(str, SHUTDOWN_TIMEOUT_SINCE))}


def _budget_refuses(case: Case) -> Values | None:
    return {} if case.choices.evictable_groups == 0 and case.choices.replicas else None


def _budget_spares(case: Case) -> Values | None:
    evictable, replicas = case.choices.evictable_groups, case.choices.fewest_replicas
    if not evictable or not 0 < replicas <= evictable:
        return None
    return {"groups": "the only group" if replicas == 1 else f"all {replicas} groups"}


OPERATION_RULES = (
    Rule(
        id="startup",
        statement="The startup probe waits longer than the weights take to load.",
        source="https://kubernetes.io/docs/concepts/configuration/liveness-readiness-startup-probes/",
        path="deployment.inference.engine.startupSeconds",
        problem="the startup probe would end the pod after {given} s, while reading {weights:.1f} GiB at {rate} MiB/s "
        "takes {read} s",
        fix="write {needed}, or leave it out, or raise deployment.storage.throughputMiBps if it was measured",
        check=_startup,
    ),
    Rule(
        id="drain",
        statement="A pod that is being replaced may finish the longest request.",
        source="https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination",
        path="deployment.inference.lifecycle.graceSeconds",
        problem="pods are given {drain} s to end their requests, which may take {request} s",
        fix="leave it out, or write {grace} or more",
        check=_drain,
    ),
    Rule(
        id="scale-to-zero",
        statement="Somebody answers at all times.",
        source="docs/scaling.md",
        path="deployment.inference.scaling.minReplicas",
        problem="with no group left, the first answer takes {least} to {most} minutes, and requests fail until then",
        fix="write 1 where that is too long",
        check=_scale_to_zero,
        severity="warning",
    ),
    Rule(
        id="startup-close",
        statement="The startup probe leaves time for slow reads, and for what comes after them.",
        source="planner/loading.py",
        path="deployment.inference.engine.startupSeconds",
        problem="of {given} s, {left} s are left after reading for the other pods, NCCL, profiling and slower reads; "
        "then the probe ends the pod",
        fix="leave it out ({needed} s) unless starts were measured",
        check=_startup_close,
        severity="warning",
    ),
    Rule(
        id="update-downtime",
        statement="An update leaves a group that answers.",
        source="https://lws.sigs.k8s.io/docs/concepts/rollout-strategy/",
        path="deployment.inference.rollout",
        problem="a change of the pods takes {groups} down until the model is loaded again, {read} to {startup} min",
        fix="set maxSurge: 1 and maxUnavailable: 0 if {gpus} more GPUs can be had, or update when nobody minds",
        check=_update_downtime,
        severity="warning",
    ),
    Rule(
        id="update-reaches",
        statement="An update changes some group.",
        source="https://lws.sigs.k8s.io/docs/concepts/rollout-strategy/",
        path="deployment.inference.rollout.partition",
        problem="only groups from number {partition} on are updated, and there are {replicas}, counted from 0",
        fix="write a lower number, or 0 for all groups",
        check=_update_reaches,
        severity="warning",
    ),
    Rule(
        id="ending",
        statement="An engine that is ending takes no new requests.",
        source="https://github.com/vllm-project/vllm/pull/36666",
        path="deployment.inference.lifecycle.requestSeconds",
        problem="{engine} takes new requests on open connections while it ends, until all are done or {request} s are "
        "over; those that are left are cut off",
        fix="use an image whose tag tells vLLM {since} or newer",
        check=_ending,
        severity="warning",
    ),
    Rule(
        id="budget-refuses",
        statement="A node can be drained.",
        source="https://kubernetes.io/docs/tasks/run-application/configure-pdb/",
        path="deployment.inference.lifecycle.disruptionBudget",
        problem="0 refuses every eviction, so the drain of a node waits until somebody deletes the group by hand",
        fix="tell those who maintain the nodes, or write 1",
        check=_budget_refuses,
        severity="warning",
    ),
    Rule(
        id="budget-spares",
        statement="Evictions leave a group.",
        source="https://kubernetes.io/docs/tasks/run-application/configure-pdb/",
        path="deployment.inference.lifecycle.disruptionBudget",
        problem="evictions may take {groups}, so the budget protects nothing",
        fix="run more replicas than maxUnavailable, or write 0 to have evictions refused",
        check=_budget_spares,
        severity="warning",
    ),
)
