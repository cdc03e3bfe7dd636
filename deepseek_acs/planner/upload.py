"""How large the weights that are moved into the bucket may be, and how long they may take before their Job is given up.

The arithmetic, with DeepSeek-R1 at the default 50 MiB/s from the hub as the example::

    move      = weights ÷ throughput            641.30 GiB × 1024 ÷ 50 MiB/s = 13 134 s
    deadline  = start + move × 2                                             = 26 868 s   (7 h 28 min)

A check of weights that are there already asks for the size and CRC of each file and reads none of them.
"""

import math

from deepseek_acs.planner.model import Model
from deepseek_acs.planner.weights import files_gib

SIZE_TOLERANCE = 0.05
"""Tolerated deviation of a model's size, for files in addition to its tensors."""

SHAPES_TOLERANCE = 0.1
"""Of the size that follows from the shapes: what is left out of them is less, what is misread more."""

START_SECONDS = 600
"""Until the pod runs: capacity, and the pull of a small image."""

MOVE_HEADROOM = 2
"""Factor on the expected time: hubs are slower at some hours, and a pod that failed begins with a look at all files."""

CHECK_SECONDS = 600
"""For the check alone, which takes seconds unless OSS answers slowly."""

AWAIT_SECONDS = 120
"""How much longer Pulumi waits than the Job may take, so that it sees the Job's own verdict."""


EIP_SHARE = 0.9
"""What of an address's bandwidth is left for the bytes of files."""


def largest_gib(*, shapes: Model | None, stated_gib: float | None, known_gib: float) -> float | None:
    """GiB of safetensors that the plan has room for: what was given or published, or else what follows from ``shapes``;
    None if nothing is known."""
    if shapes is not None and shapes.weights_gib is None and stated_gib is None:
        return files_gib(shapes)[1] * (1 + SHAPES_TOLERANCE)
    return known_gib * (1 + SIZE_TOLERANCE) if known_gib else None


def upload_deadline_seconds(
    *, weights_gib: float, moves: bool, throughput_mib_s: float, eip_bandwidth_mbps: int | None = None
) -> int:
    """Seconds after its start when the Job is given up. It moves ``weights_gib`` GiB at ``throughput_mib_s`` MiB/s, or
    less through an address of ``eip_bandwidth_mbps`` Mbit/s, or only checks what is there."""
    if not moves:
        return START_SECONDS + CHECK_SECONDS
    if eip_bandwidth_mbps is not None:
        throughput_mib_s = min(throughput_mib_s, eip_bandwidth_mbps * 1e6 / 8 / 2**20 * EIP_SHARE)
    return START_SECONDS + math.ceil(weights_gib * 1024 / throughput_mib_s * MOVE_HEADROOM)
