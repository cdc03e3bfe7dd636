"""The life of a group: how its pods end, are watched, and come back."""

from typing import Annotated, Literal

from pydantic import Field

from deepseek_acs.settings.base import Settings


class DisruptionBudgetSettings(Settings):
    """A PodDisruptionBudget: how many groups evictions, such as those of a node drain, may take at once. Updates and
    failures do not ask it."""

    max_unavailable: Annotated[int, Field(ge=0)] = 1
    """Groups that may be gone at once. The eviction of any pod takes its whole group. 0 refuses every eviction: whoever
    drains a node then has to delete the group by hand."""


class HealthCheckSettings(Settings):
    """Liveness beyond vLLM's /health, which can answer 200 for an engine that hangs: a leader must make progress while
    it has requests, and a worker must reach its leader."""

    stall_seconds: Annotated[int, Field(ge=60)] = 300
    """How long an engine with requests may make no progress. It is restarted three minutes after that, and loads the
    model again; the longest prompt must take less."""

    canary: bool = False
    """Ask an idle engine for one token every five minutes, so that it is found dead before a client finds it. The
    requests show in the metrics."""


class LifecycleSettings(Settings):
    """The life of a group: how its pods end, are watched, and come back."""

    request_seconds: Annotated[int, Field(ge=1, le=86_400)] = 600
    """Longest request, in seconds. A pod that is replaced or evicted finishes its requests for so long, and then those
    that are left are cut off."""

    grace_seconds: Annotated[int | None, Field(ge=1)] = None
    """terminationGracePeriodSeconds of the pods. Left out, requestSeconds and 45 s more
    (deepseek_acs/planner/shutdown.py)."""

    disruption_budget: DisruptionBudgetSettings | None = None
    """A limit for evictions. By default there is none."""

    health_check: HealthCheckSettings | None = None
    """A stricter liveness check. By default, /health of the leader."""

    group_restart: Literal["onPodRestart", "afterStart"] = "onPodRestart"
    """When a container that ends takes its group with it: always, or only once all pods of the group have started, so
    that a slow pull of the image in one pod is not begun again and again. afterStart needs LeaderWorkerSet 0.9."""
