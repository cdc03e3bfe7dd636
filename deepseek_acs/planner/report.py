"""Tables for the terminal (rich) and the same as plain data (JSON)."""

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from deepseek_acs.planner import cost
from deepseek_acs.planner.activation import Band
from deepseek_acs.planner.catalogue import gpu_series, gpus, models
from deepseek_acs.planner.compare import Row
from deepseek_acs.planner.findings import Finding
from deepseek_acs.planner.memory import Memory, Stage, Verdict
from deepseek_acs.planner.model import CompressedAttention, GroupedQueryAttention
from deepseek_acs.planner.rules import RULES
from deepseek_acs.planner.rules.engine import unknown_kernels
from deepseek_acs.planner.spec import ResolvedSpec
from deepseek_acs.planner.weights import checkpoint_gib, parameters

STYLES = {Verdict.FITS: "green", Verdict.TOO_CLOSE: "yellow", Verdict.DOES_NOT_FIT: "red"}


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)


def memory_table(memory: Memory) -> Table:
    """Memory of one GPU per pipeline stage, in GiB."""
    table = _table(f"One GPU of each stage, GiB of {memory.usable_gib:.1f} usable")
    table.add_column("stage")
    for name in ("layers", "weights", "activation", "NCCL, CUDA", "graphs", "cache", "1,000 tokens"):
        table.add_column(name, justify="right")
    for number, stage in enumerate(memory.stages, start=1):
        tokens = stage.tokens()
        table.add_row(
            f"{number}{' tightest' if stage is memory.tightest else ''}",
            str(len(stage.layers)),
            f"{stage.weights_gib:.1f}",
            *(_band(part) for part in (stage.activation, stage.non_torch, stage.graphs, stage.cache)),
            f"{tokens[0] / 1000:,.0f}–{tokens[2] / 1000:,.0f}",
        )
    return table


def _band(band: Band) -> str:
    return f"{band.low:.1f}–{band.high:.1f}" if band.low != band.high else f"{band.nominal:.1f}"


def comparison_table(rows: Sequence[Row]) -> Table:
    """One line per series and layout."""
    table = _table("Layouts of one replica, fewest GPUs first")
    for name in (
        "series",
        "pods",
        "tensor",
        "pipeline",
        "GPUs",
        "weights",
        "tokens",
        "requests",
        "verdict",
    ):
        left = name in ("series", "verdict")
        table.add_column(
            name, justify="left" if left else "right", no_wrap=not left, min_width=17 if name == "verdict" else None
        )
    for row in rows:
        layout, memory = row.layout, row.memory
        start = (
            row.spec.gpu.series,
            f"{layout.pods} × {layout.gpus_per_pod}",
            str(layout.tensor),
            str(layout.pipeline),
            str(layout.gpus),
        )
        if memory is None or row.finding:
            table.add_row(*start, "–", "–", "–", row.finding.problem if row.finding else "not predicted")
            continue
        style = STYLES[memory.verdict]
        table.add_row(
            *start,
            f"{memory.tightest.weights_gib:.1f}",
            f"{memory.tokens[1]:,}",
            f"{memory.requests(memory.max_model_len)[1]:,}",
            f"[{style}]{memory.verdict.value}[/]{', kernels not known' if unknown_kernels(row.spec) else ''}",
        )
    return table


def models_table() -> Table:
    """The catalogue of models; ``attention`` is MLA, or heads and key-value heads."""
    table = _table("Models")
    for name in ("model", "parameters", "files GiB", "attention", "context"):
        table.add_column(name, justify="left" if name in ("model", "attention") else "right", no_wrap=True)
    for model in models().values():
        attention = model.attention
        kind = "compressed" if isinstance(attention, CompressedAttention) else "MLA"
        if isinstance(attention, GroupedQueryAttention):
            kind = f"{model.heads}/{attention.kv_heads}" + (", windows" if model.is_hybrid else "")
        table.add_row(
            model.name, f"{parameters(model) / 1e9:.1f} B", f"{checkpoint_gib(model):.1f}", kind, f"{model.context:,}"
        )
    return table


def gpus_table() -> Table:
    """The GPU series of ACS with their hardware."""
    table = _table("GPU series of ACS")
    for name in ("series", "GPU", "GiB", "GB/s", "GPUs per pod", "RDMA"):
        table.add_column(name, justify="right" if name in ("GiB", "GB/s") else "left", no_wrap=True)
    for series in gpu_series().values():
        gpu = gpus()[series.gpu] if series.gpu else None
        table.add_row(
            series.name,
            gpu.name if gpu else "not published",
            f"{gpu.memory_gib:.1f}" if gpu else f"{series.memory_gib} nominal",
            f"{gpu.bandwidth_gb_s:,}" if gpu else "–",
            ", ".join(map(str, series.gpus_per_pod)),
            ", ".join(f"{gpus_per_pod} GPUs" for gpus_per_pod in series.rdma_gpus_per_pod) or "–",
        )
    return table


def rules_table() -> Table:
    """All rules."""
    table = _table("Rules")
    for name in ("rule", "", "statement"):
        table.add_column(name)
    for rule in RULES:
        table.add_row(rule.id, "" if rule.severity == "error" else "warns", rule.statement)
    return table


def show(table: Table) -> None:
    """Print to standard output; 100 columns where it is not a terminal."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=100)
    console.print(table)


def spec_data(spec: ResolvedSpec, warnings: Sequence[Finding]) -> dict[str, Any]:
    """The specification and what follows from it as plain data."""
    layout, pod, budget = spec.layout, spec.pod, spec.budget
    return {
        "model": spec.model.name,
        "series": spec.gpu.series,
        "engine": spec.engine.vllm.name,
        "weightsGiB": spec.model.weights_gib,
        "layout": {
            "tensor": layout.tensor,
            "pipeline": layout.pipeline,
            "gpus_per_pod": layout.gpus_per_pod,
            "pods": layout.pods,
            "gpus": layout.gpus,
        },
        "pod": {"cpu": pod.cpu, "memoryGiB": pod.memory_gib, "sharedMemoryGiB": pod.shared_memory_gib},
        "maxModelLen": spec.engine.max_model_len,
        "memory": memory_data(spec.memory) if spec.memory else None,
        "readSeconds": budget.read_seconds,
        "startupSeconds": budget.startup_seconds,
        "cost": cost.data(cost.cost(spec)),
        "warnings": [str(warning) for warning in warnings],
    }


def memory_data(memory: Memory) -> dict[str, Any]:
    """An estimate as plain data; bands are low, nominal, high."""
    return {
        "verdict": memory.verdict.value,
        "usableGiB": memory.usable_gib,
        "cacheTokens": list(memory.tokens),
        "requestsAtOnce": list(memory.requests(memory.max_model_len)),
        "stages": [_stage_data(stage) for stage in memory.stages],
    }


def _stage_data(stage: Stage) -> dict[str, Any]:
    bands = {"activation": stage.activation, "nonTorch": stage.non_torch, "graphs": stage.graphs, "cache": stage.cache}
    return {
        "layers": len(stage.layers),
        "weightsGiB": stage.weights_gib,
        **{f"{name}GiB": [band.low, band.nominal, band.high] for name, band in bands.items()},
        "tokens": list(stage.tokens()),
    }


def row_data(row: Row) -> dict[str, Any]:
    """One row of a comparison as plain data."""
    layout, memory = row.layout, row.memory
    return {
        "series": row.spec.gpu.series,
        "tensor": layout.tensor,
        "pipeline": layout.pipeline,
        "gpus_per_pod": layout.gpus_per_pod,
        "gpus": layout.gpus,
        "problem": row.finding.problem if row.finding else None,
        "memory": memory_data(memory) if memory and not row.finding else None,
    }
