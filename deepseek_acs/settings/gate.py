"""A gate on the first new group of an update."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from deepseek_acs.settings.base import NotEmpty, Settings, problem

QUESTIONS_MAX = 200

Holds = Annotated[str, Field(min_length=1, max_length=1000)]


class QuestionSettings(Settings):
    """One question. It is readable in the cluster: write no secret into it."""

    ask: Annotated[str, Field(min_length=1, max_length=8000, examples=["What is 17 + 25?"])]
    """The prompt of a chat completion at temperature 0."""

    holds: Annotated[tuple[Holds, ...], NotEmpty]
    """Texts that a right answer contains, all of them, in upper or lower case."""


class LoadSettings(Settings):
    """A fixed load, whose speed is compared with the same load on the accepted template."""

    requests: Annotated[int, Field(ge=1, le=1000)] = 8
    """Number of requests, each with about 200 tokens of prompt."""

    concurrency: Annotated[int, Field(ge=1, le=64)] = 4
    """Requests at a time."""

    output_tokens: Annotated[int, Field(ge=2, le=4096)] = 64
    """Tokens per answer."""

    @model_validator(mode="after")
    def _is_reached(self) -> Self:
        if self.concurrency > self.requests:
            raise problem(
                f"concurrency {self.concurrency} is never reached with requests: {self.requests}",
                fix="raise requests, or lower concurrency",
            )
        return self


class GateSettings(Settings):
    """Ask the first new group of an update before the others are updated, and compare it with the last accepted record.
    It needs LeaderWorkerSet 0.7 and a vCPU while it asks."""

    questions: Annotated[tuple[QuestionSettings, ...], NotEmpty, Field(max_length=QUESTIONS_MAX)]
    """Questions whose answers you know."""

    max_tokens: Annotated[int, Field(ge=1, le=32_768)] = 256
    """Longest answer to a question, reasoning included."""

    at_least: Annotated[float, Field(ge=0, le=1)] = 0.9
    """Share of the questions that must be answered rightly."""

    worse_by: Annotated[float, Field(ge=0, le=1)] = 0.05
    """How much lower than the accepted one this share may be."""

    long_prompt: Annotated[float, Field(ge=0, le=0.95)] = 0.75
    """Length of one long prompt, as a share of inference.engine.maxModelLen. 0 sends none."""

    load: LoadSettings = LoadSettings()
    """The load whose speed is compared."""

    slower_by: Annotated[float, Field(gt=1, le=100)] = 1.25
    """How many times longer than on the accepted template the first token, or one token, may take (medians)."""

    on_failure: Literal["return", "hold"] = "return"
    """What happens with a template that does not pass: return puts the accepted one back, and hold leaves the first
    group as it is. The others are not updated in either case, and pulumi up fails."""
