"""Lifecycle of a group: how its pods terminate, are monitored, and are recreated."""

from typing import Annotated, Literal

from pydantic import Field

from deepseek_acs.settings.base import Settings


class DisruptionBudgetSettings(Settings):
    """A PodDisruptionBudget: how many groups evictions, such as those of a node drain, may stop at the same time. It
    does not apply to updates and failures."""

    max_unavailable: Annotated[int, Field(ge=0)] = 1
    """Groups that may be down at the same time. The eviction of any pod stops its whole group. 0 refuses every
    eviction: to drain a node, an administrator then has to delete the group by hand."""


class HealthCheckSettings(Settings):
    """Liveness beyond vLLM's /health, which can return 200 for an engine that hangs: a leader must make progress while
    it has requests, and a worker must reach its leader."""

    stall_seconds: Annotated[int, Field(ge=60)] = 300
    """Seconds that an engine with requests may make no progress. It is restarted three minutes later and loads the
    model again. The longest prompt must take less."""

    canary: bool = False
    """Request one token from an engine that seems idle, after half of stallSeconds (at most five minutes). Detects a
    dead engine before a client does, and one that hangs before the first step of its requests, which no metric shows.
    The metrics count these requests."""


class LifecycleSettings(Settings):
    """Lifecycle of a group: how its pods terminate, are monitored, and are recreated."""

    request_seconds: Annotated[int, Field(ge=1, le=86_400)] = 600
    """Longest request, in seconds. A pod that is replaced or evicted has this time to finish its requests; the rest is
    cut off."""

    grace_seconds: Annotated[int | None, Field(ge=1)] = None
    """terminationGracePeriodSeconds of the pods. By default requestSeconds plus 45 s
    (deepseek_acs/planner/shutdown.py)."""

    disruption_budget: DisruptionBudgetSettings | None = None
    """A limit for evictions. By default none."""

    health_check: HealthCheckSettings | None = None
    """A stricter liveness check. By default, /health of the leader."""

    lost_node_seconds: Annotated[int | None, Field(ge=0, le=86_400)] = None
    """Seconds that a pod stays on a node that does not answer or is not ready, before it is deleted and its group is
    recreated (tolerations of the pods). By default as the cluster does, usually 300."""

    group_restart: Literal["onPodRestart", "afterStart"] = "onPodRestart"
    """When the exit of a container restarts its group: always, or only after all pods of the group have started, so
    that the restart does not repeat the slow image pull of another pod. afterStart needs LeaderWorkerSet 0.9."""
