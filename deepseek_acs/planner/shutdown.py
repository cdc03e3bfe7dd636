"""How long a pod is given to end, with requests of up to ten minutes as the example::

    announced = 15 s    until no client sends new requests to a terminating pod requests  = 600 s   the longest request,
    from its beginning stop      = 30 s    the engine's processes grace     = 645 s   terminationGracePeriodSeconds

The grace period covers the stop hook, too; what still runs at its end is killed
(https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination).
"""

from deepseek_acs.planner.vllm_releases.release import Version, changed_in

ANNOUNCE_SECONDS = 15
"""Endpoints, DNS and load balancers learn of the end of a pod while it already ends. The figure is KServe's
(https://github.com/kserve/kserve/pull/5496)."""

STOP_SECONDS = 30
"""From the last request to the end of the processes."""

LOAD_BALANCER_MIN, LOAD_BALANCER_MAX = 10, 900
"""Seconds for which a Classic Load Balancer lets connections to a pod that ends go on
(https://www.alibabacloud.com/help/en/cs/add-annotations-to-the-yaml-file-of-a-service-to-configure-clb-instances)."""


def grace_seconds(request_seconds: int) -> int:
    """Time from SIGTERM to SIGKILL, for requests of ``request_seconds``."""
    return ANNOUNCE_SECONDS + request_seconds + STOP_SECONDS


def drain_seconds(grace: int) -> int:
    """What a grace period leaves for requests."""
    return max(0, grace - ANNOUNCE_SECONDS - STOP_SECONDS)


def load_balancer_seconds(request_seconds: int) -> int:
    """Time that a load balancer allows for requests of ``request_seconds``, which begin at the latest
    ``ANNOUNCE_SECONDS`` after it has been told."""
    return min(max(request_seconds + ANNOUNCE_SECONDS, LOAD_BALANCER_MIN), LOAD_BALANCER_MAX)


def refuses_while_ending(version: Version | None) -> bool:
    """Whether the engine itself ends its requests and takes no new ones. An unknown version does not: it would not
    start with the argument for it if it is older."""
    return version is not None and version >= changed_in("shutdown_timeout")
