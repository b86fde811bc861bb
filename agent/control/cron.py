"""When a crontab line is due, in a zone. Pure: the library only reckons, its scheduler and its clock are not used.

Rules of this file:

1. A line means what crontab(5) says: five fields, weekdays from 0 = Sunday to 7 = Sunday, and where both the day of the
   month and the day of the week are restricted, either of them is enough. APScheduler counts weekdays from Monday and
   wants both: the line is translated.
2. A local time that does not exist (the clock goes forward) is taken with the offset before the change: 02:30 is done
   at 03:30, as in RFC 5545, 3.3.5. One that exists twice is done the first time, but where the hour is ``*`` or a step
   of it the line follows real time and is done both times: each half hour is each half hour.
3. The library reckons on a flat calendar, which has no changes of the clock; what they do to its times is reckoned
   here. In a zone, APScheduler 3.11 leaves out midnight of the day after the clock went forward.
"""

from datetime import UTC, datetime, timedelta, tzinfo

from agent.core.errors import ConfigError

_FIELDS = 5
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_WEEK = 7
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
#: Samoa has left out a whole day.
_LONGEST_CHANGE = timedelta(hours=25)


class Cron:
    """One line. Raises ``ConfigError`` when it is none, naming what is wrong."""

    def __init__(self, line: str, zone: tzinfo) -> None:
        from apscheduler.triggers.cron import CronTrigger  # noqa: PLC0415 - many sites have no schedule

        op, hint = f"cron `{line}`", "write five fields, such as `0 22 * * *` for each day at 22:00"
        fields = line.split()
        if len(fields) != _FIELDS:
            raise ConfigError(op, f"it has {len(fields)} fields", hint)
        minute, hour, day, month, weekday = fields
        self._zone = zone
        self._real_time = hour.startswith("*")
        either = not day.startswith("*") and not weekday.startswith("*")
        try:
            names = _weekdays(weekday)
            days = [(day, "*"), ("*", names)] if either else [(day, names)]
            self._triggers = [
                CronTrigger(minute=minute, hour=hour, day=one, month=month, day_of_week=other, timezone=UTC)
                for one, other in days
            ]
        except ValueError as error:
            raise ConfigError(op, str(error), hint) from error

    def next_us(self, after_us: int) -> int | None:
        """The first time that it is due after that, µs since 1970 UTC; None: never (a 31st of February)."""
        after = _EPOCH + timedelta(microseconds=after_us)
        due = self._in_real_time(after) if self._real_time else self._on_the_wall(after)
        return None if due is None else (due - _EPOCH) // _MICROSECOND

    def _in_real_time(self, after: datetime) -> datetime | None:
        """The first moment after that at which the clock on the wall shows a time of the line."""
        while True:
            offset = self._offset(after + _MICROSECOND)
            flat = self._flat(after + offset)
            if flat is None:
                return None
            due = flat - offset
            if self._offset(due) == offset:
                return due
            after = self._change(after + _MICROSECOND, due) - _MICROSECOND

    def _on_the_wall(self, after: datetime) -> datetime | None:
        """The first moment after that which stands for a time of the line, each of which has one."""
        before = self._offset(after - _LONGEST_CHANGE)
        # What the clock has just left out may still be to come.
        left_out = max(self._offset(after) - before, timedelta())
        flat = self._flat(after + self._offset(after) - left_out)
        best: datetime | None = None
        while flat is not None and (best is None or flat < best + self._offset(best)):
            # fold=0: the first of two, and of a time that was left out the offset before.
            due = flat.replace(tzinfo=self._zone, fold=0).astimezone(UTC)
            if due > after and (best is None or due < best):
                best = due
                if due + self._offset(due) == flat:
                    return best  # nothing was left out: no later one can come before it
            flat = self._flat(flat)
        return best

    def _flat(self, after: datetime) -> datetime | None:
        """The first time of the line after that, on the flat calendar: as if the zone were UTC."""
        found = [
            due
            for trigger in self._triggers
            if (due := trigger.get_next_fire_time(None, after + _MICROSECOND)) is not None
        ]
        return min(found, default=None)

    def _offset(self, moment: datetime) -> timedelta:
        return moment.astimezone(self._zone).utcoffset() or timedelta()

    def _change(self, early: datetime, late: datetime) -> datetime:
        """The moment at which the offset is no longer that of ``early``; at ``late`` it is another one."""
        offset = self._offset(early)
        while late - early > _MICROSECOND:
            middle = early + (late - early) // 2
            if self._offset(middle) == offset:
                early = middle
            else:
                late = middle
        return late


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
