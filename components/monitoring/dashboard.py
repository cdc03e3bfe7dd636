"""The Grafana dashboard, one screen, built with Grafana's own library (https://github.com/grafana/grafana-foundation-sdk).

What is shown is the table of ``figures`` and ``charts``; the rest turns it into Grafana's model.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    DataSourceRef,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DynamicConfigValue,
    GridPos,
    Threshold,
    ThresholdsMode,
    VariableOption,
    VariableRefresh,
)

from deepseek_acs.planner.metrics import GROUP_LABEL, LWS_LABEL, Target

from .alerts import FAILED_SHARE, KV_CACHE_FULL, AlertThresholds

COLUMNS = 24
"""Width of Grafana's grid."""

FIGURE_HEIGHT, CHART_HEIGHT = 4, 7

WINDOW = "$__rate_interval"
"""Grafana's own choice for ``rate``: at least four scrapes."""

GREEN, YELLOW, RED = "green", "yellow", "red"


@dataclass(frozen=True, kw_only=True)
class Query:
    """One query and the name of its series, in which ``{{label}}`` stands for a label's value."""

    expr: str
    legend: str


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A panel. ``unit`` is a unit of Grafana. Values from ``warn`` and ``alarm`` on are yellow and red, or values below
    them with ``low_is_bad``. Series with names ``in_red`` are always red."""

    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    warn: float | None = None
    alarm: float | None = None
    low_is_bad: bool = False
    maximum: float | None = None
    in_red: tuple[str, ...] = ()


def figures(target: Target, settings: AlertThresholds) -> Iterator[Panel]:
    """The row of single figures: health at a glance."""
    metrics, engine = target.metrics, target.engine
    ready = f'kube_pod_status_ready{{{target.leaders},condition="true"}}'
    created = f"last_over_time(kube_pod_created{{{target.leaders}}}[1h])"
    failed = f'sum(rate({metrics.http_requests}{{{engine},status="5xx"}}[{WINDOW}]))'

    yield _figure(
        "Groups ready",
        "Share of leaders that are ready. A group counts only with all its pods.",
        "percentunit",
        f"(sum({ready}) or vector(0)) / count(count by (pod) (kube_pod_created{{{target.leaders}}}))",
        warn=1,
        alarm=0.01,
        low_is_bad=True,
    )
    yield _figure("Running", "Requests in progress.", "short", f"sum({metrics.running}{{{_model(engine)}}})")
    yield _figure(
        "Longest queue",
        "Requests that wait for a place in the batch or in the cache, in the group with the most.",
        "short",
        f"max(sum by ({GROUP_LABEL}) ({metrics.waiting}{{{_model(engine)}}}))",
        warn=1,
        alarm=settings.waiting_requests,
    )
    yield _figure(
        "KV cache",
        "KV cache usage of the fullest group.",
        "percentunit",
        f"max({metrics.kv_cache_usage}{{{_model(engine)}}})",
        warn=0.8,
        alarm=KV_CACHE_FULL,
    )
    yield _figure(
        "First token, 95 %",
        "95 % of the requests had their first token within this time.",
        "s",
        _quantile(0.95, metrics.first_token_latency, engine),
        alarm=settings.time_to_first_token_seconds,
    )
    yield _figure(
        "Answer",
        "Tokens per second that all groups generate.",
        "short",
        f"sum(rate({metrics.generation_tokens}{{{_model(engine)}}}[{WINDOW}]))",
    )
    yield _figure(
        "Failing",
        "Share of responses with status 5xx.",
        "percentunit",
        f"({failed} or vector(0)) / sum(rate({metrics.http_requests}{{{engine}}}[{WINDOW}]))",
        warn=0.001,
        alarm=FAILED_SHARE,
    )
    yield _figure(
        "Recreated, 1 h",
        "Leaders that were recreated within the last hour: restarts of whole groups, and rolling updates.",
        "short",
        f"count(count by (pod, uid) ({created})) - count(count by (pod) ({created}))",
        warn=1,
        alarm=3,
    )


def charts(target: Target, settings: AlertThresholds) -> Iterator[Sequence[Panel]]:
    """The rows below: traffic, latency, tokens and cache, pods and GPUs."""
    yield _traffic(target)
    yield _latency(target, settings)
    yield _tokens(target)
    yield _pods(target)


def _traffic(target: Target) -> Sequence[Panel]:
    metrics, engine = target.metrics, target.engine
    return (
        Panel(
            title="Requests",
            description="In the engines, by state. Waiting requests are the sign that more groups are needed.",
            unit="short",
            queries=(
                Query(expr=f"sum({metrics.running}{{{_model(engine)}}})", legend="running"),
                Query(expr=f"sum({metrics.waiting}{{{_model(engine)}}})", legend="waiting"),
            ),
        ),
        Panel(
            title="Requests finished",
            description="Per second, by reason: stop (the model's own end), length (the token limit), abort (the "
            "client went away), error.",
            unit="reqps",
            queries=(
                Query(
                    expr=f"sum by (finished_reason) (rate({metrics.finished}{{{_model(engine)}}}[{WINDOW}]))",
                    legend="{{finished_reason}}",
                ),
            ),
            in_red=("error",),
        ),
        Panel(
            title="Answers by status",
            description="Per second, as clients see them; 5xx are failures of the engine.",
            unit="reqps",
            queries=(
                Query(
                    expr=f"sum by (status) (rate({metrics.http_requests}{{{engine}}}[{WINDOW}]))", legend="{{status}}"
                ),
            ),
            in_red=("5xx",),
        ),
    )


def _latency(target: Target, settings: AlertThresholds) -> Sequence[Panel]:
    metrics = target.metrics
    rows = (
        (
            "Time to first token",
            "Queue and prefill. Long prompts and a full queue make it grow. Dashed: the objective, if there is one.",
            metrics.first_token_latency,
            settings.time_to_first_token_seconds,
        ),
        (
            "Time between tokens",
            "What the reader of a stream experiences. It grows with the batch, and without RDMA.",
            metrics.inter_token_latency,
            settings.inter_token_seconds,
        ),
        ("Whole request", "From arrival to the last token.", metrics.request_latency, None),
    )
    return [
        Panel(
            title=title,
            description=description,
            unit="s",
            queries=tuple(
                Query(expr=_quantile(share, histogram, target.engine), legend=f"{share * 100:.0f} %")
                for share in (0.5, 0.95, 0.99)
            ),
            alarm=objective,
        )
        for title, description, histogram, objective in rows
    ]


def _tokens(target: Target) -> Sequence[Panel]:
    metrics, selector = target.metrics, _model(target.engine)
    return (
        Panel(
            title="Tokens per second",
            description="Read (prompt) and written (answer), over all groups.",
            unit="short",
            queries=(
                Query(expr=f"sum(rate({metrics.prompt_tokens}{{{selector}}}[{WINDOW}]))", legend="prompt"),
                Query(expr=f"sum(rate({metrics.generation_tokens}{{{selector}}}[{WINDOW}]))", legend="answer"),
            ),
        ),
        Panel(
            title="KV cache in use",
            description="By group. Once it is full, requests wait or are preempted.",
            unit="percentunit",
            queries=(
                Query(
                    expr=f"max by ({GROUP_LABEL}) ({metrics.kv_cache_usage}{{{selector}}})", legend="group {{group}}"
                ),
            ),
            alarm=KV_CACHE_FULL,
            maximum=1,
        ),
        Panel(
            title="Prefix cache hits",
            description="Share of prompt tokens that were in the cache, by group.",
            unit="percentunit",
            queries=(Query(expr=metrics.prefix_hit_rate(selector, WINDOW), legend="group {{group}}"),),
            maximum=1,
        ),
        Panel(
            title="Preemptions",
            description="Preempted requests per second, which lose their KV cache and are recomputed, by group.",
            unit="reqps",
            queries=(
                Query(
                    expr=f"sum by ({GROUP_LABEL}) (rate({metrics.preemptions}{{{selector}}}[{WINDOW}]))",
                    legend="group {{group}}",
                ),
            ),
        ),
    )


def _pods(target: Target) -> Sequence[Panel]:
    answering = f'kube_pod_status_ready{{{target.leaders},condition="true"}}'
    running = f'kube_pod_status_phase{{{target.pods},phase="Running"}}'
    return (
        Panel(
            title="Pods",
            description="Pods that exist, pods that run, and leaders that are ready. Between running and ready, the "
            "model is loading.",
            unit="short",
            queries=(
                Query(expr=f"count(max by (pod) (kube_pod_created{{{target.pods}}}))", legend="exist"),
                Query(expr=f"sum(max by (pod) ({running}))", legend="running"),
                Query(expr=f"sum(max by (pod) ({answering}))", legend="leaders that answer"),
            ),
        ),
        Panel(
            title="GPU busy",
            description="Average of a pod's GPUs; empty without a GPU exporter (DCGM_FI_DEV_GPU_UTIL).",
            unit="percent",
            queries=(Query(expr=f"avg by (pod) (DCGM_FI_DEV_GPU_UTIL{{{target.pods}}})", legend="{{pod}}"),),
            maximum=100,
        ),
        Panel(
            title="GPU memory",
            description="Fullest GPU of a pod; empty without a GPU exporter (DCGM_FI_DEV_FB_USED). It rises while the "
            "model loads, and then stays constant.",
            unit="mbytes",
            queries=(Query(expr=f"max by (pod) (DCGM_FI_DEV_FB_USED{{{target.pods}}})", legend="{{pod}}"),),
        ),
    )


def dashboard_json(target: Target, settings: AlertThresholds) -> str:
    """The dashboard of ``target`` for Grafana's file provider. Its variables default to the target. The uid follows
    from the target, so the dashboards of several stacks do not replace each other."""
    chosen = replace(target, namespace="$namespace", name="$deployment")
    built = (
        dashboard.Dashboard(f"vLLM: {target.name} in {target.namespace}")
        .uid(hashlib.sha256(f"{target.namespace}/{target.name}".encode()).hexdigest()[:16])
        .description("Traffic, latency, cache, pods and GPUs of one LeaderWorkerSet that serves a model with vLLM.")
        .tags(["vllm", "inference"])
        .time("now-1h", "now")
        .refresh("30s")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(_variable("namespace", "Namespace", target.metrics.running, "namespace", target.namespace))
        .with_variable(
            _variable(
                "deployment", "Deployment", f'{target.metrics.running}{{namespace="$namespace"}}', LWS_LABEL
            ).current(VariableOption(selected=True, text=target.name, value=target.name))
        )
        .with_variable(
            _variable("model", "Model", f"{target.metrics.running}{{{chosen.engine}}}", "model_name")
            .include_all(True)
            .all_value(".*")
            .multi(True)
            .current(VariableOption(selected=True, text="All", value="$__all"))
        )
    )
    shown, height = list(figures(chosen, settings)), FIGURE_HEIGHT
    panels: list[stat.Panel | timeseries.Panel] = []
    panels += [_figure_panel(panel).grid_pos(place) for panel, place in _row(shown, 0, height)]
    for row in charts(chosen, settings):
        panels += [_chart_panel(panel).grid_pos(place) for panel, place in _row(row, height, CHART_HEIGHT)]
        height += CHART_HEIGHT
    for number, panel in enumerate(panels, start=1):
        built = built.with_panel(panel.id(number))
    return JSONEncoder(sort_keys=True, indent=2).encode(built.build()) + "\n"


def _row(panels: Sequence[Panel], top: int, height: int) -> Iterator[tuple[Panel, GridPos]]:
    """The panels side by side."""
    width = COLUMNS // len(panels)
    for index, panel in enumerate(panels):
        yield panel, GridPos(h=height, w=width, x=index * width, y=top)


def _figure(
    title: str,
    description: str,
    unit: str,
    expr: str,
    *,
    warn: float | None = None,
    alarm: float | None = None,
    low_is_bad: bool = False,
) -> Panel:
    return Panel(
        title=title,
        description=description,
        unit=unit,
        queries=(Query(expr=expr, legend=title),),
        warn=warn,
        alarm=alarm,
        low_is_bad=low_is_bad,
    )


def _model(selector: str) -> str:
    """The engine's own metrics have the model's name, those of its HTTP server do not."""
    return f'{selector},model_name=~"$model"'


def _quantile(share: float, histogram: str, selector: str) -> str:
    return f"histogram_quantile({share:g}, sum by (le) (rate({histogram}_bucket{{{_model(selector)}}}[{WINDOW}])))"


def _variable(name: str, label: str, metric: str, source: str, current: str | None = None) -> dashboard.QueryVariable:
    variable = (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(_source())
        .query(f"label_values({metric}, {source})")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
    )
    return variable.current(VariableOption(selected=True, text=current, value=current)) if current else variable


def _source() -> DataSourceRef:
    return DataSourceRef(type_val="prometheus", uid="${datasource}")


def _targets(panel: Panel) -> Iterator[prometheus.Dataquery]:
    for letter, query in zip("ABCDEF", panel.queries, strict=False):
        yield prometheus.Dataquery().ref_id(letter).expr(query.expr).legend_format(query.legend).range()


def _thresholds(panel: Panel) -> dashboard.ThresholdsConfig:
    colours = (RED, YELLOW, GREEN) if panel.low_is_bad else (GREEN, YELLOW, RED)
    bounds = (panel.alarm, panel.warn) if panel.low_is_bad else (panel.warn, panel.alarm)
    steps = [Threshold(value=None, color=colours[0])]
    steps += [
        Threshold(value=bound, color=colour)
        for bound, colour in zip(bounds, colours[1:], strict=True)
        if bound is not None
    ]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def _figure_panel(panel: Panel) -> stat.Panel:
    built = (
        stat.Panel()
        .title(panel.title)
        .description(panel.description)
        .unit(panel.unit)
        .datasource(_source())
        .thresholds(_thresholds(panel))
        .color_mode(BigValueColorMode.VALUE)
        .graph_mode(BigValueGraphMode.AREA)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .no_value("–")
    )
    for target in _targets(panel):
        built = built.with_target(target)
    return built


def _chart_panel(panel: Panel) -> timeseries.Panel:
    built = (
        timeseries.Panel()
        .title(panel.title)
        .description(panel.description)
        .unit(panel.unit)
        .datasource(_source())
        .min(0)
        .line_width(2)
        .fill_opacity(10)
        .show_points(VisibilityMode.NEVER)
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.TABLE)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["lastNotNull", "max"])
        )
    )
    if panel.maximum is not None:
        built = built.max(panel.maximum)
    for series in panel.in_red:
        built = built.override_by_name(
            series, [DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": RED})]
        )
    if panel.alarm is not None:
        style = common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED)
        built = built.thresholds(_thresholds(panel)).thresholds_style(style)
    for target in _targets(panel):
        built = built.with_target(target)
    return built
