"""When a group that cannot become ready is given up."""

from typing import Annotated

from pydantic import Field

from deepseek_acs.settings.base import Settings


class GuardSettings(Settings):
    """A program that watches the groups, and scales them away if they hold GPUs and cannot become ready. Its pod takes
    a quarter of a vCPU and no GPU."""

    failed_starts: Annotated[int, Field(ge=1, le=100)] = 3
    """Starts of a group that may fail, one after the other. LeaderWorkerSet restarts a failed group without a limit;
    each start loads the model again."""

    back_off_seconds: Annotated[int | None, Field(ge=0, le=1800)] = None
    """Seconds that a group is held back, without GPUs, after its first start that failed, and twice as long after each
    further one, up to 30 minutes. 0: LeaderWorkerSet restarts it immediately. By default 60; with an autoscaler, which
    sets the number of groups, 0."""

    pending_seconds: Annotated[int, Field(ge=1)] = 3600
    """Seconds that some pods of a group may hold GPUs while another pod has not started: no GPU in stock, a quota, an
    image that cannot be pulled. A group of which no pod has started is not billed, and waits without a limit."""

    unready_seconds: Annotated[int | None, Field(ge=1)] = None
    """Seconds that a group may hold GPUs without being ready, over all its starts. By default twice the time that a new
    group takes at most, by the plan."""
