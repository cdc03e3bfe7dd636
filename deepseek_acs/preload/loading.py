"""Fills a cache: waits for its DataLoad, and recreates a DataLoad that had already failed at the start."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from deepseek_acs.apiserver import ApiError, ApiServer, DeniedError

from .outcome import COMPLETE, is_ignored, is_over, preload_problem, progress

POLL_SECONDS = 2

SETTLE_SECONDS = 120
"""Time for the Dataset to report what is cached, after a DataLoad is complete and after workers are gone: Fluid checks
every 20 s, and a check may fail
(https://github.com/fluid-cloudnative/fluid/blob/master/pkg/controllers/runtime_controller.go)."""

YOUNG_SECONDS = 900
"""Age up to which a DataLoad is from this update: no worker with its data can be gone yet."""

IGNORED_SECONDS = 300
"""Timeout for a cache that no controller handles. A controller restarts faster than that."""

FLUID = "/apis/data.fluid.io/v1alpha1"


class Clock:
    """Seconds, and waiting for them."""

    def now(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def today(self) -> datetime:
        """Date and time, to compare with those of the API server."""
        return datetime.now(UTC)


class Preload:
    """One preload, as this run of the program sees it."""

    def __init__(self, api: ApiServer, manifest: Mapping[str, Any], clock: Clock) -> None:
        metadata = manifest["metadata"]
        self._api, self._manifest, self._clock = api, manifest, clock
        self._loads = f"{FLUID}/namespaces/{metadata['namespace']}/dataloads"
        self._load = f"{self._loads}/{metadata['name']}"
        self._dataset = f"{FLUID}/namespaces/{metadata['namespace']}/datasets/{metadata['name']}"
        self._seen_loading = False
        """Whether its end, when it comes, is that of a preload of this run."""
        self._complete_since: float | None = None
        self._start = clock.now()
        self._said = ""

    def step(self) -> tuple[bool, str | None]:
        """Checks once; returns whether it is finished, and the problem if there is one. Raises ApiError."""
        load = self._api.get(self._load)
        if load is None:
            self._say("making its DataLoad")
            self._api.create(self._loads, self._manifest)
            self._seen_loading, self._complete_since = True, None
            return False, None
        if load["metadata"].get("deletionTimestamp"):
            return False, None
        dataset = (self._api.get(self._dataset) or {}).get("status") or {}
        status = load.get("status") or {}
        if is_ignored(status, dataset) and self._clock.now() - self._start >= IGNORED_SECONDS:
            return True, (
                f"no controller has handled its Dataset for {IGNORED_SECONDS} s: the cluster has the definitions of "
                "ack-fluid, but its controller does not seem to run"
            )
        if not is_over(status):
            self._seen_loading = True
            self._say(progress(status, dataset))
            return False, None
        problem = preload_problem(status, dataset)
        if problem is None and (self._seen_loading or self._is_young(load)):
            return True, None
        if status.get("phase") == COMPLETE and not self._settled():
            return False, None
        if problem is None or self._seen_loading:
            return True, problem
        self._say(f"{problem}, before this run; recreating it")
        self._api.delete(self._load)
        return False, None

    def _is_young(self, load: Mapping[str, Any]) -> bool:
        created = datetime.fromisoformat(load["metadata"]["creationTimestamp"])
        return self._clock.today() - created < timedelta(seconds=YOUNG_SECONDS)

    def _settled(self) -> bool:
        now = self._clock.now()
        if self._complete_since is None:
            self._complete_since = now
        return now - self._complete_since >= SETTLE_SECONDS

    def _say(self, text: str) -> None:
        if text != self._said:
            print(text, flush=True)
        self._said = text


def fill(api: ApiServer, manifest: Mapping[str, Any], *, seconds: float, clock: Clock) -> str | None:
    """Returns None when the cache of the DataLoad ``manifest`` is filled, or the problem."""
    preload = Preload(api, manifest, clock)
    start = clock.now()
    error: ApiError | None = None
    while clock.now() - start < seconds:
        try:
            over, problem = preload.step()
            error = None
        except DeniedError as denied:
            return f"the API server denies its service account {denied}"
        except ApiError as failed:
            over, problem, error = False, None, failed
        if over:
            return problem
        clock.sleep(POLL_SECONDS)
    last = f" ({error})" if error else ""
    return f"its DataLoad was not finished after {seconds:.0f} s{last}"
