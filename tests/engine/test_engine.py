"""What the program emits, with a real vLLM 0.32: leader and worker in pipeline 2 by native mp, the request filter in
front. The tests run in the order of this file; the last ones break the group."""

import http.client
import json
import re
import secrets
import signal
import sys
import time
from functools import partial
from itertools import islice

import pytest

from deepseek_acs.chatclient import Client
from deepseek_acs.gate.exam import Examiner, Paper, Question
from deepseek_acs.gate.judgement import Limits, wrong
from deepseek_acs.gate.record import Record
from deepseek_acs.planner.metrics import EngineMetrics
from deepseek_acs.planner.vllm import RENDEZVOUS_PORTS
from tests.engine.pods import KEYS, Group
from tests.engine_metrics import RECORDED, VERSION, as_text, exported, recorded, used
from tests.integration.filter_cases import CASES, ask_by, case, filled, is_refused, should_pass
from tests.unit.conftest import ROOT

PROBE = str(ROOT / "deepseek_acs" / "engineprobe" / "program.py")
CHAT = {"model": "ds", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 16}
CLIENT = KEYS["client-chat"]
STALL_SECONDS = 30
GATE_TOKENS, LOAD_TOKENS = 24, 8
MIB = 2**20
PATIENCE_SECONDS = 120
"""Until a probe has failed; far less than vLLM's own five minutes."""


def check_engine(group: Group) -> tuple[int, str]:
    """What the leader's liveness probe says."""
    state = group.leader.log.with_name("engineprobe.json")
    options = ["--port=8000", f"--stall-seconds={STALL_SECONDS}", "--model=ds", "--canary", f"--state-file={state}"]
    done = group.leader.run(sys.executable, PROBE, "check-engine", *options, VLLM_API_KEY=KEYS["VLLM_API_KEY"])
    return done.returncode, done.stdout.strip()


def failure(group: Group) -> str:
    """Waits until the probe fails; what it says."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (found := check_engine(group))[0] == 0:
        assert time.monotonic() < deadline
        time.sleep(STALL_SECONDS / 6)
    return found[1]


def metrics(group: Group) -> str:
    return group.ask("/metrics", key=KEYS["metrics"]).body.decode()


def test_a_chat(group: Group) -> None:
    answer = group.ask("/v1/chat/completions", CHAT, key=CLIENT)
    assert answer.status == 200
    assert answer.json["usage"]["completion_tokens"] == 16
    assert answer.json["system_fingerprint"].startswith("vllm-0.32.0-pp2")


def test_a_stream(group: Group) -> None:
    answer = group.ask("/v1/chat/completions", {**CHAT, "stream": True, "ignore_eos": True}, key=CLIENT)
    events = [line[6:] for line in answer.body.decode().splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    assert all(json.loads(event)["object"] == "chat.completion.chunk" for event in events[:-1])
    assert len(events) > 10


@pytest.mark.parametrize("path", ["/v1/models", "/metrics", "/version", "/docs", "/openapi.json", "/load"])
def test_nothing_but_health_is_open(path: str, group: Group) -> None:
    assert group.ask("/health").status == 200
    assert group.ask(path).status in (401, 404)
    assert group.ask(path, key="wrong").status in (401, 404)


def test_keys_open_what_they_are_for(group: Group) -> None:
    assert [group.ask("/metrics", key=KEYS[name]).status for name in ("metrics", "client-chat")] == [200, 401]
    assert [group.ask("/v1/models", key=KEYS[name]).status for name in ("metrics", "client-chat")] == [401, 200]
    assert group.ask("/tokenize", {"model": "ds", "prompt": "x"}, key=CLIENT).status == 404


def test_only_what_is_allowed_answers(group: Group) -> None:
    """All routes that the engine says it has, asked in all ways of tests/integration/filter_cases.py."""
    routes = re.findall(r"Route: (\S+), Methods: (.*)", group.leader.log.read_text())
    cases = {**CASES, "body over the limit": case(body=json.dumps({"prompt": "a" * MIB}).encode())}
    wrong, passed = [], set()
    for route, methods in routes:
        for method in methods.split(", "):
            for name, asked in cases.items():
                answer = ask_by(group.connected(), asked.request(method, filled(route)))
                expected = should_pass(method, filled(route), asked, body_bytes=MIB)
                if is_refused(answer) == expected:
                    wrong.append((method, route, name, answer))
                elif expected:
                    passed.add(route)
    assert not wrong
    assert {"/health", "/metrics", "/v1/models", "/v1/chat/completions", "/v1/completions"} <= passed
    assert {"/invocations", "/tokenize", "/version"} <= {route for route, _ in routes} - passed


def test_the_verifier(group: Group) -> None:
    command = [sys.executable, "-m", "deepseek_acs.verifier", "--url", "http://127.0.0.1:8000", "--model", "ds"]
    done = group.leader.run(*command, VLLM_API_KEY=CLIENT, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stdout
    for layer in ("Service", "engine", "model", "completion", "API key"):
        assert re.search(rf"^ok +{layer} ", done.stdout, re.MULTILINE), done.stdout


@pytest.mark.faults
def test_equal_weights_pass_the_gate_ten_times_in_a_row(group: Group) -> None:
    """The questions are what the engine itself has answered first. Of a random model most answers are blank."""

    def client(_: str, __: float) -> Client:
        return Client(connect=lambda: connected(group), key=CLIENT)

    def answer(prompt: str) -> str:
        return client("", 0).complete("ds", prompt, max_tokens=GATE_TOKENS).text

    questions = (Question(ask=prompt, holds=(answer(prompt),)) for prompt in map("What is {} + 25?".format, range(40)))
    spoken = tuple(islice((one for one in questions if one.holds[0].strip()), 3))
    assert len(spoken) == 3
    paper = Paper(
        questions=spoken,
        max_tokens=GATE_TOKENS,
        # Blanks are no answer to a long prompt.
        long_tokens=0,
        requests=2,
        concurrency=2,
        output_tokens=LOAD_TOKENS,
    )
    # Others of this machine need its two cores, too.
    limits = Limits(at_least=1, worse_by=0, slower_by=3)
    examiner = Examiner(client, "ds", paper, limits, partial(secrets.token_hex, 4), silence_seconds=60, long_seconds=60)
    first = examiner.examine("", None)
    known = Record(
        template_digest="0a1b2c3d",
        image_digest="",
        revision="",
        exam=examiner.exam,
        asked=first.asked,
        passed=first.passed,
        first_token_seconds=first.speed.first_token_seconds if first.speed else None,
        tokens_per_second=first.speed.tokens_per_second if first.speed else None,
        accepted_at="",
        template={},
    )
    assert [wrong(limits, examiner.examine("", known), known, exam=examiner.exam) for _ in range(10)] == [""] * 10


def connected(group: Group) -> http.client.HTTPConnection:
    found = http.client.HTTPConnection("127.0.0.1", 8000)
    found.sock = group.connected()
    found.sock.settimeout(PATIENCE_SECONDS)
    return found


def test_metrics_are_those_that_were_recorded(group: Group, request: pytest.FixtureRequest) -> None:
    found = exported(metrics(group))
    if request.config.getoption("--update-golden"):
        RECORDED.write_text(as_text(found))
    for reader, names in used().items():
        assert names <= found.keys(), reader
    assert recorded() == exported_names(found)


def exported_names(found: dict[str, set[str]]) -> dict[str, set[str]]:
    return {line.split()[0]: set(line.split()[1:]) for line in as_text(found).splitlines()}


def test_histograms_end_where_the_alerts_think(group: Group) -> None:
    known, text = EngineMetrics(version=VERSION), metrics(group)
    for name, longest in (
        (known.first_token_latency, known.longest_first_token_seconds),
        (known.inter_token_latency, known.longest_inter_token_seconds),
    ):
        bounds = re.findall(rf'^{name}_bucket{{.*le="([\d.]+)"', text, re.MULTILINE)
        assert max(map(float, bounds)) == longest


def test_the_probes_of_a_healthy_group(group: Group) -> None:
    assert check_engine(group) == (0, "ok")
    port = RENDEZVOUS_PORTS["mp"]
    done = group.worker.run(sys.executable, PROBE, "check-leader", f"--port={port}", LWS_LEADER_ADDRESS="10.99.0.1")
    assert (done.returncode, done.stdout) == (0, "ok\n")


def test_a_worker_waits_for_its_own_leader(group: Group) -> None:
    """With which it has connections, all the time."""
    log = group.worker.log.with_name("outlast.log")
    options = [f"--port={RENDEZVOUS_PORTS['mp']}", "--seconds=12", f"--log-file={log}"]
    done = group.worker.run(sys.executable, PROBE, "outlast", *options, LWS_LEADER_ADDRESS="10.99.0.1")
    assert done.returncode == 0
    assert log.read_text() == "engineprobe: the leader is still there after 12 s\n"


def test_a_worker_that_hangs(group: Group) -> None:
    """Without requests under way, which no metric shows."""
    assert check_engine(group) == (0, "ok")
    group.worker.send_signal(signal.SIGSTOP)
    try:
        assert failure(group).startswith("no answer to a request for one token for ")
        assert group.status("/health") == 200, "vLLM's own check sees nothing"
    finally:
        group.worker.send_signal(signal.SIGCONT)
    assert group.ask("/v1/chat/completions", CHAT, key=CLIENT).status == 200
    assert check_engine(group) == (0, "ok")


def test_a_worker_that_dies(group: Group) -> None:
    """LeaderWorkerSet recreates the group because of the worker; vLLM itself notices after five minutes only."""
    assert check_engine(group) == (0, "ok")
    group.worker.send_signal(signal.SIGKILL)
    assert failure(group).startswith("no answer to a request for one token for ")
    assert group.status("/health") == 200, "vLLM's own check sees nothing"
