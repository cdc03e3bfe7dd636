"""Every query of the dashboard, answered by a real Prometheus over the metrics of each generation of the engine."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.monitoring.alerts import AlertThresholds
from components.monitoring.dashboard import dashboard_json
from deepseek_acs.planner.metrics import EngineMetrics, Target
from deepseek_acs.planner.vllm_releases.release import Version
from local.prometheus import Prometheus, prometheus
from tools.dashboard import HOUR, answers, variables
from tools.sample_metrics import STEP, sample_metrics

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module", params=[(0, 7, 2), (0, 9, 2), (0, 33, 0)], ids=lambda version: f"vllm-0.{version[1]}")
def dashboard_and_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[dict[str, Any], Prometheus]]:
    version: Version = request.param
    target = Target(namespace="ns", name="r1", metrics=EngineMetrics(version=version))
    metrics = sample_metrics(target.metrics, namespace="ns", name="r1")
    with prometheus(metrics, tmp_path_factory.mktemp("prometheus")) as server:
        yield json.loads(dashboard_json(target, AlertThresholds())), server


def test_every_panel_shows_something(dashboard_and_server: tuple[dict[str, Any], Prometheus]) -> None:
    dashboard, server = dashboard_and_server
    for panel in dashboard["panels"]:
        lines = answers(panel, server, variables(dashboard))
        names = [line.name for line in lines]
        assert len(lines) >= len(panel["targets"]), f"{panel['title']}: a query without an answer"
        assert len(set(names)) == len(names), f"{panel['title']}: two series of one name"
        assert not any("{{" in name for name in names), f"{panel['title']}: a label that is not there"


def test_a_figure_is_one_number(dashboard_and_server: tuple[dict[str, Any], Prometheus]) -> None:
    dashboard, server = dashboard_and_server
    for panel in dashboard["panels"]:
        if panel["type"] == "stat":
            assert len(answers(panel, server, variables(dashboard))) == 1, panel["title"]


def test_variables_find_what_there_is(dashboard_and_server: tuple[dict[str, Any], Prometheus]) -> None:
    dashboard, server = dashboard_and_server
    found = {}
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            asked = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"])
            assert asked
            expr = asked[1].replace("$namespace", "ns").replace("$deployment", "r1")
            series = server.query_range(f"count by ({asked[2]}) ({expr})", start=HOUR[0], end=HOUR[1], step=STEP)
            found[variable["name"]] = [one["metric"][asked[2]] for one in series]
    assert found == {"namespace": ["ns"], "deployment": ["r1"], "model": ["ds"]}


def test_a_crash_is_seen(dashboard_and_server: tuple[dict[str, Any], Prometheus]) -> None:
    dashboard, server = dashboard_and_server
    panels = {panel["title"]: panel for panel in dashboard["panels"]}
    (ready,) = answers(panels["Groups ready"], server, variables(dashboard))
    assert (ready.values[0], min(ready.values), ready.values[-1]) == (1, 0.5, 1)
    (recreated,) = answers(panels["Recreated, 1 h"], server, variables(dashboard))
    assert (recreated.values[0], recreated.values[-1]) == (0, 1)


def test_a_query_that_is_wrong_is_refused(tmp_path: Path) -> None:
    with prometheus("# EOF\n", tmp_path) as server, pytest.raises(OSError, match="400"):
        server.query_range("sum(", start=HOUR[0], end=HOUR[1], step=STEP)
