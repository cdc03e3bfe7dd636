"""Times of five fields of cron, and whether a moment is between two of them. Syntax and bounds are those of the
settings (deepseek_acs/settings/cron.py), which have checked them."""

from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta

from deepseek_acs.settings.cron import cron_values

LONGEST_GAP_DAYS = 8 * 366
"""From one 29 February to the next may be eight years."""


def is_between(start: str, end: str, now: datetime) -> bool:
    """Whether ``start`` came after ``end`` last; ``now`` is in the time zone of both."""
    started, ended = latest(start, now), latest(end, now)
    return started is not None and (ended is None or started > ended)


def latest(cron: str, now: datetime) -> datetime | None:
    """The last time that ``cron`` names until ``now``; None if there was none."""
    return next((at for at in _times(cron, now, days=range(0, -LONGEST_GAP_DAYS, -1)) if at <= now), None)


def upcoming(cron: str, now: datetime) -> datetime | None:
    """The first time that ``cron`` names after ``now``; None if there is none."""
    return next((at for at in _times(cron, now, days=range(LONGEST_GAP_DAYS)) if at > now), None)


def _times(cron: str, now: datetime, *, days: Sequence[int]) -> Iterator[datetime]:
    """From the day of ``now`` on, in the direction of ``days``."""
    minutes, hours, month_days, months, weekdays = cron_values(cron)
    by_weekday, by_day = len(weekdays) < 7, len(month_days) < 31
    ordered = [time(hour, minute) for hour in sorted(hours) for minute in sorted(minutes)]
    if days[-1] < 0:
        ordered.reverse()

    def names(day: date) -> bool:
        in_week, in_month = day.isoweekday() % 7 in weekdays, day.day in month_days
        # Where both are restricted, one is enough (crontab(5)).
        is_day = in_week or in_month if by_weekday and by_day else in_week and in_month
        return day.month in months and is_day

    for offset in days:
        day = now.date() + timedelta(days=offset)
        if names(day):
            yield from (datetime.combine(day, at, tzinfo=now.tzinfo) for at in ordered)
