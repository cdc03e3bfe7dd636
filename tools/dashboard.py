"""Draws docs/dashboard.png: ``make picture``.

Not Grafana's own rendering: the dashboard's JSON is read, its queries are answered by a real Prometheus over made-up
metrics (tools/sample_metrics.py), and matplotlib draws the panels where the JSON puts them. It shows what each panel
shows, and whether the screen is of use.
"""

import io
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from components.monitoring.alerts import AlertThresholds
from components.monitoring.dashboard import COLUMNS, dashboard_json
from deepseek_acs.planner.metrics import EngineMetrics, Target
from deepseek_acs.planner.vllm_releases.release import newest
from local.prometheus import Prometheus, prometheus
from tools.sample_metrics import SECONDS, START, STEP, sample_metrics

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "dashboard.png"
SETTINGS = AlertThresholds(time_to_first_token_seconds=10, inter_token_seconds=0.1)
TARGET = Target(namespace="deepseek", name="deepseek-r1", metrics=EngineMetrics(version=newest()))

HOUR = (START + SECONDS - 3600, START + SECONDS - STEP)
"""What is shown; before it only the windows of the queries look back."""

PIXELS_PER_COLUMN, PIXELS_PER_ROW = 58, 34
COLOURS_OF_PNG = 96

PAGE, CARD, TEXT, FAINT = "#111217", "#181b1f", "#d8d9da", "#8e8e92"
LINES = ("#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9")
NAMED = {"green": "#73bf69", "yellow": "#f2cc0c", "red": "#f2495c"}


@dataclass(frozen=True, kw_only=True)
class Line:
    """One series of a panel: its name, and times and values."""

    name: str
    times: Sequence[float]
    values: Sequence[float]


def answers(
    panel: Mapping[str, Any], server: Prometheus, variables: Mapping[str, str], *, times: tuple[int, int] = HOUR
) -> list[Line]:
    """The series of all queries of ``panel`` between two times, as Grafana would ask for them."""
    lines = []
    for query in panel["targets"]:
        expr = _filled_in(query["expr"], variables)
        for series in server.query_range(expr, start=times[0], end=times[1], step=STEP):
            at, values = zip(*((float(t), float(v)) for t, v in series["values"]), strict=True)
            lines.append(Line(name=_legend(query["legendFormat"], series["metric"]), times=at, values=values))
    return lines


def variables(dashboard: Mapping[str, Any]) -> dict[str, str]:
    """What the dashboard's variables are at the start, and Grafana's own."""
    chosen = {"__rate_interval": f"{4 * STEP}s"}
    for variable in dashboard["templating"]["list"]:
        if "current" in variable:
            value = variable["current"]["value"]
            chosen[variable["name"]] = variable["allValue"] if value == "$__all" else value
    return chosen


def _filled_in(expr: str, variables: Mapping[str, str]) -> str:
    for name, value in variables.items():
        expr = expr.replace(f"${name}", value)
    return expr


def _legend(template: str, labels: Mapping[str, str]) -> str:
    for name, value in labels.items():
        template = template.replace(f"{{{{{name}}}}}", value)
    return template


def shown(value: float, unit: str) -> str:
    """A value with its unit, as Grafana writes it."""
    match unit:
        case "percentunit":
            return f"{value:.1%}" if value < 0.1 else f"{value:.0%}"
        case "percent":
            return f"{value:.0f}%"
        case "s":
            return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"
        case "reqps":
            return f"{value:.2f} req/s"
        case "mbytes":
            return f"{value / 1024:.1f} GiB"
    return f"{value / 1000:.1f} K" if value >= 1000 else f"{value:.2f}" if value < 10 and value % 1 else f"{value:.0f}"


def draw(dashboard: Mapping[str, Any], server: Prometheus) -> Figure:
    """The whole screen."""
    chosen = variables(dashboard)
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"])
    width, height = COLUMNS * PIXELS_PER_COLUMN, rows * PIXELS_PER_ROW
    figure = Figure(figsize=(width / 100, height / 100), dpi=100, facecolor=PAGE)
    for panel in dashboard["panels"]:
        grid = panel["gridPos"]
        box = (
            grid["x"] / COLUMNS + 0.003,
            1 - (grid["y"] + grid["h"]) / rows + 0.003,
            grid["w"] / COLUMNS - 0.006,
            grid["h"] / rows - 0.006,
        )
        card = figure.add_axes(box, facecolor=CARD, xticks=[], yticks=[])
        for spine in card.spines.values():
            spine.set_color("#2c2f34")
        card.text(0.02, 0.965, panel["title"], color=TEXT, fontsize=8, va="top", weight="bold")
        lines = answers(panel, server, chosen)
        if panel["type"] == "stat":
            _draw_figure(figure, card, box, panel, lines)
        else:
            _draw_chart(figure, card, box, panel, lines)
    return figure


Box = tuple[float, float, float, float]


def _inside(box: Box, left: float, bottom: float, width: float, height: float) -> Box:
    return (box[0] + box[2] * left, box[1] + box[3] * bottom, box[2] * width, box[3] * height)


def _draw_figure(figure: Figure, card: Axes, box: Box, panel: Mapping[str, Any], lines: Sequence[Line]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    if not lines:
        card.text(0.5, 0.5, "–", color=FAINT, fontsize=18, ha="center", va="center")
        return
    (line,) = lines
    value = line.values[-1]
    reached = [step for step in defaults["thresholds"]["steps"] if step["value"] is None or value >= step["value"]]
    colour = NAMED[reached[-1]["color"]]
    card.text(0.5, 0.56, shown(value, defaults["unit"]), color=colour, fontsize=17, ha="center", va="center")
    spark = figure.add_axes(_inside(box, 0, 0, 1, 0.36))
    spark.fill_between(line.times, line.values, color=colour, alpha=0.25, linewidth=0)
    spark.plot(line.times, line.values, color=colour, linewidth=1)
    spark.set_xlim(*HOUR)
    spark.set_ylim(0, max(*line.values, 1e-9) * 1.05)
    spark.axis("off")


def _draw_chart(figure: Figure, card: Axes, box: Box, panel: Mapping[str, Any], lines: Sequence[Line]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    unit = defaults["unit"]
    listed = lines[: len(LINES)]
    foot = 0.07 * len(listed) + 0.06
    chart = figure.add_axes(_inside(box, 0.11, foot + 0.11, 0.86, 0.75 - foot), facecolor=CARD)
    for index, line in enumerate(lines):
        times, values = _with_gaps(line)
        colour = _colour(panel, line, index)
        chart.plot(times, values, color=colour, linewidth=1.3)
        chart.fill_between(times, values, color=colour, alpha=0.08, linewidth=0)
    bounds = [s["value"] for s in defaults.get("thresholds", {}).get("steps", []) if s["value"] is not None]
    if panel["fieldConfig"]["defaults"]["custom"].get("thresholdsStyle"):
        for bound in bounds:
            chart.axhline(bound, color=NAMED["red"], linewidth=0.9, linestyle=(0, (4, 4)))
    chart.set_xlim(*HOUR)
    highest = max((value for line in lines for value in line.values), default=1.0)
    chart.set_ylim(0, defaults.get("max") or highest * 1.1 or 1)
    ticks = np.linspace(0, chart.get_ylim()[1], 4)
    chart.set_yticks(ticks, [shown(float(tick), unit) for tick in ticks])
    minutes = range(10, 60, 20)
    chart.set_xticks([HOUR[0] + 60 * minute for minute in minutes], [f"{minute:02} min" for minute in minutes])
    chart.tick_params(colors=FAINT, labelsize=6, length=0)
    chart.grid(color="#2c2f34", linewidth=0.6)
    for spine in chart.spines.values():
        spine.set_visible(False)
    card.text(0.80, foot, "last", color=FAINT, fontsize=6, ha="right")
    card.text(0.97, foot, "max", color=FAINT, fontsize=6, ha="right")
    for index, line in enumerate(listed):
        height = foot - 0.07 * (index + 1)
        card.text(0.03, height, "▬ ", color=_colour(panel, line, index), fontsize=6)
        card.text(0.07, height, line.name, color=TEXT, fontsize=6.5)
        card.text(0.80, height, shown(line.values[-1], unit), color=TEXT, fontsize=6.5, ha="right")
        card.text(0.97, height, shown(max(line.values), unit), color=TEXT, fontsize=6.5, ha="right")
    card.set_xlim(0, 1)
    card.set_ylim(0, 1)


def _colour(panel: Mapping[str, Any], line: Line, index: int) -> str:
    for override in panel["fieldConfig"]["overrides"]:
        if override["matcher"]["options"] == line.name:
            return NAMED[override["properties"][0]["value"]["fixedColor"]]
    return LINES[index % len(LINES)]


def _with_gaps(line: Line) -> tuple[list[float], list[float]]:
    """With nothing in between where samples are missing."""
    times, values = [line.times[0]], [line.values[0]]
    for before, now, value in zip(line.times, line.times[1:], line.values[1:], strict=False):
        if now - before > STEP:
            times.append(before + STEP)
            values.append(float("nan"))
        times.append(now)
        values.append(value)
    return times, values


def main() -> None:
    """Writes the picture."""
    dashboard = json.loads(dashboard_json(TARGET, SETTINGS))
    metrics = sample_metrics(TARGET.metrics, namespace=TARGET.namespace, name=TARGET.name)
    with tempfile.TemporaryDirectory() as folder, prometheus(metrics, Path(folder)) as server:
        figure = draw(dashboard, server)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", facecolor=PAGE)
    Image.open(drawn).convert("RGB").quantize(COLOURS_OF_PNG).save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()
