"""Whether a group passes."""

import dataclasses

import pytest

from deepseek_acs.gate.judgement import Limits, Measured, Speed, wrong
from deepseek_acs.gate.record import Record

LIMITS = Limits(at_least=0.5, worse_by=0.1, slower_by=1.25)
KNOWN = Record(
    template_digest="aaaaaaaa",
    image_digest="",
    revision="",
    exam="e",
    asked=20,
    passed=18,
    first_token_seconds=1.0,
    tokens_per_second=40.0,
    accepted_at="",
    template={},
)


def measured(passed: int = 18, first: float | None = 1.0, rate: float | None = 40.0, fault: str = "") -> Measured:
    speed = Speed(first_token_seconds=first, tokens_per_second=rate)
    return Measured(asked=20, passed=passed, speed=None if fault else speed, fault=fault)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (measured(), ""),
        (measured(passed=16), ""),
        (measured(passed=15), "15 of 20 questions were answered rightly, and 18 of 20 by the accepted template"),
        (measured(passed=9), "9 of 20 questions were answered rightly, and atLeast is 0.5"),
        (measured(fault="no answer"), "no answer"),
        (measured(first=1.25), ""),
        (measured(first=1.26), "the first token came after 1.26 s, and after 1.00 s by the accepted template"),
        (measured(rate=33), ""),
        (measured(rate=31.9), "31.9 tokens/s came, and 40.0 by the accepted template"),
        (measured(rate=None), ""),
        (measured(rate=400, first=0.01), ""),
    ],
)
def test_compared_with_the_accepted_template(found: Measured, said: str) -> None:
    assert wrong(LIMITS, found, KNOWN, exam="e") == said


def test_an_example_is_named() -> None:
    found = dataclasses.replace(measured(passed=0), example='"1 + 1?": "!!!"')
    assert wrong(LIMITS, found, None, exam="e").endswith('atLeast is 0.5; for example "1 + 1?": "!!!"')


@pytest.mark.parametrize("found", [measured(passed=11), measured(first=9), measured(rate=1)])
def test_answers_to_something_else_do_not_compare(found: Measured) -> None:
    assert wrong(LIMITS, found, KNOWN, exam="other") == ""
    assert wrong(LIMITS, found, None, exam="e") == ""


def test_short_times_are_noise() -> None:
    quick = dataclasses.replace(KNOWN, first_token_seconds=0.01, tokens_per_second=None)
    assert wrong(LIMITS, measured(first=0.1, rate=250), quick, exam="e") == ""
    assert wrong(LIMITS, measured(first=0.1, rate=50), quick, exam="e") == (
        "50.0 tokens/s came, and too many to measure by the accepted template"
    )
    assert wrong(LIMITS, measured(first=0.2, rate=250), quick, exam="e").startswith("the first token came after 0.20 s")
