"""CUDA graphs, as the engine estimates them before it sizes the cache.

Measured on NVIDIA H200, vLLM 0.20.2, 2026-11-29: 0.08 GiB for a dense model with 4 sizes to 8.3 GiB for MLA with a
draft on one GPU.
"""

import math

from deepseek_acs.planner.activation import GIB, Band, Step, context_bytes
from deepseek_acs.planner.model import CompressedAttention, GroupedQueryAttention, Model, MultiHeadLatentAttention
from deepseek_acs.planner.vllm import Engine, Serving
from deepseek_acs.planner.weights import FLOAT_BYTES, MIB

GRAPHS_COMPRESSED = Band(0.3, 2.5, 4.0)
"""CUDA graphs of DeepSeek-V4: 0.36 GiB for few sizes of batches to 2.51 GiB for the default's 51
(https://github.com/gpustack/runner/pull/251, https://github.com/vllm-project/vllm/issues/50576)."""

SPLITS = 32
"""Parts of a request's context that FlashAttention 3 may add up at the end, for each of which a whole graph keeps the
outputs of all heads in 32 bits (``flash_attn_max_num_splits_for_cuda_graph``,
https://github.com/vllm-project/vllm/blob/v0.33.0/vllm/config/attention.py)."""

GRAPH_MIB_PER_LAYER = Band(0.1, 0.16, 0.45)
"""Of each size, both kinds of graph together."""

GRAPH_BASE_MIB = Band(40, 130, 250)
"""Of the first graph: kernels that are loaded for it."""

HYBRID_REQUESTS = 256
"""Most sequences with which whole graphs of a model with windows were seen to keep splits."""


def graph_memory(model: Model, engine: Engine, serving: Serving, step: Step) -> Band:
    """CUDA graphs as the engine estimates them before it sizes the cache: two sizes of each kind are captured, and the
    larger first one and as many second ones as there are sizes are taken off
    (``profile_cudagraph_memory``, https://github.com/vllm-project/vllm/blob/v0.33.0/vllm/v1/worker/gpu_model_runner.py).

    MLA's first graph in pieces holds the expanded context, a second time if there is a draft; the first whole graph
    the outputs of all splits.
    """
    if serving.eager or not engine.counts_graphs(model):
        return Band(0, 0, 0)
    if isinstance(model.attention, CompressedAttention):
        return GRAPHS_COMPRESSED
    sizes = serving.graph_sizes(step.sequences, family=model.family)
    context = 0
    if not (isinstance(model.attention, MultiHeadLatentAttention) and model.attention.indexer_heads):
        context = context_bytes(model, engine, serving, tensor=step.tensor, sequences=step.sequences)
    context *= 2 if serving.draft_layers else 1
    requests = min(step.sequences, max(sizes, default=0))
    splits = SPLITS * requests * _split_width(model, engine, step.tensor) * FLOAT_BYTES
    per_size = len(sizes) * len(step.layers) * MIB / GIB
    # Measured: layers with a window keep the splits for every size of a whole graph, or for none.
    whole = sum(size <= step.sequences for size in sizes)
    kept = whole * splits if model.is_hybrid and requests <= HYBRID_REQUESTS else 0
    fixed = Band(context / GIB, (max(context, splits) + kept / 2) / GIB, (max(context, splits) + kept) / GIB)
    per_layer, base = GRAPH_MIB_PER_LAYER, GRAPH_BASE_MIB
    return fixed + Band(
        base.low / 1024 + per_layer.low * per_size,
        base.nominal / 1024 + per_layer.nominal * per_size,
        base.high / 1024 + max(per_layer.high * per_size, 0.1),
    )


def _split_width(model: Model, engine: Engine, tensor: int) -> int:
    attention, heads = model.attention, math.ceil(model.heads / tensor)
    if isinstance(attention, GroupedQueryAttention):
        return heads * attention.head_dim
    if isinstance(attention, MultiHeadLatentAttention) and not attention.indexer_heads:
        return heads * attention.kv_rank
    return 0
