"""The official plugin's built-in waits, for the kinds that this program creates, as functions of the live object, in
its words (https://github.com/pulumi/pulumi-kubernetes/tree/master/provider/pkg/await).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Live = Mapping[str, Any]

JOB_FAILURES = ("BackoffLimitExceeded", "DeadlineExceeded")
"""The official plugin ends at no other reason; with PodFailurePolicy it waits until its time is over
(collectJobConditionErrors in checker/job/check.go)."""

NO_PODS = "Finding Pods to direct traffic to"
NO_ADDRESS = "Service was not allocated an IP address; does your cloud provider support this?"


class FailedError(Exception):
    """The object will never become ready by itself."""


def unmet(live: Live, endpoints: Live | None = None) -> list[str]:
    """What is waited for; empty when the object is ready. Raises FailedError when waiting is of no use.

    :param endpoints: the Endpoints of a Service.
    """
    phase = live.get("status", {}).get("phase", "unknown")
    match live["kind"]:
        case "Job":
            return _job(live)
        case "PersistentVolume" if phase not in ("Available", "Bound"):
            return [f"phase is {phase}"]
        case "PersistentVolumeClaim" if phase != "Bound":
            return [f"phase is {phase}"]
        case "Service":
            return _service(live, endpoints)
    return []


def pod_messages(pods: Iterable[Live]) -> list[str]:
    """What the pods of a Job tell that did not become ready (checker/pod/check.go)."""
    return [message for pod in pods for message in _pod_messages(pod)]


def _condition(live: Live, kind: str) -> Mapping[str, Any]:
    conditions = live.get("status", {}).get("conditions") or []
    return next((c for c in conditions if c["type"] == kind), {})


def _job(live: Live) -> list[str]:
    failed, status = _condition(live, "Failed"), live.get("status", {})
    if failed.get("status") == "True" and failed.get("reason") in JOB_FAILURES:
        raise FailedError(f"[{failed['reason']}] {failed.get('message', '')}")
    if _condition(live, "Complete").get("status") == "True":
        return []
    counts = (f"{name.title()}: {status.get(name, 0)}" for name in ("active", "succeeded", "failed"))
    goal = f"succeed ({' | '.join(counts)})" if status.get("startTime") else "start"
    return [f'Waiting for Job "{_name(live)}" to {goal}']


def _service(live: Live, endpoints: Live | None) -> list[str]:
    spec, missing = live["spec"], []
    if spec.get("selector") and spec.get("type") != "ExternalName" and spec.get("clusterIP") != "None":
        subsets = (endpoints or {}).get("subsets") or []
        if endpoints is None or any(subset.get("notReadyAddresses") for subset in subsets):
            missing.append(NO_PODS)
    ingress = live.get("status", {}).get("loadBalancer", {}).get("ingress")
    return missing if spec.get("type") != "LoadBalancer" or ingress else [*missing, NO_ADDRESS]


def _pod_messages(pod: Live) -> list[str]:
    """Of the first condition that does not hold, as the checker ends there."""
    for kind in ("PodScheduled", "Initialized", "Ready"):
        condition = _condition(pod, kind)
        if condition.get("status") == "True" or (kind == "Ready" and pod["status"].get("phase") == "Succeeded"):
            continue
        if not condition or kind == "PodScheduled":
            return []
        reason, message = condition.get("reason"), condition.get("message") or ""
        errors = _container_errors(pod["status"].get("containerStatuses") or [])
        if errors or message:
            return [f"[Pod {_name(pod)}]: {message if reason else ''}" + "\n".join(errors)]
        return []
    return []


def _container_errors(statuses: Sequence[Live]) -> list[str]:
    errors = []
    for status in statuses:
        state = {} if status.get("ready") else status.get("state", {})
        waiting, terminated = state.get("waiting"), state.get("terminated")
        if waiting and waiting.get("reason") != "ContainerCreating":
            errors.append(f"[{waiting.get('reason', '')}] {waiting.get('message', '')}")
        if terminated and terminated.get("reason"):
            said = f'container "{status["name"]}" completed with exit code {terminated["exitCode"]}'
            errors.append(f"[{terminated['reason']}] {terminated['message']}" if terminated.get("message") else said)
    return errors


def _name(live: Live) -> str:
    metadata = live["metadata"]
    namespace = metadata.get("namespace", "default")
    return str(metadata["name"]) if namespace == "default" else f"{namespace}/{metadata['name']}"
