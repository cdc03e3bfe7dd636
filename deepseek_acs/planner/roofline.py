"""The least time of a decode step: every weight that it needs is read once from GPU memory.

A floor, not a forecast: reported steps at batch 1 take 12 to 31 ms where the floor is 1 to 2 ms, because launches,
all-reduce and the hops between stages dominate (docs/planner.md).
"""

from deepseek_acs.planner.kv_cache import token_bytes
from deepseek_acs.planner.spec import ResolvedSpec
from deepseek_acs.planner.weights import active_gib

GIB = 2**30


def decode_floor_ms(spec: ResolvedSpec, *, requests: int = 1, context: int = 0) -> float | None:
    """Milliseconds of one step of ``requests`` sequences with ``context`` tokens each; None if it is not known.

    Stages follow each other, so their times add up; within a stage the GPUs of tensor parallelism read at once.
    """
    model, device, layout = spec.model.shapes, spec.gpu.device, spec.layout
    if model is None or device is None or device.bandwidth_gb_s is None or spec.serving is None:
        return None
    weights = active_gib(model, requests) * GIB / layout.tensor
    per_token = token_bytes(model, spec.engine.vllm, spec.serving, tensor=layout.tensor, layers=range(model.layers))
    return (weights + requests * context * per_token) / (device.bandwidth_gb_s * 1e9) * 1e3
