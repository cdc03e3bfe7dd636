"""A gate on the first new group: that it can hold an update, and that a healthy engine can answer it."""

from collections.abc import Iterator

from deepseek_acs.planner.findings import Field
from deepseek_acs.planner.gating import ANSWER_TOKENS, CHARACTERS_PER_TOKEN, LOAD_PROMPT_TOKENS
from deepseek_acs.planner.rules.rule import Problem, rule, warning
from deepseek_acs.planner.spec import ResolvedSpec

DOCS = "docs/known-good.md"


@rule(DOCS)
def gate_partition(spec: ResolvedSpec) -> Iterator[Problem]:
    """One thing alone decides how many groups an update reaches."""
    if spec.gate and spec.rollout.partition:
        yield (
            Field.PARTITION,
            "with a gate, the gate sets the partition: it lets the other groups follow when the first one has passed",
            f"remove it, or remove {Field.GATE}",
        )


@rule(DOCS)
def gate_surge(spec: ResolvedSpec) -> Iterator[Problem]:
    """No additional group stays while the gate holds an update."""
    if spec.gate and spec.rollout.max_surge:
        yield (
            Field.ROLLOUT,
            "with a gate, additional groups (maxSurge) start with the old template, and are billed until the gate has "
            "passed",
            f"write maxSurge: 0 and maxUnavailable: 1; or change the groups by {Field.UPDATE}, whose new groups the "
            "gate asks before they get requests",
        )


@rule(DOCS)
def gate_long_prompt(spec: ResolvedSpec) -> Iterator[Problem]:
    """The engine accepts the long prompt, and so does the filter in front of it."""
    gate, longest, tokens = spec.gate, spec.engine.max_model_len, spec.long_prompt_tokens
    if gate is None or gate.long_prompt == 0:
        return
    if longest is None:
        yield (
            Field.LONG_PROMPT,
            "the longest request is not known, so there is no share of it",
            f"write {Field.MAX_MODEL_LEN}, or longPrompt: 0",
        )
    elif tokens + ANSWER_TOKENS > longest:
        yield (
            Field.LONG_PROMPT,
            f"a prompt of {tokens:,} tokens and {ANSWER_TOKENS} of answer are more than the {longest:,} of a request",
            f"write a smaller share, or raise {Field.MAX_MODEL_LEN}",
        )
    characters, chosen = CHARACTERS_PER_TOKEN * tokens, spec.request_filter
    if chosen and characters > min(chosen.prompt_characters, chosen.body_bytes):
        yield (
            Field.LONG_PROMPT,
            f"a prompt of {tokens:,} tokens has up to {characters:,} characters, and the request filter refuses it",
            f"raise maxPromptCharacters and maxBodyMiB of {Field.REQUEST_FILTER}, or write a smaller share",
        )


@rule(DOCS)
def gate_answers(spec: ResolvedSpec) -> Iterator[Problem]:
    """The gate's requests fit into the engine's longest request."""
    gate, longest = spec.gate, spec.engine.max_model_len
    if gate is None or longest is None:
        return
    prompt = max(len(question.ask) for question in gate.questions) // 4
    for what, tokens in {
        "a question and maxTokens of answer": prompt + gate.max_tokens,
        "a request of load and its outputTokens": LOAD_PROMPT_TOKENS + gate.load.output_tokens,
    }.items():
        if tokens > longest:
            yield (
                Field.GATE,
                f"{what} are {tokens:,} tokens, and the engine accepts requests of at most {longest:,}",
                f"write fewer tokens, or raise {Field.MAX_MODEL_LEN}",
            )


@warning(DOCS)
def gate_of_one_group(spec: ResolvedSpec) -> Iterator[Problem]:
    """The gate asks a group before the endpoint depends on it."""
    if spec.gate and spec.replicas.least == 1 and spec.update is None:
        minutes = -(-spec.budget.create_seconds // 60)
        yield (
            Field.GATE,
            f"with one group, the gate asks after the restart: the endpoint is down until it is loaded, and going back "
            f"loads once more, up to {minutes} min",
            f"change it by {Field.UPDATE} if there are GPUs for a second group: the gate then asks before requests "
            "come",
        )
