"""How long the weights may take into the bucket before their Job is given up.

The arithmetic, with DeepSeek-R1 at the default 50 MiB/s from the hub as the example::

    move      = weights ÷ throughput            641.30 GiB × 1024 ÷ 50 MiB/s = 13 134 s
    deadline  = start + move × 2                                             = 26 868 s   (7 h 28 min)

A check of weights that are there already asks for the size and CRC of each file and reads none of them.
"""

import math

START_SECONDS = 600
"""Until the pod runs: capacity, and the pull of a small image."""

MOVE_HEADROOM = 2
"""Factor on the expected time: hubs are slower at some hours, and a pod that failed begins with a look at all files."""

CHECK_SECONDS = 600
"""For the check alone, which takes seconds unless OSS answers slowly."""

AWAIT_SECONDS = 120
"""How much longer Pulumi waits than the Job may take, so that it sees the Job's own verdict."""


def move_deadline_seconds(*, weights_gib: float, throughput_mib_s: float) -> int:
    """Seconds for moving ``weights_gib`` GiB at ``throughput_mib_s`` MiB/s."""
    return START_SECONDS + math.ceil(weights_gib * 1024 / throughput_mib_s * MOVE_HEADROOM)


def check_deadline_seconds() -> int:
    """Seconds for a check of what is there."""
    return START_SECONDS + CHECK_SECONDS
