"""The requests that the engines have, by the metrics of the leaders' servers."""

import http.client
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from deepseek_acs.apiserver import opener
from deepseek_acs.apiserver.watching import metrics_url

RUNNING, WAITING = "vllm:num_requests_running", "vllm:num_requests_waiting"
SUCCEEDED = "vllm:request_success_total"
"""https://docs.vllm.ai/en/stable/usage/metrics/"""

HTTP_SECONDS = 2


@dataclass(frozen=True, kw_only=True)
class Requests:
    """Of one engine, at a time."""

    running: int
    waiting: int
    succeeded: int
    at: str

    def __str__(self) -> str:
        return f"{self.running} running and {self.waiting} waiting at {self.at}"


class Gauges:
    """``key_file`` has the key for ``/metrics``; None where none is asked for."""

    def __init__(self, port: int, key_file: Path | None) -> None:
        self._port, self._key_file = port, key_file

    def read(self, address: str) -> Requests | None:
        """Of the leader at this address; None where they cannot be read."""
        request = urllib.request.Request(metrics_url(address, self._port), headers=self._headers())  # noqa: S310
        try:
            with opener().open(request, timeout=HTTP_SECONDS) as answer:
                found = sums(answer.read().decode("utf-8", "replace"))
        except (OSError, http.client.HTTPException, ValueError):
            return None
        if RUNNING not in found:
            return None
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        return Requests(
            running=int(found[RUNNING]),
            waiting=int(found.get(WAITING, 0)),
            succeeded=int(found.get(SUCCEEDED, 0)),
            at=now,
        )

    def _headers(self) -> dict[str, str]:
        if self._key_file is None:
            return {}
        return {"Authorization": f"Bearer {self._key_file.read_text(encoding='utf-8').strip()}"}


def sums(metrics: str) -> Mapping[str, float]:
    """What ``Requests`` has, in Prometheus' text format, summed over all labels. Raises ValueError."""
    found: dict[str, float] = {}
    for line in metrics.splitlines():
        name = line.split("{", 1)[0].split(" ", 1)[0]
        if name in (RUNNING, WAITING, SUCCEEDED):
            found[name] = found.get(name, 0) + float(line.rsplit(" ", 1)[1])
    return found
