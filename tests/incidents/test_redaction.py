"""Secrets and prompts in lines of logs, as vLLM writes them."""

from pathlib import Path

import pytest

from deepseek_acs.incidents.redaction import SHOWN_CHARACTERS, Redaction

PROMPT = "the patient's name is Ada"
KEY = "k3y-0f-a-Test.zyxwvuts"


@pytest.fixture
def redaction(tmp_path: Path) -> Redaction:
    (tmp_path / "env").mkdir()
    (tmp_path / "VLLM_API_KEY").write_text(f"{KEY}\n")
    (tmp_path / "env" / "SHORT").write_text("on")
    return Redaction(tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        f"INFO 11-29 15:00:00 [logger.py:39] Received request cmpl-1: prompt: {PROMPT!r}, params: SamplingParams(n=1)",
        f'INFO [logger.py:50] Request cmpl-1 details: prompt: "{PROMPT}", prompt_token_ids: [1, 2], lora_request: None',
        f"INFO [logger.py:70] Generated response chatcmpl-1 (streaming): output: {PROMPT!r}, output_token_ids: None",
        f"[{{'type': 'missing', 'input': {{'messages': [{{'role': 'user', 'content': {PROMPT!r}}}]}}}}]",
        f"  Input should be a valid string [type=string_type, input_value=[{PROMPT!r}], input_type=list]",
        f'{{"role": "user", "content": "{PROMPT}"}}',
        f"ChatCompletionRequest(messages=[{{'content': {PROMPT!r}, 'role': 'user'}}], model='ds')",
        f"prompt = {PROMPT!r}",
        f'DEBUG Received messages request {{"model":"ds","system":"{PROMPT}","messages":[]}}',
        f'Request cmpl-1 JSON body: {{"max_tokens":4,"model":"ds","prompt":"{PROMPT}"}}',
        f"thinking={PROMPT!r}",
        f"text=b'{PROMPT}'",
    ],
)
def test_prompts(redaction: Redaction, line: str) -> None:
    found = redaction.clean(line)
    assert "Ada" not in found
    assert "[removed]" in found


@pytest.mark.parametrize(
    "line",
    [
        f"non-default args: {{'api_key': ['{KEY}'], 'model': '/models/x'}}",
        f"Authorization: Bearer {KEY}",
        f"--other={KEY}x",
        "Authorization: Bearer another-key-that-is-not-known",
        "OSS_ACCESS_KEY_SECRET=fyzxwv0123456789",
        "id LTAI5tabcdefghijklmnop",
        "HF_TOKEN is hf_abcdefghijklmnopqrstuvwxyz012345",
        "hf_token: 'abcdefgh'",
    ],
)
def test_secrets(redaction: Redaction, line: str) -> None:
    found = redaction.clean(line)
    for secret in (KEY, "another-key", "fyzxwv", "LTAI5t", "abcdefgh"):
        assert secret not in found
    assert "[removed]" in found


@pytest.mark.parametrize(
    "line",
    [
        "INFO [loggers.py:123] Engine 000: Avg prompt throughput: 0.0 tokens/s, Running: 3 reqs, Waiting: 0 reqs",
        "ValueError: The decoder prompt (length 5000) is longer than the maximum model length of 2048",
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",
        "NCCL WARN [Proxy Service 3] Failed to execute operation Connect from rank 3, retcode 3",
        "Dumping input data for V1 LLM engine (v0.32.0) with config: model='/models/x', tokenizer='/models/x'",
        "on",
        "INFO max_tokens=2048, token budget: 8192",
    ],
)
def test_evidence_stays(redaction: Redaction, line: str) -> None:
    assert redaction.clean(line) == line


def test_a_line_is_bounded_and_has_no_control_characters(redaction: Redaction) -> None:
    assert redaction.clean("\x1b[1;36mred\x1b[0m\r") == "red"
    assert len(redaction.clean("x" * 10**6)) == SHOWN_CHARACTERS + 2


def test_a_new_secret_is_removed_and_the_old_one_still_is(redaction: Redaction, tmp_path: Path) -> None:
    """A Secret that the user has changed: the engine has the old value until its group is recreated."""
    (tmp_path / "VLLM_API_KEY").write_text("a-new-key-0123")
    redaction.reload()
    assert redaction.clean(f"{KEY} a-new-key-0123") == "[removed] [removed]"


def test_without_secrets() -> None:
    assert Redaction(None).clean("a line") == "a line"
