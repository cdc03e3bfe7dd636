"""The program that sees to a preload, on a Fluid and a clock of the test's own."""

import json
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from deepseek_acs.apiserver import ApiError, ApiServer, DeniedError, in_cluster
from deepseek_acs.preload.loading import FLUID, IGNORED_SECONDS, SETTLE_SECONDS, Clock, fill
from deepseek_acs.preload.outcome import failed, preload_problem, progress, watched

NAME, NAMESPACE = "llm-cache-1", "n"
MANIFEST = {"metadata": {"name": NAME, "namespace": NAMESPACE}, "spec": {"loadMetadata": True}}
LOADS, DATASETS = (f"{FLUID}/namespaces/{NAMESPACE}/{plural}" for plural in ("dataloads", "datasets"))

EXECUTING = {"phase": "Executing", "conditions": []}
COMPLETE = {"phase": "Complete", "conditions": [{"type": "Complete"}]}
FAILED = {"phase": "Failed", "conditions": [{"type": "Failed", "reason": "BackoffLimitExceeded", "message": "no more"}]}

FAILED_TEXT = "its DataLoad ended as Failed (BackoffLimitExceeded: no more)"
EMPTY_TEXT = "its DataLoad is complete, but the Dataset reports 0.00B as cached"


class FakeClock(Clock):
    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds

    def today(self) -> datetime:
        return datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC) + timedelta(seconds=self.time)


class Fluid(ApiServer):
    """Each DataLoad goes through ``lives`` of its own, one status per look; the last one stays. None: none is there.
    One that is complete has cached ``cached``, the next entry for each."""

    def __init__(
        self, *lives: list[Any], cached: list[str] | None = None, errors: list[ApiError] | None = None
    ) -> None:
        self.lives = [list(life) for life in lives]
        self.cached = list(cached or ["641.30GiB"])
        self.errors = list(errors or [])
        self.calls: list[tuple[str, str]] = []
        self.made: list[object] = []
        self.deleting = False
        self.share = "100.0%"
        self.phase = "Bound"
        self.created = "2026-01-01T00:00:00Z"

    def get(self, path: str) -> dict[str, Any] | None:
        if self.errors:
            raise self.errors.pop(0)
        if path == f"{DATASETS}/{NAME}":
            states = {"cached": self.cached[0], "cachedPercentage": self.share}
            return {"status": {"phase": self.phase, "ufsTotal": "641.30GiB", "cacheStates": states}}
        assert path == f"{LOADS}/{NAME}"
        life = self.lives[0]
        if self.deleting:
            # Its finalizer takes one look, and then it is gone.
            self.deleting = False
            self.lives[0] = [None]
            return {"metadata": {"deletionTimestamp": "now"}, "status": life[0]}
        status = life.pop(0) if len(life) > 1 else life[0]
        return None if status is None else {"metadata": {"creationTimestamp": self.created}, "status": status}

    def create(self, path: str, body: object) -> None:
        assert path == LOADS
        self.made.append(body)
        del self.lives[0]

    def delete(self, path: str) -> None:
        assert path == f"{LOADS}/{NAME}"
        self.deleting = True
        del self.cached[: len(self.cached) > 1]


def run(fluid: Fluid, seconds: float = 600) -> str | None:
    return fill(fluid, MANIFEST, seconds=seconds, clock=FakeClock())


class TestFill:
    def test_end_is_waited_for(self) -> None:
        fluid = Fluid([{}, {"phase": "Pending"}, EXECUTING, EXECUTING, COMPLETE])
        assert run(fluid) is None
        assert fluid.made == []

    def test_cache_that_was_filled_before_is_left_alone(self) -> None:
        fluid = Fluid([COMPLETE])
        assert run(fluid) is None
        assert fluid.made == []

    def test_what_was_filled_before_must_stay_so_a_while(self) -> None:
        """Fluid still reports what workers had that are gone."""

        class Shrinking(Fluid):
            def get(self, path: str) -> dict[str, Any] | None:
                self.looks = getattr(self, "looks", 0) + 1
                if self.made:
                    self.share = "100.0%"
                elif self.looks > 10:
                    self.share = "50.0%"
                return super().get(path)

        fluid = Shrinking([COMPLETE], [EXECUTING, COMPLETE])
        assert run(fluid) is None
        assert fluid.made == [MANIFEST]

    @pytest.mark.parametrize(
        ("created", "seconds"), [("2026-01-02T02:49:06Z", 0), ("2026-01-02T02:49:05Z", SETTLE_SECONDS)]
    )
    def test_what_this_update_has_filled_need_not(self, created: str, seconds: int) -> None:
        fluid, clock = Fluid([COMPLETE]), FakeClock()
        fluid.created = created
        assert fill(fluid, MANIFEST, seconds=600, clock=clock) is None
        assert clock.time == seconds

    def test_part_of_it_is_not_enough(self) -> None:
        fluid = Fluid([EXECUTING, COMPLETE])
        fluid.share = "57.3%"
        assert run(fluid) == (
            "its DataLoad is complete, but the Dataset reports only 641.30GiB of 641.30GiB as cached (57.3%)"
        )

    def test_cache_that_no_controller_looks_at_is_given_up_soon(self) -> None:
        fluid, clock = Fluid([{}]), FakeClock()
        fluid.phase = ""
        problem = fill(fluid, MANIFEST, seconds=3600, clock=clock)
        assert problem is not None
        assert problem.startswith("no controller has handled its Dataset for 300 s: the cluster has the definitions")
        assert IGNORED_SECONDS <= clock.time < 2 * IGNORED_SECONDS

    def test_dataset_that_waits_for_its_workers_is_waited_for(self) -> None:
        assert run(Fluid([{}]), 500) == "its DataLoad was not finished after 500 s"

    def test_failure_of_its_own_is_told(self) -> None:
        fluid = Fluid([EXECUTING, FAILED])
        assert run(fluid) == FAILED_TEXT
        assert fluid.made == []

    def test_failure_before_it_is_repeated(self, capsys: pytest.CaptureFixture[str]) -> None:
        fluid = Fluid([FAILED], [EXECUTING, COMPLETE])
        assert run(fluid) is None
        assert fluid.made == [MANIFEST]
        assert f"{FAILED_TEXT}, before this run; recreating it\n" in capsys.readouterr().out

    def test_repetition_that_fails_is_told_and_not_repeated(self) -> None:
        fluid = Fluid([FAILED], [FAILED])
        assert run(fluid) == FAILED_TEXT
        assert fluid.made == [MANIFEST]

    def test_empty_cache_of_its_own_is_told(self) -> None:
        assert run(Fluid([EXECUTING, COMPLETE], cached=["0.00B"])) == EMPTY_TEXT

    def test_empty_cache_before_it_is_repeated(self) -> None:
        fluid = Fluid([COMPLETE], [EXECUTING, COMPLETE], cached=["0.00B", "641.30GiB"])
        assert run(fluid) is None
        assert fluid.made == [MANIFEST]

    def test_each_preload_has_time_to_report_what_it_cached(self) -> None:
        fluid = Fluid([COMPLETE], [COMPLETE], cached=["0.00B"])
        clock = FakeClock()
        assert fill(fluid, MANIFEST, seconds=600, clock=clock) == EMPTY_TEXT
        assert clock.time >= 2 * SETTLE_SECONDS

    def test_report_that_is_late_does_not_fail(self) -> None:
        class Late(Fluid):
            def get(self, path: str) -> dict[str, Any] | None:
                self.looks = getattr(self, "looks", 0) + 1
                self.cached = ["0.00B" if self.looks < 10 else "641.30GiB"]
                return super().get(path)

        fluid = Late([EXECUTING, COMPLETE])
        assert run(fluid) is None
        assert fluid.made == []

    def test_one_that_was_deleted_half_way_is_made(self) -> None:
        """The program was ended between deletion and making."""
        fluid = Fluid([None], [EXECUTING, COMPLETE])
        assert run(fluid) is None
        assert fluid.made == [MANIFEST]

    def test_time_that_is_up(self) -> None:
        assert run(Fluid([EXECUTING]), 15) == "its DataLoad was not finished after 15 s"

    def test_answers_that_fail_are_asked_for_again(self) -> None:
        assert run(Fluid([COMPLETE], errors=[ApiError("down"), ApiError("down")])) is None

    def test_answers_that_fail_to_the_end_are_told(self) -> None:
        fluid = Fluid([COMPLETE], errors=[ApiError(f"GET x: down {n}") for n in range(99)])
        assert run(fluid, 10) == "its DataLoad was not finished after 10 s (GET x: down 4)"

    def test_denied_is_told_at_once(self) -> None:
        fluid = Fluid([COMPLETE], errors=[DeniedError("GET x: 403 Forbidden")])
        assert run(fluid) == "the API server denies its service account GET x: 403 Forbidden"

    def test_what_does_not_change_is_said_once(self, capsys: pytest.CaptureFixture[str]) -> None:
        run(Fluid([EXECUTING]), 60)
        assert capsys.readouterr().out == "its DataLoad is Executing, 100.0% cached\n"


class TestOutcome:
    @pytest.mark.parametrize(
        ("load", "dataset", "problem"),
        [
            (COMPLETE, {"cacheStates": {"cached": "641.30GiB"}}, None),
            (COMPLETE, {"cacheStates": {"cached": "0.05GiB"}}, None),
            (COMPLETE, {"cacheStates": {"cached": "0.05GiB", "cachedPercentage": "0.1%"}}, None),
            (COMPLETE, {"cacheStates": {"cached": "9GiB", "cachedPercentage": "0.0%"}, "ufsTotal": "0.00B"}, None),
            (COMPLETE, {"cacheStates": {"cached": "9GiB", "cachedPercentage": "95.0%"}, "ufsTotal": "9.50GiB"}, None),
            (
                COMPLETE,
                {"cacheStates": {"cached": "9GiB", "cachedPercentage": "94.9%"}, "ufsTotal": "9.50GiB"},
                "its DataLoad is complete, but the Dataset reports only 9GiB of 9.50GiB as cached (94.9%)",
            ),
            (FAILED, {}, FAILED_TEXT),
            ({"phase": "Failed"}, {}, "its DataLoad ended as Failed"),
            (COMPLETE, {"cacheStates": {"cached": "0.00B"}}, EMPTY_TEXT),
            (COMPLETE, {}, "its DataLoad is complete, but the Dataset reports nothing as cached"),
        ],
    )
    def test_each(self, load: Mapping[str, Any], dataset: Mapping[str, Any], problem: str | None) -> None:
        assert preload_problem(load, dataset) == problem

    def test_progress(self) -> None:
        assert progress({}, {}) == "its DataLoad is new"
        share = {"cacheStates": {"cachedPercentage": "37.0%"}}
        assert progress(EXECUTING, share) == "its DataLoad is Executing, 37.0% cached"

    def test_failure_names_the_layer_what_to_look_at_and_how_to_go_on(self) -> None:
        text = failed(FAILED_TEXT, NAMESPACE, NAME)
        assert text.startswith(f"Fluid cache n/llm-cache-1: {FAILED_TEXT}. No GPU pod was started")
        assert "kubectl --namespace n describe dataload,dataset,jindoruntime llm-cache-1" in text
        assert "kubectl --namespace n logs job/llm-cache-1-loader-job" in text
        assert "pulumi up " in text
        assert "--replace" not in text

    def test_start_names_them_too(self) -> None:
        text = watched(NAMESPACE, NAME, 15)
        assert text.startswith("Fluid cache n/llm-cache-1: waiting up to 15 s for its DataLoad\n")
        assert "logs job/llm-cache-1-loader-job" in text


@pytest.mark.parametrize(
    ("host", "url"), [("10.96.0.1", "https://10.96.0.1:443"), ("fd00::1", "https://[fd00::1]:443")]
)
def test_address_of_the_api_server(host: str, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    assert in_cluster() == url


class Handler(BaseHTTPRequestHandler):
    """Answers with the status that the path ends with, and what was asked."""

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        asked = {"method": self.command, "token": self.headers["Authorization"], "body": body}
        content = b"no JSON" if self.path.endswith("/text/200") else json.dumps(asked).encode()
        self.send_response(int(self.path.rpartition("/")[2]))
        self.send_header("Location", "/200")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_DELETE = _answer  # noqa: N815

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.mark.integration
class TestApiServer:
    @pytest.fixture
    def api(self, tmp_path: Path) -> Iterator[ApiServer]:
        (tmp_path / "token").write_text("first\n")
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield ApiServer(f"http://127.0.0.1:{server.server_port}", tmp_path)
        server.shutdown()
        server.server_close()

    def test_token_is_read_each_time(self, api: ApiServer, tmp_path: Path) -> None:
        assert api.get("/200") == {"method": "GET", "token": "Bearer first", "body": ""}
        (tmp_path / "token").write_text("second")
        found = api.get("/200")
        assert found is not None
        assert found["token"] == "Bearer second"

    def test_what_is_there_or_gone_already_is_fine(self, api: ApiServer) -> None:
        assert api.get("/404") is None
        api.delete("/404")
        api.create("/409", MANIFEST)

    @pytest.mark.parametrize(
        ("path", "kind", "text"),
        [
            ("/500", ApiError, "GET /500: 500 Internal Server Error"),
            ("/403", DeniedError, "GET /403: 403 Forbidden"),
            ("/401", DeniedError, "GET /401: 401 Unauthorized"),
            ("/text/200", ApiError, "GET /text/200: Expecting value"),
            # The token would go along.
            ("/302", ApiError, "GET /302: 302 Found"),
            ("/307", ApiError, "GET /307: 307 Temporary Redirect"),
        ],
    )
    def test_other_answers(self, path: str, kind: type[ApiError], text: str, api: ApiServer) -> None:
        with pytest.raises(kind, match=text) as caught:
            api.get(path)
        assert type(caught.value) is kind
        assert "first" not in str(caught.value)

    def test_no_server_there(self, tmp_path: Path) -> None:
        (tmp_path / "token").write_text("t")
        with pytest.raises(ApiError, match=r"GET /x: .*refused"):
            ApiServer("http://127.0.0.1:1", tmp_path).get("/x")
