"""The memory of each stage's GPU as a stacked bar, to a PNG or SVG file."""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from deepseek_acs.planner.memory import Memory
from deepseek_acs.planner.spec import ResolvedSpec

COLOURS = {
    "weights": "#0072b2",
    "activation": "#e69f00",
    "NCCL, CUDA": "#cc79a7",
    "CUDA graphs": "#999999",
    "cache": "#009e73",
    "not granted": "#eeeeee",
}
"""Okabe and Ito's palette, which colour-blind readers can tell apart (https://jfly.uni-koeln.de/color/)."""

LABEL_SHARE = 0.045
"""Parts smaller than this share of the bar are not labelled."""


def draw(spec: ResolvedSpec, memory: Memory, path: Path) -> None:
    """Write the chart to ``path``; its ending chooses the format."""
    stages = len(memory.stages)
    figure = Figure(figsize=(9.5, 2.1 + 0.55 * stages), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for number, stage in enumerate(memory.stages):
        parts = {
            "weights": stage.weights_gib,
            "activation": stage.activation.nominal,
            "NCCL, CUDA": stage.non_torch.nominal,
            "CUDA graphs": stage.graphs.nominal,
            "cache": max(0.0, stage.cache.nominal),
            "not granted": memory.total_gib - memory.usable_gib,
        }
        left = 0.0
        for name, size in parts.items():
            axes.barh(number, size, left=left, color=COLOURS[name], label=name if number == 0 else None, height=0.62)
            if size > LABEL_SHARE * memory.total_gib and name != "not granted":
                axes.text(left + size / 2, number, f"{size:.1f}", ha="center", va="center", color="white", fontsize=9)
            left += size
        if stage.cache.low > 0:
            # The cache ends at the granted memory; its beginning is what the engine's own needs leave uncertain.
            starts = [memory.usable_gib - gib for gib in (stage.cache.high, stage.cache.low)]
            axes.plot(
                starts,
                [number + 0.39] * 2,
                color="#333333",
                linewidth=2.5,
                solid_capstyle="butt",
                label="band of the cache's start" if number == 0 else None,
            )
    axes.axvline(memory.usable_gib, color="#333333", linewidth=1, linestyle="--")
    axes.set_yticks(range(stages), [f"stage {n + 1}\n{len(s.layers)} layers" for n, s in enumerate(memory.stages)])
    axes.set_ylim(stages - 0.5, -0.5)
    axes.set_xlim(0, max(memory.total_gib, max(s.weights_gib for s in memory.stages)))
    axes.set_xlabel("GiB of one GPU")
    axes.spines[["top", "right"]].set_visible(False)
    layout = spec.layout
    tokens = memory.tokens
    axes.set_title(
        f"{spec.model.name} on {layout.pods} × {layout.gpus_per_pod} {spec.gpu.series}, tensor {layout.tensor} × "
        f"pipeline {layout.pipeline}\n{spec.engine.vllm.name}: {memory.verdict.value}, {tokens[1]:,} tokens of cache "
        f"({tokens[0]:,} to {tokens[2]:,})",
        loc="left",
        fontsize=10.5,
    )
    figure.legend(loc="outside lower center", ncols=4, fontsize=9, frameon=False)
    figure.savefig(path, dpi=150)
