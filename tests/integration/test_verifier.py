"""The verifier against a server that plays the engine, with every fault, and the layer that is named for it."""

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPConnection
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from components.request_filter import KEYS_PATH, RequestFilterArgs
from deepseek_acs.chatclient import MAX_TOKENS, Client
from deepseek_acs.planner.api_paths import API_PATHS
from deepseek_acs.verifier import __main__ as program
from deepseek_acs.verifier import checks
from deepseek_acs.verifier.cluster import ApiServer, version
from deepseek_acs.verifier.inside import Patience, verify_inside
from deepseek_acs.verifier.results import EXIT_CODES, FaultError, Layer, Report
from deepseek_acs.verifier.target import Target
from local.faults import Fault
from local.http_service import RefusedError, Request, Response, Service
from local.openai.metrics import GAUGES
from local.openai.middleware import Middleware
from local.openai.server import OWNER, SENTENCE, OpenAiServer, Reply, Served

pytestmark = pytest.mark.integration

KEY, CLIENT_KEY = "key-that-nobody-may-see", "key-of-a-client"
DS = frozenset({"ds"})
AT_ONCE = Patience(seconds=0)
SILENCE_SECONDS = 0.3
LONG_SECONDS = 600
"""A fault of this length ends with the test: its server does not wait it out."""


@dataclass
class Engine:
    """A server, and what a verification of it says."""

    server: OpenAiServer
    served: Served
    key: str | None = None
    filtered: bool = True
    timeout_seconds: float = 30
    report: Report = field(default_factory=Report)

    def verify(self) -> Report:
        self.report = Report()
        verify_inside(
            self.report,
            self.server.url,
            "ds",
            key=self.key,
            filtered=self.filtered,
            timeout_seconds=self.timeout_seconds,
            patience=AT_ONCE,
        )
        return self.report

    def at_fault(self) -> tuple[Layer, str]:
        fault = self.verify().fault
        assert fault is not None
        assert fault.fix
        return fault.layer, fault.text


@pytest.fixture
def start() -> Iterator[Callable[..., Engine]]:
    with contextlib.ExitStack() as servers:

        def run(
            *faults: Fault,
            keys: Any = (),
            models: Any = DS,
            key: str | None = None,
            with_filter: bool = True,
            **reply: Any,
        ) -> Engine:
            middlewares = tuple(map(request_filter, keys)) if with_filter else ()
            served = Served(models=frozenset(models), keys=frozenset(keys), middlewares=middlewares)
            server = servers.enter_context(OpenAiServer(lambda: served, reply=Reply(**reply)))
            server.faults.add(*faults)
            return Engine(server, served, key)

        yield run


Start = Callable[..., Engine]


def request_filter(key: str) -> Middleware:
    """As a pod has it."""
    args = RequestFilterArgs(
        paths=API_PATHS["generate"],
        header_bytes=8192,
        body_bytes=2**20,
        sequences=8,
        prompt_characters=10**5,
        prompt_tokens=10**4,
    )
    source = files("deepseek_acs.requestfilter").joinpath("program.py").read_bytes()
    return Middleware(
        name="requestfilter.RequestFilter",
        files={"requestfilter.py": source, "settings.json": args.settings.encode()},
        folders={KEYS_PATH: {"VLLM_API_KEY": key.encode(), "client-chat": CLIENT_KEY.encode(), "metrics": b"m" * 32}},
    )


def always(action: str, path: str, **more: Any) -> Fault:
    return Fault.model_validate({"action": action, "path": path, "times": None, **more})


class TestHealthy:
    def test_every_layer_with_a_key(self, start: Start) -> None:
        report = start(keys=[KEY], key=KEY).verify()
        assert report.exit_code == 0
        states = {str(result.layer): result.state for result in report.results}
        assert states == {
            "DNS": "skipped",
            "Service": "passed",
            "engine": "passed",
            "model": "passed",
            "completion": "passed",
            "API key": "passed",
        }
        texts = {result.layer: result.text for result in report.results}
        assert texts[Layer.COMPLETION].startswith(f"{MAX_TOKENS} tokens (length), the first after ")
        assert texts[Layer.MODEL] == f"ds is listed, owned by {OWNER}"
        assert [result.text for result in report.results if result.layer is Layer.KEY] == [
            "without the key, with an empty and with a wrong one the engine refuses (401)",
            "so are /invocations, /tokenize, a bent Host",
        ]

    def test_without_a_key_that_step_is_skipped(self, start: Start) -> None:
        report = start().verify()
        assert report.exit_code == 0
        assert report.results[-1].state == "skipped"

    def test_answer_that_ends_by_itself(self, start: Start) -> None:
        report = start(text="Short.").verify()
        assert any("1 tokens (stop)" in result.text for result in report.results)

    def test_speed_is_measured_between_the_tokens(self, start: Start) -> None:
        engine = start()
        times = iter([0.0, 2.0, *(2.5 + 0.5 * n for n in range(40))])
        client = Client(connect=_connect(engine), clock=lambda: next(times))
        completion = client.complete("ds")
        assert completion.first_token_seconds == 2.0
        assert completion.tokens_per_second == pytest.approx(2.0)


class TestFaults:
    def test_no_process_listens(self) -> None:
        with OpenAiServer(lambda: Served(models=DS)) as server:
            url = server.url
        report = Report()
        verify_inside(report, url, "ds", key=None, timeout_seconds=1, patience=AT_ONCE)
        assert report.fault is not None
        assert report.fault.layer is Layer.SERVICE

    @pytest.mark.parametrize(
        ("fault", "layer", "text"),
        [
            (always("answer", "^/health"), Layer.ENGINE, "/health: HTTP 503: a fault on demand: the engine behind"),
            (always("reset-request", "^/health"), Layer.ENGINE, "/health: the connection broke (ConnectionResetError)"),
            (always("answer", "^/v1/models", status=500), Layer.ENGINE, "/v1/models: HTTP 500"),
            (always("answer", "^/v1/chat", status=500), Layer.ENGINE, "the chat completion: HTTP 500"),
            (always("answer", "^/v1/chat", status=400), Layer.COMPLETION, "the chat completion: HTTP 400"),
            (always("answer", "^/v1/chat", status=404), Layer.MODEL, "the chat completion: HTTP 404"),
            (always("reset-response", "^/v1/chat", offset=300), Layer.ENGINE, "the connection broke"),
            (
                always("truncate-response", "^/v1/chat", offset=300),
                Layer.COMPLETION,
                "the stream ended before its end mark",
            ),
        ],
    )
    def test_of_the_engine(self, start: Start, fault: Fault, layer: Layer, text: str) -> None:
        found, said = start(fault).at_fault()
        assert found is layer
        assert text in said

    def test_engine_that_hangs_behind_a_live_server(self, start: Start) -> None:
        engine = start(always("delay", "^/v1/chat", seconds=LONG_SECONDS))
        engine.timeout_seconds = SILENCE_SECONDS
        layer, text = engine.at_fault()
        assert layer is Layer.ENGINE
        assert text == "the chat completion: no byte in 0.3 s: the engine behind the server hangs"
        assert [r.state for r in engine.report.results if r.layer is Layer.MODEL] == ["passed"]

    def test_other_model(self, start: Start) -> None:
        assert start(models=["other"]).at_fault() == (Layer.MODEL, "the engine serves other, not ds")

    def test_key_is_asked_for_and_none_is_given(self, start: Start) -> None:
        layer, text = start(keys=[KEY]).at_fault()
        assert (layer, text) == (Layer.KEY, "/v1/models: the engine refuses this key, or requires one")

    def test_wrong_key_is_never_shown(self, start: Start) -> None:
        engine = start(keys=["other"], key=KEY)
        layer, text = engine.at_fault()
        assert layer is Layer.KEY
        assert KEY not in text
        assert KEY not in repr(Client(connect=_connect(engine), key=KEY))

    def test_key_that_the_engine_repeats_is_masked(self, start: Start) -> None:
        engine = start(always("answer", "^/v1/models", status=400), key="demand")
        assert engine.at_fault()[1] == "/v1/models: HTTP 400: a fault on ***"

    def test_key_that_is_not_asked_for(self, start: Start) -> None:
        layer, text = start(key=KEY).at_fault()
        assert layer is Layer.KEY
        assert text == "the engine answers without the key: any client that reaches it can use it"

    def test_ways_around_the_engines_own_check(self, start: Start) -> None:
        engine = start(keys=[KEY], key=KEY, with_filter=False)
        said = "without the key it answers to /invocations (HTTP 400), /tokenize (HTTP 400), a bent Host (HTTP 200): "
        assert engine.at_fault() == (Layer.KEY, f"{said}any client that reaches it can use it")
        engine.filtered = False
        report = engine.verify()
        assert report.exit_code == 0
        assert (report.results[-1].state, report.results[-1].text) == (
            "skipped",
            f"{said}service.requestFilter is null",
        )

    def test_a_key_that_is_none(self, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
        """An engine whose list of keys has one too many."""
        monkeypatch.setattr(checks, "WRONG_KEY", CLIENT_KEY)
        engine = start(keys=[KEY, CLIENT_KEY], key=KEY, with_filter=False)
        assert engine.at_fault() == (Layer.KEY, "the engine answers HTTP 200 to a wrong key, not 401")

    @pytest.mark.parametrize(
        ("reply", "text"),
        [
            ({"text": ""}, "the answer has no tokens"),
            ({"total_tokens": 3}, "the counts do not agree: 9 tokens of prompt and 16 of answer are 3"),
        ],
    )
    def test_answer_that_is_none(self, start: Start, reply: dict[str, Any], text: str) -> None:
        layer, said = start(**reply).at_fault()
        assert layer is Layer.COMPLETION
        assert said.startswith(text)

    def test_answer_of_one_character_is_warned_about(self, start: Start) -> None:
        report = start(text="!" * 16).verify()
        assert report.exit_code == 0
        texts = [result.text for result in report.results if result.layer is Layer.COMPLETION]
        assert "; warning: it is one character 16 times, as from damaged weights" in texts[0]
        assert not [result for result in start().verify().results if "warning" in result.text]


class TestCommand:
    def test_lines_verdict_and_exit_code(
        self, start: Start, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        engine = start(keys=[KEY])
        arguments = [f"--url={engine.server.url}", "--model=ds", "--patience=0"]
        monkeypatch.setenv("VLLM_API_KEY", KEY)
        assert program.main(arguments) == 0
        said = capsys.readouterr().out
        assert said.splitlines()[-1] == "The endpoint answers."
        assert KEY not in said
        monkeypatch.setenv("VLLM_API_KEY", "wrong")
        assert program.main([*arguments, "--json"]) == EXIT_CODES[Layer.KEY]
        assert json.loads(capsys.readouterr().out)["atFault"] == "API key"


def _connect(engine: Engine) -> Any:
    port = urlsplit(engine.server.url).port
    return partial(HTTPConnection, "127.0.0.1", port, timeout=30)


class FakeApiServer(Service):
    """Objects by path; asks for a token."""

    def handle(self, request: Request) -> Response:
        if request.headers.get("Authorization") != "Bearer token-1":
            raise RefusedError(401, "Unauthorized")
        if request.path == "/version":
            return Response.json({"gitVersion": "v1.36.3", "query": request.query})
        raise RefusedError(404 if request.path == "/absent" else 403, "no")


class TestApiServer:
    def api(self, url: str, folder: Path, token: str = "token-1") -> ApiServer:
        kubeconfig = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": url}}],
            "users": [{"name": "u", "user": {"token": token}}],
        }
        path = folder / "kubeconfig"
        path.write_text(json.dumps(kubeconfig))
        return ApiServer(Target(model="ds", namespace="n", group="g", service="s", port=80, kubeconfig=str(path)))

    def test_reads_objects(self, tmp_path: Path) -> None:
        with FakeApiServer() as server:
            api = self.api(server.url, tmp_path)
            assert version(api).text == "Kubernetes v1.36.3 answers"
            found = api.get("/version", labelSelector="a/b=c,d=e")
            assert found is not None
            assert found["query"] == {"labelSelector": "a/b=c,d=e"}
            assert api.get("/absent") is None

    def test_refusals_and_silence_are_faults_of_the_api_server(self, tmp_path: Path) -> None:
        with FakeApiServer() as server:
            with pytest.raises(FaultError, match="refuses to read /secret: 403") as refused:
                self.api(server.url, tmp_path).get("/secret")
            with pytest.raises(FaultError, match="refuses to read /version: 401") as unauthorized:
                self.api(server.url, tmp_path, "wrong-token").get("/version")
        with pytest.raises(FaultError, match="does not answer") as silent:
            self.api(server.url, tmp_path).get("/version")
        for raised in (refused, unauthorized, silent):
            assert raised.value.layer is Layer.API
            assert "token" not in raised.value.problem
            assert raised.value.fix.startswith("kubectl --kubeconfig")


class TestOfficialClient:
    """The server of the embedded cluster, by a client that is not ours."""

    def client(self, engine: Engine, key: str = KEY) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{engine.server.url}/v1", api_key=key, max_retries=0)

    def test_chat(self, start: Start) -> None:
        client = self.client(start(keys=[KEY]))
        assert [model.id for model in client.models.list()] == ["ds"]
        answer = client.chat.completions.create(model="ds", messages=[{"role": "user", "content": "a b"}], max_tokens=3)
        assert answer.choices[0].message.content == "This is a"
        assert answer.choices[0].finish_reason == "length"
        assert answer.usage is not None
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (2, 3, 5)

    def test_stream_gives_the_same(self, start: Start) -> None:
        client = self.client(start(keys=[KEY]))
        events = list(
            client.chat.completions.create(
                model="ds",
                messages=[{"role": "user", "content": "a b"}],
                stream=True,
                stream_options={"include_usage": True},
            )
        )
        assert "".join(event.choices[0].delta.content or "" for event in events[:-1]) == SENTENCE
        assert events[-2].choices[0].finish_reason == "stop"
        assert events[-1].choices == []
        assert events[-1].usage is not None
        assert events[-1].usage.completion_tokens == len(SENTENCE.split())

    def test_completion(self, start: Start) -> None:
        answer = self.client(start(keys=[KEY])).completions.create(model="ds", prompt="a", max_tokens=2)
        assert answer.choices[0].text == "This is"

    def test_refusals(self, start: Start) -> None:
        engine = start(keys=[KEY])
        with pytest.raises(openai.AuthenticationError):
            self.client(engine, "wrong").models.list()
        with pytest.raises(openai.NotFoundError):
            self.client(engine).completions.create(model="other", prompt="a")
        with pytest.raises(openai.BadRequestError):
            self.client(engine).chat.completions.create(model="ds", messages=[])

    def test_clients_of_the_filter_and_its_refusals(self, start: Start) -> None:
        engine = start(keys=[KEY])
        assert self.client(engine, CLIENT_KEY).completions.create(model="ds", prompt="a", max_tokens=1)
        with pytest.raises(openai.BadRequestError, match="asks for 9 answers"):
            self.client(engine).completions.create(model="ds", prompt="a", n=9)
        with pytest.raises(openai.NotFoundError):
            self.client(engine).embeddings.create(model="ds", input="a")

    def test_metrics_need_no_key_and_have_vllms_names(self, start: Start) -> None:
        engine = start(keys=[KEY], with_filter=False)
        self.client(engine).completions.create(model="ds", prompt="a b", max_tokens=2)
        connection = _connect(engine)()
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        values = {(sample.name, sample.labels.get("finished_reason")): sample.value for sample in samples}
        http = [sample for sample in samples if sample.name == "http_requests_total"]
        assert [(sample.labels["status"], sample.value) for sample in http] == [("2xx", 1)]
        assert {sample.labels["model_name"] for sample in samples if sample.name.startswith("vllm:")} == {"ds"}
        assert {values[name, None] for name in GAUGES} == {0}
        assert values["vllm:prompt_tokens_total", None] == 2
        assert values["vllm:generation_tokens_total", None] == 2
        assert values["vllm:request_success_total", "length"] == 1
