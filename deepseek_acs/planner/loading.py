"""How long a pod may take from container start to its first answer, and the probes that grant it that time.

The arithmetic, with DeepSeek-R1 from an OSS volume at the default 300 MiB/s per pod as the example::

    read      = weights ÷ throughput              641.30 GiB × 1024 ÷ 300 MiB/s = 2 189 s
    startup   = read × 1.5 + 600 s                                              = 3 884 s   (65 min)
    create    = 1 800 s + startup                                               = 5 684 s   (95 min)
    update    = create × rounds of the rolling update

*read* counts the whole model for each pod: vLLM's ranks walk through every safetensors file and keep their
part, whatever the pipeline stage; the ranks of one pod share the page cache, so the pod reads it once.
"""

import math
from dataclasses import dataclass

READ_HEADROOM = 1.5
"""Factor on the read time: other pods read the same bucket, and OSS limits bandwidth per account and region
(https://help.aliyun.com/zh/oss/user-guide/limits)."""

ENGINE_SETUP_SECONDS = 600
"""Everything after the last byte is read: the wait for the other pods of the group, NCCL set-up, memory
profiling, compilation and CUDA graph capture. Reported starts of DeepSeek-R1 took 30 to 80 minutes in all."""

POD_START_SECONDS = 1800
"""From the creation of the pod to the start of its container: GPU capacity, and the pull of an image of
10 GiB and more."""

PROBE_PERIOD_SECONDS = 10


@dataclass(frozen=True, kw_only=True)
class LoadBudget:
    """Times granted to one pod, in seconds; see the module's docstring for the arithmetic."""

    read_seconds: int
    startup_seconds: int

    @property
    def create_seconds(self) -> int:
        """Time until a new group is available; all groups start at once."""
        return POD_START_SECONDS + self.startup_seconds

    def update_seconds(self, *, replicas: int, groups_at_once: int, end_seconds: int = 0) -> int:
        """Time of a rolling update of ``replicas`` groups, ``groups_at_once`` in each round, each of which takes
        ``end_seconds`` to end before it is recreated."""
        return (self.create_seconds + end_seconds) * max(1, math.ceil(replicas / groups_at_once))


def failure_threshold(seconds: int) -> int:
    """Number of failed probes, one each ``PROBE_PERIOD_SECONDS``, that last ``seconds``."""
    return math.ceil(seconds / PROBE_PERIOD_SECONDS)


def load_budget(*, weights_gib: float, throughput_mib_s: int, startup_seconds: int | None = None) -> LoadBudget:
    """The budget for a model of ``weights_gib`` GiB that each pod reads at ``throughput_mib_s`` MiB/s;
    ``startup_seconds`` if it is not to follow from these."""
    read_seconds = math.ceil(weights_gib * 1024 / throughput_mib_s)
    return LoadBudget(
        read_seconds=read_seconds,
        startup_seconds=startup_seconds or math.ceil(read_seconds * READ_HEADROOM + ENGINE_SETUP_SECONDS),
    )
