"""A real Prometheus on this machine, over metrics that are given as text: for tests, and for pictures of dashboards."""

import json
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local import tools
from local.ports import held_port
from local.processes import Process, wait_until

START_SECONDS = 30

LOOKBACK_SECONDS = 30
"""A little more than the time between two samples."""


def fetch(address: str) -> bytes:
    """Of this machine."""
    # No proxy of the environment may come between.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(address, timeout=30) as answer:
        body: bytes = answer.read()
    return body


@dataclass(frozen=True, kw_only=True)
class Prometheus:
    """A server that answers queries. One in another network namespace is asked by another ``fetch``."""

    url: str
    fetch: Callable[[str], bytes] = fetch

    def query_range(self, expr: str, *, start: int, end: int, step: int) -> list[dict[str, Any]]:
        """The series of ``expr``, as the HTTP API gives them (https://prometheus.io/docs/prometheus/latest/querying/api);
        raises urllib's HTTPError where Prometheus does not understand it."""
        answer = self._ask("query_range", {"query": expr, "start": start, "end": end, "step": step})
        found: list[dict[str, Any]] = answer["result"]
        return found

    def alerts(self) -> list[dict[str, Any]]:
        """Those that are pending or fire, as the HTTP API gives them."""
        found: list[dict[str, Any]] = self._ask("alerts", {})["alerts"]
        return found

    def _ask(self, what: str, parameters: dict[str, Any]) -> Any:
        return json.loads(self.fetch(f"{self.url}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"))["data"]


@contextmanager
def prometheus(openmetrics: str, folder: Path) -> Iterator[Prometheus]:
    """Prometheus on a free port of the loopback interface, with the samples of ``openmetrics`` (text with timestamps,
    https://prometheus.io/docs/specs/om/open_metrics_spec/); its data and log are in ``folder``."""
    source, data, config = folder / "metrics.txt", folder / "data", folder / "prometheus.yaml"
    source.write_text(openmetrics, encoding="utf-8")
    config.write_text("scrape_configs: []\n", encoding="utf-8")
    promtool = tools.tool("promtool")
    subprocess.run(  # noqa: S603
        [promtool, "tsdb", "create-blocks-from", "openmetrics", "--quiet", source, data], check=True
    )
    with held_port() as port:
        process = Process(
            name="prometheus",
            command=[
                str(tools.tool("prometheus")),
                f"--config.file={config}",
                f"--storage.tsdb.path={data}",
                "--storage.tsdb.retention.time=100y",
                # Imported series end without the mark that a scrape leaves, so the last values would stay for 5 min.
                f"--query.lookback-delta={LOOKBACK_SECONDS}s",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            folder=folder,
        )
        process.start()
        try:
            server = Prometheus(url=f"http://127.0.0.1:{port}")
            wait_until("it is ready", lambda: _is_ready(server.url), seconds=START_SECONDS, process=process)
            yield server
        finally:
            process.stop()


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/-/ready", timeout=2) as answer:  # noqa: S310 - of this machine
            return bool(answer.status == 200)
    except OSError:
        return False
