"""What the filter says of a request, by itself; tests/integration/test_request_filter.py has it in a server."""

import asyncio
import importlib.util
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from deepseek_acs.requestfilter.program import (
    REFUSED_FIELDS,
    RequestFilter,
    Settings,
    read_keys,
    read_settings,
)

KEY, CLIENT_KEY = b"k" * 64, b"c" * 64
TOKENS = 100


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("keys")
    (folder / "VLLM_API_KEY").write_bytes(KEY)
    (folder / "client-chat").write_bytes(CLIENT_KEY)
    return Settings(
        paths=("POST /v1/completions", "POST /v1/responses/{id}/cancel"),
        keys=str(folder),
        header_bytes=2048,
        body_bytes=100_000,
        sequences=8,
        prompt_characters=1000,
        prompt_tokens=TOKENS,
    )


class Asked:
    """The answer to one request, and what the engine saw of it."""

    def __init__(self, settings: Settings, *messages: dict[str, Any], **scope: Any) -> None:
        self.sent: list[Any] = []
        self.seen: dict[str, Any] | None = None
        self.body = b""
        path = scope.pop("path", "/v1/completions")
        given = {
            "type": "http",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(b"host", b"leader"), (b"authorization", b"Bearer " + KEY)],
            **scope,
        }
        left = iter(messages)

        async def receive() -> Any:
            return next(left)

        async def send(message: Any) -> None:
            self.sent.append(message)

        asyncio.run(RequestFilter(self._engine, settings)(given, receive, send))

    async def _engine(self, scope: Any, receive: Any, send: Any) -> None:
        self.seen = scope
        if scope["method"] == "POST":
            self.body = (await receive())["body"]

    @property
    def status(self) -> int:
        return self.sent[0]["status"] if self.sent else 200

    @property
    def message(self) -> str:
        return str(json.loads(self.sent[1]["body"])["error"]["message"])


def piece(body: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


def complete(settings: Settings, request: Any) -> Asked:
    return Asked(settings, piece(request if isinstance(request, bytes) else json.dumps(request).encode()))


class TestRequests:
    @pytest.mark.parametrize(
        "request_",
        [
            {"prompt": "a", "n": 8},
            {"prompt": ["a", "b"], "n": 4, "best_of": None},
            {"prompt": list(range(TOKENS))},
            {"prompt": [[1, 2], [3]], "n": 4},
            {"messages": [{"role": "user", "content": "a" * 900}]},
            {"input": ["a" * 900] * 20},
            {"prompt": "a", "chat_template": None, "chat_template_kwargs": {"thinking": True}},
        ],
    )
    def test_what_an_engine_is_for(self, settings: Settings, request_: Any) -> None:
        asked = complete(settings, request_)
        assert asked.status == 200
        assert json.loads(asked.body) == request_

    @pytest.mark.parametrize(
        ("request_", "message"),
        [
            ({"prompt": "a", "n": 9}, "the request asks for 9 answers, and at most 8 are allowed"),
            ({"prompt": ["a", "b", "c"], "n": 3}, "the request asks for 9 answers"),
            ({"prompt": "a", "best_of": 10**9}, "the request asks for 1000000000 answers"),
            ({"prompt": "a", "n": "100"}, "n is not a whole number"),
            ({"prompt": "a", "n": 2.0}, "n is not a whole number"),
            ({"prompt": "a", "n": True}, "n is not a whole number"),
            ({"prompt": "a" * 1001}, "the prompt is longer than 1000 characters"),
            ({"prompt": ["a", "b" * 1001]}, "the prompt is longer than 1000 characters"),
            ({"prompt": "a", "x": {"y" * 600: ["z" * 600]}}, "the prompt is longer than 1000 characters"),
            ({"messages": [{"content": "a" * 600}, {"content": "b" * 600}]}, "the prompt is longer"),
            ({"prompt": list(range(TOKENS + 1))}, "a prompt is longer than 100 tokens"),
            ({"prompt": [[1], list(range(TOKENS + 1))]}, "a prompt is longer than 100 tokens"),
            ({"prompt": "a", "chat_template_kwargs": {"tokenize": True}}, "chat_template_kwargs.tokenize is not"),
            ({"prompt": [1, -1]}, "a token of a prompt is less than 0"),
            ({"input": [[1], [-1]]}, "a token of a prompt is less than 0"),
            ({"prompt": "a", "min_tokens": TOKENS + 1}, "min_tokens is more than 100"),
            ({"prompt": "a", "min_tokens": "9"}, "min_tokens is not a whole number"),
            ({"prompt": "a", "cache_salt": "s" * 257}, "cache_salt is longer than 256 characters"),
            (b'{"prompt": "a", "temperature": NaN}', "the body is not a JSON object in UTF-8 with each field once"),
            (b'{"prompt": "a", "temperature": -Infinity}', "the body is not a JSON object"),
            (b'{"prompt": "a", "temperature": 1e999}', "the body is not a JSON object"),
            ([], "the body is not a JSON object in UTF-8 with each field once"),
            (b'{"n": 1, "n": 100}', "the body is not a JSON object in UTF-8 with each field once"),
            (b'{"a": {"b": 1, "b": 2}}', "the body is not a JSON object in UTF-8 with each field once"),
            ('{"prompt": "a"}'.encode("utf-16"), "the body is not a JSON object in UTF-8 with each field once"),
            (b"[" * 50_000, "the body is not a JSON object in UTF-8 with each field once"),
            (b"prompt=a", "the body is not a JSON object in UTF-8 with each field once"),
            *(({field: "x"}, f"{field} is not accepted: {why}") for field, why in REFUSED_FIELDS.items()),
        ],
    )
    def test_what_asks_for_too_much(self, settings: Settings, request_: Any, message: str) -> None:
        asked = complete(settings, request_)
        assert asked.status == 400
        assert asked.message.startswith(message)
        assert asked.seen is None


class TestBody:
    def test_pieces_are_put_together(self, settings: Settings) -> None:
        asked = Asked(settings, piece(b'{"prompt":', more=True), piece(b'"a"}'))
        assert asked.body == b'{"prompt":"a"}'

    def test_too_long_is_said_before_it_is_read(self, settings: Settings) -> None:
        head = [(b"authorization", b"Bearer " + KEY), (b"content-length", b"100001")]
        asked = Asked(settings, headers=head)
        assert (asked.status, asked.message) == (413, "the body is longer than 100000 bytes")
        assert (b"connection", b"close") in asked.sent[0]["headers"]

    def test_too_long_without_a_length(self, settings: Settings) -> None:
        asked = Asked(settings, *[piece(b"x" * 60_000, more=True)] * 2)
        assert (asked.status, asked.seen) == (413, None)

    def test_compressed_is_refused(self, settings: Settings) -> None:
        head = [(b"authorization", b"Bearer " + KEY), (b"content-encoding", b"gzip")]
        asked = Asked(settings, headers=head)
        assert (asked.status, asked.message) == (415, "the body must not be compressed")

    def test_client_that_leaves_meanwhile(self, settings: Settings) -> None:
        asked = Asked(settings, piece(b"{", more=True), {"type": "http.disconnect"})
        assert (asked.sent, asked.seen) == ([], None)

    def test_request_without_one(self, settings: Settings) -> None:
        assert Asked(settings, piece(b""), path="/v1/responses/resp_1/cancel").status == 200


class TestHead:
    def test_the_engine_gets_its_own_key_and_no_origin(self, settings: Settings) -> None:
        head = [(b"Authorization", b"Bearer " + CLIENT_KEY), (b"origin", b"https://a"), (b"x", b"y")]
        asked = Asked(settings, piece(b"{}"), headers=head)
        assert asked.seen is not None
        assert asked.seen["headers"] == [(b"x", b"y"), (b"authorization", b"Bearer " + KEY)]

    def test_no_key_reaches_what_needs_none(self, settings: Settings) -> None:
        asked = Asked(settings, method="GET", path="/health")
        assert asked.seen is not None
        assert asked.seen["headers"] == [(b"host", b"leader")]

    @pytest.mark.parametrize(
        ("changes", "status", "message"),
        [
            ({"path": "/invocations"}, 404, "Not Found"),
            ({"path": "/v1/responses/a/b/cancel"}, 404, "Not Found"),
            ({"path": "/v1/responses/../cancel"}, 404, "Not Found"),
            ({"path": "/v1/completions\n"}, 404, "Not Found"),
            ({"raw_path": b"/v1/complet%69ons"}, 404, "Not Found"),
            ({"raw_path": None}, 404, "Not Found"),
            ({"root_path": "/llm"}, 404, "Not Found"),
            ({"method": "OPTIONS"}, 405, "Method Not Allowed"),
            ({"method": "GET"}, 405, "Method Not Allowed"),
            ({"query_string": b"x" * 3000}, 431, "the headers are longer than 2048 bytes"),
            ({"headers": [(b"host", b"leader/x")]}, 400, "the header Host is not the name of a host"),
            ({"headers": [(b"host", b"a"), (b"host", b"b")]}, 400, "the header Host is not the name of a host"),
            ({"headers": []}, 401, "Unauthorized"),
            ({"headers": [(b"authorization", b"Basic " + KEY)]}, 401, "Unauthorized"),
            ({"headers": [(b"authorization", b"Bearer " + KEY + b" ")]}, 401, "Unauthorized"),
            ({"headers": [(b"authorization", b"Bearer")]}, 401, "Unauthorized"),
        ],
    )
    def test_refusals(self, settings: Settings, changes: dict[str, Any], status: int, message: str) -> None:
        asked = Asked(settings, piece(b"{}"), **changes)
        assert (asked.status, asked.message, asked.seen) == (status, message, None)

    def test_a_client_does_not_read_metrics(self, settings: Settings) -> None:
        head = [(b"authorization", b"Bearer " + CLIENT_KEY)]
        assert Asked(settings, method="GET", path="/metrics", headers=head).status == 401
        assert Asked(settings, method="GET", path="/metrics").status == 200

    def test_open_metrics_open_nothing_else(self, settings: Settings) -> None:
        is_open = settings._replace(open_metrics=True)
        assert Asked(is_open, method="GET", path="/metrics", headers=[]).status == 200
        assert Asked(is_open, method="POST", path="/metrics", headers=[]).status == 405
        for path in ("/v1/models", "/metrics/", "/invocations"):
            assert Asked(is_open, method="GET", path=path, headers=[]).status in (401, 404)


class TestFiles:
    def test_keys_are_read_as_kubernetes_lays_them(self, tmp_path: Path) -> None:
        (tmp_path / "..2026").mkdir()
        (tmp_path / "..2026" / "VLLM_API_KEY").write_bytes(KEY)
        (tmp_path / "..data").symlink_to("..2026")
        (tmp_path / "VLLM_API_KEY").symlink_to("..data/VLLM_API_KEY")
        assert read_keys(tmp_path) == {"VLLM_API_KEY": KEY}

    def test_an_empty_key_would_admit_everyone(self, tmp_path: Path) -> None:
        (tmp_path / "VLLM_API_KEY").write_bytes(KEY)
        (tmp_path / "client-a").touch()
        with pytest.raises(ValueError, match=r"the key client-a in .* is empty"):
            read_keys(tmp_path)

    def test_without_the_engines_key(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="has no key VLLM_API_KEY"):
            read_keys(tmp_path)

    def test_without_settings_no_server_is_built(self) -> None:
        with pytest.raises(RuntimeError, match=r"settings\.json is missing next to"):
            RequestFilter(lambda *_: None)  # type: ignore[arg-type]

    def test_settings_that_cannot_be_read_end_the_engine_at_its_start(self, tmp_path: Path) -> None:
        source = files("deepseek_acs.requestfilter").joinpath("program.py").read_text()
        (tmp_path / "requestfilter.py").write_text(source)
        (tmp_path / "settings.json").write_text("{}")
        spec = importlib.util.spec_from_file_location("requestfilter_in_a_pod", tmp_path / "requestfilter.py")
        assert spec is not None
        assert spec.loader is not None
        with pytest.raises(KeyError, match="paths"):
            spec.loader.exec_module(importlib.util.module_from_spec(spec))

    def test_settings(self, tmp_path: Path, settings: Settings) -> None:
        (tmp_path / "settings.json").write_text(json.dumps(settings._asdict()))
        assert read_settings(tmp_path / "settings.json") == settings
