"""How long a gate may take to ask a group."""

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deepseek_acs.settings.gate import GateSettings

SILENCE_SECONDS = 180
"""Longest time without output of the engine: its first request may compile kernels."""

LONG_SECONDS = 900
"""The same for the long prompt, which is read before its first token."""

ATTEMPTS = 3
"""Of the long prompt and of the load (deepseek_acs/gate/exam.py)."""

ANSWER_TOKENS = 16
"""Of the answer to the long prompt (deepseek_acs/chatclient)."""

LOAD_PROMPT_TOKENS = 256
"""At most, of one request of the load: 20 sentences of about 10 tokens (deepseek_acs/gate/exam.py)."""

CHARACTERS_PER_TOKEN = 6
"""At most, of the long prompt, whose sentence has 45 characters and about 10 tokens."""

LEAST_TOKENS_PER_SECOND = 5
REQUEST_SECONDS = 10


def exam_seconds(gate: "GateSettings") -> int:
    """At most, for an engine that computes ``LEAST_TOKENS_PER_SECOND`` for each request."""

    def seconds(tokens: int) -> float:
        return REQUEST_SECONDS + tokens / LEAST_TOKENS_PER_SECOND

    load = gate.load
    rounds = math.ceil(load.requests / load.concurrency)
    long = ATTEMPTS * LONG_SECONDS if gate.long_prompt else 0
    return math.ceil(
        SILENCE_SECONDS
        + len(gate.questions) * seconds(gate.max_tokens)
        + long
        + ATTEMPTS * rounds * seconds(load.output_tokens)
    )
