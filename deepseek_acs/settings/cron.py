"""Times as five fields of cron."""

import re
import zoneinfo
from typing import Annotated

from pydantic import Field

from deepseek_acs.settings.base import problem

CRON_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day of the month", 1, 31), ("month", 1, 12), ("weekday", 0, 6))
"""Bounds as in KEDA's parser, where Sunday is 0 and never 7 (https://keda.sh/docs/latest/scalers/cron/)."""

CRON_NAMES = {
    "month": ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"),
    "weekday": ("sun", "mon", "tue", "wed", "thu", "fri", "sat"),
}

Schedule = Annotated[str, Field(min_length=1, examples=["0 8 * * 1-5"])]


def check_period(start: str, end: str) -> None:
    """Both are times of cron, and not the same."""
    for name, text in (("start", start), ("end", end)):
        if wrong := cron_problem(text):
            raise problem(f"{name} {wrong}", fix=f"write five fields of cron, for example {name}: 0 8 * * 1-5")
    if start == end:
        raise problem("start and end are the same time", fix="write another end; for a whole day use two windows")


def check_timezone(name: str) -> None:
    """It is one of the IANA's."""
    if name not in zoneinfo.available_timezones():
        raise problem("timezone is not a valid IANA time zone", fix="write a name such as Asia/Shanghai")


def cron_problem(text: str) -> str | None:
    """What is wrong with five fields of cron, or None."""
    fields = text.split()
    if len(fields) != len(CRON_FIELDS):
        return f"has {len(fields)} fields, not {len(CRON_FIELDS)}"
    for field, (name, low, high) in zip(fields, CRON_FIELDS, strict=True):
        if any(_values(part, name, low, high) is None for part in field.lower().split(",")):
            return f"has an invalid {name}: write {low} to {high}, with * , - and /"
    return None


def cron_values(text: str) -> tuple[frozenset[int], ...]:
    """The numbers that each of the five fields names; ``cron_problem`` must have found nothing."""
    return tuple(
        frozenset(value for part in field.lower().split(",") for value in _values(part, *bounds) or ())
        for field, bounds in zip(text.split(), CRON_FIELDS, strict=True)
    )


def _values(part: str, name: str, low: int, high: int) -> range | None:
    """The numbers of one item of a field, None if it is invalid."""
    values, slash, step = part.partition("/")
    if slash and not (step.isdecimal() and int(step) > 0):
        return None
    if values == "*":
        return range(low, high + 1, int(step or 1))
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)?", values):
        return None
    names = CRON_NAMES.get(name, ())
    numbers = [names.index(v) + low if v in names else int(v) if v.isdecimal() else -1 for v in values.split("-")]
    if not low <= numbers[0] <= numbers[-1] <= high:
        return None
    # As in KEDA's parser and in crontab(5), "5/15" starts at 5 and has no other end than the field's.
    last = high if slash and len(numbers) == 1 else numbers[-1]
    return range(numbers[0], last + 1, int(step or 1))
