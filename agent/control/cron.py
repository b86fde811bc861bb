"""When a crontab line is due, in a zone. Pure: the library only reckons, its scheduler and its clock are not used.

Rules of this file:

1. A line means what crontab(5) says: five fields, weekdays from 0 = Sunday to 7 = Sunday, and where both the day of the
   month and the day of the week are restricted, either of them is enough. APScheduler counts weekdays from Monday and
   wants both: the line is translated.
2. A local time that does not exist (the clock goes forward) is taken with the offset before the change: 02:30 is done
   at 03:30, as in RFC 5545, 3.3.5. One that exists twice is done the first time, but where the hour is ``*`` or a step
   of it the line follows real time and is done both times: each half hour is each half hour.
"""

from datetime import UTC, datetime, timedelta, tzinfo

from agent.core.errors import ConfigError

_FIELDS = 5
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_WEEK = 7
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Cron:
    """One line. Raises ``ConfigError`` when it is none, naming what is wrong."""

    def __init__(self, line: str, zone: tzinfo) -> None:
        from apscheduler.triggers.cron import CronTrigger  # noqa: PLC0415 - many sites have no schedule

        op, hint = f"cron `{line}`", "write five fields, such as `0 22 * * *` for each day at 22:00"
        fields = line.split()
        if len(fields) != _FIELDS:
            raise ConfigError(op, f"it has {len(fields)} fields", hint)
        minute, hour, day, month, weekday = fields
        self._real_time = hour.startswith("*")
        either = not day.startswith("*") and not weekday.startswith("*")
        try:
            names = _weekdays(weekday)
            days = [(day, "*"), ("*", names)] if either else [(day, names)]
            self._triggers = [
                CronTrigger(minute=minute, hour=hour, day=one, month=month, day_of_week=other, timezone=zone)
                for one, other in days
            ]
        except ValueError as error:
            raise ConfigError(op, str(error), hint) from error

    def next_us(self, after_us: int) -> int | None:
        """The first time that it is due after that, µs since 1970 UTC; None: never (a 31st of February)."""
        found = [due for trigger in self._triggers if (due := self._next(trigger, after_us)) is not None]
        return min(found, default=None)

    def _next(self, trigger: object, after_us: int) -> int | None:
        after = _EPOCH + timedelta(microseconds=after_us + 1)
        while True:
            due: datetime | None = trigger.get_next_fire_time(None, after)  # type: ignore[attr-defined]
            if due is None:
                return None
            if self._real_time or not due.fold:
                return (due.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1)
            after = due.astimezone(UTC) + timedelta(seconds=1)


def _weekdays(field: str) -> str:
    """A weekday field as names, for those who count otherwise. Raises ``ValueError``."""
    if field == "*":
        return field
    chosen: set[int] = set()
    for part in field.casefold().split(","):
        span, _, step = part.partition("/")
        first, dash, last = span.partition("-")
        if span == "*":
            low, high = 0, _WEEK - 1
        else:
            low = _weekday(first)
            high = _weekday(last) if dash else (_WEEK - 1 if step else low)
        if high < low:
            high += _WEEK  # sat-mon
        if step and not (step.isdecimal() and int(step)):
            raise ValueError(f"`{step}` is no step of weekdays")
        chosen.update(number % _WEEK for number in range(low, high + 1, int(step or 1)))
    return ",".join(_DAYS[number] for number in sorted(chosen))


def _weekday(text: str) -> int:
    if text in _DAYS:
        return _DAYS.index(text)
    if text.isdecimal() and int(text) <= _WEEK:
        return int(text)
    raise ValueError(f"`{text}` is no weekday: write 0 (Sunday) to 7 (Sunday), or sun to sat")
