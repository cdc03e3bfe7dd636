"""What programs that watch have in common: time, steps that repeat, leaders, and events about what they did."""

import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NoReturn

from . import ApiError

LWS_API = "leaderworkerset.x-k8s.io/v1"
LABELS = "leaderworkerset.sigs.k8s.io"
"""https://lws.sigs.k8s.io/docs/reference/labels-annotations-and-environment-variables/"""


class Clock:
    """Unix time, and waiting."""

    def now(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


def repeat(step: Callable[[], None], clock: Clock, period_seconds: float) -> NoReturn:
    """Without end. An error of the API server is said, and passes or not."""
    while True:
        try:
            step()
        except ApiError as error:
            print(f"looking again in {period_seconds} s: {error}", flush=True)
        clock.sleep(period_seconds)


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Whether it passes its readiness probes, which a pod that is deleted may still do."""
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def metrics_url(address: str, port: int) -> str:
    """Of the engine on a leader with this address, of IPv4 or IPv6."""
    return f"http://{f'[{address}]' if ':' in address else address}:{port}/metrics"


def event(
    regarding: Mapping[str, Any], *, kind: str, reason: str, action: str, note: str, controller: str, now: float
) -> dict[str, Any]:
    """An event about the object ``regarding``
    (https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/)."""
    metadata = regarding["metadata"]
    moment = datetime.fromtimestamp(now, UTC)
    return {
        "metadata": {"name": f"{metadata['name']}.{uuid.uuid4().hex[:16]}", "namespace": metadata["namespace"]},
        "eventTime": moment.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "type": kind,
        "reason": reason,
        "action": action,
        "note": note[:1024],
        "reportingController": controller,
        "reportingInstance": controller,
        "regarding": {
            "apiVersion": regarding["apiVersion"],
            "kind": regarding["kind"],
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
        },
    }
