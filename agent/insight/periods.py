"""Hours, days and months of a time zone, as bounds in µs UTC. Pure."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Literal

Period = Literal["hour", "day", "month"]

MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US
WEEK_US = 7 * DAY_US
#: Hours of a month and a half, days of three years.
MAX_PERIODS = 1100
#: The calendar has the years 1 to 9999; a period that is touched may begin before the range, and end after it.
_FIRST_US = int(datetime(1, 2, 2, tzinfo=UTC).timestamp()) * 1_000_000
_LAST_US = int(datetime(9999, 11, 30, tzinfo=UTC).timestamp()) * 1_000_000
#: Wider ranges are counted in longer periods than these can be.
_SHORTEST_US = {"hour": HOUR_US // 2, "day": 20 * HOUR_US, "month": 27 * DAY_US}
_DECEMBER = 12


def local(t_us: int, zone: tzinfo) -> datetime:
    """A time as the zone's clocks show it."""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=t_us)).astimezone(zone)


def bounds(period: Period, from_us: int, to_us: int, zone: tzinfo) -> list[int]:
    """Where the periods begin that the range ``from_us`` <= time < ``to_us`` touches, and where the last one ends.

    A day has 23 or 25 hours when the clocks are changed; the hour in which they are is a shorter or longer one where
    they are not changed by whole hours. Raises ``ValueError`` for an empty range, one at the ends
    of the calendar, or more than ``MAX_PERIODS``.
    """
    if from_us >= to_us:
        raise ValueError("the range is empty: `from` must be before `to`")
    if from_us < _FIRST_US or to_us > _LAST_US:
        raise ValueError("the range must lie in the years 1 to 9999")
    if (to_us - from_us) // _SHORTEST_US[period] > MAX_PERIODS:
        raise ValueError(f"these are more than {MAX_PERIODS} {period}s: ask for less, or for longer periods")
    found: list[int] = []
    for start_us in _starts(period, local(from_us, zone).date(), zone):
        if start_us <= from_us:
            found = [start_us]
        else:
            found.append(start_us)
        if start_us >= to_us:
            break
    return found


def _starts(period: Period, first: date, zone: tzinfo) -> Iterator[int]:
    """The beginnings of periods, for ever, from the one on or before that date."""
    one = first.replace(day=1) if period == "month" else first
    while True:
        start_us = _midnight(one, zone)
        if period == "month":
            yield start_us
            one = date(one.year + one.month // _DECEMBER, one.month % _DECEMBER + 1, 1)
            continue
        one += timedelta(days=1)
        yield from (start_us,) if period == "day" else range(start_us, _midnight(one, zone), HOUR_US)


def _midnight(day: date, zone: tzinfo) -> int:
    """When the day begins. Where its first hour does not exist, zoneinfo reckons with the clock of the day before, and
    that comes to the moment at which the clocks are put forward.
    """  # noqa: D205 - one sentence
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()) * 1_000_000
