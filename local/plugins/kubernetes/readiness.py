"""The official plugin's built-in waits, for the kinds that this program creates, as functions of the live object."""

from collections.abc import Callable, Mapping
from typing import Any

Live = Mapping[str, Any]


class FailedError(Exception):
    """The object will never become ready by itself."""


def unmet(live: Live) -> list[str]:
    """What is still missing; empty when the object is ready. Raises FailedError when waiting is of no use."""
    check = CHECKS.get(live["kind"])
    return check(live) if check else []


def _phase(*wanted: str) -> Callable[[Live], list[str]]:
    def check(live: Live) -> list[str]:
        phase = live.get("status", {}).get("phase", "unknown")
        return [] if phase in wanted else [f"phase is {phase}, not {' or '.join(wanted)}"]

    return check


def _condition(live: Live, kind: str) -> Mapping[str, Any]:
    conditions = live.get("status", {}).get("conditions") or []
    return next((c for c in conditions if c["type"] == kind), {})


JOB_FAILURES = ("BackoffLimitExceeded", "DeadlineExceeded")
"""The official plugin ends at no other reason; with PodFailurePolicy it waits until its time is over
(collectJobConditionErrors in
https://github.com/pulumi/pulumi-kubernetes/blob/master/provider/pkg/await/checker/job/check.go)."""


def _job(live: Live) -> list[str]:
    failed = _condition(live, "Failed")
    if failed.get("status") == "True" and failed.get("reason") in JOB_FAILURES:
        metadata = live["metadata"]
        why = f"({failed.get('reason', '')}) {failed.get('message', '')}".rstrip()
        raise FailedError(f"Job {metadata['namespace']}/{metadata['name']} failed {why}")
    return [] if _condition(live, "Complete").get("status") == "True" else ["the Job is not complete"]


def _deployment(live: Live) -> list[str]:
    status, wanted = live.get("status", {}), live["spec"].get("replicas", 1)
    progressing = _condition(live, "Progressing")
    if progressing.get("reason") == "ProgressDeadlineExceeded":
        raise FailedError(f"the Deployment does not progress: {progressing.get('message', '')}")
    if status.get("observedGeneration", 0) < live["metadata"]["generation"]:
        return ["the controller has not seen the change"]
    ready = min(status.get("updatedReplicas", 0), status.get("availableReplicas", 0))
    return [] if ready >= wanted else [f"{ready} of {wanted} replicas are available"]


def _service(live: Live) -> list[str]:
    if live["spec"].get("type") != "LoadBalancer" or live.get("status", {}).get("loadBalancer", {}).get("ingress"):
        return []
    return ["the load balancer has no address"]


CHECKS: Mapping[str, Callable[[Live], list[str]]] = {
    "Deployment": _deployment,
    "Job": _job,
    "Namespace": _phase("Active"),
    "PersistentVolume": _phase("Available", "Bound"),
    "PersistentVolumeClaim": _phase("Bound"),
    "Service": _service,
}
